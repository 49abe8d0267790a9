"""A reference catalogue on disk: a directory of HTM shards, or one table; rows of a circle on the sky."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zeropoint.catalogs.htm import htm_depth, touches_circle, trixel_vertices
from zeropoint.catalogs.reference_columns import EXAMPLE_MAP, ColumnMap, make_column_map, read_column_map
from zeropoint.catalogs.reference_formats import RawTable, SkyRange, open_table
from zeropoint.datamodel.wcs import angular_separation
from zeropoint.errors import InvalidInputError

__all__ = ["ReferenceSource", "Shard"]

_log = logging.getLogger(__name__)

_SHARD_FILE = re.compile(r"\.(fits?|fits?\.gz|fits?\.fz|parq|parquet)$", re.IGNORECASE)
_NUMBER = re.compile(r"(?:(?<=^)|(?<=[_.\-]))(\d{3,9})(?=[_.\-]|$)")
_DEPTHS = range(3, 13)

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Shard:
    """One file of a sharded catalogue: the part of the sky in one trixel."""

    path: Path
    index: int
    depth: int


class ReferenceSource:
    """A reference catalogue from which the rows of a circle on the sky are read.

    Parameters
    ----------
    name
        Name of the catalogue, for messages and tables.
    path
        File or directory.
    shards
        The catalogue's shards; empty if it is one table.
    column_map
        Map from the file's columns; what it lacks is guessed.

    Notes
    -----
    Make one with `open`.  The last circle read is kept, so that two steps that need the same objects read them once.
    """

    def __init__(
        self, name: str, path: Path, *, shards: tuple[Shard, ...], column_map: Mapping[str, Any]
    ) -> None:
        self.name = name
        self.path = path
        self.shards = shards
        self._given = dict(column_map)
        self._table = None if shards else open_table(path)
        self._last: tuple[tuple[float, float, float], Columns] | None = None
        first = self._table if self._table is not None else open_table(shards[0].path)
        self._map = make_column_map(first, self._given)
        if shards and self._map.converts_jansky:
            _log.info("%s: the shards' fluxes are in Jy (format version 0) and converted to nJy.", name)

    @classmethod
    def open(
        cls,
        path: str | Path,
        column_map: Mapping[str, Any] | str | Path | None = None,
        name: str | None = None,
    ) -> ReferenceSource:
        """Open a reference catalogue.

        Parameters
        ----------
        path
            A directory of shards whose file names hold an HTM trixel index (Rubin's format, any depth), or one
            table: FITS, parquet, ECSV, CSV or text, perhaps gzipped.
        column_map
            Mapping or YAML file: ``ra``, ``dec``, ``id``, ``epoch``, ``pm_ra``, ``pm_dec`` and their ``_err``
            as a column name or ``{column, unit}``, and ``bands``, a mapping from a band to ``{mag, mag_err,
            offset}`` or ``{flux, flux_err, unit}``.  What it lacks is guessed from the names.
        name
            Name of the catalogue; also chooses one of several that share a directory.

        Raises
        ------
        InvalidInputError
            If there is no such file, or it is not understood; the message says what to do.
        """
        path = Path(path).expanduser()
        given = read_column_map(column_map)
        if not path.exists():
            raise InvalidInputError(f"Reference catalogue {path} does not exist; check the path.")
        if path.is_dir():
            stem, shards = _choose_group(path, name)
            return cls(name or stem or path.name, path, shards=shards, column_map=given)
        stem = path.name.split(".")[0]
        return cls(name or stem, path, shards=(), column_map=given)

    @property
    def bands(self) -> list[str]:
        """Names of the bands with fluxes."""
        return self._map.bands

    @property
    def has_proper_motion(self) -> bool:
        """Whether positions can be moved to another epoch."""
        return self._map.has("pm_ra", "pm_dec", "epoch")

    @property
    def lacks_epoch(self) -> bool:
        """Whether there are proper motions, but no epoch to count them from."""
        return self._map.has("pm_ra", "pm_dec") and not self._map.has("epoch")

    def load_circle(self, ra: float, dec: float, radius: float) -> Columns:
        """Read the rows within a circle.

        Parameters
        ----------
        ra, dec, radius
            Center and radius, radians.

        Returns
        -------
        dict of arrays
            Standard columns (see `zeropoint.catalogs.reference_columns`), rows ordered by shard and file order;
            empty arrays where the catalogue holds nothing.  Do not modify them.

        Raises
        ------
        InvalidInputError
            If a file is not readable or shards differ in their columns.
        """
        key = (ra, dec, radius)
        if self._last is None or self._last[0] != key:
            parts = [
                _read_circle(table, mapping, ra, dec, radius)
                for table, mapping in self._tables_in(ra, dec, radius)
            ]
            self._last = (key, _concatenate(parts, self._map))
        return self._last[1]

    def _tables_in(self, ra: float, dec: float, radius: float) -> list[tuple[RawTable, ColumnMap]]:
        """Return the tables that may hold rows of a circle, with their maps."""
        if self._table is not None:
            return [(self._table, self._map)]
        result: list[tuple[RawTable, ColumnMap]] = []
        for shard in self.shards_touching(ra, dec, radius):
            table = open_table(shard.path)
            mapping = make_column_map(table, self._given)
            if result and set(mapping_targets(mapping)) != set(mapping_targets(result[0][1])):
                raise InvalidInputError(
                    f"{shard.path} and {result[0][0].path} have different columns; shards of one catalogue must "
                    "be written by one ingestion."
                )
            result.append((table, mapping))
        _log.debug("%d shards of %s touch the region.", len(result), self.name)
        return result

    def shards_touching(self, ra: float, dec: float, radius: float) -> list[Shard]:
        """Return the shards whose trixels touch a circle (radians)."""
        result: list[Shard] = []
        for depth in sorted({shard.depth for shard in self.shards}):
            shards = [shard for shard in self.shards if shard.depth == depth]
            touches = touches_circle([shard.index for shard in shards], depth, ra, dec, radius)
            result += [shard for shard, yes in zip(shards, touches, strict=True) if yes]
        return result

    def coverage(self, ra: float, dec: float) -> str:
        """Return a sentence on where the catalogue lies and how far that is from a position (radians)."""
        if self.shards:
            centers = np.concatenate([trixel_vertices(s.index, s.depth).sum(axis=1) for s in self.shards])
            ras, decs = (
                np.arctan2(centers[:, 1], centers[:, 0]),
                np.arctan2(centers[:, 2], np.hypot(centers[:, 0], centers[:, 1])),
            )
            what = f"{len(self.shards)} shards"
        else:
            assert self._table is not None
            ras, decs = (
                self._map.rule(f"coord_{axis}").apply(self._table.get(source), 0, {})
                for axis, source in zip(("ra", "dec"), self._map.sources[:2], strict=True)
            )
            finite = np.isfinite(ras) & np.isfinite(decs)
            ras, decs = ras[finite], decs[finite]
            what = f"{ras.size} rows"
        if not ras.size:
            return "the catalogue is empty"
        distance = angular_separation(ras, decs, ra, dec)
        k = int(np.argmin(distance))
        return (
            f"the catalogue has {what}, the nearest at RA {np.rad2deg(ras[k]) % 360.0:.4f} Dec "
            f"{np.rad2deg(decs[k]):+.4f}, {np.rad2deg(distance[k]):.3g} degrees away"
        )


def mapping_targets(mapping: ColumnMap) -> list[str]:
    """Return the standard columns of a map."""
    return [rule.target for rule in mapping.rules]


# -- shards ---------------------------------------------------------------------------------------------


def _shard_of(path: Path) -> tuple[str, Shard] | None:
    """Return (rest of the file name, shard) of a file whose name holds a trixel index, else None."""
    ending = _SHARD_FILE.search(path.name)
    if ending is None:
        return None
    stem = path.name[: ending.start()]
    numbers = [match for match in _NUMBER.finditer(stem) if htm_depth(int(match[1])) in _DEPTHS]
    if not numbers:
        return None
    usual = [match for match in numbers if htm_depth(int(match[1])) == 7]
    match = (usual or numbers)[-1]
    rest = (stem[: match.start()] + stem[match.end() :]).strip("_.-")
    index = int(match[1])
    return rest, Shard(path, index, htm_depth(index))


def _choose_group(path: Path, name: str | None) -> tuple[str, tuple[Shard, ...]]:
    """Return the stem and the shards of the one catalogue meant in a directory."""
    groups: dict[str, list[Shard]] = {}
    for file_name in sorted(os.listdir(path)):
        found = _shard_of(path / file_name)
        if found is not None:
            groups.setdefault(found[0], []).append(found[1])
    if not groups:
        below = [d.name for d in sorted(path.iterdir()) if d.is_dir()]
        hint = (
            f"  It holds the directories {', '.join(below[:10])}: did you mean one of them?" if below else ""
        )
        raise InvalidInputError(
            f"{path}: holds no files named by HTM trixel (such as 189584.fits); give a directory of shards, or "
            f"one table with a column map such as {EXAMPLE_MAP}.{hint}"
        )
    if len(groups) > 1 and name is not None:
        chosen = [stem for stem in groups if name in stem]
        if len(chosen) == 1:
            return chosen[0], _sorted(groups[chosen[0]])
    if len(groups) > 1 and "" in groups:
        _log.info("%s: only files named by their trixel alone are used.", path)
        return "", _sorted(groups[""])
    if len(groups) > 1:
        raise InvalidInputError(
            f"{path}: holds shards of several catalogues ({', '.join(sorted(groups))}); choose one by its name."
        )
    stem = next(iter(groups))
    return stem, _sorted(groups[stem])


def _sorted(shards: list[Shard]) -> tuple[Shard, ...]:
    return tuple(sorted(shards, key=lambda shard: (shard.depth, shard.index)))


# -- rows -----------------------------------------------------------------------------------------------


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
    ras = ra_rule.apply(table.get(ra_rule.column), 0, {})
    decs = dec_rule.apply(table.get(dec_rule.column), 0, {})
    _check_positions(table, ra_rule.column, dec_rule.column, decs)
    near = np.flatnonzero((decs >= dec_range[0]) & (decs <= dec_range[1]) & np.isfinite(ras))
    rows = near[angular_separation(ras[near], decs[near], ra, dec) <= radius]
    done: Columns = {"coord_ra": np.mod(ras[rows], 2.0 * np.pi), "coord_dec": decs[rows]}
    for rule in mapping.rules[2:]:
        values = None if rule.column is None else table.get(rule.column)[rows]
        done[rule.target] = rule.apply(values, rows.size, done)
    return done


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


def _check_positions(table: RawTable, ra_column: str, dec_column: str, decs: np.ndarray) -> None:
    """Raise if declinations are impossible, which tells a wrong unit."""
    worst = float(np.nanmax(np.abs(decs), initial=0.0))
    if worst > 0.5 * np.pi + 1e-6:
        raise InvalidInputError(
            f"{table.path}: column {dec_column!r} reaches a declination of {np.rad2deg(worst):.4g} degrees; state "
            f"the units in the column map, for instance dec: {{column: {dec_column}, unit: deg}} (and ra: "
            f"{{column: {ra_column}, unit: deg}})."
        )


def _concatenate(parts: list[Columns], mapping: ColumnMap) -> Columns:
    """Return the parts one behind the other; without parts, empty columns."""
    if not parts:
        return {target: np.zeros(0) for target in mapping_targets(mapping)}
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
