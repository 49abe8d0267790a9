"""Airmass of each absorber, and the secant of observations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.airmass import (
    aerosol_airmass,
    molecular_airmass,
    observation_secant,
    ozone_airmass,
    water_airmass,
)

SECANTS = st.floats(1.0, 5.0)
RULES = [molecular_airmass, aerosol_airmass, ozone_airmass, water_airmass]


@pytest.mark.parametrize("rule", RULES)
def test_airmass_is_one_at_the_zenith(rule):
    airmass, slope = rule(1.0)
    assert airmass == pytest.approx(1.0, abs=1e-15)
    assert 0.99 < slope <= 1.0


@pytest.mark.parametrize("rule", RULES)
@given(secant=SECANTS)
def test_derivative_is_that_of_the_airmass(rule, secant):
    step = 1e-5
    numeric = (rule(secant + step)[0] - rule(secant - step)[0]) / (2 * step)
    assert rule(secant)[1] == pytest.approx(numeric, abs=1e-9)


@given(zenith=st.floats(0.0, 70.5))
def test_air_agrees_with_kasten_and_young(zenith):
    published = 1 / (np.cos(np.radians(zenith)) + 0.50572 * (96.07995 - zenith) ** -1.6364)
    airmass, _ = molecular_airmass(1 / np.cos(np.radians(zenith)))
    assert airmass == pytest.approx(published, rel=4e-4)


@given(secant=st.floats(1.01, 5.0))
def test_a_high_shell_is_crossed_less_obliquely(secant):
    assert ozone_airmass(secant)[0] < molecular_airmass(secant)[0] < water_airmass(secant)[0]
    # a site closer to the shell sees it more obliquely
    assert ozone_airmass(secant, elevation=4000.0)[0] > ozone_airmass(secant)[0]


def test_ozone_shell_has_its_geometry():
    zenith = np.radians(70.0)
    sine = 6371.0 * np.sin(zenith) / (6371.0 + 22.0)
    assert ozone_airmass(1 / np.cos(zenith))[0] == pytest.approx(1 / np.cos(np.arcsin(sine)), rel=1e-12)


def test_secant_of_observations_on_the_meridian_and_below_the_horizon():
    latitude = np.radians(-29.5)
    dec = latitude + np.radians([0.0, 60.0, -60.0])
    assert observation_secant(1.0, dec, 1.0, latitude) == pytest.approx([1.0, 2.0, 2.0], rel=1e-12)
    hour = np.radians(60.0)
    assert observation_secant(0.0, 0.0, hour, 0.0) == pytest.approx(2.0)
    assert observation_secant(0.0, 0.0, np.pi, 0.0) < 0
    for dec, latitude, name in (([0.1, -30.0, np.nan], -0.5, "dec"), (0.1, -30.0, "latitude")):
        with pytest.raises(InvalidInputError, match=rf"{name} must lie .* not -30 .*is it in degrees"):
            observation_secant(0.0, dec, 0.0, latitude)
