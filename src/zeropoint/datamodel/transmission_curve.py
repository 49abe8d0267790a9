"""Transmission curves: throughput as a function of wavelength, and perhaps of the distance from the optical axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy import units
from astropy.table import Column, Table

from zeropoint.errors import InvalidInputError

__all__ = ["TransmissionCurve"]

FloatArray = npt.NDArray[np.float64]

#: Wavelengths, Angstrom, that a curve of visible or near infrared light can have.
_PLAUSIBLE = (500.0, 300_000.0)
#: Angstrom over which a table steps to the throughput outside of the wavelengths.
_EDGE = 1e-6


@dataclass(frozen=True)
class TransmissionCurve:
    """The fraction of light that passes, linear between the given wavelengths.

    Parameters
    ----------
    wavelength : float64, shape (n,)
        Wavelengths, Angstrom, strictly ascending.
    throughput : float64, shape (n,) or (n_radius, n)
        Between 0 and 1.
    radii : float64, shape (n_radius,), optional
        Distances from the optical axis in the focal plane, strictly ascending, of the rows of ``throughput``; between them
        it is linear, beyond them constant.
    radius_unit
        ``mm``, or ``pixel`` as curves of the LSST Science Pipelines have it.
    below, above
        Throughput at wavelengths shorter and longer than those given.
    source
        Where the curve comes from, for messages.
    notes
        What was decided when the curve was read, and deserves a look: sentences.

    Raises
    ------
    InvalidInputError
        If wavelengths or radii do not ascend, a throughput is negative, greater than 1 or no number, wavelengths cannot be
        Angstrom, or shapes do not fit.
    """

    wavelength: FloatArray
    throughput: FloatArray
    radii: FloatArray | None = None
    radius_unit: str = "mm"
    below: float = 0.0
    above: float = 0.0
    source: str = "transmission curve"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        arrays = {"wavelength": self.wavelength, "throughput": self.throughput, "radii": self.radii}
        for name, values in arrays.items():
            if values is not None:
                array = np.array(values, np.float64)
                array.setflags(write=False)
                object.__setattr__(self, name, array)
        self._check_shapes()
        _check_ascending(self.wavelength, "wavelengths", "Angstrom", self.source)
        if self.radii is not None:
            _check_ascending(self.radii, "radii", self.radius_unit, self.source)
        if self.wavelength[0] < _PLAUSIBLE[0] or self.wavelength[-1] > _PLAUSIBLE[1]:
            raise InvalidInputError(
                f"{self.source}: wavelengths from {self.wavelength[0]:g} to {self.wavelength[-1]:g} cannot be Angstrom; say "
                "which unit they have (nm, um or Angstrom)."
            )
        _check_throughput(
            np.append(self.throughput.ravel(), [self.below, self.above]), self.wavelength, self.source
        )

    @classmethod
    def top_hat(
        cls, start: float, stop: float, *, throughput: float = 1.0, source: str = ""
    ) -> TransmissionCurve:
        """Return a curve that is constant from ``start`` to ``stop``, Angstrom, and zero elsewhere.

        Parameters
        ----------
        start, stop
            Wavelengths, Angstrom.
        throughput
            Between them, 0 to 1.
        source
            For messages.

        Raises
        ------
        InvalidInputError
            If it does not begin before it ends, or the throughput is not between 0 and 1.
        """
        name = source or f"top hat {start:g}..{stop:g}"
        if not start < stop:
            raise InvalidInputError(f"{name}: must begin before it ends.")
        return cls(np.array([start, stop]), np.full(2, throughput), source=name)

    @classmethod
    def constant(cls, throughput: float, *, source: str = "") -> TransmissionCurve:
        """Return a curve that is the same at all wavelengths.

        Parameters
        ----------
        throughput
            0 to 1.
        source
            For messages.

        Raises
        ------
        InvalidInputError
            If the throughput is not between 0 and 1.
        """
        name = source or f"constant {throughput:g}"
        return cls(
            np.array([1000.0, 30000.0]),
            np.full(2, throughput),
            below=throughput,
            above=throughput,
            source=name,
        )

    @classmethod
    def product(cls, curves: Sequence[TransmissionCurve], *, source: str = "") -> TransmissionCurve:
        """Return the product of curves, of which one may depend on the radius, at all of their wavelengths.

        Parameters
        ----------
        curves
            Factors.
        source
            For messages; empty: the names of the factors.

        Raises
        ------
        InvalidInputError
            If there is none, or several depend on the radius.

        Notes
        -----
        The product of two curves is taken to be linear between wavelengths, as each of them is; it is a parabola, whose
        distance from the line is a quarter of the product of both changes over the interval.
        """
        if not curves:
            raise InvalidInputError("there is no transmission curve to multiply.")
        radial = [curve for curve in curves if curve.radii is not None]
        if len(radial) > 1:
            raise InvalidInputError(
                f"{radial[0].source} and {radial[1].source} depend on the radius both; their product is not known."
            )
        wavelength = np.unique(np.concatenate([curve.wavelength for curve in curves]))
        rows = reduce(np.multiply, [curve._at(wavelength) for curve in curves])
        names = source or " x ".join(curve.source for curve in curves)
        return cls(
            wavelength,
            rows if radial else rows[0],
            radial[0].radii if radial else None,
            radial[0].radius_unit if radial else "mm",
            below=float(np.prod([curve.below for curve in curves])),
            above=float(np.prod([curve.above for curve in curves])),
            source=names,
        )

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        detector: int | None = None,
        wavelength_unit: str = "",
        percent: bool = False,
        clip: bool = False,
    ) -> TransmissionCurve:
        """Read a curve from a file; see `zeropoint.datamodel.transmission_files.read_curve`.

        Parameters
        ----------
        path, detector, wavelength_unit, percent, clip
            As there.

        Raises
        ------
        InvalidInputError
            As there.
        """
        from zeropoint.datamodel.transmission_files import read_curve

        return read_curve(
            path, detector=detector, wavelength_unit=wavelength_unit, percent=percent, clip=clip
        )

    def sample(
        self, wavelength: Any, x_mm: float = 0.0, y_mm: float = 0.0, *, pixel_size_mm: float | None = None
    ) -> FloatArray:
        """Return throughputs at wavelengths, at one place of the focal plane.

        Parameters
        ----------
        wavelength : float, shape (m,)
            Angstrom, in any order.
        x_mm, y_mm
            Place in the focal plane, from the optical axis.
        pixel_size_mm
            Side of a pixel; needed if the curve's radii are in pixels.

        Returns
        -------
        throughput : float64, shape (m,)

        Raises
        ------
        InvalidInputError
            If radii are in pixels of unknown size, or the place is not known (NaN) and matters.
        """
        rows = self._at(np.asarray(wavelength, np.float64))
        if self.radii is None:
            return rows[0]
        radius = float(np.hypot(x_mm, y_mm))
        if self.radius_unit == "pixel" and radius != 0.0:
            radius /= pixel_size_mm if pixel_size_mm else np.nan
        if not np.isfinite(radius):
            raise InvalidInputError(
                f"{self.source}: the throughput depends on the place in the focal plane, and "
                f"{'the size of a pixel' if np.isfinite([x_mm, y_mm]).all() else 'that of the detector'} is not known."
            )
        k = int(np.clip(np.searchsorted(self.radii, radius) - 1, 0, len(self.radii) - 2))
        part = np.clip((radius - self.radii[k]) / (self.radii[k + 1] - self.radii[k]), 0.0, 1.0)
        return np.asarray((1.0 - part) * rows[k] + part * rows[k + 1])

    def _at(self, wavelength: FloatArray) -> FloatArray:
        """Return throughputs at wavelengths for every radius, shape (n_radius or 1, m)."""
        rows = np.atleast_2d(self.throughput)
        return np.stack(
            [np.interp(wavelength, self.wavelength, row, left=self.below, right=self.above) for row in rows]
        )

    def to_table(self) -> Table:
        """Return wavelength and throughput as a table that says all by its columns.

        Where the throughput is not zero outside of the wavelengths, rows for all wavelengths that light can have say so.  A
        curve with radii has two-dimensional columns ``radius`` and ``throughput``: a number for each radius.
        """
        wavelength, rows = self.wavelength, np.atleast_2d(self.throughput)
        if self.below:
            wavelength = np.append([_PLAUSIBLE[0], wavelength[0] - _EDGE], wavelength)
            rows = np.append(np.full((len(rows), 2), self.below), rows, axis=1)
        if self.above:
            wavelength = np.append(wavelength, [wavelength[-1] + _EDGE, _PLAUSIBLE[1]])
            rows = np.append(rows, np.full((len(rows), 2), self.above), axis=1)
        values = rows[0] if self.radii is None else np.ascontiguousarray(rows.T)
        table = Table(
            {
                "wavelength": Column(wavelength, unit="Angstrom", description="Wavelength"),
                "throughput": Column(values, description="Fraction of light that passes"),
            }
        )
        if self.radii is not None:
            table["radius"] = Column(
                np.tile(self.radii, (wavelength.size, 1)),
                unit=self.radius_unit,
                description="Distance from the optical axis in the focal plane",
            )
        return table

    @classmethod
    def from_table(
        cls,
        table: Table,
        *,
        source: str = "",
        wavelength_unit: str = "",
        percent: bool = False,
        clip: bool = False,
    ) -> TransmissionCurve:
        """Return the curve of a table as `to_table` gives it, or of any with ``wavelength`` and ``throughput``.

        Parameters
        ----------
        table
            Units of its columns count, where there are some.
        source
            For messages.
        wavelength_unit, percent, clip
            As for `zeropoint.datamodel.transmission_files.read_curve`, where the table does not say.

        Raises
        ------
        InvalidInputError
            If a column is missing, a unit is not one of length, or the curve is impossible.
        """
        name = source or "transmission table"
        missing = [key for key in ("wavelength", "throughput") if key not in table.colnames]
        if missing:
            raise InvalidInputError(
                f"{name}: has no column {' and '.join(missing)} (it has {', '.join(table.colnames)})."
            )
        unit = str(table["wavelength"].unit or wavelength_unit or "Angstrom")
        wavelength = np.asarray(table["wavelength"], np.float64) * _angstroms(unit, name)
        radial = "radius" in table.colnames
        throughput = np.asarray(table["throughput"], np.float64).T
        stated = table["throughput"].unit == units.percent
        if percent or stated:
            if not stated and throughput.size and np.nanmax(throughput) <= 1.0:
                raise InvalidInputError(
                    f"{name}: throughputs are 1 percent at most (greatest: {np.nanmax(throughput):.4g}), so that they seem "
                    "to be fractions. Correct the header if it says percent; --percent counts for all files that do not "
                    "say, FILE% for one."
                )
            throughput = throughput / 100.0
        return cls(
            wavelength,
            np.clip(throughput, 0.0, 1.0) if clip else throughput,
            np.asarray(table["radius"], np.float64)[0] if radial else None,
            _radius_unit(table, name) if radial else "mm",
            source=name,
        )

    def _check_shapes(self) -> None:
        n = self.wavelength.shape
        if self.wavelength.ndim != 1 or n[0] < 2:
            raise InvalidInputError(f"{self.source}: a curve needs at least two wavelengths.")
        if self.radii is None and self.throughput.shape != n:
            raise InvalidInputError(
                f"{self.source}: {self.throughput.shape} throughputs for {n[0]} wavelengths"
                f"{' and no radii' if self.throughput.ndim > 1 else ''}."
            )
        if self.radii is not None:
            if self.radii.size < 2 or self.throughput.shape != (self.radii.size, *n):
                raise InvalidInputError(
                    f"{self.source}: {self.throughput.shape} throughputs for {self.radii.size} radii and {n[0]} "
                    "wavelengths; two radii at least."
                )
            if self.radius_unit not in ("mm", "pixel"):
                raise InvalidInputError(
                    f"{self.source}: radii in {self.radius_unit!r}; give them in mm or pixel."
                )


def _radius_unit(table: Table, source: str) -> str:
    """Return the unit of the radii of a table."""
    unit = str(table["radius"].unit or "")
    if unit in ("pix", "pixel"):
        return "pixel"
    if unit != "mm":
        raise InvalidInputError(f"{source}: radii in {unit or 'no unit'!r}; give them in mm or pixel.")
    return unit


def _angstroms(unit: str, source: str) -> float:
    """Return how many Angstrom a unit of length is."""
    try:
        return float(units.Unit(unit).to(units.Angstrom))
    except (ValueError, TypeError, units.UnitConversionError):
        raise InvalidInputError(
            f"{source}: wavelengths in {unit!r}; give them in nm, um or Angstrom."
        ) from None


def _check_ascending(values: FloatArray, what: str, unit: str, source: str) -> None:
    if not np.isfinite(values).all():
        raise InvalidInputError(
            f"{source}: {np.count_nonzero(~np.isfinite(values))} of the {what} are no numbers."
        )
    wrong = np.flatnonzero(np.diff(values) <= 0)
    if wrong.size:
        k = int(wrong[0])
        raise InvalidInputError(
            f"{source}: {what} must increase, but {values[k]:g} is followed by {values[k + 1]:g} {unit} "
            f"({wrong.size} such places); sort the rows, and remove repeated ones."
        )


def _check_throughput(values: FloatArray, wavelength: FloatArray, source: str) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        raise InvalidInputError(f"{source}: {np.count_nonzero(bad)} throughputs are no numbers.")
    if values.min() < 0.0:
        raise InvalidInputError(
            f"{source}: {np.count_nonzero(values < 0)} throughputs are negative (least: {values.min():.4g}); if that is the "
            "noise of a measurement, have them clipped (--clip)."
        )
    if values.max() > 1.0:
        hint = (
            "are they in percent (FILE%; or --percent, for all files that do not say)?"
            if values.max() > 1.5
            else "if that is the noise of a measurement, have them clipped (--clip)."
        )
        raise InvalidInputError(
            f"{source}: {np.count_nonzero(values > 1)} throughputs are greater than 1 (greatest: {values.max():.4g}); {hint}"
        )
