"""Airmass as the telescope told it, against hour angle and site."""

import numpy as np
from astropy.table import Table

from zeropoint.fgcm.airmass_check import airmass_doubt, beyond_airmass, secant_of_visits

LATITUDE = -30.0


def visits(hour_angle, airmass):
    n = len(hour_angle)
    return Table({"teldec": np.full(n, LATITUDE), "telha": hour_angle, "airmass": airmass})


def test_a_contradiction_is_told_with_both_values():
    agreeing = visits([0.0, 0.0, np.nan], [1.04, np.nan, 3.0])
    assert airmass_doubt(agreeing, LATITUDE) is None
    assert airmass_doubt(visits([70.0], [1.1]), np.nan) is None
    told = airmass_doubt(visits([0.0, 70.0, 170.0], [1.0, 1.1, 1.2]), LATITUDE)
    assert told.startswith(
        "The airmass of 2 of 3 visits is 1.97 or that of pointings below the horizon (1 visits)"
    )
    assert "1.10 to 1.20 as the telescope told it" in told
    assert secant_of_visits(visits([0.0, 180.0], [1.0, 1.0]), LATITUDE)[1] < 0


def test_airmass_beyond_the_passbands_is_explained_without_the_telescope_too():
    told = beyond_airmass(visits([70.0], [np.nan]), LATITUDE, 100, 100, (1.0, 1.5))
    assert told.startswith("All 100 observations are beyond the airmass that the passbands cover (1 to 1.5)")
    assert "by hour angle (telha)" in told
    told = beyond_airmass(visits([np.nan], [1.8]), LATITUDE, 100, 100, (1.0, 1.5))
    assert "1.80 as the telescope told it" in told


def test_many_visits_near_the_horizon_are_told_where_no_telescope_vouches_for_them():
    hours = np.where(np.arange(100) < 3, 85.0, 10.0)
    unknown = np.full(100, np.nan)
    told = airmass_doubt(visits(hours, unknown), LATITUDE)
    secant = 1.0 / (0.25 + 0.75 * np.cos(np.radians(85.0)))
    assert f"(-30 deg) the airmass of 3 of 100 visits is {secant:.2f}, and no airmass" in told
    assert "latitude and longitude (east is positive)" in told
    assert airmass_doubt(visits(np.where(np.arange(100) < 2, 85.0, 10.0), unknown), LATITUDE) is None
    assert airmass_doubt(visits(hours, secant_of_visits(visits(hours, unknown), LATITUDE)), LATITUDE) is None


def test_a_part_of_the_observations_beyond_the_passbands_is_counted():
    told = beyond_airmass(visits([70.0], [np.nan]), LATITUDE, 30, 100, (1.0, 1.5))
    assert told.startswith(
        "30 of 100 observations are beyond the airmass that the passbands cover (1 to 1.5)"
    )
