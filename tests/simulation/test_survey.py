from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from zeropoint.datamodel.wcs import angular_separation
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import load_card
from zeropoint.instruments.reader import load_image
from zeropoint.kernels.moments import adaptive_moments
from zeropoint.simulation.exposures import SimulatedExposure, simulate_exposure
from zeropoint.simulation.settings import SimulationSettings
from zeropoint.simulation.survey import (
    CAMERA,
    Survey,
    SurveySettings,
    read_survey,
    survey_settings,
    survey_sky_map,
    write_survey,
)

ARCSEC = np.pi / 648000.0
SETTINGS = SurveySettings(n_visits=1, size=160, n_stars=40, seed=4)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return write_survey(SETTINGS, tmp_path_factory.mktemp("survey"))


def test_a_survey_is_read_back_as_it_was_written(survey: Survey) -> None:
    again = read_survey(survey.card.parent)
    assert again.settings == survey.settings == tuple(survey_settings(SETTINGS))
    assert again.images == survey.images
    assert all(path.exists() for path in (*again.images, again.references, again.card))
    assert again.truth_psf(survey.settings[5].visit, 1).settings == survey.settings[5]
    with pytest.raises(KeyError):
        again.truth_psf(survey.settings[5].visit, 7)


def test_images_are_the_same_whatever_others_are_written(survey: Survey, tmp_path: Path) -> None:
    s = survey.settings[6]
    part = write_survey(SETTINGS, tmp_path / "part", only=[(s.visit, s.detector)])
    assert part.settings == (s,)
    for one, other in [(part.images[0], survey.images[6]), (part.references, survey.references)]:
        assert one.read_bytes() == other.read_bytes()
    with pytest.raises(KeyError, match="9"):
        write_survey(SETTINGS, tmp_path / "none", only=[(s.visit, 9)])


def test_half_a_survey_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no complete simulated survey"):
        read_survey(tmp_path)


def test_visits_and_detectors_number_the_images_and_bands_take_turns() -> None:
    settings = survey_settings(SurveySettings(n_visits=12))
    assert len({(s.visit, s.detector) for s in settings}) == len({s.seed for s in settings}) == 96
    by_visit = {s.visit: s.band for s in settings}
    assert sorted(by_visit.values()) == ["g"] * 12 + ["i"] * 12
    assert len({(s.fwhm_arcsec, s.psf_pattern) for s in settings}) == 24
    assert np.all(np.diff([s.mjd_tai for s in settings]) >= 0)


def test_the_card_gives_each_detector_its_place_in_the_focal_plane(survey: Survey) -> None:
    card = load_card(survey.card)
    centers = []
    for path, settings in zip(survey.images[:4], survey.settings):
        exposure = load_image(path, card).exposure
        assert exposure.detector.instrument == CAMERA
        assert exposure.detector.id == settings.detector
        assert exposure.visit_info.band == settings.band
        centers.append(exposure.detector.center_mm)
    # 160 pixels and a gap of 20, of 0.01 mm each
    np.testing.assert_allclose(centers, [(-0.9, -0.9), (0.9, -0.9), (-0.9, 0.9), (0.9, 0.9)], atol=1e-9)


def test_detectors_share_one_field() -> None:
    one, two = survey_settings(SETTINGS)[:2]
    left, right = (simulate_exposure(replace(s, n_stars=1, n_cosmic_rays=0)) for s in (one, two))
    # the left detector's pixel system reaches into the right one's: same sky, same PSF
    x, y = np.array([200.0, 300.0]), np.array([20.0, 150.0])
    away = angular_separation(*left.wcs.pixel_to_sky(x=x, y=y), *right.wcs.pixel_to_sky(x=x - 180.0, y=y))
    assert away.max() < 1e-6 * ARCSEC
    assert left.psf.parameters(200.0, 20.0) == pytest.approx(right.psf.parameters(20.0, 20.0), rel=1e-12)
    assert left.psf.parameters(0.0, 0.0) != pytest.approx(right.psf.parameters(0.0, 0.0), rel=1e-3)


def test_the_survey_lies_on_the_border_of_two_tracts(survey: Survey) -> None:
    sky_map = survey_sky_map()
    ra, dec = np.asarray(survey.stars["ra"]), np.asarray(survey.stars["dec"])
    tracts, numbers = np.unique(sky_map.find_tract_ids(ra, dec), return_counts=True)
    assert len(tracts) == 2
    assert numbers.min() > 0.25 * len(ra)
    for s in survey.settings[::4]:
        center = sky_map.find_tract_ids(s.ra_deg, s.dec_deg, degrees=True)[0]
        assert center in tracts


def test_a_star_has_its_magnitude_in_each_band_in_images_and_references(survey: Survey) -> None:
    stars, references = survey.stars, Table.read(survey.references)
    for name in ("g_flux", "g_fluxErr", "i_flux", "i_fluxErr"):
        assert np.all(references[name] > 0)
    color = stars["mag_g"] - stars["mag_i"]
    assert np.mean(color) == pytest.approx(1.2, abs=5 * 0.5 / np.sqrt(len(stars)))
    mean = 0.5 * np.asarray(stars["mag_g"] + stars["mag_i"])
    bright = stars[mean < 21.5]
    assert len(references) == len(bright)
    measured = -2.5 * np.log10(references["g_flux"] / references["i_flux"])
    # references carry 10 mmag in each band
    np.testing.assert_allclose(measured, bright["mag_g"] - bright["mag_i"], atol=6 * 0.0142)


def test_images_show_the_truth_psf_that_is_kept(survey: Survey) -> None:
    settings = survey.settings[0]
    x, y = 70.0, 90.0
    # one star alone, brighter than any sky
    quiet = replace(settings, sky_electrons=1.0, n_cosmic_rays=0, full_well_electrons=1e12)
    wcs = simulate_exposure(replace(quiet, n_stars=1)).wcs
    ra, dec = wcs.pixel_to_sky(x=np.array([x]), y=np.array([y]))
    seen = simulate_exposure(quiet, Table({"ra": ra, "dec": dec, "mag": [18.0]}))
    stamp = _moments(seen, int(x), int(y))
    model = survey.truth_psf(settings.visit, settings.detector).stamp(x, y, 41)
    truth = adaptive_moments(np.ascontiguousarray(model), 20.0, 20.0, 1.7, 200, 1e-9)
    np.testing.assert_allclose(stamp[1:], truth[1:], rtol=1e-4, atol=1e-4)


def _moments(seen: SimulatedExposure, x: int, y: int) -> tuple[float, ...]:
    image = seen.noiseless[y - 20 : y + 21, x - 20 : x + 21].astype(np.float64) - 1.0
    return adaptive_moments(np.ascontiguousarray(image), 20.0, 20.0, 1.7, 200, 1e-9)


def test_the_header_says_where_a_detector_is(survey: Survey) -> None:
    header = fits.getheader(survey.images[3])
    assert (header["FPX"], header["FPY"]) == pytest.approx((0.9, 0.9))
    assert header["INSTRUME"] == CAMERA


def test_an_image_without_a_field_is_its_own() -> None:
    settings = SimulationSettings(width=300, height=200)
    assert settings.field_coordinates(150.0, 100.0) == (0.0, 0.0)
    assert settings.field_coordinates(300.0, 0.0) == (1.0, -1.0)
