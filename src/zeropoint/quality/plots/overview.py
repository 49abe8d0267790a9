"""How many sources at which magnitude, and where the time went."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from zeropoint.quality.plots.style import COLORS, STYLE, finish, flat_axes, note
from zeropoint.quality.report_data import ReportData
from zeropoint.quality.residuals import flags, star_magnitudes

__all__ = ["counts_caption", "plot_number_counts", "plot_timing", "timing_caption"]


def plot_number_counts(data: ReportData, ax: Axes | None = None) -> Axes:
    """Plot the number of sources in half-magnitude bins, and the limiting magnitude.

    Parameters
    ----------
    data
        Report data.
    ax
        Axes to draw on; new ones if None.
    """
    ax = flat_axes(ax, data.exposure.shape)
    calibrated = bool(np.isfinite(data.zeropoint))
    label = "PSF magnitude (AB)" if calibrated else "PSF magnitude (instrumental)"
    table = data.stars if data.stars is not None else data.psf_stars
    mag = np.zeros(0) if table is None else star_magnitudes(data, table)[~flags(table, "sky_source")]
    mag = mag[np.isfinite(mag)]
    if mag.size == 0:
        return note(finish(ax, "Number counts", label, "sources"), "no sources")
    low, high = np.floor(2 * mag.min()) / 2, np.ceil(2 * mag.max() + 1e-9) / 2
    if high - low > 25:  # a few absurd magnitudes must not squeeze the others
        low, high = (float(v) for v in np.percentile(mag, [0.5, 99.5]))
        low, high = np.floor(2 * low) / 2, np.ceil(2 * high + 1e-9) / 2
    bins = np.arange(low, high + 0.75, 0.5)
    ax.hist(mag, bins=list(bins), color=COLORS["sky"], edgecolor="white", linewidth=0.6, label="all sources")
    used = None if table is None else flags(table, "calib_psf_used")
    if used is not None and used.any():
        stars = star_magnitudes(data, table)[used]
        ax.hist(
            stars[np.isfinite(stars)],
            bins=list(bins),
            color=COLORS["blue"],
            edgecolor="white",
            lw=0.6,
            label="PSF stars",
        )
    ax.set_yscale("log")
    ax.set_ylim(0.6, None)
    limit = float("nan") if data.summary is None else data.summary.magLim
    if np.isfinite(limit) and calibrated:
        ax.axvline(limit, color=COLORS["vermillion"], lw=1.4, ls="--", label=f"5σ limit {limit:.2f}")
    return finish(ax, "Number counts", label, "sources per half magnitude")


def counts_caption(data: ReportData, metrics: dict[str, Any]) -> str:
    """Return the caption of `plot_number_counts`."""
    text = f"{metrics['n_sources']} sources"
    if data.stars is None:
        text = f"{0 if data.psf_stars is None else len(data.psf_stars)} bright sources; the deep catalog was not reached"
    if metrics["n_sky_sources"]:
        text += f" and {metrics['n_sky_sources']} empty apertures (not shown)"
    limit = metrics.get("magLim", np.nan)
    text += f"; the limiting magnitude of point sources (S/N 5) is {limit:.2f}." if limit == limit else "."
    return text


def plot_timing(data: ReportData, ax: Axes | None = None) -> Axes:
    """Plot the CPU and wall seconds of each stage."""
    ax = flat_axes(ax)
    if not data.stages:
        return note(finish(ax, "Time", "seconds", ""), "no stage was timed")
    names = [name.replace("_", " ") for name, *_ in data.stages]
    cpu = np.array([stage[1] for stage in data.stages])
    wall = np.array([stage[2] for stage in data.stages])
    y = np.arange(len(names))
    ax.barh(y, wall, height=0.72, color=STYLE["grid"], label="wall")
    ax.barh(y, cpu, height=0.42, color=COLORS["blue"], label="CPU")
    ax.set_yticks(y, names)
    ax.invert_yaxis()
    finish(ax, "Time per stage", "seconds", "")
    ax.grid(False, axis="y")
    left, bottom, width, height = ax.get_position().bounds
    if left < 0.25:  # room for the names
        ax.set_position((0.27, bottom, width + left - 0.27, height))
    return ax


def timing_caption(data: ReportData, metrics: dict[str, Any]) -> str:
    """Return the caption of `plot_timing`."""
    if not data.stages:
        return "No stage was timed."
    cpu, wall = sum(s[1] for s in data.stages), sum(s[2] for s in data.stages)
    longest = max(data.stages, key=lambda stage: stage[1])
    name = longest[0].replace("_", " ")
    return f"{cpu:.1f} CPU seconds in {wall:.1f} s; the longest stage is {name} ({longest[1]:.1f} s)."
