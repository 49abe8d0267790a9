"""Plots of residuals: repeatability, by magnitude, by color."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zeropoint.fgcm.facts.cycle_facts import CycleFacts
from zeropoint.fgcm.facts.residuals import ResidualFacts
from zeropoint.quality.fgcm.grids import (
    band_colors,
    bar_right,
    cells,
    finish_panel,
    grid,
    legend_above,
    no_data,
    title_of,
)
from zeropoint.quality.plots.style import COLORS, STYLE, robust_limit

__all__ = [
    "STAGE_NAMES",
    "plot_color_airmass",
    "plot_color_detectors",
    "plot_color_slopes",
    "plot_repeatability",
    "plot_repeatability_magnitude",
]

#: What the stages are called in plots.
STAGE_NAMES = {
    "nominal": "before",
    "model": "fitted model",
    "zeropoints": "with gray",
}
#: Below so many bright observations histograms have wider bins.
_FEW = 3000
_STAGE_COLORS = {"nominal": COLORS["gray"], "model": COLORS["blue"], "zeropoints": COLORS["vermillion"]}


def plot_repeatability(facts: CycleFacts) -> Figure:
    """Plot histograms of the residuals of bright stars in units of their errors, before and after the fit."""
    figure, axes = grid(len(facts.bands))
    for b, (band, ax) in enumerate(zip(facts.bands, axes, strict=True)):
        if not any(stage.n_bright[b] for stage in facts.residuals):
            no_data(ax, band, "no star seen twice")
            continue
        for stage in facts.residuals:
            _histogram(ax, stage, b)
        x = np.linspace(-6.0, 6.0, 241)
        ax.plot(
            x,
            np.exp(-0.5 * x**2) / np.sqrt(2.0 * np.pi),
            color=COLORS["black"],
            lw=1.0,
            ls="--",
            label="noise",
        )
        ax.set_xlim(-6.0, 6.0)
        finish_panel(ax, f"{band}: {_numbers(facts, b)}", "residual / error", "density")
        ax.set_ylim(0.0, 0.56)
    legend_above(figure, axes[0])
    title_of(figure, "Repeatability of bright stars")
    return figure


def _histogram(ax: Axes, stage: ResidualFacts, b: int) -> None:
    # few observations in fewer bins
    merge = 3 if stage.n_bright[b] < _FEW else 1
    counts, edges = stage.histogram[b].reshape(-1, merge).sum(axis=1), stage.edges[::merge]
    density = counts / max(int(stage.n_bright[b]), 1) / np.diff(edges)
    ax.stairs(density, edges, color=_STAGE_COLORS[stage.stage], lw=1.5, label=STAGE_NAMES[stage.stage])


def _numbers(facts: CycleFacts, b: int) -> str:
    """Return the scatters of the stages, mmag, and the noise."""
    values = [f"{1e3 * stage.scatter[b]:.1f}" for stage in facts.residuals]
    return f"{' → '.join(values)} mmag, noise {1e3 * facts.residuals[-1].noise[b]:.1f}"


def plot_repeatability_magnitude(facts: CycleFacts) -> Figure:
    """Plot the scatter of observations of one star against its magnitude, with what errors predict."""
    figure, axes = grid(len(facts.bands))
    for b, (band, ax) in enumerate(zip(facts.bands, axes, strict=True)):
        last = facts.residuals[-1]
        if not np.isfinite(last.mag_scatter[b]).any():
            no_data(ax, band, "too few observations")
            continue
        for stage in facts.residuals:
            center = 0.5 * (stage.mag_edges[b, 1:] + stage.mag_edges[b, :-1])
            ax.plot(
                center, 1e3 * stage.mag_scatter[b], "o-", ms=3.2, lw=1.2, color=_STAGE_COLORS[stage.stage],
                label=STAGE_NAMES[stage.stage],
            )  # fmt: skip
        center = 0.5 * (last.mag_edges[b, 1:] + last.mag_edges[b, :-1])
        ax.plot(center, 1e3 * last.mag_noise[b], color=COLORS["black"], lw=1.0, ls="--", label="errors")
        ax.set_yscale("log")
        _plain_log(ax)
        finish_panel(ax, band, "standard magnitude", "scatter (mmag)")
    legend_above(figure, axes[0])
    title_of(figure, "Scatter of the observations of one star")
    return figure


def _plain_log(ax: Axes) -> None:
    """Write 10 instead of 10^1 beside a logarithmic axis, and numbers between the powers of ten where it is short."""
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(ScalarFormatter())
    ax.yaxis.set_minor_formatter(NullFormatter())


def plot_color_airmass(facts: CycleFacts) -> Figure:
    """Plot mean residuals by the color of stars, of exposures low, middling and high in airmass."""
    figure, axes = grid(len(facts.bands))
    color = facts.color
    parts = (COLORS["blue"], COLORS["orange"], COLORS["vermillion"])
    for b, (band, ax) in enumerate(zip(facts.bands, axes, strict=True)):
        if color is None or not np.isfinite(color.residual[b]).any():
            no_data(ax, band)
            continue
        ax.axhline(0.0, color=STYLE["ink"], lw=0.8)
        for part, name in enumerate(("low", "middle", "high")):
            ax.errorbar(
                color.centers[b], 1e3 * color.residual[b, part], 1e3 * color.residual_err[b, part], fmt="o-", ms=3.2, lw=1.1,
                color=parts[part], label=f"{name} airmass",
            )  # fmt: skip
        limit = robust_limit(1e3 * color.residual[b], 1.0, 100, 1.9)
        ax.set_ylim(-limit, limit)
        finish_panel(ax, band, f"color {color.bands[0]} − {color.bands[1]} (mag)", "residual (mmag)")
    legend_above(figure, axes[0])
    title_of(figure, "Residual by color of stars")
    return figure


def plot_color_slopes(facts: CycleFacts) -> Figure:
    """Plot the slope of residuals with color, exposure by exposure, against airmass."""
    figure, axes = grid(len(facts.bands))
    color, colors = facts.color, band_colors(facts.bands)
    for b, (band, ax) in enumerate(zip(facts.bands, axes, strict=True)):
        rows = np.flatnonzero(facts.exposure_band == b)
        if color is None or not np.isfinite(color.exposure_slope[rows]).any():
            no_data(ax, band)
            continue
        rows = rows[np.isfinite(color.exposure_slope[rows])]
        slope, error = 1e3 * color.exposure_slope[rows], 1e3 * color.exposure_slope_err[rows]
        ax.axhline(0.0, color=STYLE["ink"], lw=0.8)
        ax.errorbar(facts.airmass[rows], slope, error, fmt="o", ms=3.0, lw=0.7, color=colors[band], alpha=0.8)
        limit = robust_limit(slope, 1.0, 99, 1.5)
        ax.set_ylim(-limit, limit)
        weight = 1.0 / error**2
        mean = float(np.sum(weight * slope) / weight.sum())
        excess = np.sqrt(max(np.mean(slope**2 - error**2), 0.0))
        finish_panel(
            ax, f"{band}: mean {round(mean, 2) + 0.0:+.2f}, beyond noise {excess:.2f}", "airmass", "slope (mmag/mag)"
        )  # fmt: skip
    title_of(figure, "Slope of residuals with color, by exposure")
    return figure


def plot_color_detectors(facts: CycleFacts) -> Figure:
    """Plot the slope of residuals with color of each detector over the focal plane."""
    figure, axes = grid(len(facts.bands), columns=2, height=3.1, bar=True)
    color, plane = facts.color, facts.focal_plane
    corners = plane.corners(1)
    for b, (band, ax) in enumerate(zip(facts.bands, axes, strict=True)):
        if color is None or not np.isfinite(color.detector_slope[b]).any():
            no_data(ax, band)
            continue
        values = 1e3 * color.detector_slope[b]
        limit = robust_limit(values, 0.5, 100, 1.0)
        shown = cells(ax, corners, values[:, None, None], (-limit, limit))
        ax.set_aspect("equal")
        significance = np.nanstd(color.detector_slope[b] / color.detector_slope_err[b])
        unit = plane.layout.unit or "pixel"
        finish_panel(
            ax, f"{band}: scatter {significance:.1f} × noise", f"x ({unit})", f"y ({unit})", grid=False
        )
        bar_right(ax, shown, "slope (mmag/mag)")
    title_of(figure, "Slope of residuals with color, by detector")
    return figure
