import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord, get_body_barycentric
from astropy.time import Time

from zeropoint.catalogs.proper_motion import move_positions
from zeropoint.catalogs.reference_covariances import COVARIANCES, ERRORS
from zeropoint.catalogs.reference_epoch import at_epoch

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


def columns_of(ra, dec, **more):
    one = np.ones_like(np.atleast_1d(ra), np.float64)
    return {"coord_ra": ra * one, "coord_dec": dec * one, "epoch": 57388.5 * one} | {
        name: value * one for name, value in more.items()
    }


def test_errors_grow_with_time_and_covariance():
    errors = {"coord_raErr": 3.0, "coord_decErr": 3.0, "pm_raErr": 0.4, "pm_decErr": np.nan}
    columns = columns_of(1.0, 0.5, pm_ra=0.0, pm_dec=0.0, coord_ra_pm_ra_Cov=0.6, **errors)
    later, earlier = (at_epoch(columns, 57388.5 + years * 365.25) for years in (10.0, -10.0))
    assert later["coord_raErr"] == pytest.approx(np.sqrt(9.0 + 16.0 + 12.0))
    assert earlier["coord_raErr"] == pytest.approx(np.sqrt(13.0))
    assert later["coord_decErr"] == pytest.approx(3.0)
    assert np.isnan(later["pm_decErr"])
    assert later["coord_ra_pm_ra_Cov"] == pytest.approx(0.6 + 10.0 * 0.16)


def random_covariance(rng, scale):
    factor = rng.normal(size=(5, 5)) * scale[:, None]
    return factor @ factor.T


@pytest.mark.parametrize("dec_deg", [-35.0, 89.0])
def test_covariances_are_those_of_moved_samples(dec_deg):
    """Draw parameters from a covariance, move each with the plain formula, and compare the scatter."""
    rng = np.random.default_rng(7)
    n, years, mjd = 40_000, 25.0, 57388.5 + 25.0 * 365.25
    scale = np.array([1.0, 1.0, 0.1, 0.1, 1.0]) * MAS
    mean = np.array([1.3, np.deg2rad(dec_deg), 3000 * MAS, 2000 * MAS, 300 * MAS])
    covariance = random_covariance(rng, scale)
    draws = rng.multivariate_normal(np.zeros(5), covariance / MAS**2, n) * MAS
    known = {name: covariance[i, j] for name, (i, j) in COVARIANCES.items()}
    known |= {name: np.sqrt(covariance[k, k]) for k, name in enumerate(ERRORS)}
    moved = at_epoch(
        columns_of(mean[0], mean[1], pm_ra=mean[2], pm_dec=mean[3], parallax=mean[4], **known), mjd, 5.0
    )
    sample = at_epoch(
        columns_of(
            mean[0] + draws[:, 0] / np.cos(mean[1]),
            mean[1] + draws[:, 1],
            pm_ra=mean[2] + draws[:, 2],
            pm_dec=mean[3] + draws[:, 3],
            parallax=mean[4] + draws[:, 4],
            parallaxErr=known["parallaxErr"],
        ),
        mjd,
        5.0,
    )
    scatter = np.stack(
        [
            (sample["coord_ra"] - moved["coord_ra"]) * np.cos(moved["coord_dec"]),
            sample["coord_dec"] - moved["coord_dec"],
            sample["pm_ra"] - moved["pm_ra"],
            sample["pm_dec"] - moved["pm_dec"],
            sample["parallax"] - moved["parallax"],
        ]
    )
    expected = np.cov(scatter)
    sigma = np.sqrt(np.diag(expected))
    tolerance = 5.0 * np.sqrt(2.0 / n)
    for k, name in enumerate(ERRORS):
        assert moved[name][0] / sigma[k] == pytest.approx(1.0, abs=tolerance)
    for name, (i, j) in COVARIANCES.items():
        assert moved[name][0] / (sigma[i] * sigma[j]) == pytest.approx(
            expected[i, j] / (sigma[i] * sigma[j]), abs=tolerance
        )
    assert years == pytest.approx((mjd - 57388.5) / 365.25)


def test_motions_turn_with_the_meridians():
    """A star that passes the pole moves on in the same direction in space."""
    columns = columns_of(0.0, np.deg2rad(89.999), pm_ra=0.0, pm_dec=np.deg2rad(0.0005))
    moved = at_epoch(columns, 57388.5 + 4 * 365.25)
    assert np.rad2deg(moved["coord_ra"]) == pytest.approx(180.0, abs=1e-6)
    assert np.rad2deg(moved["coord_dec"]) == pytest.approx(89.999)
    assert moved["pm_dec"] == pytest.approx(-columns["pm_dec"])
    assert moved["pm_ra"] == pytest.approx(0.0, abs=1e-15)
    back = at_epoch(moved, 57388.5)
    assert back["coord_dec"] == pytest.approx(columns["coord_dec"], abs=1e-14)


def test_parallax_is_what_the_earth_sees():
    """Positions of stars at finite distances, seen from where astropy puts the Earth."""
    rng = np.random.default_rng(3)
    n, mjd = 50, 60000.0
    ra, dec = rng.uniform(0, 2 * np.pi, n), np.arcsin(rng.uniform(-1, 1, n))
    parallax = rng.uniform(10, 700, n) * MAS
    still = columns_of(ra, dec, pm_ra=0.0, pm_dec=0.0, parallax=parallax, parallaxErr=MAS)
    seen = at_epoch(still, mjd, 5.0)
    earth = get_body_barycentric("earth", Time(mjd, format="mjd", scale="tai"))
    star = SkyCoord(ra * u.rad, dec * u.rad, distance=(1.0 / parallax) * u.au).cartesian - earth
    expected = SkyCoord(star.x, star.y, star.z, representation_type="cartesian").spherical
    separation = SkyCoord(seen["coord_ra"] * u.rad, seen["coord_dec"] * u.rad).separation(
        SkyCoord(expected.lon, expected.lat)
    )
    assert separation.rad.max() < 1e-3 * MAS
    assert np.median(np.hypot(seen["coord_dec"] - dec, (seen["coord_ra"] - ra) * np.cos(dec))) > 50 * MAS


@pytest.mark.parametrize(
    ("parallax", "error", "snr"), [(4.9, 1.0, 5.0), (np.nan, 1.0, 5.0), (50.0, np.nan, 5.0), (50.0, 1.0, None),
                                   (-50.0, 1.0, 0.0)]
)  # fmt: skip
def test_parallaxes_that_are_not_significant_do_not_shift(parallax, error, snr):
    columns = columns_of(1.0, 0.3, pm_ra=0.0, pm_dec=0.0, parallax=parallax * MAS, parallaxErr=error * MAS)
    moved = at_epoch(columns, 60000.0, snr)
    assert (moved["coord_ra"], moved["coord_dec"]) == (1.0, 0.3)
