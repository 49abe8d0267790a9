"""The whole recipe on a small simulated exposure, against the truth and against its own promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.errors import AstrometryError, CalibrationFailure
from zeropoint.recipes.calibrate_image import CalibrateImage, CalibrateImageConfig
from zeropoint.recipes.calibrate_image.record import STAGE_NAMES
from zeropoint.recipes.session import production_config
from zeropoint.simulation import SimulationSettings, simulate_exposure, write_simulation
from zeropoint.simulation.comparison import compare_with_truth

SETTINGS = SimulationSettings(width=1100, height=1000, n_stars=520, n_cosmic_rays=40, seed=3)
IDS = CatalogIdGenerator(20261120, 0, 1 << 28, 1 << 8)


@pytest.fixture(scope="session")
def simulated():
    return simulate_exposure(SETTINGS)


@pytest.fixture(scope="session")
def references(simulated, tmp_path_factory):
    _, path = write_simulation(simulated, tmp_path_factory.mktemp("simulated"))
    return ReferenceSource.open(path)


def calibrate(exposure, references, **changes):
    config = production_config()
    config.astrometry_ref_loader.anyFilterMapsToThis = None
    for name, value in changes.items():
        setattr(config, name, value)
    recipe = CalibrateImage(config)
    loaders = {
        "astrometry_references": ReferenceObjectLoader(references, config.astrometry_ref_loader),
        "photometry_references": ReferenceObjectLoader(references, config.photometry_ref_loader),
    }
    return recipe, recipe.run(exposure, id_generator=IDS, **loaders)


@pytest.fixture(scope="session")
def calibrated(simulated, references):
    return calibrate(simulated.exposure.copy(), references)


@pytest.fixture(scope="session")
def figures(simulated, calibrated):
    return compare_with_truth(simulated, calibrated[1]).values


def test_all_stages_ran_in_order(calibrated):
    _, result = calibrated
    assert [stage.name for stage in result.stages] == [name for name in STAGE_NAMES if name != "read"]
    assert result.failure is None


def test_stars_are_found_and_little_else(figures):
    # requirements: 95 % at S/N 7-10, 98 % above, purity 97 %; a dozen stars in the faint bin allow one miss
    assert figures["completeness_7_10"] >= 0.9
    assert figures["completeness_above_10"] >= 0.98
    assert figures["purity"] >= 0.97


def test_errors_are_what_they_say(figures):
    # width of pulls from about 250 stars: 1.17/sqrt(250) = 0.07
    assert 0.85 < figures["flux_pull"] < 1.2
    assert 0.85 < figures["position_pull"] < 1.2


def test_wcs_and_zeropoint_are_true(figures):
    # 110 references of 5 mas: 0.5 mas per parameter, six parameters
    assert figures["wcs_rms_east_mas"] < 2.5
    assert figures["wcs_rms_north_mas"] < 2.5
    # 110 references of 10 mmag and their flux noise: 1.7 mmag
    assert abs(figures["zeropoint_error_mmag"]) < 6.0


def test_psf_is_true_between_the_stars(figures):
    # about 55 stars: three times the errors of the full-size requirement
    assert abs(figures["psf_dt_mean"]) < 4e-3
    assert figures["psf_de_rms"] < 4e-3


def test_cosmic_rays_go_and_stars_stay(figures):
    assert figures["cosmic_rays_found_above_8_sigma"] >= 0.95
    assert figures["star_core_pixels_damaged"] == 0


def test_pixels_are_in_nanojansky(simulated, calibrated):
    _, result = calibrated
    factor = result.applied_photo_calib.calibration_mean
    assert result.exposure.metadata["BUNIT"] == "nJy"
    sky = simulated.settings.sky_electrons * factor
    # background is in the unit of the pixels; its surface follows the sky's 2 % gradient
    assert np.median(result.background.image()) == pytest.approx(sky, rel=0.01)
    star = result.stars
    np.testing.assert_allclose(star["base_PsfFlux_flux"], star["base_PsfFlux_instFlux"] * factor, rtol=1e-12)
    bright = star["base_PsfFlux_flux"] > 0
    np.testing.assert_allclose(
        star["base_PsfFlux_mag"][bright], 31.4 - 2.5 * np.log10(star["base_PsfFlux_flux"][bright]), atol=1e-3
    )
    assert np.isnan(star["base_PsfFlux_mag"][~bright]).all()


def test_rows_and_flags_are_consistent(calibrated):
    _, result = calibrated
    stars = result.stars
    assert len(np.unique(stars["id"])) == len(stars)
    # a child may be selected without its parent, but never carries its own or a later row's id as parent
    child = stars["parent"] != 0
    assert child.any()
    assert (stars["parent"][child] < stars["id"][child]).all()
    assert (stars["detect_fromBlend"] == child).all()
    assert not (stars["detect_isPrimary"] & (stars["deblend_nChild"] > 0)).any()
    used = stars["calib_psf_used"]
    assert (stars["calib_psf_candidate"][used]).all()
    assert not (used & stars["calib_psf_reserved"]).any()
    assert np.isin(stars["psf_id"][used], result.psf_stars["id"]).all()
    sky = stars["sky_source"]
    assert sky.sum() > 50
    assert np.abs(np.mean(stars["base_CircularApertureFlux_12_0_flux"][sky])) < 4 * np.std(
        stars["base_CircularApertureFlux_12_0_flux"][sky]
    ) / np.sqrt(sky.sum())


def test_the_same_input_gives_the_same_bytes(simulated, references, calibrated):
    _, first = calibrated
    _, second = calibrate(simulated.exposure.copy(), references)
    for plane in ("image", "variance", "mask"):
        assert getattr(first.exposure, plane).tobytes() == getattr(second.exposure, plane).tobytes(), plane
    for name in first.stars.colnames:
        assert first.stars[name].tobytes() == second.stars[name].tobytes(), name


def test_the_schema_is_known_before_any_data(calibrated):
    recipe, result = calibrated
    assert result.stars.colnames == [spec.name for spec in CalibrateImage(recipe.config).star_schema]
    assert result.psf_stars.colnames == [spec.name for spec in CalibrateImage(recipe.config).psf_schema]


#: Column names of the deep catalogue in their published order, by the first and last of each step.
LANDMARKS = (
    "id", "coord_ra", "coord_dec", "parent", "calib_psf_candidate", "calib_psf_used", "calib_psf_reserved",
    "calib_astrometry_used", "apcorr_slot_CalibFlux_used", "apcorr_base_GaussianFlux_used",
    "apcorr_base_PsfFlux_used", "psf_id", "psf_max_value", "coord_raErr", "coord_decErr", "coord_ra_dec_Cov",
    "sky_source", "deblend_nChild", "deblend_parentNPeaks", "base_SdssCentroid_x",
    "ext_shapeHSM_HsmPsfMoments_flag", "ext_shapeHSM_HsmSourceMoments_xy",
    "base_CircularApertureFlux_12_0_instFlux", "base_ClassificationSizeExtendedness_value",
    "base_CompensatedTophatFlux_12_instFlux", "base_GaussianFlux_instFlux", "base_PixelFlags_flag",
    "base_PsfFlux_instFlux", "base_InvalidPsf_flag", "base_NormalizedCompensatedTophatFlux_instFlux",
    "base_GaussianFlux_apCorr", "base_PsfFlux_flag_apCorr", "base_ClassificationExtendedness_value",
    "base_FootprintArea_value", "detect_isPrimary", "detect_isIsolated", "calib_photometry_used",
    "calib_photometry_reserved", "base_CircularApertureFlux_12_0_flux", "base_PsfFlux_magErr",
    "deblend_psf_mag",
)  # fmt: skip


def test_class_defaults_give_the_published_columns_in_order():
    schema = CalibrateImage().star_schema
    names = [spec.name for spec in schema]
    places = [names.index(name) for name in LANDMARKS]
    assert places == sorted(places)
    assert len(names) == 159
    assert len(list(CalibrateImage().psf_schema)) == 99


def test_class_defaults_are_rubins():
    config = CalibrateImageConfig()
    assert config.psf_detection.thresholdValue == 10
    assert config.psf_detection.includeThresholdMultiplier == 5
    assert config.install_simple_psf.fwhm == 4
    assert config.star_detection.thresholdValue == 5
    assert config.star_selector["science"].unresolved.maximum == 0.1
    assert config.star_selector["science"].signalToNoise.minimum == 10
    assert config.psf_measure_psf.reserve.fraction == 0
    assert config.astrometry_ref_loader.anyFilterMapsToThis == "phot_g_mean"


def test_two_snaps_are_one_visit(simulated, references):
    rng = np.random.default_rng(5)
    base = simulated.exposure
    snaps = []
    # two half exposures of the same scene: their sum has the whole one's counts
    for _ in range(2):
        half = base.copy()
        scene = rng.poisson(simulated.noiseless / 2).astype(np.float32)
        half.image = scene + rng.normal(0, 5, scene.shape).astype(np.float32)
        half.variance = np.maximum(half.image, 1) + np.float32(25)
        half.visit_info = replace(half.visit_info, exposure_time=15.0)
        snaps.append(half)
    _, result = calibrate(snaps, references)
    assert result.exposure.visit_info.exposure_time == 30.0
    figures = compare_with_truth(simulated, result).values
    assert abs(figures["zeropoint_error_mmag"]) < 8.0


def test_uncalibrated_pixels_on_request(simulated, references):
    _, result = calibrate(simulated.exposure.copy(), references, do_calibrate_pixels=False)
    assert result.applied_photo_calib is None
    assert result.exposure.photo_calib is not None
    assert result.exposure.metadata.get("BUNIT") != "nJy"


def test_a_failure_keeps_what_was_established(simulated, references):
    exposure = simulated.exposure.copy()
    # a field elsewhere: the references at the header's position do not match the stars
    exposure.image = exposure.image[::-1].copy()
    exposure.variance = exposure.variance[::-1].copy()
    with pytest.raises(AstrometryError) as caught:
        calibrate(exposure, references)
    record = caught.value.record
    assert record.exposure.psf is not None
    assert record.exposure.wcs is None
    assert record.exposure.photo_calib is None
    assert record.psf_stars is not None
    assert record.stars is None
    assert np.isfinite(record.summary.psfSigma)
    assert np.isnan(record.summary.zeroPoint)


def test_noise_without_stars_is_refused_with_numbers(simulated, references):
    exposure = simulated.exposure.copy()
    rng = np.random.default_rng(1)
    exposure.image = rng.normal(600, 25, exposure.shape).astype(np.float32)
    with pytest.raises(CalibrationFailure) as caught:
        calibrate(exposure, references)
    assert caught.value.record.stages
    assert caught.value.record.exposure.psf is None
