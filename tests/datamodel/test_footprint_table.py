"""Footprints as an Arrow table: every value comes back, also through a file."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.footprint_table import (
    FOOTPRINT_SCHEMA,
    SourceFootprints,
    footprint_table,
    footprints_from_table,
)
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.errors import InvalidInputError, MatcherFailure, failure_keys


def offsets(counts: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def make_set(spans: list[int], peaks: list[int], heavy: list[bool], seed: int) -> FootprintSet:
    """Return footprints with that many spans and peaks, of random lengths and values."""
    rng = np.random.default_rng(seed)
    n_spans, n_peaks = sum(spans), sum(peaks)
    x0 = rng.integers(0, 100, n_spans)
    x1 = x0 + rng.integers(0, 5, n_spans)
    starts = offsets(spans)
    areas = [int((x1 - x0 + 1)[starts[i] : starts[i + 1]].sum()) for i in range(len(spans))]
    pixels = offsets([area if is_heavy else 0 for area, is_heavy in zip(areas, heavy)])
    values = rng.normal(size=pixels[-1])
    values[rng.random(len(values)) < 0.1] = np.nan
    return FootprintSet.build(
        starts,
        rng.integers(-5, 100, n_spans),
        x0,
        x1,
        offsets(peaks),
        rng.integers(0, 100, n_peaks),
        rng.integers(0, 100, n_peaks),
        rng.normal(size=n_peaks),
        rng.uniform(5, 100, n_peaks),
        pixels,
        values,
    )


rows = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.booleans()), max_size=8)


@settings(max_examples=60, deadline=None)
@given(rows, st.integers(0, 1000))
def test_every_value_comes_back(rows, seed) -> None:
    spans, peaks, heavy = ([row[i] for row in rows] for i in range(3))
    footprints = make_set(spans, peaks, heavy, seed)
    ids = np.arange(len(rows), dtype=np.int64) * 7 + (1 << 60)
    table = footprint_table(ids, footprints)
    assert table.schema.equals(FOOTPRINT_SCHEMA)
    assert table.num_rows == len(rows)
    back_ids, back = footprints_from_table(table)
    np.testing.assert_array_equal(back_ids, ids)
    for name, values in vars(footprints).items():
        other = getattr(back, name)
        assert (other.dtype, other.tobytes()) == (values.dtype, values.tobytes()), name


def test_a_row_is_one_source() -> None:
    footprints = make_set([2, 0, 3], [1, 0, 2], [False, False, True], 3)
    table = footprint_table(np.array([11, 12, 13]), footprints)
    row = table.slice(2, 1).to_pylist()[0]
    y, x0, x1 = footprints.spans_of(2)
    assert row["id"] == 13
    assert (row["span_y"], row["span_x0"], row["span_x1"]) == (y.tolist(), x0.tolist(), x1.tolist())
    assert len(row["peak_x"]) == len(row["peak_significance"]) == 2
    assert len(row["values"]) == footprints.areas()[2]
    assert table["values"][0].as_py() == []
    back_ids, back = footprints_from_table(table.slice(1, 2))
    assert back_ids.tolist() == [12, 13]
    assert back.span_y.tolist() == y.tolist()


def test_parquet_keeps_values_units_and_the_reason_of_a_failure(tmp_path) -> None:
    footprints = make_set([3, 1], [2, 1], [True, False], 5)
    failure = MatcherFailure("no match", iterations=2)
    pq.write_table(
        footprint_table(np.array([1, 2]), footprints, failure_keys(failure)), tmp_path / "a.parquet"
    )
    table = pq.read_table(tmp_path / "a.parquet")
    _, back = footprints_from_table(table)
    assert back.pixels.tobytes() == footprints.pixels.tobytes()
    assert table.schema.field("span_x0").metadata[b"unit"] == b"pix"
    assert table.schema.metadata[b"failure.type"] == b"MatcherFailure"
    assert table.schema.metadata[b"failure.message"] == b"no match"
    assert table.schema.metadata[b"failure.metadata.iterations"] == b"2"


def test_a_catalogue_gives_its_ids_and_footprints() -> None:
    schema = Schema()
    schema.add(ColumnSpec("id", "i8", "", "id"))
    catalog = SourceCatalog(schema, 2, footprints=make_set([1, 2], [1, 1], [False, True], 1))
    catalog["id"] = [5, 6]
    kept = SourceFootprints.of(catalog)
    catalog["id"] = [7, 8]
    assert len(kept) == 2
    assert kept.table()["id"].to_pylist() == [5, 6]


def test_what_does_not_fit_is_refused() -> None:
    footprints = make_set([1], [1], [False], 1)
    with pytest.raises(ValueError, match="2 ids for 1"):
        footprint_table(np.array([1, 2]), footprints)
    table = footprint_table(np.array([1]), footprints).drop_columns(["peak_x", "values"])
    with pytest.raises(InvalidInputError, match="peak_x, values"):
        footprints_from_table(table)
