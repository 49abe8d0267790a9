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
    meta = {"zeropoint.meta": json.dumps(dict(table.meta), default=str)} if table.meta else None
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=meta))
