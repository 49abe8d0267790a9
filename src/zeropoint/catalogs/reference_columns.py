"""From a reference table's own columns to standard ones: a column map, given by the user or guessed.

Standard columns are ``coord_ra``, ``coord_dec`` (radians, ICRS), their errors, ``pm_ra``, ``pm_dec`` (radians per
year) and errors, their covariances, ``epoch`` (MJD, TAI), ``id``, the booleans ``resolved``, ``photometric``, ``variable``, and
``<band>_flux``, ``<band>_fluxErr`` (nJy).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isclose
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import yaml

from zeropoint.catalogs import reference_guess as guess
from zeropoint.catalogs.reference_covariances import COVARIANCES, ERRORS, correlation_names, covariance_unit
from zeropoint.catalogs.reference_raw import RawTable
from zeropoint.datamodel.exposure import AB_FLUX_NJY
from zeropoint.errors import InvalidInputError

__all__ = ["EXAMPLE_MAP", "ColumnMap", "ColumnRule", "make_column_map", "read_column_map"]

_log = logging.getLogger(__name__)

#: What a message shows to someone whose table was not understood.
EXAMPLE_MAP = "{ra: RAJ2000, dec: DEJ2000, bands: {r: {mag: rmag, mag_err: e_rmag}}}"

_MAG_TO_LN = 0.4 * np.log(10.0)
#: Magnitudes outside of this range are taken as "not measured" (-999, 99, ...).
_MAG_RANGE = (-40.0, 60.0)

_ANGLES = {
    "ra_err": "coord_raErr",
    "dec_err": "coord_decErr",
    "parallax": "parallax",
    "parallax_err": "parallaxErr",
}
_MOTIONS = {"pm_ra": "pm_ra", "pm_dec": "pm_dec", "pm_ra_err": "pm_raErr", "pm_dec_err": "pm_decErr"}
_FLAGS = {"resolved": "resolved", "photometric": "photometric", "variable": "variable"}
_KEYS = ("ra", "dec", "id", "epoch", *_ANGLES, *_MOTIONS, *_FLAGS, "star", "covariances", "bands", "keep")


@dataclass(frozen=True)
class ColumnRule:
    """How one standard column is made.

    Parameters
    ----------
    target
        Standard name.
    column
        Column of the file, or None for a constant.
    kind
        ``linear`` (factor times value plus offset), ``mag`` (AB magnitude plus offset to nJy), ``mag_err`` and
        ``flux_snr`` (error of the flux in ``target`` without ``Err``), ``correlation`` (times the errors of the two
        parameters of ``target``), ``flag``, ``not_flag`` or ``as_is``.
    factor, offset
        Numbers of the conversion.
    invalid
        Values of the file that stand for "unknown".
    unit
        The unit taken for the file's values, for people.
    """

    target: str
    column: str | None
    kind: str = "linear"
    factor: float = 1.0
    offset: float = 0.0
    invalid: tuple[float, ...] = ()
    unit: str | None = None

    def describe(self) -> str:
        """Return a phrase on where the column comes from."""
        if self.column is None:
            return f"the constant {self.offset:.10g}"
        ways = {
            "mag": " as magnitude" + (f" + {self.offset:g} (to AB)" if self.offset else " (AB)"),
            "mag_err": " as error of the magnitude",
            "flux_snr": " as signal-to-noise ratio of the flux",
            "correlation": " as correlation",
            "not_flag": " where false",
        }
        way = ways.get(self.kind, f" in {self.unit}" if self.unit else "")
        unknown = f", unknown where {' or '.join(f'{one:g}' for one in self.invalid)}" if self.invalid else ""
        return f"{self.column}{way}{unknown}"

    def apply(self, values: np.ndarray | None, n: int, done: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the standard column of ``n`` rows from the file's values; ``done`` holds earlier columns."""
        if values is None:
            return np.full(n, self.offset)
        if self.kind == "as_is":
            return values
        if self.kind in ("flag", "not_flag"):
            numbers = np.nan_to_num(np.asarray(values, np.float64)) if values.dtype.kind != "b" else values
            return (numbers != 0) if self.kind == "flag" else (numbers == 0)
        numbers = np.asarray(values, np.float64)
        if self.invalid:
            numbers = np.where(np.isin(numbers, self.invalid), np.nan, numbers)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if self.kind == "linear":
                return numbers * self.factor + self.offset
            if self.kind == "mag":
                valid = (numbers > _MAG_RANGE[0]) & (numbers < _MAG_RANGE[1])
                return np.where(valid, AB_FLUX_NJY * 10.0 ** (-0.4 * (numbers + self.offset)), np.nan)
            if self.kind == "correlation":
                one, other = (done[ERRORS[k]] for k in COVARIANCES[self.target])
                return numbers * one * other
            flux = done[self.target.removesuffix("Err")]
            relative = _MAG_TO_LN * numbers if self.kind == "mag_err" else 1.0 / numbers
            return np.where((numbers > 0) & (numbers < 9.0e9), flux * relative, np.nan)


@dataclass(frozen=True)
class ColumnMap:
    """Rules for every standard column that a table can give; position first."""

    rules: tuple[ColumnRule, ...]

    @property
    def bands(self) -> list[str]:
        """Names in front of ``_flux``."""
        return [rule.target.removesuffix("_flux") for rule in self.rules if rule.target.endswith("_flux")]

    @property
    def targets(self) -> list[str]:
        """The standard columns."""
        return [rule.target for rule in self.rules]

    @property
    def sources(self) -> list[str]:
        """Columns of the file that are needed."""
        return [rule.column for rule in self.rules if rule.column is not None]

    @property
    def converts_jansky(self) -> bool:
        """Whether fluxes are in Jy in the file, as in shards before format version 1."""
        return any(
            rule.target.endswith("_flux") and rule.kind == "linear" and isclose(rule.factor, 1.0e9)
            for rule in self.rules
        )

    def rule(self, target: str) -> ColumnRule:
        """Return the rule of a standard column."""
        return next(rule for rule in self.rules if rule.target == target)

    def has(self, *targets: str) -> bool:
        """Return whether there are rules for all of these standard columns."""
        return set(targets) <= set(self.targets)


def read_column_map(column_map: Mapping[str, Any] | str | Path | None) -> dict[str, Any]:
    """Return a column map given as a mapping or as a YAML file.

    Raises
    ------
    InvalidInputError
        If the file is not readable or has unknown keys.
    """
    where = "The column map"
    if column_map is None:
        return {}
    if isinstance(column_map, (str, Path)):
        where = f"Column map {column_map}"
        try:
            column_map = yaml.safe_load(Path(column_map).read_text())
        except (OSError, yaml.YAMLError) as error:
            why = error.strerror if isinstance(error, OSError) else error  # which repeats the name
            raise InvalidInputError(f"{where} cannot be read: {why}") from error
    if not isinstance(column_map, Mapping):
        raise InvalidInputError(f"{where} must be a mapping, for instance {EXAMPLE_MAP}.")
    unknown = sorted(set(column_map) - set(_KEYS))
    if unknown:
        raise InvalidInputError(f"{where} has unknown keys {unknown}; known are {', '.join(_KEYS)}.")
    return dict(column_map)


def make_column_map(table: RawTable, given: Mapping[str, Any]) -> ColumnMap:
    """Return the rules for a table: those of a given map, the rest guessed from names and units.

    Parameters
    ----------
    table
        The table.
    given
        A map as from `read_column_map`; keys that it lacks are guessed, keys with value None left out.

    Raises
    ------
    InvalidInputError
        If a column is missing, or position or fluxes cannot be found.
    """
    builder = _Builder(table)
    builder.positions(given)
    builder.simple(given)
    builder.set_invalid(given)
    if given.get("bands") is not None:
        for band, entry in given["bands"].items():
            builder.given_band(str(band), entry)
    else:
        builder.guessed_bands()
    builder.keep(given.get("keep"))
    result = ColumnMap(tuple(builder.rules))
    if not result.bands:
        raise InvalidInputError(
            f"{table.path}: no flux or magnitude column was recognised.  Give a column map such as "
            f"{EXAMPLE_MAP}.  Columns of the file: {_listing(table.names)}."
        )
    return result


class _Builder:
    """Collects the rules of one table."""

    def __init__(self, table: RawTable) -> None:
        self.table = table
        self.rules: list[ColumnRule] = []

    def check(self, name: str, meaning: str) -> str:
        """Return the name, if the table has it."""
        if name not in self.table.names:
            raise InvalidInputError(
                f"{self.table.path}: has no column {name!r} (asked for as {meaning}).  Correct the column map; "
                f"columns of the file: {_listing(self.table.names)}."
            )
        return name

    def entry(self, given: Mapping[str, Any], key: str) -> tuple[str | float | None, str | None]:
        """Return (column or constant or None, unit or None) of a key of the given map."""
        value = given[key]
        if isinstance(value, Mapping):
            unknown = sorted(set(value) - {"column", "unit", "value", "invalid"})
            if unknown:
                raise InvalidInputError(
                    f"Column map, {key}: unknown keys {unknown}; known are column, unit, value, invalid."
                )
            unit = value.get("unit")
            source = value.get("column", value.get("value"))
        else:
            source, unit = value, None
        if isinstance(source, str):
            self.check(source, key)
        return source, unit

    def positions(self, given: Mapping[str, Any]) -> None:
        """Add the rules of right ascension and declination."""
        for key, target in (("ra", "coord_ra"), ("dec", "coord_dec")):
            unit: str | None = None
            if given.get(key) is not None:
                source, unit = self.entry(given, key)
            else:
                source = guess.first(self.table.names, guess.POSITIONS[key])
            if not isinstance(source, str):
                raise InvalidInputError(
                    f"{self.table.path}: no column was recognised as {key}.  Give a column map such as "
                    f"{EXAMPLE_MAP}.  Columns of the file: {_listing(self.table.names)}."
                )
            default = "rad" if source.startswith("coord_") else "deg"
            self.linear(target, source, unit, "rad", default, required=True)

    def simple(self, given: Mapping[str, Any]) -> None:
        """Add the rules of ids, errors, proper motions, epoch and flags."""
        for key, target in (("id", "id"), *_ANGLES.items(), *_MOTIONS.items(), *_FLAGS.items(), ("star", "")):
            unit = None
            if key in given:
                if given[key] is None:
                    continue
                source, unit = self.entry(given, key)
            else:
                source = guess.first(self.table.names, guess.SIMPLE.get(key, ()))
            if not isinstance(source, str):
                continue
            if key == "id":
                self.rules.append(ColumnRule(target, source, "as_is"))
            elif key in _FLAGS:
                self.rules.append(ColumnRule(target, source, "flag"))
            elif key == "star":
                if not any(rule.target == "resolved" for rule in self.rules):
                    self.rules.append(ColumnRule("resolved", source, "not_flag"))
            else:
                self.angle(key, target, source, unit, asked=key in given)
        self.epoch(given)
        if given.get("covariances", "") is not None:
            self.covariances()

    def no_unit(self, key: str, source: str, example: str) -> InvalidInputError:
        """Return the error of a column that the map asks for without saying its unit."""
        return InvalidInputError(
            f"{self.table.path}: {key}: column {source!r} has no unit; write {{column: {source}, unit: {example}}}."
        )

    def angle(self, key: str, target: str, source: str, unit: str | None, *, asked: bool) -> None:
        """Add the rule of a small angle or of a proper motion."""
        default = guess.default_unit(key, source)
        stated = unit or self.table.units.get(source)
        if asked and not (stated or default):
            raise self.no_unit(key, source, "mas/yr" if key in _MOTIONS else "mas")
        if key in _MOTIONS and stated == "rad":  # an angle class of afw: radians per year
            unit = "rad/yr"
        self.linear(target, source, unit, "rad/yr" if key in _MOTIONS else "rad", default)

    def epoch(self, given: Mapping[str, Any]) -> None:
        """Add the rule of the epoch of the positions."""
        unit: str | None = None
        source: str | float | None
        if "epoch" in given:
            if given["epoch"] is None:
                return
            source, unit = self.entry(given, "epoch")
        else:
            source = guess.first(self.table.names, guess.SIMPLE["epoch"])
        if source is None:
            return
        if isinstance(source, str):
            unit = unit or self.table.units.get(source) or guess.default_unit("epoch", source)
        elif unit is None:
            unit = "jyear" if float(source) < 3000.0 else "mjd"
        if unit is None and "epoch" in given:
            raise self.no_unit("epoch", str(source), "yr")
        if unit is None:
            _log.debug("%s: epoch column %s has no unit and is not used.", self.table.path.name, source)
            return
        if unit not in guess.EPOCH_UNITS:
            raise InvalidInputError(
                f"{self.table.path}: epoch unit {unit!r} is unknown; use one of {', '.join(guess.EPOCH_UNITS)}."
            )
        factor, offset = guess.EPOCH_UNITS[unit]
        if isinstance(source, str):
            self.rules.append(ColumnRule("epoch", source, "linear", factor, offset, unit=unit))
        else:
            self.rules.append(
                ColumnRule("epoch", None, "linear", 1.0, float(source or 0.0) * factor + offset)
            )

    def covariances(self) -> None:
        """Add the covariances of position, motion and parallax, or make them of correlations as Gaia gives them."""
        targets = {rule.target for rule in self.rules}
        for name, (i, j) in COVARIANCES.items():
            if name in self.table.names:
                default = covariance_unit(name) if self.is_afw else None
                self.linear(name, name, None, covariance_unit(name), default)
                continue
            correlation = next((one for one in correlation_names(name) if one in self.table.names), None)
            if correlation is not None and {ERRORS[i], ERRORS[j]} <= targets:
                self.rules.append(ColumnRule(name, correlation, "correlation"))

    def set_invalid(self, given: Mapping[str, Any]) -> None:
        """Give the rules the values that stand for "unknown"."""
        targets = _ANGLES | _MOTIONS | {"epoch": "epoch"}
        for key, entry in given.items():
            if not isinstance(entry, Mapping) or "invalid" not in entry:
                continue
            values = np.atleast_1d(entry["invalid"]).tolist()
            if key not in targets or not all(isinstance(value, (int, float)) for value in values):
                raise InvalidInputError(
                    f"Column map, {key}: invalid is a number or a list of numbers, for {', '.join(targets)}."
                )
            self.rules = [
                replace(rule, invalid=tuple(map(float, values))) if rule.target == targets[key] else rule
                for rule in self.rules
            ]

    def linear(
        self, target: str, source: str, unit: str | None, to: str, default: str | None, required: bool = False
    ) -> None:
        """Add a rule that converts units; without any unit the column is left out."""
        stated = unit or self.table.units.get(source) or default
        if stated is None:
            _log.debug("%s: column %s has no unit and is not used.", self.table.path.name, source)
            return
        try:
            factor = _unit_factor(stated, to)
        except (ValueError, u.UnitConversionError) as error:
            if not required and unit is None:
                _log.debug("%s: unit %s of column %s is not usable.", self.table.path.name, stated, source)
                return
            raise InvalidInputError(
                f"{self.table.path}: unit {stated!r} of column {source!r} cannot be converted to {to}; state the "
                "unit in the column map."
            ) from error
        self.rules.append(ColumnRule(target, source, "linear", factor, unit=stated))

    def given_band(self, band: str, entry: Any) -> None:
        """Add the rules of one band of a given map."""
        if isinstance(entry, str):
            entry = {"flux" if guess.is_flux_name(entry) else "mag": entry}
        known = {"mag", "mag_err", "offset", "flux", "flux_err", "unit"}
        if not isinstance(entry, Mapping) or not set(entry) <= known or ("mag" in entry) == ("flux" in entry):
            raise InvalidInputError(
                f"Column map, band {band}: give a column name, or a mapping with either mag (and mag_err, offset) "
                "or flux (and flux_err, unit)."
            )
        meaning = f"band {band}"
        if "mag" in entry:
            source = self.check(str(entry["mag"]), meaning)
            error = entry.get("mag_err") or guess.error_column(self.table.names, band, source)
            self.magnitude(band, source, error, float(entry.get("offset", 0.0)), "mag_err")
        else:
            source = self.check(str(entry["flux"]), meaning)
            error = entry.get("flux_err") or guess.error_column(self.table.names, band, source)
            self.flux(band, source, error, entry.get("unit"))

    def guessed_bands(self) -> None:
        """Add the rules of every band recognised by name."""
        for found in guess.bands(self.table.names, self.table.units):
            if found.kind == "flux":
                self.flux(found.band, found.column, found.error, None, found.zero_point)
            else:
                self.magnitude(found.band, found.column, found.error, found.offset, found.error_kind)

    def magnitude(self, band: str, source: str, error: str | None, offset: float, error_kind: str) -> None:
        """Add the rules of a magnitude and its error."""
        self.rules.append(ColumnRule(f"{band}_flux", source, "mag", 1.0, offset))
        if error is not None:
            self.check(error, f"error of band {band}")
            self.rules.append(ColumnRule(f"{band}_fluxErr", error, error_kind))

    def flux(
        self, band: str, source: str, error: str | None, unit: str | None, zero_point: float | None = None
    ) -> None:
        """Add the rules of a flux and its error."""
        if zero_point is not None:
            factor = AB_FLUX_NJY * 10.0 ** (-0.4 * zero_point)
        else:
            factor = self.flux_factor(source, unit)
        unit = f"{factor:.6g} nJy"
        self.rules.append(ColumnRule(f"{band}_flux", source, "linear", factor, unit=unit))
        if error is not None:
            self.check(error, f"error of band {band}")
            self.rules.append(ColumnRule(f"{band}_fluxErr", error, "linear", factor, unit=unit))

    def flux_factor(self, source: str, unit: str | None) -> float:
        """Return nJy per unit of a flux column: from the unit, else from the format version."""
        stated = unit or self.table.units.get(source)
        if stated is not None:
            try:
                return _unit_factor(stated, "nJy")
            except (ValueError, u.UnitConversionError) as error:
                if unit is not None or not self.is_afw:
                    raise InvalidInputError(
                        f"{self.table.path}: unit {stated!r} of column {source!r} is not a flux density; state "
                        "the unit (nJy, uJy, Jy) in the column map."
                    ) from error
        if self.is_afw:
            return self.version_factor()
        return 1.0

    @property
    def is_afw(self) -> bool:
        """Whether the table is a shard in Rubin's format, or one of ours."""
        return bool({"AFW_TYPE", "REFCAT_FORMAT_VERSION"} & set(self.table.meta))

    def version_factor(self) -> float:
        """Return nJy per unit of the fluxes of a shard whose flux columns state no usable unit."""
        version = int(self.table.meta.get("REFCAT_FORMAT_VERSION", 0))
        if version > 2:
            raise InvalidInputError(
                f"{self.table.path}: REFCAT_FORMAT_VERSION {version} is newer than 2, the newest known; convert "
                "the catalogue or update this package."
            )
        return 1.0 if version >= 1 else _unit_factor("Jy", "nJy")

    def keep(self, names: Iterable[str] | None) -> None:
        """Pass on further columns as they are: those asked for, or all of a shard."""
        if names is not None:
            chosen = [self.check(name, "keep") for name in names]
        elif self.is_afw:
            chosen = self.table.names
        else:
            chosen = []
        used = {rule.target for rule in self.rules} | set(self.sources_of_rules())
        for name in chosen:
            if name not in used and not guess.is_standard_name(name) and "camFlux" not in name:
                self.rules.append(ColumnRule(name, name, "as_is"))

    def sources_of_rules(self) -> list[str]:
        """Columns already used."""
        return [rule.column for rule in self.rules if rule.column is not None]


@lru_cache(maxsize=256)
def _unit_factor(unit: str, to: str) -> float:
    """Return the number of ``to`` in a unit, which may be written in common variants."""
    return float(u.Unit(unit.strip().strip("'\"").replace("year", "yr")).to(to))


def _listing(names: Iterable[str], most: int = 60) -> str:
    """Return names for a message, at most so many."""
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
