"""Progress of a job in stages, and a word where it is interrupted."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

import click

__all__ = ["counting", "stopped_with"]

#: Seconds between two lines of progress where there is no terminal.
_LINE_SECONDS = 10.0


@contextmanager
def counting(titles: Mapping[str, str]) -> Iterator[Callable[[str, int, int | None], None]]:
    """Show progress on stderr: a bar for each stage on a terminal, else a line now and then.

    Parameters
    ----------
    titles
        What is shown for each stage.

    Yields
    ------
    callable
        To be called with a stage, how much of it is done, and how much there is (None: unknown).
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield _lines(titles)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        tasks: dict[str, int] = {}

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(titles.get(stage, stage), total=total)
            bar.update(tasks[stage], completed=done, total=total)  # type: ignore[arg-type]  # rich's own id type

        yield report


def _lines(titles: Mapping[str, str]) -> Callable[[str, int, int | None], None]:
    """Return what prints a line of progress where the last one is long ago: quick jobs print none."""
    last = time.monotonic()

    def report(stage: str, done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last < _LINE_SECONDS:
            return
        last = time.monotonic()
        click.echo(
            f"{titles.get(stage, stage)}: {done:,}{'' if total is None else f' of {total:,}'}", err=True
        )

    return report


@contextmanager
def stopped_with(message: str) -> Iterator[None]:
    """Print a message and exit, with 130 or 143, where ctrl-C or SIGTERM interrupts what is done inside."""
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop(number: int, _: FrameType | None) -> None:
        click.echo(message, err=True)
        sys.exit(128 + number)

    try:
        before = [signal.signal(one, stop) for one in signals]
    except ValueError:  # not the main thread, which alone can be interrupted
        yield
        return
    try:
        yield
    finally:
        for one, handler in zip(signals, before, strict=True):
            signal.signal(one, handler)
