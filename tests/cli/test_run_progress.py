"""What a run that goes on says of the time that it will take."""

from __future__ import annotations

import uuid

from zeropoint.butler.execution.report import QuantumOutcome, RunReport, Status
from zeropoint.cli.run_progress import _describe


def _ended(report: RunReport, label: str, seconds: float, n: int) -> None:
    for _ in range(n):
        report.add(QuantumOutcome(uuid.uuid4(), label, "visit=1", Status.GOOD, seconds=seconds))


def test_the_time_left_is_estimated_task_by_task_once_a_few_of_its_quanta_are_done() -> None:
    report = RunReport("REPO", "u/x")
    report.plan({"slow": 10, "quick": 100})
    _ended(report, "slow", 30.0, 3)
    # two workers: 90 s of work in 45 s
    assert _describe(report, 2, 3, 45.0) == "3/110 done, 2 running, 15.0 s each"
    _ended(report, "slow", 30.0, 1)
    assert _describe(report, 2, 4, 60.0).endswith("at least 1:30 left")
    _ended(report, "quick", 1.0, 4)
    assert _describe(report, 2, 8, 62.0).endswith(", 2:18 left")
