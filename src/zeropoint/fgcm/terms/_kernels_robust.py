"""Compiled robust means of observations by group, with the scatter that their errors do not explain.

Sums are added in the order of the observations, in double precision.
"""

from __future__ import annotations

import numpy as np

from zeropoint.fgcm.terms._kernels import _median
from zeropoint.kernels._compile import helper, kernel

__all__ = [
    "chosen_rows",
    "mark_far_pulls",
    "mark_outliers",
    "places_by_group",
    "pull_medians",
    "put_in_groups",
    "robust_means",
    "suspicious_rows",
]

#: Squares of pulls beyond count as this in the scatter; the mean of those of normal pulls that are limited so, and its deviation.
_FARTHEST = 2.5**2
_MEAN_SQUARE, _DEVIATION = 0.977558, 1.2967
#: Scatter counts as more than the errors explain from as many of its own errors on.
_SIGNIFICANT = 3.0
#: The scatter that is sought is known to this part of its goal; most trials.
_CLOSE, _TRIALS = 1e-3, 40
_ROUNDS = 4
#: Square of the change of a mean, in its errors, from which on it has settled.
_SETTLED = 1e-4


@kernel
def places_by_group(group, first, place):  # type: ignore[no-untyped-def]
    """Number rows by group, and in their order within each.

    Parameters
    ----------
    group : int32, shape (n,)
        Group of each row; negative: none.
    first : int64, shape (n_groups,)
        Where groups begin; gets where they end.
    place : int32, shape (n,)
        Gets the numbers; -1 without group.
    """
    for i in range(group.shape[0]):
        g = group[i]
        if g >= 0:
            place[i] = first[g]
            first[g] += 1
        else:
            place[i] = -1


@kernel
def put_in_groups(values, variance, use, place, begin, end, pairs):  # type: ignore[no-untyped-def]
    """Copy values with their variances to their places.

    Parameters
    ----------
    values, variance : float32, shape (n,)
        What is not finite, or without a positive variance, is left out.
    use : bool, shape (n,)
        Which take part.
    place : int32, shape (n,)
        Place of each; -1: none.
    begin, end : int64
        Rows that are wanted.
    pairs : float32, shape (n_known, 2)
        Gets values and variances; a variance of 0 says that a place is empty.
    """
    for i in range(begin, end):
        k = place[i]
        if k >= 0:
            if use[i] and variance[i] > 0.0 and np.isfinite(values[i]) and np.isfinite(variance[i]):
                pairs[k, 0] = values[i]
                pairs[k, 1] = variance[i]
            else:
                pairs[k, 1] = np.float32(0.0)


@kernel
def mark_outliers(values, variance, use, group, begin, end, n_sigma, mean, excess, outlier):  # type: ignore[no-untyped-def]
    """Tell which values are far from the mean of their group.

    Parameters
    ----------
    values, variance, use, begin, end, n_sigma
        As of `put_in_groups` and `robust_means`.
    group : int32, shape (n,)
        Group of each; negative: none.
    mean, excess : float64, shape (n_groups,)
        NaN where a group has no outliers.
    outlier : bool, shape (n,)
        Gets which are.
    """
    limit = n_sigma * n_sigma
    for i in range(begin, end):
        g = group[i]
        outlier[i] = False
        if g >= 0 and use[i] and variance[i] > 0.0:
            d = values[i] - mean[g]
            outlier[i] = d * d > limit * (variance[i] + excess[g])


@helper
def _sums(pairs, n, shift, excess, farthest, limit):  # type: ignore[no-untyped-def]
    """Return the mean of the limited squares of pulls up to the farthest and their number, and sums of w and w d up to a limit."""
    total, used, sum_w, sum_wd = 0.0, 0, 0.0, 0.0
    for i in range(n):
        w = 1.0 / (pairs[i, 1] + excess)
        d = pairs[i, 0] - shift
        square = d * d * w
        if square <= farthest:
            total += min(square, _FARTHEST)
            used += 1
        if square <= limit:
            sum_w += w
            sum_wd += w * d
    return total / max(used, 1), used, sum_w, sum_wd


@helper
def _excess(pairs, n, shift, farthest, guess, square, used):  # type: ignore[no-untyped-def]
    """Return the variance beside that of the errors with which pulls scatter as normal ones do; 0 if it is not significant.

    The last two arguments are what `_sums` says without it.
    """
    trial, low, high = 0.0, 0.0, np.inf
    at_low, at_high = 0.0, 0.0
    last = 0
    for k in range(_TRIALS):
        if k > 0:
            square, used, _w, _wd = _sums(pairs, n, shift, trial, farthest, farthest)
        off = square - _MEAN_SQUARE if used > 0 or k == 0 else _FARTHEST
        if k == 0:
            if used == 0 or off <= _SIGNIFICANT * _DEVIATION / np.sqrt(used):
                return 0.0
            if guess <= 0.0:
                for i in range(n):
                    guess += np.float64(pairs[i, 1])
                guess /= n
        elif abs(off) < _CLOSE:
            return trial
        # false position: the end that stays for a second time counts half
        if off > 0.0:
            low, at_low = trial, off
            if last > 0:
                at_high *= 0.5
            last = 1
        else:
            high, at_high = trial, off
            if last < 0:
                at_low *= 0.5
            last = -1
        if high == np.inf:
            trial = guess if k == 0 else 3.0 * trial
        else:
            if high - low < _CLOSE * high:
                return high
            trial = low + (high - low) * at_low / (at_low - at_high)
    return high


@kernel
def robust_means(pairs, first, begin, end, n_sigma, wants_excess, count, mean, weight, excess):  # type: ignore[no-untyped-def]
    """Compute the mean of each of some groups without its outliers.

    Parameters
    ----------
    pairs : float32, shape (n_known, 2)
        Values and their variances by group, from `put_in_groups`; used as working space.
    first : int64, shape (n_groups + 1,)
        Where the groups begin in it.
    begin, end : int64
        Groups that are wanted.
    n_sigma
        Pull from the mean beyond which a value is an outlier, float64.
    wants_excess : bool
        Whether scatter beyond the errors is added to them.
    count : int64, shape (n_groups,)
        Gets the numbers of values.
    mean, weight, excess : float64, shape (n_groups,)
        Get the results, the sums of the weights, and the variance beyond the errors; untouched for groups without values.
    """
    longest = 0
    for g in range(begin, end):
        longest = max(longest, first[g + 1] - first[g])
    work = np.empty(longest, np.float32)
    limit = n_sigma * n_sigma
    for g in range(begin, end):
        n = 0
        own = pairs[first[g] : first[g + 1]]
        for k in range(own.shape[0]):
            if own[k, 1] > 0.0:
                own[n, 0], own[n, 1] = own[k, 0], own[k, 1]
                work[n] = own[k, 0]
                n += 1
        count[g] = n
        if n == 0:
            continue
        center = _median(work, np.int64(0), np.int64(n))
        for k in range(n):
            own[k, 0] = np.float32(own[k, 0] - center)
        shift, extra, farthest, sum_w = 0.0, 0.0, np.inf, 0.0
        for _ in range(_ROUNDS):
            before = shift
            square, used, sum_w, sum_wd = _sums(own, n, shift, 0.0, farthest, limit)
            if wants_excess:
                extra = _excess(own, n, shift, farthest, extra, square, used)
                if extra > 0.0:
                    _square, _used, sum_w, sum_wd = _sums(own, n, shift, extra, farthest, limit)
            farthest = limit
            if sum_w > 0.0:
                shift += sum_wd / sum_w
            if abs(shift - before) * abs(shift - before) * sum_w < _SETTLED:
                break
        mean[g], weight[g], excess[g] = center + shift, sum_w, extra


@kernel
def pull_medians(pairs, first, member, start, begin, end, median, mad, count):  # type: ignore[no-untyped-def]
    """Compute the median and the median absolute deviation of the pulls of sets of groups.

    Parameters
    ----------
    pairs : float32, shape (n_known, 2)
        Values and their variances by group, from `put_in_groups`.
    first : int64, shape (n_groups + 1,)
        Where the groups begin in it.
    member : int64, shape (n_members,)
        Groups by set.
    start : int64, shape (n_sets + 1,)
        Where the sets begin in it.
    begin, end : int64
        Sets that are wanted.
    median, mad : float32, shape (n_sets,)
        Get the results; untouched for sets without values.
    count : int64, shape (n_sets,)
        Gets the numbers of values.
    """
    longest = 0
    for s in range(begin, end):
        size = 0
        for k in range(start[s], start[s + 1]):
            size += first[member[k] + 1] - first[member[k]]
        longest = max(longest, size)
    work = np.empty(longest, np.float32)
    for s in range(begin, end):
        n = 0
        for k in range(start[s], start[s + 1]):
            for i in range(first[member[k]], first[member[k] + 1]):
                if pairs[i, 1] > 0.0:
                    work[n] = pairs[i, 0] / np.sqrt(pairs[i, 1])
                    n += 1
        count[s] = n
        if n == 0:
            continue
        middle = np.float32(_median(work, np.int64(0), np.int64(n)))
        for i in range(n):
            work[i] = abs(work[i] - middle)
        median[s], mad[s] = middle, np.float32(_median(work, np.int64(0), np.int64(n)))


@kernel
def mark_far_pulls(values, variance, use, group, begin, end, set_of, median, limit, outlier):  # type: ignore[no-untyped-def]
    """Tell whose pulls are far from the median of their set of groups.

    Parameters
    ----------
    values, variance, use, begin, end
        As of `put_in_groups`.
    group : int32, shape (n,)
        Group of each; negative: none.
    set_of : int32, shape (n_groups,)
        Set that each group belongs to; negative: none.
    median, limit : float32, shape (n_sets,)
        Of the pulls, and how far from it one may be.
    outlier : bool, shape (n,)
        Gets which are.
    """
    for i in range(begin, end):
        outlier[i] = False
        if use[i] and variance[i] > 0.0 and group[i] >= 0:
            s = set_of[group[i]]
            if s >= 0:
                outlier[i] = abs(values[i] / np.sqrt(variance[i]) - median[s]) > limit[s]


@kernel
def suspicious_rows(values, variance, use, segment, limit, rows):  # type: ignore[no-untyped-def]
    """Find the rows of segments with a value that is far from zero, and return their number.

    Parameters
    ----------
    values, variance : float32, shape (n,)
        Values, and their variances.
    use : bool, shape (n,)
        Values that may be suspicious.
    segment : int32, shape (n,)
        Segment of each, ascending.
    limit : float32
        Square of the pull beyond which a value is far from zero.
    rows : int64, shape (n,)
        Gets the rows of these segments whose values are finite.
    """
    found, begin, n = 0, 0, values.shape[0]
    while begin < n:
        end, suspicious = begin, False
        while end < n and segment[end] == segment[begin]:
            if use[end] and variance[end] > 0.0 and values[end] * values[end] / variance[end] > limit:
                suspicious = True
            end += 1
        if suspicious:
            for i in range(begin, end):
                if np.isfinite(values[i]):
                    rows[found] = i
                    found += 1
        begin = end
    return found


@kernel
def chosen_rows(use, group, chosen, rows):  # type: ignore[no-untyped-def]
    """Find the rows of chosen groups, and return their number.

    Parameters
    ----------
    use : bool, shape (n,)
        Rows that are wanted.
    group : int32, shape (n,)
        Group of each.
    chosen : bool, shape (n_groups,)
        Which groups are.
    rows : int64, shape (n,)
        Gets their numbers.
    """
    found = 0
    for i in range(use.shape[0]):
        if use[i] and chosen[group[i]]:
            rows[found] = i
            found += 1
    return found
