"""Source tables: the flat table of a detector, and its standardised form.

Measurement writes columns named by plugin (``base_PsfFlux_instFlux``); the standardised form has the names, units and
precisions of the Science Data Model (``psfFlux``, nJy).  ``docs/visit_tables.md`` lists the columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from astropy.table import Column, Table

from zeropoint.catalogs.functor_file import FunctorFile
from zeropoint.errors import InvalidInputError

__all__ = ["TransformedTable", "flat_source_table", "transform_source_table"]

#: Columns of a data id: dtype (None: text as long as the value) and description. Databases dislike unsigned bytes.
_DATA_ID_COLUMNS: Mapping[str, tuple[str, str]] = {
    "visit": ("i8", "visit"),
    "detector": ("i2", "detector"),
    "tract": ("i4", "tract of the sky map"),
    "patch": ("i4", "patch of the tract"),
    "day_obs": ("i8", "day of the observation, YYYYMMDD"),
}


@dataclass(frozen=True)
class TransformedTable:
    """A standardised source table.

    Parameters
    ----------
    table
        One row for each row of the input, in its order.
    left_out
        Optional columns that the input could not supply.
    """

    table: Table
    left_out: tuple[str, ...]


def flat_source_table(table: Table, *, visit: int, detector: int) -> Table:
    """Return the table of a detector's sources with columns ``visit`` (int64) and ``detector`` (int16).

    Parameters
    ----------
    table
        Sources as measurement writes them; columns are shared, not copied.
    visit, detector
        Where they were seen; columns of these names are replaced.
    """
    result = table.copy(copy_data=False)
    for name, value in (("visit", visit), ("detector", detector)):
        result[name] = _constant(name, value, len(table))
    return result


def transform_source_table(
    table: Table,
    functors: FunctorFile,
    *,
    data_id: Mapping[str, int | str],
    columns_from_data_id: Sequence[str] = (),
    primary_key: str | None = None,
) -> TransformedTable:
    """Return the standardised form of a detector's source table.

    Parameters
    ----------
    table
        Sources; only the columns that ``functors`` needs are read.
    functors
        The outputs.
    data_id
        Values of the dimensions.
    columns_from_data_id
        Dimensions that become columns, behind all others.
    primary_key
        Column that comes first; None: as the file has them.

    Raises
    ------
    InvalidInputError
        If an input column or a dimension is missing, the primary key is not among the outputs, or coordinates are not
        in radians.
    """
    usable = functors.available(table.colnames)
    absent = [name for name in columns_from_data_id if name not in data_id]
    if absent:
        raise InvalidInputError(
            f"columnsFromDataId: the data id has no {', '.join(absent)} ({dict(data_id)})."
        )
    twice = [name for name in columns_from_data_id if name in usable.functors]
    if twice:
        raise InvalidInputError(f"columnsFromDataId: {functors.name} makes {', '.join(twice)}, too.")
    names = list(usable.functors)
    if primary_key is not None:
        if primary_key not in usable.functors:
            raise InvalidInputError(f"primaryKey: {functors.name} makes no column {primary_key!r}.")
        names.sort(key=lambda name: name != primary_key)
    result = Table()
    for name in names:
        try:
            result[name] = usable.functors[name](table)
        except InvalidInputError as error:
            raise InvalidInputError(f"{functors.name}, {name}: {error}") from None
    for name in columns_from_data_id:
        result[name] = _constant(name, data_id[name], len(table))
    return TransformedTable(result, tuple(name for name in functors.functors if name not in usable.functors))


def _constant(name: str, value: int | str, n: int) -> Column:
    """Return a column with one value."""
    if isinstance(value, str):
        return Column(np.full(n, value, f"U{max(len(value), 1)}"), description=name.replace("_", " "))
    dtype, description = _DATA_ID_COLUMNS.get(name, ("i8", name))
    limits = np.iinfo(dtype)
    if not limits.min <= value <= limits.max:
        raise InvalidInputError(f"{name} {value} does not fit into a column of type {np.dtype(dtype)}.")
    return Column(np.full(n, value, dtype), description=description)
