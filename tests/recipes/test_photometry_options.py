"""Colour term and varying zero point inside the whole recipe, on a simulated exposure with both planted."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from lsst.images import VisitImage
from scipy.spatial import cKDTree

from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.datamodel.exposure import AB_FLUX_NJY
from zeropoint.errors import InvalidInputError
from zeropoint.recipes.calibrate_image import CalibrateImage
from zeropoint.recipes.calibrate_image.products import write_products
from zeropoint.recipes.session import production_config
from zeropoint.simulation import SimulationSettings, simulate_exposure, write_simulation

WIDTH, HEIGHT = 1100, 1000
SLOPE, REFERENCE_COLOR = 0.1, 0.5


def response(x, y):
    """Electrons over those at the middle of the image."""
    u, v = (2 * x + 1 - WIDTH) / WIDTH, (2 * y + 1 - HEIGHT) / HEIGHT
    return 1 + 0.05 * u - 0.03 * v


@pytest.fixture(scope="module")
def simulated():
    return simulate_exposure(
        SimulationSettings(width=WIDTH, height=HEIGHT, n_stars=620, n_cosmic_rays=10, seed=11)
    )


@pytest.fixture(scope="module")
def references(simulated, tmp_path_factory):
    """References whose r is not the camera's: camera = r + SLOPE (g - r - REFERENCE_COLOR)."""
    _, path = write_simulation(simulated, tmp_path_factory.mktemp("options"))
    table = simulated.references.copy()
    color = np.random.default_rng(12).uniform(0.0, 1.2, len(table))
    for name in ("flux", "fluxErr"):
        table[f"r_{name}"] = table[f"r_{name}"] * 10 ** (0.4 * SLOPE * (color - REFERENCE_COLOR))
        table[f"g_{name}"] = table[f"r_{name}"] * 10 ** (-0.4 * color)
    table.write(path, overwrite=True)
    return ReferenceSource.open(path)


def calibrate(simulated, references, **photometry):
    config = production_config()
    config.astrometry_ref_loader.anyFilterMapsToThis = None
    config.photometry.update(**photometry)
    exposure = simulated.exposure.copy()
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    scale = response(x, y).astype(np.float32)
    exposure.image *= scale
    exposure.variance *= scale**2
    return CalibrateImage(config).run(
        exposure,
        astrometry_references=ReferenceObjectLoader(references, config.astrometry_ref_loader),
        photometry_references=ReferenceObjectLoader(references, config.photometry_ref_loader),
    )


@pytest.fixture(scope="module")
def calibrated(simulated, references):
    return calibrate(simulated, references, do_fit_color_term=True, do_fit_zeropoint_field=True)


def test_the_planted_response_and_colour_term_are_recovered_within_their_errors(simulated, calibrated):
    fit = calibrated.photometry
    assert fit.field.order == 1
    assert fit.color_term.kept
    assert abs(fit.color_term.slope - SLOPE) < 4 * fit.color_term.slope_err
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(0, WIDTH - 1, 7), np.linspace(0, HEIGHT - 1, 7)))
    truth = simulated.aperture_zeropoint() + 2.5 * np.log10(response(x, y))
    local = 2.5 * np.log10(AB_FLUX_NJY / fit.photo_calib.at(x=x, y=y))
    error = fit.fit.zeropoint_error(x=x, y=y, width=WIDTH, height=HEIGHT)
    assert error.max() < 0.015
    # three parameters and 1 mmag of the simulation's own aperture correction
    assert np.mean(((local - truth) / np.hypot(error, 0.001)) ** 2) < 4.5


def test_magnitudes_no_longer_depend_on_position(simulated, calibrated):
    stars, truth = calibrated.stars, simulated.stars
    x, y = stars["slot_Centroid_x"], stars["slot_Centroid_y"]
    distance, row = cKDTree(np.c_[truth["x"], truth["y"]]).query(np.c_[x, y], distance_upper_bound=1.0)
    good = np.isfinite(distance) & (stars["base_PsfFlux_magErr"] < 0.02)
    difference = stars["base_PsfFlux_mag"][good] - truth["mag"][row[good]]
    design = np.c_[np.ones(good.sum()), x[good] / WIDTH, y[good] / HEIGHT]
    robust = np.abs(difference - np.median(difference)) < 0.1
    slopes = np.linalg.lstsq(design[robust], difference[robust])[0][1:]
    # planted: 0.109 and 0.065 mag from side to side
    assert np.abs(slopes).max() < 0.02


def test_what_was_applied_is_what_is_written(calibrated, tmp_path):
    write_products(calibrated, tmp_path, "image")
    path = tmp_path / "image.visit_image.fits"
    image, field = VisitImage.read(str(path)), calibrated.applied_photo_calib.field
    x, y = np.array([0.0, 500.0, 1099.0]), np.array([999.0, 10.0, 0.0])
    np.testing.assert_allclose(image.photometric_scaling(x=x, y=y), field(x=x, y=y), rtol=1e-12)
    subtracted = image.backgrounds["subtracted"].field.render().array
    np.testing.assert_allclose(subtracted, calibrated.background.image(), rtol=1e-5)
    header, term = fits.getheader(path), calibrated.photometry.color_term
    assert header["MAGZERO_NOBJ"] == calibrated.photometry.n_good
    assert header["MAGZERO_RMS"] == pytest.approx(calibrated.photometry.sigma)
    cards = [header[f"COLORTERM{k}"] for k in (1, 2, 3)]
    assert cards == pytest.approx([-REFERENCE_COLOR * term.slope, term.slope, 0.0])
    assert len([note for note in calibrated.notes if "zeropoint varies" in note]) == 1


def test_a_band_that_is_missing_is_said_before_the_work(simulated, references, monkeypatch):
    monkeypatch.setattr("zeropoint.recipes.calibrate_image.psf_phase.PsfPhase.run", None)
    with pytest.raises(InvalidInputError, match="color_term_bands"):
        calibrate(simulated, references, do_fit_color_term=True, color_term_bands=["g", "i"])
