import sys
from types import SimpleNamespace

import lsst.pex.config as pexConfig
import numpy as np
import pytest

from naive import matched_stars as sky
from zeropoint.astrometry.blind import BlindWcs, BlindWcsConfig
from zeropoint.errors import InvalidInputError, MatcherFailure

SHAPE = (500, 650)


class RecordingLibrary:
    """Stands for the optional package: hands back one match, or none, and keeps what it was given."""

    Action = SimpleNamespace(STOP=0)

    def __init__(self, wcs=None):
        self.wcs, self.asked = wcs, {}

    def SizeHint(self, low, high):
        return low, high

    def SolutionParameters(self, **settings):
        return SimpleNamespace(**settings)

    def Solver(self, files):
        self.asked["files"] = files
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def solve(self, **asked):
        self.asked.update(asked)
        match = SimpleNamespace(
            logodds=99.0,
            scale_arcsec_per_pixel=sky.SCALE,
            index_path=self.asked["files"][0],
            astropy_wcs=lambda: self.wcs.to_astropy(SHAPE),
        )
        return SimpleNamespace(has_match=lambda: self.wcs is not None, best_match=lambda: match)


@pytest.fixture
def index(tmp_path):
    (tmp_path / "index-1.fits").write_bytes(b"")
    return tmp_path


def search(*files, **fields):
    config = BlindWcsConfig()
    config.index_files = [str(file) for file in files]
    for name, value in fields.items():
        setattr(config, name, value)
    return BlindWcs(config)


def positions(n=30):
    return dict(zip("xy", np.random.default_rng(1).uniform(0, 500, (2, n)), strict=True))


def test_pixels_are_counted_from_one_and_the_brightest_are_used(index, monkeypatch):
    library = RecordingLibrary(sky.plain_wcs())
    monkeypatch.setitem(sys.modules, "astrometry", library)
    stars = positions()
    found = search(index, max_stars=20).run(**stars, shape=SHAPE)
    np.testing.assert_array_equal(
        library.asked["stars"], np.column_stack([stars["x"], stars["y"]])[:20] + 1.0
    )
    assert library.asked["files"] == [index / "index-1.fits"]
    expected = sky.plain_wcs().pixel_to_sky(x=stars["x"], y=stars["y"])
    np.testing.assert_allclose(found.wcs.pixel_to_sky(x=stars["x"], y=stars["y"]), expected, atol=1e-12)
    assert (found.n_stars, found.index_file, found.log_odds) == (20, "index-1.fits", 99.0)


def test_stars_that_no_index_knows_are_a_failure_with_numbers(index, monkeypatch):
    monkeypatch.setitem(sys.modules, "astrometry", RecordingLibrary())
    with pytest.raises(MatcherFailure, match="None of 1 index files") as caught:
        search(index, pixel_scale_low=1.0, pixel_scale_high=2.0).run(**positions(), shape=SHAPE)
    assert caught.value.metadata == {
        "n_stars": 30,
        "n_index_files": 1,
        "pixel_scale_low": 1.0,
        "pixel_scale_high": 2.0,
    }
    with pytest.raises(MatcherFailure, match="4 stars are too few"):
        search(index).run(**positions(4), shape=SHAPE)


def test_a_missing_package_or_file_is_named(index, monkeypatch):
    monkeypatch.setitem(sys.modules, "astrometry", None)
    with pytest.raises(InvalidInputError, match=r"zeropoint\[blind\]"):
        search(index).run(**positions(), shape=SHAPE)
    monkeypatch.setitem(sys.modules, "astrometry", RecordingLibrary())
    (index / "empty").mkdir()
    for name in ("absent.fits", "empty"):
        with pytest.raises(InvalidInputError, match=f"index_files: .*{name}"):
            search(index / name).run(**positions(), shape=SHAPE)


def test_a_damaged_index_file_is_an_input_error(index):
    pytest.importorskip("astrometry")
    with pytest.raises(InvalidInputError, match="index_files"):
        search(index).run(**positions(), shape=SHAPE)


def test_an_empty_range_of_scales_is_refused():
    config = BlindWcsConfig()
    config.pixel_scale_low = 70.0
    with pytest.raises(pexConfig.FieldValidationError, match="pixel_scale_low"):
        config.validate()
