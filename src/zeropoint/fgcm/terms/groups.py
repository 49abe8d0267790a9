"""Sums and medians of observations by the group that each belongs to (exposure, detector, flat field)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["MAD_TO_SIGMA", "MEDIAN_ERROR", "group_medians", "group_sums", "ratio"]

#: Standard deviation of a normal distribution over its median absolute deviation.
MAD_TO_SIGMA = 1.4826
#: Standard error of the median of normal values over that of their mean.
MEDIAN_ERROR = 1.2533

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def group_sums(values: npt.ArrayLike, group: npt.NDArray[np.integer], n_groups: int) -> FloatArray:
    """Add values up by group.

    Parameters
    ----------
    values : float, shape (n,)
        Values.
    group : int, shape (n,)
        Group of each, from 0.
    n_groups
        Number of groups.

    Returns
    -------
    sums : float64, shape (n_groups,)
        Sums in double precision, added in the order of the values; 0 for groups without any.
    """
    # without values numpy counts in integers, weights or not
    return np.bincount(group, weights=np.asarray(values), minlength=n_groups).astype(np.float64, copy=False)


def ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> FloatArray:
    """Divide, with NaN where the denominator is not positive.

    Parameters
    ----------
    numerator, denominator : float
        Of shapes that broadcast.
    """
    top, bottom = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    result = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=result, where=bottom > 0)
    return result


def group_medians(
    values: npt.ArrayLike, group: npt.NDArray[np.integer], n_groups: int
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Compute the median of each group.

    Parameters
    ----------
    values : float, shape (n,)
        Finite values, taken in single precision.
    group : int, shape (n,)
        Group of each, from 0.
    n_groups
        Number of groups, below 2^31.

    Returns
    -------
    median : float64, shape (n_groups,)
        Medians (means of the two middle values); NaN for groups without values.
    count : int64, shape (n_groups,)
        Number of values.

    Notes
    -----
    One sort of 64-bit integers, whose upper half is the group and whose lower half a code that orders as the values do: ten
    times quicker than a sort by two keys.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    top = np.uint32(1 << 31)
    code = np.where(bits & top, ~bits, bits | top)
    key = (np.asarray(group).astype(np.uint64) << np.uint64(32)) | code
    key.sort()
    count = np.bincount(group, minlength=n_groups)
    first = np.cumsum(count) - count
    median = np.full(n_groups, np.nan)
    some = np.flatnonzero(count)
    middle = [key[first[some] + place] for place in ((count[some] - 1) // 2, count[some] // 2)]
    low, high = (_decode(part.astype(np.uint32), top) for part in middle)
    median[some] = 0.5 * (low + high)
    return median, count


def _decode(code: npt.NDArray[np.uint32], top: np.uint32) -> FloatArray:
    """Return the numbers of codes that order as they do."""
    bits = np.where(code & top, code ^ top, ~code)
    return bits.view(np.float32).astype(np.float64)
