"""Kernels of local order statistics: background in an annulus, variance in an ellipse."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import kernel
from zeropoint.kernels.spans import paste_source, restore_source

__all__ = ["annulus_statistics", "ellipse_medians", "select"]


@kernel
def select(values, low, high, k):  # type: ignore[no-untyped-def]
    """Return the k-th smallest of ``values[low:high + 1]`` (k counts from 0 of the whole array), reordering them.

    Afterwards everything left of k is not larger and everything right of it not smaller (Hoare's quickselect).
    """
    while low < high:
        # median of three as pivot
        a, b, c = values[low], values[(low + high) >> 1], values[high]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return values[k]


@kernel
def _quantile(values, n, q):  # type: ignore[no-untyped-def]
    """Return the quantile of ``values[:n]``, interpolated linearly at ``q (n - 1)``; reorders the values."""
    rank = q * (n - 1)
    k = int(rank)
    lower = float(select(values, 0, n - 1, k))
    fraction = rank - k
    if fraction == 0.0:
        return lower
    upper = values[k + 1]
    for i in range(k + 2, n):
        upper = min(upper, values[i])
    return lower + fraction * (float(upper) - lower)


@kernel
def _clipped(values, n, n_sigma, n_iter):  # type: ignore[no-untyped-def]
    """Return mean and standard deviation after clipping; every iteration selects from all values."""
    q1 = _quantile(values, n, 0.25)
    median = _quantile(values, n, 0.5)
    q3 = _quantile(values, n, 0.75)
    center = median
    limit = n_sigma * 0.741301109252802 * (q3 - q1)
    mean, std = median, math.nan
    for _ in range(n_iter):
        count = 0
        s = ss = 0.0
        for i in range(n):
            d = values[i] - center
            if abs(d) <= limit:
                count += 1
                s += d
                ss += d * d
        if count < 2:
            break
        shift = s / count
        mean = center + shift
        std = math.sqrt(max(ss / count - shift * shift, 0.0) * count / (count - 1))
        center = mean
        limit = n_sigma * std
    return mean, std


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
            for i in range(max(math.ceil(x[n] - outer[n]), 0), min(math.floor(x[n] + outer[n]), w - 1) + 1):
                r2 = dy2 + (i - x[n]) * (i - x[n])
                # written always, kept only if wanted: no branch to mispredict
                v = work[j, i]
                values[count] = v
                count += (r2 <= outer2) & (r2 > inner2) & ((mask[j, i] & bad_bits) == 0) & (abs(v) < np.inf)
        restore_source(work, noise, span_offsets, span_y, span_x0, span_x1, n)
        if count > 0:
            out[n, 0], out[n, 1] = _clipped(values, count, n_sigma, n_iter)


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
            out[n] = _quantile(values, count, 0.5)
