"""Tables of one reference catalogue, read one after another in pieces of standard columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from zeropoint.catalogs.reference_columns import ColumnMap, make_column_map, read_column_map
from zeropoint.catalogs.reference_formats import is_table, open_table
from zeropoint.catalogs.reference_raw import RawTable
from zeropoint.catalogs.reference_rows import (
    Columns,
    check_same_columns,
    standard_columns,
    standard_positions,
)
from zeropoint.errors import InvalidInputError

__all__ = ["Piece", "Place", "ReferenceTables", "find_tables"]

#: A place between rows: number of the file, and how many of its rows lie before.
Place = tuple[int, int]


@dataclass(frozen=True)
class Piece:
    """Some rows of a catalogue.

    Parameters
    ----------
    columns
        Standard columns; positions that are not finite stay in.
    end
        The place behind the last row.
    """

    columns: Columns
    end: Place


class ReferenceTables:
    """Tables that together are one reference catalogue, each of any size.

    Parameters
    ----------
    name
        Name of the catalogue.
    files
        The tables, of any format, all of which give the same standard columns.
    column_map
        Map from the files' columns, as for `ReferenceSource.open`.
    check
        Called with each file before it is read.

    Attributes
    ----------
    column_map : ColumnMap
        Rules from the first table's columns to the standard ones.
    units : dict
        Units that the first table states, by its own column names.

    Raises
    ------
    InvalidInputError
        If the first table cannot be read or understood.
    """

    def __init__(
        self,
        name: str,
        files: Iterable[Path],
        column_map: Mapping[str, Any] | None = None,
        *,
        check: Callable[[Path], object] | None = None,
    ) -> None:
        self.name, self.files, self._check = name, tuple(files), check
        self._given = read_column_map(column_map)
        first = open_table(self.files[0])
        self.column_map: ColumnMap = make_column_map(first, self._given)
        self.units = dict(first.units)

    @property
    def bands(self) -> list[str]:
        """Names of the bands with fluxes."""
        return self.column_map.bands

    @property
    def has_proper_motion(self) -> bool:
        """Whether positions can be moved to another epoch."""
        return self.column_map.has("pm_ra", "pm_dec", "epoch")

    def open_file(self, path: Path) -> tuple[RawTable, ColumnMap]:
        """Open one table; its map is made anew, because units may differ between files."""
        if self._check is not None:
            self._check(path)
        table = open_table(path)
        return table, make_column_map(table, self._given)

    def count_rows(self) -> int | None:
        """Return the number of rows of all files, or None if only reading would tell."""
        total = 0
        for path in self.files:
            n_rows = open_table(path).n_rows
            if n_rows is None:
                return None
            total += n_rows
        return total

    def pieces(self, n_rows: int, start: Place = (0, 0)) -> Iterator[Piece]:
        """Read the whole catalogue from a place on, at most ``n_rows`` at a time, in the order of the files."""
        first: tuple[RawTable, ColumnMap] | None = None
        for number in range(start[0], len(self.files)):
            table, mapping = self.open_file(self.files[number])
            first = first or (table, mapping)
            check_same_columns(table, mapping, *first)
            done = start[1] if number == start[0] else 0
            for part in table.pieces(mapping.sources, n_rows, done):
                ras, decs = standard_positions(part, mapping)
                columns = standard_columns(part, mapping, ras, decs, np.arange(ras.size))
                done += ras.size
                yield Piece(columns, (number, done))


def find_tables(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Return the tables that paths name: files as they are, and all tables in directories, sorted.

    Raises
    ------
    InvalidInputError
        If a path does not exist, a directory holds no table, or a table is named twice.
    """
    files: list[Path] = []
    for path in paths:
        path = path.expanduser()
        if not path.exists():
            raise InvalidInputError(f"{path} does not exist; check the path.")
        if not path.is_dir():
            files.append(path.absolute())
            continue
        inside = [one.absolute() for one in path.rglob("*") if one.is_file() and is_table(one)]
        if not inside:
            raise InvalidInputError(
                f"{path}: holds no table (FITS, parquet, CSV, ECSV or VOTable, by the ending of its name)."
            )
        files += inside
    files.sort()
    for one, other in pairwise(files):
        if one == other:
            raise InvalidInputError(f"{one} is given twice; its rows would be counted twice.")
    if not files:
        raise InvalidInputError("No table was given.")
    return tuple(files)
