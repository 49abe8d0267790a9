"""Airmass as the telescope told it, against hour angle and site."""

import numpy as np
from astropy.table import Table

from zeropoint.fgcm.airmass_check import airmass_contradiction, beyond_airmass, secant_of_visits

LATITUDE = -30.0


def visits(hour_angle, airmass):
    n = len(hour_angle)
    return Table({"teldec": np.full(n, LATITUDE), "telha": hour_angle, "airmass": airmass})


def test_a_contradiction_is_told_with_both_values():
    agreeing = visits([0.0, 0.0, np.nan], [1.04, np.nan, 3.0])
    assert airmass_contradiction(agreeing, LATITUDE) is None
    assert airmass_contradiction(visits([70.0], [1.1]), np.nan) is None
    told = airmass_contradiction(visits([0.0, 70.0, 170.0], [1.0, 1.1, 1.2]), LATITUDE)
    assert told.startswith(
        "The airmass of 2 of 3 visits is 1.97 or that of pointings below the horizon (1 visits)"
    )
    assert "1.10 to 1.20 as the telescope told it" in told
    assert secant_of_visits(visits([0.0, 180.0], [1.0, 1.0]), LATITUDE)[1] < 0


def test_airmass_beyond_the_passbands_is_explained_without_the_telescope_too():
    told = beyond_airmass(visits([70.0], [np.nan]), LATITUDE, 100, (1.0, 1.5))
    assert told.startswith("All 100 observations are beyond the airmass that the passbands cover (1 to 1.5)")
    assert "by hour angle (telha)" in told
    told = beyond_airmass(visits([np.nan], [1.8]), LATITUDE, 100, (1.0, 1.5))
    assert "1.80 as the telescope told it" in told
