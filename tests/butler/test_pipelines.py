from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from lsst.pipe.base import Pipeline

from butler.frames import card
from zeropoint.butler.pipelines import pipeline_text, write_pipeline
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import BUILTIN_CARDS, load_card
from zeropoint.recipes.calibrate_image.config import CalibrateImageConfig
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
