"""Residuals of the zeropoint against magnitude, color and position."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from zeropoint.datamodel.exposure import PhotoCalib
from zeropoint.quality.plots.style import (
    COLORS,
    STYLE,
    color_bar,
    detector_limits,
    finish,
    flat_axes,
    image_axes,
    note,
    robust_limit,
)
from zeropoint.quality.report_data import ReportData
from zeropoint.quality.report_rows import library_term_text
from zeropoint.quality.residuals import PhotometryResiduals, photometry_residuals
from zeropoint.quality.robust import fit_line, median

__all__ = [
    "plot_zeropoint_by_color",
    "plot_zeropoint_by_magnitude",
    "plot_zeropoint_by_position",
    "plot_zeropoint_field",
    "zeropoint_by_color_caption",
    "zeropoint_by_magnitude_caption",
    "zeropoint_by_position_caption",
    "zeropoint_field_caption",
]

_NO_MATCHES = "no zeropoint"
_LABEL = "reference − calibrated (mag)"


def plot_zeropoint_by_magnitude(data: ReportData, ax: Axes | None = None) -> Axes:
    """Plot reference minus calibrated magnitude against reference magnitude, with running medians."""
    ax = flat_axes(ax, data.exposure.shape)
    title = "Zeropoint residual by magnitude"
    residuals = photometry_residuals(data)
    if residuals is None:
        return note(finish(ax, title, "reference magnitude (AB)", _LABEL), _NO_MATCHES)
    _residual_plot(ax, residuals, residuals.mag)
    return finish(ax, title, "reference magnitude (AB)", _LABEL)


def _residual_plot(ax: Axes, residuals: PhotometryResiduals, x: np.ndarray) -> None:
    """Draw stars with error bars, those left out in gray, medians of equal numbers, in place."""
    limit = robust_limit(residuals.residual[residuals.used], 0.02, 99, 1.6)
    y = np.clip(residuals.residual, -limit, limit)
    ax.axhline(0.0, color=STYLE["ink"], lw=0.8)
    out, used = ~residuals.used, residuals.used
    if out.any():
        ax.scatter(
            x[out],
            y[out],
            s=14,
            marker="x",
            color=COLORS["gray"],
            lw=0.9,
            label=f"not used ({int(out.sum())})",
        )
    if used.any():
        error = np.minimum(np.nan_to_num(residuals.error[used]), limit)
        ax.errorbar(
            x[used],
            y[used],
            yerr=error,
            fmt="o",
            ms=3.2,
            mew=0,
            lw=0.6,
            color=COLORS["blue"],
            alpha=0.65,
            label=f"used ({int(used.sum())})",
        )
        bx, by = _running_medians(x[used], residuals.residual[used])
        if len(bx):
            ax.plot(bx, by, color=COLORS["vermillion"], lw=1.6, marker="s", ms=4, label="median")
    ax.set_ylim(-1.05 * limit, 1.05 * limit)


def _running_medians(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return medians of x and y in up to eight groups of equal numbers, at least seven stars each."""
    good = np.isfinite(x) & np.isfinite(y)
    order = np.argsort(x[good], kind="stable")
    n = min(8, len(order) // 7)
    if n < 2:
        return np.zeros(0), np.zeros(0)
    groups = np.array_split(order, n)
    xs, ys = x[good], y[good]
    return np.array([np.median(xs[g]) for g in groups]), np.array([np.median(ys[g]) for g in groups])


def zeropoint_by_magnitude_caption(data: ReportData, metrics: dict[str, Any]) -> str:
    """Return the caption of `plot_zeropoint_by_magnitude`."""
    zeropoint = metrics.get("zeroPoint", np.nan)
    if zeropoint != zeropoint:
        return "No zeropoint was measured."
    scatter = metrics["photom_scatter_mag"]
    error = metrics.get("zeropoint_err", np.nan)
    text = (
        f"Zeropoint {zeropoint:.4f}" + (f" ± {error:.4f}" if error == error else "") + " mag for one electron"
    )
    per_second = metrics["zeropoint_per_second"]
    text += f" ({per_second:.4f} mag for one electron per second)" if per_second == per_second else ""
    text += f"; {metrics['photom_n_cal']} stars scatter by {scatter:.4f} mag"
    held = metrics.get("photom_hold_out_scatter_mag", np.nan)
    text += f", stars left out by {held:.4f} mag." if held == held else "."
    slope, slope_err = metrics["photom_slope_mag"], metrics["photom_slope_mag_err"]
    return text + (f" Slope {slope:+.4f} ± {slope_err:.4f} mag per mag." if slope == slope else "")


def plot_zeropoint_by_color(data: ReportData, ax: Axes | None = None) -> Axes:
    """Plot reference minus calibrated magnitude against the references' color, with the fitted line."""
    ax = flat_axes(ax, data.exposure.shape)
    title = "Zeropoint residual by color"
    residuals = photometry_residuals(data)
    if residuals is None or not np.isfinite(residuals.color).any():
        return note(finish(ax, title, "color (mag)", _LABEL), "the references have no color")
    _residual_plot(ax, residuals, residuals.color)
    used = residuals.used
    line = fit_line(residuals.color[used], residuals.residual[used])
    if np.isfinite(line.slope):
        ends = np.nanpercentile(residuals.color[used], [1, 99])
        ax.plot(
            ends,
            line.offset + line.slope * (ends - line.pivot),
            color=COLORS["black"],
            lw=1.0,
            ls="--",
            label="line",
        )
    return finish(ax, title, f"reference color {residuals.color_name} (mag)", _LABEL)


def zeropoint_by_color_caption(data: ReportData, metrics: dict[str, Any]) -> str:
    """Return the caption of `plot_zeropoint_by_color`."""
    slope, name = metrics.get("photom_color_slope", np.nan), metrics.get("photom_color", "")
    if slope != slope or not name:
        return "The references have one band only, so there is no color to compare with."
    low, high = metrics["photom_color_min"], metrics["photom_color_max"]
    text = f"Slope {slope:+.4f} ± {metrics['photom_color_slope_err']:.4f} mag per mag of {name}, "
    text += f"for colors from {low:.2f} to {high:.2f}."
    return text + " " + _color_term_sentence(metrics)


def _color_term_sentence(metrics: dict[str, Any]) -> str:
    if "color_term_library" in metrics:
        return f"With the color term of the {library_term_text(metrics)}."
    kept = metrics.get("color_term_kept")
    if kept is None:
        return "No color term was fitted."
    if not kept:
        return f"A fitted color term was not kept: {metrics.get('color_term_reason', '')}."
    term = f"{metrics['color_term_slope']:+.4f} ± {metrics['color_term_slope_err']:.4f} mag per mag"
    if metrics.get("color_term_curvature"):
        term += (
            f", curvature {metrics['color_term_curvature']:+.4f} ± {metrics['color_term_curvature_err']:.4f}"
        )
    text = f"A fitted color term of {term} is taken out"
    if "color_term_color" in metrics:
        text += (
            f" (camera = catalog at {metrics['color_term_color']} = {metrics['color_term_reference']:.2f}); with it "
            f"stars left out scatter by {metrics['color_term_hold_out_with']:.4f} mag instead of "
            f"{metrics['color_term_hold_out_without']:.4f}"
        )
    return text + "."


def plot_zeropoint_by_position(data: ReportData, ax: Axes | None = None) -> Axes:
    """Plot reference minus calibrated magnitude of each star on the detector."""
    shape = data.exposure.shape
    ax = image_axes(ax, shape)
    finish(ax, "Zeropoint residual by position", "x (pixel)", "y (pixel)", grid=False)
    residuals = photometry_residuals(data)
    if residuals is None:
        return note(ax, _NO_MATCHES)
    used = residuals.used
    limit = robust_limit(residuals.residual[used] - median(residuals.residual[used]), 0.005, 90, 1.0)
    shown = ax.scatter(
        residuals.x[used],
        residuals.y[used],
        c=residuals.residual[used],
        s=24,
        cmap=STYLE["diverging"],
        vmin=-limit,
        vmax=limit,
        edgecolors=STYLE["line"],
        linewidths=0.4,
    )
    detector_limits(ax, shape)
    color_bar(ax, shown, _LABEL)
    return ax


def zeropoint_by_position_caption(data: ReportData, metrics: dict[str, Any]) -> str:
    """Return the caption of `plot_zeropoint_by_position`."""
    rms = metrics.get("photom_spatial_rms_mag", np.nan)
    if rms != rms:
        return "Too few stars to measure how the zeropoint varies over the image."
    n = metrics["photom_spatial_cells"]
    noise = metrics["photom_spatial_noise_mag"]
    return f"Medians in {n} × {n} cells vary by {rms:.4f} mag rms; noise alone would give {noise:.4f} mag."


def plot_zeropoint_field(data: ReportData, ax: Axes | None = None) -> Axes:
    """Plot the fitted variation of the zeropoint over the image, and each star's own value on top."""
    shape = data.exposure.shape
    ax = image_axes(ax, shape)
    finish(ax, "Zeropoint over the image", "x (pixel)", "y (pixel)", grid=False)
    calib, residuals = data.photo_calib, photometry_residuals(data)
    if calib is None or residuals is None:
        return note(ax, _NO_MATCHES)
    height, width = shape
    x, y = np.meshgrid(np.linspace(0, width - 1, 101), np.linspace(0, height - 1, 101))
    field = _offset(calib, x, y)
    used = residuals.used
    own = residuals.residual[used] + _offset(calib, residuals.x[used], residuals.y[used])
    limit = max(float(np.abs(field).max()), 0.005)
    colors: dict[str, Any] = {"cmap": STYLE["diverging"], "vmin": -limit, "vmax": limit}
    shown = ax.imshow(
        field,
        origin="lower",
        extent=(-0.5, width - 0.5, -0.5, height - 0.5),
        interpolation="bilinear",
        **colors,
    )
    ax.scatter(
        residuals.x[used],
        residuals.y[used],
        c=own,
        s=24,
        edgecolors=STYLE["line"],
        linewidths=0.4,
        **colors,
    )
    detector_limits(ax, shape)
    color_bar(ax, shown, "zeropoint − its mean (mag)")
    return ax


def _offset(calib: PhotoCalib, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the local zeropoint less that of the mean calibration, mag."""
    return np.asarray(-2.5 * np.log10(calib.at(x=x, y=y) / calib.calibration_mean))


def zeropoint_field_caption(data: ReportData, metrics: dict[str, Any]) -> str:
    """Return the caption of `plot_zeropoint_field`."""
    order = metrics.get("zeropoint_field_order")
    if not order:
        reason = metrics.get("zeropoint_field_reason")
        return "The zeropoint is the same everywhere" + (f": {reason}." if reason else ".")
    before, after = (metrics[f"zeropoint_field_hold_out_{k}"] for k in (0, order))
    return (
        f"A field of order {order} with a range of {metrics['zeropoint_field_range_mag']:.4f} mag, known to "
        f"{metrics['zeropoint_field_max_error_mag']:.4f} mag everywhere, is applied to pixels and fluxes; stars left "
        f"out agree to {after:.4f} mag instead of {before:.4f}."
    )
