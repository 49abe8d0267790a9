from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard, load_card
from zeropoint.instruments.observation_file import read_observation
from zeropoint.instruments.pointing import BlindSearch
from zeropoint.instruments.reader import load_image

CARD: dict[str, Any] = {
    "instrument": "Cam",
    "gain": {"key": "GAIN"},
    "exposure_time": {"key": "EXPTIME"},
    "date": {"value": {"key": "DATE-OBS"}},
    "filter": {"key": "FILTER"},
    "visit": {"key": "VISIT"},
    "wcs": {"from": "header", "uncertainty": {"offset_arcsec": 5.0}},
}
HEADER: dict[str, Any] = {
    "GAIN": 2.0,
    "EXPTIME": 30.0,
    "DATE-OBS": "2001-01-01T00:00:00",
    "FILTER": "r",
    "VISIT": 17,
    "INSTRUME": "TheCamera",
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 10.0,
    "CRVAL2": 20.0,
    "CRPIX1": 50.0,
    "CRPIX2": 40.0,
    "CDELT1": -1e-4,
    "CDELT2": 1e-4,
}


def write(path: Path, header: dict[str, Any]) -> Path:
    pixels = np.random.default_rng(1).normal(100, 5, (80, 100)).astype(np.float32)
    fits.PrimaryHDU(pixels, fits.Header(header)).writeto(path)
    return path


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
@pytest.mark.parametrize("changes", [{}, {"visit": None}, {"visit": {"date": "seconds"}}])
def test_headers_tell_what_the_loaded_image_tells(
    tmp_path: Path, suffix: str, changes: dict[str, Any]
) -> None:
    path = write(tmp_path / f"a{suffix}", HEADER)
    card = CameraCard("cam", "cam.yaml", CARD | changes)
    observation, loaded = read_observation(path, card), load_image(path, card).exposure
    # repr, because NaN equals nothing
    assert repr(observation.visit_info) == repr(loaded.visit_info)
    assert observation.shape == loaded.shape
    assert observation.detector.id == loaded.detector.id
    assert loaded.wcs is not None
    assert observation.wcs.pixel_to_sky(x=3.0, y=5.0) == loaded.wcs.pixel_to_sky(x=3.0, y=5.0)
    assert observation.pointing == loaded.pointing
    assert observation.identity == {"INSTRUME": "TheCamera"}


def test_the_second_of_the_beginning_counts_exposures(tmp_path: Path) -> None:
    card = CameraCard("cam", "cam.yaml", CARD | {"visit": {"date": "seconds"}})
    # 366 days of 2000, and TAI - UTC = 32 s
    for i, (date, expected) in enumerate(
        (("2001-01-01T00:00:00", 366 * 86400 + 32), ("2001-01-01T00:00:00.999", 366 * 86400 + 32))
    ):
        path = write(tmp_path / f"{i}.fits", HEADER | {"DATE-OBS": date})
        assert read_observation(path, card).visit_info.visit == expected
    path = write(tmp_path / "none.fits", {k: v for k, v in HEADER.items() if k != "DATE-OBS"})
    with pytest.raises(InvalidInputError, match=r"none\.fits: .* number of the exposure from its date"):
        read_observation(path, card)


@pytest.mark.parametrize("key", ["GAIN", "FILTER", "VISIT"])
def test_a_header_without_what_the_card_promises(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "a.fits", {k: v for k, v in HEADER.items() if k != key})
    with pytest.raises(InvalidInputError, match=rf"a\.fits: the header has no {key}, .* of this camera"):
        read_observation(path, CameraCard("cam", "cam.yaml", CARD))


def test_an_image_to_be_found_by_its_stars(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", HEADER)
    wcs = {"index_files": ["/some/where"], "pixel_scale": 2.0, "uncertainty": {"scale_percent": 5.0}}
    card = CameraCard("cam", "cam.yaml", CARD | {"wcs": wcs})
    loaded = load_image(path, card)
    assert loaded.exposure.wcs is None
    assert loaded.search == BlindSearch(("/some/where",), 1.9, 2.1)
    with pytest.raises(InvalidInputError, match=r"a\.fits: .*wcs\.index_files.* repository"):
        read_observation(path, card)
    del wcs["pixel_scale"]
    with pytest.raises(InvalidInputError, match=r"positive wcs\.pixel_scale in camera card cam\.yaml"):
        load_image(path, card)


def test_truncated_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", HEADER)
    path.write_bytes(path.read_bytes()[:-6000])
    with pytest.raises(InvalidInputError, match=r"a\.fits: is truncated"):
        read_observation(path, CameraCard("cam", "cam.yaml", CARD))


def test_real_exposures_have_numbers_of_their_own(testdata: Path) -> None:
    card = load_card("microobservatory")
    files = sorted((testdata / "hatp32").glob("*.fits*"))
    visits = [read_observation(path, card).visit_info.visit for path in files]
    assert len(set(visits)) == len(files) == 71
    # frames were taken every six minutes of one night
    assert 71 * 300 < max(visits) - min(visits) < 86400
