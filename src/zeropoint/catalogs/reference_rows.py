"""The rows of a circle on the sky in standard columns and a canonical order, whatever the catalogue is kept in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from zeropoint.catalogs.reference_columns import ColumnMap, ColumnRule
from zeropoint.catalogs.reference_covariances import COVARIANCES, ERRORS, covariance_unit
from zeropoint.catalogs.reference_raw import RawTable, SkyRange
from zeropoint.datamodel.wcs import angular_separation
from zeropoint.errors import InvalidInputError

__all__ = [
    "Columns",
    "ReferenceRows",
    "canonical_order",
    "check_same_columns",
    "describe_coverage",
    "standard_columns",
    "standard_positions",
    "standard_unit",
]

#: Arrays of equal length by the name of the standard column.
Columns = dict[str, np.ndarray]

_UNITS = {
    "coord_ra": "rad", "coord_dec": "rad", "coord_raErr": "rad", "coord_decErr": "rad",
    "pm_ra": "rad / yr", "pm_dec": "rad / yr", "pm_raErr": "rad / yr", "pm_decErr": "rad / yr",
    "parallax": "rad", "parallaxErr": "rad", "epoch": "d", "centroid_x": "pix", "centroid_y": "pix",
} | {name: covariance_unit(name) for name in COVARIANCES}  # fmt: skip


class ReferenceRows(ABC):
    """A reference catalogue from which the rows of a circle on the sky are read.

    Parameters
    ----------
    name
        Name of the catalogue, for messages and tables.
    path
        Where it is, for messages.

    Notes
    -----
    The last circle read is kept, so that two steps that need the same objects read them once.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self._last: tuple[tuple[float, float, float], Columns] | None = None

    @property
    @abstractmethod
    def column_map(self) -> ColumnMap:
        """The rules from the first table's columns to the standard ones."""

    @abstractmethod
    def tables_in(self, ra: float, dec: float, radius: float) -> list[tuple[RawTable, ColumnMap]]:
        """Return the tables that may hold rows of a circle (radians), with their maps."""

    @abstractmethod
    def coverage(self, ra: float, dec: float) -> str:
        """Return a sentence on where the catalogue lies and how far that is from a position (radians)."""

    @property
    def bands(self) -> list[str]:
        """Names of the bands with fluxes."""
        return self.column_map.bands

    @property
    def has_proper_motion(self) -> bool:
        """Whether positions can be moved to another epoch."""
        return self.column_map.has("pm_ra", "pm_dec", "epoch")

    @property
    def lacks_epoch(self) -> bool:
        """Whether there are proper motions, but no epoch to count them from."""
        return self.column_map.has("pm_ra", "pm_dec") and not self.column_map.has("epoch")

    def load_circle(self, ra: float, dec: float, radius: float) -> Columns:
        """Read the rows within a circle.

        Parameters
        ----------
        ra, dec, radius
            Center and radius, radians.

        Returns
        -------
        dict of arrays
            Standard columns (see `zeropoint.catalogs.reference_columns`), rows in `canonical_order`; empty
            arrays where the catalogue holds nothing.  Do not modify them.

        Raises
        ------
        InvalidInputError
            If a file is not readable or shards differ in their columns.
        """
        key = (ra, dec, radius)
        if self._last is None or self._last[0] != key:
            parts = [
                _read_circle(table, mapping, ra, dec, radius)
                for table, mapping in self.tables_in(ra, dec, radius)
            ]
            columns = _concatenate(parts, self.column_map)
            order = canonical_order(columns)
            self._last = (key, {name: values[order] for name, values in columns.items()})
        return self._last[1]


def check_same_columns(
    table: RawTable, mapping: ColumnMap, first: RawTable, first_mapping: ColumnMap
) -> None:
    """Raise if two files of a catalogue give different standard columns."""
    ours, theirs = set(mapping.targets), set(first_mapping.targets)
    if ours != theirs:
        only = [
            f"only {path.name} has {', '.join(sorted(names))}"
            for path, names in ((table.path, ours - theirs), (first.path, theirs - ours))
            if names
        ]
        raise InvalidInputError(
            f"{table.path} and {first.path} have different columns, but files of one catalogue must have the same: "
            f"{'; '.join(only)}.  A column map can leave columns out (NAME: null)."
        )


def standard_positions(table: RawTable, mapping: ColumnMap) -> tuple[np.ndarray, np.ndarray]:
    """Return right ascension, in [0, 2 pi), and declination of all rows of a table, radians.

    Raises
    ------
    InvalidInputError
        If declinations are impossible, which tells a wrong unit.
    """
    ra_rule, dec_rule = mapping.rule("coord_ra"), mapping.rule("coord_dec")
    assert ra_rule.column is not None
    assert dec_rule.column is not None
    ras = np.mod(ra_rule.apply(table.get(ra_rule.column), 0, {}), 2.0 * np.pi)
    ras[ras >= 2.0 * np.pi] = 0.0  # the remainder of a tiny negative number is rounded up
    decs = dec_rule.apply(table.get(dec_rule.column), 0, {})
    worst = float(np.nanmax(np.abs(decs), initial=0.0))
    if worst > 0.5 * np.pi + 1e-6:
        raise InvalidInputError(
            f"{table.path}: column {dec_rule.column!r} reaches a declination of {np.rad2deg(worst):.4g} degrees; "
            f"state the units in the column map, for instance dec: {{column: {dec_rule.column}, unit: deg}} (and "
            f"ra: {{column: {ra_rule.column}, unit: deg}})."
        )
    return ras, decs


def standard_columns(
    table: RawTable, mapping: ColumnMap, ras: np.ndarray, decs: np.ndarray, rows: np.ndarray
) -> Columns:
    """Return the standard columns of some rows of a table.

    Parameters
    ----------
    table, mapping
        The table and its map.
    ras, decs
        `standard_positions` of the table.
    rows
        Row numbers.

    Raises
    ------
    InvalidInputError
        If a column cannot be what the map says, or errors are negative.
    """
    done: Columns = {"coord_ra": ras[rows], "coord_dec": decs[rows]}
    for rule in mapping.rules[2:]:
        values = None if rule.column is None else table.get(rule.column)[rows]
        try:
            done[rule.target] = rule.apply(values, rows.size, done)
        except ValueError as error:
            raise InvalidInputError(
                f"{table.path}: column {rule.column!r} cannot be read as numbers for {rule.target} ({error}); name "
                "another column in the column map."
            ) from error
        if rule.target in ERRORS:
            _check_errors(table.path, rule, done[rule.target], values)
    return done


def _check_errors(path: Path, rule: ColumnRule, errors: np.ndarray, values: np.ndarray | None) -> None:
    """Raise if errors are negative."""
    negative = np.flatnonzero(errors < 0.0)
    if negative.size:
        key = rule.target.removeprefix("coord_").replace("Err", "_err")
        worst = "" if values is None else f" (for instance {values[negative[0]]})"
        raise InvalidInputError(
            f"{path}: {negative.size} of {errors.size} values of column {rule.column!r} (as {rule.target}) are "
            f'negative{worst}, which errors cannot be.  If such a value means "unknown", say so in the column map, '
            f"{key}: {{column: {rule.column}, invalid: VALUE}}; or leave the column out with {key}: null."
        )


def standard_unit(name: str) -> str | None:
    """Return the unit of a standard column."""
    return "nJy" if name.endswith(("_flux", "_fluxErr")) else _UNITS.get(name)


def canonical_order(columns: Columns) -> np.ndarray:
    """Return the row numbers by declination, right ascension, id, and then the other columns.

    The order depends on the rows alone, not on the files or shards they come from.
    """
    keys = [columns[name] for name in ("id", "coord_ra", "coord_dec") if name in columns]
    order = np.lexsort(keys)
    sorted_keys = [key[order] for key in keys]
    if order.size and np.any(np.all([key[1:] == key[:-1] for key in sorted_keys], axis=0)):
        order = np.lexsort([*(columns[name] for name in sorted(columns)), *keys])
    return np.asarray(order)


def describe_coverage(what: str, ras: np.ndarray, decs: np.ndarray, ra: float, dec: float) -> str:
    """Return a sentence on how far the nearest of some positions is from another (all radians)."""
    if not ras.size:
        return "the catalogue is empty"
    distance = angular_separation(ras, decs, ra, dec)
    k = int(np.argmin(distance))
    return (
        f"the catalogue has {what}, the nearest at RA {np.rad2deg(ras[k]) % 360.0:.4f} Dec "
        f"{np.rad2deg(decs[k]):+.4f}, {np.rad2deg(distance[k]):.3g} degrees away"
    )


def _read_circle(table: RawTable, mapping: ColumnMap, ra: float, dec: float, radius: float) -> Columns:
    """Return the standard columns of the rows of one table that lie in a circle."""
    ra_rule, dec_rule = mapping.rule("coord_ra"), mapping.rule("coord_dec")
    assert ra_rule.column is not None
    assert dec_rule.column is not None
    ra_ranges, dec_range = _circle_bounds(ra, dec, radius)
    sky_range = SkyRange(
        ra_rule.column,
        dec_rule.column,
        tuple((low / ra_rule.factor, high / ra_rule.factor) for low, high in ra_ranges),
        (dec_range[0] / dec_rule.factor, dec_range[1] / dec_rule.factor),
    )
    table = table.narrow(sky_range, mapping.sources)
    ras, decs = standard_positions(table, mapping)
    near = np.flatnonzero((decs >= dec_range[0]) & (decs <= dec_range[1]) & np.isfinite(ras))
    rows = near[angular_separation(ras[near], decs[near], ra, dec) <= radius]
    return standard_columns(table, mapping, ras, decs, rows)


def _circle_bounds(
    ra: float, dec: float, radius: float
) -> tuple[tuple[tuple[float, float], ...], tuple[float, float]]:
    """Return the right-ascension ranges (none: all) and the declination range of a circle, radians.

    The ranges are repeated a turn lower and higher, for catalogues that count right ascension differently.
    """
    slack = 1e-9
    dec_range = (dec - radius - slack, dec + radius + slack)
    if abs(dec) + radius >= 0.5 * np.pi - 1e-6:
        return (), dec_range
    half = float(np.arcsin(np.sin(radius) / np.cos(dec))) + slack
    turns = (-2.0 * np.pi, 0.0, 2.0 * np.pi)
    return tuple((ra - half + turn, ra + half + turn) for turn in turns), dec_range


def _concatenate(parts: list[Columns], mapping: ColumnMap) -> Columns:
    """Return the parts one behind the other; without parts, empty columns."""
    if not parts:
        return {target: np.zeros(0) for target in mapping.targets}
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
