"""Separable smoothing of images: a symmetric kernel of few taps, both planes of an exposure in one call."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import kernel

__all__ = ["correlate_separable", "gaussian_taps", "smooth_with_variance"]


def gaussian_taps(sigma: float, width: int) -> np.ndarray:
    """Return a Gaussian sampled at pixel centres and normalised to sum 1.

    Parameters
    ----------
    sigma
        Width of the Gaussian, pixels.
    width
        Odd number of taps.

    Returns
    -------
    taps : float64, shape (width,)
    """
    if width % 2 == 0:
        raise ValueError(f"A centred kernel needs an odd number of taps, not {width}.")
    r = np.arange(width) - width // 2
    taps = np.exp(-0.5 * (r / sigma) ** 2)
    return taps / taps.sum()


@kernel
def correlate_separable(image, taps, out):  # type: ignore[no-untyped-def]
    """Fill ``out(y, x) = sum_jk taps_j taps_k image(y + j, x + k)``; NaN where the kernel leaves the image.

    Parameters
    ----------
    image : float32, shape (h, w)
    taps : float32, shape (2 m + 1,)
        Symmetric; only the second half is read.
    out : float32, shape (h, w)
        Filled.

    Notes
    -----
    One row at a time: the vertical sum of ``2 m + 1`` rows that are still in cache goes to a row buffer, then
    the horizontal sum of that buffer to the output. Both inner loops run along x, so that they vectorise.
    """
    h, w = image.shape
    m = taps.size // 2
    row = np.empty(w, np.float32)
    nan = np.float32(math.nan)
    for y in range(h):
        target = out[y]
        if y < m or y >= h - m or w <= 2 * m:
            for x in range(w):
                target[x] = nan
            continue
        centre = image[y]
        weight = taps[m]
        for x in range(w):
            row[x] = weight * centre[x]
        for k in range(1, m + 1):
            weight = taps[m + k]
            below = image[y - k]
            above = image[y + k]
            for x in range(w):
                row[x] += weight * (below[x] + above[x])
        for x in range(m):
            target[x] = nan
            target[w - 1 - x] = nan
        inner = target[m : w - m]
        middle = row[m : w - m]
        weight = taps[m]
        for x in range(inner.size):
            inner[x] = weight * middle[x]
        for k in range(1, m + 1):
            weight = taps[m + k]
            left = row[m - k : w - m - k]
            right = row[m + k : w - m + k]
            for x in range(inner.size):
                inner[x] += weight * (left[x] + right[x])


def smooth_with_variance(
    image: np.ndarray, variance: np.ndarray, sigma: float, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Smooth an image with a round Gaussian and propagate its variance.

    Parameters
    ----------
    image, variance : float32, shape (h, w)
        Pixels and their variance.
    sigma
        Width of the Gaussian, pixels.
    width
        Odd number of taps per axis.

    Returns
    -------
    smoothed, smoothed_variance : float32, shape (h, w)
        ``sum K I`` and ``sum K^2 V``; NaN within ``width // 2`` of the border and wherever a NaN pixel is in
        reach of the kernel.
    """
    taps = gaussian_taps(sigma, width)
    smoothed = np.empty(image.shape, np.float32)
    smoothed_variance = np.empty(image.shape, np.float32)
    correlate_separable(np.ascontiguousarray(image, np.float32), taps.astype(np.float32), smoothed)
    correlate_separable(
        np.ascontiguousarray(variance, np.float32), (taps**2).astype(np.float32), smoothed_variance
    )
    return smoothed, smoothed_variance
