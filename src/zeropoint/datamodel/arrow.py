"""Astropy tables as Arrow tables that keep units and descriptions, and back."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.table import Column, MaskedColumn, Table

__all__ = ["arrow_to_table", "read_columns", "table_to_arrow", "write_long_rows"]


def table_to_arrow(table: Table) -> pa.Table:
    """Return an Arrow table; unit and description of each column are field metadata.

    Parameters
    ----------
    table
        Columns of plain dtypes; two-dimensional ones become fixed-size lists, columns of objects text.

    Notes
    -----
    The metadata are those that the Butler writes, with which it and astropy give the same table back.  The
    Butler's own conversion takes 0.3 s for 250 columns and grows with their square; this takes milliseconds.
    """
    fields, arrays = [], []
    for name in table.colnames:
        column = table[name]
        values = np.ascontiguousarray(np.asarray(column))
        if values.dtype.byteorder not in ("=", "|", "<"):
            values = values.astype(values.dtype.newbyteorder("="))
        if values.ndim == 2:
            array = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        elif values.dtype.kind == "O":
            array = pa.array([str(v) for v in values], pa.string())
        elif values.dtype.kind in "SU":
            array = pa.array(values.astype(str), pa.string())
        else:
            mask = np.asarray(column.mask) if hasattr(column, "mask") else None
            array = pa.array(values, mask=mask if mask is not None and mask.any() else None)
        metadata = {}
        if column.unit is not None:
            metadata["unit"] = str(column.unit)
        if column.description:
            metadata["description"] = str(column.description)
        fields.append(pa.field(name, array.type, metadata=metadata or None))
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=_metadata(table)))


def arrow_to_table(arrow: pa.Table, *, long_text: Collection[str] = ()) -> Table:
    """Return the astropy table of an Arrow table as `table_to_arrow`, the Butler or astropy wrote it.

    Parameters
    ----------
    arrow
        Columns of plain types and fixed-size lists; columns with nulls become masked.
    long_text
        Columns of text that become Python strings (dtype object) instead of arrays as wide as the longest.
    """
    names = list(arrow.column_names)
    metadata = arrow.schema.metadata or {}
    columns = []
    for name in names:
        length = metadata.get(f"lsst::arrow::len::{name}".encode(), b"").decode()
        columns.append(
            _column(arrow.field(name), arrow.column(name), "O" if name in long_text else f"U{length}")
        )
    table = Table(columns, names=names)
    header = metadata.get(b"table_meta_yaml")
    if header is not None:
        table.meta.update(_table_meta(header.decode()))
    return table


def read_columns(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a parquet file of long rows: memory is that of what is read.

    Parameters
    ----------
    path
        File.
    columns
        Some of its columns; None: all.

    Raises
    ------
    ValueError
        If there is no such column.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, pre_buffer=False) as file:
        missing = sorted(set(columns or ()) - set(file.schema_arrow.names))
        if missing:
            raise ValueError(f"{path}: has no column {', '.join(missing)}.")
        return file.read(columns=columns)


def write_long_rows(table: pa.Table, path: str | Path) -> None:
    """Write a parquet file of rows that are hundreds of megabytes long, one row at a time.

    Parameters
    ----------
    table
        Rows.
    path
        File.

    Notes
    -----
    Numbers that hardly repeat gain nothing from dictionaries, and little from compression; both take memory.
    """
    import pyarrow.parquet as pq

    pq.write_table(table, path, row_group_size=1, compression="none", use_dictionary=False)


def _table_meta(header: str) -> dict[str, Any]:
    """Return the metadata of the table as a whole from astropy's header, which is YAML.

    The header says again what fields say of hundreds of columns, and takes most of the time of reading a short table:
    where it is in blocks, as all writers write it, its lines before ``meta`` are passed over.
    """
    from astropy.table.meta import get_header_from_yaml

    lines = header.split("\n")
    if lines[0].startswith("datatype:"):
        begin = next((k for k, line in enumerate(lines) if line.startswith("meta:")), None)
        if begin is None:
            return {}
        # what is named there may be referred to here
        if not any("&" in line for line in lines[:begin]):
            lines = lines[begin:]
    return dict(get_header_from_yaml(lines).get("meta", {}))


def _column(field: pa.Field, chunked: pa.ChunkedArray, text_dtype: str) -> Column:
    about = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
        values: Any = np.array([value or "" for value in chunked.to_pylist()], text_dtype)
    elif pa.types.is_fixed_size_list(field.type):
        flat = chunked.combine_chunks()
        values = flat.flatten().to_numpy(zero_copy_only=False).reshape(len(flat), field.type.list_size)
    elif chunked.null_count:
        mask = chunked.is_null().to_numpy()
        filled = chunked.fill_null(False if pa.types.is_boolean(field.type) else 0).to_numpy()
        return MaskedColumn(
            filled, mask=mask, unit=about.get("unit"), description=about.get("description") or None
        )
    else:
        values = chunked.to_numpy()
    return Column(values, unit=about.get("unit"), description=about.get("description") or None)


def _text_length(column: Column) -> int:
    """Return how many characters the longest text of a column may have."""
    if column.dtype.kind == "O":
        return max((len(str(value)) for value in column), default=1) or 1
    return int(column.dtype.itemsize // (4 if column.dtype.kind == "U" else 1))


def _metadata(table: Table) -> dict[str, str]:
    """Return the metadata of the table as a whole."""
    metadata = {"lsst::arrow::rowcount": str(len(table))}
    header = ["datatype:"]
    for name in table.colnames:
        column = table[name]
        entry = {"name": name, "datatype": column.dtype.name}
        if column.dtype.kind in "OSU":
            length = _text_length(column)
            metadata[f"lsst::arrow::len::{name}"] = metadata[f"table::len::{name}"] = str(length)
            entry["datatype"] = "string"
        if column.ndim == 2:
            entry |= {"datatype": "string", "subtype": f"{column.dtype.name}[{column.shape[1]}]"}
        if column.unit is not None:
            entry["unit"] = str(column.unit)
        if column.description:
            entry["description"] = str(column.description)
        # a JSON object is a YAML mapping
        header.append(f"- {json.dumps(entry)}")
    if table.meta:
        header.append(f"meta: {json.dumps(dict(table.meta), default=str)}")
    return {**metadata, "table_meta_yaml": "\n".join(header)}
