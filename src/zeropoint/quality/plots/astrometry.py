"""Residuals of the WCS: on the detector and against magnitude."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from zeropoint.quality.plots.style import (
    COLORS,
    STYLE,
    detector_limits,
    finish,
    flat_axes,
    image_axes,
    note,
    robust_limit,
)
from zeropoint.quality.report_data import ReportData
from zeropoint.quality.residuals import AstrometryResiduals, astrometry_residuals

__all__ = [
    "by_magnitude_caption",
    "plot_astrometry_by_magnitude",
    "plot_astrometry_vectors",
    "vectors_caption",
]

_NO_MATCHES = "no astrometric matches"


def _unit(residuals: AstrometryResiduals) -> tuple[float, str]:
    """Return the factor from arcsec and the name of a handy unit."""
    size = robust_limit(np.hypot(residuals.east, residuals.north), 0.0, 95, 1.0)
    return (1.0, "arcsec") if size > 0.5 else (1e3, "mas")


def plot_astrometry_vectors(data: ReportData, ax: Axes | None = None) -> Axes:
    """Plot source minus reference as an arrow on each match; matches that the fit rejected are gray.

    Parameters
    ----------
    data
        Report data.
    ax
        Axes to draw on; new ones if None.
    """
    shape = data.exposure.shape
    ax = image_axes(ax, shape)
    finish(ax, "Astrometric residuals", "x (pixel)", "y (pixel)", grid=False)
    residuals, wcs = astrometry_residuals(data), data.exposure.wcs
    if residuals is None:
        return note(ax, _NO_MATCHES)
    east, north = residuals.east, residuals.north
    factor, unit = _unit(residuals)
    typical = robust_limit(np.hypot(east, north)[residuals.used], 1e-6, 90, 1.0)
    typical = float(f"{typical:.1g}")
    length = 0.09 * max(shape)
    u, v = east, north
    if wcs is not None:
        # turn sky directions into pixel directions, keeping lengths
        jacobian = wcs.local_jacobian(x=residuals.x, y=residuals.y)
        turned = np.linalg.solve(jacobian, np.stack([east, north], -1)[..., None])[..., 0]
        size = np.hypot(turned[:, 0], turned[:, 1])
        with np.errstate(invalid="ignore", divide="ignore"):
            u, v = (np.hypot(east, north) * turned[:, k] / size for k in (0, 1))
    for rows, color in ((~residuals.used, COLORS["gray"]), (residuals.used, COLORS["blue"])):
        if rows.any():
            long = np.hypot(u[rows], v[rows])
            with np.errstate(invalid="ignore", divide="ignore"):
                shrink = np.where(long > 4 * typical, 4 * typical / long, 1.0) / typical * length
            options: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1.0, "units": "inches"}
            ax.quiver(
                residuals.x[rows],
                residuals.y[rows],
                u[rows] * shrink,
                v[rows] * shrink,
                color=color,
                width=0.014,
                headwidth=5,
                headlength=6,
                **options,
            )
    detector_limits(ax, shape)
    low, high = ax.get_xlim()
    key: dict[str, Any] = {"transform": ax.transAxes, "clip_on": False}
    ax.plot([1.02, 1.02 + length / (high - low)], [0.95, 0.95], color=STYLE["ink"], lw=1.4, **key)
    text = {"fontsize": STYLE["legend"], "va": "top"} | key
    ax.text(1.02, 0.93, f"{factor * typical:g} {unit}", color=STYLE["ink"], **text)
    if not residuals.used.all():
        ax.text(1.02, 0.84, "not used", color=COLORS["gray"], fontweight="bold", **text)
    return ax


def vectors_caption(data: ReportData, metrics: dict[str, Any]) -> str:
    """Return the caption of `plot_astrometry_vectors`."""
    n = metrics["astrom_n_match"]
    if not n:
        return "No source was matched."
    east, north = metrics["astrom_rms_east_arcsec"], metrics["astrom_rms_north_arcsec"]
    text = f"{n} matches, {metrics['astrom_n_used']} used: scatter {east:.3f} (East) and {north:.3f} arcsec (North)"
    pixels = metrics.get("astrom_rms_pix", np.nan)
    text += f", {pixels:.3f} pixel." if pixels == pixels else "."
    held = metrics.get("astrom_hold_out_east_arcsec", np.nan)
    if held == held:
        other = metrics.get("astrom_hold_out_north_arcsec", np.nan)
        text += f" Stars left out of the fit: {held:.3f} and {other:.3f} arcsec."
    moved = metrics.get("initial_to_final_wcs_arcsec", np.nan)
    return text + (f" The middle of the image moved by {moved:.2f} arcsec." if moved == moved else "")


def plot_astrometry_by_magnitude(data: ReportData, ax: Axes | None = None) -> Axes:
    """Plot source minus reference along East and North against magnitude."""
    ax = flat_axes(ax, data.exposure.shape)
    residuals = astrometry_residuals(data)
    title = "Astrometric residual by magnitude"
    if residuals is None:
        return note(finish(ax, title, "magnitude", "source − reference"), _NO_MATCHES)
    factor, unit = _unit(residuals)
    known = bool(np.isfinite(residuals.ref_mag).any())
    mag = residuals.ref_mag if known else residuals.src_mag
    values = factor * np.stack([residuals.east, residuals.north])
    limit = robust_limit(values[:, residuals.used].ravel(), 1e-6)
    ax.axhline(0.0, color=STYLE["ink"], lw=0.8)
    for value, color, marker, label in (
        (values[0], COLORS["blue"], "o", "East"),
        (values[1], COLORS["orange"], "^", "North"),
    ):
        for rows, alpha in ((residuals.used, 0.8), (~residuals.used, 0.25)):
            if rows.any():
                name = label if alpha > 0.5 else None
                y = np.clip(value[rows], -limit, limit)
                ax.scatter(mag[rows], y, s=16, marker=marker, color=color, alpha=alpha, lw=0, label=name)
    ax.set_ylim(-1.05 * limit, 1.05 * limit)
    label = "reference magnitude (AB)" if known else "instrumental magnitude"
    return finish(ax, title, label, f"source − reference ({unit})")


def by_magnitude_caption(data: ReportData, metrics: dict[str, Any]) -> str:
    """Return the caption of `plot_astrometry_by_magnitude`."""
    if not metrics["astrom_n_match"]:
        return "No source was matched."
    p95, correlation = metrics["astrom_p95_arcsec"], metrics["astrom_mag_rank_correlation"]
    text = f"95 % of the matches lie within {p95:.3f} arcsec."
    if correlation == correlation:
        text += f" Source and reference magnitudes have a rank correlation of {correlation:.2f}."
    odds = metrics.get("astrom_log10_false_probability", np.nan)
    if odds == odds:
        power = f"{max(-odds, 0):.0f}".translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
        text += f" Chance would give as good a match in one of 10{power} fields."
    return text
