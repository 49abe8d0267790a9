"""An image with its sources and matches at one moment of the processing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from zeropoint.datamodel.catalog import SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.quality.plots.image import OVERLAYS, draw_exposure, legend_beside
from zeropoint.quality.plots.style import COLORS, finish, image_axes

__all__ = ["plot_debug_frame", "save_debug_frame"]

#: Pixels per inch of a saved plot.
_DPI = 144

#: Detected pixels, below the defects.
_OVERLAYS = (
    ("detected", ("DETECTED",), "blue", 0.25),
    ("detected, negative", ("DETECTED_NEGATIVE",), "orange", 0.3),
)
#: Kinds of sources by their flag, the later ones on top: name, flag, marker, color, size (points).
_KINDS = (
    ("source", None, "o", "black", 6.0),
    ("sky source", "sky_source", "o", "gray", 6.0),
    ("found before", "calib_detected", "s", "green", 9.0),
    ("PSF candidate", "calib_psf_candidate", "o", "blue", 8.0),
    ("PSF star", "calib_psf_used", "o", "vermillion", 8.0),
    ("PSF, reserved", "calib_psf_reserved", "o", "purple", 8.0),
)


def plot_debug_frame(
    exposure: Exposure,
    title: str,
    *,
    catalog: SourceCatalog | None = None,
    matches: Table | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot an image, its detected pixels and defects, its sources by kind and its matched references.

    Parameters
    ----------
    exposure
        The image.
    title
        Title.
    catalog
        Its sources.
    matches
        Matches with ``src_slot_Centroid_x``, ``src_slot_Centroid_y`` and, where the fit says, ``used``.
    ax
        Axes to draw on; new ones if None.

    Returns
    -------
    ax
        The legend counts what is shown.
    """
    ax = image_axes(ax, exposure.shape)
    handles = draw_exposure(exposure, ax, (*_OVERLAYS, *OVERLAYS))
    if catalog is not None:
        handles += _draw_sources(ax, catalog)
    if matches is not None:
        handles += _draw_matches(ax, matches)
    finish(ax, title, "x (pixel)", "y (pixel)", grid=False)
    legend_beside(ax, handles)
    return ax


def save_debug_frame(
    path: Path,
    exposure: Exposure,
    title: str,
    *,
    catalog: SourceCatalog | None = None,
    matches: Table | None = None,
) -> None:
    """Save what `plot_debug_frame` plots.

    Parameters
    ----------
    path
        File; its ending says the format.
    exposure, title, catalog, matches
        As for `plot_debug_frame`.
    """
    ax = plot_debug_frame(exposure, title, catalog=catalog, matches=matches)
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.savefig(path, dpi=_DPI, bbox_inches="tight")


def _draw_sources(ax: Axes, catalog: SourceCatalog) -> list[Line2D]:
    """Draw each source with the mark of the last kind that it is of; return the legend entries."""
    if "slot_Centroid_x" not in catalog:
        return []
    kind = np.zeros(len(catalog), np.int64)
    for k, (_, flag, *_) in enumerate(_KINDS):
        if flag is not None and flag in catalog:
            kind[catalog[flag]] = k
    x, y = catalog["slot_Centroid_x"], catalog["slot_Centroid_y"]
    handles = []
    for k, (name, _, marker, color, size) in enumerate(_KINDS):
        rows = np.flatnonzero((kind == k) & np.isfinite(x) & np.isfinite(y))
        if len(rows) == 0:
            continue
        style: dict[str, Any] = {
            "marker": marker,
            "ls": "",
            "mfc": "none",
            "mew": 0.8,
            "color": COLORS[color],
            "ms": size,
        }
        ax.plot(x[rows], y[rows], **style)
        handles.append(Line2D([], [], label=f"{name} ({len(rows)})", **{**style, "ms": 6.0}))
    return handles


def _draw_matches(ax: Axes, matches: Table) -> list[Line2D]:
    """Draw the matched references, those that the fit used apart; return the legend entries."""
    x, y = (np.asarray(matches[f"src_slot_Centroid_{axis}"]) for axis in "xy")
    used = np.asarray(matches["used"]) if "used" in matches.colnames else np.ones(len(matches), np.bool_)
    handles = []
    for name, rows, color in (("matched", used, "orange"), ("matched, rejected", ~used, "purple")):
        if rows.any():
            style: dict[str, Any] = {"marker": "x", "ls": "", "mew": 0.9, "ms": 5.0, "color": COLORS[color]}
            ax.plot(x[rows], y[rows], **style)
            handles.append(Line2D([], [], label=f"{name} ({int(rows.sum())})", **style))
    return handles
