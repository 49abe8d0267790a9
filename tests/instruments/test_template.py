from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from naive import frames
from zeropoint.butler.instruments import check_instrument_name
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import load_card
from zeropoint.instruments.reader import load_image
from zeropoint.instruments.template import card_template, check_card, check_numbers


def made(folder: Path, image: Path) -> Path:
    path = folder / "made.yaml"
    path.write_text(card_template(image))
    return path


def levels(card: Path, image: Path | None) -> set[str]:
    return {finding.level for finding in check_card(load_card(card), image)}


@pytest.mark.parametrize(
    "cards",
    [
        {},
        {"CTYPE1": None},
        {"CTYPE1": None, "RA": "02:00:00", "DEC": "-12:00:00"},
        {"DATE_OBS": "2021-03-04", "UT": "05:06:07"},
        {"DATE_OBS": None, "MJD": 58000.5},
        {"FILTER": "it's [odd]: #1"},
        {"FILTER": ""},
        {"GAIN": None, "EXPTIME": None, "INSTRUME": None},
    ],
)
def test_a_generated_card_is_valid_and_usable(tmp_path: Path, cards: dict[str, Any]) -> None:
    image = frames.write(tmp_path / "a.fits", **cards)
    card = made(tmp_path, image)
    loaded = load_image(image, load_card(card))
    assert "missing" not in levels(card, image)
    info = loaded.exposure.visit_info
    if cards.get("DATE_OBS", "T"):
        assert info.mjd_tai == pytest.approx(59277.21, abs=0.01)
    if "EXPTIME" not in cards:
        assert info.exposure_time == 40.0


@pytest.mark.parametrize(
    ("found", "name"),
    [("Toy", "Toy"), ("FLI ML-16803 / #2", "FLI_ML-16803_2"), ("4k: x", "Cam_4k_x"), ("/", "mycamera")],
)
def test_the_proposed_instrument_can_be_a_name_in_a_repository(tmp_path: Path, found: str, name: str) -> None:
    card = load_card(made(tmp_path, frames.write(tmp_path / "a.fits", INSTRUME=found, TELESCOP=None)))
    assert check_instrument_name(card.get("instrument"), card.source) == name


def test_a_bare_image_gets_a_card_that_says_what_to_fill_in(tmp_path: Path) -> None:
    image = tmp_path / "bare.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(frames.pixels())]).writeto(image)
    card = made(tmp_path, image)
    text = card.read_text()
    assert text.count("FILL IN") >= 5
    assert "image: {hdu: 1}" in text
    loaded = load_image(image, load_card(card))
    assert loaded.exposure.detector.amplifiers[0].gain == pytest.approx(1.0, rel=0.1)
    assert "note" in levels(card, image)


def test_check_says_what_is_missing(tmp_path: Path) -> None:
    image = frames.write(tmp_path / "a.fits", GAIN=-1.0)
    findings = check_card(load_card(made(tmp_path, image)), image)
    missing = [finding.text for finding in findings if finding.level == "missing"]
    assert len(missing) == 1
    assert "gain is -1" in missing[0]


def test_check_without_an_image_lists_entries() -> None:
    findings = check_card(load_card("generic"), None)
    assert any(finding.level == "note" and "mask" in finding.text for finding in findings)
    assert any(finding.level == "ok" and "gain" in finding.text for finding in findings)


def test_template_of_what_is_not_fits(tmp_path: Path) -> None:
    (tmp_path / "a.fits").write_text("hello")
    with pytest.raises(InvalidInputError, match="is not a FITS file"):
        card_template(tmp_path / "a.fits")


def test_check_reports_numbers(tmp_path: Path) -> None:
    image = frames.write(tmp_path / "a.fits")
    text = " ".join(finding.text for finding in check_card(load_card(made(tmp_path, image)), image))
    assert "100 x 90 pixels" in text
    assert "RA 30.0" in text
    assert "0.5000 arcsec/pixel" in text
    assert np.isclose(float(text.split("gain ")[-1].split()[0]), 1.0)


@pytest.mark.parametrize(
    ("cards", "number"),
    [
        ({"CCDNUM": 7}, 7),
        ({"CHIPID": "CCD12"}, 12),
        ({"CCD": "KAF-16803", "DETECTOR": 0}, 0),
        ({"DET-ID": 3}, 3),
    ],
)
def test_the_detector_is_numbered_by_the_header(tmp_path: Path, cards: dict[str, Any], number: int) -> None:
    image = frames.write(tmp_path / "a.fits", **cards)
    card = load_card(made(tmp_path, image))
    assert card.get("detector")["id"] == {"key": list(cards)[-1]}
    assert load_image(image, card).exposure.detector.id == number


def test_without_a_detector_number_there_is_a_line_to_fill_in(tmp_path: Path) -> None:
    card = made(tmp_path, frames.write(tmp_path / "a.fits"))
    assert "\n# detector: {id:" in card.read_text()
    assert any("every image is of detector 0" in each.text for each in check_card(load_card(card), None))


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"TELRA": 30.1, "TELDEC": -12.1}, (30.1, -12.1)),
        ({"RA": "02:00:24", "DEC": "-12:06:00"}, (30.1, -12.1)),
        ({"RA": 30.1 / 15.0, "DEC": -12.1}, (30.1, -12.1)),
        # what the telescope was told to see may be elsewhere
        ({"TELRA": 200.0, "TELDEC": -12.1, "OBJCTRA": "02 00 24", "OBJCTDEC": "-12 06 00"}, (30.1, -12.1)),
        ({"RA": 200.0, "DEC": 60.0}, None),
        ({"RA": "unknown", "DEC": ""}, None),
        ({}, None),
    ],
)
def test_the_boresight_stands_beside_a_wcs_of_the_header(
    tmp_path: Path, cards: dict[str, Any], expected: tuple[float, float] | None
) -> None:
    image = frames.write(tmp_path / "a.fits", **cards)
    card = made(tmp_path, image)
    exposure = load_image(image, load_card(card)).exposure
    info = exposure.visit_info
    found = (info.boresight_ra_deg, info.boresight_dec_deg)
    assert found == pytest.approx((np.nan, np.nan) if expected is None else expected, nan_ok=True)
    # the WCS stays the header's
    assert np.rad2deg(exposure.wcs.pixel_to_sky(x=49.5, y=44.5)) == pytest.approx((30.0, -12.0))
    notes = [each.text for each in check_card(load_card(card), image) if each.level == "note"]
    assert any("no boresight" in text for text in notes) == (expected is None)


def test_check_tells_whether_images_can_be_told_apart(tmp_path: Path) -> None:
    a, b = (frames.write(tmp_path / f"{i}.fits", EXPNUM=5, CCDNUM=i) for i in (1, 2))
    path = made(tmp_path, a)
    (fine,) = check_numbers(load_card(path), [a, b])
    assert (fine.level, fine.text) == ("ok", "2 images: 1 exposures, 2 detectors")
    path.write_text(
        "\n".join(line for line in path.read_text().splitlines() if not line.startswith("detector"))
    )
    (clash,) = check_numbers(load_card(path), [a, b, tmp_path / "missing.fits"])
    assert clash.level == "missing"
    assert "both exposure 5 of detector 0: give `detector: {id: ...}`" in clash.text
    assert clash.text.endswith("(their headers differ in CCDNUM)")
