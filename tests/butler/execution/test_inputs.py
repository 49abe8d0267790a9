"""Inputs that do not fit the pipeline: one sentence says what there is, and what to type."""

from __future__ import annotations

import logging
from pathlib import Path

import lsst.pipe.base.connectionTypes as cT
import pytest
from astropy.table import Table
from lsst.daf.butler import CollectionType, DatasetType
from lsst.pipe.base import PipelineTask, PipelineTaskConfig, PipelineTaskConnections, Struct

from butler.execution.conftest import Mock
from butler.execution.mock_repository import make_repository
from butler.execution.quantum_tasks import DETECTOR
from zeropoint.butler.repository import open_repository
from zeropoint.errors import InvalidInputError, OptionError


class MatchConnections(PipelineTaskConnections, dimensions=DETECTOR):
    numbers = cT.Input(name="raw_numbers", storageClass="ArrowAstropy", dimensions=DETECTOR, doc="input")
    references = cT.PrerequisiteInput(
        name="gaia",
        storageClass="ArrowAstropy",
        dimensions=("skypix",),
        multiple=True,
        minimum=0,
        doc="references",
    )
    matches = cT.Output(name="mock_matches", storageClass="ArrowAstropy", dimensions=DETECTOR, doc="output")


class MatchConfig(PipelineTaskConfig, pipelineConnections=MatchConnections):
    pass


class MatchTask(PipelineTask):
    ConfigClass = MatchConfig
    _DefaultName = "match"


class SkyConnections(PipelineTaskConnections, dimensions=(*DETECTOR, "skymap")):
    numbers = cT.Input(name="raw_numbers", storageClass="ArrowAstropy", dimensions=DETECTOR, doc="input")
    sky_map = cT.Input(name="skyMap", storageClass="StructuredDataDict", dimensions=("skymap",), doc="map")
    tile = cT.Output(
        name="mock_tile", storageClass="StructuredDataDict", dimensions=(*DETECTOR, "skymap"), doc="output"
    )


class SkyConfig(PipelineTaskConfig, pipelineConnections=SkyConnections):
    pass


class SkyTask(PipelineTask):
    ConfigClass = SkyConfig
    _DefaultName = "sky"

    def run(self, numbers: Table, sky_map: dict[str, str]) -> Struct:
        return Struct(tile={"map": sky_map["name"]})


class OtherCam:
    """As much of an instrument as a pipeline needs."""

    @classmethod
    def getName(cls) -> str:
        return "OtherCam"

    def applyConfigOverrides(self, name: str, config: object) -> None:
        pass


class UnknownCam(OtherCam):
    @classmethod
    def getName(cls) -> str:
        return "UnknownCam"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Mock:
    """A repository of two instruments without a reference catalogue."""
    root = tmp_path_factory.mktemp("inputs") / "repo"
    make_repository(root, 1, "OtherCam")
    return Mock(root, make_repository(root, 1))


@pytest.fixture
def matching(two: Mock) -> str:
    path = two.root / "match.yaml"
    path.write_text("description: m\ntasks:\n  match: butler.execution.test_inputs.MatchTask\n")
    return str(path)


def _say(mock: Mock, **options: object) -> str:
    with pytest.raises(InvalidInputError) as caught:
        mock.run("unmade", **options)
    return str(caught.value)


def test_a_missing_reference_catalogue_is_named_with_those_there_are(two: Mock, matching: str) -> None:
    message = _say(two, pipeline=matching)
    assert message.startswith("no reference catalogue 'gaia' in this repository, nor any other; ingest one")
    with open_repository(two.root, writeable=True) as butler:
        for name in ("apass", "oddgaia"):
            kind = DatasetType(name, ("htm7",), "ArrowAstropy", universe=butler.dimensions)
            butler.registry.registerDatasetType(kind)
            butler.collections.register(f"refcats/{name}", CollectionType.RUN)
            butler.put(Table({"id": [1]}), kind, htm7=200000, run=f"refcats/{name}")
    message = _say(two, pipeline=matching)
    assert message.startswith("no reference catalogue 'gaia' in this repository (there are apass, oddgaia);")
    assert "name one with -c match:connections.references=oddgaia, or ingest it" in message


def test_a_reference_catalogue_outside_the_inputs_is_to_be_added(two: Mock, matching: str) -> None:
    with open_repository(two.root, writeable=True) as butler:
        kind = DatasetType("gaia", ("htm7",), "ArrowAstropy", universe=butler.dimensions)
        butler.registry.registerDatasetType(kind)
        butler.collections.register("refcats/gaia", CollectionType.RUN)
        butler.put(Table({"id": [1]}), kind, htm7=200000, run="refcats/gaia")
    assert _say(two, pipeline=matching).endswith("not in the input collections: add refcats/gaia to -i.")


@pytest.mark.parametrize("name", ["OtherCam", "UnknownCam"])
def test_a_pipeline_of_another_instrument_is_said_to_be_one(two: Mock, tmp_path: Path, name: str) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(
        f"description: o\ninstrument: butler.execution.test_inputs.{name}\nimports:\n  - location: {two.pipeline}\n"
    )
    message = _say(two, pipeline=str(path))
    assert message == f"nothing to run: the pipeline is for {name}, the inputs hold images of MockCam."


def test_where_no_data_fit_only_inputs_that_hold_the_data_are_named(
    two: Mock, caplog: pytest.LogCaptureFixture
) -> None:
    with open_repository(two.root, writeable=True) as butler:
        butler.collections.register("empty", CollectionType.RUN)
    inputs = ("empty", "MockCam/defaults")
    assert two.run("x", "exposure = 1", inputs=inputs).exit_code == 0
    with caplog.at_level(logging.WARNING):
        message = _say(two, data_query="exposure = 9", inputs=inputs)
    assert message.startswith(
        "nothing to run: no raw_numbers fits -d \"instrument = 'MockCam' AND (exposure = 9)\"; `"
    )
    assert message.endswith("raw_numbers --collections MockCam/defaults` lists what there is.")
    assert not any("no rows" in text or "doomed" in text for text in caplog.messages)


def test_the_sky_map_is_found_where_there_is_one_and_asked_for_where_there_are_several(two: Mock) -> None:
    path = two.root / "sky.yaml"
    path.write_text("description: s\ntasks:\n  sky: butler.execution.test_inputs.SkyTask\n")
    query, pipeline = "instrument = 'MockCam' AND exposure = 1 AND detector = 0", str(path)
    with open_repository(two.root, writeable=True) as butler:
        kind = DatasetType("skyMap", ("skymap",), "StructuredDataDict", universe=butler.dimensions)
        butler.registry.registerDatasetType(kind)
    message = _say(two, pipeline=pipeline, data_query=query)
    assert message == (
        "nothing to run: there is no skyMap in the input collections; make one with `zeropoint make-skymap`, or add skymaps "
        "to -i."
    )
    for n, name in enumerate(("first", "second")):
        with open_repository(two.root, writeable=True) as butler:
            record = {"name": name, "hash": bytes([n]), "tract_max": 1, "patch_nx_max": 1, "patch_ny_max": 1}
            butler.registry.syncDimensionData("skymap", record)
            butler.collections.register(f"skymaps/{name}", CollectionType.RUN)
            butler.put({"name": name}, "skyMap", skymap=name, run=f"skymaps/{name}")
    inputs = ("MockCam/defaults", "skymaps/first")
    assert two.run("mapped", query, pipeline=pipeline, inputs=inputs).exit_code == 0
    with open_repository(two.root) as butler:
        (ref,) = butler.query_datasets("mock_tile", "mapped")
    assert ref.dataId["skymap"] == "first"
    wrong = _say(two, pipeline=pipeline, data_query=f"{query} AND skymap='frist'", inputs=inputs)
    assert wrong == (
        "there is no sky map 'frist' in this repository; there are first, second; did you mean 'first'?"
    )
    # the type that lacks is named, not the one that is there
    message = _say(two, pipeline=pipeline, data_query=query.replace("= 1", "= 9"), inputs=inputs)
    assert message.startswith("nothing to run: no raw_numbers fits -d ")
    message = _say(two, pipeline=pipeline, data_query=query, inputs=(*inputs, "skymaps/second"))
    assert message == (
        "the inputs hold the sky maps first, second: say which in the data query, as in "
        f"-d \"skymap='first' AND {query}\"."
    )


def test_an_unknown_label_or_subset_is_an_error_of_the_option(two: Mock) -> None:
    for part, hint in (
        ("mesure", "'mesure'; did you mean measure?"),
        ("measure,xyz", "'xyz'; there are detectors, measure, mean."),
    ):
        with pytest.raises(OptionError) as caught:
            two.run("x", pipeline=f"{two.pipeline}#{part}")
        assert str(caught.value) == f"-p mock.yaml#{part}: no task or subset is called {hint}"
