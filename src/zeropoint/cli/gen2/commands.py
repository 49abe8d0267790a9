"""The scripts of the global calibration, such as ``fgcmBuildStarsTable.py``, with the command line that they had."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from zeropoint.cli.errors import clear_errors
from zeropoint.cli.gen2.arguments import OldCommandLine, parse
from zeropoint.cli.gen2.cycles import fit_cycle_overrides, output_overrides
from zeropoint.cli.gen2.translate import (
    OldTask,
    Translation,
    find_repository,
    selected_visits,
    translate,
    visits_not_found,
)
from zeropoint.cli.logs import quiet_middleware

__all__ = [
    "BUILD_STARS_TABLE",
    "FIT_CYCLE",
    "MAKE_LUT",
    "OUTPUT_PRODUCTS",
    "build_stars_table",
    "fit_cycle",
    "make_lut",
    "output_products",
    "run_old_command",
]

MAKE_LUT = OldTask(
    "fgcmMakeLut.py",
    "fgcmMakeLut",
    "Make the look-up table of the global calibration on a Butler repository.",
    detectors_field="detectors",
)
BUILD_STARS_TABLE = OldTask(
    "fgcmBuildStarsTable.py",
    "fgcmBuildStarsTable",
    "Build the star list of the global calibration from the sourceTable_visit tables of a Butler repository.",
    reads="sourceTable_visit",
    detectors_field="detectors",
)
FIT_CYCLE = OldTask(
    "fgcmFitCycle.py",
    "fgcmFitCycle",
    "Run a cycle of the global calibration's fit on a Butler repository, or all of them (-c doMultipleCycles=True).",
    overrides=fit_cycle_overrides,
)
OUTPUT_PRODUCTS = OldTask(
    "fgcmOutputProducts.py",
    "fgcmOutputProducts",
    "Make the products of the global calibration from the last cycle of its fit.",
    overrides=output_overrides,
)


def make_lut() -> None:
    """Run ``fgcmMakeLut.py``."""
    sys.exit(run_old_command(MAKE_LUT, sys.argv[1:]))


def build_stars_table() -> None:
    """Run ``fgcmBuildStarsTable.py``."""
    sys.exit(run_old_command(BUILD_STARS_TABLE, sys.argv[1:]))


def fit_cycle() -> None:
    """Run ``fgcmFitCycle.py``."""
    sys.exit(run_old_command(FIT_CYCLE, sys.argv[1:]))


def output_products() -> None:
    """Run ``fgcmOutputProducts.py``."""
    sys.exit(run_old_command(OUTPUT_PRODUCTS, sys.argv[1:]))


@clear_errors
def run_old_command(task: OldTask, arguments: Sequence[str]) -> int:
    """Run a task as its old command line asks, and return the exit code.

    Parameters
    ----------
    task
        Which task.
    arguments
        What follows the script's name.
    """
    command = parse(task.program, arguments, task.description)
    from zeropoint.butler.repository import open_repository

    quiet_middleware()
    repository, _ = find_repository(command.repopath)
    butler = open_repository(repository)
    try:
        translation = translate(butler, repository, command, task)
        visits = selected_visits(butler, translation, task, command) if task.reads else []
    finally:
        butler.close()
    for note in [*translation.notes, *(visits_not_found(command, visits) if task.reads else ())]:
        click.echo(f"note: {note}", err=True)
    if command.show:
        _show(command, translation, task, visits)
        if ("run", "") not in command.show:
            return 0
    from zeropoint.cli.run import execute

    return execute(translation.request)


def _show(command: OldCommandLine, translation: Translation, task: OldTask, visits: Sequence[int]) -> None:
    from zeropoint.butler.execution.graph import load_pipeline
    from zeropoint.cli.gen2 import show

    kinds = {kind for kind, _ in command.show}
    if kinds & {"config", "tasks", "history"}:
        config = load_pipeline(translation.request).tasks[task.label].config
    for kind, pattern in command.show:
        if kind == "data":
            lines = show.data_lines(translation, task, visits)
        elif kind == "config":
            lines = show.config_lines(config, pattern)
        elif kind == "tasks":
            lines = show.subtask_lines(config)
        elif kind == "history":
            pipeline = translation.request.pipeline.partition("#")[0]
            lines = show.history_lines(config, pattern, command.overrides, pipeline)
        else:
            continue
        for line in lines:
            click.echo(line)
