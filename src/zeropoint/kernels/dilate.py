"""Grow boolean images by a disc or a diamond, exactly, in a time that does not depend on the radius."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import kernel
from zeropoint.kernels.labels import find_runs

__all__ = ["dilate", "half_widths"]

#: Vertical distances are held in 16 bits (8 where they fit) with one value for "farther".
MAX_RADIUS = 65534


def half_widths(radius: int, manhattan: bool = False) -> np.ndarray:
    """Return how far a stencil reaches along x at each vertical distance ``0..radius``, int64.

    The stencil is the disc ``dx^2 + dy^2 <= radius^2``, or the diamond ``|dx| + |dy| <= radius``.
    """
    dy = range(radius + 1)
    if manhattan:
        return np.array([radius - d for d in dy], np.int64)
    return np.array([math.isqrt(radius * radius - d * d) for d in dy], np.int64)


@kernel
def _paint_stencils(row_offsets, x0, x1, reach, out):  # type: ignore[no-untyped-def]
    """Set ``out`` under the stencil of every run: cost grows with runs times radius."""
    h, w = out.shape
    radius = reach.size - 1
    for y in range(h):
        for i in range(row_offsets[y], row_offsets[y + 1]):
            for yy in range(max(0, y - radius), min(h, y + radius + 1)):
                half = reach[abs(yy - y)]
                row = out[yy, max(0, x0[i] - half) : min(w, x1[i] + half + 1)]
                for x in range(row.size):
                    row[x] = 1


@kernel
def _column_distance(mask, cap, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (uint8 or uint16) with the vertical distance to the next set pixel, at most ``cap``."""
    h, w = mask.shape
    for y in range(h):
        flags = mask[y]
        here = out[y]
        if y == 0:
            for x in range(w):
                here[x] = 0 if flags[x] != 0 else cap
        else:
            before = out[y - 1]
            for x in range(w):
                here[x] = 0 if flags[x] != 0 else min(before[x] + 1, cap)
    for y in range(h - 2, -1, -1):
        here = out[y]
        after = out[y + 1]
        for x in range(w):
            here[x] = min(here[x], after[x] + 1)


@kernel
def _row_reach(distance, reach, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (uint8) with 1 where some pixel of the row has ``|dx| <= reach[distance]``, else 0.

    The disc of a pixel whose column distance is ``g`` covers ``[x - reach[g], x + reach[g]]`` in this row, so
    two sweeps that carry the farthest end seen so far decide every pixel.
    """
    h, w = distance.shape
    radius = reach.size - 1
    for y in range(h):
        near = distance[y]
        row = out[y]
        smallest = near[0]
        for x in range(w):
            smallest = min(smallest, near[x])
        if smallest > radius:
            for x in range(w):
                row[x] = 0
            continue
        left = -1  # steps still covered by what lies to the left
        for x in range(w):
            left = max(left - 1, reach[min(near[x], radius)] if near[x] <= radius else -1)
            row[x] = np.uint8(left >= 0)
        right = -1
        for x in range(w - 1, -1, -1):
            right = max(right - 1, reach[min(near[x], radius)] if near[x] <= radius else -1)
            if right >= 0:
                row[x] = 1


def dilate(mask: np.ndarray, radius: int, manhattan: bool = False) -> np.ndarray:
    """Return a boolean image grown by all offsets within a radius, clipped to the image.

    Parameters
    ----------
    mask : bool or uint8, shape (h, w)
        Not modified.
    radius
        Radius in pixels, 0 to 65534.
    manhattan
        Use the diamond ``|dx| + |dy| <= radius`` instead of the disc ``dx^2 + dy^2 <= radius^2``.

    Returns
    -------
    grown : bool, shape (h, w)

    Notes
    -----
    Few pixels and small radii are painted run by run.  Otherwise two passes of a distance transform capped at
    the radius: the distance to the next set pixel within the column, then along each row the union of the
    chords that the disc has at those distances.  Both give the same pixels.
    """
    if not 0 <= radius <= MAX_RADIUS:
        raise ValueError(f"A dilation radius must be between 0 and {MAX_RADIUS} pixels, not {radius}.")
    flags = np.ascontiguousarray(mask).view(np.uint8)
    if radius == 0 or not mask.size:
        return flags != 0
    reach = half_widths(radius, manhattan)
    row_offsets, x0, x1 = find_runs(flags)
    painted = int((x1 - x0 + 1).sum() + 2 * radius * len(x0)) * (2 * radius + 1)
    if painted < 2 * mask.size:
        out = np.zeros(mask.shape, np.uint8)
        _paint_stencils(row_offsets, x0, x1, reach, out)
        return out.view(np.bool_)
    distance = np.empty(mask.shape, np.uint8 if radius < 255 else np.uint16)
    _column_distance(flags, radius + 1, distance)
    out = np.empty(mask.shape, np.uint8)
    _row_reach(distance, reach, out)
    return out.view(np.bool_)
