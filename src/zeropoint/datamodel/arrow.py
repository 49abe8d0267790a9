"""Astropy tables as Arrow tables that keep units and descriptions."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
from astropy.table import Table

__all__ = ["table_to_arrow"]


def table_to_arrow(table: Table) -> pa.Table:
    """Return an Arrow table; unit and description of each column are field metadata.

    Parameters
    ----------
    table
        Columns of plain dtypes; two-dimensional ones become fixed-size lists.

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
        elif values.dtype.kind in "SU":
            array = pa.array([str(v) for v in values.astype(str)])
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


def _metadata(table: Table) -> dict[str, str]:
    """Return the metadata of the table as a whole."""
    metadata = {"lsst::arrow::rowcount": str(len(table))}
    header = ["datatype:"]
    for name in table.colnames:
        column = table[name]
        entry = {"name": name, "datatype": column.dtype.name}
        if column.dtype.kind in "SU":
            length = column.dtype.itemsize // (4 if column.dtype.kind == "U" else 1)
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
