"""Runs of the mock pipeline: outputs, failures, resuming."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from butler.execution.conftest import N_EXPOSURES, Mock
from zeropoint.butler.execution.report import RunReport
from zeropoint.errors import InvalidInputError

FEW = "exposure IN (1..4)"


def _counts(report: RunReport, label: str) -> dict[str, int]:
    return {status.value: n for status, n in report.tasks[label].counts.items() if n}


@pytest.fixture(scope="module")
def large(mock: Mock) -> RunReport:
    """All exposures by two workers, each replaced after some time."""
    return mock.run("large", processes=2, max_quanta_per_worker=60)


@pytest.fixture(scope="module")
def reference(mock: Mock) -> str:
    """Four of them by `pipetask run`; the output collection."""
    options = (
        f"run -b {mock.root} -p {mock.pipeline} -i MockCam/defaults -o reference --register-dataset-types"
    )
    # a process of its own: what it logs depends on the logging of its process
    pipetask = Path(sys.executable).parent / "pipetask"
    command = [str(pipetask), *options.split(), "-d", f"instrument='MockCam' AND {FEW}"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert result.returncode == 0, result.stderr
    return "reference"


def test_a_graph_beyond_the_zip_pitfall_is_run_and_registered_while_workers_are_replaced(
    mock: Mock, large: RunReport
) -> None:
    assert large.n_quanta == 3 * N_EXPOSURES > 150
    assert large.exit_code == 0
    assert _counts(large, "measure") == {"good": 2 * N_EXPOSURES}
    assert _counts(large, "mean") == {"good": N_EXPOSURES}
    with mock.open() as butler:
        assert len(butler.query_datasets("mock_pixels", collections="large")) == 2 * N_EXPOSURES
        assert len(butler.query_datasets("mean_log", collections="large")) == N_EXPOSURES


def test_pipetask_report_reads_its_graph(
    mock: Mock, large: RunReport, capsys: pytest.CaptureFixture[str]
) -> None:
    from lsst.ctrl.mpexec.cli.script import report_v2

    report_v2(str(mock.root), [large.graph], None, "", None, brief=True, read_caveats="exhaustive")
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["measure"]]
    assert rows[0][1:3] == ["0", str(2 * N_EXPOSURES)]


def test_the_same_again_has_nothing_to_do(mock: Mock, large: RunReport) -> None:
    again = mock.run("large", processes=2)
    assert again.n_skipped == large.n_quanta
    assert not again.run
    assert again.exit_code == 0
    assert next(again.lines()) == f"nothing to do: all {large.n_quanta} quanta were done before, in large"


@pytest.mark.parametrize("name", ["mock_stars", "mock_pixels", "mock_mean"])
def test_outputs_are_those_of_pipetask(mock: Mock, large: RunReport, reference: str, name: str) -> None:
    with mock.open() as butler:
        refs = butler.query_datasets(name, collections=reference)
        assert len(refs) == (4 if name == "mock_mean" else 8)
        for ref in refs:
            ours = butler.get(name, ref.dataId, collections="large")
            theirs = butler.get(ref)
            if name == "mock_stars":
                assert ours.colnames == theirs.colnames
                ours, theirs = ours.as_array(), theirs.as_array()
            assert np.array_equal(ours, theirs)


def test_the_run_holds_what_a_run_of_pipetask_holds(mock: Mock, large: RunReport, reference: str) -> None:
    with mock.open() as butler:
        runs = [large.run, butler.collections.get_info(reference).children[0]]
        ours, theirs = (
            {
                (ref.datasetType.name, str(ref.dataId))
                for ref in butler.query_all_datasets(run, find_first=False)
                if ref.dataId.get("exposure", 1) <= 4
            }
            for run in runs
        )
        assert ours == theirs
        assert {name for name, data_id in ours if data_id == "{}"} == {
            *("measure_config", "mean_config", "mock_stars_schema", "packages")
        }
        assert sum(name == "measure_log" for name, _ in ours) == 8
        configs = [butler.get("measure_config", collections=run) for run in runs]
        assert configs[0].toDict() == configs[1].toDict()
        children = [butler.collections.get_info(chain).children[1:] for chain in ("large", reference)]
        assert children[0] == children[1] == ("MockCam/raw",)


def test_metadata_and_logs_are_those_of_pipetask(mock: Mock, large: RunReport, reference: str) -> None:
    data_id = {"instrument": "MockCam", "exposure": 2, "detector": 1}
    with mock.open() as butler:
        ours, theirs = (
            butler.get("measure_metadata", data_id, collections=name).to_dict()
            for name in ("large", reference)
        )
        assert ours["measure"] == theirs["measure"] == {"n_stars": 20}
        assert ours["quantum"].keys() == theirs["quantum"].keys()
        logs = [butler.get("measure_log", data_id, collections=name) for name in ("large", reference)]
        # what the Butler remarks depends on what its process has read before
        names = [[record.name for record in log if record.name.startswith("lsst.pipe.")] for log in logs]
        assert names[0] == names[1] != []
        # what the task itself says is kept whatever package it is from
        assert [record.message for record in logs[0] if record.name == "butler.measure"] == [
            "measured 20 stars"
        ]


@pytest.fixture(scope="module")
def failed(mock: Mock, tmp_path_factory: pytest.TempPathFactory) -> RunReport:
    """Exposures 1 to 7 that fail in six ways; 8 is good at the second attempt, as are all others."""
    marks = tmp_path_factory.mktemp("marks")
    for exposure in range(1, 8):
        (marks / str(exposure)).touch()
    return mock.run(
        "failed",
        "exposure IN (1..8) AND detector = 0",
        "measure:fail_on=[1]",
        "measure:partial_on=[2]",
        "measure:crash_on=[3]",
        "measure:kill_on=[4]",
        "measure:hang_on=[5]",
        f"measure:kill_once={marks}",
        processes=2,
        timeout_s=10.0,
    )


def test_each_failure_is_told_apart_and_costs_only_what_needs_it(failed: RunReport) -> None:
    assert _counts(failed, "measure") == {"good": 3, "partial": 1, "failed": 4}
    assert _counts(failed, "mean") == {"good": 4, "blocked": 4}
    kinds = sorted(
        (kind.status.value, kind.error_type.rpartition(".")[2], kind.count)
        for kind in failed.tasks["measure"].failures.values()
    )
    assert kinds == [
        ("failed", "TooFewPhotons", 1),
        ("failed", "ValueError", 1),
        ("failed", "WorkerLost", 1),  # killed
        ("failed", "WorkerLost", 1),  # timed out
        ("partial", "TooFewPhotons", 1),
    ]
    assert failed.exit_code == 1


def test_a_process_that_dies_is_tried_twice_one_that_hangs_once(mock: Mock, failed: RunReport) -> None:
    texts = []
    with mock.open() as butler:
        for exposure in (4, 5):
            log = butler.get(
                "measure_log", instrument="MockCam", exposure=exposure, detector=0, collections="failed"
            )
            texts.append(log[-1].message)
    assert "killed by SIGKILL" in texts[0]
    assert "2 times" in texts[0]
    assert "time-out of 10 s" in texts[1]


def test_partial_datasets_of_failures_are_kept_as_the_middleware_does(mock: Mock, failed: RunReport) -> None:
    with mock.open() as butler:
        stars, pixels, logs, metadata = (
            {ref.dataId["exposure"] for ref in butler.query_datasets(name, collections="failed")}
            for name in ("mock_stars", "mock_pixels", "measure_log", "measure_metadata")
        )
    assert pixels == {6, 7, 8}
    assert stars == {2, 3, 4, 6, 7, 8}
    assert logs == set(range(1, 9))
    assert metadata == {2, 6, 7, 8}


def test_pipetask_report_counts_the_same_failures(mock: Mock, failed: RunReport) -> None:
    from lsst.pipe.base.quantum_provenance_graph import QuantumProvenanceGraph

    with mock.open() as butler:
        graph = QuantumProvenanceGraph(butler, [failed.graph], read_caveats="exhaustive", n_cores=1)
        summary = graph.to_summary(butler, do_store_logs=True)
    measure = summary.tasks["measure"]
    assert (measure.n_successful, measure.n_failed, measure.n_unknown) == (4, 4, 0)
    assert summary.tasks["mean"].n_blocked == 4
    (caught,) = list(measure.exceptions.values())
    assert len(caught) == 1


def test_a_second_run_does_what_is_missing_and_says_what_was_made_otherwise(
    mock: Mock, failed: RunReport
) -> None:
    again = mock.run("failed", "exposure IN (1..8) AND detector = 0", "measure:scale=3.0")
    assert again.n_skipped == 8
    assert _counts(again, "measure") == {"good": 4}
    assert _counts(again, "mean") == {"good": 4}
    assert any("scale" in note and "--redo" in note for note in again.notes)
    with mock.open() as butler:
        flux = [
            butler.get("mock_stars", instrument="MockCam", exposure=i, detector=0, collections="failed")
            for i in (1, 6)
        ]
        raw = [
            butler.get("raw_numbers", instrument="MockCam", exposure=i, detector=0, collections="failed")
            for i in (1, 6)
        ]
        factors = [np.mean(a["flux"] / b["flux"]) for a, b in zip(flux, raw)]
    assert factors == pytest.approx([3.0, 2.0], rel=1e-12)


def test_another_configuration_with_nothing_left_to_do_is_said_first(mock: Mock) -> None:
    query = "exposure = 9 AND detector = 0"
    mock.run("idle", query)
    assert list(mock.run("idle", query).lines()) == ["nothing to do: all 2 quanta were done before, in idle"]
    report = mock.run("idle", query, "measure:scale=3.0")
    note = next(report.lines())
    assert note.startswith("measure: the configuration differs from that of idle/")
    assert "scale" in note
    assert note.endswith("nothing was run: use --redo or another -o")
    assert report.exit_code == 0


def test_partial_outputs_count_as_failures_on_request(mock: Mock) -> None:
    report = mock.run(
        "raised",
        "exposure = 2 AND detector = 0",
        "measure:partial_on=[2]",
        raise_on_partial_outputs=True,
    )
    assert _counts(report, "measure") == {"failed": 1}
    assert _counts(report, "mean") == {"blocked": 1}
    assert report.exit_code == 4


def test_a_full_disk_stops_the_run_with_one_clear_sentence(mock: Mock) -> None:
    report = mock.run("full", FEW, "measure:full_on=[1]")
    assert report.error.startswith("the disk is full: [Errno 28] No space left on device")
    assert report.n_not_run > 0
    assert report.exit_code == 1


def test_a_task_that_refuses_its_configuration_leaves_no_run(mock: Mock) -> None:
    query = "exposure = 1 AND detector = 0"
    with pytest.raises(InvalidInputError, match="no column goes by that name"):
        mock.run("refused", query, "measure:refused=True")
    with mock.open() as butler:
        assert not butler.collections.query("refused*")
    assert mock.run("refused", query).exit_code == 0
    with mock.open() as butler:
        children = butler.collections.get_info("refused").children
    with pytest.raises(InvalidInputError, match="no column goes by that name"):
        mock.run("refused", query, "measure:refused=True", redo=True)
    with mock.open() as butler:
        assert butler.collections.get_info("refused").children == children
        assert not mock.interrupted("refused")
        assert len(list((mock.root / "graphs" / "refused").iterdir())) == 1
        assert len(butler.collections.query("refused/*")) == 1


def test_a_saved_graph_can_be_run(mock: Mock, tmp_path: object) -> None:
    from lsst.ctrl.mpexec.cli.pipetask import cli

    graph = f"{tmp_path}/one.qg"
    options = (
        f"qgraph -b {mock.root} -p {mock.pipeline}#measure -i MockCam/defaults -o saved -q {graph} "
        "--qgraph-datastore-records"
    )
    query = "instrument='MockCam' AND exposure=1"
    assert CliRunner().invoke(cli, [*options.split(), "-d", query]).exit_code == 0
    report = mock.run("", pipeline="", inputs=(), graph=graph)
    assert _counts(report, "measure") == {"good": 2}
    with mock.open() as butler:
        assert len(butler.query_datasets("mock_pixels", collections="saved")) == 2
