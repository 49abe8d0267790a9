"""Gray of observations, detectors, exposures, and of blue and red stars."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.fgcm.terms.bright_means import bright_means, mean_exposure_gray
from zeropoint.fgcm.terms.gray import (
    DetectorGray,
    GrayResiduals,
    color_split_gray,
    detector_gray,
    exposure_gray,
    gray_residuals,
    gray_sample,
    gray_scatter,
)
from zeropoint.fgcm.terms.groups import group_medians
from zeropoint.fgcm.terms.histogram import fit_normal
from zeropoint.fgcm.terms.outliers import detector_outliers, superstar_outliers
from zeropoint.fgcm.terms.robust import Groups


def residuals_of(gray: np.ndarray, err: np.ndarray) -> GrayResiduals:
    return GrayResiduals(gray.astype(np.float32), np.square(err).astype(np.float32))


def test_a_star_seen_under_clouds_has_negative_gray() -> None:
    mean, err = np.array([[20.0]]), np.array([[0.003]])
    found = gray_residuals(
        np.array([20.1, 19.9], "f4"),
        np.full(2, 0.01, "f4"),
        np.zeros(2, int),
        mean,
        err,
        np.array([True, False]),
    )
    np.testing.assert_allclose(found.gray, [-0.1, 0.1], atol=2e-6)


def test_variances_of_residuals_are_those_of_repeated_draws() -> None:
    rng = np.random.default_rng(3)
    err = np.array([0.01, 0.02, 0.03, 0.015])
    noise = rng.normal(size=(20000, 4)) * err
    weight = np.array([1.0, 1.0, 1.0, 0.0]) / err**2  # the last is no member
    mean = (noise * weight).sum(axis=1) / weight.sum()
    found = gray_residuals(
        noise.astype("f4").ravel(),
        np.tile(err, 20000).astype("f4"),
        np.repeat(np.arange(20000), 4),
        mean[:, None],
        np.full((20000, 1), weight.sum() ** -0.5),
        np.tile(weight > 0, 20000),
    )
    spread = np.var(found.gray.reshape(-1, 4), axis=0)
    # the variance of 20000 draws is known to 1 %
    np.testing.assert_allclose(found.variance.reshape(-1, 4)[0], spread, rtol=0.04)


def test_the_largest_error_is_compared_with_the_error_and_not_with_its_square() -> None:
    found = residuals_of(np.zeros(3), np.array([0.05, 0.099, 0.15]))
    assert gray_sample(found, np.ones(3, bool), 0.1).tolist() == [True, True, False]


def naive_detector(gray, var, ec, n, sample, extra):  # type: ignore[no-untyped-def]
    mean, err, rms, other = (np.full(n, np.nan) for _ in range(4))
    for g in range(n):
        rows = sample & (ec == g)
        if rows.sum() < 3:
            continue
        w = 1.0 / var[rows].astype(float)
        mean[g] = (w * gray[rows]).sum() / w.sum()
        err[g] = w.sum() ** -0.5
        rms[g] = np.sqrt((w * (gray[rows] - mean[g]) ** 2).sum() / w.sum())
        other[g] = (w * extra[rows]).sum() / w.sum()
    return mean, err, rms, other


def test_detectors_are_averaged_as_one_by_one(rng: np.random.Generator) -> None:
    n, shape = 600, (10, 4)
    ec = rng.integers(0, 40, n)
    ec[ec == 7] = 8  # one without stars
    ec[np.flatnonzero(ec == 9)[2:]] = 10  # and one with two
    found = residuals_of(rng.normal(-0.8, 0.02, n), rng.uniform(0.01, 0.05, n))
    sample, extra = rng.random(n) < 0.9, rng.normal(size=n).astype("f4")
    sample[ec == 9] = True
    result = detector_gray(found, ec, shape, sample, delta_std=extra, n_good=np.full(n, 7.0, "f4"))
    twin = naive_detector(found.gray, found.variance, ec, 40, sample, extra)
    for values, expected in zip((result.gray, result.err, result.rms, result.delta_std), twin):
        np.testing.assert_allclose(values.ravel(), expected, rtol=1e-6)
    assert np.isnan(result.gray.ravel()[[7, 9]]).all()
    assert result.n_stars.ravel()[9] == 2
    assert np.nanmax(result.n_tilings) == np.nanmin(result.n_tilings) == 7.0


@pytest.mark.parametrize(("n_others", "enough"), [(3, False), (2, True), (0, True)])
def test_an_exposure_needs_three_detectors_unless_stars_are_on_fewer(
    rng: np.random.Generator, n_others: int, enough: bool
) -> None:
    # of a camera of six detectors the first exposure has stars on two, the second on some
    ec = np.concatenate(
        [rng.integers(0, 2, 200), 6 + rng.integers(0, max(n_others, 1), 200 * (n_others > 0))]
    )
    found = residuals_of(rng.normal(0, 0.01, len(ec)), np.full(len(ec), 0.01))
    detectors = detector_gray(found, ec, (2, 6), np.ones(len(ec), bool))
    exposure = exposure_gray(detectors, min_star_per_ccd=5, max_ccd_gray_err=0.05)
    assert np.isfinite(exposure.gray[0]) == enough
    assert exposure.n_detectors.tolist() == [2, n_others]
    assert exposure.n_stars[0] == 200


def test_the_scatter_of_detectors_is_the_variance_of_an_exposure() -> None:
    ec = np.repeat(np.arange(3), 50)
    found = residuals_of(np.repeat([-0.03, 0.0, 0.03], 50), np.full(150, 0.02))
    detectors = detector_gray(found, ec, (1, 3), np.ones(150, bool))
    exposure = exposure_gray(detectors, min_star_per_ccd=5, max_ccd_gray_err=0.05)
    np.testing.assert_allclose(exposure.variance, [0.0006], rtol=1e-6)
    # the detectors differ by more than their errors
    np.testing.assert_allclose(exposure.err, [np.sqrt(0.0006 / 2)], rtol=1e-6)
    even = residuals_of(np.zeros(150), np.full(150, 0.02))
    exposure = exposure_gray(
        detector_gray(even, ec, (1, 3), np.ones(150, bool)), min_star_per_ccd=5, max_ccd_gray_err=0.05
    )
    np.testing.assert_allclose(exposure.err, [0.02 / np.sqrt(150)], rtol=1e-6)


def test_stars_are_split_at_the_quartiles_of_their_colors(rng: np.random.Generator) -> None:
    color = rng.permutation(np.linspace(0.0, 2.0, 400))
    color[:8] = np.nan
    star = np.tile(np.arange(400), 2)
    gray = 0.01 * (np.nan_to_num(color)[star] - 1.0)
    found = residuals_of(gray, np.full(800, 0.01))
    exposure = np.repeat([0, 1], 400).astype("i4")
    sample = np.ones(800, bool)
    sample[exposure == 1] = star[exposure == 1] < 30
    split = color_split_gray(found, exposure, 2, sample, star, color, min_star_per_exp=200)
    np.testing.assert_allclose(split.gray[0], [-0.0075, 0.0, 0.0075], atol=4e-4)
    assert np.isnan(split.gray[1]).all()
    assert split.n_stars[0].sum() == 392


def test_bright_means_leave_clouded_observations_out() -> None:
    start = np.array([0, 4, 4, 6])
    mstd = np.array([20.0, 20.1, 20.5, 19.0, 18.0, 18.2], "f4")
    err = np.array([0.01, 0.01, 0.01, 0.01, 0.02, 0.01], "f4")
    good = np.array([True, True, True, False, True, True])
    means = bright_means(mstd, err, start, good, gray_max=0.15)
    assert means.used.tolist() == [True, True, False, False, True, False]
    np.testing.assert_allclose(means.mean, [20.05, np.nan, 18.0], atol=2e-6)
    np.testing.assert_allclose(means.err, [0.01 / np.sqrt(2), np.nan, 0.02], rtol=1e-6)
    gray = means.mean[np.array([0, 0, 0, 0, 2, 2])] - mstd
    mean, n = mean_exposure_gray(gray.astype("f4"), np.array([0, 1, 0, 1, 0, 1]), 3, good)
    np.testing.assert_allclose(mean, [(0.05 - 0.45 + 0.0) / 3, (-0.05 - 0.2) / 2, np.nan], atol=1e-5)
    assert n.tolist() == [3, 2, 0]


def test_bright_blends_are_found_among_faint_stars(rng: np.random.Generator) -> None:
    err = np.where(np.arange(4000) % 2, 0.05, 0.004)
    gray = rng.normal(size=4000) * err
    gray[:40:2] += 0.06  # 15 errors of a bright star, hardly more than one of a faint star
    found, good = residuals_of(gray, err), np.ones(4000, bool)
    group = np.arange(4000, dtype="i4") // 1000
    good[3999] = False
    for outlier in (
        superstar_outliers(found, Groups.of(group, 4), np.array([1, 1, 0, 0]), 2, good, sigma_clip=5.0),
        detector_outliers(found, Groups.of(group, 4), 2, good, sigma_clip=5.0),
    ):
        assert outlier[:40:2].all()
        assert outlier.sum() <= 21
        assert not outlier[3999]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-3, 3, width=32)), max_size=60))
def test_medians_of_groups_are_numpys(rows: list[tuple[int, float]]) -> None:
    group = np.array([g for g, _ in rows], dtype=np.int32)
    values = np.array([v for _, v in rows], dtype=np.float32)
    median, count = group_medians(values, group, 6)
    away = np.array([v - np.median(values[group == g].astype(float)) for g, v in rows])
    mad = [np.median(np.abs(away[group == g])) if (group == g).any() else np.nan for g in range(6)]
    for g in range(6):
        inside = values[group == g].astype(float)
        assert count[g] == len(inside)
        assert np.isnan(median[g]) if len(inside) == 0 else median[g] == np.median(inside)
    # so are those that outliers of flats are told by: the limit itself, which single precision blurs, is none
    limit = np.array([2.0 * 1.4826 * mad[g] if count[g] >= 3 else np.inf for g, _ in rows])
    clear = np.abs(np.abs(away) - limit) > 1e-5
    found = GrayResiduals(values, np.ones(len(values), np.float32))
    outlier = superstar_outliers(
        found, Groups.of(group, 6), np.arange(6)[::-1], 6, np.ones(len(values), bool), sigma_clip=2.0
    )
    np.testing.assert_array_equal(outlier[clear], (np.abs(away) > limit)[clear])


def test_a_normal_curve_ignores_tails(rng: np.random.Generator) -> None:
    values = np.concatenate([rng.normal(0.002, 0.01, 5000), rng.uniform(-0.5, 0.0, 500)])
    fit = fit_normal(values)
    assert fit.method == "histogram"
    # the width of 5000 values is known to 1 %, their mean to 0.00014; the tail adds 2 % under the core
    assert fit.sigma == pytest.approx(0.01, rel=0.06)
    assert fit.mean == pytest.approx(0.002, abs=0.0006)
    assert np.std(values) > 0.08


def test_few_values_have_a_median_and_none_have_nothing() -> None:
    fit = fit_normal([0.0, 1.0, 2.0, np.nan])
    assert (fit.mean, fit.method, fit.n) == (1.0, "median", 3)
    assert fit.sigma == pytest.approx(1.4826)
    assert fit_normal([]).method == "none"
    assert np.isnan(fit_normal([]).sigma)


def test_the_scatter_of_gray_is_what_errors_do_not_explain(rng: np.random.Generator) -> None:
    # 300 exposures of four detectors in each of two bands; the second has no gray, and one in ten is under clouds
    n_exp, n_det, sigma = 600, 4, 0.002
    band, clear = np.arange(n_exp) % 2, np.arange(n_exp) % 10 < 9
    err = rng.uniform(0.0005, 0.003, (n_exp, n_det))
    gray = rng.normal(0, 1, err.shape) * err + np.where(band == 0, sigma, 0.0)[:, None] * rng.normal(
        0, 1, err.shape
    )
    gray[~clear] -= 0.3
    gray[5, 2] = err[5, 2] = np.nan
    count = np.full(err.shape, 20)
    found = gray_scatter(DetectorGray(gray, err, err, err, count, count.astype(float)), band, 2, clear)
    # of a thousand pulls: to 6 % of the variance of gray and errors together
    assert found[0] == pytest.approx(sigma**2, rel=0.25)
    assert found[1] < 0.1 * sigma**2
    # bands without an exposure, and exposures without a band
    none = gray_scatter(
        DetectorGray(gray, err, err, err, count, count.astype(float)), np.where(band == 0, -1, 1), 2, clear
    )
    assert none[0] == 0.0
    assert none[1] == found[1]
