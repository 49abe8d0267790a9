"""Where the detectors are on the focal plane, as the stars show it: no camera model is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.wcs import gnomonic

if TYPE_CHECKING:
    from zeropoint.fgcm.model.observations import FitData

__all__ = ["DetectorLayout", "Layout", "detector_layout", "fit_layout", "tangent_offsets"]

FloatArray = npt.NDArray[np.float64]

#: Observations that are looked at; more would not tell more.
_MOST = 60_000
#: Largest scatter about the straight lines, as a part of the size of a detector, of a layout that is believed.
_SCATTER = 0.05
#: Part of the scatter with the rotation as it is told that another way of counting it must come below.
_BETTER = 0.5
#: Scatter that is none, degrees.
_ROUNDING = 1e-7


@dataclass(frozen=True)
class Layout:
    """Where the stars put the detectors.

    Parameters
    ----------
    affine : float64, shape (n_det, 2, 3)
        Place on the focal plane = ``affine @ (x, y, 1)``, degrees.
    turn
        How rotations count: 1 as told, -1 the other way around, 0 not at all.
    """

    affine: FloatArray
    turn: float


@dataclass(frozen=True)
class DetectorLayout:
    """Places on the focal plane as linear functions of the pixel.

    Parameters
    ----------
    affine : float64, shape (n_det, 2, 3)
        Place = ``affine @ (x, y, 1)``.
    unit
        ``deg``: degrees from the optical axis; empty: the places are not known, and the detectors stand in rows by number.
    """

    affine: FloatArray
    unit: str

    def places(
        self, detector: npt.NDArray[np.integer], x: FloatArray, y: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return places on the focal plane.

        Parameters
        ----------
        detector : int, shape (n,)
            Positions of the detectors in the list of detectors.
        x, y : float, shape (n,)
            Pixels.
        """
        a = self.affine[detector]
        return a[..., 0, 0] * x + a[..., 0, 1] * y + a[..., 0, 2], a[..., 1, 0] * x + a[..., 1, 1] * y + a[
            ..., 1, 2
        ]


def detector_layout(data: FitData, size: tuple[float, float]) -> DetectorLayout:
    """Return where the detectors are.

    Parameters
    ----------
    data
        Exposures, observations and stars.
    size
        Width and height of a detector, pixels.

    Notes
    -----
    Stars' places on the tangent plane of the pointing, turned back by the exposure's rotation, are linear functions of
    the pixel. How the rotation counts is tried out: it may be measured either way, or not be there at all. Where no way is
    right (unknown pointings, say) the detectors stand in rows by number.
    """
    o, exposures = data.observations, data.exposures
    rows = np.arange(0, len(o.ec), max(len(o.ec) // _MOST, 1))
    rows = rows[np.isfinite(o.x[rows]) & np.isfinite(o.y[rows])]
    exposure, star = o.ec[rows] // o.n_det, o.segment[rows] // o.n_band
    xi, eta = tangent_offsets(
        data.stars.ra[star], data.stars.dec[star], exposures.ra[exposure], exposures.dec[exposure]
    )
    pixels = o.x[rows], o.y[rows]
    found = fit_layout(*pixels, o.ec[rows] % o.n_det, xi, eta, exposures.rotation[exposure], o.n_det, size)
    return (
        DetectorLayout(_in_rows(o.n_det, size), "") if found is None else DetectorLayout(found.affine, "deg")
    )


def tangent_offsets(
    ra: FloatArray, dec: FloatArray, ra0: FloatArray, dec0: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return places on the tangent plane of a pointing, degrees to East and North.

    Parameters
    ----------
    ra, dec : float64, shape (n,)
        Positions, degrees.
    ra0, dec0 : float64, shape (n,)
        Pointings, degrees.
    """
    xi, eta = gnomonic(*(np.deg2rad(each) for each in (ra, dec, ra0, dec0)))
    return np.rad2deg(xi), np.rad2deg(eta)


def fit_layout(
    x: npt.NDArray[np.floating],
    y: npt.NDArray[np.floating],
    detector: npt.NDArray[np.integer],
    xi: FloatArray,
    eta: FloatArray,
    rotation: FloatArray,
    n_det: int,
    size: tuple[float, float],
) -> Layout | None:
    """Return linear functions from pixels to the focal plane; None if the positions do not tell them.

    Parameters
    ----------
    x, y : float, shape (n,)
        Pixels.
    detector : int, shape (n,)
        Positions in the list of detectors.
    xi, eta : float64, shape (n,)
        Places on the tangent plane of the pointing, degrees; NaN: unknown.
    rotation : float64, shape (n,)
        Rotation of the camera, degrees; NaN counts as 0.
    n_det
        Number of detectors; each needs ten observations.
    size
        Width and height of a detector, pixels.
    """
    known = np.isfinite(xi) & np.isfinite(eta)
    if known.sum() < 10 * n_det:
        return None
    pixels = np.column_stack([x[known], y[known], np.ones(known.sum())]).astype(np.float64)
    angle = np.deg2rad(np.nan_to_num(rotation[known]))
    order = np.argsort(detector[known], kind="stable")
    ends = np.cumsum(np.bincount(detector[known], minlength=n_det))
    parts = np.split(order, ends[:-1])
    if min(len(part) for part in parts) < 10:
        return None
    best: tuple[float, FloatArray, float] | None = None
    for turn in (1.0, -1.0, 0.0):
        cosine, sine = np.cos(turn * angle), np.sin(turn * angle)
        places = np.column_stack(
            [cosine * xi[known] - sine * eta[known], sine * xi[known] + cosine * eta[known]]
        )
        scatter, affine = _affine(pixels, places, parts)
        # rotations that are all alike fit either way, but for rounding
        if best is None or scatter + _ROUNDING < (_BETTER if best[2] == 1.0 else 1.0) * best[0]:
            best = scatter, affine, turn
    assert best is not None
    scale = float(np.median(np.sqrt(np.abs(np.linalg.det(best[1][:, :, :2])))))
    return Layout(best[1], best[2]) if best[0] < _SCATTER * scale * min(size) else None


def _affine(
    pixels: FloatArray, places: FloatArray, parts: Sequence[npt.NDArray[np.integer]]
) -> tuple[float, FloatArray]:
    """Return the scatter, degrees, about the best linear functions of each detector, and these."""
    affine = np.empty((len(parts), 2, 3))
    squares = []
    for k, chosen in enumerate(parts):
        solution = np.linalg.lstsq(pixels[chosen], places[chosen])[0]
        affine[k] = solution.T
        squares.append(np.median(np.sum((places[chosen] - pixels[chosen] @ solution) ** 2, axis=1)))
    return float(np.sqrt(np.median(squares))), affine


def _in_rows(n_det: int, size: tuple[float, float]) -> FloatArray:
    """Return a layout in rows by number."""
    columns = int(np.ceil(np.sqrt(n_det)))
    affine = np.zeros((n_det, 2, 3))
    affine[:, 0, 0] = affine[:, 1, 1] = 1.0
    number = np.arange(n_det)
    affine[:, 0, 2] = 1.04 * size[0] * (number % columns)
    affine[:, 1, 2] = 1.04 * size[1] * (number // columns)
    return affine
