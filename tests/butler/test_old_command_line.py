"""The command lines of old on a repository: the same graph as today's, what is shown, and what is refused."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table
from lsst.daf.butler import Butler, DatasetType

from butler.frames import card
from zeropoint.butler.execution.graph import ConfigOverride, RunRequest, build_graph, load_pipeline
from zeropoint.butler.pipelines import write_pipeline
from zeropoint.butler.repository import open_repository
from zeropoint.cli.gen2.arguments import parse
from zeropoint.cli.gen2.commands import (
    BUILD_STARS_TABLE,
    FIT_CYCLE,
    MAKE_LUT,
    OUTPUT_PRODUCTS,
    run_old_command,
)
from zeropoint.cli.gen2.translate import OldTask, find_repository, translate
from zeropoint.errors import InvalidInputError, OptionError

VISITS = (1228, 1230, 1231, 1232, 1234)
LABEL = "fgcmBuildStarsTable"


@pytest.fixture(scope="module")
def repo(camera_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that no test changes."""
    root = tmp_path_factory.mktemp("old") / "REPO"
    shutil.copytree(camera_repository, root)
    write_pipeline(root, card())
    return root


@pytest.fixture(scope="module")
def survey(repo: Path) -> Iterator[Butler]:
    """Visits with (empty) tables in the collection ``tables``."""
    camera = {"instrument": "TestCam"}
    with open_repository(repo, writeable=True) as butler:
        detectors = [{**camera, "id": number, "full_name": str(number)} for number in range(4)]
        butler.registry.insertDimensionData("detector", *detectors)
        butler.registry.insertDimensionData("day_obs", {**camera, "id": 20200301})
        record = {**camera, "day_obs": 20200301, "physical_filter": "test_r", "target_name": "field"}
        visits = [{**record, "id": visit, "name": str(visit)} for visit in VISITS]
        butler.registry.insertDimensionData("visit", *visits)
        for name in ("sourceTable_visit", "visitSummary"):
            kind = DatasetType(name, ("instrument", "visit"), "ArrowAstropy", universe=butler.dimensions)
            butler.registry.registerDatasetType(kind)
        butler.collections.register("tables")
        with butler.transaction():
            empty = Table({"visit": np.zeros(0, np.int64)})
            for visit in VISITS:
                butler.put(empty, "sourceTable_visit", **camera, visit=visit, run="tables")
            butler.put(empty, "visitSummary", **camera, visit=VISITS[0], run="tables")
        yield butler


def quanta(butler: Butler, request: RunRequest) -> tuple[Any, list[tuple[int, ...]]]:
    """Return the configuration of the task, and the visits of each quantum."""
    pipeline = load_pipeline(request)
    search = tuple(butler.collections.query(request.inputs, flatten_chains=True))
    graph, _ = build_graph(butler, pipeline, request, search=search, run="u/x/run", skip_existing_in=())
    found = []
    for quantum in graph.quantum_datasets.values():
        assert quantum.task_label == LABEL
        refs = quantum.inputs["sourceTable_visit"]
        found.append(tuple(sorted(int(ref.data_coordinate[1]) for ref in refs)))
    return graph.pipeline_graph.tasks[LABEL].config.toDict(), found


def test_an_old_command_line_makes_the_graph_of_todays(survey: Butler, repo: Path) -> None:
    line = (
        f"{repo} --rerun tables:u/x --id visit=1228^1230..1240:2 ccd=0..3 "
        "-c doReferenceMatches=False minPerBand=3 --clobber-config"
    )
    command = parse("fgcmBuildStarsTable.py", line.split(), "")
    old = translate(survey, str(repo), command, BUILD_STARS_TABLE)
    new = RunRequest(
        repository=str(repo),
        pipeline=f"{repo}/pipelines/TestCam/fgcm_legacy.yaml#{LABEL}",
        inputs=("tables", "TestCam/defaults"),
        output="u/x",
        data_query="instrument = 'TestCam' AND visit IN (1228, 1230, 1232, 1234)",
        overrides=(
            ConfigOverride(LABEL, "doReferenceMatches", "False"),
            ConfigOverride(LABEL, "minPerBand", "3"),
            ConfigOverride(LABEL, "detectors", "[0, 1, 2, 3]"),
        ),
        redo=True,
    )
    config, found = quanta(survey, old.request)
    assert (config, found) == quanta(survey, new)
    assert found == [(1228, 1230, 1232, 1234)]
    assert (config["minPerBand"], config["detectors"]) == (3, [0, 1, 2, 3])
    # what the card knows of the camera
    assert config["physicalFilterMap"] == {"test_r": "r"}
    # the rest of the request is the same too, but for how the visits are written
    assert {**vars(old.request), "data_query": ""} == {**vars(new), "data_query": ""}


def test_what_is_shown_says_the_translation_and_the_visits(
    survey: Butler, repo: Path, capsys: pytest.CaptureFixture
) -> None:
    line = f"{repo}/rerun/tables --output {repo}/rerun/me/stars --id visit=1230..1232 --id filter=test_r visit=1234"
    options = (
        "-c minPerBand=5 doReferenceMatches=False -j 3 --show data config=MIN* tasks history=minPerBand "
        "config=Req*:NOIGNORECASE"
    )
    assert run_old_command(BUILD_STARS_TABLE, f"{line} {options}".split()) == 0
    output = capsys.readouterr()
    shown = output.out.splitlines()
    assert shown[:6] == [
        "inputs:     tables, TestCam/defaults",
        "output:     me/stars",
        "data query: instrument = 'TestCam' AND ((visit IN (1230..1232)) OR (physical_filter = 'test_r' AND visit = 1234))",
        "detectors:  all",
        "visits:     4",
        "  1230 1231 1232 1234",
    ]
    assert shown[6].startswith(f"the same as: zeropoint run -b {repo} -p ")
    assert f"{repo}/pipelines/TestCam/fgcm_legacy.yaml#fgcmBuildStarsTable" in shown[6]
    assert "config.minPerBand=5" in shown
    assert "no field fits 'Req*:NOIGNORECASE'" in shown
    assert any(row.startswith("sourceSelector: zeropoint.") for row in shown)
    assert "note: -j 3 has no effect" in output.err
    assert not survey.collections.query("me/*")


def test_the_history_of_a_field_is_short_and_names_options_and_files(
    survey: Butler, repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name, text in (
        ("a.py", "# none\nconfig.minPerBand = 6\n"),
        ("b.py", "\nconfig.isolationRadius = 3.0\n"),
    ):
        (tmp_path / name).write_text(text)
    a, b = tmp_path / "a.py", tmp_path / "b.py"
    line = (
        f"{repo} --rerun tables:me/stars -c minPerBand=5 -C {a} {b} -c doReferenceMatches=False "
        'sourceSelector["science"].signalToNoise.minimum=7 --show history=minPerBand history=isolationRadius '
        "history=physicalFilterMap history=sourceSelector.active.signalToNoise.minimum"
    )
    assert run_old_command(BUILD_STARS_TABLE, line.split()) == 0
    shown = [" ".join(row.split()) for row in capsys.readouterr().out.splitlines()]
    assert shown[:9] == [
        "minPerBand",
        "2 default",
        "5 -c minPerBand=5",
        f"6 {a}:2",
        "isolationRadius",
        "2.0 default",
        f"3.0 {b}:2",
        "physicalFilterMap",
        "{} default",
    ]
    assert shown[9] == f"{{'test_r': 'r'}} {repo}/pipelines/TestCam/fgcm_legacy.yaml"
    assert re.fullmatch(r"10.0 \S+/build_stars_config.py:\d+", shown[-2])
    assert shown[-1] == '7.0 -c sourceSelector["science"].signalToNoise.minimum=7'


@pytest.mark.parametrize(
    ("ids", "note"),
    [
        ("visit=1230^77 ccd=0^88", "note: --id visit=77: not in the inputs, or other keys of the same --id"),
        ("visit=1230^77 ccd=0^88", "note: --id: TestCam has no detector 88; it has 4, from 0 to 3."),
        ("visit=5..9", "note: no visit of the inputs fits."),
        ("visit=1230..1231 ccd=0..3", ""),
    ],
)
def test_data_ids_that_there_are_not_are_noted(
    survey: Butler, repo: Path, capsys: pytest.CaptureFixture, ids: str, note: str
) -> None:
    line = f"{repo} --rerun tables:notes --show data --id {ids}"
    assert run_old_command(BUILD_STARS_TABLE, line.split()) == 0
    errors = capsys.readouterr().err
    assert note in errors if note else "note" not in errors


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("--rerun out", r"no sourceTable_visit in TestCam/defaults; say where it is: --rerun tables:out"),
        (
            "--rerun tables:out -c connections.sourceTable_visit=other",
            "has no other; run the task that makes it",
        ),
    ],
)
def test_inputs_that_are_elsewhere_are_named(survey: Butler, repo: Path, line: str, complaint: str) -> None:
    command = parse("fgcmBuildStarsTable.py", [str(repo), *line.split()], "")
    with pytest.raises(InvalidInputError, match=complaint):
        translate(survey, str(repo), command, BUILD_STARS_TABLE)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("--rerun gone:out", "gone: no such collection"),
        ("", "--output or --rerun is needed"),
        ("--rerun :out", r"write \[INPUT:\]OUTPUT"),
        ("--rerun tables:out --id instrument=HSC", "there is TestCam"),
        # before anything is said of datasets that are missing
        ("--rerun out -c minPerBnd=3", r"minPerBnd=3: .*minPerBand"),
    ],
)
def test_options_that_fit_nothing_are_refused(survey: Butler, repo: Path, line: str, complaint: str) -> None:
    command = parse("fgcmBuildStarsTable.py", [str(repo), *line.split()], "")
    with pytest.raises(OptionError, match=complaint):
        translate(survey, str(repo), command, BUILD_STARS_TABLE)


def test_the_look_up_table_is_of_the_whole_camera(survey: Butler, repo: Path) -> None:
    command = parse("fgcmMakeLut.py", [str(repo), "--rerun", "lut", "--id", "ccd=0^3"], "")
    request = translate(survey, str(repo), command, MAKE_LUT).request
    assert request.pipeline == f"{repo}/pipelines/TestCam/fgcm_legacy.yaml#fgcmMakeLut"
    assert (request.inputs, request.output) == (("TestCam/defaults",), "lut")
    assert request.data_query == "instrument = 'TestCam'"
    config = load_pipeline(request).tasks["fgcmMakeLut"].config
    assert list(config.detectors) == [0, 3]
    assert (list(config.physicalFilters), config.parameters.elevation) == (["test_r"], 2000.0)
    command = parse("fgcmMakeLut.py", [str(repo), "--rerun", "lut", "--id", "visit=3"], "")
    with pytest.raises(
        OptionError, match=r"whole camera; instrument and ccd can be chosen, 'visit = 3' cannot"
    ):
        translate(survey, str(repo), command, MAKE_LUT)
    # of the standard atmosphere at 2000 m, millibar
    assert config.parameters.pmbStd == pytest.approx(795.0, abs=0.1)


def test_a_repository_may_be_named_with_an_output_of_old() -> None:
    assert find_repository("/data/hsc/rerun/me/lut/") == ("/data/hsc", "me/lut")
    assert find_repository("/data/hsc") == ("/data/hsc", "")


def test_old_command_lines_of_the_fit_run_one_cycle(survey: Butler, repo: Path) -> None:
    def overrides(task: OldTask, line: str) -> list[str]:
        command = parse(task.program, f"{repo} --rerun tables:u/x {line}".split(), "")
        found = translate(survey, str(repo), command, task).request.overrides
        return [override.text.partition(":")[2] for override in found]

    assert overrides(FIT_CYCLE, "-c cycleNumber=2 minStarPerExp=50") == [
        "doMultipleCycles=False",
        "connections.cycleNumber=2",
        "connections.previousCycleNumber=1",
        "cycleNumber=2",
        "minStarPerExp=50",
    ]
    assert overrides(FIT_CYCLE, "-c doMultipleCycles=True") == ["doMultipleCycles=True"]
    assert overrides(OUTPUT_PRODUCTS, "-c cycleNumber=3") == ["connections.cycleNumber=3"]
    with pytest.raises(OptionError, match="detectors cannot be chosen"):
        overrides(FIT_CYCLE, "--id ccd=1")
