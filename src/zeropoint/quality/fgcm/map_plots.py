"""Maps: residuals and superstar flats over the focal plane, residuals over the sky."""

from __future__ import annotations

from typing import Any

import hpgeom
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from zeropoint.fgcm.facts.cycle_facts import CycleFacts
from zeropoint.quality.fgcm.grids import (
    bar_right,
    cells,
    finish_panel,
    grid,
    no_data,
    title_of,
)
from zeropoint.quality.plots.style import STYLE, robust_limit

__all__ = ["plot_focal_plane", "plot_sky_halves", "plot_sky_references", "plot_superstar", "sky_fields"]

#: Cells along a side of a detector in pictures of flats.
_FLAT_CELLS = 8
#: Fields that are farther apart, degrees, have maps of their own, if they are no more than the second.
_FAR_APART, _MOST_FIELDS = 10.0, 4
#: nside of the pixels by which fields are told apart.
_COARSE = 16
#: Pixels that fill less of their map are drawn as points.
_LEAST_FILLED = 0.02


def plot_focal_plane(facts: CycleFacts) -> Figure:
    """Plot mean residuals over the focal plane, band by band."""
    figure, axes = grid(len(facts.bands), columns=2, height=3.1, bar=True)
    plane = facts.focal_plane
    corners, unit = plane.corners(), plane.layout.unit or "pixel"
    for b, (band, ax) in enumerate(zip(facts.bands, axes, strict=True)):
        values = 1e3 * plane.residual[b]
        if not np.isfinite(values).any():
            no_data(ax, band)
            continue
        limit = robust_limit(values, 0.5, 97, 1.2)
        shown = cells(ax, corners, values, (-limit, limit))
        ax.set_aspect("equal")
        known = np.isfinite(values)
        scatter = float(np.std(values[known]))
        noise = float(np.sqrt(np.mean(np.square(1e3 * plane.residual_err[b][known]))))
        finish_panel(
            ax, f"{band}: rms {scatter:.2f}, noise {noise:.2f} mmag", f"x ({unit})", f"y ({unit})", grid=False
        )
        bar_right(ax, shown, "residual (mmag)")
    title_of(figure, "Residuals over the focal plane")
    return figure


def plot_superstar(
    facts: CycleFacts,
    superstar: npt.NDArray[np.floating],
    shape: npt.NDArray[np.floating] | None = None,
    epoch: int = -1,
) -> Figure:
    """Plot the superstar flat of each filter over the focal plane.

    Parameters
    ----------
    facts
        Figures.
    superstar : float, shape (n_epoch, n_filter, n_det)
        Magnitudes added to observations on each detector.
    shape : float, shape (n_epoch, n_filter, n_det, n_y, n_x)
        Chebyshev coefficients, in flux, of the flat within detectors; None: it is constant there.
    epoch
        Which epoch.
    """
    filters = facts.physical_filters
    figure, axes = grid(len(filters), columns=2, height=3.1, bar=True)
    plane = facts.focal_plane
    corners, unit = plane.corners(_FLAT_CELLS), plane.layout.unit or "pixel"
    for f, (name, ax) in enumerate(zip(filters, axes, strict=True)):
        values = 1e3 * _flat(superstar[epoch, f], None if shape is None else shape[epoch, f])
        if not np.isfinite(values).any() or not np.any(values):
            no_data(ax, name, "no flat was fitted")
            continue
        values = values - np.nanmean(values)
        limit = robust_limit(values, 0.5, 99, 1.05)
        shown = cells(ax, corners, values, (-limit, limit))
        ax.set_aspect("equal")
        finish_panel(
            ax, f"{name}: rms {np.nanstd(values):.1f} mmag", f"x ({unit})", f"y ({unit})", grid=False
        )
        bar_right(ax, shown, "added − mean (mmag)")
    title_of(figure, "Superstar flats")
    return figure


def _flat(
    constant: npt.NDArray[np.floating], shape: npt.NDArray[np.floating] | None
) -> npt.NDArray[np.float64]:
    """Return the magnitudes added in the cells of each detector, shape (n_det, n_cell, n_cell), [y, x]."""
    middle = (2.0 * np.arange(_FLAT_CELLS) + 1.0) / _FLAT_CELLS - 1.0
    out = np.repeat(np.asarray(constant, np.float64), _FLAT_CELLS**2).reshape(-1, _FLAT_CELLS, _FLAT_CELLS)
    if shape is not None:
        y, x = np.meshgrid(middle, middle, indexing="ij")
        for d, coefficients in enumerate(shape):
            field = np.polynomial.chebyshev.chebval2d(y, x, coefficients)
            out[d] -= 2.5 * np.log10(np.maximum(field, 0.1))
    return out


def plot_sky_halves(facts: CycleFacts) -> Figure:
    """Plot half the difference between the magnitudes from two halves of the data over the sky."""
    sky = facts.sky
    values, errors = (None, None) if sky is None else (sky.halves, sky.halves_err)
    figure = _sky(facts, values, errors, "half difference (mmag)")
    split = "" if sky is None else f" ({sky.split}; nside {sky.nside})"
    title_of(figure, f"Magnitudes from two halves of the data{split}")
    return figure


def plot_sky_references(facts: CycleFacts) -> Figure:
    """Plot the difference between the magnitudes of the stars and the references over the sky."""
    sky = facts.sky
    values, errors = (None, None) if sky is None else (sky.references, sky.references_err)
    figure = _sky(facts, values, errors, "star − reference (mmag)")
    title_of(figure, "Stars minus references" + ("" if sky is None else f" (nside {sky.nside})"))
    return figure


def _sky(
    facts: CycleFacts,
    values: npt.NDArray[np.floating] | None,
    errors: npt.NDArray[np.floating] | None,
    label: str,
) -> Figure:
    """Draw a map of the sky for each band, and for each field where fields are far apart."""
    sky = facts.sky
    fields = [] if sky is None else sky_fields(sky.nside, sky.pixel)
    height = 3.1 if sky is None else max(_row_height(sky.nside, sky.pixel[field]) for field in fields)
    figure, axes = grid(len(facts.bands) * max(len(fields), 1), columns=2, height=height, bar=True)
    panels = iter(axes)
    for b, band in enumerate(facts.bands):
        known = np.zeros(0, bool) if values is None else np.isfinite(values[b])
        if sky is None or values is None or errors is None or not known.any():
            for ax in (next(panels) for _ in range(max(len(fields), 1))):
                no_data(ax, band)
            continue
        own, noise = 1e3 * values[b], 1e3 * errors[b]
        # pixels at the edge of the survey with a star or two would rule the scale
        typical = known & (noise < 4.0 * np.median(noise[known]))
        limit = robust_limit(own[typical], 0.5, 98, 1.15)
        for number, field in enumerate(fields, start=1):
            ax, shown = next(panels), field[known[field]]
            name = band if len(fields) == 1 else f"{band}, field {number}"
            if not len(shown):
                no_data(ax, name)
                continue
            colors = _draw_field(ax, sky.nside, sky.pixel[shown], own[shown], limit)
            counted = field[typical[field]]
            finish_panel(
                ax, f"{name}{_scatter(own[counted], noise[counted])}", "RA (deg)", "Dec (deg)", grid=False
            )
            bar_right(ax, colors, label)
    return figure


def _draw_field(
    ax: Axes, nside: int, pixel: npt.NDArray[np.integer], values: npt.NDArray[np.floating], limit: float
) -> Any:
    """Draw the pixels of one field, East to the left; return what a color bar needs."""
    corners, center = _outlines(nside, pixel)
    is_sparse, is_stripe = _form(nside, corners, center)
    if not is_sparse:
        shown = cells(ax, corners, values, (-limit, limit))
    else:
        # of many small fields all over the sky outlines would not be seen
        ra, dec = corners.mean(axis=1).T
        shown = ax.scatter(
            ra, dec, c=values, s=9.0, cmap=STYLE["diverging"], vmin=-limit, vmax=limit, linewidths=0
        )
    if not (is_sparse or is_stripe):
        ax.set_aspect(1.0 / np.cos(np.deg2rad(center)))
    ax.invert_xaxis()
    # steps of a quarter have labels too long for the margin
    ax.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.set_anchor("W")
    ax.ticklabel_format(useOffset=False)
    return shown


def _form(nside: int, corners: npt.NDArray[np.floating], center: float) -> tuple[bool, bool]:
    """Tell whether pixels are so few that a map is empty, and whether it would be a line if its scales were the same."""
    width, height = np.ptp(corners, axis=(0, 1)) * (np.cos(np.deg2rad(center)), 1.0)
    filled = len(corners) * hpgeom.nside_to_pixel_area(nside, degrees=True)
    return bool(filled < _LEAST_FILLED * width * height), bool(min(width, height) < max(width, height) / 12.0)


def _scatter(values: npt.NDArray[np.floating], noise: npt.NDArray[np.floating]) -> str:
    """Return the rms of pixels, and what their errors make of it."""
    if not len(values):
        return ""
    weight = 1.0 / np.square(noise)
    rms = np.sqrt(np.sum(weight * values**2) / weight.sum())
    return f": rms {rms:.1f}, noise {np.sqrt(len(weight) / weight.sum()):.1f} mmag"


def sky_fields(nside: int, pixel: npt.NDArray[np.integer]) -> list[npt.NDArray[np.int64]]:
    """Return the places, among the pixels, of those of each field; one for all where fields are many, or not far apart.

    Parameters
    ----------
    nside, pixel
        HEALPix pixels (nested).
    """
    # fields are larger than that: pixels of four degrees tell, of which there are at most a few thousand
    coarse = min(nside, _COARSE)
    large, inside = np.unique(pixel // (nside // coarse) ** 2, return_inverse=True)
    ra, dec = hpgeom.pixel_to_angle(coarse, large, nest=True, lonlat=True, degrees=True)
    ra, dec = np.deg2rad(ra), np.deg2rad(dec)
    place = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
    reach = np.deg2rad(max(_FAR_APART, 3.0 * float(hpgeom.nside_to_resolution(coarse))))
    pairs = cKDTree(place).query_pairs(2.0 * np.sin(0.5 * min(reach, np.pi)), output_type="ndarray")
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(large), len(large)))
    number, field = connected_components(links, directed=False)
    if not 1 < number <= _MOST_FIELDS:
        return [np.arange(len(pixel))]
    fields = [np.flatnonzero(field[inside] == k) for k in range(number)]
    return sorted(fields, key=lambda each: (-len(each), each[0]))


def _row_height(nside: int, pixel: npt.NDArray[np.integer]) -> float:
    """Return how high a row of maps is, inches: as the survey is high for its width."""
    corners, center = _outlines(nside, pixel)
    width, height = np.ptp(corners, axis=(0, 1)) * (np.cos(np.deg2rad(center)), 1.0)
    if any(_form(nside, corners, center)):
        return 2.6
    # maps are 2.3 inches wide, and have 0.9 inches of titles and labels
    return float(np.clip(2.3 * height / width + 0.9, 2.4, 3.4))


def _outlines(nside: int, pixel: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.float64], float]:
    """Return corners of pixels in degrees, shape (n, 4, 2), with no jump at RA 0, and the mean declination."""
    ra, dec = hpgeom.boundaries(nside, pixel, 1, nest=True, lonlat=True, degrees=True)
    ra, dec = np.asarray(ra), np.asarray(dec)
    middle = np.rad2deg(np.angle(np.mean(np.exp(1j * np.deg2rad(ra)))))
    ra = (ra - middle + 180.0) % 360.0 - 180.0 + middle % 360.0
    return np.stack([ra, dec], axis=-1), float(np.mean(dec))
