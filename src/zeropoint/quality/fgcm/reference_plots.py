"""Plots of the comparison with reference stars."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zeropoint.fgcm.facts.cycle_facts import CycleFacts
from zeropoint.quality.fgcm.grids import (
    band_colors,
    finish_panel,
    grid,
    no_data,
    small_legend,
    title_of,
)
from zeropoint.quality.plots.style import COLORS, STYLE, robust_limit
from zeropoint.quality.robust import fit_line, mad_sigma

__all__ = ["plot_references_color", "plot_references_magnitude"]

#: Stars that are drawn one by one; more would only hide each other.
_MOST = 4000


def plot_references_magnitude(facts: CycleFacts) -> Figure:
    """Plot the difference between magnitudes and references against magnitude."""
    figure, axes = grid(len(facts.bands))
    references = facts.references
    for b, (band, ax) in enumerate(zip(facts.bands, axes, strict=True)):
        if references is None or not np.isfinite(references.difference[:, b]).any():
            no_data(ax, band, "no reference magnitudes")
            continue
        x, y = references.magnitude[:, b], references.difference[:, b]
        _points(ax, facts, b, x, y, references.outlier)
        known = references.in_mean[:, b]
        mean, error = (1e3 * value for value in references.mean(b))
        text = f"{band}: {round(mean, 1) + 0.0:+.1f} ± {error:.1f}, scatter {1e3 * mad_sigma(y[known]):.1f}, n {known.sum():,}"
        finish_panel(ax, text, "standard magnitude", "star − reference (mmag)")
        small_legend(ax)
    title_of(figure, "Comparison with the references, by magnitude (weighted mean, mmag)")
    return figure


def plot_references_color(facts: CycleFacts) -> Figure:
    """Plot the difference between magnitudes and references against the color of stars."""
    figure, axes = grid(len(facts.bands))
    references = facts.references
    label = "" if facts.color is None else f"color {facts.color.bands[0]} − {facts.color.bands[1]} (mag)"
    for b, (band, ax) in enumerate(zip(facts.bands, axes, strict=True)):
        known = np.zeros(0, bool)
        if references is not None:
            known = np.isfinite(references.difference[:, b]) & np.isfinite(references.color)
        if references is None or not known.any():
            no_data(ax, band, "no reference magnitudes" if references is None else "no colors")
            continue
        x, y = references.color, references.difference[:, b]
        _points(ax, facts, b, x, y, references.outlier)
        line = fit_line(x[known & ~references.outlier], y[known & ~references.outlier])
        finish_panel(
            ax,
            f"{band}: slope {1e3 * line.slope:+.1f} ± {1e3 * line.slope_err:.1f} mmag/mag",
            label,
            "star − reference (mmag)",
        )
    title_of(figure, "Comparison with the references, by color")
    return figure


def _points(
    ax: Axes,
    facts: CycleFacts,
    b: int,
    x: npt.NDArray[np.floating],
    y: npt.NDArray[np.floating],
    outlier: npt.NDArray[np.bool_],
) -> None:
    """Draw stars, outliers apart, and medians of equal numbers of stars."""
    known = np.isfinite(x) & np.isfinite(y)
    good = np.flatnonzero(known & ~outlier)
    limit = 1e3 * robust_limit(y[good] - np.median(y[good]), 0.005, 98, 1.7) if len(good) else 10.0
    center = 1e3 * float(np.median(y[good])) if len(good) else 0.0
    ax.set_ylim(center - limit, center + limit)
    ax.axhline(0.0, color=STYLE["ink"], lw=0.8)
    if outlier[known].any():
        rows = np.flatnonzero(known & outlier)
        ax.plot(x[rows], np.clip(1e3 * y[rows], center - 0.97 * limit, center + 0.97 * limit), "x", ms=3.5, mew=0.8, color=COLORS["gray"], label=f"outliers ({len(rows)})")  # fmt: skip
    shown = good[:: max(len(good) // _MOST, 1)]
    color = band_colors(facts.bands)[facts.bands[b]]
    size, alpha = (2.6, 0.5) if len(shown) > 500 else (5.0, 0.8)
    ax.plot(x[shown], 1e3 * y[shown], ".", ms=size, mew=0, alpha=alpha, color=color)
    groups = np.array_split(good[np.argsort(x[good], kind="stable")], min(12, max(len(good) // 15, 1)))
    if len(good) >= 15:
        ax.plot([np.median(x[g]) for g in groups], [1e3 * np.median(y[g]) for g in groups], "s-", ms=3.5, lw=1.3, color=COLORS["black"], label="median")  # fmt: skip
