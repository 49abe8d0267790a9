"""Compiled passes over observations.

A segment's observations are read once, and what the residuals need of them is kept in scratch arrays. The logarithm of the
colour term is a series: with u = z/(2 + z), ln(1 + z) = 2 artanh u = 2 (u + u^3/3 + u^5/5 + ...). Indices are unsigned, for
negative ones would be looked at twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zeropoint.fgcm.magnitudes import MAG_PER_LN
from zeropoint.kernels._compile import helper, kernel


@helper(inline="always")
def _log_ratio(u: Any) -> Any:
    """Return ln(1 + z) for u = z/(2 + z): to 1e-9 for |z| < 0.5, to 1e-4 for -0.9 < z < 9."""
    v = u * u
    return 2.0 * u * (1.0 + v * (1.0 / 3 + v * (1.0 / 5 + v * (1.0 / 7 + v * (1.0 / 9 + v * (1.0 / 11))))))


@helper(inline="always")
def _standard(mag: Any, t: Any, k: Any, tables: Any, row: Any) -> Any:
    """Return the standard magnitude of an observation, and 1 over the factor 1 + z of its colour term."""
    z = k * (tables[row, np.uint64(2)] + t * tables[row, np.uint64(3)])
    # one division for z/(2 + z) and for 1/(1 + z)
    q = 1.0 + z
    p = 1.0 + q
    d = 1.0 / (q * p)
    m = np.float64(mag) + tables[row, np.uint64(0)] + t * tables[row, np.uint64(1)]
    return m + MAG_PER_LN * _log_ratio(z * q * d), p * d


# contract: products are added without a rounding in between; the order of sums stays
@kernel(fastmath={"contract"})
def sweep_segments(
    start: Any, ec: Any, place: Any, mag: Any, weight: Any,
    first: Any, last: Any, slope: Any, ref_mag: Any, ref_weight: Any, tables: Any,
    mean: Any, weight_sum: Any, gradient: Any, magnitude: Any, inverse: Any,
) -> Any:  # fmt: skip
    """Add up chi-square and its gradient over segments.

    Parameters
    ----------
    start : int64, shape (n_segment + 1,)
        First observation of each segment.
    ec : int32; place, mag, weight : float32, shape (n_obs,)
        Row of the tables, place between the nodes, magnitude, inverse variance (not positive: not used).
    first, last : int64
        Segments.
    slope : float64, shape (n_segment,)
        F'/(1 + F' I10std).
    ref_mag, ref_weight : float64, shape (n_segment,) or (0,)
        Reference magnitudes and inverse variances.
    tables : float64, shape (n_ec, 4)
        A, its rise, I10 - I10std, its rise.
    mean, weight_sum : float64, shape (n_segment,)
        Filled where there is a weight.
    gradient : float64, shape (n_ec, 4) or (0, 4)
        Half of it is added; not computed if empty.
    magnitude, inverse : float64, shape (longest segment,)
        Scratch.

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
        begin = start[s]
        reference_weight = ref_weight[s] if has_references else 0.0
        reference = ref_mag[s] if has_references else 0.0
        total_weight = reference_weight
        total = reference_weight * reference
        for j in range(start[s + 1] - begin):
            i, jj = np.uint64(begin + j), np.uint64(j)
            row = np.uint64(ec[i])
            t = np.float64(place[i])
            w: Any = np.float64(weight[i])
            m, factor = _standard(mag[i], t, k, tables, row)
            # without a branch: which observations have no weight cannot be foreseen
            is_used = w > 0.0
            w = w if is_used else 0.0
            m = m if is_used else 0.0
            n_used += np.int64(is_used)
            total_weight += w
            total += w * m
            magnitude[jj] = m
            inverse[jj] = factor if is_used else 0.0
        if total_weight > 0.0:
            center = total / total_weight
            mean[s] = center
            weight_sum[s] = total_weight
            chi2 += reference_weight * (center - reference) ** 2
            color = MAG_PER_LN * k
            for j in range(start[s + 1] - begin):
                i, jj = np.uint64(begin + j), np.uint64(j)
                w = np.float64(weight[i])
                residual = magnitude[jj] - center
                by_a = w * residual if w > 0.0 else 0.0
                chi2 += by_a * residual
                if wants_gradient:
                    row = np.uint64(ec[i])
                    t = np.float64(place[i])
                    by_color = color * by_a * inverse[jj]
                    gradient[row, np.uint64(0)] += by_a
                    gradient[row, np.uint64(1)] += by_a * t
                    gradient[row, np.uint64(2)] += by_color
                    gradient[row, np.uint64(3)] += by_color * t
    return chi2, n_used


# contract: as above
@kernel(fastmath={"contract"})
def mean_segments(
    start: Any, ec: Any, place: Any, mag: Any, inverse_variance: Any, member: Any,
    first: Any, last: Any, slope: Any, ref_mag: Any, ref_weight: Any, tables: Any, mean: Any, weight_sum: Any,
) -> None:  # fmt: skip
    """Fill the mean standard magnitudes of segments; parameters as for `sweep_segments`.

    Parameters
    ----------
    start, ec, place, mag
        As there.
    inverse_variance : float32; member : bool, shape (n_obs,)
        Weights (not positive: not used), and the observations that count.
    first, last, slope, ref_mag, ref_weight, tables
        As there.
    mean, weight_sum : float64, shape (n_segment,)
        Filled where there is a weight.
    """
    has_references = len(ref_weight) > 0
    for s in range(first, last):
        k = slope[s]
        total_weight = ref_weight[s] if has_references else 0.0
        total = total_weight * ref_mag[s] if has_references else 0.0
        for j in range(start[s], start[s + 1]):
            i = np.uint64(j)
            row = np.uint64(ec[i])
            t = np.float64(place[i])
            w: Any = np.float64(inverse_variance[i])
            m, _factor = _standard(mag[i], t, k, tables, row)
            # without a branch, as above
            is_used = member[i] & (w > 0.0)
            total_weight += w if is_used else 0.0
            total += w * m if is_used else 0.0
        if total_weight > 0.0:
            mean[s] = total / total_weight
            weight_sum[s] = total_weight


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
        for j in range(start[s], start[s + 1]):
            i = np.uint64(j)
            row = np.uint64(ec[i])
            t = np.float64(place[i])
            z = k * (tables[row, np.uint64(2)] + t * tables[row, np.uint64(3)])
            color = MAG_PER_LN * _log_ratio(z / (2.0 + z))
            mstd[i] = np.float64(mag[i]) + tables[row, np.uint64(0)] + t * tables[row, np.uint64(1)] + color
            d_standard[i] = color
