"""What is left of an image that cannot be calibrated: exactly what was established before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from zeropoint import errors
from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.datamodel.footprint_table import footprints_from_table
from zeropoint.recipes.calibrate_image import CalibratedImage, CalibrateImage
from zeropoint.recipes.overrides import apply_override
from zeropoint.recipes.session import production_config
from zeropoint.simulation import SimulationSettings, simulate_exposure, write_simulation

SETTINGS = SimulationSettings(
    width=600, height=580, n_stars=260, magnitude_bright=17.0, n_cosmic_rays=10, seed=8
)


@pytest.fixture(scope="module")
def simulated():
    return simulate_exposure(SETTINGS)


@pytest.fixture(scope="module")
def references(simulated, tmp_path_factory) -> ReferenceSource:
    return ReferenceSource.open(write_simulation(simulated, tmp_path_factory.mktemp("field"))[1])


def run(exposure, references, overrides: dict[str, Any], spoil_recipe=None) -> CalibratedImage:
    """Run the recipe until it fails, and return what it had established."""
    config = production_config()
    for name, value in overrides.items():
        apply_override(config, name, value)
    recipe = CalibrateImage(config)
    if spoil_recipe is not None:
        spoil_recipe(recipe)
        # otherwise the recipe that runs is a new one with derived settings
        config.derived_fields_keep = ["astrometry_ref_loader.anyFilterMapsToThis"]
        config.astrometry_ref_loader.anyFilterMapsToThis = None
    loaders = {
        f"{name}_references": ReferenceObjectLoader(references, getattr(config, f"{name}_ref_loader"))
        for name in ("astrometry", "photometry")
    }
    with pytest.raises(errors.CalibrationFailure) as caught:
        recipe.run(exposure, **loaders)
    assert caught.value.record.failure is caught.value
    return caught.value.record


def flag_all_centroids(recipe: CalibrateImage) -> None:
    """Make the second measurement of the PSF phase flag every centroid."""
    measure, calls = recipe.psf_phase.measurement.run, []

    def run_and_flag(exposure, catalog, *, seed):
        measure(exposure, catalog, seed=seed)
        calls.append(1)
        if len(calls) == 2:
            catalog["base_SdssCentroid_flag"] = True

    recipe.psf_phase.measurement.run = run_and_flag


@dataclass(frozen=True)
class Case:
    """A way to fail, and what must be left."""

    error: type[errors.CalibrationFailure]
    left: str
    overrides: dict[str, Any]
    image: str = "good"
    spoil_recipe: Any = None


CASES = {
    "no reference objects": Case(
        errors.NoReferenceSourcesError, "", {}, "elsewhere"
    ),
    "everything masked": Case(errors.TooManyMaskedPixelsError, "", {}, "masked"),
    "cosmic rays": Case(errors.TooManyCosmicRays, "background", {"psf_repair.cosmicray.nCrPixelMax": 3}),
    "PSF": Case(errors.PiffTooFewGoodStarsError, "background", {"psf_measure_psf.reserve.fraction": 0.97,
                "psf_measure_psf.reserve.min_candidates": 1}),
    "centroids": Case(
        errors.AllCentroidsFlaggedError, "background psf psf_stars_footprints", {}, "good", flag_all_centroids
    ),
    "aperture corrections": Case(
        errors.MeasureApCorrError, "background psf psf_stars_footprints",
        {"measure_aperture_correction.minDegreesOfFreedom": 1000},
    ),
    "astrometric fit": Case(
        errors.MatcherFailure, "background psf ap_corr_map psf_stars_footprints psf_stars", {}, "mirrored"
    ),
    "no PSF star among the stars": Case(
        errors.NoPsfStarsToStarsMatchError,
        "background psf ap_corr_map psf_stars_footprints psf_stars astrometry_matches stars_footprints",
        {"star_selector['science'].doSignalToNoise": True, "star_selector['science'].signalToNoise.maximum": 15.0},
    ),
    "no star but sky sources": Case(
        errors.NoStarsSelectedError,
        "background psf ap_corr_map psf_stars_footprints psf_stars astrometry_matches",
        {"star_selector['science'].doSignalToNoise": True, "star_selector['science'].signalToNoise.minimum": 1e9},
    ),
    "check of the astrometry": Case(
        errors.BadAstrometryFit,
        "background psf ap_corr_map psf_stars_footprints psf_stars astrometry_matches stars_footprints stars",
        {"astrometry.maxMeanDistanceArcsec": 1e-5},
    ),
    "photometry": Case(
        errors.MatcherFailure,
        "background psf ap_corr_map wcs psf_stars_footprints psf_stars astrometry_matches stars_footprints stars",
        {"photometry.match.matchRadius": 1e-6},
    ),
}  # fmt: skip


def image_of(simulated, kind: str):
    exposure = simulated.exposure.copy()
    if kind == "elsewhere":
        exposure.wcs = replace(exposure.wcs, dec0=exposure.wcs.dec0 + 0.1)
    elif kind == "masked":
        exposure.set_mask(np.ones(exposure.shape, bool), "NO_DATA")
    elif kind == "mirrored":
        exposure.image = exposure.image[:, ::-1].copy()
        exposure.variance = exposure.variance[:, ::-1].copy()
    return exposure


@pytest.fixture(scope="module", params=CASES)
def failed(request, simulated, references) -> tuple[Case, CalibratedImage]:
    case = CASES[request.param]
    return case, run(image_of(simulated, case.image), references, case.overrides, case.spoil_recipe)


def test_the_record_holds_what_was_established_and_nothing_else(failed) -> None:
    case, record = failed
    assert type(record.failure) is case.error
    found = {
        name
        for name in ("psf", "wcs", "photo_calib", "ap_corr_map")
        if getattr(record.exposure, name) is not None
    }
    found |= {
        name
        for name in ("background", "psf_stars", "psf_stars_footprints", "stars", "stars_footprints",
                     "astrometry_matches", "photometry_matches", "applied_photo_calib")
        if getattr(record, name) is not None
    }  # fmt: skip
    assert found == set(case.left.split())
    assert record.summary is not None
    assert np.isnan(record.summary.zeroPoint)
    assert np.isfinite(record.summary.psfSigma) == ("psf" in found)


def test_tables_hold_what_was_established_and_nothing_else(failed) -> None:
    case, record = failed
    left = case.left.split()
    if "psf_stars" in left and "astrometry_matches" not in left:
        assert np.isnan(record.psf_stars["coord_ra"]).all()
    if "stars" in left:
        stars = record.stars
        assert np.isfinite(stars["coord_ra"]).any() == ("wcs" in left)
        calibrated = [
            name for name in stars.colnames if name.endswith(("_flux", "_mag", "_fluxErr", "_magErr"))
        ]
        assert len(calibrated) > 10
        assert all(np.isnan(stars[name]).all() for name in calibrated)
        assert stars["calib_psf_used"].any()
    for name in ("psf_stars", "stars"):
        if f"{name}_footprints" in left:
            footprints = getattr(record, f"{name}_footprints")
            ids, back = footprints_from_table(footprints.table(errors.failure_keys(record.failure)))
            assert len(ids) == len(back) == len(footprints) > 0
            if name in left:
                np.testing.assert_array_equal(ids, getattr(record, name)["id"])


def test_failures_carry_plain_numbers_and_text(failed) -> None:
    _, record = failed
    keys = errors.failure_keys(record.failure)
    assert keys["failure.type"] == type(record.failure).__name__
    assert len(keys["failure.message"]) > 20
    assert all(isinstance(value, (int, float, str, bool)) for value in keys.values())


def test_an_input_that_cannot_be_used_is_no_failure_of_the_data(simulated, references) -> None:
    recipe = CalibrateImage(production_config())
    both = {
        f"{name}_references": ReferenceObjectLoader(references, getattr(recipe.config, f"{name}_ref_loader"))
        for name in ("astrometry", "photometry")
    }
    exposure = simulated.exposure.copy()
    exposure.wcs = None
    with pytest.raises(errors.InvalidInputError, match="no initial WCS"):
        recipe.run(exposure, **both)
    for name in both:
        with pytest.raises(errors.InvalidInputError, match="No reference catalogue"):
            recipe.run(simulated.exposure.copy(), **{**both, name: None})
    other = simulated.exposure.copy()
    other.visit_info = replace(other.visit_info, band="z")
    stages = []
    with pytest.raises(errors.InvalidInputError, match="has no band 'z'"):
        recipe.run(other, on_stage=stages.append, **both)
    assert stages == ["snaps"]


def test_every_published_failure_has_its_class() -> None:
    names = """AllCentroidsFlaggedError NoPsfStarsToStarsMatchError TooManyCosmicRays TooManyMaskedPixelsError
        PsfGenerationError NoStarsForShapeletsError NormalizedCalibrationFluxError MeasureApCorrError
        NonfinitePsfShapeError ObjectSizeNoSourcesError ObjectSizeNoGoodSourcesError PiffTooFewGoodStarsError
        MatcherFailure AstrometryFitFailure BadAstrometryFit AstrometryError ColortermNotFoundError"""
    for name in names.split():
        assert issubclass(getattr(errors, name), errors.CalibrationFailure), name
