"""Photometric calibrations of all detectors of a visit as one table: what a global fit hands to the visit summary.

Each calibration is a product of up to three Chebyshev polynomials of pixel position: the relative area of pixels on the
sky, the superstar flat, and the gray zeropoint; together they give nJy per electron.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from astropy.table import Column, Table
from lsst.images import Box

from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.datamodel.exposure import PhotoCalib
from zeropoint.datamodel.fields import ChebyshevPolynomial, fit_chebyshev
from zeropoint.errors import InvalidInputError

__all__ = ["FACTORS", "PhotoCalibCatalog", "PhotoCalibRecord", "is_photo_calib_table"]

#: The factors of a calibration -> unit and meaning.
FACTORS = {
    "pixel_area": ("", "Relative area of a pixel on the sky"),
    "superstar": ("", "Superstar flat"),
    "gray": ("nJy / electron", "Gray zeropoint"),
}
_BOX = ("min_x", "min_y", "max_x", "max_y")
_SIDES = {
    "min_x": "first column",
    "min_y": "first row",
    "max_x": "last column",
    "max_y": "last row",
}
_INTEGERS = ("id", "visit", *(f"{box}_{side}" for box in ("bbox", "domain") for side in _BOX))
_FLOATS = ("calibrationMean", "calibrationErr")

type _Coefficients = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PhotoCalibRecord:
    """The photometric calibration of one detector.

    Parameters
    ----------
    id
        Detector number.
    visit
        Visit number.
    bbox
        Pixels of the detector.
    gray
        Chebyshev coefficients ``[y order, x order]``, nJy per electron.
    pixel_area, superstar
        Likewise, without unit; None: one everywhere.
    calibration_err
        One sigma of the calibration at the middle of ``bbox``, nJy per electron.
    wcs_jacobian_applied
        Is the area of pixels among the factors?
    domain
        Box whose edges, half a pixel beyond the first and last pixel centers, are -1 and 1 of the polynomials;
        default: ``bbox``.
    """

    id: int
    visit: int
    bbox: Box
    gray: _Coefficients
    pixel_area: _Coefficients | None = None
    superstar: _Coefficients | None = None
    calibration_err: float = 0.0
    wcs_jacobian_applied: bool = False
    domain: Box | None = None

    def coefficients(self, factor: str) -> _Coefficients:
        """Return the coefficients of a factor (of `FACTORS`), float64 [y order, x order]; [[1]] where it is absent."""
        values = getattr(self, factor)
        return np.ones((1, 1)) if values is None else np.asarray(values, np.float64)

    @cached_property
    def calibration_mean(self) -> float:
        """The calibration at the middle of ``bbox``, nJy per electron."""
        domain = self.bbox if self.domain is None else self.domain
        u, v = (
            (2.0 * (own.start - spanned.start) + own.size) / spanned.size - 1.0
            for own, spanned in ((self.bbox.x, domain.x), (self.bbox.y, domain.y))
        )
        mean = 1.0
        for factor in FACTORS:
            if getattr(self, factor) is not None:
                matrix = self.coefficients(factor)
                mean *= float(_terms(v, matrix.shape[0]) @ matrix @ _terms(u, matrix.shape[1]))
        return mean

    def getPhotoCalib(self) -> PhotoCalib:
        """Return the calibration with pixel positions that count from the first pixel of ``bbox``.

        Its ``calibration_mean`` is the mean over the detector, as that of any field, and ``calibration_err`` has the
        relative error given here.
        """
        product = self._field()
        mean = product.mean()
        relative = self.calibration_err / self.calibration_mean
        if product.coefficients.size == 1:
            return PhotoCalib(mean, relative * mean)
        return PhotoCalib(mean, relative * mean, product)

    def _field(self) -> ChebyshevPolynomial:
        """Return the product of the factors over ``bbox``, which counts from its first pixel."""
        domain = self.bbox if self.domain is None else self.domain
        width, height = domain.x.size, domain.y.size
        product = ChebyshevPolynomial(width, height, self.coefficients("gray"))
        for factor in ("superstar", "pixel_area"):
            if getattr(self, factor) is not None:
                product = product.times(ChebyshevPolynomial(width, height, self.coefficients(factor)))
        return product if domain == self.bbox else _moved(product, domain, self.bbox)


@dataclass(frozen=True)
class PhotoCalibCatalog:
    """The photometric calibrations of the detectors of a visit, sorted by detector.

    Parameters
    ----------
    records
        Detector number -> its calibration.
    metadata
        What is to be said of the table as a whole.
    """

    records: Mapping[int, PhotoCalibRecord]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_records(
        cls, records: Iterable[PhotoCalibRecord], metadata: Mapping[str, Any] | None = None
    ) -> PhotoCalibCatalog:
        """Return a catalogue of records in any order.

        Raises
        ------
        InvalidInputError
            If a detector occurs twice.
        """
        result: dict[int, PhotoCalibRecord] = {}
        for record in sorted(records, key=lambda record: record.id):
            if record.id in result:
                raise InvalidInputError(f"Detector {record.id} has two photometric calibrations.")
            result[record.id] = record
        return cls(result, dict(metadata or {}))

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[PhotoCalibRecord]:
        return iter(self.records.values())

    def find(self, detector: int) -> PhotoCalibRecord | None:
        """Return the record of a detector, None where there is none."""
        return self.records.get(int(detector))

    def to_table(self) -> Table:
        """Return the table that `from_table` reads: one row per detector.

        Integer columns ``id``, ``visit``, ``bbox_*``, ``domain_*``; for each factor ``<factor>_coefficients``, shape
        (n, n_y n_x), row by row of the matrix [y order, x order], and its highest orders ``<factor>_order_y`` and
        ``<factor>_order_x`` (matrices that are smaller than others are filled up with zeros); ``calibrationMean``
        (at the middle of the box), ``calibrationErr``, ``wcsJacobianApplied``.
        """
        rows = list(self)
        table = Table(meta=dict(self.metadata))
        table["id"] = Column([row.id for row in rows], dtype=np.int64, description="Detector number.")
        table["visit"] = Column([row.visit for row in rows], dtype=np.int64, description="Visit number.")
        for name, about in (("bbox", "the detector"), ("domain", "what the polynomials' [-1, 1] spans")):
            boxes = np.array([_corners(getattr(row, name) or row.bbox) for row in rows], np.int32)
            for i, side in enumerate(_BOX):
                what = f"{_SIDES[side].capitalize()} of {about}."
                values = boxes.reshape(-1, 4)[:, i]
                table[f"{name}_{side}"] = Column(values, unit="pixel", description=what)
        for factor, (unit, about) in FACTORS.items():
            self._add_factor(table, factor, unit, about)
        flux = "nJy / electron"
        table["calibrationMean"] = Column(
            [row.calibration_mean for row in rows],
            dtype=np.float64,
            unit=flux,
            description="Calibration at the middle of the box.",
        )
        table["calibrationErr"] = Column(
            [row.calibration_err for row in rows],
            dtype=np.float64,
            unit=flux,
            description="One sigma of calibrationMean.",
        )
        table["wcsJacobianApplied"] = Column(
            [row.wcs_jacobian_applied for row in rows],
            dtype=np.bool_,
            description="Is the area of pixels among the factors?",
        )
        return table

    def to_arrow(self) -> pa.Table:
        """Return the table as it is written."""
        return table_to_arrow(self.to_table())

    def _add_factor(self, table: Table, factor: str, unit: str, about: str) -> None:
        matrices = [row.coefficients(factor) for row in self]
        n_y, n_x = (max((matrix.shape[axis] for matrix in matrices), default=1) for axis in (0, 1))
        padded = np.zeros((len(matrices), n_y, n_x))
        for place, matrix in zip(padded, matrices, strict=True):
            place[: matrix.shape[0], : matrix.shape[1]] = matrix
        table[f"{factor}_coefficients"] = Column(
            padded.reshape(len(matrices), n_y * n_x),
            unit=unit or None,
            description=f"{about}: Chebyshev coefficients [y order, x order], row by row.",
        )
        for axis, n in (("y", n_y), ("x", n_x)):
            table[f"{factor}_order_{axis}"] = Column(
                np.full(len(matrices), n - 1, np.int32), description=f"{about}: highest order in {axis}."
            )

    @classmethod
    def from_table(cls, table: Table | pa.Table) -> PhotoCalibCatalog:
        """Return the catalogue that a table holds.

        Parameters
        ----------
        table
            As `to_table` makes it, or as Arrow table.

        Raises
        ------
        InvalidInputError
            If columns are missing or of the wrong shape, a box is empty, a coefficient or an error is not finite, a
            calibration is not positive, ``calibrationMean`` is not what the coefficients give, or a detector occurs
            twice.
        """
        columns = {name: _numbers(table, name) for name in _column_names()}
        about = {} if isinstance(table, pa.Table) else dict(table.meta)
        n = len(columns["id"])
        return cls.from_records((_record(columns, i) for i in range(n)), about)


def is_photo_calib_table(table: Table | pa.Table) -> bool:
    """Say whether a table has the columns of a `PhotoCalibCatalog`, rather than those of an exposure catalogue."""
    names = table.column_names if isinstance(table, pa.Table) else table.colnames
    return "gray_coefficients" in names


def _column_names() -> list[str]:
    """Return the columns that a table must have."""
    factors = [f"{name}_{part}" for name in FACTORS for part in ("coefficients", "order_y", "order_x")]
    return [*_INTEGERS, *factors, *_FLOATS, "wcsJacobianApplied"]


def _numbers(table: Table | pa.Table, name: str) -> np.ndarray:
    """Return a column; lists become rows of an array."""
    is_arrow = isinstance(table, pa.Table)
    if name not in (table.column_names if is_arrow else table.colnames):
        raise InvalidInputError(f"The table of photometric calibrations has no column {name!r}.")
    if not is_arrow:
        return np.asarray(table[name])
    chunks = table.column(name)
    values = chunks.combine_chunks() if isinstance(chunks, pa.ChunkedArray) else chunks
    if pa.types.is_fixed_size_list(values.type):
        return values.flatten().to_numpy(zero_copy_only=False).reshape(len(values), values.type.list_size)
    return values.to_numpy(zero_copy_only=False)


def _record(columns: Mapping[str, np.ndarray], i: int) -> PhotoCalibRecord:
    """Return a row, checked."""
    detector = int(columns["id"][i])
    name = f"photometric calibration of detector {detector}"
    factors: dict[str, _Coefficients | None] = {}
    for factor in FACTORS:
        n_y, n_x = (int(columns[f"{factor}_order_{axis}"][i]) + 1 for axis in ("y", "x"))
        values = np.asarray(columns[f"{factor}_coefficients"][i], np.float64).ravel()
        if values.size != n_y * n_x:
            raise InvalidInputError(
                f"The {name} has {values.size} values in {factor}_coefficients; orders {n_y - 1} in y and {n_x - 1} in "
                f"x need {n_y * n_x}."
            )
        if not np.isfinite(values).all():
            raise InvalidInputError(f"The {name} has {factor}_coefficients that are not finite.")
        is_one = values.size == 1 and values[0] == 1.0
        factors[factor] = None if is_one and factor != "gray" else values.reshape(n_y, n_x)
    gray = factors.pop("gray")
    assert gray is not None
    record = PhotoCalibRecord(
        detector,
        int(columns["visit"][i]),
        _box(columns, "bbox", i, name),
        gray,
        calibration_err=float(columns["calibrationErr"][i]),
        wcs_jacobian_applied=bool(columns["wcsJacobianApplied"][i]),
        domain=_box(columns, "domain", i, name),
        **factors,
    )
    mean, stated = record.calibration_mean, float(columns["calibrationMean"][i])
    if not (mean > 0 and np.isfinite(record.calibration_err)):
        raise InvalidInputError(
            f"The {name} is {mean:g} +- {record.calibration_err:g} nJy/electron; it must be positive and finite."
        )
    if not np.isclose(mean, stated, rtol=1e-6, atol=0.0):
        raise InvalidInputError(
            f"The {name}: calibrationMean is {stated:g}, but the coefficients give {mean:g} nJy/electron in the middle of "
            "the box."
        )
    return record


def _box(columns: Mapping[str, np.ndarray], name: str, i: int, about: str) -> Box:
    x0, y0, x1, y1 = (int(columns[f"{name}_{side}"][i]) for side in _BOX)
    if x1 < x0 or y1 < y0:
        raise InvalidInputError(f"The {about} has an empty {name}: x {x0} to {x1}, y {y0} to {y1}.")
    return Box.factory[y0 : y1 + 1, x0 : x1 + 1]


def _corners(box: Box) -> tuple[int, int, int, int]:
    """Return a box as its first and last pixels, in the order of the columns."""
    return box.x.start, box.y.start, box.x.stop - 1, box.y.stop - 1


def _terms(u: float, n: int) -> _Coefficients:
    """Return the first ``n`` Chebyshev polynomials at a position."""
    terms = [1.0, u]
    for _ in range(2, n):
        terms.append(2.0 * u * terms[-1] - terms[-2])
    return np.array(terms[:n])


def _moved(field: ChebyshevPolynomial, domain: Box, bbox: Box) -> ChebyshevPolynomial:
    """Return a polynomial over one box as the same polynomial over another; exact up to rounding."""
    n_y, n_x = field.coefficients.shape
    width, height = bbox.x.size, bbox.y.size

    def nodes(n: int, size: int) -> np.ndarray:
        return 0.5 * (size * (1.0 + np.cos(np.pi * (np.arange(n) + 0.5) / n)) - 1.0)

    x, y = (v.ravel() for v in np.meshgrid(nodes(n_x, width), nodes(n_y, height)))
    values = field(x=x + bbox.x.start - domain.x.start, y=y + bbox.y.start - domain.y.start)
    return fit_chebyshev(x, y, values, width, height, n_x - 1, n_y - 1, triangular=False)
