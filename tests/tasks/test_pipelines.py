"""Every shipped pipeline can be built, and its graph of tasks and dataset types is the documented one."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from lsst.pipe.base import Pipeline
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

from zeropoint.butler.instruments import class_name
from zeropoint.butler.pipelines import pipeline_text
from zeropoint.cli import main
from zeropoint.instruments.card import BUILTIN_CARDS, load_card
from zeropoint.recipes.overrides import changed_fields
from zeropoint.recipes.session import build_config

FOLDER = Path(str(resources.files("zeropoint.tasks") / "pipelines"))
#: Each has tests of its own.
OTHERS = (
    "fgcm.yaml",
    "fgcm_legacy.yaml",
    "global.yaml",
    "legacy.yaml",
    "recalibrate.yaml",
    "recalibrate_legacy.yaml",
)
ALL = sorted(path for path in FOLDER.rglob("*.yaml") if path.name not in OTHERS)
LEGACY = sorted(FOLDER.rglob("legacy.yaml"))
CAMERAS = [name for name in BUILTIN_CARDS if isinstance(load_card(name).get("instrument"), str)]


def documented_names(task: str) -> set[str]:
    """Return the production names of a task's table of connections in ``docs/datasets.md``."""
    text = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
    names = set()
    for line in text.split(f"## {task}")[1].split("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 9 and cells[0].startswith("`"):
            own = re.match(r"`(\w+)`", cells[2])
            names.add(own[1] if own else re.match(r"`(\w+)`", cells[1])[1])
    return names


@pytest.mark.parametrize("path", ALL, ids=[str(path.relative_to(FOLDER)) for path in ALL])
def test_every_pipeline_builds_with_the_documented_dataset_types(path: Path) -> None:
    pipeline = Pipeline.from_uri(str(path))
    for option in ("do_illumination_correction", "useButlerCamera"):
        pipeline.addConfigOverride("calibrateImage", option, True)
    for step in ("psf_subtract_background", "star_background"):
        pipeline.addConfigOverride("calibrateImage", f"{step}.doApplyFlatBackgroundRatio", True)
    graph = pipeline.to_graph()
    assert set(graph.tasks) == {"calibrateImage"}
    automatic = {f"calibrateImage_{kind}" for kind in ("config", "log", "metadata")}
    assert set(graph.dataset_types) - automatic - {"packages"} == documented_names("CalibrateImageTask")
    for subset in ("step1a-single-visit-detectors", "stage1-single-visit", "single_frame"):
        assert set(pipeline.subsets[subset]) == {"calibrateImage"}
    assert set(Pipeline.from_uri(f"{path}#single_frame").task_labels) == {"calibrateImage"}


@pytest.mark.parametrize("path", LEGACY, ids=[str(path.relative_to(FOLDER)) for path in LEGACY])
def test_the_older_pairs_pipelines_build_with_the_documented_dataset_types(path: Path) -> None:
    pipeline = Pipeline.from_uri(str(path))
    graph = pipeline.to_graph()
    labels = ["characterizeImage", "calibrate"]
    assert list(graph.tasks) == labels
    automatic = {f"{label}_{kind}" for kind in ("config", "log", "metadata") for label in labels}
    assert set(graph.dataset_types) - automatic - {"packages"} == (
        documented_names("CharacterizeImageTask") | documented_names("CalibrateTask")
    )
    assert set(pipeline.subsets["singleFrame"]) == set(labels)


def test_what_the_user_sets_is_not_derived_by_the_older_pair() -> None:
    pipeline = Pipeline.from_uri(str(FOLDER / "legacy.yaml"))
    pipeline.addConfigOverride("characterizeImage", "installSimplePsf.fwhm", 3.0)
    pipeline.addConfigOverride("calibrate", "photoCal.match.matchRadius", 2.0)
    kept = {label: list(task.config.derived_fields_keep) for label, task in pipeline.to_graph().tasks.items()}
    assert kept == {
        "characterizeImage": ["installSimplePsf.fwhm"],
        "calibrate": ["photoCal.match.matchRadius"],
    }


def test_there_is_one_for_every_camera_with_a_name() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == {
        "calibrate.yaml",
        *OTHERS,
        *(f"{name}.yaml" for name in CAMERAS),
    }


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_cameras_pipeline_says_what_its_card_says(camera: str) -> None:
    path, card = FOLDER / f"{camera}.yaml", load_card(camera)
    assert path.read_text() == pipeline_text(card)
    pipeline = Pipeline.from_uri(str(path))
    assert pipeline.getInstrument() == class_name(card.get("instrument"))
    config = pipeline.to_graph().tasks["calibrateImage"].config
    # the command line makes the same configuration of the card
    expected = build_config(card)
    shared = set(expected.toDict())
    found = {key: value for key, value in config.toDict().items() if key in shared}
    different = [entry for entry in changed_fields(_Plain(found), expected) if entry[0] != "optional_outputs"]
    assert not different


class _Plain:
    """A dict with the interface that `changed_fields` asks of a configuration."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def toDict(self) -> dict[str, Any]:
        return self._values


def test_the_shipped_values_are_those_of_the_command_line() -> None:
    config = Pipeline.from_uri(str(FOLDER / "calibrate.yaml")).to_graph().tasks["calibrateImage"].config
    assert config.star_measurement.plugins["base_CircularApertureFlux"].radii[-1] == 70.0
    assert not config.star_selector["science"].doUnresolved
    assert config.do_calibrate_pixels
    # the production values leave everything that follows from the image to be derived
    assert list(config.derived_fields_keep) == []
    assert not config.do_first_look


def test_what_the_user_sets_is_not_derived_from_the_image() -> None:
    pipeline = Pipeline.from_uri(str(FOLDER / "simcam.yaml"))
    pipeline.addConfigOverride("calibrateImage", "astrometry.maxMeanDistanceArcsec", 0.3)
    pipeline.addConfigPython(
        "calibrateImage", 'config.psf_measure_psf.starSelector["objectSize"].widthMin = 0.7'
    )
    config = pipeline.to_graph().tasks["calibrateImage"].config
    assert list(config.derived_fields_keep) == [
        "astrometry.maxMeanDistanceArcsec",
        'psf_measure_psf.starSelector["objectSize"].widthMin',
    ]


def test_a_graph_can_be_built_of_a_camera_pipeline(repository: Any, tmp_path: Path) -> None:
    path = tmp_path / "graph.qg"
    result = repository.pipetask(
        "--log-level", "ERROR", "qgraph", "-b", repository.path, "-p", FOLDER / "simcam.yaml#stage1-single-visit",
        "-i", "SimCam/defaults", "-o", "u/test/graph", "-d", "visit > 0", "-q", path,
        "-c", "calibrateImage:connections.astrometry_ref_cat=simulated",
        "-c", "calibrateImage:connections.photometry_ref_cat=simulated",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    with PredictedQuantumGraph.open(str(path)) as reader:
        reader.read_thin_graph()
        quanta = reader.finish().quanta_by_task["calibrateImage"]
    assert sorted(data_id["visit"] for data_id in quanta) == [101, 102, 103, 105]


def test_the_command_lists_them() -> None:
    result = CliRunner().invoke(main, ["pipelines"], catch_exceptions=False)
    assert result.exit_code == 0
    for path in FOLDER.glob("*.yaml"):
        assert str(path) in result.output
    assert (
        "  instrument: SDSS\n  labels: calibrateImage\n  subsets: step1a-single-visit-detectors"
        in result.output
    )
    paths = CliRunner().invoke(main, ["pipelines", "--paths"]).output.split()
    assert paths == [str(path) for path in sorted(FOLDER.glob("*.yaml"))]
