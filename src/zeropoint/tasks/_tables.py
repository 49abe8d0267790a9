"""How tasks read tables: only the columns they need, in the form that is read fastest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from astropy.table import Table
from lsst.daf.butler import DeferredDatasetHandle

from zeropoint.datamodel.arrow import arrow_to_table

__all__ = ["column_names", "read_table"]


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
