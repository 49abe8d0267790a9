"""Compressed-row footprints, schemas with aliases, catalogues."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog, column, has_column
from zeropoint.datamodel.footprints import FootprintSet


def three() -> FootprintSet:
    """A 2-row footprint, a single pixel, and one without peaks."""
    return FootprintSet.build(
        np.array([0, 2, 3, 4]),
        np.array([5, 6, 1, 0]),
        np.array([2, 3, 9, 0]),
        np.array([4, 3, 9, 7]),
        np.array([0, 2, 3, 3]),
        np.array([3, 2, 9]),
        np.array([5, 5, 1]),
        np.array([9.0, 3.0, 1.0]),
        np.array([12.0, 6.0, 5.0]),
        np.array([0, 0, 1, 1]),
        np.array([42.0]),
    )


def test_areas_boxes_and_peaks():
    footprints = three()
    assert footprints.areas().tolist() == [4, 1, 8]
    assert footprints.boxes().tolist() == [[2, 5, 4, 6], [9, 1, 9, 1], [0, 0, 7, 0]]
    assert footprints.n_peaks.tolist() == [2, 1, 0]
    assert footprints.first_peaks()[0].tolist() == [3, 9, -1]
    assert footprints.is_heavy.tolist() == [False, True, False]
    assert footprints.paint((8, 10)).sum() == 13


@given(st.lists(st.integers(0, 2), max_size=8))
def test_take_equals_taking_one_by_one(rows):
    footprints = three()
    taken = footprints.take(np.array(rows, dtype=np.int64))
    assert len(taken) == len(rows)
    for k, row in enumerate(rows):
        for mine, theirs in zip(taken.spans_of(k), footprints.spans_of(row)):
            np.testing.assert_array_equal(mine, theirs)
    assert taken.areas().tolist() == [int(footprints.areas()[row]) for row in rows]
    joined = FootprintSet.concatenate([footprints, taken])
    assert joined.areas().tolist() == footprints.areas().tolist() + taken.areas().tolist()


def test_empty_set_has_no_boxes():
    assert FootprintSet.empty().boxes().shape == (0, 4)
    assert FootprintSet.concatenate([FootprintSet.empty(), three()]).areas().tolist() == [4, 1, 8]


def schema() -> Schema:
    result = Schema()
    result.add(
        ColumnSpec("id", "i8"),
        ColumnSpec("base_PsfFlux_instFlux", "f8", "count", "flux"),
        ColumnSpec("base_PsfFlux_flag", "bool"),
        ColumnSpec("base_SdssCentroid_flag", "bool"),
        ColumnSpec("base_SdssCentroid_flag_edge", "bool"),
    )
    result.alias("slot_PsfFlux", "base_PsfFlux")
    result.alias("slot_Model", "slot_PsfFlux")
    result.alias("base_PsfFlux_flag_badCentroid", "base_SdssCentroid_flag")
    return result


def test_aliases_resolve_through_prefixes_and_other_aliases():
    s = schema()
    assert s.resolve("slot_PsfFlux_instFlux") == "base_PsfFlux_instFlux"
    assert s.resolve("slot_Model_flag") == "base_PsfFlux_flag"
    assert "slot_PsfFlux_nothing" not in s


def test_schema_refuses_a_column_of_another_type():
    s = schema()
    with pytest.raises(ValueError, match="already i8"):
        s.add(ColumnSpec("id", "f8"))


def test_unset_values_are_nan_zero_false():
    catalog = SourceCatalog(schema(), 2)
    assert np.isnan(catalog["slot_PsfFlux_instFlux"]).all()
    assert catalog["id"].tolist() == [0, 0]
    assert not catalog["base_PsfFlux_flag"].any()


def test_table_has_physical_alias_columns_but_no_derived_ones():
    catalog = SourceCatalog(schema(), 3)
    catalog["slot_PsfFlux_instFlux"] = [1.0, 2.0, 3.0]
    table = catalog.to_table()
    np.testing.assert_array_equal(table["slot_PsfFlux_instFlux"], [1, 2, 3])
    assert str(table["slot_Model_instFlux"].unit) in ("count", "ct")
    assert "base_PsfFlux_flag_badCentroid" in table.colnames
    assert "base_PsfFlux_flag_badCentroid_edge" not in table.colnames
    assert table["base_PsfFlux_instFlux"].description == "flux"


def test_take_and_extend_keep_rows_and_footprints_together():
    catalog = SourceCatalog(schema(), 3, footprints=three())
    catalog["id"] = [7, 8, 9]
    part = catalog.take(np.array([False, True, True]))
    assert part["id"].tolist() == [8, 9]
    assert part.footprints is not None
    assert part.footprints.areas().tolist() == [1, 8]
    both = part.extended(catalog)
    assert both["id"].tolist() == [8, 9, 7, 8, 9]
    assert len(both.footprints) == 5
    part["id"] = [0, 0]
    assert catalog["id"].tolist() == [7, 8, 9]


def test_columns_can_be_read_from_every_kind_of_table():
    catalog = SourceCatalog(schema(), 2)
    import pyarrow as pa

    arrow = pa.table({"a": [1.0, 2.0]})
    assert column(arrow, "a").tolist() == [1.0, 2.0]
    assert has_column(arrow, "a")
    assert not has_column(arrow, "b")
    assert has_column(catalog, "slot_PsfFlux_flag")
    assert has_column(catalog.to_table(), "slot_PsfFlux_flag")
    with pytest.raises(KeyError):
        column(arrow, "b")


def test_wrong_number_of_footprints_is_an_error():
    with pytest.raises(ValueError, match="3 footprints for 2 rows"):
        SourceCatalog(schema(), 2, footprints=three())
