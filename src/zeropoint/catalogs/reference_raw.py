"""Columns of a reference table as they are in its file, whole or in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["RawTable", "SkyRange", "arrow_column"]


@dataclass(frozen=True)
class SkyRange:
    """A range of two columns in the columns' own units, which a reader may use to skip rows.

    Parameters
    ----------
    ra_column, dec_column
        Names of the columns.
    ra_ranges
        One or more (lowest, highest) right ascensions; empty for all.
    dec_range
        (lowest, highest) declination.
    """

    ra_column: str
    dec_column: str
    ra_ranges: tuple[tuple[float, float], ...]
    dec_range: tuple[float, float]


@dataclass
class RawTable:
    """Columns as they are in a file.

    Parameters
    ----------
    path
        The file, for messages.
    columns
        One-dimensional arrays by name; any sequence type that numpy can convert.
    units
        Unit string of each column that states one.
    meta
        Header values.
    """

    path: Path
    columns: Mapping[str, Any]
    units: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self.columns)

    def get(self, name: str) -> np.ndarray:
        """Return one column as a native array; masked values of float columns are NaN."""
        values = self.columns[name]
        if isinstance(values, np.ma.MaskedArray):
            values = _unmasked(values)
        values = np.asarray(values)
        if values.dtype.kind == "S":
            return values.astype(str)
        return values.astype(values.dtype.newbyteorder("=")) if not values.dtype.isnative else values

    @property
    def n_rows(self) -> int | None:
        """Number of rows, or None if only reading would tell."""
        return next((len(values) for values in self.columns.values() if values is not None), None)

    def pieces(self, names: Iterable[str], n_rows: int, start: int = 0) -> Iterator[RawTable]:
        """Return the named columns of all rows from ``start`` on, at most ``n_rows`` at a time."""
        names = list(dict.fromkeys(names))
        for first in range(start, len(self.columns[names[0]]), n_rows):
            rows = slice(first, first + n_rows)
            yield RawTable(
                self.path, {name: self.columns[name][rows] for name in names}, self.units, self.meta
            )

    def narrow(self, sky_range: SkyRange, names: Iterable[str]) -> RawTable:
        """Return a table that holds at least the rows of a sky range and the named columns."""
        return self


def _unmasked(values: Any) -> np.ndarray:
    """Return a masked array as a plain one, with NaN where numbers are masked."""
    if values.dtype.kind in "fiu" and np.any(values.mask):
        values = values.astype(np.float64)
        values.fill_value = np.nan
    return np.asarray(values.filled())


def arrow_column(table: Any, name: str) -> np.ndarray:
    """Return a column of an Arrow table or batch as an array.

    Nulls of numbers become NaN, of texts empty; dates are texts.
    """
    import pyarrow as pa

    column = table[name]
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.string())
    if str(column.type).startswith(("string", "large_string", "dictionary")):
        return np.array(["" if value is None else str(value) for value in column.to_pylist()], np.str_)
    return np.asarray(column.to_numpy(zero_copy_only=False))
