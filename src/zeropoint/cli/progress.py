"""Run images one after another or in several processes, with a progress bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zeropoint.cli.worker import Job, calibrate_one, initialize_worker

__all__ = ["run_all", "stage_bar"]

_FIRST_RUN = "first run: compiling kernels, a minute or two; later runs load them from a cache"


def run_all(job: Job, groups: list[tuple[Path, ...]], processes: int) -> list[dict[str, Any]]:
    """Calibrate groups of files (one image, or the snaps of one visit) and return outcomes in input order.

    Parameters
    ----------
    job
        Shared options.
    groups
        Files of each image.
    processes
        Number of processes; results do not depend on it.
    """
    if processes > 1 and len(groups) > 1:
        return _parallel(job, groups, min(processes, len(groups)))
    with stage_bar(groups) as on_stage:
        return [
            calibrate_one(job, paths, lambda name, i=i: on_stage(i, name))  # type: ignore[misc]
            for i, paths in enumerate(groups)
        ]


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    console = Console(file=sys.stderr)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def stage_bar(groups: list[tuple[Path, ...]]) -> Iterator[Callable[[int, str], None]]:
    """Show a bar over the stages of several images; yields ``on_stage(image number, stage name)``."""
    from zeropoint.recipes.calibrate_image.record import STAGE_NAMES

    steps = (*STAGE_NAMES, "write", "report")
    # the kernels' compilation is what a user waits for the first time: say so, once an image has been read
    note = " (first run: compiling kernels, a minute or two)" if _first_run() else ""
    with _bar() as bar:
        task = bar.add_task("", total=len(groups) * len(steps))
        announced = not note

        def on_stage(i: int, name: str) -> None:
            nonlocal announced
            if not announced and name != STAGE_NAMES[0]:
                announced = True
                bar.console.print(_FIRST_RUN, highlight=False)
            done = i * len(steps) + (steps.index(name) if name in steps else 0)
            bar.update(task, completed=done, description=f"{groups[i][0].name}: {name}{note}")

        yield on_stage


def _first_run() -> bool:
    """Say whether no compiled kernel of the last stages is cached yet."""
    import zeropoint.measurement as room

    folder = Path(room.__path__[0]) / "__pycache__"
    return not any(folder.glob("*.nbi"))


def _parallel(job: Job, groups: list[tuple[Path, ...]], processes: int) -> list[dict[str, Any]]:
    import multiprocessing

    outcomes: dict[int, dict[str, Any]] = {}
    context = multiprocessing.get_context("spawn")
    with (
        _bar() as bar,
        ProcessPoolExecutor(
            processes, mp_context=context, initializer=initialize_worker, initargs=(job.log_level,)
        ) as pool,
    ):
        task = bar.add_task("images", total=len(groups))
        if _first_run():
            bar.console.print(_FIRST_RUN, highlight=False)
        pending = {pool.submit(calibrate_one, job, paths): i for i, paths in enumerate(groups)}
        while pending:
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                i = pending.pop(future)
                try:
                    outcomes[i] = future.result()
                except BrokenProcessPool:
                    outcomes[i] = _died(groups[i])
                bar.update(task, completed=len(outcomes), description=f"{groups[i][0].name} done")
    return [outcomes[i] for i in range(len(groups))]


def _died(paths: tuple[Path, ...]) -> dict[str, Any]:
    text = f"{paths[0]}: its process died (out of memory?); run it again alone, or with fewer processes"
    return {
        "image": str(paths[0]),
        "stem": paths[0].stem,
        "exit_code": 1,
        "verdict": "error",
        "error": text,
        "reasons": [text],
        "files": [],
        "summary": "",
    }
