"""Kernels with elliptical Gaussian weights: Gaussian flux and blendedness."""

from __future__ import annotations

import math

from zeropoint.kernels._compile import helper, kernel
from zeropoint.kernels.spans import paste_source, restore_source

__all__ = ["blendedness", "gaussian_fluxes"]

_Q_MAX = 14.0


@helper
def _gaussian_sum(image, xc, yc, ixx, iyy, ixy, reach_x, reach_y):  # type: ignore[no-untyped-def]
    """Return ``sum(w I)`` with ``w = exp(-q/2)`` over pixels with ``q <= 14``.

    Along a row q is a parabola, so w follows from its neighbor by two multiplications.
    """
    h, w = image.shape
    total = 0.0
    shrink = math.exp(-ixx)
    for y in range(max(math.ceil(yc - reach_y), 0), min(math.floor(yc + reach_y), h - 1) + 1):
        dy = y - yc
        middle = -ixy * dy / ixx
        rest = _Q_MAX - (iyy - ixy * ixy / ixx) * dy * dy
        if rest < 0.0:
            continue
        span = min(math.sqrt(rest / ixx), reach_x)
        first = max(math.ceil(xc + middle - span), 0)
        last = min(math.floor(xc + middle + span), w - 1)
        if last < first:
            continue
        dx = first - xc
        weight = math.exp(-0.5 * (ixx * dx * dx + 2.0 * ixy * dx * dy + iyy * dy * dy))
        ratio = math.exp(-0.5 * (ixx * (2.0 * dx + 1.0) + 2.0 * ixy * dy))
        for x in range(first, last + 1):
            total += weight * image[y, x]
            weight *= ratio
            ratio *= shrink
    return total


@helper
def _fine_gaussian_sum(image, xc, yc, ixx, iyy, ixy, reach_x, reach_y):  # type: ignore[no-untyped-def]
    """Return ``sum(w I)`` for a narrow weight, averaged over 4 x 4 points of each pixel."""
    h, w = image.shape
    total = 0.0
    for y in range(max(math.ceil(yc - reach_y), 0), min(math.floor(yc + reach_y), h - 1) + 1):
        for x in range(max(math.ceil(xc - reach_x), 0), min(math.floor(xc + reach_x), w - 1) + 1):
            weight = 0.0
            for j in range(4):
                for i in range(4):
                    dx, dy = x - xc - 0.375 + 0.25 * i, y - yc - 0.375 + 0.25 * j
                    q = ixx * dx * dx + 2.0 * ixy * dx * dy + iyy * dy * dy
                    if q <= _Q_MAX:
                        weight += math.exp(-0.5 * q)
            total += weight * image[y, x] / 16.0
    return total


@kernel
def gaussian_fluxes(work, noise, variance, spans, pixel_offsets, pixels, x, y, xx, yy, xy, flux, err):  # type: ignore[no-untyped-def]
    """Weigh sources with their own Gaussian: ``flux = 2 sum(w I)``, the flux of a Gaussian of that shape.

    Parameters
    ----------
    work, noise, variance : float32, shape (h, w)
        Image with sources replaced, the same again, variance.
    spans, pixel_offsets, pixels
        Every source's own pixels.
    x, y, xx, yy, xy : float64, shape (n,)
        Centres and second moments, pixels.
    flux, err : float64, shape (n,)
        Filled; NaN where the centre is off the image or the moments are not those of an ellipse.
    """
    h, w = work.shape
    span_offsets, span_y, span_x0, span_x1 = spans
    for n in range(x.shape[0]):
        flux[n] = math.nan
        err[n] = math.nan
        det = xx[n] * yy[n] - xy[n] * xy[n]
        if not (det > 1.2e-7 and xx[n] > 0.0 and math.isfinite(det)):
            continue
        if not (-0.5 <= x[n] < w - 0.5 and -0.5 <= y[n] < h - 0.5):
            continue
        ixx, iyy, ixy = yy[n] / det, xx[n] / det, -xy[n] / det
        fine = xx[n] < 0.25 or yy[n] < 0.25 or det < 0.0625
        cap = min(4.0 * math.sqrt(max(xx[n], yy[n])), 1000.0)
        reach_x = min(math.sqrt(_Q_MAX * xx[n]) + 1.0, cap + 1.0)
        reach_y = min(math.sqrt(_Q_MAX * yy[n]) + 1.0, cap + 1.0)
        paste_source(work, span_offsets, span_y, span_x0, span_x1, n, pixel_offsets, pixels)
        if fine:
            total = _fine_gaussian_sum(work, x[n], y[n], ixx, iyy, ixy, reach_x, reach_y)
        else:
            total = _gaussian_sum(work, x[n], y[n], ixx, iyy, ixy, reach_x, reach_y)
        restore_source(work, noise, span_offsets, span_y, span_x0, span_x1, n)
        v = variance[math.floor(y[n] + 0.5), math.floor(x[n] + 0.5)]
        flux[n] = 2.0 * total
        if v >= 0.0:
            err[n] = 2.0 * math.sqrt(v * math.pi * math.sqrt(det))


@kernel
def _unbiased_abs(value, var):  # type: ignore[no-untyped-def]
    """Return ``|value|`` minus the bias that noise of variance ``var`` gives it."""
    if not (var > 0.0):
        return abs(value)
    s = math.sqrt(2.0 * var)
    t = value / s
    tail = 0.5 * math.erfc(-t)
    # mean of a Gaussian at the observed value, cut at zero; far below zero it tends to -var/value
    mu = value + math.sqrt(var / (2.0 * math.pi)) * math.exp(-t * t) / tail if t > -5.0 else -var / value
    u = mu / s
    return abs(value) - (s / math.sqrt(math.pi) * math.exp(-u * u) - mu * math.erfc(u))


@helper
def _weighted_sums(image, variance, xc, yc, ixx, iyy, ixy, reach_x, reach_y, out):  # type: ignore[no-untyped-def]
    """Fill ``out``: sums of w, w^2, and for raw and absolute values of w I, w I dx dx, dy dy, dx dy.

    The weight is the Gaussian with inverse moments (ixx, iyy, ixy) inside 3 sigma.
    """
    h, w = image.shape
    for k in range(10):
        out[k] = 0.0
    for y in range(max(math.ceil(yc - reach_y), 0), min(math.floor(yc + reach_y), h - 1) + 1):
        dy = y - yc
        for x in range(max(math.ceil(xc - reach_x), 0), min(math.floor(xc + reach_x), w - 1) + 1):
            dx = x - xc
            q = ixx * dx * dx + 2.0 * ixy * dx * dy + iyy * dy * dy
            if q > out[10]:
                continue
            weight = math.exp(-0.5 * q)
            out[0] += weight
            out[1] += weight * weight
            raw = weight * image[y, x]
            denoised = weight * _unbiased_abs(float(image[y, x]), float(variance[y, x]))
            out[2] += raw
            out[3] += raw * dx * dx
            out[4] += raw * dy * dy
            out[5] += raw * dx * dy
            out[6] += denoised
            out[7] += denoised * dx * dx
            out[8] += denoised * dy * dy
            out[9] += denoised * dx * dy


@kernel
def blendedness(  # type: ignore[no-untyped-def]
    work, noise, image, variance, spans, pixel_offsets, pixels, shape_columns, n_sigma, sums, out
):
    """Compare each source with the image that still has its neighbors.

    Parameters
    ----------
    work, noise, image, variance : float32, shape (h, w)
        Image with sources replaced, the same again, image as it is, variance.
    spans, pixel_offsets, pixels
        Every source's own pixels.
    shape_columns : float64, shape (n, 5)
        x, y, xx, yy, xy of each source; NaN leaves the weighted part out.
    n_sigma : float
        Radius of the weight.
    sums : float64, shape (11,)
        Work space.
    out : float64, shape (n, 17)
        Filled: old; then for child raw, parent raw, child abs, parent abs: flux, xx, yy, xy.
    """
    span_offsets, span_y, span_x0, span_x1 = spans
    for n in range(out.shape[0]):
        for k in range(17):
            out[n, k] = math.nan
        cross = square = 0.0
        p = pixel_offsets[n]
        for s in range(span_offsets[n], span_offsets[n + 1]):
            for c in range(span_x0[s], span_x1[s] + 1):
                child = float(pixels[p])
                cross += child * (float(image[span_y[s], c]) - child)
                square += child * child
                p += 1
        if square > 0.0:
            out[n, 0] = cross / square
        xc, yc, xx, yy, xy = shape_columns[n]
        det = xx * yy - xy * xy
        if not (det > 0.0 and xx > 0.0 and math.isfinite(det) and abs(xc) < 1e9 and abs(yc) < 1e9):
            continue
        reach_x, reach_y = n_sigma * math.sqrt(xx), n_sigma * math.sqrt(yy)
        paste_source(work, span_offsets, span_y, span_x0, span_x1, n, pixel_offsets, pixels)
        sums[10] = n_sigma * n_sigma
        for which in range(2):
            if which == 0:
                _weighted_sums(work, variance, xc, yc, yy / det, xx / det, -xy / det, reach_x, reach_y, sums)
            else:
                _weighted_sums(image, variance, xc, yc, yy / det, xx / det, -xy / det, reach_x, reach_y, sums)
            for kind in range(2):
                total = sums[2 + 4 * kind]
                if kind == 1:
                    total = max(total, 0.0)
                first = 1 + 8 * kind + 4 * which
                if sums[1] > 0.0:
                    out[n, first] = sums[0] * total / sums[1]
                if total > 0.0:
                    for k in range(3):
                        out[n, first + 1 + k] = 2.0 * sums[3 + 4 * kind + k] / total
        restore_source(work, noise, span_offsets, span_y, span_x0, span_x1, n)
