"""The pipelines of the global calibration: names of datasets, one run for each step, what a card says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lsst.daf.butler import DimensionUniverse
from lsst.pipe.base import Pipeline
from lsst.pipe.base.pipeline_graph import ConnectionTypeConsistencyError

from butler.frames import card
from zeropoint.butler.execution.inputs import what_to_do
from zeropoint.butler.pipelines import fgcm_text, recalibrate_text, write_pipeline
from zeropoint.errors import InvalidInputError

LABELS = {
    "fgcmMakeLut",
    "fgcmBuildStarsTable",
    "fgcmBuildFromIsolatedStars",
    "fgcmFitCycle",
    "fgcmOutputProducts",
}
#: Step -> what it runs on and what it makes, on what recalibrate.yaml makes and under the class defaults.
STEPS = {
    "fgcmLut": (
        set(),
        set(),
        {
            "fgcmLookUpTable",
            "fgcm_detector_throughputs",
            "fgcm_standard_atmosphere",
            "fgcm_standard_passband",
            "standard_passband",
        },
    ),
    "fgcmStars": (
        {"single_visit_star", "preliminary_visit_summary"},
        {"sourceTable_visit", "visitSummary"},
        {
            "fgcmVisitCatalog",
            "fgcmStarObservations",
            "fgcmStarIds",
            "fgcmStarIndices",
            "fgcmReferenceStars",
        },
    ),
    "fgcmIsolatedStars": (
        {"isolated_star_association", "isolated_star", "preliminary_visit_summary"},
        {"isolated_star_presource_associations", "isolated_star_presources", "visitSummary"},
        {"fgcmVisitCatalog", "fgcm_star_observations", "fgcm_star_ids", "fgcm_reference_stars"},
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    content = card(
        bands={"test_z": "z", "test_g": "g", "test_i": "i", "odd": "X"},
        config={
            "fgcmBuildStarsTable:minPerBand": 4,
            "associateIsolatedStar:match_radius": 2.0,
            "fgcmMakeLut:parameters.pwvStd": 5.0,
        },
    )
    return write_pipeline(root, content).parent


@pytest.fixture(scope="module")
def tasks(folder: Path) -> dict[bool, Any]:
    """Whether under the class defaults of names -> tasks by label."""
    names = {False: "fgcm.yaml", True: "fgcm_legacy.yaml"}
    return {legacy: Pipeline.from_uri(str(folder / name)).to_graph().tasks for legacy, name in names.items()}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("legacy", [False, True])
def test_each_step_reads_and_makes_what_its_names_say(
    folder: Path, tasks: dict[bool, Any], step: str, legacy: bool
) -> None:
    (label,) = Pipeline.from_uri(str(folder / "fgcm.yaml")).subsets[step]
    task = tasks[legacy][label]
    assert {edge.parent_dataset_type_name for edge in task.inputs.values()} == STEPS[step][legacy]
    assert {edge.parent_dataset_type_name for edge in task.outputs.values()} == STEPS[step][2]
    found = {edge.parent_dataset_type_name for edge in task.prerequisite_inputs.values()}
    if label == "fgcmMakeLut":
        assert found == {"camera", "transmission_optics", "transmission_sensor", "transmission_filter"}
    else:
        assert found == {"camera", "fgcmLookUpTable", "cal_ref_cat"}


def test_the_card_says_filters_bands_and_site(tasks: dict[bool, Any]) -> None:
    assert set(tasks[False]) == LABELS
    lut, stars, isolated = (
        tasks[False][label].config
        for label in ("fgcmMakeLut", "fgcmBuildStarsTable", "fgcmBuildFromIsolatedStars")
    )
    fit = tasks[False]["fgcmFitCycle"].config
    assert list(fit.bands) == list(fit.fitBands) == ["g", "i", "z", "X"]
    assert (fit.latitude, fit.utBoundary) == (-30.0, 0.306)
    assert set(fit.expGrayPhotometricCutDict) == set(fit.sedterms.data) == set(fit.bands)
    assert list(lut.physicalFilters) == ["test_g", "test_i", "test_z", "odd"]
    assert (lut.parameters.elevation, lut.parameters.airmassStd) == (2000.0, 1.2)
    assert lut.parameters.pmbRange[0] < lut.parameters.pmbStd < lut.parameters.pmbRange[1]
    for config in (stars, isolated):
        assert dict(config.physicalFilterMap) == {"test_z": "z", "test_g": "g", "test_i": "i", "odd": "X"}
        assert dict(config.fgcmLoadReferenceCatalog.filterMap) == dict(config.physicalFilterMap)
    assert list(stars.primaryBands) == ["i", "z", "g", "X"]
    # what the card says of single tasks comes last
    assert (stars.minPerBand, lut.parameters.pwvStd) == (4, 5.0)


@pytest.mark.parametrize("legacy", [False, True])
def test_the_products_are_of_the_last_cycle_of_the_fit(tasks: dict[bool, Any], legacy: bool) -> None:
    fit, products = (tasks[legacy][label] for label in ("fgcmFitCycle", "fgcmOutputProducts"))
    made = {edge.parent_dataset_type_name for edge in fit.outputs.values()}
    read = {edge.parent_dataset_type_name for edge in products.inputs.values()}
    assert read - made == {"skyMap", "fgcmVisitCatalog"}
    stars = {edge.parent_dataset_type_name for edge in fit.inputs.values()} - {"fgcmVisitCatalog"}
    star_list = tasks[legacy]["fgcmBuildStarsTable" if legacy else "fgcmBuildFromIsolatedStars"]
    assert stars <= {edge.parent_dataset_type_name for edge in star_list.outputs.values()}


def test_one_pipeline_goes_from_images_to_stars_on_the_scale_of_the_survey(folder: Path) -> None:
    graph = Pipeline.from_uri(str(folder / "global.yaml")).to_graph()
    order = list(graph.tasks)
    steps = [
        "associateIsolatedStar",
        "fgcmBuildFromIsolatedStars",
        "fgcmFitCycle",
        "fgcmOutputProducts",
        "updateVisitSummary",
        "consolidateRecalibratedStar",
    ]
    assert [label for label in order if label in steps] == steps
    inputs = {edge.parent_dataset_type_name for edge in graph.tasks["updateVisitSummary"].inputs.values()}
    assert "fgcmPhotoCalibCatalog" in inputs
    assert graph.tasks["associateIsolatedStar"].config.match_radius == 2.0
    assert list(graph.tasks["fgcmFitCycle"].config.bands) == ["g", "i", "z", "X"]


def test_overrides_go_to_the_pipeline_that_has_the_task(folder: Path) -> None:
    assert "match_radius" in (folder / "recalibrate.yaml").read_text()
    assert "minPerBand" not in (folder / "recalibrate.yaml").read_text()
    assert "match_radius" not in (folder / "fgcm.yaml").read_text()
    wrong = card(config={"fgcmBuildStar:minPerBand": 4})
    for text in (fgcm_text, recalibrate_text):
        with pytest.raises(
            InvalidInputError, match=r"no task 'fgcmBuildStar'\. Did you mean fgcmBuildStarsTable"
        ):
            text(wrong)
    with pytest.raises(InvalidInputError, match="minPerBnd"):
        fgcm_text(card(config={"fgcmBuildStarsTable:minPerBnd": 4}))


def test_a_card_without_elevation_or_bands_leaves_them_to_the_user() -> None:
    text = fgcm_text(card(bands=None, observatory=None))
    assert "tasks:" not in text


def test_the_look_up_table_cannot_be_made_in_the_same_run(folder: Path) -> None:
    graph = Pipeline.from_uri(f"{folder / 'fgcm.yaml'}#fgcmMakeLut,fgcmBuildStarsTable").to_graph()
    with pytest.raises(ConnectionTypeConsistencyError):
        graph.resolve(dimensions=DimensionUniverse(), dataset_types={})


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("transmission_optics", "ingest-throughputs"),
        ("fgcmLookUpTable", "run fgcmMakeLut by itself first"),
        ("fgcm_Cycle1_FitParameters", "run that cycle of fgcmFitCycle first"),
        ("x", ""),
    ],
)
def test_what_is_missing_is_said_with_how_to_get_it(name: str, advice: str) -> None:
    complaint = (
        f"Not enough datasets (0) found for non-optional connection label.some ({name}) with minimum=1"
    )
    assert advice in what_to_do(complaint)
    assert bool(what_to_do(complaint)) == bool(advice)
