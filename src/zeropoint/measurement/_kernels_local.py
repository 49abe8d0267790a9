"""Kernels of local order statistics: background in an annulus, variance in an ellipse."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import kernel
from zeropoint.kernels.spans import paste_source, restore_source
from zeropoint.kernels.statistics import clipped_moments, quartiles

__all__ = ["annulus_statistics", "box_medians", "ellipse_medians"]


@kernel
def annulus_statistics(  # type: ignore[no-untyped-def]
    work, noise, mask, bad_bits, spans, pixel_offsets, pixels, x, y, inner, outer, n_sigma, n_iter, out
):
    """Clipped mean and standard deviation between two circles around each source.

    Parameters
    ----------
    work, noise : float32, shape (h, w)
        Image with sources replaced, and the same again.
    mask : int32, shape (h, w)
        Bit planes.
    bad_bits : int32
        Pixels with any of these bits do not count.
    spans, pixel_offsets, pixels
        Every source's own pixels.
    x, y, inner, outer : float64, shape (n,)
        Centres and radii; a pixel counts if its centre is outside the inner circle and not outside the outer.
    n_sigma, n_iter : float, int
        Clipping.
    out : float64, shape (n, 2)
        Filled: mean and standard deviation; NaN without pixels.
    """
    h, w = work.shape
    span_offsets, span_y, span_x0, span_x1 = spans
    largest = 0.0
    for n in range(x.shape[0]):
        if outer[n] > largest:
            largest = outer[n]
    side = 2 * int(min(largest, float(max(h, w)))) + 3
    values = np.empty(side * side, work.dtype)
    for n in range(x.shape[0]):
        out[n, 0] = math.nan
        out[n, 1] = math.nan
        if not (abs(x[n]) < 1e9 and abs(y[n]) < 1e9 and outer[n] < 1e9):
            continue
        paste_source(work, span_offsets, span_y, span_x0, span_x1, n, pixel_offsets, pixels)
        count = 0
        inner2, outer2 = inner[n] * inner[n], outer[n] * outer[n]
        for j in range(max(math.ceil(y[n] - outer[n]), 0), min(math.floor(y[n] + outer[n]), h - 1) + 1):
            dy2 = (j - y[n]) * (j - y[n])
            if dy2 > outer2:
                continue
            reach = math.sqrt(outer2 - dy2)
            first = max(math.ceil(x[n] - reach), 0)
            row = work[j, first : min(math.floor(x[n] + reach), w - 1) + 1]
            bits = mask[j, first:]
            # columns of this row inside the inner circle
            hole = math.sqrt(inner2 - dy2) if dy2 <= inner2 else -1.0
            for i in range(row.size):
                # written always, kept only if wanted: no branch to mispredict
                v = row[i]
                values[count] = v
                dx = abs(first + i - x[n])
                count += (dx > hole) & ((bits[i] & bad_bits) == 0) & (abs(v) < np.inf)
        restore_source(work, noise, span_offsets, span_y, span_x0, span_x1, n)
        if count > 0:
            _, mean, var = clipped_moments(values[:count], n_sigma, n_iter)
            out[n, 0] = mean
            out[n, 1] = math.sqrt(var)


@kernel
def ellipse_medians(variance, mask, bad_bits, ellipses, out):  # type: ignore[no-untyped-def]
    """Median of the variance inside ellipses.

    Parameters
    ----------
    variance : float32, shape (h, w)
        Variance.
    mask : int32, shape (h, w)
        Bit planes.
    bad_bits : int32
        Pixels with any of these bits do not count.
    ellipses : float64, shape (n, 5)
        Centre x, y and second moments xx, yy, xy; a pixel counts if ``d^T M^-1 d <= 1``.
    out : float64, shape (n,)
        Filled; NaN without pixels.
    """
    h, w = variance.shape
    values = np.empty(1024, variance.dtype)
    for n in range(out.shape[0]):
        out[n] = math.nan
        xc, yc, xx, yy, xy = ellipses[n]
        det = xx * yy - xy * xy
        if not (det > 0.0 and xx > 0.0 and math.isfinite(det) and abs(xc) < 1e9 and abs(yc) < 1e9):
            continue
        ixx, iyy, ixy = yy / det, xx / det, -xy / det
        y0 = max(math.ceil(yc - math.sqrt(yy)), 0)
        y1 = min(math.floor(yc + math.sqrt(yy)), h - 1)
        x0 = max(math.ceil(xc - math.sqrt(xx)), 0)
        x1 = min(math.floor(xc + math.sqrt(xx)), w - 1)
        if x1 < x0 or y1 < y0:
            continue
        size = (x1 - x0 + 1) * (y1 - y0 + 1)
        if size > values.shape[0]:
            values = np.empty(size, variance.dtype)
        count = 0
        for j in range(y0, y1 + 1):
            dy = j - yc
            for i in range(x0, x1 + 1):
                dx = i - xc
                q = ixx * dx * dx + 2.0 * ixy * dx * dy + iyy * dy * dy
                v = variance[j, i]
                if q <= 1.0 and (mask[j, i] & bad_bits) == 0 and not math.isnan(v):
                    values[count] = v
                    count += 1
        if count > 0:
            out[n] = quartiles(values[:count])[1]


@kernel
def box_medians(variance, mask, bad_bits, boxes, out):  # type: ignore[no-untyped-def]
    """Median of the variance inside boxes.

    Parameters
    ----------
    variance : float32, shape (h, w)
        Variance.
    mask : int32, shape (h, w)
        Bit planes.
    bad_bits : int32
        Pixels with any of these bits do not count.
    boxes : int64, shape (n, 4)
        x0, y0, x1, y1, inclusive, inside the image.
    out : float64, shape (n,)
        Filled; NaN without pixels, or if one is NaN.
    """
    values = np.empty(1024, variance.dtype)
    for n in range(out.shape[0]):
        x0, y0, x1, y1 = boxes[n]
        size = (x1 - x0 + 1) * (y1 - y0 + 1)
        if size > values.shape[0]:
            values = np.empty(size, variance.dtype)
        count = 0
        for j in range(y0, y1 + 1):
            for i in range(x0, x1 + 1):
                # written always, kept only if wanted: no branch to mispredict
                values[count] = variance[j, i]
                count += (mask[j, i] & bad_bits) == 0
        out[n] = quartiles(values[:count])[1]
