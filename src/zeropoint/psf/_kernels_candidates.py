"""Compiled masking of other sources in candidate stamps."""

from __future__ import annotations

import numpy as np

from zeropoint.kernels._compile import helper, kernel

__all__ = ["mask_faint_neighbors", "mask_neighbors", "mask_other_peaks"]


@kernel
def mask_other_peaks(  # type: ignore[no-untyped-def]
    mask, x, y, x0, y0, span_offsets, span_y, span_x0, span_x1, peak_offsets, peak_x, peak_y, detected, ignore
):
    """Mark the pixels of each star's own footprint that are strictly nearer to another of its peaks, in place.

    The star's own peak is the one nearest to its position.

    Parameters
    ----------
    mask : int32, shape (n, side, side)
        Edited: ``ignore`` is set and ``detected`` cleared.
    x, y : float64, shape (n,)
        Positions.
    x0, y0 : int64, shape (n,)
        First pixel of each stamp.
    span_offsets, span_y, span_x0, span_x1, peak_offsets, peak_x, peak_y
        Footprints of the same n stars, as in `FootprintSet`.
    detected, ignore : int32
        Bits.
    """
    n, side, _ = mask.shape
    for k in range(n):
        first, last = peak_offsets[k], peak_offsets[k + 1]
        if last - first < 2:
            continue
        own = first
        best = np.inf
        for p in range(first, last):
            d = (peak_x[p] - x[k]) ** 2 + (peak_y[p] - y[k]) ** 2
            if d < best:
                best = d
                own = p
        for s in range(span_offsets[k], span_offsets[k + 1]):
            j = span_y[s] - y0[k]
            if j < 0 or j >= side:
                continue
            for xi in range(max(span_x0[s], x0[k]), min(span_x1[s], x0[k] + side - 1) + 1):
                d_own = (peak_x[own] - xi) ** 2 + (peak_y[own] - span_y[s]) ** 2
                for p in range(first, last):
                    if (peak_x[p] - xi) ** 2 + (peak_y[p] - span_y[s]) ** 2 < d_own:
                        mask[k, j, xi - x0[k]] = (mask[k, j, xi - x0[k]] | ignore) & ~detected
                        break


@helper
def _reach_from_centre(member, reached, stack):  # type: ignore[no-untyped-def]
    """Fill ``reached``: the 8-connected region of ``member`` that holds the middle pixel."""
    side = member.shape[0]
    for j in range(side):
        for i in range(side):
            reached[j, i] = False
    c = side // 2
    if not member[c, c]:
        return
    reached[c, c] = True
    stack[0] = c * side + c
    size = 1
    while size > 0:
        size -= 1
        j = stack[size] // side
        i = stack[size] % side
        for jj in range(max(0, j - 1), min(side, j + 2)):
            for ii in range(max(0, i - 1), min(side, i + 2)):
                if member[jj, ii] and not reached[jj, ii]:
                    reached[jj, ii] = True
                    stack[size] = jj * side + ii
                    size += 1


@kernel
def mask_neighbors(mask, grow, detected, ignore):  # type: ignore[no-untyped-def]
    """Mark detected regions that do not hold the middle pixel, grown by a circle, in place.

    Parameters
    ----------
    mask : int32, shape (n, side, side)
        Edited: ``ignore`` is set and ``detected`` cleared.
    grow : int
        Radius of the circle, pixels.
    detected, ignore : int32
        Bits.
    """
    n, side, _ = mask.shape
    member = np.empty((side, side), np.bool_)
    reached = np.empty((side, side), np.bool_)
    stack = np.empty(side * side, np.int64)
    for k in range(n):
        for j in range(side):
            for i in range(side):
                member[j, i] = (mask[k, j, i] & detected) != 0
        _reach_from_centre(member, reached, stack)
        for j in range(side):
            for i in range(side):
                if member[j, i] and not reached[j, i]:
                    for jj in range(max(0, j - grow), min(side, j + grow + 1)):
                        for ii in range(max(0, i - grow), min(side, i + grow + 1)):
                            if (jj - j) ** 2 + (ii - i) ** 2 <= grow * grow:
                                mask[k, jj, ii] = (mask[k, jj, ii] | ignore) & ~detected


@kernel
def mask_faint_neighbors(mask, image, variance, threshold, detected, ignore):  # type: ignore[no-untyped-def]
    """Mark regions above ``threshold * sqrt(variance)`` that do not hold the middle pixel, in place.

    Parameters
    ----------
    mask : int32, shape (n, side, side)
        Edited: ``ignore`` is set and ``detected`` cleared.
    image, variance : float32, shape (n, side, side)
        Stamps.
    threshold : float
        Standard deviations.
    detected, ignore : int32
        Bits.
    """
    n, side, _ = mask.shape
    member = np.empty((side, side), np.bool_)
    reached = np.empty((side, side), np.bool_)
    stack = np.empty(side * side, np.int64)
    for k in range(n):
        for j in range(side):
            for i in range(side):
                v = variance[k, j, i]
                member[j, i] = v > 0 and image[k, j, i] > threshold * np.sqrt(v)
        _reach_from_centre(member, reached, stack)
        for j in range(side):
            for i in range(side):
                if member[j, i] and not reached[j, i]:
                    mask[k, j, i] = (mask[k, j, i] | ignore) & ~detected
