"""Progress of long steps, shown by whatever the Butler shows progress with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from lsst.daf.butler.progress import Progress, ProgressBar

__all__ = ["step_progress"]


@contextmanager
def step_progress(name: str) -> Iterator[Callable[[str, int, int], None]]:
    """Return what a step tells how far it is: a title, what is done, and what there is to do.

    Parameters
    ----------
    name
        Name of the logger by which the progress is switched on and off.
    """
    progress = Progress(name)
    with ExitStack() as stack:
        shown: tuple[str, ProgressBar[None]] | None = None
        before = 0

        def report(title: str, done: int, total: int) -> None:
            nonlocal shown, before
            if shown is None or shown[0] != title:
                stack.close()
                shown = (title, stack.enter_context(progress.bar(desc=title, total=total)))
                before = 0
            shown[1].update(done - before)
            before = done

        yield report
