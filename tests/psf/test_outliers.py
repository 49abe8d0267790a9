"""Outlier stars."""

import numpy as np

from zeropoint.psf.outliers import expected_chi2, find_outliers


def _draw(rng, n=200, dof=600):
    return rng.chisquare(dof, n) / dof, np.full(n, dof), 10 ** rng.uniform(1.7, 3, n)


def test_clean_stars_stay(rng):
    reduced, dof, snr = _draw(rng)
    assert find_outliers(reduced, dof, snr, n_sigma=4, max_remove=0.05).sum() <= 1


def test_a_model_wrong_by_a_fraction_rejects_nobody_for_being_bright(rng):
    reduced, dof, snr = _draw(rng)
    reduced = reduced + 2e-5 * snr**2
    assert find_outliers(reduced, dof, snr, n_sigma=4, max_remove=0.5).sum() <= 2


def test_a_scatter_that_few_stars_give_rejects_nobody(rng):
    # scatter of the model error among 15 stars, 5 of them bright: an estimate from so few may be small by chance
    lost = [0, 0]
    for _ in range(50):
        for k, n in enumerate((15, 300)):
            reduced, dof, snr = _draw(rng, n)
            reduced = reduced + np.abs(rng.normal(2e-4, 4e-5, n)) * snr**2
            lost[k] += int(find_outliers(reduced, dof, snr, n_sigma=4, max_remove=0.5).sum())
    assert lost[0] <= 2  # 6 with the quantile of a normal distribution
    assert lost[1] <= 0.002 * 300 * 50


def test_the_worst_go_first_and_at_most_the_limit(rng):
    reduced, dof, snr = _draw(rng)
    reduced[:20] += np.arange(20) + 5.0
    snr[:20] = 60.0
    outlier = find_outliers(reduced, dof, snr, n_sigma=4, max_remove=0.05)
    assert np.flatnonzero(outlier).tolist() == list(range(10, 20))


def test_non_finite_values_are_outliers(rng):
    reduced, dof, snr = _draw(rng)
    reduced[3], snr[5] = np.nan, np.inf
    assert find_outliers(reduced, dof, snr, n_sigma=4, max_remove=10)[[3, 5]].all()
    assert find_outliers(np.full(3, np.nan), dof[:3], snr[:3], n_sigma=4, max_remove=1).all()
    assert len(find_outliers(reduced[:0], dof[:0], snr[:0], n_sigma=4, max_remove=1)) == 0


def test_expected_chi2_matches_a_simulated_linear_fit(rng):
    n = 40
    basis = np.stack([np.ones(n), rng.uniform(-1, 1, n)], axis=1)
    noise = 10 ** rng.uniform(-3, -1, n)
    weight = np.minimum(1 / noise**2, 1e3)
    data = noise[:, None] * rng.normal(size=(n, 20_000))
    root = np.sqrt(weight)[:, None]
    fitted = basis @ np.linalg.lstsq(root * basis, root * data, rcond=None)[0]
    simulated = ((data - fitted) ** 2).mean(axis=1) / noise**2
    np.testing.assert_allclose(expected_chi2(basis, weight, noise), simulated, rtol=0.05)
