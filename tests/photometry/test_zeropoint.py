import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.photometry.zeropoint import fit_zeropoint, histogram_start

ZP = 25.0


def stars(rng, n, *, excess=0.0, ref_err=0.01, outliers=0.0, tail=0.1):
    """Return differences and errors of stars of 1-60 mmag, some of them too bright by an exponential amount."""
    error = np.hypot(10 ** rng.uniform(-3, -1.2, n), ref_err)
    difference = ZP + rng.normal(0, np.hypot(error, excess))
    bad = rng.random(n) < outliers
    difference[bad] += rng.exponential(tail, bad.sum())
    return difference, error


@pytest.mark.parametrize("excess", [0.0, 0.02])
def test_pulls_have_unit_width(excess):
    rng = np.random.default_rng(1)
    fits = [fit_zeropoint(*stars(rng, 150, excess=excess)) for _ in range(250)]
    pulls = np.array([(fit.zp - ZP) / fit.sigma for fit in fits])
    assert abs(pulls.mean()) < 4 / np.sqrt(250)
    # the standard error of a standard deviation of 250 values is 4.5 %
    assert 0.85 < pulls.std() < 1.12
    assert np.mean([fit.excess for fit in fits]) == pytest.approx(excess, abs=0.003)
    assert abs(np.mean([fit.zp for fit in fits]) - ZP) < 0.5e-3


@pytest.mark.parametrize("n", [8, 20])
def test_few_stars_never_claim_too_much(n):
    rng = np.random.default_rng(2)
    pulls = []
    for _ in range(200):
        fit = fit_zeropoint(*stars(rng, n, excess=0.02))
        pulls.append((fit.zp - ZP) / fit.sigma)
    assert 0.6 < np.std(pulls) < 1.3


@pytest.mark.parametrize("tail", [0.1, 0.3])
@pytest.mark.parametrize("excess", [0.0, 0.02])
def test_one_sided_outliers_do_not_bias(tail, excess):
    rng = np.random.default_rng(3)
    zps = [fit_zeropoint(*stars(rng, 300, excess=excess, outliers=0.2, tail=tail)).zp for _ in range(40)]
    assert abs(np.mean(zps) - ZP) < 3e-3


def test_overestimated_errors_shrink_the_formal_error():
    rng = np.random.default_rng(4)
    difference, error = stars(rng, 300)
    assert fit_zeropoint(difference, 1.5 * error).sigma == pytest.approx(
        fit_zeropoint(difference, error).sigma, rel=0.15
    )


def test_one_star_is_its_own_zero_point():
    fit = fit_zeropoint(np.array([24.5]), np.array([0.02]))
    assert (fit.zp, fit.n_good) == (24.5, 1)
    assert fit.sigma == pytest.approx(0.02)


def test_identical_stars_are_all_used():
    fit = fit_zeropoint(np.full(10, 24.5), np.full(10, 0.02))
    assert fit.zp == pytest.approx(24.5, abs=1e-12)
    assert fit.good.all()
    assert fit.sigma == pytest.approx(0.02 / np.sqrt(10))
    rounded = np.full(10, 24.5) + np.arange(10) * 4e-15
    assert fit_zeropoint(rounded, np.full(10, 0.02)).good.all()


def test_no_star_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        fit_zeropoint(np.empty(0), np.empty(0))


@pytest.mark.parametrize("options", [{"use_median": False}, {"sigma_max": None}, {"n_sigma": 5.0}])
def test_options_change_little_on_clean_stars(options):
    difference, error = stars(np.random.default_rng(5), 200)
    assert fit_zeropoint(difference, error, **options).zp == pytest.approx(ZP, abs=4e-3)


def test_sigma_max_limits_the_clipping():
    rng = np.random.default_rng(6)
    difference = np.concatenate([rng.normal(25.0, 0.5, 400), [27.5]])
    fit = fit_zeropoint(difference, np.full(401, 0.5), sigma_max=0.1)
    assert np.abs(difference[fit.good] - fit.zp).max() <= 0.3 + 1e-9


def test_the_histogram_starts_at_the_mode():
    rng = np.random.default_rng(7)
    values = np.sort(np.concatenate([rng.normal(0, 0.02, 600), rng.uniform(0, 1, 200)]))
    centre, sigma, widest = histogram_start(values)
    assert abs(centre) < 0.06
    assert 0 < sigma < 0.1
    assert widest == 2 * sigma
    two_peaks = np.sort(np.r_[np.zeros(50), np.ones(50)])
    assert histogram_start(two_peaks) == (0.5, 1 / 2.3, 1.0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999), n=st.integers(1, 80), shift=st.floats(-5, 5))
def test_the_zero_point_moves_with_the_stars_and_not_with_their_order(seed, n, shift):
    rng = np.random.default_rng(seed)
    difference, error = stars(rng, n, outliers=0.1)
    first = fit_zeropoint(difference, error)
    mixed = rng.permutation(n)
    assert fit_zeropoint(difference[mixed], error[mixed]).zp == pytest.approx(first.zp, abs=1e-6)
    assert difference.min() - 1e-9 <= first.zp <= difference.max() + 1e-9
    assert np.isfinite(first.sigma)
    assert first.sigma > 0


def test_few_stars_that_scatter_widely_all_count():
    # five of fourteen lie close together by accident
    values = np.array(
        [25.27, 25.39, 25.43, 25.56, 25.63, 25.675, 25.678, 25.684, 25.72, 25.85, 25.98, 26.0, 26.13, 26.15]
    )
    fit = fit_zeropoint(values, np.full(len(values), 0.02))
    assert fit.n_good == len(values)
    assert fit.zp == pytest.approx(values.mean(), abs=0.01)
    assert fit.sigma > 0.05


def test_few_stars_around_a_tight_majority_are_clipped():
    values = np.array([24.1, 24.9, 25.0, 25.005, 24.995, 25.01, 24.99, 25.002, 25.6, 26.3])
    fit = fit_zeropoint(values, np.full(len(values), 0.01))
    assert fit.n_good == 6
    assert fit.zp == pytest.approx(25.0, abs=0.01)
