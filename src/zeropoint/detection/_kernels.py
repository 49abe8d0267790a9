"""Compiled parts of detection: peaks searched again in a footprint's box, bits set under runs."""

from __future__ import annotations

import numpy as np

from zeropoint.kernels._compile import helper, kernel
from zeropoint.kernels.regions import find_regions, region_peaks

__all__ = ["or_bits", "refind_peaks"]


@helper
def _holds(offsets, y, x0, x1, k, xx, yy):  # type: ignore[no-untyped-def]
    """Return whether pixel ``(xx, yy)`` lies in footprint ``k``."""
    low = offsets[k]
    high = offsets[k + 1]
    while low < high:  # first span that does not end before the pixel
        middle = (low + high) // 2
        if y[middle] < yy or (y[middle] == yy and x1[middle] < xx):
            low = middle + 1
        else:
            high = middle
    return low < offsets[k + 1] and y[low] == yy and x0[low] <= xx


@helper
def _grown(array, size):  # type: ignore[no-untyped-def]
    """Return the array copied to at least twice its length."""
    out = np.empty(max(2 * array.size, size), array.dtype)
    for i in range(array.size):
        out[i] = array[i]
    return out


@kernel
def refind_peaks(values, noise, offsets, y, x0, x1, which, threshold, level, sign, min_area):  # type: ignore[no-untyped-def]
    """Return ``(peak_offsets, peak_x, peak_y, peak_value)`` of chosen footprints, searched again in their boxes.

    Parameters
    ----------
    values, noise : float32, shape (h, w)
        Flattened image and its noise.
    offsets, y, x0, x1
        Runs of all footprints.
    which : int64, shape (m,)
        Footprints to search.
    threshold, level, sign, min_area
        As for `find_regions`.

    Returns
    -------
    peak_offsets : int64, shape (m + 1,)
    peak_x, peak_y : int32
    peak_value : float32
        Peaks of the box's regions that lie in the footprint; possibly none.
    """
    m = which.size
    peak_offsets = np.zeros(m + 1, np.int64)
    peak_x = np.empty(1024, np.int32)
    peak_y = np.empty(1024, np.int32)
    peak_value = np.empty(1024, np.float32)
    n = 0
    for j in range(m):
        k = which[j]
        first, last = offsets[k], offsets[k + 1]
        bottom, top = y[first], y[last - 1]
        left, right = x0[first], x1[first]
        for i in range(first, last):
            left = min(left, x0[i])
            right = max(right, x1[i])
        box = values[bottom : top + 1, left : right + 1].copy()
        box_noise = noise[bottom : top + 1, left : right + 1].copy()
        found = find_regions(box, box_noise, threshold, level, sign, min_area)
        peaks = region_peaks(box, found[0], found[1], found[2], found[3], sign, np.int64(1))
        if n + peaks[1].size > peak_x.size:
            peak_x = _grown(peak_x, n + peaks[1].size)
            peak_y = _grown(peak_y, n + peaks[1].size)
            peak_value = _grown(peak_value, n + peaks[1].size)
        for p in range(peaks[1].size):
            xx = peaks[1][p] + left
            yy = peaks[2][p] + bottom
            if _holds(offsets, y, x0, x1, k, xx, yy):
                peak_x[n], peak_y[n], peak_value[n] = xx, yy, peaks[3][p]
                n += 1
        peak_offsets[j + 1] = n
    return peak_offsets, peak_x[:n], peak_y[:n], peak_value[:n]


@kernel
def or_bits(mask, y, x0, x1, bits):  # type: ignore[no-untyped-def]
    """Set bits (int32) of ``mask`` (int32, changed in place) under every run."""
    for i in range(y.size):
        row = mask[y[i], x0[i] : x1[i] + 1]
        for x in range(row.size):
            row[x] |= bits
