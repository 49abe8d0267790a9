"""The camera as the observations of a star list show it: sizes, places and pixel areas of the detectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.focal_plane import DetectorGeometry, FocalPlane
from zeropoint.fgcm.facts.layout import Layout, fit_layout, tangent_offsets
from zeropoint.fgcm.model.star_tables import StarColumns
from zeropoint.fgcm.visit_geometry import is_area_applied

__all__ = ["StarListCamera", "star_list_camera"]

FloatArray = npt.NDArray[np.float64]

#: Observations that are looked at for places and areas.
_MOST = 100_000
#: Sizes are rounded up to a multiple of this, if the stars come as near to the edge as this part of the size.
_MULTIPLE, _NEAR = 32, 0.01
#: Order of the polynomials of pixel areas within a detector.
_ORDER = 2


@dataclass(frozen=True)
class StarListCamera:
    """A camera as stars show it.

    Parameters
    ----------
    focal_plane
        Its detectors.
    turn
        How ``telrot`` of the visits counts: 1 as the position angle of the focal plane's +Y axis, -1 the other way around, 0 not
        at all.
    """

    focal_plane: FocalPlane
    turn: float


def star_list_camera(
    visits: Table, observations: StarColumns, detectors: tuple[int, ...]
) -> StarListCamera | None:
    """Return the camera that a star list's observations show; None if their pixels are not known.

    Parameters
    ----------
    visits
        ``fgcmVisitCatalog``.
    observations
        Observations of the star list, either form.
    detectors
        Ids of the passbands' detectors; those without observations stand on the optical axis.

    Notes
    -----
    Sizes are those that the stars fill. Places on the focal plane are from positions of stars and pointings, and 0 where these
    do not tell them. Areas of pixels are the star list's, where its magnitudes are corrected for them.
    """
    x, y = (observations.column(name).astype(np.float32) for name in ("x", "y"))
    detector = observations.column("detector").astype(np.int64)
    known = np.isfinite(x) & np.isfinite(y) & np.isin(detector, detectors)
    if not known.any():
        return None
    size = _size(float(x[known].max())), _size(float(y[known].max()))
    there = np.unique(detector[known])
    absent = sorted(set(detectors) - set(there.tolist()))
    rows = np.flatnonzero(known)
    rows = rows[:: max(len(rows) // _MOST, 1)]
    index = np.searchsorted(there, detector[rows])
    layout = _places(visits, observations, rows, x[rows], y[rows], index, len(there), size)
    areas = _areas(visits, observations, rows, x[rows], y[rows], index, len(there), size)
    middle = np.array([0.5 * (size[0] - 1), 0.5 * (size[1] - 1), 1.0])
    geometries = []
    for k, number in enumerate(there.tolist()):
        place = np.zeros(2) if layout is None else layout.affine[k] @ middle
        scale = np.nan if layout is None else 3600.0 * np.sqrt(abs(np.linalg.det(layout.affine[k][:, :2])))
        geometries.append(
            DetectorGeometry(
                number, str(number), 0, 0, *size, float(place[0]), float(place[1]), float(scale),
                ChebyshevPolynomial(*size, areas[k]),
            )
        )  # fmt: skip
    one = ChebyshevPolynomial.constant(*size, 1.0)
    geometries += [
        DetectorGeometry(number, str(number), 0, 0, *size, 0.0, 0.0, geometries[0].pixel_scale, one)
        for number in absent
    ]
    plane = FocalPlane(str(visits.meta.get("INSTRUMENT", "")), tuple(geometries))
    return StarListCamera(plane, 1.0 if layout is None else layout.turn)


def _size(largest: float) -> int:
    """Return the size of a detector on which the farthest star is at a pixel."""
    least = int(np.ceil(largest + 0.5))
    rounded = -(-least // _MULTIPLE) * _MULTIPLE
    return rounded if rounded - least <= _NEAR * rounded else least


def _places(
    visits: Table,
    observations: StarColumns,
    rows: npt.NDArray[np.int64],
    x: npt.NDArray[np.float32],
    y: npt.NDArray[np.float32],
    index: npt.NDArray[np.int64],
    n_det: int,
    size: tuple[int, int],
) -> Layout | None:
    """Return linear functions from pixels to the focal plane; None if they are not known."""
    ra, dec = (observations.column(name)[rows].astype(np.float64) for name in ("ra", "dec"))
    if "ccd" in observations.columns:  # that form has radians
        ra, dec = np.rad2deg(ra), np.rad2deg(dec)
    number = np.asarray(visits["visit"])
    order = np.argsort(number, kind="stable")
    row = order[np.searchsorted(number[order], observations.column("visit")[rows]).clip(0, len(number) - 1)]
    ra0, dec0, rotation = (np.asarray(visits[name], float)[row] for name in ("telra", "teldec", "telrot"))
    return fit_layout(x, y, index, *tangent_offsets(ra, dec, ra0, dec0), rotation, n_det, size)


def _areas(
    visits: Table,
    observations: StarColumns,
    rows: npt.NDArray[np.int64],
    x: npt.NDArray[np.float32],
    y: npt.NDArray[np.float32],
    index: npt.NDArray[np.int64],
    n_det: int,
    size: tuple[int, int],
) -> FloatArray:
    """Return Chebyshev coefficients of the pixel areas, [y, x], shape (n_det, 3, 3); 1 where they are not applied."""
    areas = np.zeros((n_det, _ORDER + 1, _ORDER + 1))
    areas[:, 0, 0] = 1.0
    if not is_area_applied(visits) or "jacobian" not in observations:
        return areas
    jacobian = observations.column("jacobian")[rows].astype(np.float64)
    u, v = (2.0 * (place + 0.5) / side - 1.0 for place, side in ((x, size[0]), (y, size[1])))
    design = np.polynomial.chebyshev.chebvander2d(v, u, [_ORDER, _ORDER])
    for k in range(n_det):
        own = index == k
        if own.sum() >= 10 * design.shape[1]:
            areas[k] = np.linalg.lstsq(design[own], jacobian[own])[0].reshape(_ORDER + 1, _ORDER + 1)
        else:
            areas[k, 0, 0] = float(np.mean(jacobian[own])) if own.any() else 1.0
    return areas
