"""Progress of a job in stages, one bar each, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

__all__ = ["counting"]


@contextmanager
def counting(titles: Mapping[str, str]) -> Iterator[Callable[[str, int, int | None], None]]:
    """Show progress bars on stderr, if it is a terminal.

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
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, int] = {}

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(titles.get(stage, stage), total=total)
            bar.update(tasks[stage], completed=done, total=total)  # type: ignore[arg-type]  # rich's own id type

        yield report
