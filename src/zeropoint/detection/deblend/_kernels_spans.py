"""Kernels between runs of pixels and dense windows: statistics of parents, painting, run output."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import helper, kernel

__all__ = [
    "append_runs",
    "mark_mask",
    "paint_image",
    "paint_window",
    "parent_statistics",
    "room_for_pixels",
    "room_for_spans",
]


@kernel
def parent_statistics(mask, spans, ranges, bits, out):  # type: ignore[no-untyped-def]
    """Fill ``out[i] = (area, x, y, b/a, n_0, n_1, ...)`` of footprints.

    Parameters
    ----------
    mask : int32, shape (height, width)
        Mask planes.
    spans : int32, shape (n_spans, 3)
        Runs ``(y, x0, x1)``, inclusive.
    ranges : int64, shape (n, 2)
        First and one-past-last run of each footprint.
    bits : int32, shape (n_bits,)
        Mask bits to count.
    out : float64, shape (n, 4 + n_bits)
        Area, centroid, axis ratio of the second moments (1 if they vanish), pixels with each bit set.
    """
    for i in range(ranges.shape[0]):
        area = sx = sy = sxx = syy = sxy = 0.0
        for b in range(bits.shape[0]):
            out[i, 4 + b] = 0.0
        x_ref = np.float64(spans[ranges[i, 0], 1])
        y_ref = np.float64(spans[ranges[i, 0], 0])
        for s in range(ranges[i, 0], ranges[i, 1]):
            y = spans[s, 0]
            dy = y - y_ref
            for x in range(spans[s, 1], spans[s, 2] + 1):
                dx = x - x_ref
                area += 1.0
                sx += dx
                sy += dy
                sxx += dx * dx
                syy += dy * dy
                sxy += dx * dy
                for b in range(bits.shape[0]):
                    if mask[y, x] & bits[b]:
                        out[i, 4 + b] += 1.0
        mx, my = sx / area, sy / area
        xx, yy, xy = sxx / area - mx * mx, syy / area - my * my, sxy / area - mx * my
        half = 0.5 * (xx + yy)
        root = math.sqrt(0.25 * (xx - yy) * (xx - yy) + xy * xy)
        out[i, 0] = area
        out[i, 1] = x_ref + mx
        out[i, 2] = y_ref + my
        out[i, 3] = math.sqrt(max(half - root, 0.0) / (half + root)) if half + root > 0.0 else 1.0


@kernel
def mark_mask(mask, spans, ranges, bit):  # type: ignore[no-untyped-def]
    """Set ``bit`` (int32) in ``mask`` on all pixels of footprints given as in `parent_statistics`."""
    for i in range(ranges.shape[0]):
        for s in range(ranges[i, 0], ranges[i, 1]):
            for x in range(spans[s, 1], spans[s, 2] + 1):
                mask[spans[s, 0], x] |= bit


@kernel
def paint_image(spans, out):  # type: ignore[no-untyped-def]
    """Set ``out`` (uint8, shape (height, width)) to 1 on all runs."""
    for s in range(spans.shape[0]):
        for x in range(spans[s, 1], spans[s, 2] + 1):
            out[spans[s, 0], x] = 1


@helper
def paint_window(spans, first, last, x0, y0, h, w, out):  # type: ignore[no-untyped-def]
    """Set ``out`` (uint8, the window with corner ``(x0, y0)``, size ``(h, w)``) to 1 on runs ``first:last``, else 0."""
    for y in range(h):
        for x in range(w):
            out[y, x] = 0
    for s in range(first, last):
        row = spans[s, 0] - y0
        for x in range(spans[s, 1] - x0, spans[s, 2] - x0 + 1):
            out[row, x] = 1


@kernel
def append_runs(values, member, x0, y0, h, w, trim, spans, n_spans, pixels, n_pixels):  # type: ignore[no-untyped-def]
    """Write the member pixels of a window as runs with their values; return the new counts.

    Parameters
    ----------
    values : float32, at least (h, w)
        Pixel values.
    member : uint8, at least (h, w)
        Non-zero inside the footprint.
    x0, y0, h, w : int
        Image coordinates of the window's first pixel, and its size.
    trim : bool
        Cut pixels that are not positive off both ends of each run, and store values below zero as zero.
    spans : int32, shape (m, 3)
        Runs, written from ``n_spans`` on.
    n_spans : int
        Runs in use.
    pixels : float32, shape (k,)
        Values, written from ``n_pixels`` on.
    n_pixels : int
        Values in use.
    """
    for y in range(h):
        x = 0
        while x < w:
            if member[y, x] == 0:
                x += 1
                continue
            first = x
            while x < w and member[y, x] != 0:
                x += 1
            last = x - 1
            if trim:
                while first <= last and not values[y, first] > 0.0:
                    first += 1
                while last >= first and not values[y, last] > 0.0:
                    last -= 1
            if first > last:
                continue
            spans[n_spans, 0] = y0 + y
            spans[n_spans, 1] = x0 + first
            spans[n_spans, 2] = x0 + last
            n_spans += 1
            for c in range(first, last + 1):
                value = values[y, c]
                if trim and not value > 0.0:
                    value = np.float32(0.0)
                pixels[n_pixels] = value
                n_pixels += 1
    return n_spans, n_pixels


@helper
def room_for_pixels(pixels, used, extra):  # type: ignore[no-untyped-def]
    """Return ``pixels`` or a copy at least twice as long, so that ``extra`` more values fit."""
    if used + extra <= len(pixels):
        return pixels
    larger = np.empty(max(2 * len(pixels), used + extra), np.float32)
    for i in range(used):
        larger[i] = pixels[i]
    return larger


@helper
def room_for_spans(spans, used, extra):  # type: ignore[no-untyped-def]
    """Return ``spans`` or a copy at least twice as long, so that ``extra`` more runs fit."""
    if used + extra <= spans.shape[0]:
        return spans
    larger = np.empty((max(2 * spans.shape[0], used + extra), 3), np.int32)
    for i in range(used):
        for j in range(3):
            larger[i, j] = spans[i, j]
    return larger
