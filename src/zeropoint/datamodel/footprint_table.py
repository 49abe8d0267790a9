"""Footprints of a catalogue as one Arrow table with list columns: what is stored beside the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from zeropoint.datamodel.catalog import SourceCatalog
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.errors import InvalidInputError

__all__ = ["FOOTPRINT_SCHEMA", "SourceFootprints", "footprint_table", "footprints_from_table"]


def _list_of(name: str, kind: pa.DataType, unit: str, description: str) -> pa.Field:
    metadata = {"description": description} | ({"unit": unit} if unit else {})
    return pa.field(name, pa.list_(pa.field("item", kind, nullable=False)), False, metadata)


#: Columns of a footprint table; one row a source.
FOOTPRINT_SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), False, {"description": "id of the source"}),
        _list_of(
            "span_y", pa.int32(), "pix", "row of each run of pixels, sorted by row, then by first column"
        ),
        _list_of("span_x0", pa.int32(), "pix", "first column of each run"),
        _list_of("span_x1", pa.int32(), "pix", "last column of each run (inclusive)"),
        _list_of("peak_x", pa.int32(), "pix", "column of each peak, the brightest first"),
        _list_of("peak_y", pa.int32(), "pix", "row of each peak"),
        _list_of("peak_value", pa.float32(), "electron", "value of the smoothed image at each peak"),
        _list_of("peak_significance", pa.float32(), "", "peak value over its standard deviation"),
        _list_of(
            "values",
            pa.float32(),
            "electron",
            "pixel values of a deblended child in the order of its runs; empty for other sources",
        ),
    ]
)

_SPANS, _PEAKS = ("span_y", "span_x0", "span_x1"), ("peak_x", "peak_y", "peak_value", "peak_significance")


@dataclass(frozen=True)
class SourceFootprints:
    """The footprints of a catalogue's rows.

    Parameters
    ----------
    ids : int64, shape (n,)
        Row ids.
    footprints
        One footprint a row.
    """

    ids: np.ndarray
    footprints: FootprintSet

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, catalog: SourceCatalog) -> SourceFootprints:
        """Return the footprints of a catalogue that has them."""
        assert catalog.footprints is not None
        return cls(catalog["id"].copy(), catalog.footprints)

    def table(self, metadata: Mapping[str, Any] | None = None) -> pa.Table:
        """Return the Arrow table, as `footprint_table` does."""
        return footprint_table(self.ids, self.footprints, metadata)


def footprint_table(
    ids: np.ndarray, footprints: FootprintSet, metadata: Mapping[str, Any] | None = None
) -> pa.Table:
    """Return footprints as an Arrow table with the columns of `FOOTPRINT_SCHEMA`.

    Parameters
    ----------
    ids : int64, shape (n,)
        Row ids of the catalogue.
    footprints
        One footprint a row.
    metadata
        Scalars for the table's own metadata (such as `zeropoint.errors.failure_keys`), stored as text.

    Raises
    ------
    ValueError
        If the lengths differ.
    """
    if len(ids) != len(footprints):
        raise ValueError(f"{len(ids)} ids for {len(footprints)} footprints.")
    groups = (
        (_SPANS, footprints.span_offsets),
        (_PEAKS, footprints.peak_offsets),
        (("values",), footprints.pixel_offsets),
    )
    columns: dict[str, pa.Array] = {"id": pa.array(np.ascontiguousarray(ids, np.int64))}
    for names, offsets in groups:
        starts = pa.array(offsets.astype(np.int32))
        for name in names:
            values = footprints.pixels if name == "values" else getattr(footprints, name)
            field = FOOTPRINT_SCHEMA.field(name)
            columns[name] = pa.ListArray.from_arrays(starts, pa.array(values), type=field.type)
    schema = FOOTPRINT_SCHEMA
    if metadata:
        schema = schema.with_metadata({str(key): str(value) for key, value in metadata.items()})
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def footprints_from_table(table: pa.Table) -> tuple[np.ndarray, FootprintSet]:
    """Return the ids and footprints of a table made by `footprint_table`.

    Raises
    ------
    InvalidInputError
        If a column is missing.
    """
    missing = [name for name in FOOTPRINT_SCHEMA.names if name not in table.column_names]
    if missing:
        raise InvalidInputError(f"A footprint table needs the columns {', '.join(missing)}.")
    arrays: dict[str, np.ndarray] = {}
    for kind, names in (("span", _SPANS), ("peak", _PEAKS), ("pixel", ("values",))):
        columns = [table[name].combine_chunks() for name in names]
        lengths = columns[0].value_lengths().to_numpy(zero_copy_only=False)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        arrays[f"{kind}_offsets"] = offsets
        for name, column in zip(names, columns):
            arrays["pixels" if name == "values" else name] = column.flatten().to_numpy(zero_copy_only=False)
    return table["id"].to_numpy().astype(np.int64), FootprintSet.build(**arrays)
