"""Robust statistics of small samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["MAD_TO_SIGMA", "Line", "binned_spatial_rms", "clipped_mean", "fit_line", "mad_sigma", "median"]

#: Standard deviation of a Gaussian over its median absolute deviation.
MAD_TO_SIGMA = 1.482602218505602
_NAN = float("nan")


def median(values: np.ndarray) -> float:
    """Return the median of the finite values, NaN if there are none."""
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else _NAN


def mad_sigma(values: np.ndarray) -> float:
    """Return 1.48 times the median absolute deviation from the median of the finite values."""
    values = values[np.isfinite(values)]
    return float(MAD_TO_SIGMA * np.median(np.abs(values - np.median(values)))) if values.size else _NAN


def clipped_mean(values: np.ndarray, n_sigma: float = 4.0) -> tuple[float, float]:
    """Return the mean of the finite values within ``n_sigma`` robust sigmas of their median, and its error."""
    values = values[np.isfinite(values)]
    if values.size == 0:
        return _NAN, _NAN
    sigma = mad_sigma(values)
    if sigma > 0:
        values = values[np.abs(values - np.median(values)) <= n_sigma * sigma]
    error = float(np.std(values, ddof=1) / np.sqrt(values.size)) if values.size > 1 else _NAN
    return float(np.mean(values)), error


@dataclass(frozen=True)
class Line:
    """``y = offset + slope (x - pivot)`` with the error of the slope; NaN if there were too few points."""

    offset: float = _NAN
    slope: float = _NAN
    slope_err: float = _NAN
    pivot: float = _NAN
    n: int = 0


def fit_line(x: np.ndarray, y: np.ndarray, *, n_sigma: float = 4.0, n_min: int = 5) -> Line:
    """Fit a straight line by least squares to the points near the Theil-Sen line.

    Parameters
    ----------
    x, y : float, shape (n,)
        Points; those that are not finite are left out.
    n_sigma
        Points farther than this many robust sigmas from the line are left out, in up to four rounds.
    n_min
        Fewest points.

    Notes
    -----
    The Theil-Sen slope, the median of the slopes of all pairs, bears 29 % of outliers.
    """
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    if len(x) < n_min or np.ptp(x) == 0:
        return Line(n=len(x))
    slope = _median_slope(x, y)
    offset = float(np.median(y - slope * x))
    line, last = Line(n=len(x)), np.zeros(0, bool)
    for _ in range(4):
        deviation = np.abs(y - offset - slope * x)
        sigma = MAD_TO_SIGMA * float(np.median(deviation))
        keep = deviation <= (n_sigma * sigma if sigma > 0 else np.inf)
        if keep.sum() < n_min or np.ptp(x[keep]) == 0 or np.array_equal(keep, last):
            break
        line, last = _least_squares(x[keep], y[keep]), keep
        slope, offset = line.slope, line.offset - line.slope * line.pivot
    return line


def _median_slope(x: np.ndarray, y: np.ndarray, n_most: int = 300) -> float:
    """Return the median slope of all pairs of at most ``n_most`` points."""
    step = -(-len(x) // n_most)
    order = np.argsort(x, kind="stable")[::step]
    first, second = np.triu_indices(len(order), 1)
    dx = x[order[second]] - x[order[first]]
    dy = y[order[second]] - y[order[first]]
    apart = dx > 0
    return float(np.median(dy[apart] / dx[apart])) if apart.any() else 0.0


def _least_squares(x: np.ndarray, y: np.ndarray) -> Line:
    pivot = float(np.mean(x))
    u, offset = x - pivot, float(np.mean(y))
    sxx = float(np.sum(u**2))
    slope = float(np.sum(u * y)) / sxx
    residual = y - offset - slope * u
    error = float(np.sqrt(np.sum(residual**2) / max(len(x) - 2, 1) / sxx))
    return Line(offset, slope, error, pivot, len(x))


def binned_spatial_rms(
    x: np.ndarray, y: np.ndarray, values: np.ndarray, shape: tuple[int, int], *, n_per_bin: int = 5
) -> tuple[float, float, int]:
    """Return the rms of cell medians about their mean, what noise alone would give, and the cells per side.

    Parameters
    ----------
    x, y, values : float, shape (n,)
        Positions in pixels and values.
    shape
        (height, width) of the image, divided in 4 x 4 cells if that leaves ``n_per_bin`` stars a cell on the
        average, else 2 x 2; NaN if even that does not.
    n_per_bin
        Stars a cell needs.
    """
    good = np.isfinite(x) & np.isfinite(y) & np.isfinite(values)
    x, y, values = x[good], y[good], values[good]
    n_side = next((n for n in (4, 2) if values.size >= 2 * n_per_bin * n * n), 0)
    if n_side == 0:
        return _NAN, _NAN, 0
    height, width = shape
    column = np.clip(((x + 0.5) / width * n_side).astype(int), 0, n_side - 1)
    row = np.clip(((y + 0.5) / height * n_side).astype(int), 0, n_side - 1)
    medians, noise2 = [], []
    for cell in range(n_side * n_side):
        inside = values[(row * n_side + column) == cell]
        if inside.size >= n_per_bin:
            medians.append(np.median(inside))
            # the median's variance is pi/2 of the mean's
            noise2.append(0.5 * np.pi * mad_sigma(inside) ** 2 / inside.size)
    if len(medians) < 2:
        return _NAN, _NAN, 0
    return float(np.std(medians)), float(np.sqrt(np.mean(noise2))), n_side
