"""WCS and photometric calibration where each source is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from naive.measurement import config_of
from naive.star_field import grid_of_stars
from zeropoint.datamodel.catalog import SourceCatalog
from zeropoint.datamodel.exposure import PhotoCalib
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.psf_model import GaussianPsf
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.measurement.single_frame import SingleFrameMeasurement, SingleFrameMeasurementConfig

SCALE = np.deg2rad(0.4 / 3600.0)


def after_calibration() -> SingleFrameMeasurementConfig:
    """Return the configuration of the second measurement of CalibrateTask."""
    config = SingleFrameMeasurementConfig()
    config.plugins.names = ["base_LocalWcs", "base_LocalPhotoCalib"]
    config.doReplaceWithNoise = False
    for slot in config.slots:
        setattr(config.slots, slot, None)
    return config


@pytest.fixture(scope="module")
def field():
    """Four stars, measured; exposure with a WCS rotated by 30 degrees and a zero point that varies in x."""
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(1.6, 25), np.full(4, 1e5))
    height, width = exposure.shape
    exposure.wcs = SkyWcs.from_boresight(
        40.0, 60.0, x=0.5 * width, y=0.5 * height, pixel_scale_arcsec=0.4, rotation_deg=30.0
    )
    slope = ChebyshevPolynomial(width, height, np.array([[2.0, 0.1]]))
    exposure.photo_calib = PhotoCalib(2.0, 0.01, slope)
    first = SingleFrameMeasurement(config_of("base_SdssCentroid", "base_PsfFlux"))
    second = SingleFrameMeasurement(after_calibration(), schema=first.schema)
    catalog = SourceCatalog(first.schema, len(footprints), footprints=footprints)
    first.run(exposure, catalog, seed=1)
    return exposure, catalog, second


def test_both_are_those_of_the_centroid(field) -> None:
    exposure, catalog, step = field
    step.run(exposure, catalog, seed=1)
    cosine, sine = np.cos(np.deg2rad(30.0)), np.sin(np.deg2rad(30.0))
    # +y is 30 degrees east of north, +x at right angles, east to the left; the field is small enough for a plane
    expected = SCALE * np.array([[-cosine, sine], [sine, cosine]])
    for i in (0, 1):
        for j in (0, 1):
            values = catalog[f"base_LocalWcs_CDMatrix_{i + 1}_{j + 1}"]
            np.testing.assert_allclose(values, expected[i, j], atol=2e-3 * SCALE)
    width = exposure.shape[1]
    x = catalog["base_SdssCentroid_x"]
    # the first Chebyshev polynomial runs from -1 to 1 over the image
    factor = 2.0 + 0.1 * (2.0 * (x + 0.5) / width - 1.0)
    np.testing.assert_allclose(catalog["base_LocalPhotoCalib"], factor, atol=1e-3)
    assert np.ptp(catalog["base_LocalPhotoCalib"]) > 0.02
    assert (catalog["base_LocalPhotoCalibErr"] == 0.01).all()
    assert not (catalog["base_LocalWcs_flag"] | catalog["base_LocalPhotoCalib_flag"]).any()


def test_a_source_without_a_centroid_is_taken_at_its_peak(field) -> None:
    exposure, catalog, step = field
    catalog = catalog.copy()
    step.run(exposure, catalog, seed=1)
    before = catalog["base_LocalPhotoCalib"].copy()
    catalog["base_SdssCentroid_x"][0] = np.nan
    step.run(exposure, catalog, seed=1)
    np.testing.assert_allclose(catalog["base_LocalPhotoCalib"], before, atol=1e-3)
    assert not catalog["base_LocalPhotoCalib_flag"][0]


def test_what_is_not_known_is_flagged(field) -> None:
    exposure, catalog, step = field
    catalog = catalog.copy()
    step.run(replace(exposure, wcs=None, photo_calib=None), catalog, seed=1)
    for name in ("base_LocalWcs_CDMatrix_2_1", "base_LocalPhotoCalib", "base_LocalPhotoCalibErr"):
        assert np.isnan(catalog[name]).all()
    assert catalog["base_LocalWcs_flag"].all()
    assert catalog["base_LocalPhotoCalib_flag"].all()


def test_the_second_step_needs_no_psf_and_leaves_the_first_ones_columns(field) -> None:
    exposure, catalog, step = field
    catalog = catalog.copy()
    catalog["base_InvalidPsf_flag"][1] = True
    before = {name: catalog[name].copy() for name in catalog.colnames if not name.startswith("base_Local")}
    step.run(replace(exposure, psf=None), catalog, seed=1)
    for name, values in before.items():
        np.testing.assert_array_equal(catalog[name], values, err_msg=name)
    # a step without a plugin that looks at the PSF has no say in the flag
    assert "base_InvalidPsf_flag" not in SingleFrameMeasurement(after_calibration()).schema
