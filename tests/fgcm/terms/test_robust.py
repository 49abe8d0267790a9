"""Means that outliers do not move: of detectors, of stars, under clear sky and under clouds."""

from __future__ import annotations

import numpy as np
import pytest

from zeropoint.fgcm.terms.gray import GrayResiduals
from zeropoint.fgcm.terms.outliers import (
    StarResiduals,
    detector_outliers,
    robust_star_residuals,
    with_lost_stars,
)
from zeropoint.fgcm.terms.robust import Groups, robust_group_means

N_GROUPS, N_STARS = 400, 150
GROUP = np.repeat(np.arange(N_GROUPS), N_STARS)


def drawn(rng: np.random.Generator, cloud: float) -> tuple[np.ndarray, np.ndarray]:
    err = rng.uniform(0.004, 0.04, len(GROUP))
    return rng.normal(-cloud, err), err


@pytest.mark.parametrize("cloud", [0.0, 1.2])
def test_outliers_move_no_mean_under_clear_sky_and_clouds(rng: np.random.Generator, cloud: float) -> None:
    values, err = drawn(rng, cloud)
    # all of them to one side, which is worst
    far = rng.random(len(values)) < 0.02
    values[far] += rng.uniform(0.1, 0.6, far.sum())
    found = robust_group_means(values, err**2, GROUP, N_GROUPS, np.ones(len(values), bool), n_sigma=4.0)
    sigma = 1.0 / np.sqrt(found.weight)
    pull = (found.mean + cloud) / sigma
    # a standard deviation of 400 pulls is known to 3.5 %, their mean to 0.05; an outlier of 2.5 to 4 errors moves it a little
    assert 0.88 < pull.std() < 1.14
    assert abs(pull.mean()) < 0.25
    assert np.median(sigma) < 1.2e-3
    assert found.outlier[far & (np.abs(values + cloud) > 6 * err)].all()
    # 1 in 16,000 is beyond four
    assert found.outlier[~far].mean() < 3e-4


def test_normal_noise_is_averaged_as_its_weights_say(rng: np.random.Generator) -> None:
    values, err = drawn(rng, 0.0)
    found = robust_group_means(values, err**2, GROUP, N_GROUPS, np.ones(len(values), bool), n_sigma=5.0)
    weight = 1.0 / err**2
    plain = np.bincount(GROUP, weight * values) / np.bincount(GROUP, weight)
    sigma = np.bincount(GROUP, weight) ** -0.5
    # some groups scatter more by chance, and then weigh their stars a little otherwise
    assert (np.abs(found.mean - plain) < 1e-6).mean() > 0.97
    assert np.abs(found.mean - plain).max() < sigma.max()
    assert abs((found.mean / sigma).mean()) < 4 / np.sqrt(N_GROUPS)


def test_the_error_knows_scatter_that_the_errors_do_not_explain(rng: np.random.Generator) -> None:
    values, err = drawn(rng, 0.5)
    values += rng.normal(0.0, 0.02, len(values))
    found = robust_group_means(values, err**2, GROUP, N_GROUPS, np.ones(len(values), bool), n_sigma=4.0)
    np.testing.assert_allclose(np.sqrt(np.median(found.excess)), 0.02, rtol=0.05)
    pull = (found.mean + 0.5) * np.sqrt(found.weight)
    assert 0.88 < pull.std() < 1.14


def test_the_order_of_the_observations_changes_no_outlier_and_few_groups_have_none(
    rng: np.random.Generator,
) -> None:
    values, err = drawn(rng, 0.0)
    values[::70] += 0.3
    order = rng.permutation(len(values))
    ones = np.ones(len(values), bool)
    found = robust_group_means(values, err**2, GROUP, N_GROUPS, ones, n_sigma=4.0)
    other = robust_group_means(values[order], err[order] ** 2, GROUP[order], N_GROUPS, ones, n_sigma=4.0)
    assert np.array_equal(found.outlier[order], other.outlier)
    np.testing.assert_allclose(found.mean, other.mean, rtol=0, atol=1e-9)
    two = robust_group_means(
        np.array([0.0, 1.0]), np.full(2, 1e-4), np.zeros(2, int), 2, np.ones(2, bool), n_sigma=4.0
    )
    assert not two.outlier.any()
    assert np.isnan(two.mean[1])


def test_one_bright_star_in_a_cloudy_exposure_is_found() -> None:
    # what a user met: 147 stars under 1.2 mag of clouds, one of them off by 0.89 mag
    rng = np.random.default_rng(3)
    err = rng.uniform(0.004, 0.08, 147)
    gray = rng.normal(-1.2, err)
    gray[5], err[5] = -1.2 + 0.89, 0.005
    residuals = GrayResiduals(gray.astype("f4"), np.square(err).astype("f4"))
    outlier = detector_outliers(
        residuals, Groups.of(np.zeros(147, int), 1), 1, np.ones(147, bool), sigma_clip=4.0
    )
    assert np.flatnonzero(outlier).tolist() == [5]


def test_an_outlier_does_not_make_outliers_of_the_others_of_its_star(rng: np.random.Generator) -> None:
    n_stars, n = 300, 7
    segment = np.repeat(np.arange(n_stars), n)
    err = np.full(n_stars * n, 0.005)
    mag = rng.normal(0.0, err)
    far = np.arange(0, n_stars * n, n * 10)  # the first of every tenth star
    mag[far] += 0.5
    mean = np.bincount(segment, mag) / n
    mean_err = np.full(n_stars, 0.005 / np.sqrt(n))
    member = np.ones(len(mag), bool)
    plain = GrayResiduals((mean[segment] - mag).astype("f4"), (err**2 - mean_err[segment] ** 2).astype("f4"))
    found = robust_star_residuals(plain, segment, mean_err, member, member)
    rest = np.setdiff1d(np.arange(len(mag)), far)
    np.testing.assert_allclose(found.gray[far], -0.5, atol=0.03)
    assert (np.abs(plain.gray[rest]) > 0.05).any()
    pull = found.gray[rest] / np.sqrt(found.variance[rest])
    assert np.abs(pull).max() < 5.0
    # 2000 pulls: a standard deviation known to 1.6 %
    assert abs(pull.std() - 1.0) < 0.08


def test_stars_without_a_mean_are_judged_by_their_own_observations() -> None:
    # star 0 has a mean; both of star 1 were outliers; of star 2 one is of an exposure that is not photometric
    segment = np.array([0, 0, 1, 1, 2, 2])
    standard = np.array([17.0, 17.1, 16.0, 16.5, 18.0, 18.2], "f4")
    err = np.array([0.01, 0.01, 0.01, 0.02, 0.01, 0.01], "f4")
    member = np.array([True, True, False, False, False, False])
    gray = np.array([0.05, -0.05] + [np.nan] * 4, "f4")
    variance = np.array([5e-5, 5e-5] + [np.nan] * 4, "f4")
    given = StarResiduals(GrayResiduals(gray, variance), np.array([0.007, np.nan, np.nan]), member)
    candidate = np.array([True, True, True, True, True, False])
    found = with_lost_stars(given, standard, err, segment, candidate)
    assert found.member.tolist() == [True, True, True, True, True, False]
    # weights 4 to 1: the mean is 16.1
    np.testing.assert_allclose(found.residuals.gray[:5], [0.05, -0.05, 0.1, -0.4, 0.0], atol=2e-6)
    np.testing.assert_allclose(found.residuals.variance[2:5], [1e-4 - 8e-5, 4e-4 - 8e-5, 0.0], atol=1e-9)
    assert np.isnan(found.residuals.gray[5])
    assert found.mean_err == pytest.approx([0.007, np.sqrt(8e-5), 0.01])
    # what was given stays
    assert np.isnan(gray[2])
    assert with_lost_stars(given, standard, err, segment, member) is given
