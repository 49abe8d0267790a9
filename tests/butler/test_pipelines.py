from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import lsst.pex.config as pexConfig
import pytest
from lsst.pipe.base import Pipeline

from butler.frames import card
from zeropoint.butler.pipelines import legacy_pipeline_text, pipeline_text, write_pipeline
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import BUILTIN_CARDS, load_card
from zeropoint.recipes.calibrate import CalibrateConfig
from zeropoint.recipes.calibrate_image.config import CalibrateImageConfig
from zeropoint.recipes.characterize_image import CharacterizeImageConfig
from zeropoint.recipes.legacy_names import legacy_fields
from zeropoint.recipes.session import build_config

CAMERAS = [name for name in BUILTIN_CARDS if name != "generic"]


def config_of(path: Path) -> Any:
    return Pipeline.fromFile(str(path)).to_graph().tasks["calibrateImage"].config


def recipe_fields(config: Any) -> dict[str, Any]:
    """The part of a configuration that command line and task share; the task has outputs of its own."""
    shared = set(CalibrateImageConfig._fields) - {"optional_outputs"}
    return {name: value for name, value in config.toDict().items() if name in shared}


@pytest.mark.parametrize("name", CAMERAS)
def test_shipped_pipelines_are_those_of_the_cards(name: str) -> None:
    shipped = resources.files("zeropoint.tasks") / "pipelines" / f"{name}.yaml"
    assert shipped.read_text() == pipeline_text(load_card(name))


@pytest.mark.parametrize(
    "content",
    [
        load_card("sdss"),
        card(
            first_look=True,
            config={
                "astrometry.wcsFitter": "FitTanSipWcsTask",
                "astrometry.wcsFitter.numIter": 2,
                'psf_measure_psf.starSelector["objectSize"].widthMin': 1,
                "psf_measure_psf.psfDeterminer": "piff",
                "photometry.match.matchRadius": 2,
                "psf_detection.thresholdValue": 8.0,
                "photometry_ref_loader.filterMap": {"r": "phot_g_mean"},
            },
        ),
        card(),
    ],
    ids=["sdss", "every kind of field", "nothing"],
)
def test_the_task_is_configured_as_the_command_line(tmp_path: Path, content: Any) -> None:
    path = write_pipeline(tmp_path, content)
    assert path == tmp_path / "pipelines" / content.get("instrument") / "calibrate.yaml"
    expected = recipe_fields(build_config(content))
    assert recipe_fields(config_of(path)) == expected
    assert Pipeline.fromFile(str(path)).getInstrument().endswith(content.get("instrument"))


def test_a_card_with_a_wrong_field_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="Did you mean 'psf_measure_psf'"):
        write_pipeline(tmp_path, card(config={"psf_measure.x": 1}))
    contradiction = {"astrometry_ref_loader.filterMap": {"r": "g"}}
    with pytest.raises(InvalidInputError, match="exclude each other"):
        write_pipeline(tmp_path, card(config=contradiction))
    assert not (tmp_path / "pipelines").exists()


# -- the older pair --------------------------------------------------------------------------------------------


def pair_of(path: Path) -> tuple[Any, Any]:
    """Return the configurations of the two tasks."""
    tasks = Pipeline.fromFile(str(path)).to_graph().tasks
    return tasks["characterizeImage"].config, tasks["calibrate"].config


def test_the_older_pair_is_configured_by_the_card_too(tmp_path: Path) -> None:
    content = card(
        first_look=True,
        config={
            "astrometry.wcsFitter": "FitAffineWcsTask",
            "astrometry.maxMeanDistanceArcsec": 0.2,
            'psf_measure_psf.starSelector["objectSize"].widthMin': 1,
            "psf_detection.thresholdValue": 8.0,
            "star_detection.thresholdValue": 6.0,
            "photometry_ref_loader.filterMap": {"r": "phot_g_mean"},
        },
    )
    write_pipeline(tmp_path, content)
    first, second = pair_of(tmp_path / "pipelines" / content.get("instrument") / "legacy.yaml")
    assert first.do_first_look
    assert second.do_first_look
    assert first.detection.thresholdValue == 8.0
    assert first.measurePsf.starSelector["objectSize"].widthMin == 1.0
    assert second.detection.thresholdValue == 6.0
    assert second.astrometry.wcsFitter.target.__name__ == "FitAffineWcs"
    assert second.photoRefObjLoader.filterMap == {"r": "phot_g_mean"}
    # what the card says is not derived from the image
    assert list(first.derived_fields_keep) == ['measurePsf.starSelector["objectSize"].widthMin']
    assert list(second.derived_fields_keep) == ["astrometry.maxMeanDistanceArcsec"]


def test_fields_that_the_older_pair_lacks_become_comments() -> None:
    content = card(config={"star_background_min_footprints": 4, "do_adaptive_threshold_detection": False})
    text = legacy_pipeline_text(content)
    assert "# left out, as the pair has no such step: star_background_min_footprints\n" in text
    assert "tasks:" not in text


@pytest.mark.parametrize(
    "name", ["sdss", *(pytest.param(name, marks=pytest.mark.slow) for name in CAMERAS if name != "sdss")]
)
def test_the_older_pair_runs_with_every_shipped_card(tmp_path: Path, name: str) -> None:
    content = load_card(name)
    write_pipeline(tmp_path, content)
    path = tmp_path / "pipelines" / content.get("instrument") / "legacy.yaml"
    assert "left out" not in path.read_text()
    for config in pair_of(path):
        config.validate()


def test_every_step_of_calibrate_image_has_a_place_in_the_pair_or_none() -> None:
    """The table names real fields on both sides."""
    configs = {"characterizeImage": CharacterizeImageConfig(), "calibrate": CalibrateConfig()}
    steps = set()
    for name, field in CalibrateImageConfig._fields.items():
        places = legacy_fields(name)
        if not places and isinstance(field, pexConfig.ConfigurableField):
            steps.add(name)
        for task, there in places:
            assert there in configs[task]._fields, (name, task)
    assert steps == {
        "compute_shapelet_decomposition",
        "psf_adaptive_threshold_detection",
        "snap_combine",
        "star_background",
    }
