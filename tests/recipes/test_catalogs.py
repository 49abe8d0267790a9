"""Copying between two catalogues of one image: parents skipped, the nearest kept, whatever the order of rows."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.recipes.catalogs import copy_matched_columns, nearest_rows

RADIUS = 3.0


def catalogue(x, y, *, children=None) -> SourceCatalog:
    schema = Schema()
    schema.add(
        ColumnSpec("slot_Centroid_x", "f8"), ColumnSpec("slot_Centroid_y", "f8"), ColumnSpec("flag", "bool")
    )
    columns = {"slot_Centroid_x": np.asarray(x, float), "slot_Centroid_y": np.asarray(y, float)}
    columns["flag"] = np.zeros(len(x), bool)
    if children is not None:
        schema.add(ColumnSpec("deblend_nChild", "i4"))
        columns["deblend_nChild"] = np.asarray(children, np.int32)
    return SourceCatalog(schema, columns=columns)


def test_parents_are_skipped_and_the_radius_is_strict() -> None:
    source = catalogue([10.0, 50.0, 90.0], [10.0, 50.0, 90.0])
    target = catalogue([10.1, 12.0, 50.0, 93.0], [10.0, 10.0, 52.9, 90.0], children=[2, 0, 0, 0])
    source_rows, target_rows = nearest_rows(source, target, RADIUS)
    assert dict(zip(source_rows, target_rows, strict=True)) == {0: 1, 1: 2}
    # without deblending every row is a source of its own
    plain = catalogue([10.1, 12.0], [10.0, 10.0])
    assert list(nearest_rows(source, plain, RADIUS)[1]) == [0]


def test_where_two_meet_the_nearest_has_the_last_word() -> None:
    target = catalogue([20.0], [20.0])
    for order in ([0, 1], [1, 0]):
        source = catalogue(np.array([20.5, 22.0])[order], [20.0, 20.0])
        source["flag"] = np.array([True, False])[order]
        target["flag"] = False
        copy_matched_columns(source, target, nearest_rows(source, target, RADIUS), ["flag"])
        assert target["flag"][0]


@pytest.mark.parametrize("empty", ["source", "target"])
def test_nothing_matches_nothing(empty) -> None:
    one, none = catalogue([1.0], [1.0]), catalogue([np.nan], [1.0])
    pair = (none, one) if empty == "source" else (one, none)
    assert [len(rows) for rows in nearest_rows(*pair, RADIUS)] == [0, 0]


POSITIONS = arrays(
    np.float64, st.tuples(st.integers(1, 25), st.just(2)), elements=st.floats(0.0, 30.0, width=32)
)


@settings(max_examples=40)
@given(POSITIONS, POSITIONS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(source, target, random) -> None:
    # ties may be decided either way: keep positions apart
    source, target = (np.unique(np.round(v, 3), axis=0) for v in (source, target))
    source[:, 0] += 1e-6 * np.arange(len(source)) ** 2
    shuffled = random.sample(range(len(source)), len(source))

    def winners(rows) -> dict[int, tuple[float, float]]:
        one, two = catalogue(*source[rows].T), catalogue(*target.T)
        pairs = nearest_rows(one, two, RADIUS)
        distance = np.hypot(*(source[rows][pairs[0]] - target[pairs[1]]).T)
        assert (distance < RADIUS).all()
        assert (np.diff(distance) <= 1e-12).all()
        # each source has its nearest row
        every = np.hypot(*(source[rows][pairs[0]][:, None] - target[None]).T).min(axis=0)
        np.testing.assert_allclose(distance, every, atol=1e-12)
        return {int(t): float(d) for t, d in zip(pairs[1], distance, strict=True)}

    assert winners(np.arange(len(source))) == winners(np.array(shuffled))


def test_tables_serve_as_well_and_missing_columns_are_left_out() -> None:
    target = catalogue([20.0, 40.0], [20.0, 40.0])
    table = Table({"slot_Centroid_x": [40.5], "slot_Centroid_y": [40.0], "flag": [True]})
    copy_matched_columns(table, target, nearest_rows(table, target, RADIUS), ["flag", "other"])
    assert list(target["flag"]) == [False, True]
