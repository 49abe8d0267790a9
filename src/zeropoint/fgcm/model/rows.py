"""Observations chosen, counted and given the values of their stars and exposures, in one pass each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.model import _kernels_rows
from zeropoint.fgcm.threads import finish, row_parts

__all__ = ["chosen_rows", "count_chosen", "segment_parts", "take"]

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


def segment_parts(start: IntArray) -> IntArray:
    """Return the segments at which parts begin, and the last's end: about equal numbers of observations.

    Parameters
    ----------
    start : int64, shape (n_segment + 1,)
        First observation of each segment.
    """
    inner = np.searchsorted(start, row_parts(int(start[-1]))[1:-1])
    return np.concatenate([[0], inner, [len(start) - 1]]).astype(np.int64)


def take[T: np.generic](
    values: npt.NDArray[Any], rows: npt.NDArray[np.integer[Any]], dtype: type[T] | np.dtype[T], threads: int
) -> npt.NDArray[T]:
    """Return the values of rows.

    Parameters
    ----------
    values : shape (n,)
        Values.
    rows : int32 or int64
        Which; they are not checked.
    dtype
        Of what is returned.
    threads
        Threads.
    """
    given, out, parts = np.ascontiguousarray(values), np.empty(len(rows), dtype), row_parts(len(rows))
    finish(lambda k: _kernels_rows.take(given, rows, parts[k], parts[k + 1], out), len(parts) - 1, threads)
    return out


def count_chosen(start: IntArray, chosen: BoolArray, threads: int = 1) -> npt.NDArray[np.int32]:
    """Return how many observations of each segment are chosen, shape (n_segment,).

    Parameters
    ----------
    start : int64, shape (n_segment + 1,)
        First observation of each segment.
    chosen : bool, shape (n_obs,)
        Observations.
    threads
        Threads.
    """
    out, parts = np.empty(len(start) - 1, np.int32), segment_parts(start)
    finish(lambda k: _kernels_rows.count(start, chosen, parts[k], parts[k + 1], out), len(parts) - 1, threads)
    return out


def chosen_rows(
    start: IntArray,
    ec: npt.NDArray[np.int32],
    flag: npt.NDArray[np.uint16],
    segment: BoolArray,
    place: BoolArray,
    threads: int,
) -> BoolArray:
    """Return the observations without a flag in some segments, exposures and detectors, shape (n_obs,).

    Parameters
    ----------
    start : int64, shape (n_segment + 1,)
        First observation of each segment.
    ec : int32, flag : uint16, shape (n_obs,)
        Exposure and detector, and flags, of the observations.
    segment : bool, shape (n_segment,)
        Segments that count.
    place : bool, shape (n_ec,)
        Exposures and detectors that count.
    threads
        Threads.
    """
    out, parts = np.empty(len(ec), np.bool_), segment_parts(start)
    finish(
        lambda k: _kernels_rows.choose(start, ec, flag, segment, place, parts[k], parts[k + 1], out),
        len(parts) - 1,
        threads,
    )
    return out
