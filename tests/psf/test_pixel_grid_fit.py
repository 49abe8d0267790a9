"""The pixel-grid fit: its linear solve, its accuracy, its robustness."""

from dataclasses import replace

import numpy as np
import pytest

from naive import psf_solve as naive
from naive import psfex as naive_psfex
from naive.psf_stars import WIDTH, make_candidates, true_stamps
from zeropoint.kernels.moments import adaptive_moments_stack
from zeropoint.psf._kernels_pixel_grid import interpolation_matrices
from zeropoint.psf.pixel_grid_fit import PixelGridOptions, fit_pixel_grid, polynomial_exponents
from zeropoint.psf.pixel_grid_stars import star_sizes
from zeropoint.psf.spatial_solve import solve_increment
from zeropoint.psf.stars import make_psf_stars, variance_line

HALF = 0.5 * (WIDTH - 1)
OPTIONS = PixelGridOptions(order=2, x_ref=HALF, y_ref=HALF, norm=0.5 * WIDTH)


def _stars(candidates, side=25, max_snr=200.0, bad_bits=4):
    return make_psf_stars(
        candidates, side=side, bad_bits=bad_bits, minimum_unmasked_fraction=0.5, max_snr=max_snr
    )


def _shapes(stamps):
    out = np.empty((len(stamps), 4))
    centre = np.full(len(stamps), float(stamps.shape[1] // 2))
    adaptive_moments_stack(np.ascontiguousarray(stamps), centre, centre, 1.5, 300, 1e-8, out)
    size = out[:, 1] + out[:, 2]
    return size, (out[:, 1] - out[:, 2]) / size, 2 * out[:, 3] / size


def _errors(psf, rng, n=200, fwhm=4.0):
    """Return dT/T, de1, de2 of the model against the noiseless truth at new positions."""
    x, y = rng.uniform(20, WIDTH - 20, (2, n))
    truth = _shapes(true_stamps(x, y, psf.size, fwhm=fwhm))
    model = _shapes(psf.kernel_stamps(x=x, y=y))
    return model[0] / truth[0] - 1, model[1] - truth[1], model[2] - truth[2]


@pytest.mark.parametrize(("scale", "order"), [(1.0, 11), (1.0, 3), (0.5, 7)])
def test_interpolation_matrices_equal_their_definition(scale, order):
    offset = np.array([0.0, 0.37, -0.5, 3.2])
    out = np.empty((4, 9, 7))
    interpolation_matrices(offset, scale, order, out)
    for k in range(4):
        expected = naive.interpolation_matrix(offset[k], 9, 7, scale, order)
        np.testing.assert_allclose(out[k], expected, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_solve_equals_dense_least_squares(rng, masked):
    n, side, grid = 30, 9, 7
    xy = rng.uniform(-1, 1, (n, 2))
    basis = np.stack([np.ones(n), xy[:, 0], xy[:, 1]], axis=1)
    wx, wy = np.empty((n, side, grid)), np.empty((n, side, grid))
    interpolation_matrices(rng.uniform(-0.5, 0.5, n), 1.0, 5, wx)
    interpolation_matrices(rng.uniform(-0.5, 0.5, n), 1.0, 5, wy)
    flux = rng.uniform(1, 3, n)
    weight = rng.uniform(0.5, 1.5, (n, side, side))
    if masked:
        weight[rng.random(weight.shape) < 0.2] = 0
    residual = rng.normal(size=(n, side, side))
    found, record = solve_increment(basis, wx, wy, weight, residual, flux, tolerance=1e-10)
    expected = naive.solve_increment(basis, wx, wy, weight, residual, flux)
    # the damping of 1e-4 is the only difference; the smallest eigenvalue here is about 0.05
    np.testing.assert_allclose(found, expected, atol=5e-3 * np.abs(expected).max())
    assert record.relative_residual < 1e-10


@pytest.mark.parametrize("masked", [False, True])
def test_solve_with_a_prior_equals_dense_least_squares(rng, masked):
    n, side, grid = 12, 9, 9
    basis = np.column_stack(
        [np.ones(n), rng.uniform(-1, 1, n), np.full(n, 0.5)]
    )  # the last is not told apart
    wx, wy = np.empty((2, n, side, grid))
    interpolation_matrices(rng.uniform(-0.5, 0.5, n), 1.0, 5, wx)
    interpolation_matrices(rng.uniform(-0.5, 0.5, n), 1.0, 5, wy)
    flux, weight = rng.uniform(1, 3, n), rng.uniform(0.5, 1.5, (n, side, side))
    if masked:
        weight[rng.random(weight.shape) < 0.2] = 0
        weight[:, :2, :2] = 0  # seen by no star
    residual, offset = rng.normal(size=(n, side, side)), rng.normal(size=(3, grid, grid))
    # tight at some pixels, wide at others; the varying terms tighter
    sigma, factor = rng.uniform(0.02, 0.5, (grid, grid)), np.array([1.0, 0.3, 0.1])
    found, record = solve_increment(
        basis, wx, wy, weight, residual, flux, prior_offset=offset, prior_sigma=sigma, prior_factor=factor,
        tolerance=1e-9, max_steps=300,
    )  # fmt: skip
    expected = naive_psfex.solve(basis, wx, wy, weight, residual, flux, offset, factor[:, None, None] * sigma)
    # the solver's damping of 1e-4 where the prior alone speaks, whose ridge is above 1 / (0.5^2 sum of weights)
    np.testing.assert_allclose(found, expected, atol=5e-3 * np.abs(expected).max())
    assert record.n_steps < 100


def test_exponents_are_in_piffs_order():
    assert polynomial_exponents(2).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [2, 0]]


def test_variance_line_recovers_gain_and_sky(rng):
    image = rng.uniform(0, 1000, (3, 9, 9))
    variance = 0.5 * image + 40.0
    good = rng.random(image.shape) > 0.2
    variance[~good] = np.nan
    slope, sky = variance_line(image, np.where(good, variance, 1e9), good)
    np.testing.assert_allclose(slope, 0.5)
    np.testing.assert_allclose(sky, 40.0)


def test_variance_line_without_contrast_or_with_a_negative_intercept_is_the_median(rng):
    image = np.stack([np.full((5, 5), 3.0), rng.uniform(0, 1, (5, 5))])
    variance = np.stack([np.full((5, 5), 7.0), 1e3 * image[1] - 100.0])
    slope, sky = variance_line(image, variance, np.ones(image.shape, bool))
    assert slope.tolist() == [0.0, 0.0]
    np.testing.assert_allclose(sky, [7.0, np.median(variance[1])])


def test_weights_are_flat_and_capped(rng):
    candidates, _ = make_candidates(6, rng, flux=(5.5, 5.5))
    candidates.mask[0, 13, 13] = 4
    stars = _stars(candidates)
    assert stars.weight[0, 12, 12] == 0
    positive = stars.weight[0][stars.weight[0] > 0]
    assert np.ptp(positive) == 0
    power = (stars.weight * stars.image**2).sum(axis=(1, 2))
    # after the cap, S/N = (F - N)/sqrt(F) with F scaled by cap^2: sqrt(F) is at most about the cap
    assert (np.sqrt(power) < 210).all()


def test_mostly_masked_stars_are_left_out(rng):
    candidates, _ = make_candidates(4, rng, jitter=0.0)
    candidates.mask[1, :20] = 4
    candidates.image[2, 5, 5] = np.nan
    stars = _stars(candidates)
    assert stars.index.tolist() == [0, 2, 3]
    assert stars.weight[1, 4, 4] == 0


def test_noiseless_stars_give_the_true_psf(rng):
    candidates, _ = make_candidates(80, rng, noise=False, flux=(5.0, 5.0))
    fit = fit_pixel_grid(_stars(candidates), OPTIONS)
    size, e1, e2 = _errors(fit.psf, rng)
    # what remains: pixels of a PSF whose size and shape are quadratic are not themselves quadratics
    assert np.abs(size).max() < 1e-3
    assert max(np.abs(e1).max(), np.abs(e2).max()) < 1e-3
    assert fit.converged


def test_noisy_stars_give_the_psf_within_noise(rng):
    candidates, _ = make_candidates(250, rng, flux=(4.7, 6.1))
    fit = fit_pixel_grid(_stars(candidates), OPTIONS)
    size, e1, e2 = _errors(fit.psf, rng)
    # S/N of all stars together is about 10000: 2/10000 sqrt(6 terms) = 5e-4 rms
    assert abs(size.mean()) < 5e-4
    assert max(e1.std(), e2.std()) < 7e-4
    assert fit.used.sum() > 0.97 * len(candidates)
    assert 0.9 < fit.chi2 / fit.dof < 1.1


def test_good_stars_are_not_lost_where_they_are_few():
    rng, lost = np.random.default_rng(5), 0
    for _ in range(8):
        candidates, _ = make_candidates(24, rng)  # 4 stars a term
        fit = fit_pixel_grid(_stars(candidates), replace(OPTIONS, prior_strength=1.0))
        lost += int((~fit.used).sum())
    assert lost <= 1


def test_masked_pixels_do_not_bias_the_psf(rng):
    candidates, _ = make_candidates(80, rng, noise=False, flux=(5.0, 5.0))
    bad = rng.random(candidates.mask.shape) < 0.05
    candidates.mask[bad] = 4
    candidates.image[bad] = 1e5
    fit = fit_pixel_grid(_stars(candidates), OPTIONS)
    size, e1, e2 = _errors(fit.psf, rng)
    assert np.abs(size).max() < 1e-3
    assert max(np.abs(e1).max(), np.abs(e2).max()) < 1e-3


@pytest.mark.parametrize("log_flux", [4.5, 5.7])
def test_doubles_and_extended_objects_are_rejected_at_any_brightness(rng, log_flux):
    candidates, _ = make_candidates(60, rng, flux=(log_flux, log_flux), jitter=0.0)
    image = candidates.image
    for k in range(3):
        image[k] += 0.3 * np.roll(image[k], 4, axis=0)
    image[3] = (
        true_stamps(candidates.x[3:4], candidates.y[3:4], 27, fwhm=5.5, centered=False)[0] * 10**log_flux
    )
    fit = fit_pixel_grid(_stars(candidates), replace(OPTIONS, outlier_max_remove=0.1))
    assert not fit.used[:4].any()
    assert fit.used[4:].mean() > 0.95


def test_the_same_stars_give_the_same_bytes(rng):
    candidates, _ = make_candidates(40, rng)
    stars = _stars(candidates)
    first = fit_pixel_grid(stars, replace(OPTIONS, order=1))
    second = fit_pixel_grid(stars, replace(OPTIONS, order=1))
    assert first.psf.coefficients.tobytes() == second.psf.coefficients.tobytes()


def test_centres_stay_where_they_are_if_not_fitted(rng):
    candidates, _ = make_candidates(30, rng, jitter=0.0)
    stars = _stars(candidates)
    fit = fit_pixel_grid(stars, replace(OPTIONS, order=0, fit_center=False))
    assert np.array_equal(fit.dx, stars.dx)


def test_sizes_of_stars_are_measured_at_any_sampling(rng):
    sigma = 0.55
    x = rng.uniform(-0.5, 0.5, (2, 50))
    r = np.arange(25) - 12
    stamps = (
        np.exp(-0.5 * ((r - x[0, :, None]) / sigma) ** 2)[:, None, :]
        * (np.exp(-0.5 * ((r - x[1, :, None]) / sigma) ** 2)[:, :, None])
    )
    candidates, _ = make_candidates(50, rng, side=25, jitter=0.0)
    stars = _stars(candidates)
    stars = replace(stars, image=1e4 * stamps, sky_variance=np.ones(50), variance_slope=np.zeros(50))
    assert abs(np.median(star_sizes(stars)) - sigma) < 0.03


def test_half_size_pixels_model_an_undersampled_psf(rng):
    candidates, _ = make_candidates(150, rng, fwhm=1.4, flux=(4.5, 5.0), jitter=0.01)
    stars = _stars(candidates)
    coarse = fit_pixel_grid(stars, replace(OPTIONS, order=1))
    fine = fit_pixel_grid(stars, replace(OPTIONS, order=1, scale=0.5, grid=25))
    x, y = rng.uniform(20, WIDTH - 20, (2, 100))
    truth = true_stamps(x, y, 25, fwhm=1.4, centered=False)

    def worst(psf):
        return np.abs(psf.star_stamps(x=x, y=y) - truth).max() / truth.max()

    # the noise of 150 stars; coarse pixels cannot do better than about 0.2
    assert worst(fine.psf) < 0.1
    assert worst(fine.psf) < 0.5 * worst(coarse.psf)
