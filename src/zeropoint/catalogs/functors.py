"""What a column of a standardised source table is made of: the functors of Rubin's functor files.

A functor names the input columns it needs and turns them into one output column, with its unit.  The names and their
arguments are Rubin's, so that functor files apply as they are; `zeropoint.catalogs.functor_file` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from astropy import units as u
from astropy.table import Column as AstropyColumn
from astropy.table import MaskedColumn, Table

from zeropoint.datamodel.exposure import AB_FLUX_NJY
from zeropoint.errors import InvalidInputError

__all__ = ["FUNCTORS", "Functor", "make_functor"]

#: Keywords of Rubin's functors that choose among the sub-tables of an object table; a source table is only one.
_WITHOUT_MEANING = frozenset({"dataset", "filt", "noDup", "name", "shortname"})
_MAG = 2.5 / np.log(10.0)


@dataclass(frozen=True)
class Functor:
    """One output column as a function of input columns.

    Parameters
    ----------
    args
        Arguments as the functor file gives them: names of input columns.
    """

    args: tuple[str, ...]

    #: How many arguments there are; columns that stand for missing ones.
    n_args: ClassVar[int] = 1
    defaults: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if not self.args and self.defaults:
            object.__setattr__(self, "args", self.defaults)
        if len(self.args) != self.n_args:
            raise InvalidInputError(
                f"the functor {type(self).__name__} takes {self.n_args} column(s), not {len(self.args)}."
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns that are read."""
        return self.args

    def __call__(self, table: Table) -> AstropyColumn:
        """Return the output column of a table that has the inputs; units and descriptions come with it."""
        raise NotImplementedError


class Column(Functor):
    """The input as it is."""

    def __call__(self, table: Table) -> AstropyColumn:
        """Return the column."""
        return table[self.args[0]]


class Index(Column):
    """The row id."""

    n_args: ClassVar[int] = 1
    defaults: ClassVar[tuple[str, ...]] = ("id",)


class SinglePrecisionFloatColumn(Functor):
    """The input in single precision; numbers beyond its range become infinite."""

    def __call__(self, table: Table) -> AstropyColumn:
        """Return the column as float32."""
        column = table[self.args[0]]
        return _like(column, _single(np.asarray(column)), column.unit)


class CoordColumn(Functor):
    """A coordinate, radians to degrees, double precision."""

    def __call__(self, table: Table) -> AstropyColumn:
        """Return degrees."""
        column = _radians(table, self.args[0], u.rad)
        return _like(column, np.rad2deg(np.asarray(column, np.float64)), "deg")


class RAColumn(CoordColumn):
    """Right ascension, degrees."""

    defaults: ClassVar[tuple[str, ...]] = ("coord_ra",)


class DecColumn(CoordColumn):
    """Declination, degrees."""

    defaults: ClassVar[tuple[str, ...]] = ("coord_dec",)


class _ErrorColumn(Functor):
    """An error, radians to degrees, in the precision of the input."""

    power: ClassVar[int] = 1

    def __call__(self, table: Table) -> AstropyColumn:
        """Return degrees to the power of the input's radians."""
        column = _radians(table, self.args[0], u.rad**self.power)
        values = np.asarray(column)
        factor = values.dtype.type(np.rad2deg(1.0) ** self.power)
        return _like(column, values * factor, f"deg{'' if self.power == 1 else self.power}")


class RAErrColumn(_ErrorColumn):
    """Error of right ascension times cos(dec), degrees."""

    defaults: ClassVar[tuple[str, ...]] = ("coord_raErr",)


class DecErrColumn(_ErrorColumn):
    """Error of declination, degrees."""

    defaults: ClassVar[tuple[str, ...]] = ("coord_decErr",)


class RADecCovColumn(_ErrorColumn):
    """Covariance of right ascension times cos(dec) with declination, square degrees."""

    defaults: ClassVar[tuple[str, ...]] = ("coord_ra_dec_Cov",)
    power: ClassVar[int] = 2


class _LocalCalibration(Functor):
    """Base of what multiplies instrumental fluxes with the local calibration, nJy per count.

    The arguments are flux, its error, calibration, its error; the error of the calibration is left out, as it is common
    to all sources of an image.
    """

    n_args: ClassVar[int] = 4

    def flux(self, table: Table) -> np.ndarray:
        """Return the flux, nJy, float64."""
        return self._calibrated(table, self.args[0])

    def flux_err(self, table: Table) -> np.ndarray:
        """Return the error of the flux, nJy, float64."""
        return self._calibrated(table, self.args[1])

    def _calibrated(self, table: Table, name: str) -> np.ndarray:
        return np.asarray(table[name], np.float64) * np.asarray(table[self.args[2]], np.float64)


class LocalNanojansky(_LocalCalibration):
    """Flux by the local calibration, nJy, single precision."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Flux and calibration."""
        return self.args[0], self.args[2]

    def __call__(self, table: Table) -> AstropyColumn:
        """Return nJy."""
        return _like(table[self.args[0]], _single(self.flux(table)), "nJy", "calibrated flux")


class LocalNanojanskyErr(_LocalCalibration):
    """Error of a flux by the local calibration, nJy, single precision."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Error and calibration."""
        return self.args[1], self.args[2]

    def __call__(self, table: Table) -> AstropyColumn:
        """Return nJy."""
        return _like(
            table[self.args[1]], _single(self.flux_err(table)), "nJy", "1-sigma error of the calibrated flux"
        )


class LocalMagnitude(LocalNanojansky):
    """AB magnitude by the local calibration; NaN of a flux that is not positive."""

    def __call__(self, table: Table) -> AstropyColumn:
        """Return AB magnitudes."""
        flux = self.flux(table)
        with np.errstate(invalid="ignore", divide="ignore"):
            values = np.where(flux > 0, -2.5 * np.log10(flux / AB_FLUX_NJY), np.nan)
        return _like(table[self.args[0]], values, "mag(AB)", "AB magnitude")


class LocalMagnitudeErr(_LocalCalibration):
    """Error of an AB magnitude: 1.0857 times error over flux, both calibrated."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Flux, error and calibration."""
        return self.args[:3]

    def __call__(self, table: Table) -> AstropyColumn:
        """Return magnitudes."""
        flux = self.flux(table)
        with np.errstate(invalid="ignore", divide="ignore"):
            values = np.where(flux > 0, _MAG * self.flux_err(table) / flux, np.nan)
        return _like(table[self.args[0]], values, "mag(AB)", "1-sigma error of the AB magnitude")


#: Functors by the names that functor files use.
FUNCTORS: Mapping[str, type[Functor]] = {
    kind.__name__: kind
    for kind in (
        Column,
        CoordColumn,
        DecColumn,
        DecErrColumn,
        Index,
        LocalMagnitude,
        LocalMagnitudeErr,
        LocalNanojansky,
        LocalNanojanskyErr,
        RAColumn,
        RADecCovColumn,
        RAErrColumn,
        SinglePrecisionFloatColumn,
    )
}


def make_functor(definition: Any, name: str) -> Functor:
    """Return the functor of one entry of a functor file.

    Parameters
    ----------
    definition
        Mapping with ``functor`` and, where it takes any, ``args``: a name or a list of names.  Rubin's keywords that
        choose a part of an object table (``dataset``, ``filt``, ``noDup``) have no meaning here.
    name
        Output column, for messages.

    Raises
    ------
    InvalidInputError
        If the functor is not known, or its arguments are not what it takes.
    """
    if not isinstance(definition, Mapping) or "functor" not in definition:
        raise InvalidInputError(f"{name}: the entry needs a key 'functor', not {definition!r}.")
    kind = FUNCTORS.get(str(definition["functor"]))
    if kind is None:
        raise InvalidInputError(
            f"{name}: the functor {definition['functor']!r} is not known; known are {', '.join(sorted(FUNCTORS))}."
        )
    unknown = sorted(set(definition) - {"functor", "args"} - _WITHOUT_MEANING)
    if unknown:
        raise InvalidInputError(f"{name}: {', '.join(unknown)} cannot be used with {definition['functor']}.")
    args = definition.get("args", ())
    args = (args,) if isinstance(args, str) else args
    if not isinstance(args, (list, tuple)) or not all(isinstance(arg, str) for arg in args):
        raise InvalidInputError(f"{name}: args must be a column name or a list of them, not {args!r}.")
    try:
        return kind(tuple(args))
    except InvalidInputError as error:
        raise InvalidInputError(f"{name}: {error}") from None


def _single(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _radians(table: Table, name: str, unit: u.UnitBase) -> AstropyColumn:
    """Return a column, which must be in radians (or have no unit)."""
    column = table[name]
    if column.unit is not None and u.Unit(column.unit) != unit:
        raise InvalidInputError(f"the column {name!r} is in {column.unit}, not in {unit}.")
    return column


def _like(
    column: AstropyColumn, values: np.ndarray, unit: Any, description: str | None = None
) -> AstropyColumn:
    """Return new values with the mask of a column, and its description where no other is given."""
    text = column.description if description is None else description
    mask = getattr(column, "mask", None)
    if isinstance(mask, np.ndarray) and mask.any():
        return MaskedColumn(values, mask=mask, unit=unit, description=text)
    return AstropyColumn(values, unit=unit, description=text)
