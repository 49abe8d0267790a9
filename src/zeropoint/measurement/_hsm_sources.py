"""Loops of the HSM family over all sources of an image."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import helper, kernel
from zeropoint.kernels.spans import paste_source, restore_source
from zeropoint.measurement._hsm_kernels import _undersampled, cut_stamp, fit_gaussian, hsm_moments

__all__ = ["clip_boxes", "higher_moments", "higher_order_sources", "hsm_sources"]

#: Status codes beside those of `hsm_moments`.
NO_PIXELS = -1
NOT_CONTAINED = -2

#: No weight reaches farther from the start than this: the cut radius of the largest moment plus the shift.
MAX_REACH = 525
#: Standardised squared radius beyond which the weight of higher moments is zero.
RHO2_HIGHER = 50.0


@kernel
def clip_boxes(boxes, x, y, reach, out, status):  # type: ignore[no-untyped-def]
    """Fill ``out`` (int64, (n, 4)) with the boxes cut to ``reach`` around the positions; return max area.

    ``status`` (int64) becomes `NO_PIXELS` for empty boxes, `NOT_CONTAINED` where the pixel of the position is
    not in the box, else 0.
    """
    largest = 1
    for k in range(boxes.shape[0]):
        status[k] = 0
        if boxes[k, 2] < boxes[k, 0] or boxes[k, 3] < boxes[k, 1]:
            status[k] = NO_PIXELS
            continue
        if not (abs(x[k]) < 1e9 and abs(y[k]) < 1e9):
            status[k] = NOT_CONTAINED
            continue
        ix, iy = math.floor(x[k] + 0.5), math.floor(y[k] + 0.5)
        if ix < boxes[k, 0] or ix > boxes[k, 2] or iy < boxes[k, 1] or iy > boxes[k, 3]:
            status[k] = NOT_CONTAINED
            continue
        out[k, 0], out[k, 1] = max(boxes[k, 0], ix - reach), max(boxes[k, 1], iy - reach)
        out[k, 2], out[k, 3] = min(boxes[k, 2], ix + reach), min(boxes[k, 3], iy + reach)
        largest = max(largest, (out[k, 2] - out[k, 0] + 1) * (out[k, 3] - out[k, 1] + 1))
    return largest


@kernel
def hsm_sources(  # type: ignore[no-untyped-def]
    work, noise, spans, pixel_offsets, pixels, mask, bad_bits, boxes, start, options, out, status
):
    """Adaptive moments of all sources.

    Parameters
    ----------
    work, noise : float32, shape (H, W)
        Image that sources are pasted into, and what to restore.
    spans, pixel_offsets, pixels
        Sources' runs and pixels (`MeasurementContext`).
    mask : int32, shape (H, W)
    bad_bits : int32
        Pixels with any of these bits count as zero.
    boxes : int64, shape (n, 4)
        Regions, inclusive.
    start : float64, shape (n, 3)
        Starting x, y (image pixels) and width.
    options : float64, shape (2,)
        Not 0 for a circular weight; determinant radius below which a Gaussian is fitted (`hsm_stack`).
    out : float64, shape (n, 6)
        x, y, xx, yy, xy, flux; NaN where the status is not 0.
    status : int64, shape (n,)
        Sources whose status is not 0 on entry are skipped.
    """
    largest = 1
    for k in range(boxes.shape[0]):
        if status[k] == 0:
            area = (boxes[k, 2] - boxes[k, 0] + 1) * (boxes[k, 3] - boxes[k, 1] + 1)
            largest = max(largest, area)
    stamp = np.empty(largest)
    good = np.empty(largest, np.bool_)
    sums = np.empty(6)
    for k in range(boxes.shape[0]):
        out[k, :] = math.nan
        if status[k] != 0:
            continue
        x0, y0, x1, y1 = boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3]
        paste_source(work, spans[0], spans[1], spans[2], spans[3], k, pixel_offsets, pixels)
        cut_stamp(work, mask, bad_bits, x0, y0, x1, y1, stamp, good)
        w, h = x1 - x0 + 1, y1 - y0 + 1
        xs, ys, sigma = start[k, 0] - x0, start[k, 1] - y0, start[k, 2]
        pixels_2d = stamp[: w * h].reshape(h, w)
        code = hsm_moments(
            pixels_2d, xs, ys, sigma * sigma, sigma * sigma, 0.0, options[0] != 0.0, sums, out[k]
        )
        if options[1] > 0.0 and (code != 0 or _undersampled(out[k], options[1])):
            # the object is a few pixels: only its surroundings go into the fit
            reach = 6
            ix, iy = math.floor(start[k, 0] + 0.5), math.floor(start[k, 1] + 0.5)
            x0, y0, x1, y1 = (
                max(x0, ix - reach),
                max(y0, iy - reach),
                min(x1, ix + reach),
                min(y1, iy + reach),
            )
            cut_stamp(work, mask, bad_bits, x0, y0, x1, y1, stamp, good)
            w, h = x1 - x0 + 1, y1 - y0 + 1
            code = fit_gaussian(stamp, good, w, h, start[k, 0] - x0, start[k, 1] - y0, 0.4 * sigma, out[k])
        restore_source(work, noise, spans[0], spans[1], spans[2], spans[3], k)
        status[k] = code
        if code == 0:
            out[k, 0] += x0
            out[k, 1] += y0
        else:
            out[k, :] = math.nan


@helper
def _fill_scale(stamp, good, w, h, shape, axx, ayy, axy):  # type: ignore[no-untyped-def]
    """Return sum(pixels)/sum(weights) over pixels that count."""
    total = weights = 0.0
    for j in range(h):
        for i in range(w):
            if good[j * w + i]:
                dx, dy = i - shape[0], j - shape[1]
                u, v = axx * dx + axy * dy, axy * dx + ayy * dy
                total += stamp[j * w + i]
                weights += math.exp(-0.5 * (u * u + v * v))
    return total / weights if weights > 0.0 else 0.0


@kernel
def higher_moments(stamp, good, w, h, shape, fill_with_weight, p_order, q_order, out):  # type: ignore[no-untyped-def]
    """Fill ``out[m] = sum(w I u^p v^q)/sum(w I)`` in standardised coordinates ``(u, v) = M^(-1/2) d``.

    Parameters
    ----------
    stamp, good : float64 and bool, shape (>= h * w,)
        Pixels in row order, and which of them count.
    shape : float64, shape (5,)
        x, y, xx, yy, xy of the Gaussian weight ``w = exp(-(u^2 + v^2)/2)``.
    fill_with_weight : bool
        Replace pixels that do not count by the weight scaled to the flux of the others, instead of by zero.
    p_order, q_order : int64, shape (k,)
        Powers.
    out : float64, shape (k,)

    Returns
    -------
    good : bool
        False if the weighted pixels have no positive sum.
    """
    cx, cy, mxx, myy, mxy = shape[0], shape[1], shape[2], shape[3], shape[4]
    det = mxx * myy - mxy * mxy
    if not (det > 0.0 and mxx > 0.0):
        return False
    # inverse square root of a 2x2 matrix: M^(1/2) = (M + sqrt(det) 1)/sqrt(trace + 2 sqrt(det))
    root = math.sqrt(det)
    scale = 1.0 / (root * math.sqrt(mxx + myy + 2.0 * root))
    axx, ayy, axy = (myy + root) * scale, (mxx + root) * scale, -mxy * scale
    fill = 0.0
    if fill_with_weight:
        for k in range(w * h):
            if not good[k]:
                fill = _fill_scale(stamp, good, w, h, shape, axx, ayy, axy)
                break
    top = 0
    for m in range(len(p_order)):
        top = max(top, max(p_order[m], q_order[m]))
    pu, pv = np.ones(top + 1), np.ones(top + 1)
    step2 = axx * axx + axy * axy
    q = math.exp(-step2)
    out[:] = 0.0
    norm = 0.0
    for j in range(h):
        u, v = axy * (j - cy) - axx * cx, ayy * (j - cy) - axy * cx
        # the part of the row inside rho^2 <= RHO2_HIGHER
        along = u * axx + v * axy
        inside = along * along - step2 * (u * u + v * v - RHO2_HIGHER)
        if not (inside >= 0.0):
            continue
        first = max(0, math.ceil(max((-along - math.sqrt(inside)) / step2, -1.0)))
        last = min(w - 1, math.floor(min((-along + math.sqrt(inside)) / step2, float(w))))
        u += first * axx
        v += first * axy
        weight = math.exp(-0.5 * (u * u + v * v))
        ratio = math.exp(-(u * axx + v * axy) - 0.5 * step2)
        for i in range(first, last + 1):
            k = j * w + i
            f = weight * stamp[k] if good[k] else weight * weight * fill
            norm += f
            for m in range(1, top + 1):
                pu[m] = pu[m - 1] * u
                pv[m] = pv[m - 1] * v
            for m in range(len(p_order)):
                out[m] += f * pu[p_order[m]] * pv[q_order[m]]
            weight *= ratio
            ratio *= q
            u += axx
            v += axy
    if not (norm > 0.0):
        return False
    for m in range(len(p_order)):
        out[m] /= norm
    return True


@kernel
def higher_order_sources(  # type: ignore[no-untyped-def]
    work, noise, spans, pixel_offsets, pixels, mask, bad_bits, boxes, shapes, fill, orders, out
):
    """Standardised higher moments of all sources.

    Parameters
    ----------
    work, noise, spans, pixel_offsets, pixels, mask, bad_bits, boxes
        As in `hsm_sources`.
    shapes : float64, shape (n, 5)
        x, y, xx, yy, xy of the weights; rows that are not finite are skipped.
    fill : bool
        See `higher_moments`.
    orders : int64, shape (2, k)
        Powers of u and of v.
    out : float64, shape (n, k)
        NaN where there is no result.
    """
    largest = 1
    for k in range(boxes.shape[0]):
        largest = max(largest, (boxes[k, 2] - boxes[k, 0] + 1) * (boxes[k, 3] - boxes[k, 1] + 1))
    stamp = np.empty(largest)
    good = np.empty(largest, np.bool_)
    shape = np.empty(5)
    for k in range(boxes.shape[0]):
        x0, y0, x1, y1 = boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3]
        if x1 < x0 or y1 < y0 or not (abs(shapes[k].sum()) < math.inf):
            out[k, :] = math.nan
            continue
        paste_source(work, spans[0], spans[1], spans[2], spans[3], k, pixel_offsets, pixels)
        cut_stamp(work, mask, bad_bits, x0, y0, x1, y1, stamp, good)
        restore_source(work, noise, spans[0], spans[1], spans[2], spans[3], k)
        for m in range(5):
            shape[m] = shapes[k, m]
        shape[0] -= x0
        shape[1] -= y0
        ok = higher_moments(stamp, good, x1 - x0 + 1, y1 - y0 + 1, shape, fill, orders[0], orders[1], out[k])
        if not ok:
            out[k, :] = math.nan
