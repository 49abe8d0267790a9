"""Compiled parts of the oversampled pixel-basis PSF: banded Lanczos resampling of square grids, and its transpose."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import kernel
from zeropoint.kernels.lanczos import lanczos_weights

__all__ = ["axis_taps", "mean_gram", "resample", "resample_transposed"]


@kernel
def axis_taps(first, step, order, n_in, start, taps):  # type: ignore[no-untyped-def]
    """Fill the Lanczos weights that read lines of ``n_in`` samples at evenly spaced coordinates.

    Parameters
    ----------
    first : float64, shape (n,)
        Coordinate of output 0 of each line, in input samples.
    step : float
        Distance of the outputs, in input samples.
    order : int
        Lanczos order.
    n_in : int
        Number of input samples.
    start : int64, shape (n, m)
        Filled: the first input sample of each output's taps.
    taps : float64, shape (n, m, n_taps)
        Filled; ``n_taps = 2 order``, at most n_in. The whole Lanczos kernel sums to 1 (a constant stays constant); what
        of it lies outside the line is cut off.
    """
    n, m, n_taps = taps.shape
    dense = np.empty((m, n_in))
    for s in range(n):
        lanczos_weights(first[s], step, m, n_in, order, dense)
        for i in range(m):
            begin = math.floor(first[s] + i * step) + 1 - order
            begin = min(max(begin, 0), n_in - n_taps)
            start[s, i] = begin
            for j in range(n_taps):
                taps[s, i, j] = dense[i, begin + j]


@kernel
def mean_gram(start, taps, share, out):  # type: ignore[no-untyped-def]
    """Fill ``out = sum_s share_s W_s^T W_s`` with banded matrices of `axis_taps`.

    Parameters
    ----------
    start : int64, shape (n, m)
        First input sample of each output.
    taps : float64, shape (n, m, n_taps)
        Weights.
    share : float64, shape (n,)
        Shares of the stars.
    out : float64, shape (n_in, n_in)
        Filled.
    """
    n, m, n_taps = taps.shape
    out[:] = 0.0
    for s in range(n):
        for i in range(m):
            k = start[s, i]
            for a in range(n_taps):
                weight = share[s] * taps[s, i, a]
                for b in range(n_taps):
                    out[k + a, k + b] += weight * taps[s, i, b]


@kernel
def resample(grids, start_x, taps_x, start_y, taps_y, out):  # type: ignore[no-untyped-def]
    """Fill ``out[s] = Wy_s grids[s] Wx_s^T`` with the banded matrices of `axis_taps`.

    Parameters
    ----------
    grids : float64, shape (n, g, g)
        Inputs ``[y, x]``.
    start_x, taps_x, start_y, taps_y
        From `axis_taps`, shapes (n, m) and (n, m, n_taps).
    out : float64, shape (n, m, m)
        Filled.
    """
    n, g, _ = grids.shape
    m, n_taps = taps_x.shape[1], taps_x.shape[2]
    rows = np.empty((m, g))
    columns = np.empty((g, m))
    turned = np.empty((m, m))
    # every inner loop runs along memory, so that it is vectorised without reordering any sum; two taps at a time
    # halve the traffic
    for s in range(n):
        rows[:] = 0.0
        for i in range(m):
            for t in range(0, n_taps, 2):
                w0, w1, k = taps_y[s, i, t], taps_y[s, i, t + 1], start_y[s, i] + t
                for c in range(g):
                    rows[i, c] += w0 * grids[s, k, c] + w1 * grids[s, k + 1, c]
        for c in range(g):
            for i in range(m):
                columns[c, i] = rows[i, c]
        turned[:] = 0.0
        for j in range(m):
            for t in range(0, n_taps, 2):
                w0, w1, k = taps_x[s, j, t], taps_x[s, j, t + 1], start_x[s, j] + t
                for i in range(m):
                    turned[j, i] += w0 * columns[k, i] + w1 * columns[k + 1, i]
        for i in range(m):
            for j in range(m):
                out[s, i, j] = turned[j, i]


@kernel
def resample_transposed(stamps, start_x, taps_x, start_y, taps_y, out):  # type: ignore[no-untyped-def]
    """Fill ``out[s] = Wy_s^T stamps[s] Wx_s``: the transpose of `resample`.

    Parameters
    ----------
    stamps : float64, shape (n, m, m)
        Inputs.
    start_x, taps_x, start_y, taps_y
        As for `resample`.
    out : float64, shape (n, g, g)
        Filled.
    """
    n, m, _ = stamps.shape
    g = out.shape[1]
    n_taps = taps_x.shape[2]
    columns = np.empty((g, m))
    rows = np.empty((m, g))
    turned = np.empty((m, m))
    for s in range(n):
        for i in range(m):
            for j in range(m):
                turned[j, i] = stamps[s, i, j]
        columns[:] = 0.0
        for j in range(m):
            for t in range(n_taps):
                weight, k = taps_x[s, j, t], start_x[s, j] + t
                for i in range(m):
                    columns[k, i] += weight * turned[j, i]
        for c in range(g):
            for i in range(m):
                rows[i, c] = columns[c, i]
        for k in range(g):
            for c in range(g):
                out[s, k, c] = 0.0
        for i in range(m):
            for t in range(n_taps):
                weight, k = taps_y[s, i, t], start_y[s, i] + t
                for c in range(g):
                    out[s, k, c] += weight * rows[i, c]
