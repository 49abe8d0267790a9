"""Images that are found by their stars: what the session makes of success and failure."""

import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from zeropoint.astrometry.blind import BlindWcs, BlindWcsResult
from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import InvalidInputError, MatcherFailure
from zeropoint.instruments.card import CameraCard
from zeropoint.instruments.reader import load_image
from zeropoint.recipes.session import CalibrationSession
from zeropoint.recipes.sky_search import find_on_sky_in_place

WCS = {"index_files": ["/some/where"], "pixel_scale": 2.0, "uncertainty": {"scale_percent": 5.0}}
STARS = np.array([(20, 30), (60, 50), (80, 20), (30, 60), (50, 25), (85, 65)])


@pytest.fixture
def card():
    values = {"instrument": "cam", "gain": 2.0, "read_noise": 5.0, "filter": "r", "wcs": WCS}
    return CameraCard("cam", "cam.yaml", values)


@pytest.fixture
def image(tmp_path: Path):
    pixels = np.random.default_rng(1).normal(100, 5, (80, 100))
    y, x = np.mgrid[:80, :100]
    for k, (x0, y0) in enumerate(STARS):
        pixels += (1000 - 100 * k) * np.exp(-0.5 * ((x - x0) ** 2 + (y - y0) ** 2) / 1.5**2)
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(pixels.astype(np.float32)).writeto(path)
    return path


def test_the_stars_and_the_scales_reach_the_search(image, card, monkeypatch):
    found = SkyWcs.from_boresight(10.0, 20.0, x=50.0, y=40.0, pixel_scale_arcsec=2.0)
    asked = {}

    def run(self, *, x, y, shape):
        asked.update(x=x, y=y, shape=shape, config=self.config.toDict())
        return BlindWcsResult(found, 80.0, 2.0, "index.fits", len(x))

    monkeypatch.setattr(BlindWcs, "run", run)
    loaded = load_image(image, card)
    note = find_on_sky_in_place(loaded)
    assert loaded.exposure.wcs is found
    assert loaded.exposure.pointing is None
    np.testing.assert_array_equal(np.column_stack([asked["x"], asked["y"]]), STARS)
    assert asked["shape"] == (80, 100)
    assert (asked["config"]["pixel_scale_low"], asked["config"]["pixel_scale_high"]) == (1.9, 2.1)
    assert "6 stars alone, with index.fits" in note


def test_an_image_that_is_not_found_is_a_result_with_a_failure(image, card, monkeypatch, tmp_path):
    def run(self, *, x, y, shape):
        raise MatcherFailure("None of 1 index files knows the stars.", n_stars=len(x))

    monkeypatch.setattr(BlindWcs, "run", run)
    Table({"ra": [10.0], "dec": [20.0], "r": [15.0]}).write(tmp_path / "refs.csv")
    session = CalibrationSession(card, ReferenceSource.open(tmp_path / "refs.csv"))
    done = session.calibrate(image)
    assert isinstance(done.result.failure, MatcherFailure)
    assert done.result.failure.metadata == {"n_stars": 6}
    assert done.result.exposure.wcs is None
    assert done.result.stars is None


def test_a_missing_package_is_an_input_error(image, card, monkeypatch):
    monkeypatch.setitem(sys.modules, "astrometry", None)
    with pytest.raises(InvalidInputError, match=r"zeropoint\[blind\]"):
        find_on_sky_in_place(load_image(image, card))
