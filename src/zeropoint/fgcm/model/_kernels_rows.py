"""Compiled passes that choose, count and look up observations."""

from __future__ import annotations

from typing import Any

import numpy as np

from zeropoint.kernels._compile import kernel

__all__ = ["choose", "count", "take"]


@kernel
def take(values: Any, rows: Any, first: Any, last: Any, out: Any) -> None:
    """Fill ``out[first:last]`` with the values of rows (int), in the dtype of ``out``."""
    for j in range(first, last):
        i = np.uint64(j)
        out[i] = values[np.uint64(rows[i])]


@kernel
def count(start: Any, chosen: Any, first: Any, last: Any, out: Any) -> None:
    """Fill ``out`` (int32, shape (n_segment,)) with how many observations of segments ``first`` to ``last`` are chosen (bool)."""
    for s in range(first, last):
        n = np.int32(0)
        for i in range(start[s], start[s + 1]):
            n += np.int32(chosen[np.uint64(i)])
        out[s] = n


@kernel
def choose(
    start: Any, ec: Any, flag: Any, segment: Any, place: Any, first: Any, last: Any, chosen: Any
) -> None:
    """Fill ``chosen`` (bool, shape (n_obs,)): of chosen segments and places, and without a flag.

    Parameters
    ----------
    start : int64, shape (n_segment + 1,); ec : int32, flag : uint16; shape (n_obs,)
        Observations.
    segment : bool, shape (n_segment,); place : bool, shape (n_ec,)
        Which segments and exposures and detectors count.
    first, last : int64
        Segments.
    chosen
        Filled.
    """
    for s in range(first, last):
        if segment[s]:
            for j in range(start[s], start[s + 1]):
                i = np.uint64(j)  # negative indices would be looked at twice
                chosen[i] = (flag[i] == 0) & place[np.uint64(ec[i])]
        else:
            for j in range(start[s], start[s + 1]):
                chosen[np.uint64(j)] = False
