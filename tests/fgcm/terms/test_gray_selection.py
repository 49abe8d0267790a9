"""Photometric exposures and nights, and the limits of the next cycle."""

from __future__ import annotations

import numpy as np
import pytest

from zeropoint.fgcm.flags import ExposureFlag
from zeropoint.fgcm.terms.gray import ExposureGray
from zeropoint.fgcm.terms.selection import (
    SelectionLimits,
    calibratable_nights,
    cuts_from_scatter,
    exposure_flags,
    initial_flags,
    photometric_cuts,
)

BAND = np.array([0, 0, 1, 1, -1])
FWHM = np.array([0.8, 2.0, 2.0, np.nan, 0.8])


def gray_of(gray: list[float], n_stars: list[int], rms: list[float]) -> ExposureGray:
    n = len(gray)
    fill = np.zeros(n)
    return ExposureGray(np.array(gray), fill, np.array(rms), np.array(n_stars), np.full(n, 9), fill, fill)


def test_first_flags_are_of_clouds_few_stars_and_bad_seeing() -> None:
    flags = initial_flags(
        np.array([-0.3, 0.0, -0.2, np.nan, 0.0]),
        np.array([900, 900, 100, 0, 900]),
        BAND,
        FWHM,
        min_star_per_exp=600,
        gray_cut=-0.25,
        fwhm_cut=np.array([1.5, np.inf]),
    )
    f = ExposureFlag
    assert flags.tolist() == [
        f.EXP_GRAY_TOO_NEGATIVE,
        f.BAD_FWHM,
        f.TOO_FEW_STARS,
        f.NO_STARS,
        f.BAND_NOT_IN_LUT,
    ]


def test_flags_of_later_cycles_have_limits_by_band() -> None:
    limits = SelectionLimits(
        gray_low=np.array([-0.05, -0.01]),
        gray_high=np.array([0.05, 0.01]),
        variance=np.array([0.0005, 0.0001]),
        fwhm=np.full(2, np.inf),
        min_star_per_exp=600,
    )
    gray = gray_of([-0.03, -0.06, -0.03, np.nan, 0.0], [900] * 5, [0.02, 0.03, 0.02, np.nan, 0.0])
    flags = exposure_flags(gray, BAND, FWHM, limits)
    f = ExposureFlag
    low, var = f.EXP_GRAY_TOO_NEGATIVE, f.VAR_GRAY_TOO_LARGE
    assert flags.tolist() == [0, low | var, low | var, f.TOO_FEW_STARS, f.BAND_NOT_IN_LUT]
    high = exposure_flags(gray_of([0.06] * 5, [900] * 5, [0.0] * 5), BAND, FWHM, limits)
    assert high[0] == f.EXP_GRAY_TOO_POSITIVE


def test_a_night_needs_exposures_of_fitted_bands() -> None:
    night = np.array([0, 0, 0, 1, 1, 2])
    flags = np.array([0, 0, 2, 0, 0, int(ExposureFlag.TOO_FEW_EXP_ON_NIGHT)])
    fitted = np.array([True, True, True, True, False, True])
    found, calibratable = calibratable_nights(flags, night, 4, fitted, min_exp_per_night=2)
    assert calibratable.tolist() == [True, False, False, False]
    few = int(ExposureFlag.TOO_FEW_EXP_ON_NIGHT)
    assert found.tolist() == [0, 0, 2, few, few, few]
    again, more = calibratable_nights(found, night, 4, fitted, min_exp_per_night=1)
    assert again.tolist() == [0, 0, 2, 0, 0, 0]
    assert more.tolist() == [True, True, True, False]


def test_new_limits_come_from_the_core_of_the_distribution(rng: np.random.Generator) -> None:
    gray = np.concatenate([rng.normal(0.001, 0.004, 800), rng.uniform(-0.05, -0.02, 80), [0.3]])
    band = np.zeros(len(gray), int)
    cuts = photometric_cuts(
        gray, np.arange(len(gray)) < 880, band, np.array([-0.05, -0.05]), np.array([0.2, 0.2])
    )
    # 3 x 4 - 1 = 11 mmag and 4 x 4 + 1 = 17 mmag, rounded outward
    np.testing.assert_allclose(cuts.low, [-0.0125, -0.05])
    np.testing.assert_allclose(cuts.high, [0.0175, 0.2])
    assert [fit.method for fit in cuts.fits] == ["histogram", "none"]


def test_new_limits_stay_within_twice_the_old_ones_and_off_zero() -> None:
    low, high = cuts_from_scatter(np.array([0.0002, 0.1, np.nan, 0.0041]), np.full(4, -0.05), np.full(4, 0.2))
    np.testing.assert_allclose(low, [-0.005, -0.1, -0.05, -0.0125])
    np.testing.assert_allclose(high, [0.005, 0.4, 0.2, 0.0175])


def test_a_mean_far_below_zero_moves_both_limits() -> None:
    gray = np.full(50, -0.03) + np.linspace(-0.01, 0.01, 50)
    cuts = photometric_cuts(gray, np.ones(50, bool), np.zeros(50, int), np.array([-0.05]), np.array([0.2]))
    # the median absolute deviation is 5.1 mmag
    assert cuts.low[0] == pytest.approx(-0.055)
    assert cuts.high[0] == pytest.approx(0.005)
