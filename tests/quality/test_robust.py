"""Robust statistics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeropoint.quality.robust import binned_spatial_rms, clipped_mean, fit_line, mad_sigma, median


def test_mad_of_a_gaussian_is_its_sigma():
    values = np.random.default_rng(1).normal(3.0, 2.0, 20_000)
    # the MAD's own error is 1.17 / sqrt(n) = 0.8 %; three of them
    assert mad_sigma(values) == pytest.approx(2.0, rel=0.025)


def test_nothing_finite_is_nan():
    nothing = np.array([np.nan, np.inf])
    assert np.isnan(mad_sigma(nothing))
    assert np.isnan(median(nothing))
    assert np.isnan(clipped_mean(nothing)[0])
    assert np.isnan(fit_line(nothing, nothing).slope)


def test_clipped_mean_ignores_outliers():
    values = np.array([1.0, 2.0, 3.0, 2.0, 1.5, 2.5, 500.0, np.nan])
    mean, error = clipped_mean(values)
    assert mean == pytest.approx(2.0)
    assert error == pytest.approx(np.std(values[:6], ddof=1) / np.sqrt(6))


@given(st.floats(-5, 5), st.floats(-5, 5), st.integers(0, 100))
def test_a_line_is_found_through_outliers(offset, slope, seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 10, 40)
    y = offset + slope * x + rng.normal(0, 0.01, 40)
    y[:3] += 50.0
    line = fit_line(x, y)
    assert line.n <= 37
    assert line.slope == pytest.approx(slope, abs=6 * line.slope_err + 1e-12)


def test_too_few_points_or_one_place_have_no_slope():
    assert np.isnan(fit_line(np.arange(4.0), np.arange(4.0)).slope)
    assert np.isnan(fit_line(np.ones(9), np.arange(9.0)).slope)


def test_a_gradient_shows_in_the_spatial_rms():
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0, 400, (2, 2000))
    flat = rng.normal(0, 0.01, 2000)
    gradient = 0.1 * (x / 400 - 0.5)
    rms, noise, n = binned_spatial_rms(x, y, flat, (400, 400))
    assert n == 4
    assert rms < 3 * noise
    rms, noise, _ = binned_spatial_rms(x, y, flat + gradient, (400, 400))
    # four columns centred at -3/8 .. 3/8 of 0.1 mag: rms 0.028
    assert rms == pytest.approx(0.028, rel=0.1)
    assert rms > 5 * noise


def test_few_stars_use_four_cells_or_none():
    rng = np.random.default_rng(4)
    x, y, v = rng.uniform(0, 100, (3, 60))
    assert binned_spatial_rms(x, y, v, (100, 100))[2] == 2
    assert np.isnan(binned_spatial_rms(x[:10], y[:10], v[:10], (100, 100))[0])
