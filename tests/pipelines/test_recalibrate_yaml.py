"""The pipeline from post-ISR images to the visit summary: names of datasets, order of tasks, subsets, cards."""

from __future__ import annotations

from typing import Any

import pytest
from lsst.pipe.base import LabelSpecifier, Pipeline
from lsst.pipe.base.pipeline_graph import PipelineGraph

from butler.frames import card
from zeropoint.butler.pipelines import recalibrate_text
from zeropoint.errors import InvalidInputError

PIPELINE = "resource://zeropoint.tasks/pipelines/recalibrate.yaml"
#: Rubin's production names: label -> inputs, outputs.
FLOW = {
    "calibrateImage": (
        {"post_isr_image"},
        {
            "preliminary_visit_image",
            "preliminary_visit_mask",
            "preliminary_visit_image_background",
            "single_visit_psf_star",
            "single_visit_psf_star_footprints",
            "single_visit_star_footprints",
            "single_visit_star_unstandardized",
        },
    ),
    "standardizeSingleVisitStar": ({"single_visit_star_unstandardized"}, {"single_visit_star_detector"}),
    "consolidateSingleVisitStar": ({"single_visit_star_detector"}, {"single_visit_star"}),
    "consolidateVisitSummary": (
        {"preliminary_visit_image"},
        {"preliminary_visit_summary", "visit_geometry"},
    ),
    "associateIsolatedStar": (
        {"single_visit_star", "skyMap"},
        {"isolated_star", "isolated_star_association"},
    ),
    "makeInitialVisitDetectorTable": ({"preliminary_visit_summary"}, {"preliminary_visit_detector_table"}),
    "makeInitialVisitTable": ({"preliminary_visit_summary"}, {"preliminary_visit_table"}),
    "refitPsfModelDetector": (
        {
            "isolated_star",
            "isolated_star_association",
            "preliminary_visit_image",
            "single_visit_star_unstandardized",
            "single_visit_star_footprints",
        },
        {"refit_psf_models_detector", "refit_psf_star_detector"},
    ),
    "consolidateRefitPsfModelDetector": (
        {"refit_psf_models_detector", "refit_psf_star_detector"},
        {"refit_psf_models", "refit_psf_star"},
    ),
    "updateVisitSummary": (
        {"preliminary_visit_summary", "preliminary_visit_image", "refit_psf_models", "refit_psf_star"},
        {"visit_summary"},
    ),
    "recalibrateSingleVisitStar": (
        {"single_visit_star_unstandardized", "visit_summary"},
        {"recalibrated_star_unstandardized"},
    ),
    "standardizeRecalibratedStar": ({"recalibrated_star_unstandardized"}, {"recalibrated_star_detector"}),
    "consolidateRecalibratedStar": ({"recalibrated_star_detector"}, {"recalibrated_star"}),
    "makeVisitDetectorTable": ({"visit_summary"}, {"visit_detector_table"}),
    "makeVisitTable": ({"visit_summary"}, {"visit_table"}),
}
#: What a step is done for, as Rubin's production splits it.
STEPS = {
    "step1a-single-visit-detectors": {"instrument", "visit", "detector"},
    "step1b-single-visit-visits": {"instrument", "visit"},
    "step1c-single-visit-tracts": {"instrument", "tract", "skymap"},
    "step1d-single-visit-global": {"instrument"},
    "step2d-recalibrate-visits": {"instrument", "visit"},
    "step2f-recalibrate-global": {"instrument"},
}


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.from_uri(PIPELINE)


@pytest.fixture(scope="module")
def graph(pipeline: Pipeline) -> PipelineGraph:
    return pipeline.to_graph()


@pytest.mark.parametrize("label", FLOW)
def test_every_task_reads_and_writes_what_rubins_does(graph: PipelineGraph, label: str) -> None:
    inputs, outputs = FLOW[label]
    task = graph.tasks[label]
    ours = {
        # kept beside the image where Rubin's image holds them, or for images that failed
        "initial_photoCalib_detector",
        "initial_astrometry_match_detector",
        "initial_photometry_match_detector",
        "preliminary_visit_image_partial",
    }
    assert {edge.parent_dataset_type_name for edge in task.inputs.values()} == inputs
    assert {edge.parent_dataset_type_name for edge in task.outputs.values()} - ours == outputs


def test_there_is_no_other_task_and_one_flow_from_images_to_tables(graph: PipelineGraph) -> None:
    assert set(graph.tasks) == set(FLOW)
    read = {edge.parent_dataset_type_name for task in graph.tasks.values() for edge in task.inputs.values()}
    made = {edge.parent_dataset_type_name for task in graph.tasks.values() for edge in task.outputs.values()}
    assert read - made == {"post_isr_image", "skyMap"}
    # nothing before the associations waits for them, and nothing after them is done without
    order = list(graph.tasks)
    assert order.index("associateIsolatedStar") < order.index("refitPsfModelDetector")
    assert order.index("updateVisitSummary") < order.index("recalibrateSingleVisitStar")


def test_steps_and_stages_hold_every_task_once(pipeline: Pipeline, graph: PipelineGraph) -> None:
    steps = [label for name in STEPS for label in pipeline.subsets[name]]
    assert sorted(steps) == sorted(FLOW)
    stages = [pipeline.subsets[name] for name in ("stage1-single-visit", "stage2-recalibrate")]
    assert stages[0] | stages[1] == set(FLOW)
    assert not stages[0] & stages[1]
    for name, dimensions in STEPS.items():
        for label in pipeline.subsets[name]:
            # a step for visits may hold tasks for their detectors
            assert graph.tasks[label].raw_dimensions - {"detector", "skymap"} == (
                dimensions - {"detector", "skymap"}
            ), label


@pytest.mark.parametrize("part", ["single_frame", "stage2-recalibrate", "step1c-single-visit-tracts"])
def test_a_part_can_be_run_alone(part: str) -> None:
    assert set(Pipeline.from_uri(f"{PIPELINE}#{part}").task_labels) < set(FLOW)


def test_with_the_older_pair_all_names_are_class_defaults() -> None:
    pipeline = Pipeline.from_uri(PIPELINE.replace("recalibrate", "recalibrate_legacy"))
    graph = pipeline.to_graph()
    read = {edge.parent_dataset_type_name for task in graph.tasks.values() for edge in task.inputs.values()}
    made = {edge.parent_dataset_type_name for task in graph.tasks.values() for edge in task.outputs.values()}
    assert read - made == {"post_isr_image", "skyMap"}
    assert made >= {
        *("src", "calexp", "preSourceTable_visit", "visitSummary", "isolated_star_presources"),
        *("isolated_star_presource_associations", "finalized_psf_ap_corr_detector_catalog"),
        *("finalized_src_detector_table", "finalized_psf_ap_corr_catalog", "finalized_src_table"),
        *("finalVisitSummary", "source", "sourceTable", "sourceTable_visit", "ccdVisitTable", "visitTable"),
    }
    subsets = [pipeline.subsets[name] for name in ("singleFrame", "visitTables", "recalibrate")]
    assert sorted(label for labels in subsets for label in labels) == sorted(graph.tasks)


# -- cards ---------------------------------------------------------------------------------------------------------


def configs_of(content: Any, *labels: str) -> dict[str, Any]:
    pipeline = Pipeline.fromString(recalibrate_text(content))
    graph = pipeline.subsetFromLabels(LabelSpecifier(labels=set(labels))).to_graph()
    return {label: task.config for label, task in graph.tasks.items()}


def bands_of(content: Any) -> list[str]:
    return list(configs_of(content, "associateIsolatedStar")["associateIsolatedStar"].band_order)


def test_a_card_addresses_other_tasks_by_their_labels() -> None:
    content = card(
        config={
            "psf_detection.thresholdValue": 8.0,
            "calibrateImage:star_detection.thresholdValue": 6.0,
            "associateIsolatedStar:match_radius": 3,
            "associateIsolatedStar:isolation_radius": 6.0,
            'refitPsfModelDetector:psf_determiner["piff"].spatialOrder': 1,
        }
    )
    configs = configs_of(content, "calibrateImage", "associateIsolatedStar", "refitPsfModelDetector")
    assert configs["associateIsolatedStar"].match_radius == 3.0
    assert configs["refitPsfModelDetector"].psf_determiner["piff"].spatialOrder == 1
    assert configs["calibrateImage"].psf_detection.thresholdValue == 8.0
    assert configs["calibrateImage"].star_detection.thresholdValue == 6.0


def test_bands_that_association_does_not_know_come_after_those_it_does() -> None:
    content = card(bands={"Clear": "VT", "gg": "g", "ii": "i"})
    assert bands_of(content) == ["i", "g", "VT"]
    content = card(bands={"Clear": "VT"}, config={"associateIsolatedStar:band_order": ["B", "VT"]})
    assert bands_of(content) == ["B", "VT"]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            "associateIsolatedStars:match_radius",
            "no task 'associateIsolatedStars'. Did you mean associateIsolatedStar?",
        ),
        ("associateIsolatedStar:match_radios", "match_radios"),
    ],
)
def test_a_card_that_addresses_what_is_not_there_is_refused(field: str, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        recalibrate_text(card(config={field: 3.0}))
    assert message in str(caught.value)
