"""One self-contained HTML page on a global calibration: verdict first, then numbers, then plots, then how it was made."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zeropoint.quality.fgcm.exposures import left_out
from zeropoint.quality.fgcm.figures import PANELS, draw
from zeropoint.quality.fgcm.report_data import FgcmReportData
from zeropoint.quality.fgcm.verdict import band_tables
from zeropoint.quality.report import png_bytes, render_template, write_atomically
from zeropoint.quality.verdict import Verdict, format_value

__all__ = ["draw_figures", "render_fgcm_report", "write_fgcm_report"]

_LOG = logging.getLogger(__name__)

#: Exposures that are listed one by one.
_MOST_LISTED = 200
#: Sections of the report and their titles, in order.
_GROUPS = {
    "fit": "Fit",
    "stars": "Stars",
    "exposures": "Exposures and atmosphere",
    "zeropoints": "Zeropoints",
    "camera": "Camera",
    "sky": "Sky",
    "references": "References",
    "run": "How the fit went",
}
_HEADLINES = {
    "good": "Everything checked is within its expected range.",
    "usable": "The calibration can be used, with care: read the reasons.",
    "bad": "Do not use this calibration.",
}


def write_fgcm_report(
    path: str | Path,
    data: FgcmReportData,
    metrics: Mapping[str, Any],
    verdict: Verdict,
    pictures: Mapping[str, bytes],
) -> None:
    """Write the report in one step.

    Parameters
    ----------
    path
        File to write.
    data, metrics, verdict
        As from `fgcm_metrics` and `judge_calibration`.
    pictures
        Name of a plot -> PNG, as `draw_figures` returns them.
    """
    write_atomically(path, render_fgcm_report(data, metrics, verdict, pictures))


def render_fgcm_report(
    data: FgcmReportData, metrics: Mapping[str, Any], verdict: Verdict, pictures: Mapping[str, bytes]
) -> str:
    """Return the report as HTML that needs nothing from outside; parameters as for `write_fgcm_report`."""
    sections: dict[str, list[dict[str, str]]] = {}
    for panel in PANELS:
        if panel.name in pictures:
            png = base64.b64encode(pictures[panel.name]).decode("ascii")
            entry = {"title": panel.title, "png": png, "expect": panel.expect}
            sections.setdefault(panel.group, []).append(entry)
    missing = [panel.title for panel in PANELS if panel.name not in pictures] if pictures else []
    failure = data.failure
    numbers: Mapping[str, Any] = getattr(failure, "metadata", {}) if failure is not None else {}
    return render_template(
        "fgcm_report.html.j2",
        data=data,
        verdict=verdict,
        headline=_HEADLINES[verdict.level],
        reasons=[reason for reason in verdict.reasons if reason not in data.caveats],
        facts=_facts(metrics),
        cards=_cards(metrics),
        groups=_GROUPS,
        tables=band_tables(metrics),
        figures=sections,
        missing=missing,
        accounting=_accounting(data),
        left_out=_left_out(data),
        left_out_title="Exposures that are not photometric"
        if metrics.get("has_photometric") is not False
        else "Exposures that are not in the fit",
        has_photometric=metrics.get("has_photometric", True),
        gray_scatter=format_value(1e3 * (metrics.get("joint_gray_sigma") or 0.0), 2),
        nights_without_fit=list(metrics.get("nights_without_fit", {}).items()),
        n_left_out=0 if data.facts is None else int((~data.facts.exposures.photometric).sum()),
        failure_name="" if failure is None else type(failure).__name__,
        failure_numbers=[(key.replace("_", " "), format_value(value, 4)) for key, value in numbers.items()],
    )


def draw_figures(data: FgcmReportData) -> dict[str, bytes]:
    """Draw the plots for which there is something to show.

    Parameters
    ----------
    data
        Report's data.

    Returns
    -------
    pictures
        Name of a plot -> PNG; a plot that fails is left out, and logged.
    """
    pictures: dict[str, bytes] = {}
    for panel in PANELS:
        if not panel.available(data):
            continue
        try:
            pictures[panel.name] = png_bytes(draw(panel.name, data))
        except Exception:  # one broken plot must not cost the report
            _LOG.warning("%s: the plot of %s failed", data.name, panel.title, exc_info=True)
    return pictures


def _facts(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what identifies the survey."""
    named = (
        ("Exposures", "n_exposures"),
        ("Nights", "n_nights"),
        ("Stars", "n_stars"),
        ("Observations in the fit", "n_used"),
        ("Cycles", "n_cycles"),
    )
    facts = [("Bands", ", ".join(metrics["bands"]))] if metrics["bands"] else []
    return facts + [(name, f"{int(metrics[key]):,}") for name, key in named if _known(metrics.get(key))]


def _known(value: Any) -> bool:
    return isinstance(value, int | float) and value == value


def _cards(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, value and remark of the few numbers that everyone looks for."""
    bands: Mapping[str, Mapping[str, Any]] = metrics["bands"]

    def across(key: str, form: str) -> str:
        values = [numbers.get(key) for numbers in bands.values()]
        known = [float(value) for value in values if isinstance(value, int | float) and value == value]
        if not known:
            return ""
        low, high = (format(value, form) for value in (min(known), max(known)))
        return low if low == high else f"{low} – {high}"

    before, noise = across("scatter_nominal_mmag", ".0f"), across("noise_mmag", ".1f")
    chi2 = metrics.get("chi2_dof")
    photometric = metrics.get("has_photometric") is not False
    title = "Photometric exposures" if photometric else "Exposures whose gray was fitted"
    used, there = metrics.get("n_photometric"), metrics.get("n_exposures")
    cards = [
        ("Repeatability", across("scatter_mmag", ".1f"), f"mmag; before {before}, noise {noise}" if before else f"mmag; noise {noise}"),
        ("Zeropoint error", across("zeropoint_err_mmag", ".2f"), "mmag, median of each band"),
        ("χ² per degree of freedom", format(chi2, ".3f") if _known(chi2) else "", "of the fit"),
        (title, f"{used:,}" if _known(used) else "", f"of {there:,}" if _known(there) else ""),
        ("Evenness on the sky", across("halves_mmag", ".1f"), "mmag, two halves of the data"),
        ("References", across("reference_offset_mmag", "+.1f"), f"mmag, mean of each band, ± {across('reference_offset_err_mmag', '.1f')}"),
    ]  # fmt: skip
    return [
        (name, value.replace("-", "−"), remark) if value else (name, "–", "not measured")
        for name, value, remark in cards
    ]


def _left_out(data: FgcmReportData) -> list[tuple[str, str, str, str, str]]:
    """Return the rows of exposures that are not photometric, the first of them."""
    if data.facts is None:
        return []
    return [
        (
            str(visit),
            band,
            f"{mjd:.4f}" if mjd == mjd else "–",
            f"{1e3 * gray:+.0f}".replace("-", "−") if gray == gray else "–",
            reasons,
        )
        for visit, band, mjd, gray, reasons in left_out(data.facts)[:_MOST_LISTED]
    ]


def _accounting(data: FgcmReportData) -> list[tuple[str, str, str, str]]:
    """Return the rows of the accounting."""
    if data.result is None:
        return []
    rows = []
    for name, stage in data.result.accounting.items():
        reasons = sorted(stage.rejected.items(), key=lambda item: -item[1])
        text = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in reasons)
        rows.append((name.replace("_", " "), f"{stage.read:,}", f"{stage.kept:,}", text))
    return rows
