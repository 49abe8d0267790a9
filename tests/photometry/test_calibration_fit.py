"""Zero point, field and colour term in one fit: exact without noise, honest with it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.datamodel.exposure import AB_FLUX_NJY
from zeropoint.photometry.calibration_fit import (
    CalibrationStars,
    fit_calibration,
    held_out_residuals,
)

ZP, WIDTH, HEIGHT = 27.0, 1000, 800
SLOPE, BEND = 0.08, -0.02


def unit(x, y):
    return (2 * x + 1 - WIDTH) / WIDTH, (2 * y + 1 - HEIGHT) / HEIGHT


def response(x, y):
    """F, nJy per electron over its mean: a plane and a bowl of mean zero."""
    u, v = unit(x, y)
    return 1 + 0.05 * u - 0.03 * v + 0.02 * (u * u - 1 / 3)


def stars(rng, n, *, noise=True, outliers=0.0, color_mean=0.0, field=True):
    x, y = rng.uniform(0, WIDTH - 1, n), rng.uniform(0, HEIGHT - 1, n)
    color = rng.normal(color_mean, 0.4, n)
    error = 10 ** rng.uniform(-2.5, -1.5, n)
    difference = ZP - SLOPE * color - BEND * color**2
    if field:
        difference = difference - 2.5 * np.log10(response(x, y))
    if noise:
        difference = difference + rng.normal(0, error)
    bad = rng.random(n) < outliers
    difference[bad] += rng.exponential(0.1, bad.sum())
    return CalibrationStars(difference, error, x, y, color, WIDTH, HEIGHT)


def grid():
    x, y = np.meshgrid(np.linspace(0, WIDTH - 1, 9), np.linspace(0, HEIGHT - 1, 9))
    return x.ravel(), y.ravel()


def test_without_noise_every_parameter_is_exact():
    fit = fit_calibration(stars(np.random.default_rng(1), 60, noise=False), order=2, degree=2)
    assert fit.zp == pytest.approx(ZP, abs=1e-7)
    np.testing.assert_allclose(fit.color_coefficients, [SLOPE, BEND], atol=1e-7)
    field, (x, y) = fit.field(WIDTH, HEIGHT), grid()
    np.testing.assert_allclose(field(x=x, y=y) / field.mean(), response(x, y), atol=1e-7)
    assert field.mean() == pytest.approx(AB_FLUX_NJY * 10 ** (-0.4 * ZP), rel=1e-6)


def test_errors_of_zero_point_field_and_colour_term_are_honest():
    rng, (x, y), pulls = np.random.default_rng(2), grid(), []
    for _ in range(60):
        fit = fit_calibration(stars(rng, 120, outliers=0.05), order=2, degree=2)
        local = 2.5 * np.log10(AB_FLUX_NJY / fit.field(WIDTH, HEIGHT)(x=x, y=y))
        error = fit.zeropoint_error(x=x, y=y, width=WIDTH, height=HEIGHT)
        pull = (local - ZP + 2.5 * np.log10(response(x, y))) / error
        slope, bend = (fit.color_coefficients - [SLOPE, BEND]) / fit.color_errors
        pulls.append([(fit.zp - ZP) / fit.sigma, slope, bend, np.sqrt(np.mean(pull**2))])
    zp, slope, bend, field = np.array(pulls).T
    # the standard error of a width from 60 values is 9 %; clipping and outliers may add a little
    for values in (zp, slope, bend):
        assert abs(values.mean()) < 4 / np.sqrt(60)
        assert 0.7 < values.std() < 1.35
    assert 0.8 < np.sqrt(np.mean(field**2)) < 1.3


def test_the_error_of_the_zero_point_includes_that_of_a_colour_term_far_from_the_stars():
    rng, pulls, sigmas = np.random.default_rng(3), [], []
    for _ in range(80):
        fit = fit_calibration(stars(rng, 100, color_mean=1.2, field=False), degree=2)
        pulls.append((fit.zp - ZP) / fit.sigma)
        sigmas.append(fit.sigma)
    assert 0.75 < np.std(pulls) < 1.3
    near = fit_calibration(stars(rng, 100, field=False), degree=2).sigma
    assert np.mean(sigmas) > 3 * near


def test_one_sided_outliers_bias_neither_zero_point_nor_field():
    rng = np.random.default_rng(4)
    fits = [fit_calibration(stars(rng, 250, outliers=0.15), order=1, degree=2) for _ in range(12)]
    assert abs(np.mean([fit.zp for fit in fits]) - ZP) < 3e-3
    assert abs(np.mean([fit.parameters[1] for fit in fits]) - 0.05) < 3e-3  # along x


def test_the_variance_of_a_constant_is_that_of_the_mean():
    fit = fit_calibration(stars(np.random.default_rng(5), 80, field=False))
    assert fit.covariance.shape == (1, 1)
    assert fit.sigma == pytest.approx(fit.mean.sigma)
    assert fit.field(WIDTH, HEIGHT) is None
    np.testing.assert_allclose(
        fit.zeropoint_error(x=[0.0, 9.0], y=1.0, width=WIDTH, height=HEIGHT), fit.sigma
    )


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 9999), n=st.integers(30, 80))
def test_the_order_of_the_stars_does_not_matter(seed, n):
    rng = np.random.default_rng(seed)
    some = stars(rng, n, outliers=0.1)
    first = fit_calibration(some, order=1, degree=1)
    second = fit_calibration(some.take(rng.permutation(n)), order=1, degree=1)
    np.testing.assert_allclose(second.parameters, first.parameters, atol=2e-5)


def test_held_out_residuals_are_those_of_fits_without_the_star():
    rng = np.random.default_rng(6)
    some, folds = stars(rng, 40), np.arange(40) % 5
    residual = held_out_residuals(some, folds, order=1, degree=1, weights=1 / some.error**2)
    u, v = unit(some.x, some.y)
    ln10 = 2.5 / np.log(10)
    for k in range(5):  # the plain way: a linear fit, iterated for the logarithm
        t, h = folds != k, folds == k
        p = np.array([ZP, 0.0, 0.0, 0.0])
        for _ in range(20):
            f = 1 + p[1] * u + p[2] * v
            model = p[0] - ln10 * np.log(f) - p[3] * some.color
            design = np.stack([np.ones(40), -ln10 * u / f, -ln10 * v / f, -some.color], axis=1)
            scaled = design[t] / some.error[t, None]
            p = p + np.linalg.lstsq(scaled, (some.difference - model)[t] / some.error[t])[0]
        model = p[0] - ln10 * np.log(1 + p[1] * u + p[2] * v) - p[3] * some.color
        np.testing.assert_allclose(residual[h], (some.difference - model)[h], atol=1e-8)


def test_terms_that_no_star_determines_do_no_harm_and_are_not_called_known():
    some = stars(np.random.default_rng(7), 30, field=False)
    line = CalibrationStars(
        some.difference, some.error, np.full(30, 499.5), some.y, some.color, WIDTH, HEIGHT
    )
    fit = fit_calibration(line, order=1, degree=2)
    assert abs(fit.zp - ZP) < 5 * fit.sigma < 0.1
    near, far = fit.zeropoint_error(x=[499.5, 0.0], y=400.0, width=WIDTH, height=HEIGHT)
    assert near < 0.02
    assert far > 100
