"""What the middleware and the pool cost per quantum, and how `zeropoint run` compares with `pipetask run`.

Prints one table.  Mock quanta (a small table in; a table and an image out) show the cost of everything but the task;
``--images N`` adds N simulated 1k images through the calibrate pipeline.  Exits with 1 if a requirement is missed:
graph of 1000 quanta in 10 s, 0.2 s per quantum beyond the task.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).resolve().parents[1] / "tests"
BIN = Path(sys.executable).parent
GRAPH_LIMIT_S, OVERHEAD_LIMIT_S = 10.0, 0.2


def graph_seconds(root: Path, pipeline: str) -> tuple[int, float]:
    """Build the graph of all mock quanta; return their number and the time."""
    from zeropoint.butler.execution.graph import RunRequest, build_graph, load_pipeline
    from zeropoint.butler.repository import open_repository

    request = RunRequest(str(root), pipeline, output="graph")
    with open_repository(root) as butler:
        start = time.perf_counter()
        graph, _ = build_graph(
            butler,
            load_pipeline(request),
            request,
            search=("MockCam/defaults",),
            run="graph/1",
            skip_existing_in=(),
        )
        return len(graph.quantum_datasets), time.perf_counter() - start


def run_ours(*arguments: Any) -> tuple[float, dict[str, Any]]:
    """Run `zeropoint run`; return wall time and summary."""
    import json

    seconds, text = _command("zeropoint", "run", "--json", *arguments)
    return seconds, json.loads(text.splitlines()[-1])


def run_theirs(*arguments: Any) -> float:
    """Run `pipetask run`; return wall time."""
    return _command(
        "pipetask", "run", "--register-dataset-types", "--no-raise-on-partial-outputs", *arguments
    )[0]


def _command(*words: Any) -> tuple[float, str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(TESTS),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [str(word) for word in words]
    start = time.perf_counter()
    done = subprocess.run([BIN / command[0], *command[1:]], capture_output=True, text=True, env=environment)
    seconds = time.perf_counter() - start
    if done.returncode not in (0, 4):
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return seconds, done.stdout


def per_quantum(root: Path, summary: dict[str, Any], label: str) -> tuple[float, float, float]:
    """Return the mean CPU seconds of a quantum in its worker, in runQuantum, and in the task's run."""
    from lsst.daf.butler import Butler

    inside, run = [], []
    with Butler.from_config(str(root)) as butler:
        for ref in butler.query_datasets(f"{label}_metadata", collections=summary["run"], limit=None):
            metadata = butler.get(ref)
            quantum, task = metadata["quantum"], metadata[label]
            inside.append(quantum["endCpuTime"] - quantum["startCpuTime"])
            if "runStartCpuTime" in task:
                run.append(task["runEndCpuTime"] - task["runStartCpuTime"])
    task = summary["tasks"][label]
    n = task["quanta"] - task["not_run"]
    return task["cpu_seconds"] / n, float(np.mean(inside)), float(np.mean(run)) if run else float("nan")


def mock(folder: Path, n_graph: int, n_run: int) -> bool:
    """Measure with mock tasks."""
    from butler.execution.mock_repository import make_repository

    root = folder / "mock"
    pipeline = make_repository(root, -(-n_graph // 3))
    n, seconds = graph_seconds(root, pipeline)
    print(f"| graph of {n} quanta | {seconds:.1f} s | limit {GRAPH_LIMIT_S:g} s |")
    met = seconds <= GRAPH_LIMIT_S
    query = f"instrument='MockCam' AND exposure <= {n_run // 3}"
    common = ["-b", root, "-p", pipeline, "-i", "MockCam/defaults", "-d", query, "-j", 2]
    ours, summary = run_ours(*common, "-o", "ours")
    worker, inside, _ = per_quantum(root, summary, "measure")
    print(f"| mock quantum in a worker, CPU | {worker:.3f} s | beyond runQuantum {worker - inside:.3f} s |")
    met &= worker - inside <= OVERHEAD_LIMIT_S
    theirs = run_theirs(*common, "-o", "theirs")
    print(
        f"| {n_run} mock quanta, -j 2 | zeropoint run {ours:.1f} s | pipetask run {theirs:.1f} s: {theirs / ours:.1f} x |"
    )
    return met


def images(folder: Path, n: int) -> bool:
    """Measure with the calibrate pipeline on simulated images."""
    from zeropoint.butler.cameras import register_camera
    from zeropoint.butler.ingest import ingest_images
    from zeropoint.butler.refcats import ingest_references
    from zeropoint.butler.repository import create_repository, open_repository
    from zeropoint.instruments.card import load_card
    from zeropoint.simulation import night_settings, write_night

    night = write_night(night_settings(n, size=1024, seed=3), folder / "images", seed=3)
    root, card = folder / "repo", load_card("simcam")
    create_repository(root)
    with open_repository(root, writeable=True) as butler:
        register_camera(butler, card)
        ingest_references(butler, "sim_refs", night.references)
        ingest_images(butler, list(night.images), card)
    names = [f"calibrateImage:connections.{kind}_ref_cat=sim_refs" for kind in ("astrometry", "photometry")]
    pipeline = resources.files("zeropoint.tasks") / "pipelines" / "simcam.yaml"
    common = ["-b", root, "-p", pipeline, "-i", "SimCam/defaults", "-d", "instrument='SimCam'", "-j", 2]
    common += ["-c", names[0], "-c", names[1]]
    ours, summary = run_ours(*common, "-o", "ours")
    worker, inside, run = per_quantum(root, summary, "calibrateImage")
    print(
        f"| 1k image in a worker, CPU | {worker:.2f} s | recipe {run:.2f}, reading and writing {inside - run:.2f}, beyond {worker - inside:.2f} s |"
    )
    theirs = run_theirs(*common, "-o", "theirs")
    print(
        f"| {n} 1k images, -j 2 | zeropoint run {ours:.1f} s | pipetask run {theirs:.1f} s: {theirs / ours:.1f} x |"
    )
    return worker - inside <= OVERHEAD_LIMIT_S


def main() -> int:
    """Compare the executor with `pipetask` on mock quanta, and on images if asked for; 1 if it falls short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graph", type=int, default=1000, help="mock quanta of the graph (default 1000)")
    parser.add_argument("--quanta", type=int, default=30, help="mock quanta to run (default 30)")
    parser.add_argument("--images", type=int, default=0, help="simulated 1k images to calibrate (default 0)")
    arguments = parser.parse_args()
    sys.path.insert(0, str(TESTS))
    print("| what | measured | |\n|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="executor") as folder:
        met = mock(Path(folder), arguments.graph, arguments.quanta)
        if arguments.images:
            met &= images(Path(folder), arguments.images)
    print("\nall requirements met" if met else "\nNOT all requirements met")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
