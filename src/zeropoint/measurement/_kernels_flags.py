"""Kernels over footprints and small pixel boxes: mask flags, containment, naive centroids."""

from __future__ import annotations

import math

from zeropoint.kernels._compile import kernel
from zeropoint.kernels.spans import paste_source, restore_source

__all__ = ["mask_bits_by_source", "naive_centroids", "spans_contain"]


@kernel
def spans_contain(spans, x, y, out):  # type: ignore[no-untyped-def]
    """Fill ``out[i]``: is the pixel nearest to (x[i], y[i]) in footprint i?"""
    span_offsets, span_y, span_x0, span_x1 = spans
    for i in range(out.shape[0]):
        out[i] = False
        if not (math.isfinite(x[i]) and math.isfinite(y[i])):
            continue
        xi = math.floor(x[i] + 0.5)
        yi = math.floor(y[i] + 0.5)
        for s in range(span_offsets[i], span_offsets[i + 1]):
            if span_y[s] == yi and span_x0[s] <= xi <= span_x1[s]:
                out[i] = True
                break


@kernel
def mask_bits_by_source(mask, spans, x, y, out):  # type: ignore[no-untyped-def]
    """Reduce the mask over each source.

    Parameters
    ----------
    mask : int32, shape (h, w)
        Bit planes.
    spans
        Runs of all sources, inside the image.
    x, y : float64, shape (n,)
        Positions; not finite where unknown.
    out : int64, shape (n, 4)
        Filled: OR over the footprint; OR and AND over the 3 x 3 box at the nearest pixel, clipped to the image;
        number of pixels of that box.
    """
    h, w = mask.shape
    span_offsets, span_y, span_x0, span_x1 = spans
    for i in range(out.shape[0]):
        bits = 0
        for s in range(span_offsets[i], span_offsets[i + 1]):
            row = span_y[s]
            for c in range(span_x0[s], span_x1[s] + 1):
                bits |= mask[row, c]
        out[i, 0] = bits
        any_bits = 0
        all_bits = -1
        count = 0
        if abs(x[i]) < 1e9 and abs(y[i]) < 1e9:
            xc = math.floor(x[i] + 0.5)
            yc = math.floor(y[i] + 0.5)
            for r in range(max(yc - 1, 0), min(yc + 1, h - 1) + 1):
                for c in range(max(xc - 1, 0), min(xc + 1, w - 1) + 1):
                    any_bits |= mask[r, c]
                    all_bits &= mask[r, c]
                    count += 1
        out[i, 1] = any_bits
        out[i, 2] = all_bits
        out[i, 3] = count


@kernel
def naive_centroids(work, noise, spans, pixel_offsets, pixels, background, x, y, state):  # type: ignore[no-untyped-def]
    """Replace the pixels (x, y) by the center of mass of their 3 x 3 neighbors; state 1 edge, 2 no counts."""
    h, w = work.shape
    span_offsets, span_y, span_x0, span_x1 = spans
    for i in range(x.shape[0]):
        state[i] = 1
        if not (math.isfinite(x[i]) and math.isfinite(y[i])):
            continue
        xi = int(x[i])
        yi = int(y[i])
        if xi < 1 or yi < 1 or xi > w - 2 or yi > h - 2:
            continue
        paste_source(work, span_offsets, span_y, span_x0, span_x1, i, pixel_offsets, pixels)
        total = sx = sy = 0.0
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                v = work[yi + dy, xi + dx] - background
                total += v
                sx += dx * v
                sy += dy * v
        restore_source(work, noise, span_offsets, span_y, span_x0, span_x1, i)
        if total == 0.0 or not math.isfinite(total):
            state[i] = 2
            continue
        state[i] = 0
        x[i] = xi + sx / total
        y[i] = yi + sy / total
