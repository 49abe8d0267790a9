from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from naive import frames
from zeropoint.datamodel.exposure import Exposure, PointingUncertainty
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard, load_card
from zeropoint.instruments.reader import LoadedImage, load_image


def card(**changes: Any) -> CameraCard:
    data = {
        "instrument": {"key": "INSTRUME"},
        "gain": {"key": "GAIN"},
        "read_noise": {"key": "RDNOISE"},
        "saturation": {"key": "SATURATE"},
        "exposure_time": {"key": "EXPTIME"},
        "date": {"value": {"key": "DATE-OBS"}},
        "filter": {"key": "FILTER"},
        "wcs": {"from": "header"},
    }
    data.update(changes)
    return CameraCard("toy", "toy.yaml", {k: v for k, v in data.items() if v != "absent"})


def exposure(path: Path, **changes: Any) -> Exposure:
    return load_image(path, card(**changes)).exposure


def refused(path: Path, match: str, **changes: Any) -> str:
    with pytest.raises(InvalidInputError, match=match) as caught:
        load_image(path, card(**changes))
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


# -- files --------------------------------------------------------------------------------------------


def test_an_ordinary_frame(tmp_path: Path) -> None:
    loaded = load_image(frames.write(tmp_path / "a.fits"), card())
    image = loaded.exposure
    assert isinstance(loaded, LoadedImage)
    assert loaded.caveats == ()
    assert loaded.stem == "a"
    assert image.shape == frames.SHAPE
    np.testing.assert_array_equal(image.image, frames.pixels())
    np.testing.assert_allclose(image.variance, frames.pixels() + 9.0)
    assert not image.mask.any()
    assert image.detector.instrument == "Toy"
    assert image.visit_info.band == "r"
    assert image.visit_info.exposure_time == 40.0
    assert image.wcs is not None
    ra, dec = image.wcs.pixel_to_sky(x=49.5, y=44.5)
    np.testing.assert_allclose(np.rad2deg([ra, dec]), [30.0, -12.0], atol=1e-9)


@pytest.mark.parametrize("form", ["gz", "fz", "cube", "extension", "float64", "bzero", "int32"])
def test_forms_of_a_frame(tmp_path: Path, form: str) -> None:
    data = np.rint(frames.pixels())
    path = tmp_path / "a.fits"
    if form == "fz":
        hdu = fits.CompImageHDU(data.astype(np.int32), frames.header(), name="SCI")
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    elif form == "extension":
        hdu = fits.ImageHDU(data, frames.header(GAIN=None))
        fits.HDUList([fits.PrimaryHDU(header=fits.Header({"GAIN": 1.0})), hdu]).writeto(path)
    elif form == "cube":
        frames.write(path, data[None, :, :].astype(np.float32))
    else:
        kind = {"float64": np.float64, "bzero": np.uint16, "int32": np.int32}.get(form, np.float32)
        frames.write(path, data.astype(kind))
    if form == "gz":
        with open(path, "rb") as plain, gzip.open(tmp_path / "a.fits.gz", "wb") as packed:
            shutil.copyfileobj(plain, packed)
        path = tmp_path / "a.fits.gz"
    loaded = load_image(path, card())
    assert loaded.stem == "a"
    np.testing.assert_array_equal(loaded.exposure.image, data.astype(np.float32))


def test_headers_with_oddities_are_read(tmp_path: Path) -> None:
    path = frames.write(tmp_path / "a.fits")
    raw = bytearray(path.read_bytes())
    place = raw.index(b"INSTRUME")
    # a card that breaks the standard (a lower-case keyword, a value that is not one) harms nobody
    raw[place : place + 80] = b"obs_note= not'quoted / whatever".ljust(80)
    path.write_bytes(raw)
    np.testing.assert_array_equal(exposure(path).image, frames.pixels())


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.95])
@pytest.mark.parametrize("form", ["plain", "gz", "fz", "extension"])
def test_truncated_files(tmp_path: Path, form: str, fraction: float) -> None:
    path = tmp_path / "a.fits"
    if form == "fz":
        hdus = [fits.PrimaryHDU(), fits.CompImageHDU(frames.pixels(), frames.header())]
        fits.HDUList(hdus).writeto(path)
    elif form == "extension":
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(frames.pixels(), frames.header())]).writeto(path)
    else:
        frames.write(path)
    raw = path.read_bytes()
    if form == "gz":
        raw, path = gzip.compress(raw), tmp_path / "a.fits.gz"
    path.write_bytes(raw[: int(fraction * len(raw))])
    refused(path, "truncated|complete|not a FITS|no 2-d image")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "empty"),
        (b"RA Dec\n1 2\n" * 400, "is not a FITS file"),
        (b"\x89PNG\r\n" + bytes(5000), "is not a FITS file"),
    ],
)
def test_what_is_not_fits(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(content)
    refused(path, match)


def test_missing_files_and_directories(tmp_path: Path) -> None:
    refused(tmp_path / "none.fits", "no such file")
    refused(tmp_path, "is a directory")


@pytest.mark.parametrize("hdu", [4, -7, "SCI", ["SCI", 2]])
def test_no_such_hdu(tmp_path: Path, hdu: Any) -> None:
    path = frames.write(tmp_path / "a.fits")
    assert "toy.yaml" in refused(path, r"has no HDU .* \(it has 0:PRIMARY\)", image={"hdu": hdu})


def test_hdu_by_name_and_not_an_image(tmp_path: Path) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])], name="TAB")
    other = fits.ImageHDU(frames.pixels(2), name="SCI")
    path = frames.write(tmp_path / "a.fits", extensions=(other, table))
    np.testing.assert_array_equal(exposure(path, image={"hdu": "SCI"}).image, frames.pixels(2))
    np.testing.assert_array_equal(exposure(path, image={"hdu": ["SCI", 1]}).image, frames.pixels(2))
    refused(path, "not a 2-d image", image={"hdu": "TAB"})


@pytest.mark.parametrize("data", [np.zeros(100), np.zeros((2, 90, 100)), None])
def test_no_image_of_two_dimensions(tmp_path: Path, data: Any) -> None:
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(data).writeto(path)
    refused(path, "no 2-d image")


# -- pixels -------------------------------------------------------------------------------------------


def test_pixels_that_are_not_finite_hold_no_data(tmp_path: Path) -> None:
    data = frames.pixels().astype(np.float64)
    data[3, 4], data[5, 6], data[7, 8], data[9, 10] = np.nan, np.inf, -np.inf, 1e300
    image = exposure(frames.write(tmp_path / "a.fits", data))
    marked = np.argwhere(image.masked("NO_DATA")).tolist()
    assert marked == [[3, 4], [5, 6], [7, 8], [9, 10]]
    assert np.isfinite(image.image).all()
    assert np.isfinite(image.variance).all()
    assert abs(image.image[3, 4] - frames.SKY) < 5.0


@pytest.mark.parametrize(
    ("value", "match"), [(np.nan, "no pixel is finite"), (7.0, "every pixel has the value 7")]
)
def test_images_without_content(tmp_path: Path, value: float, match: str) -> None:
    refused(frames.write(tmp_path / "a.fits", np.full(frames.SHAPE, value, np.float32)), match)


def test_small_images(tmp_path: Path) -> None:
    refused(frames.write(tmp_path / "a.fits", frames.pixels(shape=(63, 100))), "100 x 63 pixels is too small")


@pytest.mark.parametrize("pedestal", [100.0, -250.0])
def test_pedestal(tmp_path: Path, pedestal: float) -> None:
    path = frames.write(tmp_path / "a.fits", frames.pixels() + np.float32(pedestal), OFFSET=pedestal)
    np.testing.assert_allclose(exposure(path, pedestal={"key": "OFFSET"}).image, frames.pixels(), atol=1e-4)


@pytest.mark.parametrize("gain", [0.0, -1.5, "many"])
def test_impossible_gains(tmp_path: Path, gain: Any) -> None:
    refused(frames.write(tmp_path / "a.fits", GAIN=gain), "gain is")


def test_missing_gain_key(tmp_path: Path) -> None:
    path = frames.write(tmp_path / "a.fits", GAIN=None)
    refused(path, "no gain")
    undefined = frames.write(tmp_path / "b.fits", GAIN=fits.card.Undefined())
    refused(undefined, "no gain")


@pytest.mark.parametrize("gain", ["estimate", "absent"])
@pytest.mark.parametrize("whole_counts", [False, True])
def test_gain_is_estimated_from_the_sky(tmp_path: Path, gain: str, whole_counts: bool) -> None:
    rng = np.random.default_rng(5)
    # 400 e- of sky at 20 e-/ADU: noise of one count, where whole numbers matter
    data = rng.poisson(400.0, (300, 300)) / 20.0
    path = frames.write(tmp_path / "a.fits", (np.floor(data) if whole_counts else data).astype(np.float32))
    loaded = load_image(path, card(gain=gain))
    # cutting off the fraction lowers the sky by half a count of 20 and adds 1/12 to a variance of 1
    expected = 20.0 * (19.5 / 20.0) / (13.0 / 12.0) if whole_counts else 20.0
    assert loaded.exposure.detector.amplifiers[0].gain == pytest.approx(expected, rel=0.05)
    assert any("gain estimated" in caveat for caveat in loaded.caveats)


def test_gain_that_cannot_be_estimated(tmp_path: Path) -> None:
    refused(
        frames.write(tmp_path / "a.fits", frames.pixels() - 500.0), "cannot be estimated", gain="estimate"
    )


def test_read_noise_units(tmp_path: Path) -> None:
    path = frames.write(tmp_path / "a.fits", GAIN=2.0, RDNOISE=3.0)
    for unit, electrons in (("electron", 3.0), ("adu", 6.0), ("adu_variance", 2.0 * np.sqrt(3.0))):
        image = exposure(path, read_noise={"key": "RDNOISE", "unit": unit})
        assert image.detector.amplifiers[0].read_noise == pytest.approx(electrons)
    refused(frames.write(tmp_path / "b.fits", RDNOISE=-1.0), "read noise is -1")


def test_a_subtracted_sky_leaves_its_noise(tmp_path: Path) -> None:
    loaded = load_image(frames.write(tmp_path / "a.fits", frames.pixels() - frames.SKY), card())
    assert np.median(loaded.exposure.variance) == pytest.approx(frames.NOISE**2, rel=0.1)
    assert any("sky subtracted" in caveat for caveat in loaded.caveats)


# -- saturation ---------------------------------------------------------------------------------------


def test_saturation_is_marked_and_grown(tmp_path: Path) -> None:
    data = frames.pixels()
    data[10, 20] = data[0, 0] = 5000.0
    image = exposure(frames.write(tmp_path / "a.fits", data, SATURATE=5000.0))
    expected = np.zeros(frames.SHAPE, bool)
    expected[9:12, 19:22] = expected[:2, :2] = True
    np.testing.assert_array_equal(image.masked("SATURATED"), expected)


def test_saturation_level_includes_the_pedestal(tmp_path: Path) -> None:
    data = frames.pixels() + 1000.0
    data[10, 20] = 5000.0
    image = exposure(frames.write(tmp_path / "a.fits", data, SATURATE=5000.0), pedestal=1000.0)
    assert image.masked("SATURATED").sum() == 9


@pytest.mark.parametrize(
    "data", [None, np.full(frames.SHAPE, 65535.0, np.float32)], ids=["noise", "one-value"]
)
def test_everything_saturated_is_an_image_with_a_caveat(tmp_path: Path, data: np.ndarray | None) -> None:
    loaded = load_image(frames.write(tmp_path / "a.fits", data, SATURATE=100.0), card())
    assert loaded.exposure.masked("SATURATED").all()
    assert any("every pixel is above the saturation level" in caveat for caveat in loaded.caveats)


def test_unknown_saturation_is_a_caveat(tmp_path: Path) -> None:
    path = frames.write(tmp_path / "a.fits")
    assert any("saturation" in c for c in load_image(path, card(saturation=None)).caveats)
    mask = {"file": str(path), "kind": "bits", "planes": {"SATURATED": [15]}}
    frames.write(tmp_path / "b.fits", np.zeros(frames.SHAPE, np.int16))
    mask["file"] = "{dir}/b.fits"
    assert load_image(path, card(saturation=None, mask=mask)).caveats == ()


# -- variance -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "stored"), [("weight", 0.01), ("sigma", 10.0), ("variance", 100.0)])
def test_variance_planes(tmp_path: Path, kind: str, stored: float) -> None:
    plane = np.full(frames.SHAPE, stored, np.float32)
    plane[:10] = 0.0
    plane[20, 30] = np.nan
    frames.write(tmp_path / "a.weight.fits", plane)
    path = frames.write(tmp_path / "a.fits", GAIN=2.0)
    image = exposure(path, variance={"file": "{dir}/{stem}.weight.fits", "kind": kind})
    no_data = np.zeros(frames.SHAPE, bool)
    no_data[:10] = no_data[20, 30] = True
    np.testing.assert_array_equal(image.masked("NO_DATA"), no_data)
    # 100 ADU^2 at 2 e-/ADU
    np.testing.assert_allclose(image.variance, 400.0, rtol=1e-6)


def test_variance_planes_that_are_refused(tmp_path: Path) -> None:
    path = frames.write(tmp_path / "a.fits")
    frames.write(tmp_path / "zero.fits", np.zeros(frames.SHAPE, np.float32))
    other = frames.write(tmp_path / "other.fits", frames.pixels(shape=(70, 80)))
    refused(path, "zero .or not finite. everywhere", variance={"file": "{dir}/zero.fits", "kind": "weight"})
    refused(path, "none.fits does not exist", variance={"file": "{dir}/none.fits", "kind": "weight"})
    with pytest.raises(InvalidInputError, match=r"80 x 70 pixels, the image a\.fits 100 x 90"):
        load_image(path, card(variance={"file": str(other)}))
    with pytest.raises(InvalidInputError, match="no image in HDU 3"):
        load_image(path, card(variance={"hdu": 3}))
    same = exposure(path, variance={"file": "{dir}/none.fits", "optional": True})
    np.testing.assert_array_equal(same.variance, exposure(path).variance)


# -- visit and detector -------------------------------------------------------------------------------


def test_visit_numbers(tmp_path: Path) -> None:
    path = frames.write(
        tmp_path / "a.fits", NUM=123456789, TEXT="  0042 ", NAME="n2-0042", BIG=1 << 40, NEG=-1
    )
    assert exposure(path, visit={"key": "NUM"}).visit_info.visit == 123456789
    assert exposure(path, visit={"key": "TEXT"}).visit_info.visit == 42
    named = exposure(path, visit={"key": "NAME"}).visit_info.visit
    hashed = exposure(path).visit_info.visit
    for number in (named, hashed):
        assert 0 <= number < 1 << 28
    assert named == exposure(path, visit={"key": "NAME"}).visit_info.visit
    assert hashed == exposure(path, visit={"key": "NONE"}).visit_info.visit
    assert hashed != exposure(frames.write(tmp_path / "b.fits", frames.pixels(9))).visit_info.visit
    refused(path, "raise ids.n_visits", visit={"key": "BIG"})
    refused(path, "visit -1", visit={"key": "NEG"})
    loaded = load_image(path, card(visit={"key": "BIG"}, ids={"n_visits": 1 << 41, "n_detectors": 16}))
    assert loaded.exposure.visit_info.visit == 1 << 40
    assert loaded.ids == (1 << 41, 16)


def test_exposure_numbers(tmp_path: Path) -> None:
    path = frames.write(tmp_path / "a.fits", VISITNO=7, SNAP=71, NEG=-1)
    visit = {"key": "VISITNO"}
    assert exposure(path, visit=visit).visit_info.exposure == 7
    info = exposure(path, visit=visit, exposure={"key": "SNAP"}).visit_info
    assert (info.visit, info.exposure) == (7, 71)
    hashed = exposure(path).visit_info
    assert hashed.exposure == hashed.visit
    refused(path, "exposure -1", visit=visit, exposure={"key": "NEG"})
    lacking = load_image(path, card(visit=visit, exposure={"key": "NONE"}))
    assert lacking.exposure.visit_info.exposure == 7
    assert any("NONE" in caveat and "`exposure`" in caveat for caveat in lacking.caveats)
    quiet = load_image(path, card(visit=visit, exposure={"key": "NONE", "default": None}))
    assert not any("NONE" in caveat for caveat in quiet.caveats)


@pytest.mark.parametrize(("raw", "number"), [(7, 7), ("7", 7), ("CCD12", 12), ("S1-07", 7), ("main", 0)])
def test_detector_numbers(tmp_path: Path, raw: Any, number: int) -> None:
    path = frames.write(tmp_path / "a.fits", CCD=raw)
    assert exposure(path, detector={"id": {"key": "CCD"}}).detector.id == number


def test_detector_number_beyond_the_ids(tmp_path: Path) -> None:
    refused(frames.write(tmp_path / "a.fits"), "raise ids.n_detectors", detector={"id": 256})


def test_amplifiers_have_their_own_gain(tmp_path: Path) -> None:
    amplifiers = [
        {"name": "left", "box": [0, 0, 49, 89], "gain": 0.9, "read_noise": 5.0},
        {"name": "right", "box": [50, 0, 99, 89], "gain": {"key": "GAINR"}},
    ]
    path = frames.write(tmp_path / "a.fits", GAINR=1.1)
    image = exposure(path, gain="absent", detector={"amplifiers": amplifiers})
    np.testing.assert_allclose(image.image[:, :50], 0.9 * frames.pixels()[:, :50])
    np.testing.assert_allclose(image.image[:, 50:], 1.1 * frames.pixels()[:, 50:])
    np.testing.assert_allclose(image.variance[:, :50], image.image[:, :50] + 25.0)
    np.testing.assert_allclose(image.variance[:, 50:], image.image[:, 50:] + 9.0)
    left, right = image.detector.amplifiers
    assert (left.gain, left.read_noise, right.gain, right.read_noise) == pytest.approx((0.9, 5.0, 1.1, 3.0))
    amplifiers[1]["box"] = [50, 0, 100, 89]
    refused(path, "amplifier right", detector={"amplifiers": amplifiers})
    amplifiers[1]["box"] = [50, 0, 98, 89]
    refused(path, "no gain: the amplifiers do not cover", gain="absent", detector={"amplifiers": amplifiers})
    amplifiers[0]["gain"] = 0.0
    refused(path, "gain of amplifier left is 0", detector={"amplifiers": amplifiers})


def test_exposure_time_and_band(tmp_path: Path) -> None:
    path = frames.write(tmp_path / "a.fits", EXPTIME=0.0, FILTER="SDSS_r")
    loaded = load_image(path, card(bands={"SDSS_r": "r", 1: "g"}))
    assert np.isnan(loaded.exposure.visit_info.exposure_time)
    assert any("no exposure time" in c for c in loaded.caveats)
    assert loaded.exposure.visit_info.band == "r"
    assert loaded.exposure.visit_info.physical_filter == "SDSS_r"
    refused(path, "exposure_time is 'SDSS_r'", exposure_time={"key": "FILTER"})


# -- a user's camera ----------------------------------------------------------------------------------

USER_CARD = """\
# the card of a camera that does not exist
instrument: Toy
filename: 'toy_(?P<num>\\d+)'
image: {hdu: SCI}
mask: {file: '{dir}/flags_{num}.fits', hdu: 0, kind: bits, planes: {SATURATED: [2], BAD: [0, 5], COSMIC_RAY: 3}}
variance: {file: '{dir}/weight_{num}.fits.gz', kind: weight}
gain: 1.0
pedestal: {key: BIAS, default: 0}
saturation: 60000
exposure_time: {key: SHUTTER, scale: 0.001}
date: {value: [{key: DAY}, {key: CLOCK}], at: mid}
filter: {key: FILT}
bands: {red: r}
visit: '{num}'
ids: {n_visits: 65536, n_detectors: 4}
detector:
  id: {key: CHIP}
  amplifiers: [{name: L, box: [0, 0, 49, 89], gain: 1.5}, {name: R, box: [50, 0, 99, 89], gain: 2.0}]
wcs: {ra: {key: TELRA}, dec: {key: TELDEC}, pixel_scale: 0.5, uncertainty: {offset_arcsec: 200}}
"""


def test_a_card_of_twenty_lines_for_a_new_camera(tmp_path: Path) -> None:
    assert len(USER_CARD.splitlines()) <= 22
    (tmp_path / "toy.yaml").write_text(USER_CARD)
    cards = {
        "BIAS": 100.0,
        "SHUTTER": 2500,
        "DAY": "2022-02-02",
        "CLOCK": "01:02:03",
        "FILT": "red",
        "CHIP": "C3",
    }
    header = fits.Header({**cards, "TELRA": "02:00:00", "TELDEC": "-12:00:00"})
    data = np.rint(frames.pixels() + 100.0)
    hdus = [fits.PrimaryHDU(header=header), fits.CompImageHDU(data.astype(np.int32), name="SCI")]
    fits.HDUList(hdus).writeto(tmp_path / "toy_00077.fits.fz")
    flags = np.zeros(frames.SHAPE, np.uint16)
    flags[1, 1], flags[2, 2], flags[3, 3], flags[4, 4], flags[5, 5] = (
        1 << 0,
        1 << 2,
        1 << 3,
        (1 << 5) | 4,
        1 << 9,
    )
    fits.PrimaryHDU(flags).writeto(tmp_path / "flags_00077.fits")
    fits.PrimaryHDU(np.full(frames.SHAPE, 0.0025, np.float32)).writeto(tmp_path / "weight_00077.fits.gz")

    loaded = load_image(tmp_path / "toy_00077.fits.fz", load_card(tmp_path / "toy.yaml"))
    image = loaded.exposure
    assert loaded.caveats == ()
    np.testing.assert_allclose(image.image[:, 50:], 2.0 * (data - 100.0)[:, 50:])
    np.testing.assert_allclose(image.variance[:, :50], 400.0 * 1.5**2, rtol=1e-5)
    planes = [(1, "BAD"), (2, "SATURATED"), (3, "COSMIC_RAY"), (4, "BAD"), (4, "SATURATED")]
    for place, plane in planes:
        assert image.masked(plane)[place, place]
    assert sum(int(image.masked(plane).sum()) for plane in ("BAD", "SATURATED", "COSMIC_RAY")) == len(planes)
    info = image.visit_info
    assert (info.visit, info.exposure_time, info.band) == (77, 2.5, "r")
    assert (info.boresight_ra_deg, info.boresight_dec_deg) == pytest.approx((30.0, -12.0))
    assert image.detector.id == 3
    assert loaded.ids == (65536, 4)
    assert image.wcs is not None
    np.testing.assert_allclose(image.wcs.pixel_to_sky(x=49.5, y=44.5), np.deg2rad([30.0, -12.0]))
    assert loaded.exposure.pointing == PointingUncertainty(offset_arcsec=200.0)
