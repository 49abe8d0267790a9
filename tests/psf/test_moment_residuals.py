"""Moments of stars against models."""

import numpy as np

from naive.psf_stars import make_candidates, true_stamps
from zeropoint.datamodel.psf_model import GaussianPsf
from zeropoint.psf.moment_residuals import moment_residuals
from zeropoint.psf.quality import psf_residuals, residual_statistics


def _gaussian(xx, yy, xy, side=25, dx=0.0, dy=0.0):
    r = np.arange(side) - side // 2
    px, py = np.meshgrid(r - dx, r - dy)
    det = xx * yy - xy * xy
    stamp = np.exp(-0.5 * (yy * px * px - 2 * xy * px * py + xx * py * py) / det)
    return stamp[None] / stamp.sum()


def test_small_changes_of_a_gaussian_are_recovered():
    model = _gaussian(3.0, 3.2, 0.1)
    star = _gaussian(3.0 * 1.002, 3.2 * 0.999, 0.1 + 0.003)
    zero, good = np.zeros(1), np.ones(model.shape, bool)
    got = moment_residuals(1e5 * star, np.ones(model.shape), good, 1e5 * model, zero, zero)
    assert abs(got.size[0] - (0.006 - 0.0032) / 6.2) < 2e-6
    assert abs(got.e1[0] - ((3.006 - 3.1968) / 6.2028 - (3.0 - 3.2) / 6.2)) < 2e-6
    assert abs(got.e2[0] - (0.206 / 6.2028 - 0.2 / 6.2)) < 2e-6


def test_errors_and_means_are_right_in_noise(rng):
    n = 3000
    model = np.repeat(_gaussian(3.0, 3.2, 0.1, dx=0.3, dy=-0.2), n, axis=0) * 3e3
    variance = 30.0 + model
    star = model + rng.normal(size=model.shape) * np.sqrt(variance)
    dx, dy = np.full(n, 0.3), np.full(n, -0.2)
    got = moment_residuals(star, variance, np.ones(model.shape, bool), model, dx, dy)
    for value, err in ((got.size, got.size_err), (got.e1, got.e1_err), (got.e2, got.e2_err)):
        pull = value / err
        assert 0.93 < pull.std() < 1.07
        assert abs(pull.mean()) < 4 / np.sqrt(n)


def test_masked_pixels_are_filled_from_the_model(rng):
    model = _gaussian(3.0, 3.2, 0.1) * 1e4
    star, good = model.copy(), rng.random(model.shape) > 0.2
    star[~good] = np.nan
    zero = np.zeros(1)
    got = moment_residuals(star, np.ones(model.shape), good, model, zero, zero)
    assert abs(got.size[0]) < 1e-3


def test_a_model_without_moments_gives_nan():
    flat = np.zeros((1, 9, 9))
    zero = np.zeros(1)
    got = moment_residuals(flat + 1, flat + 1, np.ones(flat.shape, bool), flat, zero, zero)
    assert np.isnan(got.size[0])
    assert np.isnan(got.size_err[0])


class _TruePsf(GaussianPsf):
    def star_stamps(self, *, x, y):
        return true_stamps(x, y, self.size, fwhm=4.0, centered=False)


def test_the_true_psf_has_residuals_of_zero_within_errors(rng):
    candidates, flux = make_candidates(150, rng, jitter=0.05)
    result = psf_residuals(_TruePsf(1.7, 25), candidates)
    statistics = residual_statistics(result, np.ones(150, bool))
    assert statistics.n == len(candidates)
    assert statistics.consistent_with_zero
    # the sum of S/N^2 of these stars is about (2500)^2, and dT/T is known to 2/(S/N)
    assert statistics.size_err < 2e-3
    np.testing.assert_allclose(result.flux, flux, rtol=0.05)
    assert 0.9 < np.median(result.reduced_chi2) < 1.1


def test_a_wrong_size_is_seen(rng):
    candidates, _ = make_candidates(150, rng)

    class Wrong(GaussianPsf):
        def star_stamps(self, *, x, y):
            return true_stamps(x, y, self.size, fwhm=4.05, centered=False)

    statistics = residual_statistics(psf_residuals(Wrong(1.7, 25), candidates), np.ones(150, bool))
    assert not statistics.consistent_with_zero
    assert -0.03 < statistics.size < -0.015


def test_no_stars_give_nan(rng):
    candidates, _ = make_candidates(5, rng)
    result = psf_residuals(_TruePsf(1.7, 25), candidates)
    statistics = residual_statistics(result, np.zeros(5, bool))
    assert statistics.n == 0
    assert np.isnan(statistics.size)
