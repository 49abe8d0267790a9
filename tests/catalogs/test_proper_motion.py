import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from zeropoint.catalogs.proper_motion import move_positions, moved_error

MAS = np.deg2rad(1 / 3.6e6)


def test_moves_along_great_circles():
    rng = np.random.default_rng(2)
    n = 200
    ra, dec = rng.uniform(0, 2 * np.pi, n), np.arcsin(rng.uniform(-1, 1, n))
    pm_ra, pm_dec = rng.normal(0, 5000 * MAS, (2, n))
    years = rng.uniform(-30, 30, n)
    new_ra, new_dec = move_positions(ra, dec, pm_ra, pm_dec, years)
    start = SkyCoord(ra * u.rad, dec * u.rad)
    angle = np.hypot(pm_ra, pm_dec) * years * u.rad
    expected = start.directional_offset_by(np.arctan2(pm_ra, pm_dec) * u.rad, angle)
    separation = SkyCoord(new_ra * u.rad, new_dec * u.rad).separation(expected)
    assert separation.rad.max() < 1e-12


def test_small_motion_is_pm_ra_over_cos_dec():
    ra, dec = move_positions(*(np.array([v]) for v in (1.0, 1.0, 100 * MAS, -50 * MAS, 2.0)))
    assert (ra - 1.0) * np.cos(1.0) / MAS == pytest.approx(200.0, rel=1e-5)
    assert (dec - 1.0) / MAS == pytest.approx(-100.0, rel=1e-5)


def test_unknown_motion_leaves_the_position_untouched():
    ra, dec = np.array([-0.5, 1.0, 2.0]), np.array([0.1, 0.2, 0.3])
    pm = np.array([np.nan, 1e-8, 0.0])
    new = move_positions(ra, dec, pm, np.array([1e-8, np.nan, 0.0]) * 0.0, np.array([1.0, np.nan, 5.0]))
    assert np.array_equal(new, (ra, dec))


def test_errors_grow_with_time_and_covariance():
    one = np.ones(1)
    assert moved_error(3.0 * one, 0.4 * one, 10.0 * one) == pytest.approx(5.0)
    assert moved_error(3.0 * one, 0.4 * one, -10.0 * one, 0.6 * one) == pytest.approx(np.sqrt(13.0))
    assert moved_error(3.0 * one, np.nan * one, np.nan * one, np.nan * one) == pytest.approx(3.0)
