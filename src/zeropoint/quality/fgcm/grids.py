"""Figures of several panels, one for each band, in the style of all plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from zeropoint.quality.plots.style import COLORS, STYLE, finish

__all__ = [
    "band_colors",
    "bar_right",
    "cells",
    "finish_panel",
    "grid",
    "legend_above",
    "no_data",
    "small_legend",
    "title_of",
]

_WIDTH = 7.6
#: Colors of bands from blue to red.
_BAND_COLORS = ("blue", "green", "orange", "vermillion", "purple", "black", "sky", "gray")


def band_colors(bands: Sequence[str]) -> dict[str, str]:
    """Return a color for each band."""
    return {band: COLORS[_BAND_COLORS[k % len(_BAND_COLORS)]] for k, band in enumerate(bands)}


def grid(n: int, *, columns: int = 2, height: float = 2.5, bar: bool = False) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels in rows.

    Parameters
    ----------
    n
        Number of panels.
    columns
        Panels in a row.
    height
        Height of a row, inches.
    bar
        Leave room for a color bar right of each panel.
    """
    columns = min(columns, max(n, 1))
    rows = -(-max(n, 1) // columns)
    total = height * rows + 0.22
    figure = Figure(figsize=(_WIDTH, total))
    FigureCanvasAgg(figure)
    left, right = 0.62, 0.85 if bar else 0.18
    bottom, top = 0.52, 0.38
    cell = _WIDTH / columns
    axes = []
    for k in range(n):
        column, row = k % columns, k // columns
        x = column * cell + left
        y = (rows - 1 - row) * height + bottom
        rectangle = (
            x / _WIDTH,
            y / total,
            (cell - left - right) / _WIDTH,
            (height - bottom - top) / total,
        )
        axes.append(figure.add_axes(rectangle))
    return figure, axes


def title_of(figure: Figure, text: str) -> None:
    """Write a title above all panels."""
    height = figure.get_size_inches()[1]
    figure.text(
        0.62 / _WIDTH, 1.0 - 0.08 / height, text, ha="left", va="top", fontsize=STYLE["title"] + 1, color=STYLE["ink"],
        fontweight="bold",
    )  # fmt: skip


def finish_panel(ax: Axes, title: str, xlabel: str, ylabel: str, *, grid: bool = True) -> None:
    """Give a panel its title, labels and quiet lines, in place; no legend."""
    finish(ax, title.replace("-", "−"), xlabel, ylabel, grid=grid)
    ax.title.set_fontsize(STYLE["title"] - 1.2)
    legend = ax.get_legend()
    if legend is not None:
        legend.remove()


def small_legend(ax: Axes) -> None:
    """Put a small legend where it hides least, in place."""
    if ax.get_legend_handles_labels()[0]:
        legend = ax.legend(fontsize=STYLE["legend"] - 2, loc="best", handlelength=1.0, borderpad=0.25)
        legend.get_frame().set(edgecolor="none", facecolor="white", alpha=0.8)


def legend_above(figure: Figure, *axes: Axes) -> None:
    """Put the legend that panels share right of the title, in place: all entries that one of them has."""
    entries: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    handles, labels = list(entries.values()), list(entries)
    if handles:
        height = figure.get_size_inches()[1]
        figure.legend(
            handles, labels, loc="upper right", bbox_to_anchor=(1.0 - 0.12 / _WIDTH, 1.0 - 0.03 / height),
            ncols=len(labels), fontsize=STYLE["legend"] - 1, frameon=False, handlelength=1.3, columnspacing=1.0,
        )  # fmt: skip


def cells(
    ax: Axes,
    corners: npt.NDArray[np.floating],
    values: npt.NDArray[np.floating],
    limits: tuple[float, float],
    colors: str = STYLE["diverging"],
) -> Any:
    """Draw polygons filled by value, those without a value in light gray; return what a color bar needs.

    Parameters
    ----------
    ax
        Axes, whose limits are set.
    corners : float, shape (..., n_corner, 2)
        Corners of the polygons.
    values : float, shape (...)
        Values.
    limits
        Of the color scale.
    colors
        Color map.
    """
    polygons = corners.reshape(-1, *corners.shape[-2:])
    flat = np.ma.masked_invalid(np.asarray(values, np.float64).ravel())
    collection = PolyCollection(list(polygons), array=flat, cmap=colors, edgecolors="face", linewidths=0.3)
    collection.get_cmap().set_bad("#ECEEF0")
    collection.set_clim(*limits)
    ax.add_collection(collection)
    low, high = polygons.min(axis=(0, 1)), polygons.max(axis=(0, 1))
    margin = 0.03 * np.maximum(high - low, 1e-9)
    ax.set_xlim(low[0] - margin[0], high[0] + margin[0])
    ax.set_ylim(low[1] - margin[1], high[1] + margin[1])
    return collection


def bar_right(ax: Axes, artist: Any, label: str) -> None:
    """Put a thin color bar right of the axes, as high as they are."""
    assert ax.figure is not None
    inset = ax.inset_axes((1.03, 0.0, 0.04, 1.0))
    bar = ax.figure.colorbar(artist, cax=inset)
    bar.set_label(label, fontsize=STYLE["tick"], color=STYLE["ink"])
    bar.ax.tick_params(labelsize=STYLE["tick"] - 0.5, colors=STYLE["ink"], length=2)
    bar.outline.set_visible(False)


def no_data(ax: Axes, title: str, text: str = "no data") -> None:
    """Say in empty axes that there is nothing to show."""
    finish_panel(ax, title, "", "", grid=False)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=COLORS["gray"])
