"""Stack the tables of a visit's detectors into one, without ever holding more than it and one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from astropy.table import Column, MaskedColumn, Table

from zeropoint.datamodel.arrow import arrow_to_table
from zeropoint.errors import MismatchedTablesError

__all__ = ["StackInput", "stack_tables"]


@dataclass(frozen=True)
class StackInput:
    """A table that can be read.

    Parameters
    ----------
    name
        What it is called in messages, such as "visit 5 detector 3".
    n_rows
        How many rows it has.
    read
        Returns it.
    """

    name: str
    n_rows: int
    read: Callable[[], Table | pa.Table]


def stack_tables(inputs: Sequence[StackInput]) -> Table:
    """Return tables below each other, in their order.

    Parameters
    ----------
    inputs
        Tables of the same columns; each is read once, in order, into memory allocated for all.

    Returns
    -------
    table : astropy.table.Table
        Columns in the order of the first input, with its units and descriptions.  Text is as wide as the widest.

    Raises
    ------
    MismatchedTablesError
        If columns, their dtypes, shapes or units differ between inputs; the message names column and input.
    ValueError
        If there is no input, or one has another number of rows than it said.
    """
    if not inputs:
        raise ValueError("No table to stack.")
    n_rows = sum(each.n_rows for each in inputs)
    columns: dict[str, _StackedColumn] = {}
    first, start = inputs[0], 0
    for each in inputs:
        table = each.read()
        if isinstance(table, pa.Table):
            table = arrow_to_table(table)
        if len(table) != each.n_rows:
            raise ValueError(f"{each.name} has {len(table)} rows, not {each.n_rows}.")
        if each is first:
            columns = {name: _StackedColumn(name, table[name], n_rows, each.name) for name in table.colnames}
        _expect_same_columns(list(columns), table.colnames, first.name, each.name)
        for name, column in columns.items():
            column.put(table[name], start, each.name)
        start += each.n_rows
    return Table([column.column() for column in columns.values()], names=list(columns), copy=False)


def _expect_same_columns(known: Sequence[str], names: Sequence[str], first: str, this: str) -> None:
    """Raise unless both tables have the same columns, in any order."""
    for name in known:
        if name not in names:
            raise MismatchedTablesError(f"{this} has no column {name!r}, which {first} has.")
    for name in names:
        if name not in known:
            raise MismatchedTablesError(f"{this} has a column {name!r}, which {first} has not.")


class _StackedColumn:
    """One column of all tables, filled piece by piece."""

    def __init__(self, name: str, column: Column, n_rows: int, source: str) -> None:
        self._name, self._source, self._n_rows = name, source, n_rows
        self._unit, self._description = column.unit, column.description
        self._values = np.empty((n_rows, *column.shape[1:]), column.dtype)
        self._mask: np.ndarray | None = None

    def put(self, column: Column, start: int, source: str) -> None:
        """Copy one table's values; text may be wider than before."""
        values = np.asarray(column)
        is_text = self._values.dtype.kind == "U" and values.dtype.kind == "U"
        if is_text and values.dtype.itemsize > self._values.dtype.itemsize:
            self._values = self._values.astype(values.dtype)
        for what, here, there in (
            ("type", self._values.dtype if is_text else values.dtype, self._values.dtype),
            ("shape", values.shape[1:], self._values.shape[1:]),
            ("unit", str(column.unit), str(self._unit)),
        ):
            if here != there:
                raise MismatchedTablesError(
                    f"column {self._name!r} has {what} {here} in {source}, but {there} in {self._source}."
                )
        stop = start + len(values)
        self._values[start:stop] = values
        mask = getattr(column, "mask", None)
        if isinstance(mask, np.ndarray) and mask.any():
            if self._mask is None:
                self._mask = np.zeros(self._values.shape, np.bool_)
            self._mask[start:stop] = mask

    def column(self) -> Column:
        """Return the whole column."""
        about = {"unit": self._unit, "description": self._description}
        if self._mask is not None:
            return MaskedColumn(self._values, mask=self._mask, **about)
        return Column(self._values, copy=False, **about)
