"""FITS forms of WCSs, and how far they are off."""

from __future__ import annotations

import numpy as np
import pytest
import starlink.Ast as Ast
from lsst.images import Box, DetectorFrame, SkyProjection, Transform
from lsst.images._transforms._ast import Mapping

from zeropoint.astrometry.sip_approximation import FitSipApproximation, FitSipApproximationConfig
from zeropoint.datamodel.exposure_components import decode, encode_wcs
from zeropoint.datamodel.wcs import SkyWcs, angular_separation

HEIGHT, WIDTH = 600, 800
BOX = Box.factory[0:HEIGHT, 0:WIDTH]
FRAME = DetectorFrame(instrument="cam", visit=1, detector=2, bbox=BOX)
ARCSEC = np.pi / 648000.0
PLAIN = SkyWcs.from_boresight(30.0, -40.0, x=390.0, y=290.0, pixel_scale_arcsec=0.5, rotation_deg=33.0)


def wavy(amplitude_pix):
    """Return a WCS with a distortion that is a sine along x: no polynomial, so that no FITS header has it."""
    k = 2.0 * np.pi / 1000.0
    forward = [f"u = x + {amplitude_pix!r} * sin({k!r} * x)", "v = y"]
    # good to the square of the amplitude, which nothing here looks at
    inverse = [f"x = u - {amplitude_pix!r} * sin({k!r} * u)", "y = v"]
    wave = Mapping._wrap(Ast.MathMap(2, 2, forward, inverse))
    plain = SkyProjection.from_fits_wcs(PLAIN.to_astropy((HEIGHT, WIDTH)), FRAME).pixel_to_sky_transform
    return SkyProjection(Transform(FRAME, FRAME, wave).then(plain))


def to_sky(projection, x, y):
    sky = projection.pixel_to_sky(x=x, y=y)
    return np.asarray(sky.ra.rad), np.asarray(sky.dec.rad)


def test_a_header_that_is_exact_is_left_alone():
    coefficients = np.zeros((2, 4, 4))
    coefficients[:, :2, :2] = PLAIN.coefficients
    coefficients[0, 2, 1], coefficients[1, 1, 2] = 2e-14, -3e-14
    wcs = SkyWcs(PLAIN.ra0, PLAIN.dec0, coefficients, PLAIN.x_ref, PLAIN.y_ref, PLAIN.scale)
    for each in (PLAIN, wcs):
        projection = SkyProjection.from_fits_wcs(each.to_astropy((HEIGHT, WIDTH)), FRAME)
        result = FitSipApproximation().run(projection, BOX)
        assert result.is_exact
        assert result.projection is projection
        # SIP headers are written to a hundred-thousandth of a pixel, and their inverse to a few ten-thousandths
        assert result.delta_sky_rad < 1e-4 * 0.5 * ARCSEC
        assert result.delta_pixel < 1e-3


def test_a_wcs_without_a_header_gets_the_nearest_one():
    projection = wavy(0.5)
    assert projection.as_fits_wcs(BOX) is None
    result = FitSipApproximation().run(projection, BOX)
    assert not result.is_exact
    approximation = result.projection.as_fits_wcs(BOX, allow_approximation=True)
    assert list(approximation.wcs.ctype) == ["RA---TAN-SIP", "DEC--TAN-SIP"]
    assert approximation.sip.a_order == 5
    # 0.8 of a period of a sine of 0.5 pixel leaves a quintic some 3 thousandths of a pixel
    assert 1e-4 < result.delta_pixel < 1e-2
    assert result.delta_sky_rad / ARCSEC == pytest.approx(0.5 * result.delta_pixel, rel=0.2)
    x, y = np.array([3.0, 411.5, 790.0]), np.array([590.0, 17.0, 305.0])
    np.testing.assert_array_equal(to_sky(result.projection, x, y), to_sky(projection, x, y))
    sky = np.deg2rad(approximation.all_pix2world(np.stack([x, y], axis=1), 0)).T
    assert angular_separation(*sky, *to_sky(projection, x, y)).max() <= 1.1 * result.delta_sky_rad
    text = encode_wcs(result.projection, box=BOX, instrument="cam", visit=1, detector=2)
    again = decode("wcs", text, "here")
    assert again.as_fits_wcs(BOX, allow_approximation=True).wcs.compare(approximation.wcs, tolerance=1e-12)
    assert FitSipApproximation().run(again, BOX).projection is again


def test_a_higher_order_is_nearer():
    config = FitSipApproximationConfig()
    deltas = []
    for config.order in (3, 5, 7):
        deltas.append(FitSipApproximation(config).run(wavy(0.5), BOX).delta_sky_rad)
    assert deltas[0] > 5 * deltas[1] > 25 * deltas[2]
