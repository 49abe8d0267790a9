"""Settings derived from the image, and who has the last word."""

from __future__ import annotations

import numpy as np
import pytest

from zeropoint.catalogs.references import LoadReferenceObjectsConfig, ReferenceObjectLoader
from zeropoint.datamodel.exposure import PointingUncertainty
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard
from zeropoint.recipes.calibrate_image import CalibrateImageConfig
from zeropoint.recipes.calibrate_image.derived import (
    DERIVABLE_FIELDS,
    adapted_loader,
    derive_settings,
    field_history,
    search_settings,
)
from zeropoint.recipes.overrides import apply_override
from zeropoint.recipes.session import build_config
from zeropoint.simulation import SimulationSettings, simulate_exposure

WIDTH_MIN = 'psf_measure_psf.starSelector["objectSize"].widthMin'


class Catalogue:
    """What the loader's configuration is derived from: name and bands."""

    name = "cat"
    path = "cat"
    lacks_epoch = False

    def __init__(self, *bands: str) -> None:
        self.bands = bands


def loader(*bands: str, **settings: object) -> ReferenceObjectLoader:
    config = LoadReferenceObjectsConfig()
    for name, value in {"anyFilterMapsToThis": "phot_g_mean", **settings}.items():
        setattr(config, name, value)
    return ReferenceObjectLoader(Catalogue(*bands), config)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def exposure():
    settings = SimulationSettings(
        width=300, height=280, n_stars=60, magnitude_bright=17, magnitude_faint=21, fwhm_arcsec=0.4, seed=2
    )
    return simulate_exposure(settings).exposure


def test_each_derivable_field_exists() -> None:
    config = CalibrateImageConfig()
    for name in DERIVABLE_FIELDS:
        assert field_history(config, name) is not None, name
    assert field_history(config, "astrometry.matcher.noSuchField") is None


def test_the_search_covers_the_stated_uncertainty() -> None:
    shape = (1000, 2000)
    wcs = SkyWcs.from_boresight(30.0, -12.0, x=1000, y=500, pixel_scale_arcsec=0.5)
    settings = search_settings(PointingUncertainty(200.0, 2.0, 1.0), wcs, shape)
    reach = 400.0 + 0.5 * np.hypot(*shape) * (np.deg2rad(2.0) + 0.01)
    assert settings["astrometry.matcher.maxOffsetPix"] == pytest.approx(reach, abs=1.0)
    assert settings["astrometry_ref_loader.pixelMargin"] == pytest.approx(reach + 50.0, abs=1.0)
    assert settings["astrometry.matcher.maxRotationDeg"] == 2.0
    assert search_settings(PointingUncertainty(), wcs, shape) == {}
    assert search_settings(PointingUncertainty(20.0), wcs, shape) == {}


def test_nothing_is_derived_without_cause(exposure) -> None:
    quiet = exposure.copy()
    quiet.pointing = None
    result = derive_settings(quiet, loader("phot_g_mean", "r"), look=False)
    assert (result.values, result.notes, result.caveats) == ({}, [], [])


def test_look_and_pointing_are_said_and_can_be_kept_off(exposure) -> None:
    image = exposure.copy()
    image.pointing = PointingUncertainty(offset_arcsec=60.0)
    references = loader("phot_g_mean")
    result = derive_settings(image, references, look=True)
    assert result.values["astrometry.matcher.maxOffsetPix"] == 300
    # stars of two pixels
    assert result.values["install_simple_psf.fwhm"] == pytest.approx(1.9, abs=0.3)
    assert WIDTH_MIN in result.values
    assert len(result.notes) == 2
    assert "FWHM" in result.notes[0]
    assert "60 arcsec" in result.notes[1]
    kept = ["astrometry.matcher.maxOffsetPix", WIDTH_MIN]
    rest = derive_settings(image, references, look=True, keep=kept)
    assert set(result.values) - set(rest.values) == set(kept)
    assert WIDTH_MIN not in rest.notes[0]


def test_an_empty_image_gives_a_caveat(exposure) -> None:
    image = exposure.copy()
    image.image[...] = np.random.default_rng(1).normal(600, 25, image.shape)
    result = derive_settings(image, loader("phot_g_mean"), look=True)
    assert result.caveats == ["too few bright stars for a first measurement of the star size"]
    assert "install_simple_psf.fwhm" not in result.values


BAND = "astrometry_ref_loader.anyFilterMapsToThis"


@pytest.mark.parametrize(
    ("references", "expected"),
    [
        (loader("phot_g_mean", "r"), {}),
        (loader("g", "r"), {BAND: None}),
        (loader("V"), {BAND: "V"}),
        (loader("V", "B"), {}),  # no guess among several: the loader names them in its error
        (loader("g", "r", anyFilterMapsToThis="g"), {}),
        (loader("g", "r", anyFilterMapsToThis=None), {}),
        (loader("V", anyFilterMapsToThis=None), {BAND: "V"}),
        (loader("V", anyFilterMapsToThis=None, filterMap={"r": "R"}), {}),
        (loader("R", "V", anyFilterMapsToThis=None, filterMap={"r": "R"}), {}),
    ],
)
def test_band_for_astrometry(exposure, references, expected) -> None:
    image = exposure.copy()
    image.pointing = None
    result = derive_settings(image, references, look=False)
    assert result.values == expected
    assert len(result.notes) == (1 if expected else 0)
    assert derive_settings(image, references, look=False, keep=[BAND]).values == {}


def test_an_adapted_loader_leaves_the_given_one_alone() -> None:
    given = loader("V")
    values = {BAND: "V", "astrometry_ref_loader.pixelMargin": 400, "photometry_ref_loader.pixelMargin": 500}
    new = adapted_loader(given, "astrometry_ref_loader", values)
    assert (new.config.anyFilterMapsToThis, new.config.pixelMargin) == ("V", 400)
    assert (given.config.anyFilterMapsToThis, given.config.pixelMargin) == ("phot_g_mean", 250)
    assert adapted_loader(given, "other_loader", values) is given


# -- class default < production < image < card < user ----------------------------------------------------------


def card(**data: object) -> CameraCard:
    return CameraCard("mine", "mine.yaml", dict(data))


def test_a_plain_card_leaves_everything_to_the_image() -> None:
    config = build_config(card())
    assert not config.do_first_look
    assert list(config.derived_fields_keep) == []
    assert config.psf_measure_psf.reserve.fraction == 0.1  # production
    assert build_config(card(first_look=True)).do_first_look


def test_fields_of_card_and_user_are_kept(tmp_path) -> None:
    file = tmp_path / "mine.py"
    # set to what it is anyway: still the user's word
    file.write_text("config.install_simple_psf.fwhm = 4.0\n")
    config = build_config(
        card(first_look=True, config={"photometry.match.matchRadius": 2.0, "do_calibrate_pixels": False}),
        [file],
        [("psf_measure_psf.starSelector['objectSize'].widthMin", 0.4), ("do_first_look", False)],
    )
    assert list(config.derived_fields_keep) == [
        "install_simple_psf.fwhm",
        "photometry.match.matchRadius",
        WIDTH_MIN,
    ]
    assert config.do_first_look is False
    assert config.photometry.match.matchRadius == 2.0


def test_the_user_comes_after_the_card() -> None:
    config = build_config(
        card(config={"photometry.match.matchRadius": 2.0}), (), [("photometry.match.matchRadius", 3.0)]
    )
    assert config.photometry.match.matchRadius == 3.0


def test_the_list_itself_is_a_field() -> None:
    config = build_config(card(), (), [("derived_fields_keep", ["install_simple_psf.fwhm"])])
    assert list(config.derived_fields_keep) == ["install_simple_psf.fwhm"]
    with pytest.raises(InvalidInputError, match="derived_fields_keep"):
        apply_override(CalibrateImageConfig(), "derived_fields_keep", ["install_simple_psf.fwmh"])
