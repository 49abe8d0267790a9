"""Compiled parts of footprint finding: which regions to keep, their peaks, peaks again after flattening.

``values`` and ``noise`` are float32 images; ``sign`` is +1 or -1 (float32) for positive or negative
detections; runs are those of `zeropoint.kernels.labels`.
"""

from __future__ import annotations

import numpy as np

from zeropoint.kernels._compile import kernel
from zeropoint.kernels.labels import count_region_pixels, find_runs, group_runs, join_runs, mark_above

__all__ = [
    "block_maxima",
    "count_boxes",
    "find_regions",
    "mark_bits",
    "or_bits",
    "refind_peaks",
    "region_peaks",
]


@kernel
def _regions_reaching(values, noise, row_offsets, x0, x1, label, n, level, sign):  # type: ignore[no-untyped-def]
    """Return which regions hold a pixel with ``sign * value >= level * noise``, bool, shape (n,)."""
    reached = np.zeros(n, np.bool_)
    for y in range(row_offsets.size - 1):
        for i in range(row_offsets[y], row_offsets[y + 1]):
            k = label[i]
            if not reached[k]:
                for x in range(x0[i], x1[i] + 1):
                    if sign * values[y, x] >= level * noise[y, x]:
                        reached[k] = True
                        break
    return reached


@kernel
def find_regions(values, noise, threshold, level, sign, min_area):  # type: ignore[no-untyped-def]
    """Return ``(offsets, y, x0, x1)``: regions above a threshold, with a pixel above a level, large enough.

    Parameters
    ----------
    values, noise : float32, shape (h, w)
    threshold, level : float32
        Multiples of ``noise``: of a region's every pixel, and of at least one of its pixels.
    sign : float32
    min_area : int64
        Pixels.

    Returns
    -------
    offsets : int64, shape (n + 1,)
    y, x0, x1 : int32
        Runs of each region, in the raster order of the regions' first pixels.
    """
    flags = np.empty(values.shape, np.uint8)
    mark_above(values, noise, threshold, sign, flags)
    row_offsets, x0, x1 = find_runs(flags)
    label, n = join_runs(row_offsets, x0, x1)
    area = count_region_pixels(x0, x1, label, n)
    new_label = np.empty(n, np.int64)
    if level > threshold:
        keep = _regions_reaching(values, noise, row_offsets, x0, x1, label, n, level, sign)
    else:
        keep = np.ones(n, np.bool_)
    n_kept = 0
    for k in range(n):
        if keep[k] and area[k] >= min_area:
            new_label[k] = n_kept
            n_kept += 1
        else:
            new_label[k] = -1
    return group_runs(row_offsets, x0, x1, label, new_label, n_kept)


@kernel
def _is_peak(values, x, y, sign):  # type: ignore[no-untyped-def]
    """Return whether no neighbor is larger (a NaN neighbor is not)."""
    v = sign * values[y, x]
    for yy in range(y - 1, y + 2):
        for xx in range(x - 1, x + 2):
            if sign * values[yy, xx] > v:
                return False
    return True


@kernel
def region_peaks(values, offsets, y, x0, x1, sign, border):  # type: ignore[no-untyped-def]
    """Return ``(peak_offsets, peak_x, peak_y, peak_value)``: the local maxima of each region, raster order.

    A peak is at least ``border`` pixels from the border and not smaller than any of its eight neighbors, so a
    plateau has several.  A region without one has its largest pixel instead (the first of equals).
    """
    h, w = values.shape
    n = offsets.size - 1
    peak_offsets = np.zeros(n + 1, np.int64)
    peak_x = np.empty(0, np.int32)
    peak_y = np.empty(0, np.int32)
    peak_value = np.empty(0, np.float32)
    for fill in range(2):
        if fill == 1:
            peak_x = np.empty(peak_offsets[n], np.int32)
            peak_y = np.empty(peak_offsets[n], np.int32)
            peak_value = np.empty(peak_offsets[n], np.float32)
        p = 0
        for k in range(n):
            first = p
            best_x, best_y = x0[offsets[k]], y[offsets[k]]
            for i in range(offsets[k], offsets[k + 1]):
                yy = y[i]
                for x in range(x0[i], x1[i] + 1):
                    if sign * values[yy, x] > sign * values[best_y, best_x]:
                        best_x, best_y = x, yy
                    inside = border <= yy < h - border and border <= x < w - border
                    if inside and _is_peak(values, x, yy, sign):
                        if fill == 1:
                            peak_x[p], peak_y[p], peak_value[p] = x, yy, values[yy, x]
                        p += 1
            if p == first:
                if fill == 1:
                    peak_x[p], peak_y[p], peak_value[p] = best_x, best_y, values[best_y, best_x]
                p += 1
            peak_offsets[k + 1] = p
    return peak_offsets, peak_x, peak_y, peak_value


@kernel
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


@kernel
def _grown(array, size):  # type: ignore[no-untyped-def]
    """Return the array copied to at least twice its length."""
    out = np.empty(max(2 * array.size, size), array.dtype)
    out[: array.size] = array
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
        peaks = region_peaks(box, found[0], found[1], found[2], found[3], sign, 1)
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
def mark_bits(mask, bits, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (uint8) with 1 where any of the bits is set in ``mask`` (int32), else 0."""
    for y in range(mask.shape[0]):
        row = mask[y]
        flags = out[y]
        for x in range(row.size):
            flags[x] = np.uint8((row[x] & bits) != 0)


@kernel
def or_bits(mask, y, x0, x1, bits):  # type: ignore[no-untyped-def]
    """Set bits (int32) of ``mask`` (int32, changed in place) under every run."""
    for i in range(y.size):
        row = mask[y[i], x0[i] : x1[i] + 1]
        for x in range(row.size):
            row[x] |= bits


@kernel
def count_boxes(flags, good, boxes, out):  # type: ignore[no-untyped-def]
    """Fill ``out[b] = (pixels flagged and good, pixels good)`` of each box.

    Parameters
    ----------
    flags, good : uint8, shape (h, w)
        0 or 1.
    boxes : int64, shape (n, 4)
        ``x0, y0, x1, y1``, inclusive.
    out : int64, shape (n, 2)
        Filled.
    """
    for b in range(boxes.shape[0]):
        n_flagged = np.int64(0)
        n_good = np.int64(0)
        for y in range(boxes[b, 1], boxes[b, 3] + 1):
            f = flags[y, boxes[b, 0] : boxes[b, 2] + 1]
            g = good[y, boxes[b, 0] : boxes[b, 2] + 1]
            row_flagged = np.int64(0)
            row_good = np.int64(0)
            for x in range(f.size):
                row_flagged += np.int64(f[x] & g[x])
                row_good += np.int64(g[x])
            n_flagged += row_flagged
            n_good += row_good
        out[b, 0] = n_flagged
        out[b, 1] = n_good


@kernel
def block_maxima(values, noise, size, out):  # type: ignore[no-untyped-def]
    """Fill ``out[j, i]`` with the largest ``values / noise`` of block ``(j, i)``; -inf if all are NaN.

    Parameters
    ----------
    values, noise : float32, shape (h, w)
    size : int
        Side of a block, pixels.
    out : float32, shape (ceil(h / size), ceil(w / size))
        Filled.
    """
    h, w = values.shape
    row = np.empty(w, np.float32)
    for j in range(out.shape[0]):
        row[:] = -np.inf
        for y in range(j * size, min(h, (j + 1) * size)):
            v = values[y]
            s = noise[y]
            for x in range(w):
                ratio = v[x] / s[x]
                row[x] = ratio if ratio > row[x] else row[x]
        for i in range(out.shape[1]):
            best = np.float32(-np.inf)
            for x in range(i * size, min(w, (i + 1) * size)):
                best = max(best, row[x])
            out[j, i] = best
