"""Runs that are killed or stopped, and what the next run makes of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer

import pytest
from lsst.daf.butler import Butler

from butler.execution.conftest import Mock
from zeropoint.butler.execution.journal import Journal, hold_lock

QUERY = "exposure IN (1..7)"
N_QUANTA = 21


@contextmanager
def _running(mock: Mock, output: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command as a process group of its own; quanta take their time."""
    tests = Path(__file__).parents[2]
    arguments = ["run", "-b", str(mock.root), "-p", mock.pipeline, "-i", "MockCam/defaults", "-o", output]
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", "from zeropoint.cli import main; main()"),
            *arguments,
            *("-d", QUERY, "-c", "measure:seconds=0.4", "--json", *options),
        ],
        env={**os.environ, "PYTHONPATH": str(tests)},
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _wait_for_logs(mock: Mock, output: str, n: int) -> None:
    """Return when so many quanta have ended."""
    deadline = time.monotonic() + 120
    while len(list((mock.root / output).glob("*/m*_log/**/*.json"))) < n:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _require_complete(mock: Mock, output: str, stray: Callable[[Path, Butler, str], set[Path]]) -> None:
    """Every quantum was done once, in one of the runs, and there is no file that is no dataset."""
    with mock.open() as butler:
        runs = [run for run in butler.collections.get_info(output).children if run.startswith(output)]
        for name, n in (("mock_pixels", 14), ("measure_metadata", 14), ("mean_metadata", 7)):
            refs = butler.query_datasets(name, collections=runs, find_first=False)
            assert len(refs) == n
            assert max(Counter(ref.dataId for ref in refs).values()) == 1
            for ref in refs:
                butler.get(ref)
        assert not stray(mock.root, butler, output)
    assert not mock.interrupted(output)


def test_nothing_is_lost_and_nothing_doubled_when_everything_is_killed(
    mock: Mock, stray_files: Callable[[Path, Butler, str], set[Path]]
) -> None:
    with _running(mock, "killed"):
        _wait_for_logs(mock, "killed", 6)
    with mock.open() as butler:
        assert len(mock.interrupted("killed")) == 1
        n_registered = len(butler.query_datasets("measure_log", collections="killed", explain=False))
    # what a process leaves that is killed while it writes: one whole file, half of another
    folder = next((mock.root / "killed").glob("*"))
    done = next((folder / "mock_pixels").rglob("*_1_D0_*"))
    whole = Path(str(done).replace("/1/", "/7/").replace("_1_D0_", "_7_D0_"))
    whole.parent.mkdir(parents=True)
    whole.touch()
    (whole.parent / f"x{whole.stem}.tmp{whole.suffix}").touch()

    report = mock.run("killed", QUERY)

    assert report.exit_code == 0
    assert report.n_skipped >= 6 > n_registered
    assert report.n_skipped + report.n_quanta == N_QUANTA
    assert any("was interrupted" in note for note in report.notes)
    _require_complete(mock, "killed", stray_files)


def test_ctrl_c_keeps_what_is_done_and_lets_running_quanta_end(
    mock: Mock, stray_files: Callable[[Path, Butler, str], set[Path]]
) -> None:
    with _running(mock, "stopped") as process:
        _wait_for_logs(mock, "stopped", 4)
        os.killpg(process.pid, signal.SIGINT)
        summary = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == summary["exit_code"] == 130
    assert summary["interrupted"]
    done = N_QUANTA - summary["not_run"]
    assert 4 <= done < N_QUANTA
    assert sum(task["good"] for task in summary["tasks"].values()) == done

    with mock.open() as butler:
        assert (
            len(butler.query_datasets("measure_log", collections="stopped"))
            == summary["tasks"]["measure"]["good"]
        )
        assert not stray_files(mock.root, butler, "stopped")
    assert not mock.interrupted("stopped")


@pytest.mark.slow
def test_a_second_ctrl_c_abandons_running_quanta_without_traces(
    mock: Mock, stray_files: Callable[[Path, Butler, str], set[Path]]
) -> None:
    with _running(mock, "abandoned", "-c", "measure:hang_on=[3]") as process:
        _wait_for_logs(mock, "abandoned", 3)
        time.sleep(1)
        for _ in range(2):
            os.kill(process.pid, signal.SIGINT)
            time.sleep(1.5)
        summary = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 130
    assert sum(task["failed"] for task in summary["tasks"].values()) == 0
    with mock.open() as butler:
        assert not stray_files(mock.root, butler, "abandoned")
    assert not mock.interrupted("abandoned")


def test_a_run_that_is_alive_is_left_alone_and_dying_workers_are_waited_for(mock: Mock) -> None:
    with mock.open() as butler:
        with Journal(butler, "alive/run") as journal:
            assert not Journal(butler, "alive/run").take_over()
            assert not mock.interrupted("alive")
        assert not journal.lock.exists()
        journal.leave_to_recovery()
        assert mock.interrupted("alive") == ["alive/run"]
        worker = hold_lock(str(journal.workers_lock))
        Timer(0.5, os.close, [worker]).start()
        started = time.monotonic()
        assert journal.take_over()
        assert time.monotonic() - started > 0.4
        journal.close(finished=True)
        assert not journal.take_over()
