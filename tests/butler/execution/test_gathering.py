"""Tasks that gather: what they do without the outputs of failed quanta, and when they get new inputs."""

from __future__ import annotations

import numpy as np
import pytest

from butler.execution.conftest import Mock
from zeropoint.butler.execution.report import RunReport


def counts(report: RunReport, label: str) -> dict[str, int]:
    return {status.value: n for status, n in report.tasks[label].counts.items() if n}


def mean_flux(mock: Mock, output: str, exposure: int) -> float:
    with mock.open() as butler:
        return float(
            butler.get("mock_mean", instrument="MockCam", exposure=exposure, collections=output)["flux"]
        )


def expected_flux(mock: Mock, exposure: int, *detectors: int) -> float:
    with mock.open() as butler:
        tables = [
            butler.get(
                "raw_numbers", instrument="MockCam", exposure=exposure, detector=i, collections="MockCam/raw"
            )
            for i in detectors
        ]
    return float(np.mean([2.0 * np.mean(table["flux"]) for table in tables]))


def test_a_failed_detector_costs_its_exposure_nothing_else_and_is_made_up_for_later(mock: Mock) -> None:
    query = "exposure IN (20, 21)"
    report = mock.run("gather", query, "measure:crash_on=[20]", "measure:crash_detector=1")
    assert counts(report, "measure") == {"good": 3, "failed": 1}
    assert counts(report, "mean") == {"good": 2}
    assert report.to_dict()["tasks"]["mean"]["incomplete"] == 1
    assert any("ran without what failed quanta should have given them: mean 1;" in s for s in report.lines())
    # the failed one had written its table, which must not be used
    assert mean_flux(mock, "gather", 20) == expected_flux(mock, 20, 0)
    again = mock.run("gather", query)
    assert again.n_skipped == 4
    assert counts(again, "measure") == counts(again, "mean") == {"good": 1}
    assert again.tasks["mean"].n_incomplete == 0
    assert mean_flux(mock, "gather", 20) == expected_flux(mock, 20, 0, 1)
    assert mock.run("gather", query).n_skipped == 6


def test_what_fails_for_good_is_all_that_is_done_again(mock: Mock) -> None:
    crash = ("measure:crash_on=[28]", "measure:crash_detector=1")
    mock.run("hopeless", "exposure = 28 AND detector IN (0, 1)", *crash)
    again = mock.run("hopeless", "exposure IN (28, 29)", *crash)
    # a new exposure beside it changes nothing for that one
    assert counts(again, "measure") == {"failed": 1, "good": 2}
    assert counts(again, "mean") == {"good": 1}
    assert (again.n_skipped, again.n_kept) == (2, 1)
    lines = list(again.lines())
    assert any(
        line.startswith("1 quanta that were done without what failed before are kept") for line in lines
    )
    assert 'what fails for good is left out by -d "NOT (exposure = 28 AND detector = 1)"' in lines
    excluded = mock.run("hopeless", "exposure IN (28, 29) AND NOT (exposure = 28 AND detector = 1)", *crash)
    assert (excluded.n_skipped, excluded.n_quanta) == (5, 0)


@pytest.mark.slow
def test_what_was_made_by_another_command_is_a_new_input_too(mock: Mock) -> None:
    mock.run("stepwise", "exposure = 30 AND detector = 0")
    mock.run("stepwise", "exposure = 30", pipeline=f"{mock.pipeline}#detectors")
    report = mock.run("stepwise", "exposure = 30")
    assert counts(report, "mean") == {"good": 1}
    assert mean_flux(mock, "stepwise", 30) == expected_flux(mock, 30, 0, 1)
    assert mock.run("stepwise", "exposure = 30").n_quanta == 0


def test_what_needs_any_output_of_a_failed_quantum_is_blocked_on_request(mock: Mock) -> None:
    report = mock.run(
        "blocking",
        "exposure = 20",
        "measure:crash_on=[20]",
        "measure:crash_detector=1",
        block_on_failure=True,
    )
    assert counts(report, "measure") == {"good": 1, "failed": 1}
    assert counts(report, "mean") == {"blocked": 1}


@pytest.mark.slow
def test_what_gets_new_inputs_is_done_again(mock: Mock) -> None:
    mock.run("growing", "exposure = 22 AND detector = 0")
    assert mean_flux(mock, "growing", 22) == expected_flux(mock, 22, 0)
    report = mock.run("growing", "exposure = 22")
    assert report.n_skipped == 1
    assert counts(report, "measure") == counts(report, "mean") == {"good": 1}
    assert mean_flux(mock, "growing", 22) == expected_flux(mock, 22, 0, 1)


def test_quanta_without_work_are_counted_with_the_reason_also_those_after_them(mock: Mock) -> None:
    report = mock.run("dark", "exposure IN (23, 24)", "measure:no_work_on=[23]")
    assert counts(report, "measure") == {"good": 2, "no work": 2}
    assert counts(report, "mean") == {"good": 1, "no work": 1}
    assert report.exit_code == 0
    lines = list(report.lines())
    assert "measure: 2 no work: NoWorkFound: dark night" in lines
    (line,) = [line for line in lines if line.startswith("mean: 1 no work")]
    assert line.endswith("there is no mock_stars: the task that makes it had no work, or failed")
    # done is done: without new inputs nothing is tried again
    assert mock.run("dark", "exposure IN (23, 24)").n_skipped == 6


@pytest.mark.parametrize("detectors", [pytest.param((0,), marks=pytest.mark.slow), (0, 1)])
def test_an_exposure_without_any_good_detector_is_blocked(mock: Mock, detectors: tuple[int, ...]) -> None:
    query = f"exposure = 25 AND detector IN ({', '.join(map(str, detectors))})"
    report = mock.run(f"all{len(detectors)}", query, "measure:crash_on=[25]")
    assert counts(report, "measure") == {"failed": len(detectors)}
    assert counts(report, "mean") == {"blocked": 1}


def test_quanta_that_the_graph_leaves_out_are_named(mock: Mock) -> None:
    report = mock.run("lacking", "exposure IN (26, 27)", "mean:without_inputs=26")
    assert counts(report, "measure") == {"good": 4}
    assert counts(report, "mean") == {"good": 1}
    (line,) = [line for line in report.lines() if "left out" in line]
    assert line.startswith("mean: 1 left out")
    assert "exposure=26" in line


def test_what_a_task_notes_of_good_quanta_is_in_the_report(mock: Mock) -> None:
    report = mock.run("noted", "exposure = 31", "measure:note=3 of 5 sources left out")
    lines = list(report.lines())
    assert "measure: 2 good: note: 3 of 5 sources left out" in lines
    assert "exposure=31" in lines[lines.index("measure: 2 good: note: 3 of 5 sources left out") + 1]
    tally = report.to_dict()["tasks"]["measure"]
    assert (len(tally["notes"]), tally["failures"], report.exit_code) == (1, [], 0)


CHAIN = """\
description: Gathers what is made in two steps.
tasks:
  measure: butler.execution.quantum_tasks.MeasureTask
  again:
    class: butler.execution.quantum_tasks.MeasureTask
    config:
      connections.numbers: mock_stars
      connections.stars: again_stars
      connections.pixels: again_pixels
      connections.stars_schema: again_schema
  mean:
    class: butler.execution.quantum_tasks.MeanTask
    config:
      connections.stars: again_stars
      connections.stars_schema: again_schema
"""


@pytest.mark.slow
def test_what_is_blocked_by_what_fails_again_is_no_new_input(mock: Mock) -> None:
    pipeline = mock.root / "chain.yaml"
    pipeline.write_text(CHAIN)
    crash = ("measure:crash_on=[32]", "measure:crash_detector=1")
    mock.run("chained", "exposure = 32", *crash, pipeline=str(pipeline))
    failed = mock.run("chained", "exposure = 32", *crash, pipeline=str(pipeline))
    assert (counts(failed, "measure"), counts(failed, "again")) == ({"failed": 1}, {"blocked": 1})
    assert "mean" not in failed.tasks
    cured = mock.run("chained", "exposure = 32", pipeline=str(pipeline))
    assert [counts(cured, label) for label in cured.tasks] == [{"good": 1}] * 3
