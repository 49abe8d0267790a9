"""Exact median, quartiles and clipped statistics, of one sample or of every cell of an image.

The clipped mean starts from the median and the interquartile range, then clips on its own mean and
standard deviation; every iteration selects afresh from the whole sample, so a value may come back.
Order statistics are exact: a small regular sub-sample only tells where to look, a histogram of that range
finds the bins of the wanted ranks, and just their members are sorted.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from zeropoint.kernels._compile import helper, kernel

__all__ = [
    "IQR_TO_SIGMA",
    "MEAN",
    "MEANCLIP",
    "MEDIAN",
    "cell_statistics",
    "clipped_moments",
    "clipped_stats",
    "count_bits",
    "good_values",
    "median_and_std",
    "quartiles",
]

#: Standard deviation of a Gaussian over its interquartile range.
IQR_TO_SIGMA = 0.741301109252802

#: Codes of the statistic `cell_statistics` computes.
MEAN, MEDIAN, MEANCLIP = 0, 1, 2

#: Bins of the histogram: for large samples, and for those below the size after.
_N_BINS, _N_BINS_FEW, _FEW = 1024, 256, 8192
_N_SAMPLE = 128
#: Samples up to this size are simply sorted.
_SMALL = 512
#: Values whose bins are found at once.
_BLOCK = 2048
#: Pixels of a row that are collected at once.
_RUN = 64


@helper
def _interpolated(low, high, rank):  # type: ignore[no-untyped-def]
    """Return the value at a fractional rank between its two neighbors (which may both be infinite)."""
    fraction = rank - math.floor(rank)
    return float(low) + fraction * (float(high) - float(low)) if fraction > 0.0 else float(low)


@helper
def _sort(values):  # type: ignore[no-untyped-def]
    """Sort in place; the one use of the sort, each of which takes a second to compile."""
    values.sort()


@helper
def _sorted_quartiles(values):  # type: ignore[no-untyped-def]
    """Return the three quartiles by sorting, interpolated linearly at ``q (n - 1)``."""
    n = values.size
    ordered = values.copy()
    _sort(ordered)
    if n == 0 or np.isnan(ordered[n - 1]):
        return np.nan, np.nan, np.nan
    q = np.empty(3)
    for j in range(3):
        rank = 0.25 * (j + 1) * (n - 1)
        k = int(rank)
        q[j] = _interpolated(ordered[k], ordered[min(k + 1, n - 1)], rank)
    return q[0], q[1], q[2]


# reassociation lets the sum be vectorised; that is 0 or NaN, in any order
@helper(fastmath={"reassoc"})
def _find_bins(values, low, scale, last, bins):  # type: ignore[no-untyped-def]
    """Fill ``bins`` (uint16) with histogram bins, and return whether all values are finite.

    Bin 0 is for values below ``low`` and for NaN, bin ``last`` for those above the range.
    """
    zero = values.dtype.type(0.0)
    top = float(last)
    for i in range(values.size):
        v = values[i]
        zero += v - v
        # in this order of arguments a NaN comes out as 0
        bins[i] = np.uint16(np.int32(max(0.0, min((float(v) - low) * scale + 1.0, top))))
    return not np.isnan(zero)


@helper
def _holds_nan(values):  # type: ignore[no-untyped-def]
    """Return whether a value is NaN (infinities alone are not)."""
    found = False
    for i in range(values.size):
        found |= np.isnan(values[i])
    return found


@helper
def _ranked(values, low, scale, counts, bins, ranks):  # type: ignore[no-untyped-def]
    """Return the order statistics of the given ranks, whose histogram bins are known.

    ``counts[0]`` and ``counts[-1]`` count values outside the histogram; ``bins`` holds each rank's bin.
    """
    n_bins = counts.size
    needed = np.zeros(n_bins, np.bool_)
    for b in bins:
        needed[b] = True
    n_members = 0
    before = np.zeros(n_bins + 1, np.int64)  # values in lower bins
    members_before = np.zeros(n_bins + 1, np.int64)  # of those, the collected ones
    for b in range(n_bins):
        before[b + 1] = before[b] + counts[b]
        n_members += counts[b] if needed[b] else 0
        members_before[b + 1] = n_members
    members = np.empty(n_members, values.dtype)
    found = np.empty(_BLOCK, np.uint16)
    m = 0
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        _find_bins(block, low, scale, n_bins - 1, found)
        for i in range(block.size):
            if needed[found[i]]:
                members[m] = block[i]
                m += 1
    _sort(members)
    result = np.empty(ranks.size)
    for j in range(ranks.size):
        result[j] = members[ranks[j] - before[bins[j]] + members_before[bins[j]]]
    return result


@kernel
def quartiles(values):  # type: ignore[no-untyped-def]
    """Return ``(q1, median, q3)`` of a sample, NaN if it is empty or holds a NaN.

    Parameters
    ----------
    values : float32 or float64, shape (n,)
        The sample; not modified.
    """
    n = values.size
    if n <= _SMALL:
        return _sorted_quartiles(values)
    sample = np.empty(_N_SAMPLE, values.dtype)
    for i in range(_N_SAMPLE):
        sample[i] = values[(i * n) // _N_SAMPLE]
    _sort(sample)
    low, high = float(sample[_N_SAMPLE // 10]), float(sample[_N_SAMPLE - 1 - _N_SAMPLE // 10])
    n_bins = _N_BINS if n >= _FEW else _N_BINS_FEW
    scale = (n_bins - 2) / (high - low) if high > low else 0.0
    if not (scale > 0.0 and scale < np.inf):  # no spread, or infinities
        return _sorted_quartiles(values)
    counts = np.zeros(n_bins, np.int64)
    found = np.empty(_BLOCK, np.uint16)
    # in blocks, so that finding bins is vectorised and only counting them is not
    for start in range(0, n, _BLOCK):
        block = values[start : start + _BLOCK]
        if not _find_bins(block, low, scale, n_bins - 1, found) and _holds_nan(block):
            return np.nan, np.nan, np.nan
        for i in range(block.size):
            counts[found[i]] += 1
    ranks, bins = np.empty(6, np.int64), np.empty(6, np.int64)
    for j in range(3):
        ranks[2 * j] = int(0.25 * (j + 1) * (n - 1))
        ranks[2 * j + 1] = min(ranks[2 * j] + 1, n - 1)
    total, b = 0, 0
    for j in range(6):
        while total + counts[b] <= ranks[j]:
            total += counts[b]
            b += 1
        bins[j] = b
    found = _ranked(values, low, scale, counts, bins, ranks)
    return (
        _interpolated(found[0], found[1], 0.25 * (n - 1)),
        _interpolated(found[2], found[3], 0.50 * (n - 1)),
        _interpolated(found[4], found[5], 0.75 * (n - 1)),
    )


# reassociation lets the sums be vectorised; they stay within a few double roundings of exact
@kernel(fastmath={"reassoc"})
def _moments_within(values, center, half_width):  # type: ignore[no-untyped-def]
    """Return ``(n, mean, variance)`` of the values with ``|v - center| <= half_width``.

    The variance is the unbiased one, NaN for fewer than two values.
    """
    n = 0
    total, squares = 0.0, 0.0
    for i in range(values.size):
        d = float(values[i]) - center
        within = abs(d) <= half_width
        d = d if within else 0.0
        n += within
        total += d
        squares += d * d
    if n == 0:
        return 0, np.nan, np.nan
    shift = total / n
    variance = max(squares / n - shift * shift, 0.0) * n / (n - 1.0) if n > 1 else np.nan
    return n, center + shift, variance


@helper
def _clipped_moments(values, median, iqr, n_sigma, n_iter):  # type: ignore[no-untyped-def]
    """Return ``(n, mean, variance)`` after ``n_iter`` selections from the whole sample."""
    if not (iqr >= 0.0 and iqr < np.inf):
        return 0, np.nan, np.nan
    n, mean, variance = _moments_within(
        values, median, n_sigma * IQR_TO_SIGMA * iqr if n_iter > 0 else np.inf
    )
    for _ in range(1, n_iter):
        # one value alone has no variance: it stays
        half_width = n_sigma * math.sqrt(variance) if n > 1 else 0.0
        n, mean, variance = _moments_within(values, mean, half_width)
    return n, mean, variance


@kernel
def clipped_moments(values, n_sigma, n_iter):  # type: ignore[no-untyped-def]
    """Return ``(n, mean, variance)`` of a sample (as for `quartiles`) after clipping; a kernel.

    The first selection is around the median with the interquartile range, the others around the last mean.
    """
    q1, median, q3 = quartiles(values)
    return _clipped_moments(values, median, q3 - q1, n_sigma, n_iter)


def clipped_stats(
    values: npt.NDArray[np.float32] | npt.NDArray[np.float64], n_sigma: float = 3.0, n_iter: int = 3
) -> tuple[float, float, int]:
    """Return the clipped mean, the clipped standard deviation and the number of values kept.

    Parameters
    ----------
    values : float32 or float64, any shape
        The sample; a NaN makes the result NaN.
    n_sigma
        Half-width of the selection in standard deviations.
    n_iter
        Number of selections; 0 uses every value.

    Returns
    -------
    mean, std
        NaN for an empty sample; the standard deviation (unbiased variance) also for a single value.
    n
        Values kept by the last selection.
    """
    dtype = np.float32 if np.asarray(values).dtype == np.float32 else np.float64
    flat = np.ascontiguousarray(values, dtype).reshape(-1)
    n, mean, variance = clipped_moments(flat, float(n_sigma), int(n_iter))
    return float(mean), math.sqrt(variance), int(n)


# reassociation lets the sum be vectorised; that is 0 or NaN, in any order
@helper(fastmath={"reassoc"})
def _collect(values, mask, ignore, nan_safe, out):  # type: ignore[no-untyped-def]
    """Copy the values that are not masked (and are finite, if so wanted) to ``out``; return how many."""
    found = np.int32(0)
    zero = np.float32(0.0)
    for i in range(values.size):
        found |= mask[i]
        zero += values[i] - values[i]
    if (found & ignore) == 0 and not (nan_safe and np.isnan(zero)):
        for i in range(values.size):
            out[i] = values[i]
        return values.size
    n = np.uint64(0)
    for i in range(values.size):
        # written always, kept only if wanted: no branch to mispredict
        v = values[i]
        out[n] = v
        n += np.uint64(((mask[i] & ignore) == 0) & ((not nan_safe) | (abs(v) < np.inf)))
    return np.int64(n)


@kernel
def cell_statistics(image, mask, ignore, nan_safe, x_edges, y_edges, kind, values, errors):  # type: ignore[no-untyped-def]
    """Compute a statistic and its standard error in every cell of a grid.

    Parameters
    ----------
    image : float32, shape (h, w)
        Pixels.
    mask : int32, shape (h, w)
        Pixels with a bit of ``ignore`` set do not take part.
    ignore : int32
        Bits.
    nan_safe : bool
        Leave out pixels that are not finite; otherwise one NaN makes the cell NaN.
    x_edges, y_edges : int64, shape (nx + 1,), (ny + 1,)
        Cell ``i`` covers pixels ``edges[i]`` to ``edges[i + 1] - 1``.
    kind : int
        `MEAN`, `MEDIAN` or `MEANCLIP` (3 sigma, 3 iterations).
    values, errors : float64, shape (ny, nx)
        Filled; NaN for a cell without pixels.  The error of the median is ``sqrt(pi/2)`` times that of the
        unclipped mean.
    """
    largest = 0
    for j in range(y_edges.size - 1):
        for i in range(x_edges.size - 1):
            largest = max(largest, (y_edges[j + 1] - y_edges[j]) * (x_edges[i + 1] - x_edges[i]))
    sample = np.empty(largest, np.float32)
    for j in range(y_edges.size - 1):
        for i in range(x_edges.size - 1):
            n = 0
            for y in range(y_edges[j], y_edges[j + 1]):
                for x in range(x_edges[i], x_edges[i + 1], _RUN):
                    end = min(x + _RUN, x_edges[i + 1])
                    n += _collect(image[y, x:end], mask[y, x:end], ignore, nan_safe, sample[n:])
            cell = sample[:n]
            n_used, value, variance = 0, np.nan, np.nan
            if kind == MEAN:
                center = _moments_within(cell, float(cell[0]), np.inf)[1] if n > 0 else np.nan
                n_used, value, variance = _moments_within(cell, center, np.inf)
                value = value if n_used == n else np.nan  # a NaN is never within
            else:
                q1, median, q3 = quartiles(cell)
                if kind == MEANCLIP:
                    n_used, value, variance = _clipped_moments(cell, median, q3 - q1, 3.0, 3)
                else:
                    n_used, value, variance = _moments_within(cell, median, np.inf)
                    value, variance = median, 0.5 * math.pi * variance
            values[j, i] = value
            errors[j, i] = math.sqrt(variance / n_used) if n_used > 0 and not np.isnan(value) else np.nan


@kernel
def _collect_all(image, mask, ignore, out):  # type: ignore[no-untyped-def]
    """Copy the values of a whole image that are not masked to ``out``; return how many."""
    n = 0
    for y in range(image.shape[0]):
        for x in range(0, image.shape[1], _RUN):
            n += _collect(image[y, x : x + _RUN], mask[y, x : x + _RUN], ignore, False, out[n:])
    return n


def good_values(
    image: npt.NDArray[np.float32], mask: npt.NDArray[np.int32], ignore: int
) -> npt.NDArray[np.float32]:
    """Return the values of pixels without any of some mask bits, in raster order.

    Parameters
    ----------
    image : float32, shape (h, w)
    mask : int32, shape (h, w)
    ignore
        Bits; NaN is not left out.
    """
    out = np.empty(image.size, np.float32)
    n = _collect_all(
        np.ascontiguousarray(image, np.float32), np.ascontiguousarray(mask, np.int32), np.int32(ignore), out
    )
    return out[:n]


def median_and_std(values: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return the median and the standard deviation (of the sample itself); NaN if empty or one is NaN.

    Parameters
    ----------
    values : float32, shape (n,), C-contiguous
    """
    median = quartiles(values)[1]
    n, _, variance = _moments_within(values, median, np.inf)
    if np.isnan(median) or n == 0:
        return math.nan, math.nan
    return float(median), math.sqrt(variance * (n - 1) / n) if n > 1 else 0.0


@kernel
def count_bits(mask, counts):  # type: ignore[no-untyped-def]
    """Count the pixels in which each bit is set.

    Parameters
    ----------
    mask : int32, shape (h, w)
    counts : int64, shape (31,)
        Filled.
    """
    counts[:] = 0
    for y in range(mask.shape[0]):
        row = mask[y]
        start = 0
        # in runs of equal values, because most neighbors are equal
        for x in range(1, row.size + 1):
            if x < row.size and row[x] == row[start]:
                continue
            value = row[start]
            for bit in range(counts.size):
                if value == 0:
                    break
                counts[bit] += (x - start) * (value & 1)
                value >>= 1
            start = x
