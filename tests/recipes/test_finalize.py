"""Final characterization on a scene in closed form: what it finds, whom it believes, and how it ends when it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lsst.pex.config as pexConfig
import numpy as np
import pytest
from astropy.table import Table

from final_scene import (
    COMPANION_OFFSET,
    N_COMPANIONS,
    SKY_VARIANCE,
    VISIT,
    Scene,
    correction_at,
    make_scene,
    shuffled,
    sigma_at,
)
from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.errors import InvalidInputError, MeasureApCorrError, PiffTooFewGoodStarsError
from zeropoint.recipes.finalize import (
    FinalizeCharacterization,
    FinalizeCharacterizationConfig,
    FinalizedDetector,
    Outcome,
)
from zeropoint.recipes.finalize.products import star_table
from zeropoint.recipes.finalize.schema import input_schema

DETECTOR = 3
#: Largest error of the mean size of the PSF, dT/T.  A star of S/N s has 1.4/s; the sum of s^2 over the 73 stars is 1.2e7, and
#: the model has 6 terms, so a place is known to 1.4 sqrt(6 / 1.2e7) = 1e-3; the mean over places to less than half of it.
SIZE_ERROR = 1.2e-3
#: Errors of a flux corrected by the field of a dozen parameters, in units of the flux's own.
PULL = 4.0


@pytest.fixture(scope="session")
def scene() -> Scene:
    return make_scene(DETECTOR)


def config(**fields: Any) -> FinalizeCharacterizationConfig:
    result = FinalizeCharacterizationConfig()
    for name, value in fields.items():
        setattr(result, name, value)
    result.validate()
    return result


def finalize(
    scene: Scene,
    recipe: FinalizeCharacterization | None = None,
    isolated: Table | None = None,
    standards: Table | None = None,
) -> FinalizedDetector:
    recipe = FinalizeCharacterization() if recipe is None else recipe
    isolated = scene.isolated() if isolated is None else isolated
    return recipe.compute_psf_and_ap_corr_map(
        VISIT, DETECTOR, scene.exposure, scene.sources, isolated, standards
    )


@pytest.fixture(scope="session")
def result(scene: Scene) -> FinalizedDetector:
    return finalize(scene)


def test_the_psf_is_the_true_one(scene: Scene, result: FinalizedDetector) -> None:
    assert result.outcome is Outcome.OK
    assert result.psf is not None
    shapes = result.psf.shapes(x=scene.x, y=scene.y)
    ratio = (shapes.xx + shapes.yy) / (2.0 * sigma_at(scene.x) ** 2)
    assert abs(np.mean(ratio) - 1.0) < SIZE_ERROR


def test_flags_say_who_did_what(scene: Scene, result: FinalizedDetector) -> None:
    measured = result.measured
    assert measured is not None
    np.testing.assert_array_equal(measured["id"], scene.isolated()["sourceId"])
    np.testing.assert_array_equal(measured["calib_psf_reserved"], scene.isolated()["reserved"])
    assert measured["calib_psf_candidate"].all()
    assert not (measured["calib_psf_used"] & measured["calib_psf_reserved"]).any()
    assert measured["calib_psf_used"].sum() == result.numbers["n_used"] > 60
    assert set(measured["visit"]) == {VISIT}
    assert set(measured["detector"]) == {DETECTOR}


def test_reserved_stars_have_no_say_in_the_psf(scene: Scene, result: FinalizedDetector) -> None:
    image = scene.exposure.image.copy()
    for k in np.flatnonzero(scene.isolated()["reserved"]):
        y, x = round(scene.y[k]), round(scene.x[k])
        image[y - 8 : y + 9, x - 8 : x + 9] *= np.linspace(0.2, 2.0, 17)
    other = finalize(scene.with_image(image))
    np.testing.assert_array_equal(other.psf.coefficients, result.psf.coefficients)  # type: ignore[union-attr]
    one, two = (each.measured["base_PsfFlux_instFlux"] for each in (result, other))  # type: ignore[index]
    reserved = np.asarray(scene.isolated()["reserved"])
    assert np.all(one[reserved] != two[reserved])


def test_the_correction_of_the_psf_flux_is_found_and_applied(scene: Scene, result: FinalizedDetector) -> None:
    measured = result.measured
    assert measured is not None
    x, flux = measured["slot_Centroid_x"], measured["base_PsfFlux_instFlux"]
    truth = (scene.flux * correction_at(scene.x))[: len(x)]
    pull = (flux - truth) / measured["base_PsfFlux_instFluxErr"]
    assert np.abs(pull).max() < PULL
    assert abs(pull.mean()) < 3.0 / np.sqrt(len(pull))
    slope = np.polynomial.polynomial.polyfit(x, measured["base_PsfFlux_apCorr"], 1)[1] * 420
    assert slope == pytest.approx(0.02, abs=0.01)


def test_corrections_that_are_not_measured_stay_those_of_the_image(
    scene: Scene, result: FinalizedDetector
) -> None:
    before, after = scene.exposure.ap_corr_map, result.ap_corr_map
    assert before is not None
    assert after is not None
    kept = "base_CompensatedTophatFlux_12_instFlux"
    assert after[kept] is before[kept]
    assert after["base_PsfFlux_instFlux"] is not before["base_PsfFlux_instFlux"]
    names = [name.removeprefix("n_ap_corr_") for name in result.numbers if name.startswith("n_ap_corr_")]
    assert {"base_GaussianFlux", "ext_photometryKron_KronFlux", "ext_gaap_GaapFlux_1_15x_PsfFlux"} <= set(
        names
    )
    assert set(after) == set(before) | {
        f"{name}_{end}" for name in names for end in ("instFlux", "instFluxErr")
    }


def test_neighbors_that_are_no_candidates_are_hidden(scene: Scene, result: FinalizedDetector) -> None:
    measured = result.measured
    assert measured is not None
    hosts = np.arange(N_COMPANIONS) * 11 + 2
    assert np.all(scene.x[-N_COMPANIONS:] - scene.x[hosts] == pytest.approx(COMPANION_OFFSET))
    # what of the companion lies in the host's own footprint is some 1e-3 of its flux; in view it were a third
    ratio = measured["base_GaussianFlux_instFlux"][hosts] / (scene.flux * correction_at(scene.x))[hosts]
    noise = np.sqrt(SKY_VARIANCE * 4 * np.pi * 2.0**2) / scene.flux[hosts] + 1.0 / np.sqrt(scene.flux[hosts])
    assert np.all(np.abs(ratio - 1.0) < 4.0 * noise + 0.01)


def test_inputs_are_not_modified(scene: Scene) -> None:
    image, psf, table = scene.exposure.image.copy(), scene.exposure.psf, scene.table.copy()
    finalize(scene)
    assert scene.exposure.psf is psf
    np.testing.assert_array_equal(scene.exposure.image, image)
    assert all(np.array_equal(table[name], scene.table[name]) for name in table.colnames)


def test_neither_order_nor_form_of_the_input_matters(
    scene: Scene, result: FinalizedDetector, rng: np.random.Generator
) -> None:
    mixed = shuffled(scene, rng)
    arrow = replace(mixed, table=table_to_arrow(mixed.table))
    isolated = scene.isolated()[rng.permutation(scene.n_stars)]
    for other in (finalize(mixed, isolated=isolated), finalize(arrow, isolated=isolated)):
        one, two = star_table(result), star_table(other)  # type: ignore[arg-type]
        assert one.colnames == two.colnames
        for name in one.colnames:
            assert one[name].tobytes() == two[name].tobytes(), name
            assert one[name].unit == two[name].unit


def test_another_recipe_measures_the_same(scene: Scene, result: FinalizedDetector) -> None:
    recipe = FinalizeCharacterization()
    finalize(make_scene(5), recipe)
    again = finalize(scene, recipe)
    assert star_table(again)["base_PsfFlux_instFlux"].tobytes() == (
        star_table(result)["base_PsfFlux_instFlux"].tobytes()
    )


# -- options --------------------------------------------------------------------------------------------------


def test_only_stars_of_the_psf_measure_the_corrections_if_wanted(
    scene: Scene, result: FinalizedDetector
) -> None:
    used_only = finalize(scene, FinalizeCharacterization(config(ap_corr_stars="used"))).measured
    assert used_only is not None
    assert result.measured is not None
    flag = "apcorr_base_PsfFlux_used"
    assert not (used_only[flag] & ~used_only["calib_psf_used"]).any()
    assert used_only[flag].any()
    assert (result.measured[flag] & ~result.measured["calib_psf_used"]).any()


def test_any_determiner_serves(scene: Scene) -> None:
    other = config()
    other.psf_determiner.name = "psfex"
    result = finalize(scene, FinalizeCharacterization(other))
    assert result.outcome is Outcome.OK
    assert result.psf is not None
    # a model of fewer parameters: within a percent
    np.testing.assert_allclose(result.psf.sigma(x=300.0, y=200.0), sigma_at(300.0), rtol=0.01)


def test_candidates_get_the_colors_of_standard_stars(scene: Scene) -> None:
    coloured = config()
    piff = coloured.psf_determiner["piff"]
    piff.solver, piff.useColor, piff.color = "piff", True, {"r": "g-r"}
    recipe = FinalizeCharacterization(coloured)
    recipe.prepare(scene.sources)
    selection = recipe.make_selection_schema_mapper(input_schema(scene.table))
    selected = selection.rows(scene.sources, np.arange(3))
    standards = Table(
        {"ra": np.rad2deg(scene.table["coord_ra"])[:2], "dec": np.rad2deg(scene.table["coord_dec"])[:2]}
    )
    standards["mag_g"], standards["mag_r"] = [20.0, 21.0], [19.5, 20.0]
    assert recipe.add_src_colors(selected, standards, "r") == 2
    np.testing.assert_allclose(selected["psf_color_value"], [0.5, 1.0, np.nan], atol=1e-6)
    # without a table, or a model that knows no colour, nothing is looked at
    assert recipe.add_src_colors(selected, None, "r") == 0
    assert FinalizeCharacterization().add_src_colors(selected, standards, "r") == 0


def test_stamps_grow_with_the_psf_that_the_image_has_if_wanted() -> None:
    recipe = FinalizeCharacterization(config(do_follow_input_psf=True))
    cut, determiner = recipe.psf_steps(41)
    sizes = cut.config.kernelSize, determiner.config.stampSize, determiner.config.modelSize
    assert sizes == (43, 41, 41)
    assert recipe.psf_steps(25) == (recipe.make_psf_candidates, recipe.psf_determiner)
    assert FinalizeCharacterization().psf_steps(41)[1].config.stampSize == 25


def measure_centroids(c: FinalizeCharacterizationConfig) -> None:
    c.measurement.plugins.names |= ["base_SdssCentroid"]
    c.measurement.slots.centroid = "base_SdssCentroid"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (measure_centroids, "slots.centroid must be None"),
        (lambda c: setattr(c.make_psf_candidates, "kernelSize", 21), r"kernelSize \(21\)"),
        (lambda c: setattr(c.reserve_selection, "reserve_fraction", 1.5), "reserve_fraction"),
    ],
)
def test_what_cannot_work_is_refused_by_the_configuration(
    change: Callable[[FinalizeCharacterizationConfig], None], message: str
) -> None:
    def make() -> None:
        wrong = FinalizeCharacterizationConfig()
        change(wrong)
        wrong.validate()

    with pytest.raises(pexConfig.FieldValidationError, match=message):
        make()


# -- how it ends ----------------------------------------------------------------------------------------------


def fail(error: Exception) -> Callable[..., Any]:
    def raise_it(*_: Any, **__: Any) -> Any:
        raise error

    return raise_it


def break_step(monkeypatch: pytest.MonkeyPatch, recipe: FinalizeCharacterization, what: str) -> None:
    """Make one step of a recipe fail."""
    scene = make_scene(DETECTOR)
    recipe.prepare(scene.sources)
    few = PiffTooFewGoodStarsError("too few", num_good_stars=2, minimum_dof=3, poly_ndim=6)
    errors = {
        "make_psf_candidates": ValueError("no stamps"),
        "psf_determiner": few,
        "measurement": RuntimeError("no measurement"),
        "measure_ap_corr": MeasureApCorrError("too few", name="base_PsfFlux", nSources=1, ndof=0),
    }
    method = "determine_psf" if what == "psf_determiner" else "run"
    monkeypatch.setattr(getattr(recipe, what), method, fail(errors[what]))


@pytest.mark.parametrize(
    ("step", "outcome", "error", "has_psf"),
    [
        ("make_psf_candidates", Outcome.CANDIDATES_FAILED, "ValueError", False),
        ("psf_determiner", Outcome.PSF_FAILED, "PiffTooFewGoodStarsError", False),
        ("measurement", Outcome.MEASUREMENT_FAILED, "RuntimeError", True),
        ("measure_ap_corr", Outcome.AP_CORR_FAILED, "MeasureApCorrError", True),
    ],
)
def test_a_failed_step_leaves_what_was_established(
    monkeypatch: pytest.MonkeyPatch,
    scene: Scene,
    result: FinalizedDetector,
    step: str,
    outcome: Outcome,
    error: str,
    has_psf: bool,
) -> None:
    recipe = FinalizeCharacterization()
    break_step(monkeypatch, recipe, step)
    failed = finalize(scene, recipe)
    assert (failed.outcome, failed.numbers["failure_type"]) == (outcome, error)
    assert (failed.psf is not None) is has_psf
    assert failed.ap_corr_map is None
    assert failed.measured is not None
    assert failed.metadata()["outcome"] == str(outcome)
    # the schema of the table is the same however it ends
    assert star_table(failed).colnames == star_table(result).colnames
    assert failed.measured["calib_psf_used"].any() == has_psf


def test_numbers_of_a_failure_are_in_the_metadata(monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    recipe = FinalizeCharacterization()
    break_step(monkeypatch, recipe, "psf_determiner")
    metadata = finalize(scene, recipe).metadata()
    assert metadata["failure_num_good_stars"] == 2
    assert metadata["failure_poly_ndim"] == 6
    assert metadata["reason"] == "too few"


def test_a_psf_without_a_finite_size_is_none(monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    monkeypatch.setattr("zeropoint.datamodel.psf_model.PixelGridPsf.sigma", lambda self: float("nan"))
    failed = finalize(scene)
    assert (failed.outcome, failed.psf) == (Outcome.PSF_NOT_FINITE, None)


def test_too_few_stars_are_an_outcome(scene: Scene) -> None:
    failed = finalize(scene, isolated=scene.isolated()[:2])
    assert failed.outcome is Outcome.PSF_FAILED
    assert failed.numbers["n_candidates"] == failed.numbers["failure_num_good_stars"] == 2
    assert failed.measured is not None


@pytest.mark.parametrize("what", ["cuts", "ids", "no stars", "no sources"])
def test_without_candidates_there_is_nothing(scene: Scene, what: str) -> None:
    isolated, recipe, outcome = scene.isolated(), FinalizeCharacterization(), Outcome.NO_MATCHED_SOURCES
    if what == "cuts":
        strict = config()
        strict.source_selector["science"].signalToNoise.minimum = 1e7
        recipe, outcome = FinalizeCharacterization(strict), Outcome.NO_GOOD_SOURCES
    elif what == "ids":
        isolated["sourceId"] += 10**6
    elif what == "no stars":
        isolated = isolated[:0]
    else:
        none = np.arange(0)
        scene = replace(scene, table=scene.table[none], footprints=scene.footprints.take(none))
        outcome = Outcome.NO_GOOD_SOURCES
    failed = finalize(scene, recipe, isolated)
    assert (failed.outcome, failed.psf, failed.ap_corr_map, failed.measured) == (outcome, None, None, None)
    assert failed.reason


def test_corrections_of_other_fluxes_are_kept_if_wanted(scene: Scene) -> None:
    table = scene.table.copy()
    # no aperture is as large as that: Gaussian fluxes have no correction
    partial = config(keep_partial_ap_corr_map=True)
    recipe = FinalizeCharacterization(partial)
    recipe.prepare(scene.sources)
    run = recipe.measurement.run

    def without_gaussian(exposure: Any, catalog: Any, **options: Any) -> None:
        run(exposure, catalog, **options)
        catalog["base_GaussianFlux_flag"] = True

    recipe.measurement.run = without_gaussian  # type: ignore[method-assign]
    kept = finalize(replace(scene, table=table), recipe)
    assert kept.outcome is Outcome.AP_CORR_PARTIAL
    assert kept.ap_corr_map is not None
    assert "base_PsfFlux_instFlux" in kept.ap_corr_map
    assert "base_GaussianFlux_instFlux" not in kept.ap_corr_map
    assert "base_GaussianFlux" in kept.reason
    assert kept.measured is not None
    assert kept.measured["base_GaussianFlux_flag_apCorr"].all()


# -- wrong inputs ---------------------------------------------------------------------------------------------


def test_an_id_that_occurs_twice_is_an_error(scene: Scene) -> None:
    isolated = scene.isolated()
    isolated["sourceId"][1] = isolated["sourceId"][0]
    with pytest.raises(InvalidInputError, match="3001 occurs twice among the sources of isolated"):
        finalize(scene, isolated=isolated)


def test_other_columns_than_before_are_an_error(scene: Scene) -> None:
    recipe = FinalizeCharacterization()
    recipe.prepare(scene.sources)
    other = scene.table.copy()
    other["one_more"] = 1.0
    with pytest.raises(InvalidInputError, match="one_more"):
        finalize(replace(scene, table=other), recipe)
