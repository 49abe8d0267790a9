"""Regions above a threshold and their peaks; counts and maxima over boxes and blocks of an image.

``values`` and ``noise`` are float32 images; ``sign`` is +1 or -1 (float32) for positive or negative
detections; runs are those of `zeropoint.kernels.labels`.
"""

from __future__ import annotations

import numpy as np

from zeropoint.kernels._compile import helper, kernel
from zeropoint.kernels.labels import count_region_pixels, find_runs, group_runs, join_runs, mark_above

__all__ = ["block_maxima", "count_boxes", "find_regions", "region_peaks"]


@helper
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


@helper
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
