"""Good, usable or bad: a global calibration against the limits of ``fgcm_limits.yaml``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zeropoint.quality.report_rows import Row, limit_row
from zeropoint.quality.verdict import EXIT_CODES, Judgement, Verdict, judge_one, load_limits

__all__ = ["LIMITS", "BandTable", "band_tables", "judge_calibration"]

#: File of the limits.
LIMITS = "fgcm_limits.yaml"
_NOT_CONVERGED = (
    "The last fit ended before it converged: allow more steps (maxIterBeforeFinalCycle), or more cycles"
)
_ORDER = ("good", "usable", "bad")


@dataclass(frozen=True)
class BandTable:
    """Rows of one section of the report.

    Parameters
    ----------
    group
        Section.
    bands
        Columns; empty: one number for the calibration as a whole.
    rows
        Label, source of the limit, range expected, and the row of each column.
    """

    group: str
    bands: tuple[str, ...]
    rows: tuple[tuple[str, str, str, tuple[Row, ...]], ...]


def judge_calibration(
    metrics: Mapping[str, Any], caveats: Sequence[str] = (), failure: Exception | None = None
) -> Verdict:
    """Return the verdict on a calibration: that of its worst band.

    Parameters
    ----------
    metrics
        As `zeropoint.quality.fgcm.metrics.fgcm_metrics` returns them.
    caveats
        What was estimated instead of known; with any the calibration is at best usable.
    failure
        Why it ended early; with it the calibration is bad.
    """
    if failure is not None:
        return Verdict("bad", (f"{type(failure).__name__}: {failure}", *caveats), EXIT_CODES["bad"])
    found = [(one.level, one.reason) for one in _judgements(metrics) if one.level != "good"]
    found += [("usable", caveat) for caveat in caveats]
    found.sort(key=lambda item: -_ORDER.index(item[0]))  # stable: the worst first
    level = found[0][0] if found else "good"
    return Verdict(level, tuple(reason for _, reason in found), EXIT_CODES[level])


def _judgements(metrics: Mapping[str, Any]) -> list[Judgement]:
    """Return what each limit says, of the whole or of each band."""
    judgements = []
    for limit in load_limits(LIMITS):
        if limit.group == "fit":
            judged = judge_one(limit, metrics)
            if limit.quantity == "converged" and judged.reason:
                judged = replace(judged, reason=_NOT_CONVERGED)
            judgements.append(judged)
            continue
        for band, numbers in metrics["bands"].items():
            judgements.append(judge_one(replace(limit, label=f"{limit.label}, {band}"), numbers))
    return judgements


def band_tables(metrics: Mapping[str, Any]) -> list[BandTable]:
    """Return the tables of the report, section by section: each limit's quantity in each band.

    Parameters
    ----------
    metrics
        As for `judge_calibration`.
    """
    bands = tuple(metrics["bands"])
    rows: dict[str, list[tuple[str, str, str, tuple[Row, ...]]]] = {}
    for limit in load_limits(LIMITS):
        numbers = [metrics] if limit.group == "fit" else [metrics["bands"][band] for band in bands]
        found = tuple(limit_row(judge_one(limit, one)) for one in numbers)
        if limit.quantity == "converged":
            found = tuple(
                replace(row, value={"1": "yes", "0": "no"}.get(row.value, row.value)) for row in found
            )
        unit = f", {limit.unit}" if limit.unit else ""
        expected = "yes" if limit.quantity == "converged" else limit.expected().replace("-", "−")
        rows.setdefault(limit.group, []).append((f"{limit.label}{unit}", limit.source, expected, found))
    return [BandTable(group, () if group == "fit" else bands, tuple(found)) for group, found in rows.items()]
