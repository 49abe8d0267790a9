"""One look for every plot: colors that color-blind readers can tell apart, quiet axes, small type."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["COLORS", "STYLE", "color_bar", "finish", "flat_axes", "image_axes", "note", "robust_limit"]

#: The palette of Okabe and Ito (2008).
COLORS = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
    "gray": "#8A8F98",
}

#: Sizes (inches, points) and color maps that all plots share.
STYLE: dict[str, Any] = {
    "figure": (5.6, 4.5),
    "title": 10.5,
    "label": 9.5,
    "tick": 8.5,
    "legend": 8.5,
    "sequential": "cividis",
    "diverging": "RdBu_r",
    "ink": "#22262B",
    "line": "#B9BEC6",
    "grid": "#E8EAED",
}


def flat_axes(ax: Axes | None, shape: tuple[int, int] | None = None) -> Axes:
    """Return the axes given, or new ones, as high as those of `image_axes` for the same image."""
    if ax is not None:
        return ax
    height = STYLE["figure"][1] if shape is None else max(_image_height(shape), 3.4)
    return _new((STYLE["figure"][0], height), (0.135, 0.52 / height, 0.845, 1.0 - 0.9 / height))


def _image_height(shape: tuple[int, int]) -> float:
    """Return the height of a figure for an image, inches."""
    return float(np.clip(3.9 * shape[0] / shape[1] + 0.95, 2.6, 7.0))


def image_axes(ax: Axes | None, shape: tuple[int, int]) -> Axes:
    """Return axes for something on the detector, new ones with its proportions and room for a color bar."""
    if ax is None:
        size = (STYLE["figure"][0], _image_height(shape))
        ax = _new(size, (0.125, 0.52 / size[1], 0.715, 1.0 - 0.9 / size[1]))
    return ax


def _new(size: tuple[float, float], rectangle: tuple[float, float, float, float]) -> Axes:
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure.add_axes(rectangle)


def finish(ax: Axes, title: str, xlabel: str, ylabel: str, *, grid: bool = True) -> Axes:
    """Give axes their title, labels and quiet lines, in place."""
    ax.set_title(title, fontsize=STYLE["title"], loc="left", color=STYLE["ink"], fontweight="bold", pad=6)
    ax.set_xlabel(xlabel, fontsize=STYLE["label"], color=STYLE["ink"], labelpad=2)
    ax.set_ylabel(ylabel, fontsize=STYLE["label"], color=STYLE["ink"], labelpad=3)
    ax.tick_params(labelsize=STYLE["tick"], colors=STYLE["ink"], color=STYLE["line"], length=3)
    for side, spine in ax.spines.items():
        spine.set_color(STYLE["line"])
        spine.set_visible(side in ("left", "bottom") or not grid)
    if grid:
        ax.grid(True, color=STYLE["grid"], linewidth=0.7)
        ax.set_axisbelow(True)
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        legend = ax.legend(handles, labels, fontsize=STYLE["legend"], frameon=True, loc="best")
        legend.get_frame().set(edgecolor="none", facecolor="white", alpha=0.85)
    return ax


def detector_limits(ax: Axes, shape: tuple[int, int]) -> None:
    """Show the whole detector with square pixels, in place."""
    height, width = shape
    ax.set_xlim(-0.5, width - 0.5)
    ax.set_ylim(-0.5, height - 0.5)
    ax.set_aspect("equal")


def color_bar(ax: Axes, artist: Any, label: str) -> None:
    """Put a thin color bar right of the axes."""
    assert ax.figure is not None
    bar_axes = ax.inset_axes((1.025, 0.0, 0.035, 1.0))
    bar = ax.figure.colorbar(artist, cax=bar_axes)
    bar.set_label(label, fontsize=STYLE["label"], color=STYLE["ink"])
    bar.ax.tick_params(labelsize=STYLE["tick"], colors=STYLE["ink"], length=2)
    bar.outline.set_visible(False)


def note(ax: Axes, text: str) -> Axes:
    """Write what is missing in the middle of empty axes."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=COLORS["gray"])
    return ax


def robust_limit(values: np.ndarray, smallest: float, percentile: float = 98.0, margin: float = 1.5) -> float:
    """Return a symmetric axis limit that holds nearly all finite values, whatever the outliers."""
    values = np.abs(values[np.isfinite(values)])
    if values.size == 0:
        return smallest
    return max(float(np.percentile(values, percentile)) * margin, smallest)
