"""Run the environment's commands as a user does, and compare what two collections hold."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

BIN = Path(sys.executable).parent


def run(*words: object, allow: tuple[int, ...] = (0,), last: int = 25) -> float:
    """Run a command; print it, its time and its last lines; return the seconds it took."""
    command = [str(word) for word in words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    start = time.perf_counter()
    done = subprocess.run([str(BIN / command[0]), *command[1:]], capture_output=True, text=True, env=environment,
                          check=False)  # fmt: skip
    seconds = time.perf_counter() - start
    print(f"\n$ {shlex.join(command)}\n  {seconds:.1f} s, exit {done.returncode}")
    for line in (done.stderr + done.stdout).splitlines()[-last:]:
        print(f"  {line}")
    sys.stdout.flush()
    if done.returncode not in allow:
        raise SystemExit(f"{command[0]} {command[1]} ended with {done.returncode}.")
    return seconds


def run_arguments(
    repository: Path, pipeline: object, instrument: str, references: str, out: str
) -> list[object]:
    """Return the arguments that `zeropoint run` and `pipetask run` share."""
    names = [
        f"calibrateImage:connections.{kind}_ref_cat={references}" for kind in ("astrometry", "photometry")
    ]
    return ["-b", repository, "-p", pipeline, "-i", f"{instrument}/defaults", "-o", out,
            "-d", f"instrument='{instrument}'", "-c", names[0], "-c", names[1], "-j", 2]  # fmt: skip


def report(repository: Path, out: str) -> None:
    """Run `pipetask report` on the graph of a `zeropoint run`."""
    graph = sorted((repository / "graphs" / out).glob("*.qg"))[-1]
    run("pipetask", "report", repository, graph, "--force-v2", "--read-caveats", "exhaustive")


def same(repository: Path, first: str, second: str) -> bool:
    """Return whether two collections hold the same tables and pixels, byte for byte."""
    from lsst.daf.butler import Butler

    with (
        Butler.from_config(str(repository), collections=first) as one,
        Butler.from_config(str(repository), collections=second) as two,
    ):
        for name in ("single_visit_star_unstandardized", "single_visit_psf_star", "preliminary_visit_image"):
            refs = one.query_datasets(name, explain=False, limit=None)
            others = two.query_datasets(name, explain=False, limit=None)
            if {ref.dataId for ref in refs} != {ref.dataId for ref in others}:
                return False
            for ref in refs:
                if _bytes(one.get(ref)) != _bytes(two.get(name, ref.dataId)):
                    return False
    return True


def _bytes(thing: Any) -> list[bytes]:
    if hasattr(thing, "variance"):
        return [plane.array.tobytes() for plane in (thing.image, thing.variance, thing.mask)]
    return [np.ma.getdata(thing[name]).tobytes() for name in thing.colnames]
