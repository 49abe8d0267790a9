"""Compiled passes over observations.

A segment's observations are read once into a scratch array, from which the mean and then the residuals come. The logarithm
of the colour term is a series: with u = z/(2 + z), ln(1 + z) = 2 artanh u = 2 (u + u^3/3 + u^5/5 + ...).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zeropoint.kernels._compile import helper, kernel

_MAGNITUDE = 2.5 / np.log(10.0)


@helper(inline="always")
def _log_ratio(z: Any) -> Any:
    """Return ln(1 + z) to 1e-9 for |z| < 0.5, to 1e-4 for -0.9 < z < 9."""
    u = z / (2.0 + z)
    v = u * u
    return 2.0 * u * (1.0 + v * (1.0 / 3 + v * (1.0 / 5 + v * (1.0 / 7 + v * (1.0 / 9 + v * (1.0 / 11))))))


@kernel
def sweep_segments(
    start: Any, ec: Any, place: Any, mag: Any, weight: Any,
    first: Any, last: Any, slope: Any, ref_mag: Any, ref_weight: Any, tables: Any,
    mean: Any, weight_sum: Any, gradient: Any, scratch: Any, used: Any,
) -> Any:  # fmt: skip
    """Add up chi-square and its gradient over segments.

    Parameters
    ----------
    start : int64, shape (n_segment + 1,)
        First observation of each segment.
    ec : int32; place, mag, weight : float32, shape (n_obs,)
        Row of the tables, place between the nodes, magnitude, inverse variance (0: not used).
    first, last : int64
        Segments.
    slope : float64, shape (n_segment,)
        F'/(1 + F' I10std).
    ref_mag, ref_weight : float64, shape (n_segment,) or (0,)
        Reference magnitudes and inverse variances.
    tables : float64, shape (n_ec, 4)
        A, its rise, I10 - I10std, its rise.
    mean, weight_sum : float64, shape (n_segment,)
        Filled.
    gradient : float64, shape (n_ec, 4) or (0, 4)
        Added to; not computed if empty.
    scratch : float64, shape (longest, 4); used : int64, shape (longest,)
        Longest segment's observations.

    Returns
    -------
    chi2 : float64
    n_used : int64
    """
    chi2 = 0.0
    n_used = np.int64(0)
    has_references = len(ref_weight) > 0
    wants_gradient = len(gradient) > 0
    for s in range(first, last):
        k = slope[s]
        n = np.int64(0)
        total_weight = 0.0
        total = 0.0
        reference_weight = 0.0
        if has_references:
            reference_weight = ref_weight[s]
            total_weight = reference_weight
            total = reference_weight * ref_mag[s]
        for i in range(start[s], start[s + 1]):
            w = np.float64(weight[i])
            if w > 0.0:
                row = ec[i]
                t = np.float64(place[i])
                z = k * (tables[row, 2] + t * tables[row, 3])
                m = mag[i] + tables[row, 0] + t * tables[row, 1] + _MAGNITUDE * _log_ratio(z)
                total_weight += w
                total += w * m
                scratch[n, 0] = w
                scratch[n, 1] = m
                scratch[n, 2] = t
                scratch[n, 3] = z
                used[n] = row
                n += 1
        if total_weight > 0.0:
            center = total / total_weight
            mean[s] = center
            weight_sum[s] = total_weight
            if reference_weight > 0.0:
                chi2 += reference_weight * (center - ref_mag[s]) ** 2
            n_used += n
            if wants_gradient:
                color = 2.0 * _MAGNITUDE * k
                for j in range(n):
                    r = scratch[j, 1] - center
                    wr = scratch[j, 0] * r
                    chi2 += wr * r
                    row = used[j]
                    t = scratch[j, 2]
                    by_color = color * wr / (1.0 + scratch[j, 3])
                    gradient[row, 0] += 2.0 * wr
                    gradient[row, 1] += 2.0 * wr * t
                    gradient[row, 2] += by_color
                    gradient[row, 3] += by_color * t
            else:
                for j in range(n):
                    r = scratch[j, 1] - center
                    chi2 += scratch[j, 0] * r * r
    return chi2, n_used


@kernel
def standardize(
    start: Any, ec: Any, place: Any, mag: Any, first: Any, last: Any, slope: Any, tables: Any, mstd: Any, d_standard: Any
) -> None:  # fmt: skip
    """Fill the standard magnitudes of the observations of segments; parameters as for `sweep_segments`.

    Parameters
    ----------
    start, ec, place, mag, first, last, slope, tables
        As there.
    mstd, d_standard : float32, shape (n_obs,)
        Filled: the magnitude, and its term of the colour.
    """
    for s in range(first, last):
        k = slope[s]
        for i in range(start[s], start[s + 1]):
            row = ec[i]
            t = np.float64(place[i])
            color = _MAGNITUDE * _log_ratio(k * (tables[row, 2] + t * tables[row, 3]))
            mstd[i] = mag[i] + tables[row, 0] + t * tables[row, 1] + color
            d_standard[i] = color
