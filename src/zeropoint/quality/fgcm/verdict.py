"""Good, usable or bad: a global calibration against the limits of ``fgcm_limits.yaml``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zeropoint.quality.report_rows import Row, limit_row
from zeropoint.quality.verdict import EXIT_CODES, Judgement, Limit, Verdict, judge_one, load_limits

__all__ = ["LIMITS", "BandTable", "band_tables", "judge_calibration"]

#: File of the limits.
LIMITS = "fgcm_limits.yaml"
_NOT_CONVERGED = (
    "The last fit ended before it converged: allow more steps (maxIterBeforeFinalCycle), or more cycles"
)
_CHI2 = {
    "above": "observations scatter by more than their errors: errors of magnitudes that are too small (sigma0Phot), flats that vary "
    "within detectors (superStarSubCcdDict), passbands of another camera, or a wash or a change of the camera that is not "
    "named; errors of zeropoints were made larger by its root",
    "below": "observations scatter by less than their errors: errors of magnitudes, or sigma0Phot, that are too large",
}
_AIRMASS = "check latitude and longitude (east is positive) of the site, and the times of the visits"
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
    if metrics.get("has_photometric") is False:
        found.append(("usable", _not_photometric(metrics)))
    found += [("usable", caveat) for caveat in caveats]
    found.sort(key=lambda item: -_ORDER.index(item[0]))  # stable: the worst first
    level = found[0][0] if found else "good"
    return Verdict(level, tuple(reason for _, reason in found), EXIT_CODES[level])


def _not_photometric(metrics: Mapping[str, Any]) -> str:
    scatter = metrics.get("joint_gray_sigma")
    by = (
        "" if scatter is None else f"exposures scatter by {1e3 * scatter:.0f} mmag about any atmosphere, and "
    )
    return (
        f"No part of the nights is photometric: {by}the gray of each was fitted; magnitudes rest on stars that exposures share and "
        "on references"
    )


def _limits(metrics: Mapping[str, Any]) -> Iterator[Limit]:
    """Yield the limits that apply, with the words that do."""
    photometric = metrics.get("has_photometric") is not False
    for limit in load_limits(LIMITS):
        if photometric or limit.group != "exposures":
            yield limit
        elif limit.quantity != "gray_rms_mmag":  # the gray is fitted, and as large as the clouds are
            yield replace(
                limit, label=limit.label.replace("Photometric exposures", "Exposures whose gray was fitted")
            )


def _judgements(metrics: Mapping[str, Any]) -> list[Judgement]:
    """Return what each limit says, of the whole or of each band."""
    judgements = []
    for limit in _limits(metrics):
        if limit.group == "fit":
            judged = judge_one(limit, metrics)
            if limit.quantity == "converged" and judged.reason:
                judged = replace(judged, reason=_NOT_CONVERGED)
            elif limit.quantity == "beyond_airmass_fraction" and judged.reason:
                judged = replace(judged, reason=f"{judged.reason}: {_AIRMASS}")
            elif limit.quantity == "chi2_dof" and judged.reason and judged.value == judged.value:
                side = "above" if judged.value > 1 else "below"
                judged = replace(judged, reason=f"{judged.reason}: {_CHI2[side]}")
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
    for limit in _limits(metrics):
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
