"""Lanczos interpolation: values of the interpolant, sub-pixel shifts, model grids drawn on stamps."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import helper, kernel

__all__ = ["lanczos_value", "lanczos_weights", "pixel_grid_stamps"]


@helper
def lanczos_value(u, n):  # type: ignore[no-untyped-def]
    """Return ``sinc(u) sinc(u/n)`` for ``|u| < n``, else 0."""
    a = abs(u)
    if a >= n:
        return 0.0
    if a < 1e-8:
        return 1.0
    p = math.pi * a
    return n * math.sin(p) * math.sin(p / n) / (p * p)


@helper
def lanczos_weights(first, step, n_out, n_in, order, out):  # type: ignore[no-untyped-def]
    """Fill ``out[i, k]``: weight of model pixel ``k`` at coordinate ``first + i * step``; rows sum to 1.

    Rows are divided by the sum over *all* integer nodes, so that a constant stays constant ("conserve DC").
    Rows with no node inside are zero.
    """
    # sin(pi (f - m)) = (-1)^m sin(pi f), and sin(pi (f - m)/n) by the addition theorem: four sines a row
    cos_m = np.empty(2 * order)
    sin_m = np.empty(2 * order)
    taps = np.empty(2 * order)
    for j in range(2 * order):
        angle = math.pi * (j + 1 - order) / order
        cos_m[j] = math.cos(angle)
        sin_m[j] = math.sin(angle)
    for i in range(n_out):
        t = first + i * step
        base = math.floor(t)
        f = t - base
        s1 = math.sin(math.pi * f)
        sn = math.sin(math.pi * f / order)
        cn = math.cos(math.pi * f / order)
        total = 0.0
        for j in range(2 * order):
            m = j + 1 - order
            u = f - m
            if abs(u) < 1e-8:
                taps[j] = 1.0
            else:
                sign = 1.0 if m % 2 == 0 else -1.0
                taps[j] = order * sign * s1 * (sn * cos_m[j] - cn * sin_m[j]) / (math.pi * math.pi * u * u)
            total += taps[j]
        for k in range(n_in):
            out[i, k] = 0.0
        for j in range(2 * order):
            k = int(base) + j + 1 - order
            if 0 <= k < n_in:
                out[i, k] = taps[j] / total


@kernel
def pixel_grid_stamps(grids, dx, dy, scale, order, out):  # type: ignore[no-untyped-def]
    """Draw model grids on detector stamps at sub-pixel offsets, each normalised to sum 1.

    Parameters
    ----------
    grids : float64, shape (n, g, g)
        Model pixels ``[y, x]``, centred on index ``g // 2``.
    dx, dy : float64, shape (n,)
        Offset of the PSF centre from the stamp's middle pixel, detector pixels.
    scale : float
        Model pixel in detector pixels.
    order : int
        Lanczos order.
    out : float64, shape (n, s, s)
        Filled.
    """
    n, g, _ = grids.shape
    s = out.shape[1]
    wx = np.empty((s, g))
    wy = np.empty((s, g))
    rows = np.empty((s, g))
    wxt = np.empty((g, s))
    half = s // 2
    for k in range(n):
        lanczos_weights((-half - dx[k]) / scale + g // 2, 1.0 / scale, s, g, order, wx)
        lanczos_weights((-half - dy[k]) / scale + g // 2, 1.0 / scale, s, g, order, wy)
        grid = grids[k]
        for i in range(s):
            for c in range(g):
                rows[i, c] = 0.0
            for r in range(g):
                weight = wy[i, r]
                if weight != 0.0:
                    for c in range(g):
                        rows[i, c] += weight * grid[r, c]
        for j in range(s):
            for c in range(g):
                wxt[c, j] = wx[j, c]
        total = 0.0
        for i in range(s):
            line = out[k, i]
            for j in range(s):
                line[j] = 0.0
            for c in range(g):
                value = rows[i, c]
                for j in range(s):
                    line[j] += value * wxt[c, j]
            for j in range(s):
                total += line[j]
        for i in range(s):
            for j in range(s):
                out[k, i, j] /= total
