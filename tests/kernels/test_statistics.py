"""Quartiles, clipped statistics and cell statistics against their plain twins."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import statistics as naive
from zeropoint.kernels import statistics

ROUNDING = 1e-9  # of sums in another order, relative to the spread


def samples():
    rng = np.random.default_rng(5)
    gauss = rng.normal(1000.0, 30.0, 20000)
    with_stars = gauss.copy()
    with_stars[::40] += rng.exponential(5000.0, 500)
    return {
        "gauss": gauss,
        "odd": gauss[:4999],
        "stars": with_stars,
        "integers": np.round(gauss / 10.0),
        "two values": np.repeat([1.0, 5.0], 3000),
        "mostly one value": np.concatenate([np.full(5000, 3.0), rng.normal(3, 1, 300)]),
        "ramp": np.arange(5000.0),
        "periodic": np.where(np.arange(8192) % 32 == 0, 1e6, gauss[:8192]),
        "cauchy": rng.standard_cauchy(6000),
        "negative zero": np.where(np.arange(5000) % 2 == 0, -0.0, 0.0),
    }


@pytest.mark.parametrize("name", samples())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quartiles_are_exact(name, dtype):
    values = samples()[name].astype(dtype)
    before = values.copy()
    np.testing.assert_allclose(statistics.quartiles(values), naive.quartiles(values), rtol=1e-14, atol=1e-300)
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("name", samples())
def test_clipped_statistics_equal_the_twin(name):
    values = samples()[name]
    mean, std, n = statistics.clipped_stats(values)
    expected = naive.clipped_stats(values)
    assert n == expected[2]
    spread = max(expected[1], 1e-12)
    assert mean == pytest.approx(expected[0], abs=ROUNDING * spread)
    assert std == pytest.approx(expected[1], abs=ROUNDING * spread)


def test_values_come_back_in_later_iterations():
    # clipping cumulatively would lose the tail that the first, narrow selection excludes
    rng = np.random.default_rng(2)
    values = np.concatenate(
        [rng.normal(0, 0.01, 560), np.repeat([-0.06, 0.06], 200), np.repeat([-0.1, 0.1], 20)]
    )
    counts = [statistics.clipped_stats(values, n_iter=k)[2] for k in (1, 2, 3)]
    assert counts == [naive.clipped_stats(values, n_iter=k)[2] for k in (1, 2, 3)]
    assert counts[1] > counts[0]


def test_no_iteration_uses_everything():
    values = np.array([1.0, 2.0, 3.0, 100.0])
    assert statistics.clipped_stats(values, n_iter=0) == pytest.approx((26.5, np.std(values, ddof=1), 4))


@pytest.mark.parametrize("n", [3, 5000])
def test_nan_and_infinity_propagate(n):
    values = np.arange(float(n))
    values[1] = np.nan
    assert np.isnan(statistics.quartiles(values)).all()
    assert math.isnan(statistics.clipped_stats(values)[0])
    values[1] = np.inf
    np.testing.assert_allclose(statistics.quartiles(values), naive.quartiles(values))


def test_empty_and_single_samples():
    assert np.isnan(statistics.quartiles(np.zeros(0))).all()
    mean, std, n = statistics.clipped_stats(np.zeros(0, np.float32))
    assert math.isnan(mean)
    assert math.isnan(std)
    assert n == 0
    mean, std, n = statistics.clipped_stats(np.array([7.0]))
    assert (mean, n) == (7.0, 1)
    assert math.isnan(std)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60), st.integers(1, 120))
def test_quartiles_of_repeated_values_are_exact(values, repeat):
    sample = np.tile(np.array(values), repeat)
    np.testing.assert_allclose(statistics.quartiles(sample), naive.quartiles(sample), rtol=1e-13, atol=1e-9)


@pytest.mark.parametrize("kind", ["MEAN", "MEDIAN", "MEANCLIP"])
@pytest.mark.parametrize("nan_safe", [False, True])
def test_cell_statistics_equal_the_twin(kind, nan_safe):
    rng = np.random.default_rng(8)
    image = rng.normal(50.0, 4.0, (150, 130)).astype(np.float32)
    image[rng.random(image.shape) < 0.01] += 500
    mask = (rng.random(image.shape) < 0.2).astype(np.int32) * 6
    image[60:, 100:] = np.nan  # some cells partly, one wholly
    mask[:50, :40] |= 1
    x_edges, y_edges = np.array([0, 40, 41, 115, 130]), np.array([0, 50, 120, 150])
    values, errors = np.empty((3, 4)), np.empty((3, 4))
    statistics.cell_statistics(
        image, mask, np.int32(5), nan_safe, x_edges, y_edges, getattr(statistics, kind), values, errors
    )
    for j in range(3):
        for i in range(4):
            box = np.s_[y_edges[j] : y_edges[j + 1], x_edges[i] : x_edges[i + 1]]
            pixels = image[box][(mask[box] & 5) == 0]
            if nan_safe:
                pixels = pixels[np.isfinite(pixels)]
            expected = naive.cell(pixels, kind)
            np.testing.assert_allclose([values[j, i], errors[j, i]], expected, rtol=1e-12, err_msg=f"{j} {i}")
    assert np.isnan(values[0, 0])
    assert np.isnan(values[2, 2]) != nan_safe


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (3, 64), (7, 65), (40, 200)])
def test_good_values_and_bit_counts_equal_plain_indexing(shape):
    rng = np.random.default_rng(8)
    image = rng.normal(size=shape).astype(np.float32)
    mask = np.where(rng.random(shape) < 0.1, rng.integers(0, 2**31 - 1, shape), 0).astype(np.int32)
    mask[: shape[0] // 2] &= ~5  # clean rows too
    image[-1:, -1:] = np.nan
    np.testing.assert_array_equal(statistics.good_values(image, mask, 5), image[(mask & 5) == 0])
    counts = np.full(31, -1, np.int64)
    statistics.count_bits(mask, counts)
    np.testing.assert_array_equal(counts, [np.count_nonzero(mask & (1 << bit)) for bit in range(31)])


@pytest.mark.parametrize("n", [1, 2, 700, 30000])
def test_median_and_deviation_of_a_sample(n):
    values = np.random.default_rng(n).normal(100.0, 20.0, n).astype(np.float32)
    median, std = statistics.median_and_std(values)
    assert median == pytest.approx(np.median(values.astype(np.float64)), rel=1e-14)
    assert std == pytest.approx(np.std(values.astype(np.float64)), rel=ROUNDING, abs=1e-12)
    values[n // 2] = np.nan
    assert np.isnan(statistics.median_and_std(values)).all()
    assert np.isnan(statistics.median_and_std(values[:0])).all()
