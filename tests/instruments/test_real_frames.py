"""Real frames through the built-in cards, against decoders of our own and published numbers."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from naive import frames
from zeropoint.instruments.card import load_card
from zeropoint.instruments.first_look import first_look
from zeropoint.instruments.reader import LoadedImage, load_image
from zeropoint.recipes.calibrate_image.derived import search_settings

pytestmark = pytest.mark.parity

#: Filter -> FWHM (arcsec, from moments), sky (DN) and noise (DN) measured with other code.
SDSS = {
    "u": (1.31, 23.9, 5.05),
    "g": (1.23, 94.8, 5.11),
    "r": (1.04, 144.8, 5.61),
    "i": (1.01, 199.0, 7.05),
    "z": (1.08, 94.7, 5.80),
}
_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sdss(testdata: Path) -> dict[str, LoadedImage]:
    folder, card = testdata / "sdss-s82" / "4192" / "40" / "corr" / "4", load_card("sdss")
    return {band: load_image(folder / f"fpC-004192-{band}4-0300.fit.gz", card) for band in SDSS}


@pytest.fixture(scope="module")
def ztf(testdata: Path) -> LoadedImage:
    (path,) = (testdata / "ztf-655-r-c13q3").glob("*_sciimg.fits.gz")
    return load_image(path, load_card("ztf"))


def stem_of(folder: Path) -> list[str]:
    with open(folder / "wcs_solutions.csv") as file:
        return [row["file"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("band", SDSS)
def test_sdss_masks_against_a_byte_by_byte_decoder(
    sdss: dict[str, LoadedImage], testdata: Path, band: str
) -> None:
    path = testdata / "sdss-s82" / "4192" / "40" / "objcs" / "4" / f"fpM-004192-{band}4-0300.fit.gz"
    exposure = sdss[band].exposure
    for plane, kind in (("INTERPOLATED", 0), ("SATURATED", 1), ("SUSPECT", 8), ("COSMIC_RAY", 9)):
        expected = frames.sdss_mask(path, kind, exposure.shape)
        np.testing.assert_array_equal(exposure.masked(plane), expected, err_msg=plane)
    assert exposure.masked("INTERPOLATED").sum() > 1000


@pytest.mark.parametrize("band", SDSS)
def test_sdss_gain_noise_and_pixels(sdss: dict[str, LoadedImage], testdata: Path, band: str) -> None:
    loaded = sdss[band]
    exposure, k = loaded.exposure, "ugriz".index(band)
    root = testdata / "sdss-s82" / "4192" / "40"
    field = fits.getdata(root / "calibChunks" / "4" / "tsField-004192-4-40-0300.fit", 1)
    gain, dark_variance = float(field["gain"][0][k]), float(field["dark_variance"][0][k])
    (amplifier,) = exposure.detector.amplifiers
    assert amplifier.gain == pytest.approx(gain)
    assert amplifier.read_noise == pytest.approx(gain * np.sqrt(dark_variance))
    raw = fits.getdata(loaded.path).astype(np.float64) - 1000.0
    np.testing.assert_allclose(exposure.image, raw * gain, rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(
        exposure.variance[300, 400:500],
        np.maximum(raw[300, 400:500], 1) * gain + gain**2 * dark_variance,
        rtol=1e-4,
    )
    _, sky, noise = SDSS[band]
    assert np.median(exposure.image) / gain == pytest.approx(sky, rel=0.03)
    # the model of the noise is as good as the published gain
    assert np.sqrt(np.median(exposure.variance)) / gain == pytest.approx(noise, rel=0.1)
    assert loaded.caveats == ()
    assert exposure.visit_info.band == band
    assert exposure.visit_info.exposure_time == pytest.approx(53.907456)
    assert exposure.visit_info.visit == 419203000 + k
    assert int(exposure.visit_info.mjd_tai) == 52931
    assert len({image.exposure.detector.id for image in sdss.values()}) == 5


@pytest.mark.parametrize("band", SDSS)
def test_first_look_gives_the_published_size(sdss: dict[str, LoadedImage], band: str) -> None:
    look = first_look(sdss[band].exposure)
    assert look.fwhm_pix * 0.396 == pytest.approx(SDSS[band][0], rel=0.04)


def test_ztf_mask_bits_and_noise(ztf: LoadedImage) -> None:
    raw = fits.getdata(str(ztf.path).replace("sciimg", "mskimg")).astype(int)
    exposure = ztf.exposure
    # counts published with the data, for one bit of its own per plane
    for plane, bits in (
        ("BAD", (2, 4, 5, 7, 10)),
        ("NO_DATA", (6,)),
        ("SUSPECT", (0, 3, 12)),
        ("CROSSTALK", (9,)),
    ):
        expected = np.zeros(raw.shape, bool)
        for bit in bits:
            expected |= (raw // 2**bit) % 2 == 1
        np.testing.assert_array_equal(exposure.masked(plane), expected, err_msg=plane)
    assert exposure.masked("CROSSTALK").sum() == 15
    saturated = (raw // 2**8) % 2 == 1
    assert saturated.sum() == 1794
    assert exposure.masked("SATURATED")[saturated].all()
    assert exposure.masked("SATURATED").sum() < 3 * saturated.sum()
    # sky / gain + (read noise / gain)^2 = (5.33 DN)^2
    assert np.sqrt(np.median(exposure.variance)) / 6.0 == pytest.approx(5.33, abs=0.05)
    assert exposure.visit_info.visit == 136243177
    assert exposure.visit_info.band == "r"
    # the header's OBSMJD (UTC) is the start
    tai = (37.0 + 15.0) / 86400.0
    assert exposure.visit_info.mjd_tai == pytest.approx(59116.4317708 + tai, abs=1e-5)


def test_ztf_first_look(ztf: LoadedImage) -> None:
    fwhm = first_look(ztf.exposure).fwhm_pix
    # ours holds the response of a pixel (a variance of 1/12), which half of these stars' width consists of
    without_pixel = np.sqrt(fwhm**2 - 2.3548**2 / 12.0)
    assert without_pixel == pytest.approx(1.241, rel=0.15)


def test_ztf_initial_wcs_is_that_of_the_header(ztf: LoadedImage) -> None:
    header = fits.getheader(ztf.path)
    x, y = np.array([100.0, 1500.0, 3000.0]), np.array([2900.0, 1500.0, 200.0])
    assert ztf.exposure.wcs is not None
    ra, dec = ztf.exposure.wcs.pixel_to_sky(x=x, y=y)
    expected = np.deg2rad(WCS(header).all_pix2world(x, y, 0))
    np.testing.assert_allclose(ra, expected[0], atol=2e-3 * np.pi / 648000)
    np.testing.assert_allclose(dec, expected[1], atol=2e-3 * np.pi / 648000)


def test_frames_of_a_mount_that_only_points(testdata: Path) -> None:
    folder = testdata / "hatp32"
    stem = stem_of(folder)[1]
    loaded = load_image(folder / f"{stem}.fits.fz", load_card("microobservatory"))
    # start 01:39:12.458 UTC, 60 s long
    start = 58107.0 + (1 + (39 + 12.458 / 60) / 60) / 24
    assert loaded.exposure.visit_info.mjd_tai == pytest.approx(start + (30 + 37) / 86400, abs=1e-6)
    assert loaded.exposure.visit_info.boresight_ra_deg == pytest.approx(31.31, abs=0.1)
    assert [caveat.split(" ")[0] for caveat in loaded.caveats] == ["gain"]
    # sky 360.89 - 245 above the pedestal, noise 1.380 ADU
    gain = loaded.exposure.detector.amplifiers[0].gain
    assert gain == pytest.approx((360.89 - 245) / 1.3799**2, rel=0.1)
    # half the peak is reached within a pixel of the centre, whatever moments with wings say
    assert 1.6 < first_look(loaded.exposure).fwhm_pix < 2.6


def test_example_card_takes_the_wcs_from_a_table(testdata: Path) -> None:
    folder = testdata / "hatp32"
    card = load_card(_ROOT / "examples" / "cards" / "hatp32_wcs_table.yaml")
    with open(folder / "wcs_solutions.csv") as file:
        rows = list(csv.DictReader(file))[::20]
    for row in rows:
        loaded = load_image(folder / f"{row['file']}.fits.fz", card)
        assert loaded.exposure.wcs is not None
        ra, dec = np.rad2deg(loaded.exposure.wcs.pixel_to_sky(x=(650 - 1) / 2, y=(500 - 1) / 2))
        assert (ra - float(row["ra_centre"])) * 3600 * np.cos(np.deg2rad(dec)) == pytest.approx(0.0, abs=6.0)
        assert (dec - float(row["dec_centre"])) * 3600 == pytest.approx(0.0, abs=6.0)
        assert loaded.exposure.pointing is None or "astrometry.matcher.maxOffsetPix" not in search_settings(
            loaded.exposure.pointing, loaded.exposure.wcs, loaded.exposure.shape
        )
