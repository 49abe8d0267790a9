"""CalibrateImageTask without a repository: connections, configuration, and ``run`` beside the recipe."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import astropy.units as u
import lsst.pex.config as pexConfig
import numpy as np
import pytest
from lsst.images import Box, Image
from lsst.pipe.base import Struct

from tasks import make
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.datamodel.footprint_table import footprints_from_table
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.errors import InvalidInputError
from zeropoint.recipes.calibrate_image import CalibrateImage
from zeropoint.recipes.overrides import apply_override
from zeropoint.tasks.calibrate_image import (
    CalibrateImageConfig,
    CalibrateImageConnections,
    CalibrateImageTask,
)

IDS = CatalogIdGenerator(20261120, 0, 1 << 28, 1 << 8)

#: attribute, dataset type, storage class, dimensions; from the published task
PUBLISHED = {
    "astrometry_ref_cat": ("gaia_dr3_20230707", "ArrowAstropy", {"skypix"}),
    "photometry_ref_cat": ("ps1_pv3_3pi_20170110", "ArrowAstropy", {"skypix"}),
    "camera_model": ("astrometry_camera", "ZpCamera", {"instrument", "physical_filter"}),
    "exposures": ("postISRCCD", "VisitImage", {"instrument", "exposure", "detector"}),
    "background_flat": ("flat", "ImageV2", {"instrument", "detector", "physical_filter"}),
    "illumination_correction": (
        "illuminationCorrection",
        "ImageV2",
        {"instrument", "detector", "physical_filter"},
    ),
    "initial_stars_schema": ("initial_stars_schema", "ArrowSchema", set()),
    "exposure": ("initial_pvi", "VisitImage", {"instrument", "visit", "detector"}),
    "stars": ("initial_stars_detector", "ArrowAstropy", {"instrument", "visit", "detector"}),
    "stars_footprints": (
        "initial_stars_footprints_detector",
        "ArrowTable",
        {"instrument", "visit", "detector"},
    ),
    "applied_photo_calib": ("initial_photoCalib_detector", "ImageField", {"instrument", "visit", "detector"}),
    "background": ("initial_pvi_background", "BackgroundMap", {"instrument", "visit", "detector"}),
    "background_to_photometric_ratio": (
        "background_to_photometric_ratio",
        "ImageV2",
        {"instrument", "visit", "detector"},
    ),
    "mask": ("preliminary_visit_mask", "MaskV2", {"instrument", "visit", "detector"}),
    "psf_stars_footprints": (
        "initial_psf_stars_footprints_detector",
        "ArrowTable",
        {"instrument", "visit", "detector"},
    ),
    "psf_stars": ("initial_psf_stars_detector", "ArrowAstropy", {"instrument", "visit", "detector"}),
    "astrometry_matches": (
        "initial_astrometry_match_detector",
        "ArrowAstropy",
        {"instrument", "visit", "detector"},
    ),
    "photometry_matches": (
        "initial_photometry_match_detector",
        "ArrowAstropy",
        {"instrument", "visit", "detector"},
    ),
}
OURS = {"partial_exposure": ("initial_pvi_partial", "MaskedImageV2", {"instrument", "visit", "detector"})}


@pytest.fixture(scope="session")
def calibrated(make_task: Any, simulated: Any) -> tuple[CalibrateImageTask, Struct]:
    task = make_task()
    return task, task.run(exposures=[simulated.exposure.copy()], id_generator=IDS)


# -- connections and configuration ----------------------------------------------------------------------------


def test_connections_are_rubins() -> None:
    found = {
        name: (connection.name, connection.storageClass, set(getattr(connection, "dimensions", ())))
        for name, connection in CalibrateImageConnections.allConnections.items()
    }
    assert found == PUBLISHED | OURS


@pytest.mark.parametrize(
    ("overrides", "removed"),
    [
        ({}, set()),
        ({"optional_outputs": ["mask"]}, {
            "psf_stars", "psf_stars_footprints", "astrometry_matches", "photometry_matches", "partial_exposure",
        }),
        ({"optional_outputs": []}, {
            "psf_stars", "psf_stars_footprints", "astrometry_matches", "photometry_matches", "partial_exposure", "mask",
        }),
        ({"do_calibrate_pixels": False}, {"applied_photo_calib"}),
    ],
)  # fmt: skip
def test_what_is_not_asked_for_is_no_connection(
    base_config: CalibrateImageConfig, overrides: dict[str, Any], removed: set[str]
) -> None:
    config = base_config.copy()
    for name, value in overrides.items():
        setattr(config, name, value)
    connections = CalibrateImageConnections(config=config)
    always = {"camera_model", "background_flat", "illumination_correction", "background_to_photometric_ratio"}
    assert set(PUBLISHED | OURS) - set(connections.allConnections) == removed | always


def test_no_optional_output_at_all(base_config: CalibrateImageConfig) -> None:
    config = base_config.copy()
    config.optional_outputs = None
    assert "mask" not in CalibrateImageConnections(config=config).outputs


def test_connections_of_illumination_correction_and_camera_model(base_config: CalibrateImageConfig) -> None:
    config = base_config.copy()
    config.do_illumination_correction = config.useButlerCamera = True
    connections = CalibrateImageConnections(config=config)
    assert {"background_flat", "illumination_correction", "camera_model"} <= connections.prerequisiteInputs
    assert "background_to_photometric_ratio" in connections.outputs


def test_fields_of_the_published_task_are_there(base_config: CalibrateImageConfig) -> None:
    names = """optional_outputs id_generator snap_combine install_simple_psf compute_shapelet_decomposition
    do_compute_shapelet_decomposition psf_repair psf_subtract_background psf_detection
    do_adaptive_threshold_detection do_remeasure_star_background psf_adaptive_threshold_detection
    psf_source_measurement psf_measure_psf psf_normalized_calibration_flux measure_aperture_correction star_background
    star_background_min_footprints star_background_peak_fraction star_detection star_sky_sources
    do_downsample_footprints downsample_max_footprints star_deblend star_measurement star_normalized_calibration_flux
    star_apply_aperture_correction star_catalog_calculation star_set_primary_flags star_selector astrometry
    astrometry_ref_loader photometry photometry_ref_loader doMaskDiffractionSpikes diffractionSpikeMask
    compute_summary_stats do_illumination_correction do_calibrate_pixels do_include_astrometric_errors
    background_stats_ignored_pixel_masks background_stats_flux_column run_sattle sattle_historical
    useButlerExposureRegion useButlerCamera saveLogOutput connections"""
    assert set(base_config) == {*names.split(), "do_first_look", "derived_fields_keep"}
    assert base_config.id_generator.n_releases == 64
    assert base_config.id_generator.packer.name is None


@pytest.mark.parametrize(
    ("field", "words"),
    [("run_sattle", "internal to Rubin"), ("doMaskDiffractionSpikes", "not available")],
)
def test_what_is_not_available_is_refused(base_config: CalibrateImageConfig, field: str, words: str) -> None:
    config = base_config.copy()
    setattr(config, field, True)
    with pytest.raises(pexConfig.FieldValidationError, match=words):
        CalibrateImageTask(config=config)


def test_subtasks_are_swapped_by_configuration(base_config: CalibrateImageConfig) -> None:
    config = base_config.copy()
    for name, value in {
        "psf_measure_psf.psfDeterminer.name": "piff",
        "psf_measure_psf.starSelector.name": "astrometry",
        "star_selector.name": "null",
        "astrometry.wcsFitter": "FitTanSipWcsTask",
    }.items():
        apply_override(config, name, value)
    task = CalibrateImageTask(config=config)
    assert type(task.recipe.star_phase.selector).__name__.startswith("Null")
    assert type(task.recipe.psf_phase.measure_psf.star_selector).__name__.startswith("Astrometry")
    again = CalibrateImageConfig()
    again.loadFromString(config.saveToString())
    assert again.compare(config)


def test_a_dumped_configuration_loads_again(base_config: CalibrateImageConfig) -> None:
    again = CalibrateImageConfig()
    again.loadFromString(base_config.saveToString())
    assert again.compare(base_config)


# -- run ------------------------------------------------------------------------------------------------------


def test_run_gives_what_the_recipe_gives(
    calibrated: tuple[CalibrateImageTask, Struct], simulated: Any
) -> None:
    task, result = calibrated
    recipe = CalibrateImage(task.config)
    record = recipe.run(
        simulated.exposure.copy(),
        astrometry_references=task._astrometry_loader,
        photometry_references=task._photometry_loader,
        id_generator=IDS,
    )
    for name, table in (("stars", record.stars.to_table()), ("psf_stars", record.psf_stars.to_table())):
        assert result.getDict()[name].colnames == table.colnames
        for column in table.colnames:
            assert result.getDict()[name][column].tobytes() == table[column].tobytes(), (name, column)
    assert result.exposure.image.array.tobytes() == record.exposure.image.tobytes()
    assert result.exposure.variance.array.tobytes() == record.exposure.variance.tobytes()
    assert result.exposure.unit == u.nJy
    assert result.partial_exposure is None
    assert result.mask is result.exposure.mask
    factor = result.applied_photo_calib.render(Box.factory[0:1, 0:1]).array[0, 0]
    assert factor == pytest.approx(record.applied_photo_calib.calibration_mean)
    ids, footprints = footprints_from_table(result.stars_footprints)
    np.testing.assert_array_equal(ids, result.stars["id"])
    assert (footprints.areas() == result.stars["base_FootprintArea_value"]).all()
    assert len(result.psf_stars_footprints) == len(result.psf_stars)


def test_the_schema_is_that_of_the_table(calibrated: tuple[CalibrateImageTask, Struct]) -> None:
    task, result = calibrated
    written = table_to_arrow(result.stars).schema.remove_metadata()
    assert task.initial_stars_schema.equals(written, check_metadata=True)
    assert task.initial_stars_schema.field("base_PsfFlux_flux").metadata[b"unit"] == b"nJy"


def test_a_given_result_is_filled_in_place_though_it_is_empty(make_task: Any, simulated: Any) -> None:
    result = Struct()
    assert make_task().run(exposures=[simulated.exposure.copy()], result=result) is result
    assert len(result.stars) > 50


def test_metadata_holds_the_published_numbers_and_the_cost(
    calibrated: tuple[CalibrateImageTask, Struct],
) -> None:
    task, _ = calibrated
    assert {
        "ref_cat_source_density", "final_psf_sigma", "astrometry_matches_count", "initial_to_final_wcs",
        "astrom_offset_mean", "adaptive_threshold_value", "post_deblend_source_count", "matched_psf_star_count",
        "star_count", "photometry_matches_count", "bg_subtracted_skyPixel_instFlux_median", "sat_mask_fraction",
        "runStartUtc", "runEndCpuTime",
    } <= set(task.metadata.names())  # fmt: skip
    seconds = task.metadata["stage_cpu_seconds"].to_dict()
    assert list(seconds)[-1] == "calibrate_pixels"
    assert all(value >= 0 for value in seconds.values())
    assert "no band 'phot_g_mean'" in task.metadata.getArray("notes")[0]
    assert (
        type(task.metadata).model_validate_json(task.metadata.model_dump_json()).names()
        == task.metadata.names()
    )


def test_pixels_stay_instrumental_on_request(
    make_task: Any, simulated: Any, calibrated: tuple[CalibrateImageTask, Struct]
) -> None:
    task = make_task(("do_calibrate_pixels", False))
    result = task.run(exposures=[simulated.exposure.copy()], id_generator=IDS)
    assert result.applied_photo_calib is None
    assert result.exposure.unit == u.electron
    nano = calibrated[1]
    scale = result.exposure.photometric_scaling.render(Box.factory[0:1, 0:1]).array[0, 0]
    np.testing.assert_allclose(result.exposure.image.array * scale, nano.exposure.image.array, rtol=1e-5)
    # the tables do not depend on it
    assert result.stars["base_PsfFlux_flux"].tobytes() == nano.stars["base_PsfFlux_flux"].tobytes()


ILLUMINATED = (
    ("psf_subtract_background.doApplyFlatBackgroundRatio", True),
    ("star_background.doApplyFlatBackgroundRatio", True),
    ("do_illumination_correction", True),
)


def test_the_illumination_correction_divides_the_image_and_is_put_out(
    make_task: Any, simulated: Any, calibrated: tuple[CalibrateImageTask, Struct]
) -> None:
    exposure, correction = make.flat_fielded(simulated.exposure)
    result = make_task(*ILLUMINATED).run(
        exposures=[exposure],
        id_generator=IDS,
        background_flat=Image(correction, yx0=(0, 0)),
        illumination_correction=Image(correction, yx0=(0, 0)),
    )
    np.testing.assert_array_equal(result.background_to_photometric_ratio.array, correction)
    assert result.exposure.metadata["LSST CALIB ILLUMCORR APPLIED"] is True
    # fluxes are those of the photometrically flat image: within the noise that a refitted background makes
    plain = calibrated[1].applied_photo_calib.render(Box.factory[0:1, 0:1]).array[0, 0]
    assert result.applied_photo_calib.render(Box.factory[0:1, 0:1]).array[0, 0] == pytest.approx(
        plain, rel=2e-3
    )


def test_a_failure_keeps_the_applied_ratio(make_task: Any, simulated: Any) -> None:
    exposure, correction = make.flat_fielded(simulated.exposure)
    result = Struct()
    with pytest.raises(Exception, match="cosmic"):
        make_task(*ILLUMINATED, ("psf_repair.cosmicray.nCrPixelMax", 3)).run(
            exposures=[exposure], result=result, illumination_correction=Image(correction, yx0=(0, 0))
        )
    np.testing.assert_array_equal(result.background_to_photometric_ratio.array, correction)


def test_an_image_without_flat_field_takes_no_illumination_correction(make_task: Any, simulated: Any) -> None:
    exposure, correction = make.flat_fielded(simulated.exposure)
    exposure.metadata["LSST ISR FLAT APPLIED"] = False
    with pytest.raises(InvalidInputError, match="LSST ISR FLAT APPLIED"):
        make_task(*ILLUMINATED).run(
            exposures=[exposure], illumination_correction=Image(correction, yx0=(0, 0))
        )


def test_references_come_from_the_region_given(make_task: Any, simulated: Any) -> None:
    from lsst.sphgeom import Angle, Circle, LonLat, UnitVector3d

    settings = simulated.settings
    center = UnitVector3d(LonLat.fromDegrees(settings.ra_deg, settings.dec_deg))
    region = Circle(center, Angle.fromDegrees(0.02))
    loaded = []
    task = make_task()
    original = ReferenceObjectLoader.load

    class Recording(ReferenceObjectLoader):
        def load(self, *args: Any, **kwargs: Any) -> Any:
            loaded.append(original(self, *args, **kwargs))
            return loaded[-1]

    task.set_reference_loaders(Recording(task._astrometry_loader.source, task.config.astrometry_ref_loader))
    task.run(exposures=[simulated.exposure.copy()], exposure_region=region)
    table = loaded[0].table
    assert region.contains(np.asarray(table["coord_ra"]), np.asarray(table["coord_dec"])).all()
    inside = region.contains(
        np.asarray(simulated.references["coord_ra"]), np.asarray(simulated.references["coord_dec"])
    )
    assert len(table) == inside.sum() > 20


# -- pointing -------------------------------------------------------------------------------------------------


def offset_arcsec(wcs: Any, other: Any, x: float, y: float) -> float:
    from zeropoint.datamodel.wcs import angular_separation

    (ra1, dec1), (ra2, dec2) = wcs.pixel_to_sky(x=x, y=y), other.pixel_to_sky(x=x, y=y)
    return float(np.rad2deg(angular_separation(ra1, dec1, ra2, dec2)) * 3600)


def test_the_pointing_of_the_record_beats_that_of_the_image(make_task: Any, simulated: Any) -> None:
    """An image whose header is a tenth of a degree off is found where the record says."""
    from dataclasses import replace

    from zeropoint.astrometry.boresight import Boresight, wcs_at

    settings = simulated.settings
    right = Boresight(settings.ra_deg, settings.dec_deg)
    wrong = Boresight(settings.ra_deg + 0.1, settings.dec_deg - 0.1)
    exposure = simulated.exposure.copy()
    exposure.wcs = wcs_at(exposure.wcs, right, wrong)
    exposure.visit_info = replace(
        exposure.visit_info, boresight_ra_deg=wrong.ra_deg, boresight_dec_deg=wrong.dec_deg
    )
    record = SimpleNamespace(tracking_ra=right.ra_deg, tracking_dec=right.dec_deg, sky_angle=None)
    task = make_task()
    result = task.run(exposures=[exposure], exposure_record=record)
    assert task.metadata["initial_to_final_wcs"] == pytest.approx(settings.wcs_offset_arcsec, abs=0.3)
    assert offset_arcsec(result.record.exposure.wcs, simulated.wcs, 300, 300) < 0.01


def test_a_record_with_the_same_or_no_pointing_changes_nothing(
    make_task: Any, simulated: Any, calibrated: tuple[CalibrateImageTask, Struct]
) -> None:
    info = simulated.exposure.visit_info
    record = SimpleNamespace(
        tracking_ra=info.boresight_ra_deg + 1e-12, tracking_dec=info.boresight_dec_deg, sky_angle=None
    )
    result = make_task().run(exposures=[simulated.exposure.copy()], exposure_record=record, id_generator=IDS)
    assert result.stars["coord_ra"].tobytes() == calibrated[1].stars["coord_ra"].tobytes()


def test_the_camera_model_gives_the_initial_wcs(
    make_task: Any, simulated: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from zeropoint.tasks._pointing import initial_wcs

    s, camera = simulated.settings, make.camera_model(simulated)
    record = SimpleNamespace(tracking_ra=s.ra_deg, tracking_dec=s.dec_deg, sky_angle=make.SKY_ANGLE)
    wcs = initial_wcs(simulated.exposure, camera, record)
    # the simulated distortion is not in this camera model: nothing at the centre, 5 pixels in the corner
    assert offset_arcsec(wcs, simulated.wcs, 299.5, 299.5) < 1e-6
    assert offset_arcsec(wcs, simulated.wcs, 0, 0) == pytest.approx(5 * s.pixel_scale, rel=0.05)
    task = make_task()
    task.run(exposures=[simulated.exposure.copy()], camera_model=camera, exposure_record=record)
    assert task.metadata["initial_to_final_wcs"] < 0.1
    assert initial_wcs(simulated.exposure, camera, None) is simulated.exposure.wcs
    assert "boresight and rotation" in caplog.text


def test_two_snaps_are_one_visit(make_task: Any, simulated: Any) -> None:
    from dataclasses import replace

    rng = np.random.default_rng(5)
    snaps = []
    for _ in range(2):
        half = simulated.exposure.copy()
        scene = rng.poisson(simulated.noiseless / 2).astype(np.float32)
        half.image = scene + rng.normal(0, 5, scene.shape).astype(np.float32)
        half.variance = np.maximum(half.image, 1) + np.float32(25)
        half.visit_info = replace(half.visit_info, exposure_time=15.0)
        snaps.append(half)
    result = make_task().run(exposures=snaps)
    assert result.exposure.obs_info.exposure_time.to_value("s") == 30.0


def test_the_task_modules_load_nothing_that_a_graph_does_not_need() -> None:
    tasks = "calibrate_image", "transform_source_table", "write_recalibrated_source_table"
    names = ", ".join(f"zeropoint.tasks.{task}" for task in tasks)
    code = f"import sys, {names}; print(*(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"galsim", "piff", "matplotlib", "sklearn", "treecorr", "parsl"} & set(loaded.stdout.split())
