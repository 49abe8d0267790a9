"""The oversampled pixel-basis fit: its stack, its clipping, its accuracy against a known truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from naive import psfex as naive
from naive.psf_stars import WIDTH, make_candidates, true_stamps
from zeropoint.datamodel.psf_model import shapes_of_stamps
from zeropoint.psf.pixel_grid_export import PositionFrame, export_pixel_grid, triangular_exponents
from zeropoint.psf.psfex_fit import STACK_RIDGE, PsfexOptions, clip_limit, fit_psfex, stack_stars, taper
from zeropoint.psf.stars import make_psf_stars

HALF = 0.5 * (WIDTH - 1)
FRAME = PositionFrame(HALF, HALF, 0.5 * WIDTH, 0.5 * WIDTH)
SIDE = 25


def _stars(candidates):
    return make_psf_stars(
        candidates, side=candidates.side, bad_bits=4, minimum_unmasked_fraction=0.0, max_snr=np.inf
    )


def _options(fwhm, **changes):
    scale = min(1.0, 0.3 * fwhm)
    values = {
        "order": 2,
        "grid": 2 * int(0.5 * SIDE / scale) + 1,
        "scale": scale,
        "lanczos": 11,
        "frame": FRAME,
    }
    return PsfexOptions(**{**values, "fwhm": fwhm, "recentroid": False, **changes})


def _psf(fit, o, size=SIDE):
    return export_pixel_grid(
        fit.grids, triangular_exponents(o.order), o.frame, size=size, scale=o.scale, lanczos=o.lanczos
    )


def _errors(psf, rng, fwhm, n=150):
    """Return dT/T, de1, de2 of the model against the noiseless truth at new positions."""
    x, y = rng.uniform(20, WIDTH - 20, (2, n))
    truth = true_stamps(x, y, SIDE, fwhm=fwhm)
    a, b = shapes_of_stamps(psf.kernel_stamps(x=x, y=y)), shapes_of_stamps(np.ascontiguousarray(truth))
    size, true_size = a.xx + a.yy, b.xx + b.yy
    e1 = (a.xx - a.yy) / size - (b.xx - b.yy) / true_size
    return size / true_size - 1, e1, 2 * a.xy / size - 2 * b.xy / true_size


@pytest.fixture(scope="module")
def sharp():
    """160 noisy stars of FWHM 2.4 pixels with a quadratic PSF."""
    return make_candidates(160, np.random.default_rng(5), side=SIDE, fwhm=2.4, flux=(4.3, 6.0), jitter=0.0)[0]


def test_the_stack_equals_one_pixel_at_a_time(rng):
    stars = _stars(make_candidates(12, rng, side=SIDE, fwhm=2.4, flux=(4.0, 5.0))[0])
    o = _options(2.4, grid=15, lanczos=5, order=1)
    flux = stars.image.sum(axis=(1, 2))
    found = stack_stars(stars, flux, stars.dx, stars.dy, np.ones(len(stars), bool), 0.1, o)
    basis = FRAME.monomials(triangular_exponents(1), x=stars.x, y=stars.y)
    expected = naive.stack(
        stars.image, stars.sky_variance, stars.variance_slope, flux, stars.dx, stars.dy, basis,
        15, o.scale, 5, 0.1, STACK_RIDGE,
    )  # fmt: skip
    np.testing.assert_allclose(found, expected, atol=1e-10)


@given(st.lists(st.floats(0.0, 50.0), min_size=1, max_size=40))
def test_the_clipping_equals_its_definition(values):
    chi = np.array(values)
    assert clip_limit(chi) == pytest.approx(naive.clip_limit(chi))


def test_the_clipping_keeps_good_stars_and_drops_a_double(rng):
    chi = rng.normal(1.0, 0.03, 200)
    limit = clip_limit(np.append(chi, [2.0, 7.0]))
    assert (chi <= limit).mean() > 0.99
    assert limit < 2.0


def test_the_taper_is_one_inside_and_zero_at_the_edge():
    o = _options(2.4)
    window = taper(o, SIDE)
    r = np.hypot(*(np.mgrid[: o.grid, : o.grid] - o.grid // 2)) * o.scale
    assert (window[r < 0.5 * SIDE - 2.4] == 1).all()
    assert (window[r >= 0.5 * SIDE] == 0).all()


@pytest.mark.parametrize("recentroid", [False, True])
def test_noiseless_stars_give_the_true_psf(rng, recentroid):
    candidates, _ = make_candidates(70, rng, side=SIDE, noise=False, flux=(6.0, 6.0), jitter=0.0)
    o = _options(3.6, recentroid=recentroid)
    errors = _errors(_psf(fit_psfex(_stars(candidates), o), o), rng, 4.0)
    # what remains: pixels of a PSF whose size and shape are quadratic are not themselves quadratics
    assert max(np.abs(e).max() for e in errors) < 1.5e-3


def test_sharp_stars_give_the_psf_within_noise(sharp, rng):
    o = _options(2.4)
    fit = fit_psfex(_stars(sharp), o)
    size, e1, e2 = _errors(_psf(fit, o), rng, 2.4)
    # S/N of all stars together is about 8000: 2/8000 sqrt(6 terms) = 6e-4 rms; sampling at 0.72 pixels adds as much
    assert abs(size.mean()) < 1e-3
    assert max(size.std(), e1.std(), e2.std()) < 1.8e-3
    assert fit.used.sum() >= 0.97 * len(sharp)
    assert 0.85 < fit.chi2 / fit.dof < 1.05


def test_undersampled_stars_are_drawn_at_any_phase(rng):
    candidates, _ = make_candidates(120, rng, side=17, fwhm=1.3, flux=(4.5, 6.0), jitter=0.0)
    o = _options(1.5, order=1, grid=37)
    psf = _psf(fit_psfex(_stars(candidates), o), o)
    x, y = rng.uniform(100, WIDTH - 100, (2, 100))
    truth = true_stamps(x, y, SIDE, fwhm=1.3, centered=False)
    truth /= truth.sum(axis=(1, 2), keepdims=True)
    error = psf.star_stamps(x=x, y=y) - truth
    # the PSF varies as a quadratic, of which a plane leaves 2 %; native model pixels would leave 10 %
    assert np.sqrt((error**2).sum() / (truth**2).sum()) < 0.04


def test_masked_pixels_and_neighbours_in_the_wings_do_no_harm(sharp, rng):
    o = _options(2.4)
    stars = sharp.take(np.arange(len(sharp)))
    bad = rng.random(stars.mask.shape) < 0.03
    stars.mask[bad] = 4
    stars.image[bad] = 1e6
    for k in range(0, len(stars), 4):  # unmasked stars of a tenth of the flux, ten pixels away
        light = 0.1 * float(stars.image[k][stars.mask[k] == 0].sum())
        neighbour = true_stamps([2000.0], [2000.0], SIDE, fwhm=2.4)[0] * light
        stars.image[k] += np.roll(neighbour, (-8, 6), axis=(0, 1)).astype(np.float32)
    errors = _errors(_psf(fit_psfex(_stars(stars), o), o), rng, 2.4)
    assert max(np.sqrt((e**2).mean()) for e in errors) < 3e-3


def test_doubles_and_extended_sources_are_dropped(sharp, rng):
    stars = sharp.take(np.arange(len(sharp)))
    odd = np.arange(0, len(stars), 16)
    bright = stars.image.max(axis=(1, 2)) > 3000
    odd = odd[bright[odd]]
    for k in odd:
        stars.image[k] = 0.6 * stars.image[k] + 0.4 * np.roll(stars.image[k], 2, axis=1)
    o = _options(2.4)
    fit = fit_psfex(_stars(stars), o)
    assert len(odd) >= 3
    assert not fit.used[odd].any()
    assert fit.used.sum() > 0.85 * len(stars)
    errors = _errors(_psf(fit, o), rng, 2.4)
    assert max(np.sqrt((e**2).mean()) for e in errors) < 3e-3


def test_the_order_of_the_stars_does_not_matter(sharp):
    o = _options(2.4, order=1)
    order = np.random.default_rng(1).permutation(len(sharp))
    a, b = fit_psfex(_stars(sharp), o), fit_psfex(_stars(sharp.take(order)), o)
    assert np.array_equal(a.used[order], b.used)
    assert np.array_equal(a.grids, b.grids)
    assert np.array_equal(a.flux[order], b.flux)


def test_a_model_that_cannot_follow_the_psf_is_trusted_less(sharp):
    fits = [fit_psfex(_stars(sharp), _options(2.4, order=order)) for order in (0, 2)]
    assert fits[0].accuracy > 3 * fits[1].accuracy
