"""Connected regions of a boolean image as runs of pixels: find runs, join them, group them by region.

Regions are 8-connected.  A region's number follows the raster order of its first pixel.
"""

from __future__ import annotations

import numpy as np

from zeropoint.kernels._compile import helper, kernel

__all__ = ["count_region_pixels", "find_runs", "group_runs", "join_runs", "label_mask", "mark_above"]


@kernel
def mark_above(values, noise, threshold, sign, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with 1 where ``sign * values >= threshold * noise``, else 0 (also where either is NaN).

    Parameters
    ----------
    values, noise : float32, shape (h, w)
    threshold, sign : float32
    out : uint8, shape (h, w)
        Filled.
    """
    for y in range(values.shape[0]):
        v = values[y]
        s = noise[y]
        o = out[y]
        for x in range(v.size):
            o[x] = np.uint8(sign * v[x] >= threshold * s[x])


@helper
def _next_set(row, words, x):  # type: ignore[no-untyped-def]
    """Return the first column >= ``x`` whose pixel is set, or the width; skips eight empty pixels at once."""
    w = row.size
    n_words = words.size
    while x < w:
        if x & 7 == 0:
            i = x >> 3
            while i < n_words and words[i] == 0:
                i += 1
            x = i << 3
            if x >= w:
                return w
        if row[x] != 0:
            return x
        x += 1
    return w


@kernel
def find_runs(mask):  # type: ignore[no-untyped-def]
    """Return ``(row_offsets, x0, x1)``: the runs of set pixels, row by row, both ends inclusive.

    Parameters
    ----------
    mask : uint8, shape (h, w), C-contiguous

    Returns
    -------
    row_offsets : int64, shape (h + 1,)
        Row ``y`` owns runs ``row_offsets[y]:row_offsets[y+1]``.
    x0, x1 : int32
    """
    h, w = mask.shape
    row_offsets = np.zeros(h + 1, np.int64)
    for y in range(h):
        row = mask[y]
        starts = np.int64(0)
        if w > 0:
            starts += np.int64(row[0] != 0)
            before = row[: w - 1]
            after = row[1:]
            for x in range(after.size):
                starts += np.int64((after[x] != 0) & (before[x] == 0))
        row_offsets[y + 1] = row_offsets[y] + starts
    x0 = np.empty(row_offsets[h], np.int32)
    x1 = np.empty(row_offsets[h], np.int32)
    n_whole = (w // 8) * 8
    for y in range(h):
        k = row_offsets[y]
        if row_offsets[y + 1] == k:
            continue
        row = mask[y]
        words = row[:n_whole].view(np.uint64)
        x = 0
        while k < row_offsets[y + 1]:
            x = _next_set(row, words, x)
            x0[k] = x
            while x < w and row[x] != 0:
                x += 1
            x1[k] = x - 1
            k += 1
    return row_offsets, x0, x1


@helper
def _root(parent, i):  # type: ignore[no-untyped-def]
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@kernel
def join_runs(row_offsets, x0, x1):  # type: ignore[no-untyped-def]
    """Return ``(label, n)``: the region of each run and the number of regions.

    Union-find on runs; a union keeps the smaller root, which is the run met first, so that numbering the
    roots in order gives raster order.
    """
    n_runs = x0.size
    parent = np.empty(n_runs, np.int64)
    for i in range(n_runs):
        parent[i] = i
    for y in range(1, row_offsets.size - 1):
        i = row_offsets[y - 1]
        j = row_offsets[y]
        i_end = j
        j_end = row_offsets[y + 1]
        while i < i_end and j < j_end:
            if x0[i] <= x1[j] + 1 and x0[j] <= x1[i] + 1:
                a = _root(parent, i)
                b = _root(parent, j)
                if a < b:
                    parent[b] = a
                else:
                    parent[a] = b
            if x1[i] < x1[j]:
                i += 1
            else:
                j += 1
    label = np.empty(n_runs, np.int64)
    n = 0
    for i in range(n_runs):
        root = _root(parent, i)
        if root == i:
            label[i] = n
            n += 1
        else:
            label[i] = label[root]
    return label, n


@kernel
def group_runs(row_offsets, x0, x1, label, new_label, n):  # type: ignore[no-untyped-def]
    """Return ``(offsets, y, x0, x1)``: the runs of each kept region, sorted by (y, x0).

    Parameters
    ----------
    row_offsets, x0, x1, label
        As from `find_runs` and `join_runs`.
    new_label : int64, shape (number of regions,)
        New number of each region; negative ones are dropped.
    n : int
        Number of regions kept.
    """
    offsets = np.zeros(n + 1, np.int64)
    for i in range(label.size):
        k = new_label[label[i]]
        if k >= 0:
            offsets[k + 1] += 1
    for k in range(n):
        offsets[k + 1] += offsets[k]
    place = offsets[:n].copy()
    total = offsets[n]
    out_y = np.empty(total, np.int32)
    out_x0 = np.empty(total, np.int32)
    out_x1 = np.empty(total, np.int32)
    for y in range(row_offsets.size - 1):
        for i in range(row_offsets[y], row_offsets[y + 1]):
            k = new_label[label[i]]
            if k >= 0:
                p = place[k]
                place[k] += 1
                out_y[p] = y
                out_x0[p] = x0[i]
                out_x1[p] = x1[i]
    return offsets, out_y, out_x0, out_x1


@helper
def count_region_pixels(x0, x1, label, n):  # type: ignore[no-untyped-def]
    """Return the number of pixels of each region, int64, shape (n,)."""
    area = np.zeros(n, np.int64)
    for i in range(label.size):
        area[label[i]] += x1[i] - x0[i] + 1
    return area


def label_mask(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the 8-connected regions of a boolean image.

    Parameters
    ----------
    mask : bool or uint8, shape (h, w)

    Returns
    -------
    offsets : int64, shape (n + 1,)
        Region ``i`` owns runs ``offsets[i]:offsets[i+1]``, sorted by (y, x0).
    y, x0, x1 : int32
        Runs, both ends inclusive.
    """
    flags = np.ascontiguousarray(mask).view(np.uint8)
    row_offsets, x0, x1 = find_runs(flags)
    label, n = join_runs(row_offsets, x0, x1)
    offsets, y, run_x0, run_x1 = group_runs(row_offsets, x0, x1, label, np.arange(n), n)
    return offsets, y, run_x0, run_x1
