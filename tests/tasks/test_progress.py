"""Progress of a step, as the Butler's progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lsst.daf.butler.progress import Progress, ProgressBar, ProgressHandler

from zeropoint.tasks._progress import step_progress


class Bar(ProgressBar[Any]):
    """Counts what it is told."""

    done = 0

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def update(self, n: int = 1) -> None:
        self.done += n


class Handler(ProgressHandler):
    """Keeps the bars that were shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, int | None, Bar]] = []

    @contextmanager
    def get_progress_bar(self, iterable: Any, desc: str, total: int | None, level: int) -> Iterator[Bar]:
        self.shown.append((desc, total, Bar()))
        yield self.shown[-1][2]


def test_each_title_has_a_bar_that_ends_where_its_step_does(caplog: Any) -> None:
    caplog.set_level("INFO", "lsst.test")
    handler = Handler()
    Progress.set_handler(handler)
    try:
        with step_progress("lsst.test") as report:
            for done in range(1, 4):
                report("read", done, 3)
            report("match", 0, 2)
            report("match", 2, 2)
            report("alone", 1, 1)  # the Butler shows no bar of a single piece
    finally:
        Progress.set_handler(None)
    assert [(title, total, bar.done) for title, total, bar in handler.shown] == [
        ("read", 3, 3),
        ("match", 2, 2),
    ]
