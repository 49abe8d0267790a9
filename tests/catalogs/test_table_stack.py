"""Stacking the tables of a visit's detectors."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from astropy.table import Column, MaskedColumn, Table, vstack
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.catalogs.table_stack import StackInput, stack_tables
from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.errors import MismatchedTablesError


def sources(n: int, detector: int = 0) -> Table:
    rng = np.random.default_rng(n + 1000 * detector)
    return Table(
        {
            "id": Column(rng.integers(0, 2**62, n), description="row"),
            "ra": Column(rng.normal(size=n), unit="deg", description="right ascension"),
            "flux": Column(rng.normal(size=n).astype("f4"), unit="nJy"),
            "flag": rng.random(n) < 0.5,
            "detector": np.full(n, detector, "i2"),
            "band": np.full(n, "r" * (1 + detector), f"U{1 + detector}"),
            "cov": rng.normal(size=(n, 3)),
        }
    )


def inputs(*tables) -> list[StackInput]:
    return [
        StackInput(f"detector {i}", len(table), lambda table=table: table) for i, table in enumerate(tables)
    ]


@settings(max_examples=25)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_any_sizes_stack_like_astropy_with_every_unit_and_description(sizes: list[int]) -> None:
    tables = [sources(n, detector) for detector, n in enumerate(sizes)]
    stacked, expected = stack_tables(inputs(*tables)), vstack(tables, metadata_conflicts="silent")
    assert stacked.colnames == expected.colnames
    for name in expected.colnames:
        np.testing.assert_array_equal(stacked[name], expected[name])
        assert stacked[name].dtype == expected[name].dtype
        assert (stacked[name].unit, stacked[name].description) == (
            tables[0][name].unit,
            tables[0][name].description,
        )


def test_arrow_tables_stack_like_astropy_tables() -> None:
    tables = [sources(4), sources(3, 1)]
    from_arrow = stack_tables(inputs(*(table_to_arrow(table) for table in tables)))
    expected = stack_tables(inputs(*tables))
    assert from_arrow.colnames == expected.colnames
    for name in expected.colnames:
        np.testing.assert_array_equal(from_arrow[name], expected[name])
        assert from_arrow[name].dtype == expected[name].dtype
        assert str(from_arrow[name].unit) == str(expected[name].unit)


def test_values_masked_in_one_table_stay_masked() -> None:
    masked = Table({"a": MaskedColumn([1.0, 2.0], mask=[True, False])})
    stacked = stack_tables(inputs(Table({"a": [5.0]}), masked))
    assert stacked["a"].mask.tolist() == [False, True, False]


def without_flag(table: Table) -> None:
    del table["flag"]


def with_more(table: Table) -> None:
    table["more"] = 1


def with_double_flux(table: Table) -> None:
    table["flux"] = Column(np.asarray(table["flux"], "f8"), unit="nJy")


def with_radians(table: Table) -> None:
    table["ra"].unit = "rad"


def with_two_covariances(table: Table) -> None:
    table["cov"] = table["cov"][:, :2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_flag, "detector 1 has no column 'flag', which detector 0 has"),
        (with_more, "detector 1 has a column 'more', which detector 0 has not"),
        (with_double_flux, "column 'flux' has type float64 in detector 1, but float32 in detector 0"),
        (with_radians, "column 'ra' has unit rad in detector 1, but deg in detector 0"),
        (with_two_covariances, r"column 'cov' has shape \(2,\) in detector 1, but \(3,\) in detector 0"),
    ],
)
def test_a_table_that_differs_is_a_type_error_that_names_column_and_table(change, message: str) -> None:
    other = sources(3)
    change(other)
    with pytest.raises(MismatchedTablesError, match=message) as caught:
        stack_tables(inputs(sources(2), other))
    assert isinstance(caught.value, TypeError)


def test_columns_in_another_order_go_to_their_places() -> None:
    tables = [sources(2), sources(2)[["flag", "id", "ra", "flux", "detector", "band", "cov"]]]
    assert stack_tables(inputs(*tables)).colnames == tables[0].colnames


def test_a_table_of_another_length_than_it_said_is_an_error() -> None:
    with pytest.raises(ValueError, match="detector 0 has 2 rows, not 3"):
        stack_tables([StackInput("detector 0", 3, lambda: sources(2))])


def test_only_one_table_is_held_at_a_time() -> None:
    alive: list[weakref.ref] = []

    def read(detector: int) -> Table:
        assert (
            sum(reference() is not None for reference in alive) <= 1
        )  # the one before is still a local name
        table = sources(5, 0)
        alive.append(weakref.ref(table))
        return table

    stack_tables([StackInput(f"detector {i}", 5, lambda i=i: read(i)) for i in range(4)])
    assert len(alive) == 4
