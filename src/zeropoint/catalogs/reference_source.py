"""A reference catalogue on disk: a directory of HTM shards, or one table; rows of a circle on the sky."""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zeropoint.catalogs.htm import htm_depth, touches_circle, trixel_vertices
from zeropoint.catalogs.reference_columns import EXAMPLE_MAP, ColumnMap, make_column_map, read_column_map
from zeropoint.catalogs.reference_formats import open_table
from zeropoint.catalogs.reference_manifest import Manifest, read_manifest
from zeropoint.catalogs.reference_raw import RawTable
from zeropoint.catalogs.reference_rows import (
    ReferenceRows,
    check_same_columns,
    describe_coverage,
    standard_positions,
)
from zeropoint.catalogs.reference_tables import ReferenceTables
from zeropoint.errors import InvalidInputError

__all__ = ["ReferenceSource", "Shard", "sky_area_deg2"]

_log = logging.getLogger(__name__)

_SHARD_FILE = re.compile(r"\.(fits?|fits?\.gz|fits?\.fz|parq|parquet)$", re.IGNORECASE)
_NUMBER = re.compile(r"(?:(?<=^)|(?<=[_.\-]))(\d{3,9})(?=[_.\-]|$)")
_DEPTHS = range(3, 13)


class Shard(NamedTuple):
    """One file of a sharded catalogue: the part of the sky in one trixel."""

    folder: Path
    file_name: str
    trixel: int
    depth: int

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / self.file_name


class ReferenceSource(ReferenceRows):
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
    manifest
        Manifest of a catalogue that ``zeropoint references build`` wrote, else None.
    verify
        Compare each shard with its checksum when it is read; False compares only its size.

    Attributes
    ----------
    unused_columns : list of str
        Columns of the first table that are taken for nothing.

    Notes
    -----
    Make one with `open`.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        shards: tuple[Shard, ...],
        column_map: Mapping[str, Any],
        manifest: Manifest | None = None,
        verify: bool = True,
    ) -> None:
        super().__init__(name, path)
        self.shards, self.manifest = shards, manifest
        self._given, self._verify = dict(column_map), verify
        self._entries = {} if manifest is None else {entry.file_name: entry for entry in manifest.shards}
        self._table = None if shards else open_table(path)
        if self._table is not None:
            first, self._map = self._table, make_column_map(self._table, self._given)
        else:
            first, self._map = self.open_shard(shards[0])
        used = set(self._map.sources)
        self.unused_columns = [column for column in first.names if column not in used]
        if shards and self._map.converts_jansky:
            _log.info("%s: the shards' fluxes are in Jy (format version 0) and converted to nJy.", name)

    @classmethod
    def open(
        cls,
        path: str | Path,
        column_map: Mapping[str, Any] | str | Path | None = None,
        name: str | None = None,
        *,
        verify: bool = True,
    ) -> ReferenceSource:
        """Open a reference catalogue.

        Parameters
        ----------
        path
            A directory that ``zeropoint references build`` wrote; a directory of shards whose file names hold an HTM
            trixel index (Rubin's format, any depth), or such a directory and the name of one of several catalogues
            in it; or one table: FITS, parquet, ECSV, CSV or text, perhaps gzipped.
        column_map
            Mapping or YAML file: ``ra``, ``dec``, ``id``, ``epoch``, ``pm_ra``, ``pm_dec`` and their ``_err``
            as a column name or ``{column, unit}``, and ``bands``, a mapping from a band to ``{mag, mag_err,
            offset}`` or ``{flux, flux_err, unit}``.  What it lacks is guessed from the names.  A built catalogue needs
            none, and ignores one.
        name
            Name of the catalogue; also chooses one of several that share a directory.
        verify
            Compare each shard of a built catalogue with its checksum when it is read; False compares only its size.

        Raises
        ------
        InvalidInputError
            If there is no such file, or it is not understood; the message says what to do.
        """
        path = Path(path).expanduser()
        given = read_column_map(column_map)
        if not path.exists():
            stem, shards = _group_named_by(path)
            return cls(name or stem, path.parent, shards=shards, column_map=given)
        manifest = read_manifest(path) if path.is_dir() else None
        if manifest is not None:
            if given:
                _log.info("%s: is a built catalogue; the column map is not applied to it.", path)
            shards = tuple(Shard(path, one.file_name, one.trixel, manifest.depth) for one in manifest.shards)
            return cls(
                name or manifest.name, path, shards=shards, column_map={}, manifest=manifest, verify=verify
            )
        if path.is_dir():
            stem, shards = _choose_group(path, name)
            return cls(name or stem or path.name, path, shards=shards, column_map=given)
        stem = path.name.split(".")[0]
        return cls(name or stem, path, shards=(), column_map=given)

    @property
    def column_map(self) -> ColumnMap:
        """The rules from the first table's columns to the standard ones."""
        return self._map

    def open_shard(self, shard: Shard) -> tuple[RawTable, ColumnMap]:
        """Open one shard; its map is made anew, because units may differ between files."""
        self._require_intact(shard.path)
        table = open_table(shard.path)
        return table, make_column_map(table, self._given)

    def _require_intact(self, path: Path) -> None:
        """Raise if a file of a built catalogue is not what was written."""
        entry = self._entries.get(path.name)
        problem = None if entry is None else entry.check(self.path, content=self._verify)
        if problem is not None:
            raise InvalidInputError(
                f"Reference catalogue {self.name} is damaged: {problem}.  `zeropoint references info {self.path} --verify` "
                "checks all of it; copy or build it again."
            )

    def tables_in(self, ra: float, dec: float, radius: float) -> list[tuple[RawTable, ColumnMap]]:
        """Return the tables that may hold rows of a circle (radians), with their maps."""
        if self._table is not None:
            return [(self._table, self._map)]
        result: list[tuple[RawTable, ColumnMap]] = []
        for shard in self.shards_touching(ra, dec, radius):
            table, mapping = self.open_shard(shard)
            if result:
                check_same_columns(table, mapping, *result[0])
            result.append((table, mapping))
        _log.debug("%d shards of %s touch the region.", len(result), self.name)
        return result

    @property
    def tables(self) -> ReferenceTables:
        """The catalogue's files, to be read from beginning to end."""
        files = [shard.path for shard in self.shards] or [self.path]
        return ReferenceTables(self.name, files, self._given, check=self._require_intact)

    def shards_touching(self, ra: float, dec: float, radius: float) -> list[Shard]:
        """Return the shards whose trixels touch a circle (radians)."""
        result: list[Shard] = []
        for depth in sorted({shard.depth for shard in self.shards}):
            shards = [shard for shard in self.shards if shard.depth == depth]
            touches = touches_circle([shard.trixel for shard in shards], depth, ra, dec, radius)
            result += [shard for shard, yes in zip(shards, touches, strict=True) if yes]
        return result

    def coverage(self, ra: float, dec: float) -> str:
        """Return a sentence on where the catalogue lies and how far that is from a position (radians)."""
        if self.shards:
            centers = np.concatenate([trixel_vertices(s.trixel, s.depth).sum(axis=1) for s in self.shards])
            ras, decs = (
                np.arctan2(centers[:, 1], centers[:, 0]),
                np.arctan2(centers[:, 2], np.hypot(centers[:, 0], centers[:, 1])),
            )
            what = f"{len(self.shards)} shards"
        else:
            assert self._table is not None
            ras, decs = standard_positions(self._table, self._map)
            finite = np.isfinite(ras) & np.isfinite(decs)
            ras, decs = ras[finite], decs[finite]
            what = f"{ras.size} rows"
        return describe_coverage(what, ras, decs, ra, dec)


def sky_area_deg2(shards: Iterable[Shard]) -> float:
    """Return the area of the sky, square degrees, in the trixels of some shards."""
    total = 0.0
    for depth, group in itertools.groupby(sorted(shards, key=lambda one: one.depth), lambda one: one.depth):
        a, b, c = np.moveaxis(trixel_vertices([one.trixel for one in group], depth), 1, 0)
        volume = np.einsum("ni,ni->n", a, np.cross(b, c))
        cosines = (np.einsum("ni,ni->n", *pair) for pair in ((a, b), (b, c), (c, a)))
        total += float(np.sum(2.0 * np.arctan2(volume, 1.0 + sum(cosines))))
    return total * (180.0 / np.pi) ** 2


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
    return rest, Shard(path.parent, path.name, index, htm_depth(index))


def _group_named_by(path: Path) -> tuple[str, tuple[Shard, ...]]:
    """Return the catalogue that the last part of a path names among the shards in the directory before it."""
    groups = _groups(path.parent) if path.parent.is_dir() else {}
    chosen = _named(groups, path.name)
    if len(chosen) > 1:
        raise InvalidInputError(f"{path}: is several catalogues; give one of {_paths(path.parent, chosen)}.")
    if not chosen:
        others = _paths(path.parent, groups)
        raise InvalidInputError(
            f"Reference catalogue {path} does not exist; "
            + (f"there are the shards of {others}." if others else "check the path.")
        )
    return chosen[0], _sorted(groups[chosen[0]])


def _named(groups: Iterable[str], name: str) -> list[str]:
    """Return the catalogues of that name, else those whose names contain it."""
    return [stem for stem in groups if stem == name] or [stem for stem in groups if name in stem]


def _paths(folder: Path, stems: Iterable[str]) -> str:
    """Return what to type for each of some catalogues in a directory."""
    return ", ".join(str(folder / stem) for stem in sorted(stems) if stem)


def _groups(path: Path) -> dict[str, list[Shard]]:
    """Return the shards in a directory by the rest of their file names."""
    groups: dict[str, list[Shard]] = {}
    for file_name in sorted(os.listdir(path)):
        found = _shard_of(path / file_name)
        if found is not None:
            groups.setdefault(found[0], []).append(found[1])
    return groups


def _choose_group(path: Path, name: str | None) -> tuple[str, tuple[Shard, ...]]:
    """Return the stem and the shards of the one catalogue meant in a directory."""
    groups = _groups(path)
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
        chosen = _named(groups, name)
        if len(chosen) == 1:
            return chosen[0], _sorted(groups[chosen[0]])
    if len(groups) > 1 and "" in groups:
        _log.info("%s: only files named by their trixel alone are used.", path)
        return "", _sorted(groups[""])
    if len(groups) > 1:
        raise InvalidInputError(
            f"{path}: holds shards of several catalogues; choose one of {_paths(path, groups)}."
        )
    stem = next(iter(groups))
    return stem, _sorted(groups[stem])


def _sorted(shards: list[Shard]) -> tuple[Shard, ...]:
    return tuple(sorted(shards, key=lambda shard: (shard.depth, shard.trixel)))
