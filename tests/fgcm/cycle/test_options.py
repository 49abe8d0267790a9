"""Options of the cycle through the whole of it: effects that are put into a small survey come back."""

from dataclasses import replace

import numpy as np
import pytest

from fgcm.cycle.cycle_parts import BANDS, cycle_settings
from zeropoint.fgcm.flags import ZeropointFlag
from zeropoint.recipes.fgcm_cycle import CycleInputs, FgcmCycle
from zeropoint.simulation.fgcm_fit_truth import true_stars
from zeropoint.simulation.fgcm_photometry import standard_passbands
from zeropoint.simulation.fgcm_settings import small_survey
from zeropoint.simulation.fgcm_sources import INNER, aperture_loss
from zeropoint.simulation.fgcm_star_list import star_list, survey_passbands
from zeropoint.simulation.fgcm_survey import simulate_fgcm_survey

#: Magnitudes per arcsec; by detector: chromaticity in g, and by which part the seeing differs from the camera's.
APERTURE, CHROMATIC, SEEING = 0.05, np.array([-0.3, -0.1, 0.1, 0.3]), np.array([-0.16, -0.06, 0.08, 0.14])
#: Errors of the background in turns, nJy/arcsec^2, and radii of the apertures, arcsec.
EPSILON, RADII = np.array([-200.0, 400.0]), (2.0, 4.0)


def settings(**values):
    return cycle_settings(**{"minStarPerExp": 30, "fitBands": ["g", "i", "z"]} | values)


@pytest.fixture(scope="module")
def survey(testdata):
    settings = replace(
        small_survey(physics="measured"), n_visits=64, n_stars=1400, cloudy_fraction=0.12, cloud_range=(0.1, 0.3),
        cloud_gradient=0.5, flat_structure=0.0,
    )  # fmt: skip
    return simulate_fgcm_survey(settings, testdata)


@pytest.fixture(scope="module")
def seeing(survey):
    """Of detectors, arcsec, shape (n_visits, 4)."""
    scatter = 0.05 * np.random.default_rng(3).normal(size=(len(survey.visits), 4))
    return np.asarray(survey.visits["fwhm"])[:, None] * (1.0 + SEEING + scatter)


@pytest.fixture(scope="module")
def background(survey):
    """What a local background takes of bright stars, by exposure and detector, mag."""
    return 0.01 * np.random.default_rng(4).normal(size=(len(survey.visits), 4))


@pytest.fixture(scope="module")
def inputs(survey, seeing, background):
    """The star list of the survey with all these effects."""
    stars = star_list(survey)
    visits, observations = stars.visits.copy(), stars.observations.copy()
    row = np.searchsorted(np.asarray(survey.visits["visit"]), np.asarray(observations["visit"]))
    ccd, star = np.asarray(observations["ccd"]), np.maximum(np.asarray(observations["star"]), 0)
    band = np.asarray(survey.visits["band"])[row]
    visits["psfFwhmDetector"] = seeing.astype(np.float32)
    visits["psfFwhm"] = np.median(seeing, axis=1).astype(np.float32)
    simulated = aperture_loss(np.asarray(survey.visits["fwhm"]), survey.settings.pixel_scale * INNER)
    added = APERTURE * (seeing[row, ccd] - 1.0) - simulated[row]
    passband = standard_passbands(survey.settings, survey.physics, survey.throughput)[0]
    light = survey.physics.spectra * passband / survey.physics.wavelength
    color = light @ survey.physics.wavelength / light.sum(axis=1) / 4800.0 - 1.0
    spectrum = np.asarray(survey.stars["spectrum"])[star]
    added -= np.where(band == 0, 2.5 * np.log10(1.0 + CHROMATIC[ccd] * color[spectrum]), 0.0)
    added -= background[row, ccd]
    observations["instMag"] = (observations["instMag"] + added).astype(np.float32)
    observations["deltaMagBkg"] = background[row, ccd].astype(np.float32)
    magnitudes = np.stack([np.asarray(survey.stars[f"mag_{name}"]) for name in BANDS], axis=1)
    flux = 10.0 ** (-0.4 * (magnitudes[star, band] - 31.4))
    inner, outer = (2.5 * np.log10(1.0 + EPSILON[row % 2] * np.pi * radius**2 / flux) for radius in RADII)
    observations["deltaMagAper"] = (observations["deltaMagAper"] - inner + outer).astype(np.float32)
    return CycleInputs(visits, observations, stars.ids, stars.indices, stars.references)


@pytest.fixture(scope="module")
def result(survey, inputs):
    every = dict.fromkeys(BANDS, True)
    config = settings(
        aperCorrUsePsfFwhm=True, aperCorrPerCcd=True, fitCcdChromaticityDict={"g": True}, deltaMagBkgPerCcd=True,
        ccdGraySubCcdDict=every, doComputeDeltaAperPerVisit=True, deltaAperInnerRadiusArcsec=RADII[0],
        deltaAperOuterRadiusArcsec=RADII[1],
    )  # fmt: skip
    return FgcmCycle(config).run(inputs, survey_passbands(survey))[-1]


def by_detector(result, name):
    return np.asarray(result.zeropoints[name]).reshape(-1, 4)


def test_aperture_corrections_follow_the_seeing_of_detectors(result, seeing):
    """Beyond the range of the exposures too."""
    slope, sigma = (each.aper_slope[0] for each in (result.state.parameters, result.state.parameter_sigmas))
    assert abs(slope + APERTURE) < 4 * sigma < 0.02
    in_g = result.data.exposures.band == 0
    found, true = by_detector(result, "fgcmAperCorr")[in_g], -slope * seeing[in_g]
    difference = found - found.mean(axis=1, keepdims=True) + true - true.mean(axis=1, keepdims=True)
    assert np.abs(difference).max() < 0.1 * np.abs(found - found.mean()).max()


def test_each_detector_has_its_background(result, background):
    difference = by_detector(result, "fgcmDeltaMagBkg") - background
    assert np.std(difference) < 0.25 * np.std(background)


def test_detectors_have_colors(result):
    """After one step, of some; the others stay as they are."""
    found = result.state.instrument.ccd_chromaticity
    assert np.all(np.diff(found[:, 0]) > 0)
    assert found[3, 0] - found[0, 0] > 0.3 * (CHROMATIC[3] - CHROMATIC[0])
    assert not found[:, 1:].any()


def test_errors_of_the_background_come_back_by_exposure(result):
    found = result.state.exposures.epsilon
    true = EPSILON[np.arange(len(found)) % 2]
    assert np.median(found / true) == pytest.approx(1.0, abs=0.05)


def test_stars_have_the_gray_at_their_place(result, survey):
    """Clouds of 0.1 to 0.3 mag that change by half over the field: with one gray for each detector it is 9 mmag."""
    true = np.stack([np.asarray(survey.stars[f"mag_{name}"]) for name in BANDS], axis=1)[
        true_stars(survey, result)
    ]
    difference = result.stars.final_magnitude - true
    for band in (0, 1):
        good = np.isfinite(difference[:, band]) & (result.stars.final_magnitude_err[:, band] < 0.004)
        own = difference[good, band]
        assert 1.48 * np.median(np.abs(own - np.median(own))) < 0.0045


def test_bands_outside_the_fit_are_calibrated(result):
    of_band = np.asarray(result.zeropoints["filtername"]) == "r_fgcm"
    flags = np.asarray(result.zeropoints["fgcmFlag"])[of_band]
    assert (flags == ZeropointFlag.PHOTOMETRIC_NOTFIT_EXPOSURE).sum() >= 40
    assert np.isfinite(result.zeropoints["fgcmZpt"][of_band]).all()
    assert np.isfinite(result.state.parameter_sigmas.superstar[0, 1]).all()
    assert result.metrics["bands"]["r"]["repeatability_after"] < 0.005
