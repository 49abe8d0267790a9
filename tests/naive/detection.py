"""Obvious versions of the detection kernels, for comparison."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import label


def correlate(image, taps):
    """2-d correlation with the outer product of symmetric taps; NaN at the border."""
    h, w = image.shape
    m = len(taps) // 2
    stencil = np.outer(taps, taps)
    out = np.full(image.shape, np.nan)
    for y in range(m, h - m):
        for x in range(m, w - m):
            out[y, x] = (stencil * image[y - m : y + m + 1, x - m : x + m + 1].astype(float)).sum()
    return out


def dilate(mask, radius, manhattan=False):
    """Union of translated stencils."""
    h, w = mask.shape
    out = np.zeros(mask.shape, bool)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            inside = abs(dx) + abs(dy) <= radius if manhattan else dx * dx + dy * dy <= radius * radius
            if inside and abs(dy) < h and abs(dx) < w:
                source = mask[max(0, -dy) : h - max(0, dy), max(0, -dx) : w - max(0, dx)]
                out[max(0, dy) : h - max(0, -dy), max(0, dx) : w - max(0, -dx)] |= source
    return out


def regions(mask):
    """8-connected regions as boolean images, by the raster order of their first pixels."""
    numbers, n = label(mask, np.ones((3, 3)))
    first = [np.flatnonzero(numbers.ravel() == k)[0] for k in range(1, n + 1)]
    return [numbers == k + 1 for k in np.argsort(first)]


def peaks(values, region, sign, border):
    """Local maxima of a region as (x, y, value), strongest first; else the largest pixel."""
    h, w = values.shape
    found, pixels = [], []
    for y, x in np.argwhere(region):
        v = sign * values[y, x]
        pixels.append((-v, y, x))
        if border <= y < h - border and border <= x < w - border:
            around = sign * values[y - 1 : y + 2, x - 1 : x + 2]
            if not (around > v).any():
                found.append((x, y, values[y, x]))
    if not found:
        _, y, x = min(pixels)
        found = [(x, y, values[y, x])]
    return sorted(found, key=lambda p: (-sign * p[2], p[0], p[1]))


def footprints(values, noise, value, multiplier, sign, min_pixels, border):
    """List of (region, peaks)."""
    with np.errstate(invalid="ignore"):
        above = sign * values >= np.float32(value) * noise
        high = sign * values >= np.float32(value * multiplier) * noise
    return [
        (region, peaks(values, region, sign, border))
        for region in regions(above)
        if region.sum() >= min_pixels and (region & high).any()
    ]


def grown(found, shape, radius, sign):
    """Grow (region, peaks) together."""
    union = np.zeros(shape, bool)
    for region, _ in found:
        union |= region
    result = []
    for region in regions(dilate(union, radius)):
        merged = [p for old, old_peaks in found if (old & region).any() for p in old_peaks]
        result.append((region, sorted(merged, key=lambda p: (-sign * p[2], p[0], p[1]))))
    return result
