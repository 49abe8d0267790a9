"""Switches of the older pair of recipes, what is left where they fail, and configurations that cannot work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.units import UnitsWarning

from recipes.legacy_pair import IDS, calibrate, characterize, configured
from zeropoint import errors
from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.recipes.calibrate import Calibrate, CalibrateConfig
from zeropoint.recipes.calibrate.config import DERIVED_NAMES as CALIBRATE_NAMES
from zeropoint.recipes.calibrate_image.derived import field_history
from zeropoint.recipes.characterize_image import CharacterizeImage, CharacterizeImageConfig
from zeropoint.recipes.characterize_image.config import DERIVED_NAMES as CHARACTERIZE_NAMES
from zeropoint.recipes.config_files import InconsistentConfigError
from zeropoint.recipes.legacy_fields import check_units
from zeropoint.simulation import SimulationSettings, simulate_exposure, write_simulation

SMALL = SimulationSettings(
    width=520, height=500, n_stars=190, magnitude_bright=17.0, n_cosmic_rays=8, distortion_pixels=0.05, seed=8
)


@pytest.fixture(scope="module")
def small():
    return simulate_exposure(SMALL)


@pytest.fixture(scope="module")
def references(small, tmp_path_factory) -> ReferenceSource:
    return ReferenceSource.open(write_simulation(small, tmp_path_factory.mktemp("field"))[1])


@pytest.fixture(scope="module")
def first(small):
    """The small image, characterized."""
    return characterize(small.exposure.copy())[1]


# -- CharacterizeImage: failures -------------------------------------------------------------------------------


def failed(exposure, overrides):
    with pytest.raises(errors.CalibrationFailure) as caught:
        characterize(exposure, overrides)
    record = caught.value.record
    assert record.failure is caught.value
    return record


def test_too_many_cosmic_rays_fail_where_they_must(small) -> None:
    few = {"repair.cosmicray.nCrPixelMax": 3}
    record = failed(small.exposure.copy(), few)
    assert type(record.failure) is errors.TooManyCosmicRays
    assert [stage.name for stage in record.stages] == ["background"]
    assert (record.exposure.psf, record.psf_fit, record.catalog, record.footprints) == (None,) * 4
    assert len(record.background) == 1
    # the rounds may go without, but not the repair with the final PSF
    record = failed(small.exposure.copy(), {**few, "requireCrForPsf": False})
    assert record.stages[-1].name == "psf_2"
    assert record.psf_fit.psf is record.exposure.psf
    assert len(record.footprints) > 10
    assert record.catalog is None
    assert sum("cosmic rays were left" in text for text in record.caveats) == 2


def test_an_image_without_stars_or_pixels_is_refused(small) -> None:
    exposure = small.exposure.copy()
    exposure.image = np.random.default_rng(1).normal(600, 25, exposure.shape).astype(np.float32)
    record = failed(exposure, {})
    assert record.exposure.psf is None
    assert record.reached("background")
    exposure = small.exposure.copy()
    exposure.set_mask(np.ones(exposure.shape, bool), "SATURATED")
    record = failed(exposure, {})
    assert type(record.failure) is errors.TooManyMaskedPixelsError
    assert (record.stages, record.background) == ([], None)


def test_without_aperture_corrections_processing_goes_on(small, references) -> None:
    _, result = characterize(
        small.exposure.copy(), {"measureApCorr.minDegreesOfFreedom": 1000, "psfIterations": 1}
    )
    assert any("not corrected for their apertures" in text for text in result.caveats)
    assert result.catalog["base_PsfFlux_flag_apCorr"].all()
    # the scale of the calibration flux was measured, and is kept
    assert set(result.exposure.ap_corr_map) == {
        "base_CompensatedTophatFlux_12_instFlux",
        "base_CompensatedTophatFlux_12_instFluxErr",
    }
    _, second = calibrate(result, references)
    assert second.photometry.n_good > 10
    assert second.sources["base_PsfFlux_flag_apCorr"].all()


# -- CharacterizeImage: switches -------------------------------------------------------------------------------

NO_PSF = {"doMeasurePsf": False, "doApCorr": False, "doNormalizedCalibration": False}


def test_the_psf_of_the_exposure_serves_where_none_is_measured(small, first) -> None:
    exposure = small.exposure.copy()
    exposure.psf = first.exposure.psf
    recipe, result = characterize(exposure, NO_PSF)
    assert result.exposure.psf is first.exposure.psf
    assert result.psf_fit is None
    assert not any(name.startswith(("calib_psf", "apcorr")) for name in result.catalog.colnames)
    assert recipe.stage_names().count("detection") == 1
    assert "detection_2" not in recipe.stage_names()
    # without one a Gaussian of the configured size is installed
    _, plain = characterize(small.exposure.copy(), {**NO_PSF, "installSimplePsf.fwhm": 4.2})
    assert plain.exposure.psf.sigma() == pytest.approx(4.2 / 2.3548, rel=0.02)


def test_backgrounds_before_are_kept(small, first) -> None:
    exposure = small.exposure.copy()
    before = first.background.components[0]
    exposure.image -= before.image()
    given = type(first.background)([before])
    recipe = CharacterizeImage(configured(CharacterizeImageConfig, {**NO_PSF, "doDeblend": True}))
    result = recipe.run(exposure, given)
    assert len(given) == 1
    assert result.background.components[0] is before
    total = result.exposure.image + result.background.image()
    untouched = ~result.exposure.masked("INTERPOLATED")
    np.testing.assert_allclose(total[untouched], small.exposure.image[untouched], atol=2e-3, rtol=1e-5)
    # blends were taken apart
    children = result.catalog["parent"] != 0
    assert children.any()
    assert np.isin(result.catalog["parent"][children], result.catalog["id"]).all()


def test_selectors_that_use_matches_get_them(small, references, tmp_path) -> None:
    changes = {"measurePsf.starSelector.name": "diaCatalog", "psfIterations": 1}
    with pytest.raises(errors.InvalidInputError, match="refObjLoader"):
        characterize(small.exposure.copy(), changes)
    loader = ReferenceObjectLoader(references)
    exposure = small.exposure.copy()
    wcs = exposure.wcs
    _, result = characterize(exposure, changes, reference_loader=loader)
    # matching is no business of the image
    assert exposure.wcs is wcs
    assert np.isnan(result.catalog["coord_ra"]).all()
    candidates = result.catalog["calib_psf_candidate"]
    assert candidates.sum() >= 10
    other = small.exposure.copy()
    other.visit_info = replace(other.visit_info, band="z")
    with pytest.raises(errors.InvalidInputError, match="no band 'z'"):
        characterize(other, changes, reference_loader=loader)


def test_the_first_look_sets_what_each_recipe_has(small, references) -> None:
    for names, kind in ((CHARACTERIZE_NAMES, CharacterizeImageConfig), (CALIBRATE_NAMES, CalibrateConfig)):
        config = kind()
        for name in names.values():
            assert field_history(config, name) is not None, name
    _, result = characterize(small.exposure.copy(), {"do_first_look": True, "psfIterations": 1})
    assert result.derived["installSimplePsf.fwhm"] == pytest.approx(4.0, abs=0.5)
    assert result.config.installSimplePsf.fwhm == result.derived["installSimplePsf.fwhm"]
    assert result.metadata["derived.installSimplePsf.fwhm"] == result.derived["installSimplePsf.fwhm"]
    _, kept = characterize(
        small.exposure.copy(),
        {**NO_PSF, "do_first_look": True, "derived_fields_keep": ["installSimplePsf.fwhm"]},
    )
    assert "installSimplePsf.fwhm" not in kept.derived
    # the catalogue has no band phot_g_mean
    _, second = calibrate(result, references, {"doPhotoCal": False, "do_first_look": True})
    assert second.derived == {"astromRefObjLoader.anyFilterMapsToThis": None}


# -- Calibrate: failures ---------------------------------------------------------------------------------------


def left(record) -> set[str]:
    names = (
        "sources",
        "footprints",
        "matches",
        "photometry_matches",
        "astrometry",
        "photometry",
        "background",
    )
    found = {name for name in names if getattr(record, name) is not None}
    return found | {name for name in ("wcs", "photo_calib") if getattr(record.exposure, name) is not None}


NO_MATCH = {"astrometry.maxMeanDistanceArcsec": 1e-5}


def test_astrometry_may_be_required(first, references) -> None:
    with pytest.raises(errors.BadAstrometryFit) as caught:
        calibrate(first, references, NO_MATCH)
    record = caught.value.record
    assert left(record) == {"background"}
    assert np.isfinite(record.summary.psfSigma)
    assert np.isnan(record.summary.ra)
    # or not; then the photometry fails for want of coordinates, and may be required
    with pytest.raises(errors.MatcherFailure, match="Without a WCS") as caught:
        calibrate(first, references, {**NO_MATCH, "requireAstrometry": False})
    record = caught.value.record
    assert left(record) == {"background", "sources", "footprints"}
    assert np.isnan(record.sources["coord_ra"]).all()
    assert record.sources["base_LocalWcs_flag"].all()
    assert record.sources["base_LocalPhotoCalib_flag"].all()
    assert record.sources["calib_detected"].any()
    _, second = calibrate(
        first, references, {**NO_MATCH, "requireAstrometry": False, "requirePhotoCal": False}
    )
    assert second.failure is None
    assert len(second.caveats) == 2
    assert left(second) == {"background", "sources", "footprints"}
    assert "MAGZERO" not in second.exposure.metadata
    assert not second.sources["calib_astrometry_used"].any()


def test_photometry_may_be_required(first, references) -> None:
    none = {"photoCal.match.matchRadius": 1e-6}
    with pytest.raises(errors.MatcherFailure) as caught:
        calibrate(first, references, none)
    everything = {"background", "sources", "footprints", "matches", "astrometry", "wcs"}
    record = caught.value.record
    assert left(record) == everything
    assert np.isfinite(record.sources["base_LocalWcs_CDMatrix_1_1"]).all()
    assert np.isnan(record.sources["base_LocalPhotoCalib"]).all()
    _, second = calibrate(first, references, {**none, "requirePhotoCal": False})
    assert left(second) == everything
    assert np.isnan(second.summary.zeroPoint)
    assert [text for text in second.caveats if "photometric calibration could not be fitted" in text]


def test_inputs_that_cannot_be_used(first, references) -> None:
    for name, field in (("astrometry_references", "doAstrometry"), ("photometry_references", "doPhotoCal")):
        with pytest.raises(errors.InvalidInputError, match=field):
            calibrate(first, references, **{name: None})
    for attribute, sentence in (("psf", "no PSF"), ("wcs", "no initial WCS")):
        broken = replace(first, exposure=replace(first.exposure, **{attribute: None}))
        with pytest.raises(errors.InvalidInputError, match=sentence):
            calibrate(broken, references)
    info = replace(first.exposure.visit_info, band="z")
    with pytest.raises(errors.InvalidInputError, match="no band 'z'"):
        calibrate(replace(first, exposure=replace(first.exposure, visit_info=info)), references)


# -- Calibrate: switches ---------------------------------------------------------------------------------------


def test_steps_can_be_left_out(first, references) -> None:
    off = dict.fromkeys(
        [
            "doAstrometry",
            "doPhotoCal",
            "doDeblend",
            "doSkySources",
            "doApCorr",
            "doNormalizedCalibration",
            "doComputeSummaryStats",
        ],
        False,
    )
    recipe, result = calibrate(first, references, off, astrometry_references=None, photometry_references=None)
    assert [stage.name for stage in result.stages] == list(recipe.stage_names())
    assert left(result) == {"background", "sources", "footprints", "wcs"}
    assert result.summary is None
    sources = result.sources
    for name in ("deblend_nChild", "sky_source", "base_PsfFlux_apCorr", "calib_astrometry_used"):
        assert name not in sources
    # coordinates are those of the WCS that the image came with
    ra, dec = first.exposure.wcs.pixel_to_sky(x=sources["slot_Centroid_x"], y=sources["slot_Centroid_y"])
    np.testing.assert_array_equal(sources["coord_ra"], ra)
    np.testing.assert_array_equal(sources["coord_dec"], dec)
    assert not sources["base_LocalWcs_flag"].any()
    assert sources["base_LocalPhotoCalib_flag"].all()


def test_columns_to_copy_must_exist(first) -> None:
    config = configured(CalibrateConfig, {"icSourceFieldsToCopy": ["calib_psf_used", "one", "two"]})
    with pytest.raises(errors.InvalidInputError, match=r"icSourceFieldsToCopy.* one, two"):
        Calibrate(config, first.catalog.schema)
    # without a catalogue to copy from there is nothing to miss
    assert "calib_detected" not in Calibrate(config).schema
    config = configured(CalibrateConfig, {"astromFieldsToCopy": ["three"]})
    with pytest.raises(errors.InvalidInputError, match=r"astromFieldsToCopy.* three"):
        Calibrate(config)


def test_sources_to_copy_from_may_be_a_table(first, references) -> None:
    fields = ["calib_psf_used", "base_PsfFlux_instFlux"]
    config = configured(
        CalibrateConfig, {"icSourceFieldsToCopy": fields, "doAstrometry": False, "doPhotoCal": False}
    )
    recipe = Calibrate(config, first.catalog.schema)
    results = [
        recipe.run(first.exposure.copy(), first.background, sources, id_generator=IDS).sources
        for sources in (first.catalog, first.catalog.to_table(), None)
    ]
    for name in ("calib_detected", "calib_psf_used"):
        np.testing.assert_array_equal(results[0][name], results[1][name])
        assert results[0][name].any()
        assert not results[2][name].any()


# -- configuration ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "changes", "sentence"),
    [
        (CharacterizeImageConfig, {"doMaskStreaks": True}, "doMaskStreaks: must be False"),
        (CharacterizeImageConfig, {"doMeasurePsf": False}, "doApCorr: without doMeasurePsf"),
        (
            CharacterizeImageConfig,
            {"doMeasurePsf": False, "doApCorr": False},
            "doNormalizedCalibration: without",
        ),
        (
            CharacterizeImageConfig,
            {"debug.display": ["calibrate"]},
            "debug.display: there is no moment 'calibrate'",
        ),
        (
            CharacterizeImageConfig,
            {"normalizedCalibrationFlux.do_measure_ap_corr": False},
            "do_measure_ap_corr must be True",
        ),
        (
            CalibrateConfig,
            {"normalizedCalibrationFlux.do_measure_ap_corr": True},
            "do_measure_ap_corr must be False",
        ),
        (CalibrateConfig, {"doDeblend": False}, "set doIsolated of astrometry.sourceSelector to False"),
        (CalibrateConfig, {"doInsertFakes": True}, "doInsertFakes: must be False"),
        (CalibrateConfig, {"doCreateSummaryMetrics": True}, "doCreateSummaryMetrics: must be False"),
        (CalibrateConfig, {"debug.display": ["psf"]}, "there are astrometry, measure, calibrate"),
        (
            CalibrateConfig,
            {"measurement.plugins.names": ["base_SdssCentroid", "base_LocalWcs"]},
            "belongs to postCalibrationMeasurement",
        ),
    ],
)
def test_combinations_that_cannot_work_are_named(kind, changes, sentence) -> None:
    config = configured(kind, changes)
    if "measurement.plugins.names" in changes:
        for slot in config.measurement.slots:
            setattr(config.measurement.slots, slot, None)
    with pytest.raises(InconsistentConfigError) as caught:
        config.validate()
    assert sentence in caught.value.format_message()


@pytest.mark.parametrize(
    ("field", "value"),
    [("psfIterations", 0), ("checkUnitsParseStrict", "loud"), ("derived_fields_keep", ["psfIterations"])],
)
def test_values_out_of_range_are_refused(field, value) -> None:
    with pytest.raises(errors.InvalidInputError, match=field):
        configured(CharacterizeImageConfig, {field: value})


#: Defaults of the LSST Science Pipelines (2026).
CHARACTERIZE_DEFAULTS = {
    "doMeasurePsf": True, "doWrite": True, "doWriteExposure": True, "psfIterations": 2, "doDeblend": False,
    "detection.thresholdValue": 5.0, "detection.includeThresholdMultiplier": 10.0,
    "detection.reEstimateBackground": True, "doNormalizedCalibration": True, "doApCorr": True,
    "doComputeSummaryStats": True, "useSimplePsf": True, "requireCrForPsf": True, "checkUnitsParseStrict": "raise",
    "doMaskStreaks": False, "measurement.slots.shape": "ext_shapeHSM_HsmSourceMoments",
}  # fmt: skip
CALIBRATE_DEFAULTS = {
    "doWrite": True, "doWriteHeavyFootprintsInSources": True, "doWriteMatches": True,
    "doWriteMatchesDenormalized": True, "doAstrometry": True, "requireAstrometry": True, "doPhotoCal": True,
    "requirePhotoCal": True, "matchRadiusPix": 3.0, "checkUnitsParseStrict": "raise", "doDeblend": True,
    "doSkySources": True, "doNormalizedCalibration": True, "doApCorr": True, "doComputeSummaryStats": True,
    "doCreateSummaryMetrics": False, "doWriteExposure": True, "doInsertFakes": False,
    "astrometryDetection.thresholdValue": 50.0, "astrometryDetection.reEstimateBackground": False,
    "detection.thresholdValue": 5.0, "detection.includeThresholdMultiplier": 1.0,
    "astromRefObjLoader.anyFilterMapsToThis": "phot_g_mean", "postCalibrationMeasurement.doReplaceWithNoise": False,
    "postCalibrationMeasurement.slots.centroid": None, "normalizedCalibrationFlux.do_measure_ap_corr": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "defaults"),
    [(CharacterizeImageConfig, CHARACTERIZE_DEFAULTS), (CalibrateConfig, CALIBRATE_DEFAULTS)],
)
def test_class_defaults_are_rubins(kind, defaults) -> None:
    flat = kind()
    for name, value in defaults.items():
        target = flat
        for part in name.split("."):
            target = getattr(target, part)
        assert target == value, name
    if kind is CalibrateConfig:
        assert list(flat.icSourceFieldsToCopy) == [
            f"calib_psf_{k}" for k in ("candidate", "used", "reserved")
        ]
        assert list(flat.astromFieldsToCopy) == ["calib_astrometry_used"]
        plugins = flat.postCalibrationMeasurement.plugins.names
        assert set(plugins) == {"base_LocalPhotoCalib", "base_LocalWcs"}
        assert flat.astrometry.wcsFitter.target.__name__ == "FitTanSipWcs"


#: Statements as in the configuration files of Rubin's cameras.
CHARACTERIZE_FILE = """
from lsst.meas.algorithms import ColorLimit
config.repair.cosmicray.nCrPixelMax = 100000
config.installSimplePsf.fwhm = 3.5
config.psfIterations = 1
config.idGenerator.packer.name = "observation"
config.measurePsf.starSelector["objectSize"].widthMin = 0.9
config.measurePsf.reserve.fraction = 0.2
config.measurePsf.psfDeterminer["piff"].spatialOrder = 1
config.catalogCalculation.plugins["base_ClassificationExtendedness"].fluxRatio = 0.95
config.measurement.plugins.names |= ["base_Jacobian", "base_FPPosition"]
config.measurement.plugins["base_Jacobian"].pixelScale = 0.2
config.refObjLoader.filterMap = {"i2": "i"}
config.ref_match.sourceFluxType = "Psf"
config.ref_match.matcher.maxOffsetPix = 250
config.ref_match.sourceSelector["matcher"].sourceFluxType = "Psf"
"""
CALIBRATE_FILE = """
from lsst.meas.astrom import FitTanSipWcsTask
config.connections.astromRefCat = "gaia_dr2_20200414"
config.astromRefObjLoader.anyFilterMapsToThis = "phot_g_mean"
config.photoRefObjLoader.filterMap = {"i2": "i"}
config.astrometry.wcsFitter.retarget(FitTanSipWcsTask)
config.astrometry.wcsFitter.order = 3
config.astrometry.wcsFitter.numRejIter = 3
config.astrometry.sourceSelector["science"].signalToNoise.minimum = 20
config.photoCal.match.matchRadius = 0.25
config.photoCal.match.referenceSelection.doMagLimit = True
config.photoCal.match.referenceSelection.magLimit.fluxField = "i_flux"
config.photoCal.match.referenceSelection.magLimit.maximum = 22.0
config.deblend.maxFootprintSize = 2000
config.doWriteMatchesDenormalized = True
config.doComputeSummaryStats = True
config.postCalibrationMeasurement.plugins.names = ["base_LocalPhotoCalib", "base_LocalWcs"]
"""


def test_files_of_rubins_cameras_apply() -> None:
    files = [(CharacterizeImageConfig, CHARACTERIZE_FILE), (CalibrateConfig, CALIBRATE_FILE)]
    configs = []
    for kind, text in files:
        config = kind()
        # class names of the compiled stack are translated by `zeropoint config translate`
        lines = [line for line in text.splitlines() if not line.startswith("from lsst")]
        text = "from zeropoint.astrometry.tan_sip import FitTanSipWcs as FitTanSipWcsTask\n" + "\n".join(
            lines
        )
        config.loadFromString(text, filename="camera.py")
        config.validate()
        configs.append(config)
    first, second = configs
    assert first.measurePsf.reserve.fraction == 0.2
    assert {"base_Jacobian", "base_FPPosition"} <= set(
        CharacterizeImage(first).config.measurement.plugins.names
    )
    assert second.astrometry.wcsFitter.order == 3
    assert second.deblend.maxFootprintSize == 2000
    with pytest.raises(errors.InvalidInputError, match="masking of streaks is not available"):
        CharacterizeImageConfig().loadFromString("config.maskStreaks.nSigma = 3", filename="camera.py")


def test_a_configuration_can_be_written_and_read_again(tmp_path) -> None:
    for kind in (CharacterizeImageConfig, CalibrateConfig):
        config = configured(kind, {"do_first_look": True, "debug.display": ["measure"]})
        config.save(str(tmp_path / "config.py"))
        again = kind()
        again.load(str(tmp_path / "config.py"))
        assert again.compare(config)


def test_units_are_parsed_as_strictly_as_asked() -> None:
    schema = Schema()
    schema.add(ColumnSpec("a", "f8", "pixel"), ColumnSpec("b", "f8", "fathoms per fortnight"))
    with pytest.raises(errors.InvalidInputError, match="column b"):
        check_units(schema, "raise")
    with pytest.warns(UnitsWarning, match="fathoms"):
        check_units(schema, "warn")
    check_units(schema, "silent")


# -- display ---------------------------------------------------------------------------------------------------


def test_the_hook_sees_the_moments_it_wants(small) -> None:
    seen = []
    config = configured(
        CharacterizeImageConfig, {"debug.display": ["repair_iter", "measure_iter", "psf", "measure"]}
    )
    recipe = CharacterizeImage(config, display_hook=seen.append)
    recipe.run(small.exposure.copy(), label="mine", id_generator=IDS)
    moments = ["repair_iter", "measure_iter", "repair_iter", "measure_iter", "psf", "measure"]
    assert [frame.moment for frame in seen] == moments
    assert [frame.number for frame in seen] == [1, 2, 3, 4, 5, 6]
    assert {(frame.task, frame.label) for frame in seen} == {("characterizeImage", "mine")}
    assert [frame.catalog is None for frame in seen] == [True, False, True, False, False, False]


def test_plots_are_saved_where_asked(first, references, tmp_path) -> None:
    folder = tmp_path / "plots"
    changes = {"debug.display": ["calibrate"], "debug.directory": str(folder)}
    calibrate(first, references, changes)
    assert [path.name for path in folder.iterdir()] == ["test.calibrate.01.calibrate.png"]
    data = (folder / "test.calibrate.01.calibrate.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) > 20_000
    (tmp_path / "file").touch()
    with pytest.raises(errors.InvalidInputError, match=r"debug\.directory"):
        calibrate(
            first,
            references,
            {"debug.display": ["astrometry"], "debug.directory": str(tmp_path / "file" / "under")},
        )
