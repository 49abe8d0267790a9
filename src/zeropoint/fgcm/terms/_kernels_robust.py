"""Compiled robust means of observations by group, with the scatter that their errors do not explain.

Groups are int32, -1: left out. Sums are added in the order of the observations, in double precision.
"""

from __future__ import annotations

import numpy as np

from zeropoint.fgcm.terms._kernels import _median
from zeropoint.kernels._compile import helper, kernel

__all__ = ["robust_means"]

#: Squares of pulls beyond count as this in the scatter; the mean of those of normal pulls that are limited so, and its deviation.
_FARTHEST = 2.5**2
_MEAN_SQUARE, _DEVIATION = 0.977558, 1.2967
#: Scatter counts as more than the errors explain from as many of its own errors on.
_SIGNIFICANT = 3.0
_DOUBLINGS, _HALVINGS, _ROUNDS = 30, 12, 4
#: Square of the change of a mean, in its errors, from which on it has settled.
_SETTLED = 1e-4


@helper
def _limited_square(pairs, start, end, shift, excess, farthest):  # type: ignore[no-untyped-def]
    """Return the mean of the limited squares of pulls, of those that are not outliers, and how many these are."""
    total, n = 0.0, 0
    for i in range(start, end):
        square = (pairs[i, 0] - shift) ** 2 / (pairs[i, 1] + excess)
        if square <= farthest:
            total += min(square, _FARTHEST)
            n += 1
    return total / max(n, 1), n


@helper
def _excess(pairs, start, end, shift, farthest):  # type: ignore[no-untyped-def]
    """Return the variance beside that of the errors with which pulls scatter as normal ones do; 0 if it is not significant."""
    square, n = _limited_square(pairs, start, end, shift, 0.0, farthest)
    if n == 0 or square <= _MEAN_SQUARE + _SIGNIFICANT * _DEVIATION / np.sqrt(n):
        return 0.0
    high = 0.0
    for i in range(start, end):
        high += np.float64(pairs[i, 1])
    high /= end - start
    for _ in range(_DOUBLINGS):
        square, n = _limited_square(pairs, start, end, shift, high, np.inf)
        if square <= _MEAN_SQUARE:
            break
        high *= 4.0
    low = 0.0
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        square, n = _limited_square(pairs, start, end, shift, middle, farthest)
        if square > _MEAN_SQUARE:
            low = middle
        else:
            high = middle
    return high


@kernel
def robust_means(values, variance, group, first, n_sigma, wants_excess, mean, weight, excess, outlier):  # type: ignore[no-untyped-def]
    """Compute the mean of each group without its outliers.

    Parameters
    ----------
    values, variance : float32, shape (n,)
        Finite values and their positive variances.
    group : int32, shape (n,)
        Group of each; negative: left out.
    first : int64, shape (n_groups + 1,)
        Number of values in the groups before each.
    n_sigma
        Pull from the mean beyond which a value is an outlier, float64.
    wants_excess : bool
        Whether scatter beyond the errors is added to them.
    mean, weight, excess : float64, shape (n_groups,)
        Get the results, the sums of the weights, and the variance beyond the errors; untouched for groups without values.
    outlier : bool, shape (n,)
        All False; gets which values are outliers.
    """
    n_groups, n = mean.shape[0], values.shape[0]
    total = first[n_groups]
    place, pairs, work = (
        np.empty(n_groups, np.int64),
        np.empty((total, 2), np.float32),
        np.empty(total, np.float32),
    )
    for g in range(n_groups):
        place[g] = first[g]
    for i in range(n):
        g = group[i]
        if g >= 0:
            pairs[place[g], 0] = values[i]
            pairs[place[g], 1] = variance[i]
            place[g] += 1
    limit = n_sigma * n_sigma
    for g in range(n_groups):
        start, end = first[g], first[g + 1]
        if start == end:
            continue
        for k in range(start, end):
            work[k] = pairs[k, 0]
        center = _median(work, start, end)
        for k in range(start, end):
            pairs[k, 0] = np.float32(pairs[k, 0] - center)
        shift, extra, farthest, sum_w = 0.0, 0.0, np.inf, 0.0
        for _ in range(_ROUNDS):
            if wants_excess:
                extra = _excess(pairs, start, end, shift, farthest)
            farthest = limit
            before, sum_w, sum_wd = shift, 0.0, 0.0
            for k in range(start, end):
                v = pairs[k, 1] + extra
                d = pairs[k, 0] - shift
                if d * d <= limit * v:
                    w = 1.0 / v
                    sum_w += w
                    sum_wd += w * d
            if sum_w > 0.0:
                shift += sum_wd / sum_w
            if abs(shift - before) * abs(shift - before) * sum_w < _SETTLED:
                break
        mean[g], weight[g], excess[g] = center + shift, sum_w, extra
    for i in range(n):
        g = group[i]
        if g >= 0:
            d = values[i] - mean[g]
            outlier[i] = d * d > limit * (variance[i] + excess[g])
