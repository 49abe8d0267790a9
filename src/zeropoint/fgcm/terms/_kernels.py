"""Compiled sums and medians of observations by group.

Groups are int32, -1: left out. Sums are added in the order of the observations, in double precision.
"""

from __future__ import annotations

import numpy as np

from zeropoint.kernels._compile import helper, kernel

__all__ = ["color_groups", "residuals", "seen_stars", "weighted_sums"]


#: So many values, or fewer, are sorted rather than divided again.
_FEW = 24


@kernel
def weighted_sums(group, gray, variance, first, second, out):  # type: ignore[no-untyped-def]
    """Add up, by group, what weighted means and scatters are made of.

    Parameters
    ----------
    group : int32, shape (n,)
        Group of each; negative: left out.
    gray, variance : float32, shape (n,)
        Values, and their variances: the weights are the inverse of these.
    first, second : float32, shape (n,)
        Values that are averaged with these weights, and without any.
    out : float64, shape (n_groups, 7)
        Zeros; gets the number, an origin (the group's first gray value), and the sums of w, w d, w d^2, w first, second, where
        d is the gray from the origin: so that the scatter of values far from zero keeps its digits.
    """
    for i in range(group.shape[0]):
        g = group[i]
        if g < 0:
            continue
        if out[g, 0] == 0.0:
            out[g, 1] = gray[i]
        w = 1.0 / np.float64(variance[i])
        d = gray[i] - out[g, 1]
        out[g, 0] += 1.0
        out[g, 2] += w
        out[g, 3] += w * d
        out[g, 4] += w * d * d
        out[g, 5] += w * first[i]
        out[g, 6] += second[i]


@helper
def _select(values, start, end, k):  # type: ignore[no-untyped-def]
    """Return the k-th smallest of values[start:end], k counted from start; reorders them so that no smaller one follows it.

    Every value is swapped, whether it is small or not: no branch has to be foreseen.
    """
    low = start
    high = end
    while high - low > _FEW:
        # the median of three as pivot: values that are in order already cost no more
        a, b, c = values[low], values[(low + high) // 2], values[high - 1]
        pivot = max(min(a, b), min(max(a, b), c))
        below = low
        for i in range(low, high):
            value = values[i]
            values[i] = values[below]
            values[below] = value
            below += value < pivot
        if k < below:
            high = below
            continue
        equal = below
        for i in range(below, high):
            value = values[i]
            values[i] = values[equal]
            values[equal] = value
            equal += value <= pivot
        if k < equal:
            return pivot
        low = equal
    for i in range(low + 1, high):
        value = values[i]
        j = i
        while j > low and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value
    return values[k]


@helper
def _median(values, start, end):  # type: ignore[no-untyped-def]
    """Return the median of values[start:end], at least one; reorders them."""
    n = end - start
    upper = _select(values, start, end, start + n // 2)
    if n % 2 == 1:
        return np.float64(upper)
    # the lower of the two middle values is the largest of those that are now below
    lower = values[start]
    for i in range(start, start + n // 2):
        lower = max(lower, values[i])
    return 0.5 * (np.float64(lower) + np.float64(upper))


@kernel
def residuals(mstd, err, segment, mean, mean_variance, member, gray, variance):  # type: ignore[no-untyped-def]
    """Compare observations with the means of their stars.

    Parameters
    ----------
    mstd, err : float32, shape (n,)
        Magnitudes and errors.
    segment : int32, shape (n,)
        Star-band of each.
    mean, mean_variance : float64, shape (n_segments,)
        Means and their variances; NaN: none.
    member : bool, shape (n,)
        Whether an observation is part of its mean.
    gray, variance : float32, shape (n,)
        Get mean minus magnitude, and ``err^2 - mean_variance`` of members, ``err^2 + mean_variance`` of others.
    """
    for i in range(mstd.shape[0]):
        s = segment[i]
        gray[i] = mean[s] - mstd[i]
        own = np.float64(err[i]) * err[i]
        variance[i] = own - mean_variance[s] if member[i] else own + mean_variance[s]


@kernel
def seen_stars(sample, star, seen):  # type: ignore[no-untyped-def]
    """Tell which stars have observations in a sample.

    Parameters
    ----------
    sample : bool, shape (n,)
        Observations.
    star : int32, shape (n,)
        Star of each.
    seen : bool, shape (n_star,)
        False; gets which have.
    """
    for i in range(sample.shape[0]):
        if sample[i]:
            seen[star[i]] = True


@kernel
def color_groups(sample, star, exposure, part, group):  # type: ignore[no-untyped-def]
    """Divide the observations of each exposure by the color of their stars.

    Parameters
    ----------
    sample : bool, shape (n,)
        Observations that count.
    star, exposure : int32, shape (n,)
        Star and exposure of each.
    part : int32, shape (n_star,)
        Which of the three parts by color a star is in; -1: none.
    group : int32, shape (n,)
        Gets ``3 exposure + part``, -1 for those that do not count.
    """
    for i in range(sample.shape[0]):
        own = part[star[i]] if sample[i] else np.int32(-1)
        group[i] = 3 * exposure[i] + own if own >= 0 else -1
