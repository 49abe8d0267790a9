"""Photometric calibrations of visits and detectors from a table of zeropoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table
from lsst.images import Box

from zeropoint.datamodel.exposure import AB_FLUX_NJY
from zeropoint.datamodel.fields import ChebyshevPolynomial, fit_chebyshev
from zeropoint.datamodel.focal_plane import DetectorGeometry, FocalPlane
from zeropoint.datamodel.photo_calib_catalog import PhotoCalibCatalog, PhotoCalibRecord
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.accounting import Accounting
from zeropoint.fgcm.flags import ZeropointFlag
from zeropoint.fgcm.magnitudes import MAG_PER_LN
from zeropoint.fgcm.outputs.tables import NO_FLAT, require_columns

__all__ = ["VisitPhotoCalibs", "area_over", "detector_box", "photo_calibs", "square"]

_COLUMNS = (
    "visit",
    "detector",
    "fgcmFlag",
    "fgcmZpt",
    "fgcmZptErr",
    "fgcmDeltaChrom",
    "fgcmfZptChebXyMax",
    "fgcmfZptCheb",
    "fgcmfZptSstarCheb",
    "filtername",
)

#: Values up to here stand for one that is not known.
_UNKNOWN = -9998.0

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class VisitPhotoCalibs:
    """The photometric calibrations of visits, made one visit after the other.

    Parameters
    ----------
    zeropoints
        The rows that can be used, by visit, then detector.
    factor
        What each row's zeropoint is multiplied by, float64, shape (n,).
    focal_plane
        Areas of pixels; None: they are not among the factors.
    accounting
        Stage ``photo_calibs``: zeropoints read, and why some are not used.
    without
        Visits of which no zeropoint can be used, int64, ascending.
    metadata
        What every catalogue says of the calibration as a whole.
    """

    zeropoints: Table
    factor: FloatArray
    focal_plane: FocalPlane | None
    accounting: Accounting
    without: IntArray
    metadata: Mapping[str, Any]

    @cached_property
    def visits(self) -> IntArray:
        """Visits that have a calibration, ascending."""
        return np.unique(np.asarray(self.zeropoints["visit"], np.int64))

    def __len__(self) -> int:
        return len(self.visits)

    def __iter__(self) -> Iterator[tuple[int, PhotoCalibCatalog]]:
        return ((int(visit), self.catalog(int(visit))) for visit in self.visits)

    def catalog(self, visit: int) -> PhotoCalibCatalog:
        """Return the calibrations of a visit, sorted by detector.

        Parameters
        ----------
        visit
            Visit; one of which there is no zeropoint has an empty catalogue.

        Raises
        ------
        InvalidInputError
            If the focal plane lacks a detector, or its area is not positive.
        """
        column = np.asarray(self.zeropoints["visit"])
        rows = range(*np.searchsorted(column, [visit, visit + 1]).tolist())
        return PhotoCalibCatalog.from_records((self._record(row) for row in rows), self.metadata)

    @cached_property
    def _columns(self) -> dict[str, npt.NDArray[Any]]:
        return {name: np.asarray(self.zeropoints[name]) for name in _COLUMNS}

    def _record(self, row: int) -> PhotoCalibRecord:
        values = {name: column[row] for name, column in self._columns.items()}
        width, height = (round(float(size)) for size in values["fgcmfZptChebXyMax"])
        domain = Box.factory[0:height, 0:width]
        detector, visit = int(values["detector"]), int(values["visit"])
        geometry = None if self.focal_plane is None else self.focal_plane[detector]
        area = None if geometry is None else area_over(geometry, width, height)
        superstar = square(values["fgcmfZptSstarCheb"])
        record = PhotoCalibRecord(
            detector,
            visit,
            domain if geometry is None else detector_box(geometry),
            square(values["fgcmfZptCheb"]) * AB_FLUX_NJY * self.factor[row],
            pixel_area=area,
            superstar=None if superstar.size == 1 and superstar[0, 0] == 1.0 else superstar,
            wcs_jacobian_applied=area is not None,
            domain=domain,
        )
        mean = record.calibration_mean
        if not mean > 0:
            raise InvalidInputError(
                f"Visit {visit}, detector {detector}: the calibration in the middle of the detector is {mean:g} nJy/electron; "
                "its Chebyshev coefficients or the area of its pixels are wrong."
            )
        return replace(record, calibration_err=mean * float(values["fgcmZptErr"]) / MAG_PER_LN)


def photo_calibs(
    zeropoints: Table,
    *,
    focal_plane: FocalPlane | None = None,
    offsets: Mapping[str, float] | None = None,
    visits: Table | None = None,
    mean_chromatic: bool = True,
) -> VisitPhotoCalibs:
    """Return the photometric calibrations that zeropoints stand for.

    Parameters
    ----------
    zeropoints
        ``fgcm_Cycle{N}_Zeropoints``.
    focal_plane
        Areas of pixels, as they were applied to the magnitudes of the fit; None: they were not.
    offsets
        Physical filter -> what is added to magnitudes, mag, from a comparison with references after the fit; filters
        that are not in it: 0.
    visits
        ``fgcmVisitCatalog``, whose ``scaling`` multiplied the fluxes of the fit; None: 1.
    mean_chromatic
        Add the mean chromatic correction of the detector's stars (``fgcmDeltaChrom``), so that the stars' magnitudes
        are standard ones on average?

    Returns
    -------
    calibs : VisitPhotoCalibs
        nJy per electron; the product of pixel area, superstar flat and gray zeropoint.

    Raises
    ------
    InvalidInputError
        If columns are missing, a visit is not among ``visits``, or ``scaling`` lacks a detector.

    Notes
    -----
    A zeropoint is not used if it has flag 16 or is not finite (``no_zeropoint``), or if its error is not positive
    (``no_error``), its detector has no superstar flat (``no_flat``), or its first coefficient is not positive
    (``not_positive``).  Where too few stars tell the mean chromatic
    correction, it is the mean of the visit's other detectors (noted as ``chromatic_from_visit``), or, where they have
    none, zero (``no_chromatic``).
    """
    require_columns(zeropoints, "zeropoints", _COLUMNS)
    order = np.lexsort((np.asarray(zeropoints["detector"]), np.asarray(zeropoints["visit"])))
    table = zeropoints[order]
    reason = _reasons(table)
    accounting = Accounting()
    good = reason == ""
    without = np.setdiff1d(np.asarray(table["visit"]), np.asarray(table["visit"])[good])
    kept = table[good]
    correction = np.array([(offsets or {}).get(str(name), 0.0) for name in kept["filtername"]], np.float64)
    noted: dict[str, int] = {}
    if mean_chromatic:
        chromatic, noted = _mean_chromatic(kept)
        correction = correction + chromatic
    rejected = Counter(reason[~good].tolist())
    accounting.add("photo_calibs", read=len(table), kept=len(kept), rejected=rejected, noted=noted)
    factor = 10.0 ** (-0.4 * correction)
    if visits is not None:
        factor = factor * _scaling(kept, visits)
    return VisitPhotoCalibs(kept, factor, focal_plane, accounting, without, _about(zeropoints))


def _reasons(table: Table) -> npt.NDArray[np.str_]:
    """Return why each row is not used; "" where it is."""
    zeropoint, error = (np.asarray(table[name], np.float64) for name in ("fgcmZpt", "fgcmZptErr"))
    flux = np.asarray(table["fgcmfZptCheb"], np.float64).reshape(len(table), -1)
    none = (np.asarray(table["fgcmFlag"]) & ZeropointFlag.CANNOT_COMPUTE_ZEROPOINT != 0) | ~np.isfinite(
        zeropoint
    )
    flat = np.asarray(table["fgcmfZptSstarCheb"], np.float64).reshape(len(table), -1)
    conditions = {
        "no_zeropoint": none,
        "no_error": ~(np.isfinite(error) & (error > 0)),
        "no_flat": ~np.isfinite(flat).all(axis=1) | (flat[:, 0] >= NO_FLAT),
        "not_positive": ~(np.isfinite(flux).all(axis=1) & (flux[:, 0] > 0)),
    }
    return np.select(list(conditions.values()), list(conditions), default="").astype(str)


def _mean_chromatic(table: Table) -> tuple[FloatArray, dict[str, int]]:
    """Return the mean chromatic correction of each row, and for how many rows it is another's, or none."""
    values = np.asarray(table["fgcmDeltaChrom"], np.float64)
    known = np.isfinite(values) & (values > _UNKNOWN)
    visit = np.unique(np.asarray(table["visit"]), return_inverse=True)[1]
    n_known = np.bincount(visit, known)[visit] if len(table) else np.zeros(0)
    total = np.bincount(visit, np.where(known, values, 0.0))[visit] if len(table) else np.zeros(0)
    result = np.where(known, values, total / np.maximum(n_known, 1.0))
    noted = {
        "chromatic_from_visit": int(np.count_nonzero(~known & (n_known > 0))),
        "no_chromatic": int(np.count_nonzero(n_known == 0)),
    }
    return result, noted


def _scaling(table: Table, visits: Table) -> FloatArray:
    """Return the factor on fluxes of each row."""
    numbers = np.asarray(visits["visit"])
    order = np.argsort(numbers)
    place = np.searchsorted(numbers, np.asarray(table["visit"]), sorter=order)
    row = order[np.minimum(place, len(order) - 1)]
    unknown = numbers[row] != np.asarray(table["visit"])
    if unknown.any():
        raise InvalidInputError(
            f"Visit {int(np.asarray(table['visit'])[unknown][0])} has zeropoints, but is not in fgcmVisitCatalog; give the "
            "catalogue with which the fit was made."
        )
    scaling = np.asarray(visits["scaling"], np.float64).reshape(len(visits), -1)
    detectors = np.asarray(visits.meta.get("DETECTORS", range(scaling.shape[1])))
    column = np.searchsorted(detectors, np.asarray(table["detector"]))
    column = np.minimum(column, len(detectors) - 1)
    unknown = detectors[column] != np.asarray(table["detector"])
    if unknown.any():
        raise InvalidInputError(
            f"Detector {int(np.asarray(table['detector'])[unknown][0])} has zeropoints, but fgcmVisitCatalog has no scaling "
            "of it; give the catalogue with which the fit was made."
        )
    return scaling[row, column]


def _about(zeropoints: Table) -> dict[str, Any]:
    """Return what the metadata of the zeropoints say of errors that all zeropoints of a band share."""
    return {key: value for key, value in zeropoints.meta.items() if key.startswith("COMMON_MODE")}


def square(coefficients: Any) -> FloatArray:
    """Return a row's Chebyshev coefficients as a matrix [y order, x order].

    Parameters
    ----------
    coefficients
        Row by row.

    Raises
    ------
    InvalidInputError
        If their number is not a square.
    """
    values = np.atleast_1d(np.asarray(coefficients, np.float64)).ravel()
    side = round(values.size**0.5)
    if side * side != values.size:
        raise InvalidInputError(
            f"The table of zeropoints has {values.size} Chebyshev coefficients in a row; a square number is needed."
        )
    return values.reshape(side, side)


def detector_box(geometry: DetectorGeometry) -> Box:
    """Return the pixels of a detector.

    Parameters
    ----------
    geometry
        The detector.
    """
    x0, y0 = geometry.x0, geometry.y0
    return Box.factory[y0 : y0 + geometry.height, x0 : x0 + geometry.width]


def area_over(geometry: DetectorGeometry, width: int, height: int) -> FloatArray:
    """Return the coefficients of the relative area over the box from pixel (0, 0) in which the flats are given.

    Parameters
    ----------
    geometry
        The detector.
    width, height
        Size of that box.

    Returns
    -------
    coefficients : float64
        [y order, x order].
    """
    area = geometry.area
    if (geometry.x0, geometry.y0, geometry.width, geometry.height) == (0, 0, width, height):
        return area.coefficients
    n_y, n_x = area.coefficients.shape
    x, y = (v.ravel() for v in np.meshgrid(_nodes(n_x, width), _nodes(n_y, height)))
    values = area(x=x - geometry.x0, y=y - geometry.y0)
    moved: ChebyshevPolynomial = fit_chebyshev(
        x, y, values, width, height, n_x - 1, n_y - 1, triangular=False
    )
    return moved.coefficients


def _nodes(n: int, size: int) -> FloatArray:
    """Return the pixel positions of the Chebyshev nodes of ``n`` terms, with which a polynomial is found exactly."""
    return np.asarray(0.5 * (size * (1.0 + np.cos(np.pi * (np.arange(n) + 0.5) / n)) - 1.0))
