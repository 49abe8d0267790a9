from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from naive import frames
from zeropoint.datamodel.exposure import PointingUncertainty
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard
from zeropoint.instruments.pointing import initial_wcs, pointing_degrees, pointing_uncertainty
from zeropoint.instruments.values import ImageContext

ARCSEC = np.pi / 648000.0


def context(wcs: Any = "header", folder: Path = Path("."), **cards: Any) -> ImageContext:
    return ImageContext(folder / "a.fits", CameraCard("t", "t.yaml", {"wcs": wcs}), [frames.header(**cards)])


def assert_like_astropy(image: ImageContext, header: fits.Header, tolerance_arcsec: float = 1e-5) -> None:
    ours = initial_wcs(image, frames.SHAPE)
    x, y = np.meshgrid(np.linspace(0, 99, 7), np.linspace(0, 89, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sky = WCS(header).celestial.pixel_to_world(x, y).icrs
    ra, dec = ours.pixel_to_sky(x=x.ravel(), y=y.ravel())
    found = SkyCoord(ra, dec, unit="rad")
    assert found.separation(sky.ravel()).arcsec.max() < tolerance_arcsec


NO_CD = {"CD1_1": None, "CD1_2": None, "CD2_1": None, "CD2_2": None}


@pytest.mark.parametrize(
    "cards",
    [
        {},
        {**NO_CD, "CDELT1": -1.4e-4, "CDELT2": 1.4e-4},
        {**NO_CD, "CDELT1": -1.4e-4, "CDELT2": 1.4e-4, "CROTA2": 33.0},
        {
            **NO_CD,
            "CDELT1": 1.4e-4,
            "CDELT2": 1.4e-4,
            "PC1_1": 0.6,
            "PC1_2": -0.8,
            "PC2_1": 0.8,
            "PC2_2": 0.6,
        },
        {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": -12.0, "CRVAL2": 30.0},
        {"CTYPE1": "RA---ZPN", "CTYPE2": "DEC--ZPN", "PV2_1": 1.0, "PV2_3": 20.0},
        {"CTYPE1": "GLON-CAR", "CTYPE2": "GLAT-CAR"},
        {
            "CTYPE1": "RA---TAN-SIP",
            "CTYPE2": "DEC--TAN-SIP",
            "A_ORDER": 2,
            "B_ORDER": 2,
            "A_2_0": 2e-5,
            "B_1_1": 3e-5,
        },
    ],
)
def test_forms_of_a_header_wcs(cards: dict[str, Any]) -> None:
    image = context(**cards)
    assert_like_astropy(image, image.headers[0])


def test_wcs_of_the_image_before_that_of_another_header() -> None:
    image = context()
    image.headers.append(frames.header(CRVAL1=200.0))
    image.image_hdu = 1
    assert_like_astropy(image, image.headers[1])
    # an image header without a sky WCS leaves it to the primary
    image.headers[1]["CTYPE1"] = "LINEAR"
    assert_like_astropy(image, image.headers[0])


@pytest.mark.parametrize(
    "cards",
    [
        {"CRVAL1": "NaN"},
        {"CRVAL2": fits.card.Undefined()},
        {"CRPIX1": True, "CD1_1": "x"},
        {"CD1_1": 0.0},
        {**NO_CD},
        {"CD1_1": 1.0, "CD2_2": 1.0},
        {"CTYPE2": "LINEAR"},
        {"CTYPE1": "RA---XXX", "CTYPE2": "DEC--XXX"},
    ],
)
def test_a_useless_header_wcs_is_refused(cards: dict[str, Any]) -> None:
    image = context(**cards)
    with pytest.raises(InvalidInputError, match=r"a\.fits: the WCS cannot be used") as caught:
        initial_wcs(image, frames.SHAPE)
    assert "\n" not in str(caught.value)


def test_no_wcs_and_no_boresight() -> None:
    with pytest.raises(InvalidInputError, match=r"no WCS in the header.* no boresight .*t\.yaml"):
        initial_wcs(context(CTYPE1=None), frames.SHAPE)


@pytest.mark.parametrize("ra", [30.0, "30.0", "02:00:00", "2h00m00s"])
@pytest.mark.parametrize("dec", [-12.5, "-12:30:00", "-12d30m"])
def test_a_pointing(ra: Any, dec: Any) -> None:
    image = context({"ra": {"key": "RA"}, "dec": {"key": "DEC"}, "pixel_scale": 0.7}, RA=ra, DEC=dec)
    wcs = initial_wcs(image, frames.SHAPE)
    np.testing.assert_allclose(np.rad2deg(wcs.pixel_to_sky(x=49.5, y=44.5)), [30.0, -12.5], atol=1e-9)
    assert pointing_degrees(image) == pytest.approx((30.0, -12.5))
    # North is up, East left
    east, north = (np.array(wcs.pixel_to_sky(x=49.5 + i, y=44.5 + j)) for i, j in ((-1, 0), (0, 1)))
    assert (north[1] - np.deg2rad(-12.5)) / ARCSEC == pytest.approx(0.7, abs=1e-6)
    assert (east[0] - np.deg2rad(30.0)) / ARCSEC * np.cos(np.deg2rad(12.5)) == pytest.approx(0.7, abs=1e-6)


@pytest.mark.parametrize(
    ("wcs", "match"),
    [
        ({"ra": {"key": "RA"}, "dec": 3.0, "pixel_scale": 1.0}, r"no boresight.* wcs\.ra"),
        ({"ra": 3.0, "pixel_scale": 1.0}, r"no boresight.* wcs\.dec"),
        ({"ra": 3.0, "dec": 95.0, "pixel_scale": 1.0}, "not a sky position"),
        ({"ra": 3.0, "dec": "up", "pixel_scale": 1.0}, "not an angle"),
        ({"ra": 3.0, "dec": 5.0}, "no pixel scale"),
        ({"ra": 3.0, "dec": 5.0, "pixel_scale": -1.0}, "no pixel scale"),
        ({"ra": 3.0, "dec": 5.0, "pixel_scale": {"key": "FILTER"}}, "not a number"),
    ],
)
def test_useless_pointings_are_refused(wcs: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidInputError, match=match):
        initial_wcs(context(wcs), frames.SHAPE)


def test_a_boresight_beside_the_wcs_of_the_header() -> None:
    spec = {"from": "header", "ra": {"key": "TELRA"}, "dec": {"key": "TELDEC"}}
    image = context(spec, TELRA="02:00:24", TELDEC=-12.1)
    assert_like_astropy(image, image.headers[0])
    assert pointing_degrees(image) == pytest.approx((30.1, -12.1))
    with pytest.raises(InvalidInputError, match=r"wcs\.dec is 99, which is not a sky position"):
        pointing_degrees(context(spec, TELRA=30.0, TELDEC=99.0))


def test_wcs_from_a_row_of_a_table(tmp_path: Path) -> None:
    names = [key for key in frames.WCS_CARDS if not key.startswith("CTYPE")]
    names += ["A_2_0", "B_1_1"]
    values = [str(frames.WCS_CARDS.get(name, 2e-5)) for name in names]
    lines = [",".join(["file", *names]), ",".join(["a", *values]), ",".join(["b", *values])]
    (tmp_path / "solutions.csv").write_text("\n".join(lines) + "\n")
    spec = {"table": "{dir}/solutions.csv", "where": {"file": "{stem}"}}
    image = context(spec, tmp_path, CTYPE1=None)
    sip = {
        "CTYPE1": "RA---TAN-SIP",
        "CTYPE2": "DEC--TAN-SIP",
        "A_ORDER": 2,
        "B_ORDER": 2,
        "A_2_0": 2e-5,
        "B_1_1": 2e-5,
    }
    assert_like_astropy(image, frames.header(**sip))
    with pytest.raises(InvalidInputError, match="0 rows"):
        initial_wcs(context({**spec, "where": {"file": "c"}}, tmp_path), frames.SHAPE)


def test_the_stated_uncertainty_is_kept() -> None:
    spec = {"offset_arcsec": 200.0, "rotation_deg": 2.0, "scale_percent": 1.0}
    image = context({"from": "header", "uncertainty": spec})
    assert pointing_uncertainty(image) == PointingUncertainty(200.0, 2.0, 1.0)
    assert pointing_uncertainty(context()) is None
    assert pointing_uncertainty(context({"uncertainty": {"rotation_deg": 3}})) == PointingUncertainty(
        0.0, 3.0
    )
    with pytest.raises(InvalidInputError, match=r"wcs\.uncertainty\.offset_arcsec"):
        pointing_uncertainty(context({"uncertainty": {"offset_arcsec": "far"}}))
