"""Rows of the report's summary table: every limit, and numbers that have none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zeropoint.quality.verdict import Judgement, format_value, judge_one, load_limits

__all__ = ["GROUPS", "Row", "library_term_text", "limit_row", "psf_model_text", "summary_rows"]

#: Sections of the report and their titles, in order.
GROUPS = {"pixels": "Image and sources", "psf": "PSF", "astrometry": "Astrometry", "photometry": "Photometry"}

#: (section, quantity, quantity of its error, label, unit) of numbers without limits.
_FACTS = (
    ("pixels", "n_sky_sources", "", "Empty apertures placed on the sky", ""),
    ("pixels", "skyBg", "", "Sky", "e⁻/pixel"),
    ("pixels", "skyNoise", "", "Sky noise", "e⁻/pixel"),
    ("pixels", "sky_source_flux_median", "sky_source_flux_err", "Median flux of empty apertures", "e⁻"),
    ("pixels", "cosmic_ray_count", "", "Cosmic rays", ""),
    ("pixels", "magLim", "", "Limiting magnitude (point source, S/N 5)", "mag"),
    ("pixels", "effTime", "", "Effective exposure time", "s"),
    ("psf", "fwhm_arcsec", "", "PSF FWHM (2.355 σ)", "arcsec"),
    ("psf", "n_psf_candidates", "", "PSF candidates", ""),
    ("psf", "n_psf_reserved", "", "Reserved stars", ""),
    ("psf", "dT_T_used_mean", "dT_T_used_err", "Size residual of fitted stars, dT/T", ""),
    ("psf", "dT_T_reserved_mean", "dT_T_reserved_err", "Size residual of reserved stars, dT/T", ""),
    ("psf", "de1_reserved_mean", "de1_reserved_err", "Ellipticity residual of reserved stars, de1", ""),
    ("psf", "de2_reserved_mean", "de2_reserved_err", "Ellipticity residual of reserved stars, de2", ""),
    ("psf", "maxDistToNearestPsf", "", "Largest distance to a PSF star", "px"),
    ("astrometry", "pixelScale", "", "Pixel scale", "arcsec/px"),
    ("astrometry", "initial_to_final_wcs_arcsec", "", "Shift from the initial WCS", "arcsec"),
    ("astrometry", "astrom_hold_out_east_arcsec", "", "Scatter of stars left out, East", "arcsec"),
    ("astrometry", "astrom_hold_out_north_arcsec", "", "Scatter of stars left out, North", "arcsec"),
    ("astrometry", "astrom_p95_arcsec", "", "95th percentile of the residuals", "arcsec"),
    ("photometry", "zeropoint_per_second", "", "Zeropoint (AB magnitude of one electron per second)", "mag"),
    ("photometry", "photom_scatter_bright_mag", "", "Scatter of all matches with S/N > 50", "mag"),
    ("photometry", "photom_slope_mag", "photom_slope_mag_err", "Slope with magnitude", "mag/mag"),
    ("photometry", "photom_color_slope", "photom_color_slope_err", "Slope with color", "mag/mag"),
    ("photometry", "color_term_slope", "color_term_slope_err", "Fitted color term", "mag/mag"),
    (
        "photometry",
        "zeropoint_field_range_mag",
        "zeropoint_field_max_error_mag",
        "Fitted range of the zeropoint over the image",
        "mag",
    ),
    ("photometry", "photom_spatial_rms_mag", "", "Rms of the zeropoint over the image", "mag"),
    ("photometry", "photom_spatial_noise_mag", "", "The same from noise alone", "mag"),
)

#: Words of each level, so that nothing depends on color alone.
_WORDS = {"good": "ok", "usable": "warning", "bad": "bad"}


@dataclass(frozen=True)
class Row:
    """One row of the table: text ready to show."""

    quantity: str
    label: str
    value: str
    unit: str
    expected: str
    level: str
    word: str
    source: str
    is_sentence: bool = False


def limit_row(judged: Judgement) -> Row:
    """Return the row of a quantity with a limit.

    Parameters
    ----------
    judged
        What the limit says.
    """
    limit = judged.limit
    ignored = judged.value != judged.value and judged.level == "good"
    return Row(
        limit.quantity,
        limit.label,
        _value(judged.value, limit.unit),
        limit.unit,
        limit.expected().replace("-", "−"),
        "none" if ignored else judged.level,
        "" if ignored else _WORDS[judged.level],
        limit.source,
    )


def summary_rows(metrics: Mapping[str, Any]) -> dict[str, list[Row]]:
    """Return the rows of each section: limits first, then facts; facts that are not known are left out."""
    rows: dict[str, list[Row]] = {group: [] for group in GROUPS}
    for limit in load_limits():
        rows[limit.group].append(limit_row(judge_one(limit, metrics)))
    for group, quantity, error, label, unit in _FACTS:
        value = metrics.get(quantity)
        if not isinstance(value, int | float) or value != value:
            continue
        text = _value(value, unit)
        spread = metrics.get(error) if error else None
        if isinstance(spread, int | float) and spread == spread:
            text += f" ± {_value(spread, unit)}"
        rows[group].append(Row(quantity, label, text, unit, "", "none", "", ""))
    for group, quantity, label, text in (
        ("psf", "psf_determiner", "Model", psf_model_text(metrics)),
        ("photometry", "color_term_library", "Color term", library_term_text(metrics)),
    ):
        if text:
            rows[group].append(Row(quantity, label, text, "", "", "none", "", "", is_sentence=True))
    return {group: found for group, found in rows.items() if found}


def psf_model_text(metrics: Mapping[str, Any]) -> str:
    """Return how the PSF was modelled: determiner, solver and spatial order; empty if that is not known."""
    if "psf_determiner" not in metrics:
        return ""
    text = str(metrics["psf_determiner"])
    if "psf_solver" in metrics:
        text += f", {metrics['psf_solver']} solver"
    if "psf_fit_psfSpatialOrder" in metrics:
        text += f", spatial order {metrics['psf_fit_psfSpatialOrder']}"
    return text + (", lower than configured" if metrics.get("psf_fit_psfOrderReason") else "")


def library_term_text(metrics: Mapping[str, Any]) -> str:
    """Return the color term that a library gave; empty if none did."""
    if "color_term_library" not in metrics:
        return ""
    terms = ", ".join(f"c{i} {metrics[f'color_term_c{i}']:.4g}" for i in range(3))
    text = f"library “{metrics['color_term_library']}”, {metrics['color_term_color']}: {terms}"
    return text.replace("-", "−")


def _value(value: float, unit: str) -> str:
    """Return a number with four decimals if it is a magnitude, two for thousandths, else with three significant figures."""
    if value != value:
        return "not known"
    if unit.startswith("mmag"):
        return f"{value:.2f}".replace("-", "−")
    if 0 < abs(value) < 1e-4:
        return "< 0.0001" if value > 0 else "> −0.0001"
    text = f"{value:.4f}" if unit == "mag" else format_value(value)
    return text.replace("-", "−")
