"""How tasks read and write tables: only the columns they need, in the form that is fastest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from astropy.table import Table
from lsst.daf.butler import DeferredDatasetHandle
from lsst.pipe.base import InMemoryDatasetHandle, Struct

from zeropoint.datamodel.arrow import arrow_to_table, table_to_arrow

__all__ = ["HandleTable", "column_names", "is_handle", "read_table", "stored"]


def is_handle(value: Any) -> bool:
    """Return whether a value stands for a dataset that is read later."""
    return isinstance(value, (DeferredDatasetHandle, InMemoryDatasetHandle))


class HandleTable:
    """The table behind a handle, as a `zeropoint.association.ColumnReader`: only the columns needed are read.

    Parameters
    ----------
    handle
        Handle of a dataset of tables, of any storage class that can be read as Arrow.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    @property
    def identity(self) -> str | None:
        """What tells the dataset from any other, also from one with other content; None of a table in memory."""
        return str(self._handle.ref.id) if isinstance(self._handle, DeferredDatasetHandle) else None

    @property
    def column_names(self) -> Sequence[str]:
        """Names of its columns."""
        return column_names(self._handle)

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return these columns."""
        # unless told not to, the Butler leaves out what belongs to the table as a whole
        parameters = {"columns": list(columns), "strip_astropy_meta_yaml": False}
        return self._handle.get(parameters=parameters, storageClass="ArrowTable")


def read_table(table: DeferredDatasetHandle | Table, columns: Sequence[str] | None = None) -> Table:
    """Return a table, or the table behind a handle.

    Parameters
    ----------
    table
        Handle of a dataset of tables, of any storage class that can be read as Arrow; or a table.
    columns
        Columns that are read; None: all.
    """
    if isinstance(table, Table):
        return table if columns is None else table[list(columns)]
    parameters: dict[str, Any] = {} if columns is None else {"columns": list(columns)}
    return arrow_to_table(table.get(parameters=parameters, storageClass="ArrowTable"))


def column_names(table: DeferredDatasetHandle | Table) -> list[str]:
    """Return the names of the columns of a table, without reading it."""
    return list(table.colnames) if isinstance(table, Table) else list(table.get(component="columns"))


def stored(struct: Struct) -> Struct:
    """Return the outputs with their tables in the form that is written fastest."""
    values = struct.getDict().items()
    return Struct(
        **{name: table_to_arrow(value) if isinstance(value, Table) else value for name, value in values}
    )
