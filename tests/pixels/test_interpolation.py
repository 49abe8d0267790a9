"""Kriging weights and interpolation over defects."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from naive.exposures import exposure
from zeropoint.pixels.interpolation import (
    InterpolateDefects,
    InterpolateDefectsConfig,
    interpolate_defects_in_place,
    kriging_weights,
)

PRINTED = 6e-5  # four printed decimals
INTERPOLATED = 1 << 2


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        ((-2, -1, 1, 2), (-0.2737, 0.7737, 0.7737, -0.2737)),
        ((1, 2), (1.4288, -0.4288)),
        ((2, 3), (1.0933, -0.0933)),
        ((3, 4), (0.6968, 0.3032)),
        ((4, 5), (0.5370, 0.4630)),
        ((-1, 2), (0.7297, 0.2703)),
        ((-2, -1, 5, 6), (-0.5179, 1.3397, 0.0928, 0.0854)),
        ((-51, -50, 1, 2), (0.0888, 0.0888, 1.3400, -0.5177)),
        ((-2 * 2**0.5, -(2**0.5), 2**0.5, 2 * 2**0.5), (-0.2358, 0.7358, 0.7358, -0.2358)),
        ((-50, -49, 49, 50), (0.25, 0.25, 0.25, 0.25)),
    ],
)
def test_weights_are_the_published_ones(offsets, expected):
    np.testing.assert_allclose(kriging_weights(offsets), expected, atol=PRINTED)


@given(st.sets(st.integers(-20, 20).filter(bool), min_size=1, max_size=4))
def test_weights_sum_to_one_and_reproduce_a_known_point(offsets):
    ordered = sorted(offsets)
    assert kriging_weights(ordered).sum() == pytest.approx(1.0)
    exact = kriging_weights([o - ordered[0] for o in ordered])
    np.testing.assert_allclose(exact, [1.0] + [0.0] * (len(ordered) - 1), atol=1e-9)


def run(row, defects, fallback=None):
    image = np.array([row], np.float32)
    variance = image + 1
    mask = np.zeros(image.shape, np.int32)
    n = interpolate_defects_in_place(image, variance, mask, defects, fallback=fallback)
    assert (mask > 0).sum() == n
    assert set(np.unique(mask)) <= {0, INTERPOLATED}
    return image[0], variance[0], mask[0]


def test_single_columns_and_merged_runs():
    row = np.array([1.0, 2, 5, 9, 4, 7, 3, 8, 6, 2])
    image, variance, mask = run(row, [(3, 0, 3, 0)])
    expected = kriging_weights([-2, -1, 1, 2]) @ row[[1, 2, 4, 5]]
    assert image[3] == pytest.approx(expected, rel=1e-6)
    assert variance[3] == pytest.approx(expected + 1, rel=1e-6)  # the same weights
    assert np.flatnonzero(mask).tolist() == [3]
    image, _, mask = run(row, [(5, 0, 5, 3), (3, -1, 4, 0), (4, 0, 4, 0)])
    assert np.flatnonzero(mask).tolist() == [3, 4, 5]
    assert image[4] == pytest.approx(kriging_weights([-3, -2, 2, 3]) @ row[[1, 2, 6, 7]], rel=1e-6)


def test_neighbors_end_at_the_next_run_and_at_the_border():
    row = np.array([1.0, 2, 5, 9, 4, 7])
    image, _, _ = run(row, [(1, 0, 1, 0), (3, 0, 3, 0)])
    assert image[1] == pytest.approx(kriging_weights([-1, 1]) @ row[[0, 2]], rel=1e-6)
    assert image[3] == pytest.approx(kriging_weights([-1, 1, 2]) @ row[[2, 4, 5]], rel=1e-6)
    image, _, _ = run(row, [(0, 0, 1, 0)])
    assert image[0] == pytest.approx(kriging_weights([2, 3]) @ row[[2, 3]], rel=1e-6)


def test_long_edge_runs_take_the_fallback():
    row = np.arange(20.0)
    image, _, mask = run(row, [(0, 0, 9, 0)], fallback=50.0)
    np.testing.assert_array_equal(image[:4], 50.0)
    assert image[4] == pytest.approx(kriging_weights([-2, -1, 6, 7]) @ np.array([50, 50, 10, 11]), rel=1e-6)
    assert mask[:10].all()
    image, _, _ = run(row, [(12, 0, 25, 0)], fallback=50.0)
    np.testing.assert_array_equal(image[18:], 50.0)
    assert image[12] == pytest.approx(kriging_weights([-2, -1, 6, 7]) @ np.array([10, 11, 50, 50]), rel=1e-6)
    short, _, _ = run(row, [(0, 0, 5, 0)], fallback=50.0)
    assert 6 < short[0] < 8
    whole, _, _ = run(row, [(0, 0, 19, 0)], fallback=50.0)
    np.testing.assert_array_equal(whole, 50.0)
    untouched, _, _ = run(row, [(0, 0, 19, 0)])
    np.testing.assert_array_equal(untouched, row)


def test_nan_neighbors_fall_back_to_the_nearest_good_one():
    image, _, _ = run(np.array([np.nan, 3.0, 99.0, 5.0, 6.0]), [(2, 0, 2, 0)])
    assert image[2] == 4.0
    image, _, _ = run(np.array([1.0, 3.0, 99.0, np.nan, 6.0]), [(2, 0, 2, 0)])
    assert image[2] == 3.0


def test_transposed_interpolation_is_the_transpose():
    pixels = np.random.default_rng(0).normal(10, 1, (12, 9))
    rows, columns = exposure(pixels), exposure(pixels.T)
    config = InterpolateDefectsConfig()
    InterpolateDefects(config).run(rows, [(2, 1, 3, 4)])
    config.transpose = True
    InterpolateDefects(config).run(columns, [(1, 2, 4, 3)])
    np.testing.assert_array_equal(columns.image, rows.image.T)
    np.testing.assert_array_equal(columns.mask, rows.mask.T)


@pytest.mark.parametrize(
    ("kind", "value"), [("MEAN", -2.2), ("MEDIAN", -3.0), ("MEANCLIP", -3.0), ("USER", -7.0)]
)
def test_fallback_values(kind, value):
    config = InterpolateDefectsConfig()
    config.fallbackValueType, config.fallbackUserValue, config.negativeFallbackAllowed = kind, -7.0, True
    image = np.array([[-3.0, -3, -3, -3, 1, np.nan]], np.float32)
    assert InterpolateDefects(config).fallback_value(image) == pytest.approx(value)
    config.negativeFallbackAllowed = False
    assert InterpolateDefects(config).fallback_value(image) == 0.0
