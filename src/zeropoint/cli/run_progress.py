"""What ``zeropoint run`` shows while it works: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from zeropoint.butler.execution.report import RunReport

__all__ = ["RunProgress"]

#: Seconds between two lines where there is no terminal.
_LINE_EVERY_S = 15.0
#: Quanta of a task that are done before the time of its others is estimated: the first one compiles and fills caches.
_MIN_DONE = 4


class RunProgress:
    """Shows on stderr how many quanta are done, failed and running, how fast, and how long it will take."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        self._console = Console(file=sys.stderr, highlight=False)
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=30),
            TextColumn("{task.description}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: Any = None
        self._started = 0.0
        self._shown = 0.0
        self._shown_done = -1

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Show one line."""
        if self._console.is_terminal:
            self._console.print(text, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def progress(self, report: RunReport, n_running: int) -> None:
        """Show how far the run is."""
        now = time.monotonic()
        if self._task is None:
            self._task = self._bar.add_task("", total=report.n_quanta)
            self._started = self._shown = now
        done = report.n_quanta - report.n_not_run
        text = _describe(report, n_running, done, now - self._started)
        if self._console.is_terminal:
            self._bar.update(self._task, completed=done, total=report.n_quanta, description=text)
        elif done != self._shown_done and (now - self._shown >= _LINE_EVERY_S or done == report.n_quanta):
            self._shown, self._shown_done = now, done
            self.say(text)


def _describe(report: RunReport, n_running: int, done: int, elapsed_s: float) -> str:
    from zeropoint.butler.execution.report import Status

    parts = [f"{done}/{report.n_quanta} done"]
    for name, count in (
        ("partial", report.count(Status.PARTIAL)),
        ("failed", report.count(Status.FAILED)),
        ("blocked", report.count(Status.BLOCKED)),
        ("running", n_running),
    ):
        if count:
            parts.append(f"{count} {name}")
    if done and elapsed_s > 0:
        parts.append(_rate(done / elapsed_s))
        if left := _left(report, elapsed_s):
            parts.append(left)
    return ", ".join(parts)


def _left(report: RunReport, elapsed_s: float) -> str:
    """Say how long the rest takes, of the tasks of which a few quanta are done; nothing if there is none."""
    todo = [tally for tally in report.tasks.values() if tally.n_done < tally.n_quanta]
    known = [tally for tally in todo if tally.n_done >= _MIN_DONE]
    worked_s = sum(tally.seconds for tally in report.tasks.values())
    if not known or not worked_s:
        return ""
    work_s = sum((tally.n_quanta - tally.n_done) * tally.seconds / tally.n_done for tally in known)
    text = f"{_duration(work_s * elapsed_s / worked_s)} left"
    return text if len(known) == len(todo) else f"at least {text}"


def _rate(per_second: float) -> str:
    return f"{per_second:.1f}/s" if per_second >= 1 else f"{1 / per_second:.1f} s each"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
