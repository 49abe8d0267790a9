"""The WCS against astropy, and round trips."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from lsst.images import Box, DetectorFrame, SkyProjection

from zeropoint.datamodel.wcs import SkyWcs, angular_separation, gnomonic, inverse_gnomonic

ARCSEC = np.pi / 648000.0
SHAPE = (900, 1200)


def distorted(rotation: float = 30.0) -> SkyWcs:
    base = SkyWcs.from_boresight(
        10.0, -30.0, x=600.0, y=450.0, pixel_scale_arcsec=0.25, rotation_deg=rotation
    )
    c = np.zeros((2, 4, 4))
    c[:, :2, :2] = base.coefficients
    c[0, 0, 2], c[1, 1, 1], c[0, 2, 1], c[1, 0, 3] = 3e-10, -2e-10, 2e-13, 4e-13
    return SkyWcs(base.ra0, base.dec0, c, base.x_ref, base.y_ref, base.scale)


@given(
    ra=st.floats(0, 359.9),
    dec=st.floats(-89.5, 89.5),
    rotation=st.floats(-180, 180),
    flip=st.booleans(),
    x=st.floats(-200, 2200),
    y=st.floats(-200, 2200),
)
@settings(deadline=None, max_examples=60)
def test_pixels_survive_the_way_to_the_sky_and_back(ra, dec, rotation, flip, x, y):
    wcs = SkyWcs.from_boresight(
        ra, dec, x=1000.0, y=1000.0, pixel_scale_arcsec=0.4, rotation_deg=rotation, flip=flip
    )
    back = wcs.sky_to_pixel(**dict(zip(("ra", "dec"), wcs.pixel_to_sky(x=x, y=y))))
    np.testing.assert_allclose(back, (x, y), atol=1e-6)


def test_boresight_puts_north_where_the_rotation_says():
    wcs = SkyWcs.from_boresight(50.0, 20.0, x=0.0, y=0.0, pixel_scale_arcsec=1.0, rotation_deg=30.0)
    ra, dec = wcs.pixel_to_sky(x=0.0, y=100.0)
    xi, eta = gnomonic(ra, dec, wcs.ra0, wcs.dec0)
    # position angle of +y, North through East
    assert np.rad2deg(np.arctan2(xi, eta)) == pytest.approx(30.0, abs=1e-9)
    ra, _ = wcs.pixel_to_sky(x=-100.0, y=0.0)
    assert ra > wcs.ra0  # unflipped: East at -x


@pytest.mark.parametrize("make", [lambda: distorted(), lambda: distorted(-100.0)])
def test_tan_sip_form_is_exact(make):
    wcs = make()
    astropy_wcs = wcs.to_astropy(SHAPE)
    x, y = np.meshgrid(np.linspace(0, SHAPE[1] - 1, 9), np.linspace(0, SHAPE[0] - 1, 7))
    ra, dec = wcs.pixel_to_sky(x=x, y=y)
    sky = astropy_wcs.pixel_to_world(x, y)
    separation = angular_separation(ra, dec, sky.ra.rad, sky.dec.rad) / ARCSEC
    assert separation.max() < 1e-6
    again = WCS(astropy_wcs.to_header(relax=True))
    assert again.sip is not None
    back = SkyWcs.from_astropy(again, SHAPE)
    assert back.residual_arcsec < 1e-6
    ra2, dec2 = back.pixel_to_sky(x=x, y=y)
    assert (angular_separation(ra, dec, ra2, dec2) / ARCSEC).max() < 1e-6


def test_tpv_is_fitted_and_its_residual_stated():
    header = fits.Header()
    header.update(CTYPE1="RA---TPV", CTYPE2="DEC--TPV", CRVAL1=58.0, CRVAL2=35.7, CRPIX1=600.0, CRPIX2=450.0)
    header.update(CD1_1=-2.8e-4, CD1_2=0.0, CD2_1=0.0, CD2_2=2.8e-4, CUNIT1="deg", CUNIT2="deg")
    header.update(PV1_0=0.0, PV1_1=1.0, PV1_4=1e-3, PV1_7=2e-3, PV2_0=0.0, PV2_1=1.0, PV2_5=-1e-3)
    tpv = WCS(header)
    wcs = SkyWcs.from_astropy(tpv, SHAPE)
    x, y = np.array([0.0, 700.0, 1199.0]), np.array([899.0, 300.0, 20.0])
    sky = tpv.pixel_to_world(x, y)
    ra, dec = wcs.pixel_to_sky(x=x, y=y)
    separation = angular_separation(ra, dec, sky.ra.rad, sky.dec.rad) / ARCSEC
    assert separation.max() < 1e-5
    assert wcs.residual_arcsec < 1e-5


def test_local_jacobian_is_the_derivative_on_the_sky():
    wcs = distorted()
    x, y = np.array([5.0, 700.0]), np.array([800.0, 100.0])
    jacobian = wcs.local_jacobian(x=x, y=y)
    step = 0.05
    ra, dec = wcs.pixel_to_sky(x=x, y=y)
    for k, (dx, dy) in enumerate(((step, 0.0), (0.0, step))):
        ahead, behind = wcs.pixel_to_sky(x=x + dx, y=y + dy), wcs.pixel_to_sky(x=x - dx, y=y - dy)
        for i in range(2):
            # central difference on the gnomonic plane of the source itself
            origin = float(ra[i]), float(dec[i])
            forward = np.array(gnomonic(ahead[0][i], ahead[1][i], *origin))
            backward = np.array(gnomonic(behind[0][i], behind[1][i], *origin))
            np.testing.assert_allclose(
                (forward - backward) / (2 * step), jacobian[i, :, k], rtol=1e-5, atol=1e-12
            )
    assert wcs.pixel_scale(x=600.0, y=450.0) == pytest.approx(0.25, rel=1e-3)


def test_affine_acts_on_the_tangent_plane():
    wcs = distorted()
    angle = np.deg2rad(0.1)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    offset = np.array([2.0, -3.0]) * ARCSEC
    moved = wcs.with_affine(matrix, offset)
    old = np.stack(wcs.pixel_to_tangent(x=100.0, y=800.0))
    np.testing.assert_allclose(np.stack(moved.pixel_to_tangent(x=100.0, y=800.0)), matrix @ old + offset)


def test_the_far_hemisphere_has_no_pixel():
    wcs = distorted()
    x, y = wcs.sky_to_pixel(ra=wcs.ra0 + np.pi, dec=-wcs.dec0)
    assert np.isnan(x)
    assert np.isnan(y)


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(-1.5, 1.5))
@settings(deadline=None, max_examples=40)
def test_gnomonic_round_trip(xi, eta, dec0):
    back = gnomonic(*inverse_gnomonic(xi, eta, 3.0, dec0), 3.0, dec0)
    np.testing.assert_allclose(back, (xi, eta), atol=1e-12)


@pytest.mark.parametrize("bent", [(), (0,), (1,), (0, 1)])
def test_other_libraries_read_a_wcs_bent_along_any_axes(bent) -> None:
    # a SIP header needs forward terms on both axes; AP and BP alone make it unreadable to some
    c = np.zeros((2, 4, 4))
    scale = 0.2 * np.pi / 648000.0
    c[0, 0, 1], c[1, 1, 0] = -scale, scale
    for axis in bent:
        c[axis, 2, 1] = 3e-12
    wcs = SkyWcs(1.3, -0.93, c, 40.0, 30.0, 1.0)
    frame = DetectorFrame(instrument="C", visit=1, detector=2, bbox=Box.factory[0:70, 0:90])
    projection = SkyProjection.from_fits_wcs(wcs.to_astropy((70, 90)), frame)
    x, y = np.meshgrid(np.linspace(0, 89, 5), np.linspace(0, 69, 5))
    sky = projection.pixel_to_sky(x=x, y=y)
    away = angular_separation(sky.ra.rad, sky.dec.rad, *wcs.pixel_to_sky(x=x, y=y))
    assert away.max() < 1e-6 * np.pi / 648000.0


def test_text_keeps_every_bit(rng) -> None:
    wcs = SkyWcs(*rng.normal(size=2), rng.normal(size=(2, 4, 4)), *rng.normal(size=4))
    back = SkyWcs.from_text(wcs.to_text())
    assert back.coefficients.tobytes() == wcs.coefficients.tobytes()
    assert dataclasses.replace(back, coefficients=None) == dataclasses.replace(wcs, coefficients=None)
    for text in ("{}", "[1]", "not json", '{"values": [1, 2, 3, 4, 5, 6], "coefficients": [1]}'):
        with pytest.raises(ValueError):
            SkyWcs.from_text(text)
