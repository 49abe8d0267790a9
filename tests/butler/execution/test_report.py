"""Counts, exit codes and the table at the end."""

from __future__ import annotations

import json
import uuid

import pytest

from zeropoint.butler.execution.report import QuantumOutcome, RunReport, Status, TaskTally


def _report(*outcomes: tuple[Status, bool]) -> RunReport:
    report = RunReport("REPO", "u/x", run="u/x/1", graph="REPO/graphs/u/x/1.qg")
    report.tasks["measure"] = TaskTally(len(outcomes))
    for i, (status, algorithmic) in enumerate(outcomes):
        error = "a.b.TooFew" if status in (Status.FAILED, Status.PARTIAL) else ""
        report.add(
            QuantumOutcome(
                uuid.UUID(int=i), "measure", f"visit={i}", status, error, "only 3", algorithmic, seconds=0.5
            )
        )
    return report


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([(Status.GOOD, False), (Status.NO_WORK, False)], 0),
        ([(Status.GOOD, False), (Status.PARTIAL, True)], 4),
        ([(Status.FAILED, True), (Status.BLOCKED, False)], 4),
        ([(Status.FAILED, True), (Status.FAILED, False)], 1),
    ],
)
def test_the_exit_code_tells_data_from_defects(outcomes: list[tuple[Status, bool]], code: int) -> None:
    assert _report(*outcomes).exit_code == code


def test_an_interruption_or_an_error_has_its_own_exit_code() -> None:
    report = _report((Status.PARTIAL, True))
    report.interrupted = True
    assert report.exit_code == 130
    report.error = "the disk is full"
    assert report.exit_code == 1


def test_the_table_names_failures_by_class_with_their_data_ids() -> None:
    report = _report(*[(Status.FAILED, True)] * 7, (Status.GOOD, False))
    text = list(report.lines())
    assert text[1].split() == ["measure", "8", "1", "0", "0", "7", "0", "0", "0.50"]
    assert text[2] == "measure: 7 failed: a.b.TooFew: only 3"
    assert text[3].strip() == "visit=0; visit=1; visit=2; visit=3; visit=4; and 2 more"
    summary = json.loads(json.dumps(report.to_dict()))
    assert summary["tasks"]["measure"]["failures"][0]["count"] == 7
    assert summary["exit_code"] == 4


def test_failures_of_one_class_are_told_apart_by_what_their_messages_say() -> None:
    report = _report()
    report.tasks["measure"] = TaskTally(4)
    messages = ("only 3 stars, 1.5 needed", "no PSF", "only 12 stars, 2e3 needed", "no PSF")
    for i, message in enumerate(messages):
        outcome = QuantumOutcome(
            uuid.UUID(int=i), "measure", f"visit={i}", Status.FAILED, "RuntimeError", message
        )
        report.add(outcome)
    text = "\n".join(report.lines())
    assert "2 failed: RuntimeError: for example: only 3 stars, 1.5 needed\n    visit=0; visit=2\n" in text
    assert "2 failed: RuntimeError: no PSF\n    visit=1; visit=3\n" in text


def test_a_message_of_its_own_for_each_image_does_not_make_the_table_long() -> None:
    report = _report()
    report.tasks["measure"] = TaskTally(100)
    for i in range(100):
        name = chr(ord("a") + i % 10) * (i + 1)
        report.add(
            QuantumOutcome(uuid.UUID(int=i), "measure", f"visit={i}", Status.FAILED, "E", f"{name} is bad")
        )
    failures = report.to_dict()["tasks"]["measure"]["failures"]
    assert len(failures) <= 21
    assert failures[-1]["is_example"]
    assert sum(kind["count"] for kind in failures) == 100


def test_where_nothing_was_run_notes_come_first() -> None:
    report = RunReport("REPO", "u/x", n_skipped=3, notes=["measure: the configuration differs"])
    assert next(report.lines()) == "measure: the configuration differs"


def test_a_few_failures_can_be_left_out_by_a_query_and_the_last_line_says_how_to_go_on() -> None:
    report = RunReport("REPO", "u/x", run="u/x/1", graph="REPO/graphs/u/x/1.qg", interrupted=True)
    report.plan({"measure": 5, "idle": 0})
    for visit in (103, 104):
        data_id = f"instrument=Cam visit={visit} detector=1"
        report.add(QuantumOutcome(uuid.uuid4(), "measure", data_id, Status.FAILED, "E", "bad"))
    lines = list(report.lines())
    query = "NOT (visit = 103 AND detector = 1) AND NOT (visit = 104 AND detector = 1)"
    assert f'what fails for good is left out by -d "{query}"' in lines
    assert lines[-1] == "interrupted: the same command goes on and does what is missing"
    report.is_of_graph_file = True
    assert list(report.lines())[-1] == "interrupted: zeropoint run with -p, -i and -o does what is missing"
    assert not any("-d" in line for line in _report(*[(Status.FAILED, True)] * 4).lines())
