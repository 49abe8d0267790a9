"""What became of the quanta of a run: counts, failures by class, exit code, table."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

__all__ = ["QuantumOutcome", "RunReport", "Status", "TaskTally"]

#: Data ids kept for each kind of failure; all are counted, and all are in the repository's logs.
_MAX_DATA_IDS = 1000
_SHOWN_DATA_IDS = 5
#: Most data ids in the query that leaves out what failed.
_MAX_EXCLUDED = 3
#: Kinds of failures of a task that are told apart by their messages; further ones by their class only.
_MAX_KINDS = 20
#: What differs between messages that say the same of two images.
_NUMBER = re.compile(r"[-+]?\b(\d+\.?\d*(e[-+]?\d+)?|nan|inf)\b|[-+]?\.\d+(e[-+]?\d+)?", re.IGNORECASE)


class Status(Enum):
    """How a quantum ended."""

    GOOD = "good"
    PARTIAL = "partial"
    NO_WORK = "no work"
    FAILED = "failed"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class QuantumOutcome:
    """What became of one quantum.

    Attributes
    ----------
    quantum_id, label, data_id
        Which one; the data id as text.
    status
        How it ended.
    error_type, message
        Class and text of the exception of a failed or partial one, or of one without work.
    algorithmic
        The exception says that the data cannot be processed, not that something is broken.
    disk_full
        Its outputs could not be written for want of space.
    seconds, cpu_seconds
        Wall and processor time in the worker.
    note
        What a task that did its work has to say of it: its metadata's ``note``.
    is_incomplete
        It ran without inputs that failed quanta should have made.
    """

    quantum_id: uuid.UUID
    label: str
    data_id: str
    status: Status
    error_type: str = ""
    message: str = ""
    algorithmic: bool = False
    disk_full: bool = False
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    note: str = ""
    is_incomplete: bool = False


@dataclass
class _Failures:
    """Quanta of one task that ended alike."""

    status: Status
    error_type: str
    message: str
    count: int = 0
    data_ids: list[str] = field(default_factory=list)
    #: ``message`` is the first one of several.
    is_example: bool = False


class _Kinds(dict[tuple[Status, str, str], _Failures]):
    """Quanta of one task by status, class and what their messages say but for numbers."""

    def count(self, outcome: QuantumOutcome, error_type: str, message: str) -> None:
        """Count one quantum."""
        key = (outcome.status, error_type, _NUMBER.sub("#", message))
        if key not in self and len(self) >= _MAX_KINDS:
            key = (outcome.status, error_type, "")
        kind = self.setdefault(key, _Failures(outcome.status, error_type, message))
        kind.is_example |= message != kind.message
        kind.count += 1
        if len(kind.data_ids) < _MAX_DATA_IDS:
            kind.data_ids.append(outcome.data_id)


@dataclass
class TaskTally:
    """Counts of one task."""

    n_quanta: int
    counts: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(Status, 0))
    failures: _Kinds = field(default_factory=_Kinds)
    notes: _Kinds = field(default_factory=_Kinds)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    n_incomplete: int = 0

    @property
    def n_done(self) -> int:
        """Number of quanta whose fate is known."""
        return sum(self.counts.values())


@dataclass
class RunReport:
    """Result of a run.

    Attributes
    ----------
    repository, output, run, graph
        Where outputs and graph are; ``run`` is empty if nothing was left to do.
    tasks
        Tallies by label, in the order of the pipeline.
    n_skipped
        Quanta that an earlier run had done.
    n_kept
        Those of them that an earlier run had done without what failed, which failed again.
    notes
        Sentences for the user.
    is_of_graph_file
        It runs a graph made earlier, which can be run once only.
    error
        What ended the run early, if anything did.
    interrupted
        The user or the system stopped it.
    seconds
        Wall time of the whole.
    """

    repository: str
    output: str
    run: str = ""
    graph: str = ""
    tasks: dict[str, TaskTally] = field(default_factory=dict)
    n_skipped: int = 0
    n_kept: int = 0
    notes: list[str] = field(default_factory=list)
    is_of_graph_file: bool = False
    error: str = ""
    interrupted: bool = False
    seconds: float = 0.0
    #: A failure that no property of the data explains.
    unexpected: bool = False

    def plan(self, n_quanta: Mapping[str, int]) -> None:
        """Take note of quanta that are to be run, label -> number."""
        for label, n in n_quanta.items():
            if n:
                self.tasks.setdefault(label, TaskTally(0)).n_quanta += n
        self.tasks = {label: self.tasks[label] for label in n_quanta if label in self.tasks}

    def add(self, outcome: QuantumOutcome) -> None:
        """Count one quantum."""
        tally = self.tasks[outcome.label]
        tally.counts[outcome.status] += 1
        tally.seconds += outcome.seconds
        tally.cpu_seconds += outcome.cpu_seconds
        tally.n_incomplete += outcome.is_incomplete
        if outcome.status is Status.FAILED and not outcome.algorithmic:
            self.unexpected = True
        if outcome.error_type:
            tally.failures.count(outcome, outcome.error_type, outcome.message)
        if outcome.note:
            tally.notes.count(outcome, "note", outcome.note)

    def count(self, *statuses: Status) -> int:
        """Return the number of quanta with any of these statuses."""
        return sum(tally.counts[status] for tally in self.tasks.values() for status in statuses)

    @property
    def n_quanta(self) -> int:
        """Number of quanta of the graph."""
        return sum(tally.n_quanta for tally in self.tasks.values())

    @property
    def n_not_run(self) -> int:
        """Number of quanta that the run did not come to."""
        return self.n_quanta - sum(tally.n_done for tally in self.tasks.values())

    @property
    def exit_code(self) -> int:
        """0 all good; 4 some failed or are partial because of their data; 130 interrupted; 1 anything else."""
        if self.error or self.unexpected:
            return 1
        if self.interrupted:
            return 130
        return 4 if self.count(Status.FAILED, Status.PARTIAL, Status.BLOCKED) else 0

    def _excluding_query(self) -> str:
        """Return the option that leaves out the data of the first failures, empty if they are none or many."""
        for tally in self.tasks.values():
            data_ids = [
                key
                for kind in tally.failures.values()
                if kind.status is Status.FAILED
                for key in kind.data_ids
            ]
            if data_ids:
                return _not_query(data_ids) if len(data_ids) <= _MAX_EXCLUDED else ""
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "repository": self.repository,
            "output": self.output,
            "run": self.run or None,
            "graph": self.graph or None,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "interrupted": self.interrupted,
            "error": self.error or None,
            "notes": self.notes,
            "quanta": self.n_quanta,
            "skipped": self.n_skipped,
            "kept": self.n_kept,
            "not_run": self.n_not_run,
            "tasks": {label: _task_dict(tally) for label, tally in self.tasks.items()},
        }

    def lines(self) -> Iterator[str]:
        """Yield the table that is printed at the end."""
        if not self.run:
            yield from self.notes
            yield f"nothing to do: all {self.n_skipped} quanta were done before, in {self.output}"
            return
        yield from _table(
            [("task", "quanta", "good", "partial", "no work", "failed", "blocked", "not run", "s each")],
            (_row(label, tally) for label, tally in self.tasks.items()),
        )
        for label, tally in self.tasks.items():
            for kind in (*tally.failures.values(), *tally.notes.values()):
                example = "for example: " if kind.is_example else ""
                yield f"{label}: {kind.count} {kind.status.value}: {kind.error_type}: {example}{kind.message}"
                yield f"    {_some(kind.data_ids, kind.count)}"
        if incomplete := [f"{label} {t.n_incomplete}" for label, t in self.tasks.items() if t.n_incomplete]:
            yield (
                f"ran without what failed quanta should have given them: {', '.join(incomplete)}; the same command "
                "tries the failed ones again, and these if they succeed"
            )
        if self.n_kept:
            yield f"{self.n_kept} quanta that were done without what failed before are kept: nothing new is there for them"
        if excluding := self._excluding_query():
            yield f"what fails for good is left out by {excluding}"
        yield from self.notes
        if self.n_skipped:
            yield f"skipped {self.n_skipped} quanta that an earlier run did"
        yield f"outputs and logs (datasets LABEL_log): {self.run}, first in {self.output}"
        yield f"details: pipetask report {self.repository} {self.graph} --force-v2 --read-caveats exhaustive"
        if self.interrupted:
            how = (
                "zeropoint run with -p, -i and -o does"
                if self.is_of_graph_file
                else "the same command goes on and does"
            )
            yield f"interrupted: {how} what is missing"


def _not_query(data_ids: Iterable[str]) -> str:
    """Return the option that leaves out some data, empty where instrument and sky map are all that names them."""
    terms = []
    for data_id in data_ids:
        pairs = [word.partition("=")[::2] for word in data_id.split()]
        if not all(name and value for name, value in pairs):
            return ""  # a value with a space in it
        parts = [
            f"{name} = {value if value.isdigit() else repr(value)}"
            for name, value in sorted(pairs, key=lambda pair: pair[0] == "detector")
            if name not in ("instrument", "skymap")
        ]
        if not parts:
            return ""
        terms.append(f"NOT ({' AND '.join(parts)})")
    return f'-d "{" AND ".join(terms)}"'


def _task_dict(tally: TaskTally) -> dict[str, Any]:
    return {
        "quanta": tally.n_quanta,
        **{status.value.replace(" ", "_"): n for status, n in tally.counts.items()},
        "not_run": tally.n_quanta - tally.n_done,
        "incomplete": tally.n_incomplete,
        "seconds": round(tally.seconds, 3),
        "cpu_seconds": round(tally.cpu_seconds, 3),
        "failures": [_kind_dict(kind) for kind in tally.failures.values()],
        "notes": [_kind_dict(kind) for kind in tally.notes.values()],
    }


def _kind_dict(kind: _Failures) -> dict[str, Any]:
    return {
        "status": kind.status.value,
        "exception": kind.error_type,
        "message": kind.message,
        "is_example": kind.is_example,
        "count": kind.count,
        "data_ids": kind.data_ids,
    }


def _row(label: str, tally: TaskTally) -> tuple[str, ...]:
    counts = tally.counts
    ran = tally.n_done - counts[Status.BLOCKED]
    numbers = (
        tally.n_quanta,
        counts[Status.GOOD],
        counts[Status.PARTIAL],
        counts[Status.NO_WORK],
        counts[Status.FAILED],
        counts[Status.BLOCKED],
        tally.n_quanta - tally.n_done,
    )
    return (label, *(str(n) for n in numbers), f"{tally.seconds / ran:.2f}" if ran else "-")


def _table(head: list[tuple[str, ...]], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    lines = [*head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        cells = [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:]))]
        yield "  ".join(cells).rstrip()


def _some(data_ids: list[str], count: int) -> str:
    shown = "; ".join(data_ids[:_SHOWN_DATA_IDS])
    return shown if count <= _SHOWN_DATA_IDS else f"{shown}; and {count - _SHOWN_DATA_IDS} more"
