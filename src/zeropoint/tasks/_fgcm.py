"""What the tasks of the global calibration have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zeropoint.association.tables import AnyTable
from zeropoint.fgcm.lut import LookUpTable
from zeropoint.fgcm.references import References
from zeropoint.tasks._references import survey_references
from zeropoint.tasks._tables import HandleTable, is_handle

__all__ = ["handle_table", "reference_input"]


def handle_table(table: Any) -> AnyTable:
    """Return a table, or what reads the columns of the table behind a handle."""
    return HandleTable(table) if is_handle(table) else table


def reference_input(name: str, shards: Sequence[Any], look_up_table: Any) -> References:
    """Return where the reference stars of a survey come from.

    Parameters
    ----------
    name
        Dataset type of the reference catalogue.
    shards
        Its shards, deferred.
    look_up_table : handle or zeropoint.fgcm.lut.LookUpTable
        Of a handle's table the header is read alone.

    Raises
    ------
    NoReferenceSourcesError
        If there is no shard.
    """
    if is_handle(look_up_table):
        header = HandleTable(look_up_table)
        columns = [column for column in header.column_names if column != "lut"]
        look_up_table = LookUpTable.from_arrow(header.read(columns))
    return References(survey_references(name, shards), name, look_up_table)
