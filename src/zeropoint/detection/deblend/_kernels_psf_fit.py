"""Kernels of the point-source test: weighted linear fits of PSF, tilted background and neighbors."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.detection.deblend._kernels_spans import paint_window
from zeropoint.kernels._compile import helper, kernel

__all__ = ["back_substitute", "factorize", "fit_point_sources"]


@kernel
def factorize(a, n):  # type: ignore[no-untyped-def]
    """Replace the lower triangle of ``a[:n, :n]`` by its Cholesky factor, dropping dependent columns.

    A column whose pivot is below 1e-12 of its own norm gets a unit pivot and zeros, so its parameter solves
    to zero whatever the right side (see `back_substitute`).  The leading block of the factor is the factor of
    the leading block.

    Parameters
    ----------
    a : float64, shape (>= n + 1, >= n)
        Lower triangle of the normal matrix; row ``n`` holds the right side and is replaced by ``L^-1 rhs``.
    n : int
        Number of parameters.
    """
    for j in range(n):
        norm = a[j, j]
        pivot = norm
        for k in range(j):
            pivot -= a[j, k] * a[j, k]
        if pivot > 1e-12 * norm:
            root = math.sqrt(pivot)
            a[j, j] = root
            for i in range(j + 1, n + 1):
                value = a[i, j]
                for k in range(j):
                    value -= a[i, k] * a[j, k]
                a[i, j] = value / root
        else:
            for k in range(j):
                a[j, k] = 0.0
            a[j, j] = 1.0
            for i in range(j + 1, n + 1):
                a[i, j] = 0.0


@kernel
def back_substitute(a, n, row, solution):  # type: ignore[no-untyped-def]
    """Solve ``L^T x = a[row, :n]`` for the leading ``n`` parameters; return the squared norm of the right side."""
    norm = 0.0
    for i in range(n - 1, -1, -1):
        value = a[row, i]
        norm += value * value
        for k in range(i + 1, n):
            value -= a[k, i] * solution[k]
        solution[i] = value / a[i, i]
    return norm


@helper
def stamp_value(stamp, y, x):  # type: ignore[no-untyped-def]
    """Return a stamp's pixel, zero outside."""
    size = stamp.shape[0]
    if y < 0 or x < 0 or y >= size or x >= size:
        return 0.0
    return stamp[y, x]


@helper
def find_neighbors(table, peaks, k, reach, x0, y0, x1, y1, half, found):  # type: ignore[no-untyped-def]
    """Fill ``found`` with the other peaks closer than ``reach`` whose PSF meets the box; return how many."""
    n = 0
    for j in range(table[2], table[3]):
        if j == k:
            continue
        x, y = np.int64(peaks[j, 0]), np.int64(peaks[j, 1])
        dx, dy = x - np.int64(peaks[k, 0]), y - np.int64(peaks[k, 1])
        near = dx * dx + dy * dy < reach * reach
        if near and x - half <= x1 and x + half >= x0 and y - half <= y1 and y + half >= y0:
            found[n] = j
            n += 1
    return n


@kernel
def fit_point_sources(  # type: ignore[no-untyped-def]
    image, variance, spans, table, fwhm, peaks, stamps, targets, target_stamps, target_pixel, options, out
):
    """Test peaks for being point sources.

    The model of the pixels near a peak is ``a P + s0 + sx dx + sy dy + sum_j a_j P_j`` and, in the second
    variant, ``+ bx dP/dx + by dP/dy`` with derivatives from one-pixel shifts, so that ``(bx, by)/a`` is the
    displacement.  Weights are ``ramp/V``: 1 within the FWHM, falling linearly to 0 at 1.5 FWHM.

    Parameters
    ----------
    image, variance : float32, shape (height, width)
        Pixels; those not finite or without positive variance are left out.
    spans : int32, shape (n_spans, 3)
        Runs of the parents.
    table : int64, shape (n_parents, 8)
        First and last run, first and last peak (one past), box x0, y0, x1, y1 (inclusive).
    fwhm : float64, shape (n_parents,)
        PSF width, pixels.
    peaks : int32, shape (n_peaks, 2)
        Peak pixels (x, y).
    stamps : float64, shape (n_peaks, s, s)
        PSF at each peak, centred on the middle pixel.
    targets : int64, shape (n,)
        Peaks to test, increasing.
    target_stamps : float64, shape (n, s, s)
        PSF used for each of them.
    target_pixel : int64, shape (n, 2)
        Image pixel (x, y) under the middle of that stamp.
    options : int64, shape (2,)
        Number of variants (1 or 2) and the largest side of a stamp that counts as tiny.
    out : float64, shape (n, 6)
        Status (0 fitted, 1 out of bounds, 2 tiny, 3 no valid pixel), chi2/dof of variant 1, its ``a``,
        chi2/dof of variant 2, ``bx/a``, ``by/a``.  Infinite chi2/dof: no degree of freedom left.
    """
    most = 1
    for p in range(table.shape[0]):
        most = max(most, table[p, 3] - table[p, 2])
    found = np.empty(most, np.int64)
    normal = np.empty((most + 7, most + 7))
    row = np.empty(most + 7)
    solution = np.empty(most + 7)
    t = 0
    for p in range(table.shape[0]):
        if t == len(targets) or targets[t] >= table[p, 3]:
            continue
        x0, y0, x1, y1 = table[p, 4], table[p, 5], table[p, 6], table[p, 7]
        width, height = x1 - x0 + 1, y1 - y0 + 1
        inside = np.empty((height, width), np.uint8)
        paint_window(spans, table[p, 0], table[p, 1], x0, y0, height, width, inside)
        while t < len(targets) and targets[t] < table[p, 3]:
            fit_one(
                image, variance, inside, table[p], fwhm[p], peaks, stamps, targets[t], target_stamps[t],
                target_pixel[t], options, found, normal, row, solution, out[t],
            )  # fmt: skip
            t += 1


@helper
def fit_one(  # type: ignore[no-untyped-def]
    image, variance, inside, table, fwhm, peaks, stamps, k, stamp, middle, options, found, normal, row,
    solution, out,
):  # fmt: skip
    """Fit one peak; arguments as in `fit_point_sources`, scratch arrays passed in."""
    for i in range(1, 6):
        out[i] = np.inf
    px, py = np.int64(peaks[k, 0]), np.int64(peaks[k, 1])
    x0, y0, x1, y1 = table[4], table[5], table[6], table[7]
    if px < x0 or px > x1 or py < y0 or py > y1:
        out[0] = 1.0
        return
    inner, outer = math.ceil(fwhm), math.ceil(1.5 * fwhm)
    reach = np.int64(outer)
    left, right = max(px - reach, x0), min(px + reach, x1)
    low, high = max(py - reach, y0), min(py + reach, y1)
    if min(right - left, high - low) + 1 <= options[1]:
        out[0] = 2.0
        return
    half = stamps.shape[1] // 2
    n_near = find_neighbors(
        table, peaks, k, outer + 0.5 * stamps.shape[1], left, low, right, high, half, found
    )
    n1 = 4 + n_near
    n2 = n1 + 2 if options[0] == 2 else n1
    for i in range(n2 + 1):
        for j in range(n2 + 1):
            normal[i, j] = 0.0
    effective, n_valid = 0.0, 0
    for y in range(low, high + 1):
        for x in range(left, right + 1):
            r2 = np.float64((x - px) * (x - px) + (y - py) * (y - py))
            value, var = np.float64(image[y, x]), np.float64(variance[y, x])
            good = inside[y - y0, x - x0] != 0 and r2 <= outer * outer and var > 0.0
            if not (good and math.isfinite(value) and math.isfinite(var)):
                continue
            n_valid += 1
            r = math.sqrt(r2)
            ramp = 1.0 if r <= inner else (outer - r) / (outer - inner)
            weight = math.sqrt(ramp / var)
            effective += ramp
            v, u = y - middle[1] + half, x - middle[0] + half
            row[0] = weight * stamp_value(stamp, v, u)
            row[1] = weight
            row[2] = weight * (x - px)
            row[3] = weight * (y - py)
            for j in range(n_near):
                i = found[j]
                row[4 + j] = weight * stamp_value(stamps[i], y - peaks[i, 1] + half, x - peaks[i, 0] + half)
            if n2 > n1:
                dx = stamp_value(stamp, v, u - 1) - stamp_value(stamp, v, u + 1)
                dy = stamp_value(stamp, v - 1, u) - stamp_value(stamp, v + 1, u)
                row[n1] = 0.5 * weight * dx
                row[n1 + 1] = 0.5 * weight * dy
            row[n2] = weight * value
            for i in range(n2 + 1):
                factor = row[i]
                if factor != 0.0:
                    for j in range(i + 1):
                        normal[i, j] += factor * row[j]
    if n_valid == 0:
        out[0] = 3.0
        return
    out[0] = 0.0
    data = normal[n2, n2]
    factorize(normal, n2)
    if effective - n1 > 0.0:
        explained = back_substitute(normal, n1, n2, solution)
        out[1] = max(data - explained, 0.0) / (effective - n1)
        out[2] = solution[0]
    if n2 > n1 and effective - n2 > 0.0:
        explained = back_substitute(normal, n2, n2, solution)
        out[3] = max(data - explained, 0.0) / (effective - n2)
        out[4] = solution[n1] / solution[0]
        out[5] = solution[n1 + 1] / solution[0]
