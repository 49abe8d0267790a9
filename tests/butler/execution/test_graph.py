"""From request to graph: what cannot be run is said in a sentence, the instrument is found."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from butler.execution.conftest import Mock
from butler.execution.mock_repository import make_repository
from zeropoint.butler.execution.graph import ConfigOverride, RunRequest, load_pipeline
from zeropoint.butler.execution.runner import run_pipeline
from zeropoint.errors import InvalidInputError, OptionError


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Mock:
    """A repository of two instruments."""
    root = tmp_path_factory.mktemp("two") / "repo"
    make_repository(root, 1, "OtherCam")
    return Mock(root, make_repository(root, 1))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mesure:scale=1", r"-c mesure:scale=1: the pipeline has no task 'mesure'; did you mean measure\?"),
        ("measure:skale=1", "-c measure:skale=1: cannot be applied: .*Did you mean 'scale'"),
        ("measure:scale=abc", "-c measure:scale=abc: cannot be applied: .*abc"),
    ],
)
def test_an_override_that_cannot_be_applied_is_named_as_wrong_usage(
    mock: Mock, override: str, message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        load_pipeline(mock.request("x", "", "measure:seconds=1", override, "mean:saveLogOutput=True"))


def test_a_pipeline_that_is_wrong_itself_is_not_blamed_on_an_override(mock: Mock, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(
        "description: w\ntasks:\n  measure:\n    class: butler.execution.quantum_tasks.MeasureTask\n"
        "    config: {skale: 1}\n"
    )
    with pytest.raises(InvalidInputError, match=r"wrong.yaml: cannot be configured: .*skale") as caught:
        load_pipeline(mock.request("x", "", "measure:scale=1", pipeline=str(path)))
    assert not isinstance(caught.value, OptionError)


def test_a_field_that_must_be_set_is_named_and_no_override_blamed() -> None:
    pipeline = f"{resources.files('zeropoint.tasks')}/pipelines/fgcm.yaml#fgcmMakeLut"
    given = ConfigOverride("fgcmMakeLut", "physicalFilters", "['g']")
    with pytest.raises(OptionError) as caught:
        load_pipeline(RunRequest("repo", pipeline, overrides=(given,)))
    assert str(caught.value) == (
        "fgcmMakeLut: parameters.elevation must be set, as with -c fgcmMakeLut:parameters.elevation=VALUE."
    )


def test_overrides_are_applied_in_their_order(mock: Mock, tmp_path: Path) -> None:
    file = tmp_path / "scale.py"
    file.write_text("config.scale = 7.0\n")
    field, by_file = ConfigOverride("measure", "scale", "5"), ConfigOverride("measure", "", str(file))
    for overrides, expected in (((field, by_file), 7.0), ((by_file, field), 5.0)):
        request = RunRequest(str(mock.root), mock.pipeline, overrides=overrides)
        assert load_pipeline(request).tasks["measure"].config.scale == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repository": "/nowhere"}, "/nowhere: no such repository"),
        ({"pipeline": "/nowhere.yaml"}, "/nowhere.yaml: no such pipeline"),
        ({"inputs": ("Mock/defaults",)}, "Mock/defaults"),
        ({"inputs": ()}, "is a new collection, so inputs are needed"),
        (
            {"data_query": "exposure = 99"},
            "no raw_numbers fits -d .*exposure = 99",
        ),
        ({"data_query": "exposur = 1"}, "no graph for -d 'exposur = 1': .*exposur"),
        ({"data_query": "exposure ="}, "no graph for -d 'exposure ='"),
        ({"skip_existing_in": ("none",)}, "--skip-existing-in none: no such collection"),
        ({"pipeline": "", "graph": "/nowhere.qg"}, "/nowhere.qg: no such graph file"),
    ],
)
def test_a_request_that_cannot_be_carried_out_leaves_the_repository_as_it_was(
    mock: Mock, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        run_pipeline(mock.request("wrong", "", **options))
    with mock.open() as butler:
        assert not butler.collections.query_info("wrong*")


def test_the_instrument_is_found_from_the_inputs(two: Mock) -> None:
    report = two.run("found", "exposure = 1 AND detector = 0", pipeline=f"{two.pipeline}#measure")
    assert report.n_quanta == 1
    with two.open() as butler:
        (ref,) = butler.query_datasets("mock_stars", collections="found", instrument="MockCam")
        assert ref.dataId["instrument"] == "MockCam"


def test_a_query_that_fits_two_instruments_is_refused(two: Mock) -> None:
    inputs = ("MockCam/defaults", "OtherCam/defaults")
    with pytest.raises(InvalidInputError, match="images of MockCam, OtherCam: say which"):
        two.run("both", "exposure = 1", inputs=inputs)


def test_other_inputs_than_those_of_an_existing_chain_need_rebase(two: Mock) -> None:
    with two.open() as butler:
        assert butler.collections.get_info("found").children
    with pytest.raises(InvalidInputError, match="--rebase"):
        two.run("found", "instrument='OtherCam'", inputs=("OtherCam/defaults",))
