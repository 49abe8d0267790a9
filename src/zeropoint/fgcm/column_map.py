"""Which column of any table is what: names, units and constants that a user gives, the rest by its own name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import astropy.units as u
import numpy as np

from zeropoint.catalogs.reference_raw import RawTable
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.limits import LIMITS, Limits

__all__ = ["OBSERVATION_FIELDS", "VISIT_FIELDS", "Columns", "FieldSpec", "SurveyColumns", "typed_column"]


@dataclass(frozen=True)
class FieldSpec:
    """A quantity that a table may hold.

    Parameters
    ----------
    name
        Its name in column maps; a column of this name is it.
    unit
        Unit in which it is used, and which is taken for granted where the column states none; "" for none.
    aliases
        Other names of columns that are recognised.
    kind
        "f" number, "i" whole number, "b" truth value, "U" text.
    limits
        Values that there can be.
    """

    name: str
    unit: str = ""
    aliases: tuple[str, ...] = ()
    kind: str = "f"
    limits: Limits | None = None


OBSERVATION_FIELDS = (
    FieldSpec("visit", kind="i"),
    FieldSpec("detector", aliases=("ccd",), kind="i"),
    FieldSpec("ra", "deg"),
    FieldSpec("dec", "deg"),
    FieldSpec("x", "pixel"),
    FieldSpec("y", "pixel"),
    FieldSpec("instFlux"),
    FieldSpec("instFluxErr"),
    FieldSpec("instMag", "mag", ("inst_mag",)),
    FieldSpec("instMagErr", "mag", ("inst_mag_err",)),
    FieldSpec("innerFlux"),
    FieldSpec("outerFlux"),
    FieldSpec("deltaMagAper", "mag", ("delta_mag_aper",)),
    FieldSpec("deltaMagBkg", "mag", ("delta_mag_bkg",)),
    FieldSpec("jacobian"),
    FieldSpec("psf_candidate", kind="b"),
)

VISIT_FIELDS = (
    FieldSpec("visit", kind="i"),
    FieldSpec("physicalFilter", aliases=("physical_filter", "filter"), kind="U"),
    FieldSpec("exptime", "s", ("exposure_time",)),
    FieldSpec("mjd", "d", limits=LIMITS["mjd"]),
    FieldSpec("telra", "deg", limits=LIMITS["ra"]),
    FieldSpec("teldec", "deg", limits=LIMITS["dec"]),
    FieldSpec("telha", "deg", limits=LIMITS["hour_angle"]),
    FieldSpec("telrot", "deg"),
    FieldSpec("airmass", limits=LIMITS["airmass"]),
    FieldSpec("pmb", "mbar", limits=LIMITS["pmb"]),
    FieldSpec("psfSigma", "pixel"),
    FieldSpec("psfFwhm", "arcsec"),
    FieldSpec("skyBackground"),
)

#: What is told of the site.
_SITE = ("latitude", "longitude", "elevation")


@dataclass(frozen=True)
class _Entry:
    """Where a quantity comes from: a column, or one value for all rows."""

    column: str = ""
    unit: str = ""
    value: Any = None


@dataclass(frozen=True)
class SurveyColumns:
    """Which columns of the tables of a survey are what.

    Parameters
    ----------
    observations, visits
        Name of a quantity -> its column, or a mapping with ``column`` and ``unit``, or with ``value`` for all rows.
    flags
        Columns of observations; rows in which any of them is true are not used.
    filters
        Physical filter -> band; empty: filters are bands.
    site
        ``latitude``, ``longitude`` (degrees, to the East) and ``elevation`` (metres) of the telescope.
    """

    observations: Mapping[str, Any]
    visits: Mapping[str, Any]
    flags: tuple[str, ...] = ()
    filters: Mapping[str, str] | None = None
    site: Mapping[str, float] | None = None

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any] | None) -> SurveyColumns:
        """Return the map that a YAML file holds.

        Parameters
        ----------
        given
            Sections ``observations`` (with the key ``flags`` for a list of columns), ``visits``, ``filters``, ``site``.

        Raises
        ------
        InvalidInputError
            If a section or a key in it is unknown, or has a value that means nothing.
        """
        given = dict(given or {})
        _require_known("column map", given, ("observations", "visits", "filters", "site"))
        sections = {name: given.get(name) or {} for name in ("observations", "visits", "filters", "site")}
        for name, section in sections.items():
            if not isinstance(section, Mapping):
                raise InvalidInputError(f"Column map: {name} must be a mapping, not {section!r}.")
        observations = dict(sections["observations"])
        flags = observations.pop("flags", [])
        if isinstance(flags, str) or not isinstance(flags, Sequence):
            raise InvalidInputError(
                f"Column map: observations.flags must be a list of columns, not {flags!r}."
            )
        _require_known("observations", observations, [field.name for field in OBSERVATION_FIELDS])
        _require_known("visits", sections["visits"], [field.name for field in VISIT_FIELDS])
        _require_known("site", sections["site"], _SITE)
        try:
            site = {name: float(value) for name, value in sections["site"].items()}
        except (TypeError, ValueError):
            raise InvalidInputError(
                f"Column map: site must hold numbers, not {sections['site']!r}."
            ) from None
        for name, value in site.items():
            if not np.isfinite(value) or LIMITS[name].wrong(value):
                raise InvalidInputError(
                    f"Column map: site: {name} is {value:g}, but lies between {LIMITS[name].told(value)}."
                )
        filters = {str(name): str(band) for name, band in sections["filters"].items()}
        return cls(observations, sections["visits"], tuple(map(str, flags)), filters, site)


def _require_known(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Check that all keys are known."""
    known = list(known)
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise InvalidInputError(
                f"Column map: {where} has no key {name!r}; known are {', '.join(known)}.{hint}"
            )


class Columns:
    """The quantities that one table holds.

    Parameters
    ----------
    table
        The table.
    fields
        Quantities that it may hold.
    given
        Name of a quantity -> where it comes from, as in `SurveyColumns`; other quantities are looked for by name.

    Raises
    ------
    InvalidInputError
        If a column that is given does not exist, or a unit is none or of another kind.
    """

    def __init__(self, table: RawTable, fields: Iterable[FieldSpec], given: Mapping[str, Any]) -> None:
        self._table = table
        self._fields = {field.name: field for field in fields}
        self._entries: dict[str, _Entry] = {}
        self._factors: dict[str, float] = {}
        for field in self._fields.values():
            entry = _entry(table, field, given)
            if entry is not None:
                self._entries[field.name] = entry
                self._factors[field.name] = _factor(table, field, entry)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    @property
    def names(self) -> list[str]:
        """Columns of the table that are read."""
        return list(dict.fromkeys(entry.column for entry in self._entries.values() if entry.column))

    @property
    def absent(self) -> list[str]:
        """Quantities that the table does not hold."""
        return [name for name in self._fields if name not in self._entries]

    def require(self, *names: str) -> None:
        """Check that quantities are there.

        Raises
        ------
        InvalidInputError
            If not; the message names the table, all that lack, and what the table has.
        """
        missing = [name for name in names if name not in self]
        if missing:
            shown = ", ".join(self._table.names[:20]) + (", ..." if len(self._table.names) > 20 else "")
            raise InvalidInputError(
                f"{self._table.path}: no column for {', '.join(missing)}; it has {shown}. Say in the column map which "
                "column it is."
            )

    def check_possible(self, name: str, values: np.ndarray) -> None:
        """Check that values of a quantity can be; those that are not known are NaN.

        Raises
        ------
        InvalidInputError
            If one is out of the limits of the quantity, as in another unit.
        """
        limits = self._fields[name].limits
        if limits is None or not (wrong := np.flatnonzero(limits.wrong(values))).size:
            return
        value = float(values[wrong[0]])
        raise InvalidInputError(
            f"{self._table.path}: {self._entries[name].column or name} holds {value:.10g}, but {name} lies between "
            f"{limits.told(value)} ({len(wrong)} of {len(values)} values are wrong): correct the column or its unit, and "
            "leave empty what is not known."
        )

    def get(self, piece: RawTable, name: str, n_rows: int) -> np.ndarray:
        """Return a quantity of a piece of the table, in its unit.

        Parameters
        ----------
        piece
            Rows of the table with the columns `names`.
        name
            Quantity, which must be there.
        n_rows
            Number of rows.

        Raises
        ------
        InvalidInputError
            If the column does not hold what it should: text instead of numbers, or broken numbers.
        """
        entry, field = self._entries[name], self._fields[name]
        if entry.column:
            return typed_column(piece, entry.column, field.kind, self._factors[name])
        values = np.full(n_rows, entry.value)
        return _typed(values, field.kind, self._factors[name], f"Column map: the value of {name}")


def typed_column(table: RawTable, name: str, kind: str, factor: float = 1.0) -> np.ndarray:
    """Return a column as numbers, whole numbers, truth values or text.

    Parameters
    ----------
    table
        Table, or a piece of one.
    name
        Its column.
    kind
        As in `FieldSpec`.
    factor
        Numbers are multiplied by it.

    Raises
    ------
    InvalidInputError
        If the column does not hold what it should; the message names the table and the column.
    """
    return _typed(table.get(name), kind, factor, f"{table.path}: column {name}")


def _entry(table: RawTable, field: FieldSpec, given: Mapping[str, Any]) -> _Entry | None:
    """Return where a quantity comes from, or None."""
    if field.name not in given:
        name = next((name for name in (field.name, *field.aliases) if name in table.columns), None)
        return None if name is None else _Entry(name)
    told = given[field.name]
    if isinstance(told, Mapping):
        _require_known(field.name, told, ("column", "unit", "value"))
        entry = _Entry(str(told.get("column", "")), str(told.get("unit", "")), told.get("value"))
        if bool(entry.column) == (entry.value is not None):
            raise InvalidInputError(
                f"Column map: {field.name} needs either a column or a value, not {told!r}."
            )
    else:
        entry = _Entry(str(told))
    if entry.column and entry.column not in table.columns:
        close = difflib.get_close_matches(entry.column, table.names, 1)
        hint = f" Did you mean {close[0]!r}?" if close else f" It has {', '.join(table.names[:20])}."
        raise InvalidInputError(
            f"{table.path}: no column {entry.column!r}, which the column map gives for {field.name}.{hint}"
        )
    return entry


def _factor(table: RawTable, field: FieldSpec, entry: _Entry) -> float:
    """Return what turns the column's unit into the one in which the quantity is used."""
    unit = entry.unit or (table.units.get(entry.column, "") if entry.column else "")
    if unit.lower().startswith("mag") and field.name.endswith(("Flux", "FluxErr")):
        raise InvalidInputError(
            f"{table.path}: {field.name} is in {unit!r}, which is no flux; magnitudes are instMag and instMagErr."
        )
    if not unit or not field.unit:
        return 1.0
    try:
        return float(u.Unit(unit).to(u.Unit(field.unit)))
    except (ValueError, TypeError, u.UnitConversionError) as error:
        raise InvalidInputError(
            f"{table.path}: {field.name} is in {unit!r}, which cannot be turned into {field.unit} ({error})."
        ) from None


def _typed(values: np.ndarray, kind: str, factor: float, origin: str) -> np.ndarray:
    """Return values of the kind wanted."""
    try:
        if kind == "U":
            return np.char.strip(np.asarray(values).astype(str))
        if values.dtype.kind in "SUO":
            values = np.asarray(values, np.float64)
        if kind == "b":
            return np.nan_to_num(values).astype(np.bool_)
        return np.asarray(values, np.float64) * factor if kind == "f" else _whole(values)
    except (TypeError, ValueError) as error:
        wanted = {"f": "numbers", "i": "whole numbers", "b": "true or false", "U": "text"}[kind]
        raise InvalidInputError(f"{origin} must hold {wanted}: {error}.") from None


def _whole(values: np.ndarray) -> np.ndarray:
    """Return whole numbers as integers."""
    if values.dtype.kind not in "iub":
        if not np.all(np.isfinite(values)) or np.any(values != np.rint(values)):
            raise ValueError("some are missing or have decimals")
        values = np.rint(values)
    return values.astype(np.int64)
