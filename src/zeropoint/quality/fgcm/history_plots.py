"""Plots of how the fit went, cycle by cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zeropoint.quality.fgcm.grids import (
    band_colors,
    finish_panel,
    grid,
    small_legend,
    title_of,
)
from zeropoint.quality.plots.style import COLORS, STYLE

__all__ = ["plot_history"]

#: A step of fewer errors ends a fit; smaller ones than the second are drawn as that.
_SMALL, _LEAST = 1e-2, 1e-4


def plot_history(
    history: Sequence[Mapping[str, Any]],
    bands: Sequence[str],
    steps: Mapping[int, Sequence[Mapping[str, float]]],
) -> Figure:
    """Plot chi-square, repeatability and photometric exposures of the cycles, and the steps of each cycle's last fit.

    Parameters
    ----------
    history
        Metrics of the cycles, in order.
    bands
        Bands.
    steps
        Cycle -> ``largest`` of each step of its last fit: largest change of a parameter over its error.
    """
    curves = {cycle: np.array([_number(step, "largest") for step in each]) for cycle, each in steps.items()}
    curves = {cycle: values for cycle, values in curves.items() if np.isfinite(values).any()}
    figure, axes = grid(4 if curves else 3)
    cycles = np.arange(len(history), dtype=float)
    colors = band_colors(bands)

    chi2 = np.array([_number(entry, "chi2_dof_measured") for entry in history])
    axes[0].plot(cycles, chi2, "o-", color=COLORS["blue"], ms=4, lw=1.4)
    failed = np.array([entry.get("converged") in (False, 0, 0.0) for entry in history], bool)
    if failed.any():
        axes[0].plot(
            cycles[failed], chi2[failed], "x", color=COLORS["vermillion"], ms=8, mew=2, label="not converged"
        )
    axes[0].axhline(1.0, color=COLORS["gray"], lw=0.9, ls="--")
    low, high = np.nanmin([1.0, *chi2]), np.nanmax([1.0, *chi2])
    margin = max(0.1 * (high - low), 0.01)
    axes[0].set_ylim(low - margin, high + margin)
    axes[0].ticklabel_format(useOffset=False)
    finish_panel(axes[0], "χ² per degree of freedom", "cycle", "χ²/dof")
    small_legend(axes[0])
    for ax, key, scale, title, label in (
        (axes[1], "repeatability_after", 1e3, "Repeatability of bright stars", "scatter (mmag)"),
        (axes[2], "n_photometric", 1.0, "Exposures in the fit", "exposures"),
    ):
        for band in bands:
            scatter = [scale * _number(entry.get("bands", {}).get(band, {}), key) for entry in history]
            ax.plot(cycles, scatter, "o-", color=colors[band], ms=3.5, lw=1.2, label=band)
        ax.set_ylim(0.0, 1.15 * ax.get_ylim()[1])
        finish_panel(ax, title, "cycle", label)
        small_legend(ax)
    for ax in axes[:3]:
        ax.set_xticks(cycles)
    if curves:
        _steps(axes[3], curves, history)
    title_of(figure, "How the fit went")
    return figure


def _number(entry: Mapping[str, Any], key: str) -> float:
    value = entry.get(key)
    return float(value) if isinstance(value, int | float) else np.nan


def _steps(
    ax: Axes, curves: Mapping[int, npt.NDArray[np.float64]], history: Sequence[Mapping[str, Any]]
) -> None:
    """Draw how large each step of the last fit of each cycle was, in errors of the parameter that it moved most."""
    ax.axhline(_SMALL, color=COLORS["gray"], lw=0.9, ls="--")
    for cycle, values in curves.items():
        failed = cycle < len(history) and history[cycle].get("converged") in (False, 0, 0.0)
        label = f"cycle {cycle}" + (", not converged" if failed else "")
        # damped steps have no errors to be measured with
        x = 1 + np.flatnonzero(np.isfinite(values))
        ax.semilogy(x, np.maximum(values[x - 1], _LEAST), "o-", ms=3.0, lw=1.1, label=label)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.tick_params(labelsize=STYLE["tick"])
    finish_panel(ax, "Steps (dashed: small enough)", "step", "largest change / error")
    small_legend(ax)
