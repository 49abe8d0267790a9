"""Tables on disk come back as they were, through astropy and through the Butler."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from astropy.table import Column, Table
from astropy.table.meta import get_header_from_yaml, get_yaml_from_table
from lsst.daf.butler.formatters.parquet import arrow_to_astropy, astropy_to_arrow

from zeropoint.datamodel.arrow import arrow_to_table, table_to_arrow


@pytest.fixture
def table() -> Table:
    return Table(
        {
            "id": Column(np.arange(3), description="a number"),
            "flux": Column([1.0, np.nan, 2.0], unit="nJy", description='"quoted": é #'),
            "mag": Column(np.zeros(3, np.float32), unit="mag(AB)"),
            "flag": Column([True, False, True]),
            "name": Column(["a", "bb", "ccc"]),
        },
        meta={"title": "x: 'y'", "n": 3},
    )


def equal(found: Table, expected: Table) -> None:
    assert found.colnames == expected.colnames
    for name in expected.colnames:
        np.testing.assert_array_equal(found[name], expected[name])
        assert found[name].dtype == expected[name].dtype
        assert found[name].unit == expected[name].unit
        assert found[name].description == expected[name].description
    assert dict(found.meta) == dict(expected.meta)


def test_the_butler_gives_the_same_table_back(table: Table) -> None:
    equal(arrow_to_astropy(table_to_arrow(table)), table)


@pytest.mark.parametrize("writer", [table_to_arrow, astropy_to_arrow])
def test_tables_are_read_without_the_butler(table: Table, writer: object) -> None:
    table["corners"] = np.arange(6.0).reshape(3, 2)
    for rows in (table, table[:0]):
        equal(arrow_to_table(writer(rows)), rows)  # type: ignore[operator]


@pytest.mark.parametrize(
    "header",
    [
        "datatype:\n- {name: a, datatype: int64, description: 'x\n\n  meta: y'}\nmeta: {n: 3, m: [4]}",
        "datatype:\n- name: a\n  datatype: &kind int64\nmeta:\n  n: 3\n  m:\n  - 4\n  kind: *kind",
        "meta: {n: 3, m: [4]}\ndatatype:\n- {name: a, datatype: int64}",
        "{datatype: [{name: a, datatype: int64}], meta: {n: 3, m: [4]}}",
        "datatype:\n- {name: meta, datatype: int64}",
    ],
)
def test_what_a_header_says_of_the_table_is_found_in_any_form(header: str) -> None:
    arrow = pa.table({"a": [1]}).replace_schema_metadata({"table_meta_yaml": header})
    assert dict(arrow_to_table(arrow).meta) == get_header_from_yaml(header.split("\n")).get("meta", {})


def test_missing_values_stay_masked() -> None:
    table = Table({"n": np.ma.array([1, 2, 3], mask=[False, True, False])})
    back = arrow_to_table(table_to_arrow(table))
    np.testing.assert_array_equal(back["n"].mask, [False, True, False])
    np.testing.assert_array_equal(back["n"].compressed(), [1, 3])


def test_astropy_finds_its_own_header(table: Table) -> None:
    text = table_to_arrow(table).schema.metadata[b"table_meta_yaml"].decode()
    header = get_header_from_yaml(text.split("\n"))
    expected = get_header_from_yaml(get_yaml_from_table(table))
    assert header["datatype"] == expected["datatype"]
    assert header["meta"] == dict(expected["meta"])


def test_fields_are_those_of_the_butlers_own_conversion(table: Table) -> None:
    ours, theirs = table_to_arrow(table).schema, astropy_to_arrow(table).schema
    assert ours.remove_metadata().equals(theirs.remove_metadata(), check_metadata=True)
    plain = {key: value for key, value in theirs.metadata.items() if key != b"table_meta_yaml"}
    assert plain.items() <= ours.metadata.items()


def test_arrays_are_fixed_size_lists() -> None:
    table = Table({"aperture": Column(np.arange(6.0).reshape(3, 2), unit="nJy")})
    np.testing.assert_array_equal(arrow_to_astropy(table_to_arrow(table))["aperture"], table["aperture"])
