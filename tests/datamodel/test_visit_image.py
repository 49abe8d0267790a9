"""The VisitImage form: what is written is read back, by lsst-images and by plain astropy."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from lsst.images import Box, MaskedImage, VisitImage
from lsst.images.psfs import GaussianPointSpreadFunction

from zeropoint.datamodel.background import BackgroundComponent, BackgroundList
from zeropoint.datamodel.exposure import Amplifier, DetectorInfo, Exposure, PhotoCalib, VisitInfo
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.header_cards import add_ordinary_cards
from zeropoint.datamodel.mask_planes import PLANES
from zeropoint.datamodel.visit_image import masked_image, visit_image
from zeropoint.datamodel.wcs import SkyWcs, angular_separation


@pytest.fixture
def exposure(rng):
    shape = (70, 90)
    wcs = SkyWcs.from_boresight(150.0, 2.0, x=40.0, y=30.0, pixel_scale_arcsec=0.2, rotation_deg=12.0)
    c = np.zeros((2, 4, 4))
    c[:, :2, :2] = wcs.coefficients
    c[0, 2, 1], c[1, 1, 2] = 1e-12, -2e-12
    wcs = SkyWcs(wcs.ra0, wcs.dec0, c, wcs.x_ref, wcs.y_ref, wcs.scale)
    mask = rng.integers(0, 1 << len(PLANES), shape).astype(np.int32)
    return Exposure(
        rng.normal(0, 5, shape).astype(np.float32),
        np.full(shape, 25.0, np.float32),
        mask,
        DetectorInfo("TestCam", "S01", 3, 90, 70, (Amplifier("A", (0, 0, 89, 69), 1.5, 6.0),)),
        VisitInfo(77, 30.0, 60000.25, "r_test", "r", airmass=1.2),
        wcs=wcs,
        ap_corr_map={
            "base_PsfFlux_instFlux": ChebyshevPolynomial(90, 70, np.array([[1.02, 0.01], [0.005, 0.0]]))
        },
    )


@pytest.fixture
def path(exposure, tmp_path):
    psf = GaussianPointSpreadFunction(1.7, bounds=Box.factory[0:70, 0:90], stamp_size=21)
    image = visit_image(exposure, psf=psf, unit=u.nJy, applied=PhotoCalib(1.3, 0.01), metadata={"a": 1.5})
    file = tmp_path / "visit.fits"
    image.write(str(file))
    return file


def test_pixels_and_every_mask_plane_survive(exposure, path):
    image = VisitImage.read(str(path))
    np.testing.assert_array_equal(image.image.array, exposure.image)
    np.testing.assert_array_equal(image.variance.array, exposure.variance)
    for plane in PLANES:
        np.testing.assert_array_equal(image.mask.get(plane), exposure.masked(plane), err_msg=plane)
    assert image.unit == u.nJy
    assert image.band == "r"
    assert image.physical_filter == "r_test"
    assert image.metadata["a"] == 1.5


def test_aperture_correction_and_scaling_survive(exposure, path):
    image = VisitImage.read(str(path))
    field = image.aperture_corrections["base_PsfFlux_instFlux"]
    x, y = np.array([3.0, 50.0]), np.array([60.0, 11.0])
    np.testing.assert_allclose(field(x=x, y=y), exposure.ap_corr_map["base_PsfFlux_instFlux"](x=x, y=y))
    scaling = image.photometric_scaling
    assert scaling.unit == u.nJy / u.electron
    assert scaling(x=1.0, y=1.0) == pytest.approx(1.3)


@pytest.mark.parametrize("hdu", ["IMAGE", "MASK", "VARIANCE"])
def test_plain_astropy_reads_the_wcs(exposure, path, hdu):
    with fits.open(path) as hdus:
        wcs = WCS(hdus[hdu].header)
    x, y = np.array([0.0, 89.0, 45.0]), np.array([0.0, 3.0, 69.0])
    sky = wcs.pixel_to_world(x, y)
    ra, dec = exposure.wcs.pixel_to_sky(x=x, y=y)
    separation = angular_separation(ra, dec, sky.ra.rad, sky.dec.rad) * 648000e3 / np.pi
    assert separation.max() < 0.1  # milliarcsec


def test_partial_image_needs_no_psf_and_no_wcs(exposure, tmp_path):
    exposure.wcs = None
    file = tmp_path / "partial.fits"
    masked_image(exposure, unit=u.electron, metadata={"failure.message": "no stars", "bad": [1, 2]}).write(
        str(file)
    )
    image = MaskedImage.read(str(file))
    assert image.metadata["failure.message"] == "no stars"
    assert "bad" not in image.metadata
    np.testing.assert_array_equal(image.image.array, exposure.image)


def varying_image(exposure, unit, metadata):
    """Return an image whose calibration varies, with a background of both kinds that was scaled by it."""
    field = ChebyshevPolynomial(90, 70, np.array([[30.0, 1.5], [0.6, 0.0]]))
    values = np.arange(9.0).reshape(3, 3)
    x, y = np.array([15.0, 45.0, 75.0]), np.array([12.0, 35.0, 58.0])
    parts = [
        BackgroundComponent(values, values, x, y, 90, 70, "NATURAL_SPLINE"),
        BackgroundComponent(values, values, x, y, 90, 70, "CHEBYSHEV", ChebyshevPolynomial(90, 70, values)),
    ]
    background = BackgroundList(parts).scaled(field)
    psf = GaussianPointSpreadFunction(1.7, bounds=Box.factory[0:70, 0:90], stamp_size=21)
    image = visit_image(
        exposure,
        psf=psf,
        unit=unit,
        applied=PhotoCalib(30.0, 0.01, field),
        background=background,
        metadata=metadata,
    )
    return image, field, background


def test_a_calibration_that_varies_survives_with_the_background_it_scaled(exposure, tmp_path):
    image, field, background = varying_image(exposure, u.nJy, {})
    image.write(str(tmp_path / "v.fits"))
    back = VisitImage.read(str(tmp_path / "v.fits"))
    y, x = np.mgrid[0:70, 0:90]
    np.testing.assert_allclose(
        back.photometric_scaling.render(dtype=float).array, field(x=x, y=y), rtol=1e-12
    )
    subtracted = back.backgrounds["subtracted"].field.render().array
    np.testing.assert_allclose(subtracted, background.image(), rtol=1e-5, atol=1e-4)


FIT = {"MAGZERO_RMS": 0.002, "MAGZERO_NOBJ": 50, "COLORTERM1": 0.0, "COLORTERM2": 0.1, "COLORTERM3": 0.0}


@pytest.mark.parametrize(
    ("unit", "metadata", "magzero"),
    # a calibrated image; one in electrons; one of the older tasks, in electrons with Rubin's rate
    [(u.nJy, FIT, 31.4), (u.electron, FIT, 27.7072), (u.electron, FIT | {"MAGZERO": 24.0}, 24.0)],
)
def test_cards_of_the_zeropoint(exposure, unit, metadata, magzero):
    image, _, _ = varying_image(exposure, unit, metadata)
    header = fits.Header()
    add_ordinary_cards(header, image)
    assert header["MAGZERO"] == pytest.approx(magzero, abs=1e-3)
    assert header["MAGZPINS"] == pytest.approx(31.4 - 2.5 * np.log10(30.0), abs=1e-4)
    assert {key: header[key] for key in FIT} == FIT
    assert "center" in header.comments["MAGZPINS"]
    header.tostring()  # every card can be written
