"""Tables of which a few columns are read: in memory, or on disk behind a reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from astropy.table import Table

from zeropoint.datamodel.catalog import column
from zeropoint.errors import InvalidInputError

__all__ = ["AnyTable", "ColumnReader", "integer_column", "read_columns", "text_codes"]


@runtime_checkable
class ColumnReader(Protocol):
    """A table on disk, of which only what is asked for is read."""

    @property
    def column_names(self) -> Sequence[str]:
        """Names of its columns."""

    def read(self, columns: Sequence[str]) -> Table | pa.Table:
        """Return these columns."""


#: An astropy `~astropy.table.Table`, an Arrow table, or a `ColumnReader`.
type AnyTable = Table | pa.Table | ColumnReader


def read_columns(table: AnyTable, names: Iterable[str], origin: str) -> Table | pa.Table:
    """Return a table that has the columns asked for.

    Parameters
    ----------
    table
        Table or reader; a reader reads these columns only, a table is returned as it is.
    names
        Columns needed.
    origin
        What the table is, for messages: "The source table of visit 7".

    Raises
    ------
    InvalidInputError
        If a column is missing; the message names the table, all such columns, and what the table has.
    """
    has = list(table.colnames if isinstance(table, Table) else table.column_names)
    wanted = list(dict.fromkeys(names))
    missing = [name for name in wanted if name not in has]
    if missing:
        shown = ", ".join(has[:12]) + (", ..." if len(has) > 12 else "")
        raise InvalidInputError(
            f"{origin} has no column {', '.join(missing)}; it has {shown or 'no columns'}."
        )
    if isinstance(table, (Table, pa.Table)):
        return table
    return table.read(wanted)


def integer_column(table: Any, name: str, dtype: type[np.integer], origin: str) -> np.ndarray:
    """Return a column of whole numbers in an integer dtype.

    Raises
    ------
    InvalidInputError
        If values are missing, not integers, or too large for the dtype.
    """
    values = column(table, name)
    if values.dtype.kind not in "iu":
        if len(values) == 0:
            return np.zeros(0, dtype)
        raise InvalidInputError(
            f"{origin}: column {name} must hold integers without gaps, but it reads as {values.dtype}."
        )
    limits = np.iinfo(dtype)
    if len(values) and (values.min() < limits.min or values.max() > limits.max):
        raise InvalidInputError(
            f"{origin}: column {name} reaches from {values.min()} to {values.max()}, beyond {limits.dtype}."
        )
    return values.astype(dtype)


def text_codes(table: Any, name: str, origin: str) -> tuple[list[str], np.ndarray]:
    """Return the different values of a column of text, and for each row which it has.

    Raises
    ------
    InvalidInputError
        If the column does not hold text, or some of it is missing.
    """
    if isinstance(table, pa.Table):
        values = table[name]
    else:
        plain = column(table, name)
        values = pa.chunked_array([pa.array(plain.astype(np.str_) if plain.dtype.kind == "S" else plain)])
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if len(values) == 0:
        return [], np.zeros(0, np.int32)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)) or values.null_count:
        what = "has gaps" if values.null_count else f"reads as {kind}"
        raise InvalidInputError(f"{origin}: column {name} must hold text, but it {what}.")
    coded = values.unify_dictionaries() if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    whole = coded.combine_chunks()
    return [str(word) for word in whole.dictionary.to_pylist()], whole.indices.to_numpy(zero_copy_only=False)
