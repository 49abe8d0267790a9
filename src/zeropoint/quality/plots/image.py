"""The image with its mask, and the background that was subtracted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from zeropoint.datamodel.background import BackgroundList
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.quality.plots.style import COLORS, STYLE, color_bar, detector_limits, finish, image_axes, note
from zeropoint.quality.report_data import ReportData
from zeropoint.quality.robust import mad_sigma

__all__ = [
    "OVERLAYS",
    "background_caption",
    "draw_exposure",
    "image_caption",
    "legend_beside",
    "plot_background",
    "plot_image",
]

#: Longest side of a displayed image, pixels.
_DISPLAY = 700
#: What is painted over the image: name, planes, color, opacity; later ones on top.
OVERLAYS = (
    ("edge", ("DETECTION_EDGE",), "sky", 0.35),
    ("interpolated", ("INTERPOLATED",), "yellow", 0.8),
    ("bad or no data", ("BAD", "NO_DATA", "VIGNETTED"), "purple", 0.7),
    ("cosmic ray", ("COSMIC_RAY",), "green", 1.0),
    ("saturated", ("SATURATED",), "vermillion", 0.9),
)


def _factor(shape: tuple[int, int]) -> int:
    return max(1, -(-max(shape) // _DISPLAY))


def block_mean(image: np.ndarray, factor: int) -> np.ndarray:
    """Return the mean of each block of ``factor`` x ``factor`` pixels, float32; the rest at the end is cut."""
    height, width = (n // factor * factor for n in image.shape)
    cut = np.asarray(image[:height, :width], np.float32)
    # two reductions along contiguous memory are faster than one over two axes
    rows = cut.reshape(height // factor, factor, width).mean(axis=1)
    return rows.reshape(height // factor, width // factor, factor).mean(axis=2)


def block_or(mask: np.ndarray, factor: int) -> np.ndarray:
    """Return the OR of the mask bits of each block, so that single pixels stay visible."""
    height, width = (n // factor * factor for n in mask.shape)
    rows = np.bitwise_or.reduce(mask[:height, :width].reshape(height // factor, factor, width), axis=1)
    return np.bitwise_or.reduce(rows.reshape(height // factor, width // factor, factor), axis=2)


def plot_image(data: ReportData, ax: Axes | None = None) -> Axes:
    """Plot the image with an asinh stretch and the mask in colors over it.

    Parameters
    ----------
    data
        Report data.
    ax
        Axes to draw on; new ones if None.
    """
    ax = image_axes(ax, data.exposure.shape)
    handles = draw_exposure(data.exposure, ax)
    finish(ax, "Image and mask", "x (pixel)", "y (pixel)", grid=False)
    legend_beside(ax, handles)
    return ax


def draw_exposure(
    exposure: Exposure, ax: Axes, overlays: Sequence[tuple[str, tuple[str, ...], str, float]] = OVERLAYS
) -> list[Line2D]:
    """Draw an exposure, its mask in colors and a compass beside it.

    Parameters
    ----------
    exposure
        The image.
    ax
        Axes from `image_axes`.
    overlays
        Entries as in `OVERLAYS`.

    Returns
    -------
    handles
        Legend entries of the planes that some pixel has.
    """
    factor = _factor(exposure.shape)
    small = block_mean(exposure.image, factor)
    gray = 1.0 - _stretched(small)
    rgb = np.repeat(gray[:, :, None], 3, axis=2)
    bits = block_or(exposure.mask, factor)
    handles = []
    for name, planes, color, opacity in overlays:
        hit = (bits & np.int32(bitmask(planes))) != 0
        if hit.any():
            rgb[hit] = (1.0 - opacity) * rgb[hit] + opacity * np.array(to_rgb(COLORS[color]))
            handles.append(Line2D([], [], marker="s", ls="", color=COLORS[color], label=name))
    h, w = small.shape
    extent = (-0.5, w * factor - 0.5, -0.5, h * factor - 0.5)
    ax.imshow(rgb.clip(0.0, 1.0), origin="lower", extent=extent, interpolation="nearest")
    detector_limits(ax, exposure.shape)
    _compass(ax, exposure)
    return handles


def legend_beside(ax: Axes, handles: list[Line2D]) -> None:
    """Put a legend right of the axes, if there is something to say."""
    if handles:
        place = {
            "loc": "upper left",
            "bbox_to_anchor": (1.0, 1.0),
            "borderaxespad": 0.2,
            "handletextpad": 0.1,
        }
        ax.legend(handles=handles, fontsize=7.5, frameon=False, **place)


def _stretched(image: np.ndarray) -> np.ndarray:
    """Return the image between 0 and 1: linear around the sky, logarithmic above."""
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return np.zeros_like(image)
    sample = finite[:: max(1, finite.size // 100_000)]
    middle, noise = float(np.median(sample)), mad_sigma(sample)
    noise = noise if noise > 0 else max(float(np.ptp(sample)), 1.0)
    scaled = np.arcsinh((np.nan_to_num(image, nan=middle) - middle + 2.0 * noise) / (2.0 * noise))
    top = np.arcsinh((float(np.percentile(sample, 99.7)) - middle + 20.0 * noise) / (2.0 * noise))
    return np.clip(scaled / top, 0.0, 1.0)


def _compass(ax: Axes, exposure: Exposure) -> None:
    """Draw North and East as two arrows beside the image."""
    wcs = exposure.wcs
    if wcs is None:
        return
    height, width = exposure.shape
    jacobian = wcs.local_jacobian(x=0.5 * width, y=0.5 * height)
    inverse = np.linalg.inv(jacobian)
    compass = ax.inset_axes((1.02, 0.0, 0.2, 0.2 * width / height))
    compass.set_axis_off()
    compass.set_xlim(-1.5, 1.5)
    compass.set_ylim(-1.5, 1.5)
    compass.set_aspect("equal")
    for name, column in (("E", 0), ("N", 1)):
        dx, dy = inverse[:, column] / np.hypot(*inverse[:, column])
        style = {"arrowstyle": "->", "color": STYLE["ink"], "lw": 1.0, "shrinkA": 0, "shrinkB": 0}
        compass.annotate("", xy=(dx, dy), xytext=(0.0, 0.0), arrowprops=style)
        compass.text(1.3 * dx, 1.3 * dy, name, fontsize=8, ha="center", va="center", color=STYLE["ink"])


def image_caption(data: ReportData, metrics: dict[str, Any]) -> str:
    """Return the caption of `plot_image`."""
    height, width = data.exposure.shape
    scale = metrics.get("pixelScale", float("nan"))
    text = f"{width} × {height} pixels"
    if scale == scale:
        text += f" of {scale:.3f} arcsec ({width * scale / 60:.1f} × {height * scale / 60:.1f} arcmin)"
    parts = []
    for name, planes, _, _ in reversed(OVERLAYS):  # what the legend lists
        fraction = float(np.mean(data.exposure.masked(*planes)))
        if fraction > 0:
            parts.append(f"{name} {100 * fraction:.2g} %")
    text += f"; masked pixels: {', '.join(parts)}." if parts else "; no pixel is masked."
    rays = metrics.get("cosmic_ray_count", float("nan"))
    return text + (f" Cosmic rays found and repaired: {int(rays)}." if rays == rays else "")


def plot_background(data: ReportData, ax: Axes | None = None) -> Axes:
    """Plot the subtracted background on the detector."""
    exposure = data.exposure
    ax = image_axes(ax, exposure.shape)
    if data.background is None or not len(data.background):
        return note(finish(ax, "Background", "x (pixel)", "y (pixel)"), "no background was measured")
    small, extent = _small_background(data.background, exposure.shape)
    shown = ax.imshow(
        small, origin="lower", extent=extent, cmap=STYLE["sequential"], interpolation="bilinear"
    )
    finish(ax, "Background", "x (pixel)", "y (pixel)", grid=False)
    detector_limits(ax, exposure.shape)
    color_bar(ax, shown, f"background ({data.unit} per pixel)")
    return ax


def _small_background(
    background: BackgroundList, shape: tuple[int, int]
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """Return the background on a coarse grid and its extent; polynomials are evaluated there only."""
    height, width = shape
    factor = max(1, -(-max(shape) // 128))
    x = np.arange(factor // 2, width, factor, dtype=np.float64)
    y = np.arange(factor // 2, height, factor, dtype=np.float64)
    gx, gy = np.meshgrid(x, y)
    total = np.zeros(gx.shape)
    for component in background:
        polynomial: ChebyshevPolynomial | None = component.polynomial
        if polynomial is not None:
            total += polynomial(x=gx, y=gy)
        else:
            total += component.image()[factor // 2 :: factor, factor // 2 :: factor]
    return total, (-0.5, len(x) * factor - 0.5, -0.5, len(y) * factor - 0.5)


def background_caption(data: ReportData, metrics: dict[str, Any]) -> str:
    """Return the caption of `plot_background`."""
    if data.background is None or not len(data.background):
        return "No background was measured."
    small, _ = _small_background(data.background, data.exposure.shape)
    level, change = float(np.median(small)), float(np.ptp(small))
    relative = f" ({100 * change / abs(level):.1f} %)" if abs(level) > 0 else ""
    unit = "electrons" if data.unit == "electron" else data.unit
    text = f"Median {level:.4g} {unit} per pixel; it changes by {change:.3g}{relative} over the image."
    left, error = metrics.get("sky_source_flux_median", np.nan), metrics.get("sky_source_flux_err", np.nan)
    if left == left:
        text += (
            f" What is left in {metrics['n_sky_sources']} empty apertures of 12 pixels radius: "
            f"{left:.0f} ± {error:.0f} electrons."
        )
    return text
