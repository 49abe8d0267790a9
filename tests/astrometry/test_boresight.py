"""Initial WCSs moved to another pointing or made from a camera model."""

from __future__ import annotations

import numpy as np
import pytest

from tasks import make
from zeropoint.astrometry.boresight import Boresight, wcs_at, wcs_from_camera
from zeropoint.datamodel.wcs import SkyWcs, angular_separation, inverse_gnomonic
from zeropoint.simulation import SimulationSettings, simulate_exposure

_ARCSEC = np.pi / 648000.0
X, Y = np.array([0.0, 999.0, 400.0, 999.0, 0.0]), np.array([0.0, 0.0, 600.0, 999.0, 999.0])


def largest_offset(a: SkyWcs, b: SkyWcs) -> float:
    """Return the largest separation over an image, arcsec."""
    (ra1, dec1), (ra2, dec2) = a.pixel_to_sky(x=X, y=Y), b.pixel_to_sky(x=X, y=Y)
    return float(np.max(angular_separation(ra1, dec1, ra2, dec2))) / _ARCSEC


def off_axis(boresight: Boresight) -> SkyWcs:
    """Return the WCS of a detector that lies 0.3 degree from the axis, as the boresight's angles put it."""
    theta = np.deg2rad(boresight.rotation_deg)
    x, y = np.deg2rad([0.2, -0.25])
    xi, eta = -np.cos(theta) * x + np.sin(theta) * y, np.sin(theta) * x + np.cos(theta) * y
    ra0, dec0 = (np.deg2rad(v) for v in (boresight.ra_deg, boresight.dec_deg))
    scale = 0.5 * _ARCSEC
    c = np.zeros((2, 2, 2))
    c[0, 0, 0], c[1, 0, 0] = xi, eta
    c[0, 0, 1], c[0, 1, 0] = -np.cos(theta) * scale, np.sin(theta) * scale
    c[1, 0, 1], c[1, 1, 0] = np.sin(theta) * scale, np.cos(theta) * scale
    return SkyWcs(ra0, dec0, c, 500.0, 500.0, 1.0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Boresight(10.0, 20.0, 0.0), Boresight(10.0, 20.0, 33.0)),
        (Boresight(10.0, 20.0, 5.0), Boresight(11.0, 19.0, 5.0)),
        (Boresight(359.9, -70.0, 170.0), Boresight(0.3, -70.4, -175.0)),
        (Boresight(120.0, 89.6, 40.0), Boresight(300.0, 89.8, 41.0)),
    ],
)
def test_a_moved_pointing_is_the_wcs_of_that_pointing(old: Boresight, new: Boresight) -> None:
    assert largest_offset(wcs_at(off_axis(old), old, new), off_axis(new)) < 1e-6


def test_the_same_or_an_unknown_pointing_leaves_the_very_wcs() -> None:
    old = Boresight(10.0, 20.0, 5.0)
    wcs = off_axis(old)
    for new in (old, Boresight(10.0 + 1e-9, 20.0, 5.0), Boresight(np.nan, 20.0, 5.0), Boresight(10.0, 20.0)):
        assert wcs_at(wcs, old, new) is wcs
    assert wcs_at(wcs, Boresight(np.nan, np.nan), old) is wcs


def test_a_camera_model_puts_the_detector_where_its_field_angles_say() -> None:
    simulated = simulate_exposure(SimulationSettings(width=200, height=160, n_stars=1, distortion_pixels=0.0))
    s = simulated.settings
    wcs = wcs_from_camera(
        make.camera_model(simulated), 0, (160, 200), Boresight(s.ra_deg, s.dec_deg, make.SKY_ANGLE)
    )
    x, y = np.array([0.0, 199.0, 30.0]), np.array([0.0, 159.0, 120.0])
    (ra1, dec1), (ra2, dec2) = wcs.pixel_to_sky(x=x, y=y), simulated.wcs.pixel_to_sky(x=x, y=y)
    assert np.max(angular_separation(ra1, dec1, ra2, dec2)) / _ARCSEC < 1e-6


def test_field_angles_point_north_and_west_without_rotation() -> None:
    simulated = simulate_exposure(SimulationSettings(width=200, height=200, n_stars=1))
    wcs = wcs_from_camera(make.camera_model(simulated), 0, (200, 200), Boresight(40.0, 0.0, 0.0))
    ra, dec = wcs.pixel_to_sky(x=np.array([99.5, 199.0]), y=np.array([199.0, 99.5]))
    step = 99.5 * simulated.settings.pixel_scale * _ARCSEC
    north = inverse_gnomonic(0.0, step, np.deg2rad(40.0), 0.0)
    west = inverse_gnomonic(-step, 0.0, np.deg2rad(40.0), 0.0)
    np.testing.assert_allclose([ra[0], dec[0]], np.array(north).ravel(), atol=1e-10)
    np.testing.assert_allclose([ra[1], dec[1]], np.array(west).ravel(), atol=1e-10)


def test_a_detector_that_the_model_lacks() -> None:
    simulated = simulate_exposure(SimulationSettings(width=200, height=200, n_stars=1))
    with pytest.raises(LookupError, match="detector 7"):
        wcs_from_camera(make.camera_model(simulated), 7, (200, 200), Boresight(40.0, 0.0, 0.0))
