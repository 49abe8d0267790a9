"""Work that several threads share, whose results do not depend on how many these are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["at_once", "finish", "in_order", "row_parts"]

#: Parts that rows are divided into, whatever the number of threads, and rows of one, if there are not enough for all.
_N_PARTS, _LEAST_PART = 16, 1 << 15


def in_order[T](run: Callable[[int], T], n: int, threads: int) -> Iterator[T]:
    """Yield run(0), run(1), ... in order, computed by several threads; at most one result per thread waits.

    Parameters
    ----------
    run
        What is to be done with each number. It should release the interpreter's lock most of the time.
    n
        How many numbers.
    threads
        How many at a time.
    """
    if threads <= 1 or n <= 1:
        for k in range(n):
            yield run(k)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(run, k) for k in range(min(threads, n))]
        for k in range(n):
            result = waiting.pop(0).result()
            if k + threads < n:
                waiting.append(pool.submit(run, k + threads))
            yield result


def finish(run: Callable[[int], object], n: int, threads: int) -> None:
    """Do run(0), run(1), ... with several threads.

    Parameters
    ----------
    run, n, threads
        As for `in_order`.
    """
    for _ in in_order(run, n, threads):
        pass


def at_once(threads: int, *functions: Callable[[], Any]) -> tuple[Any, ...]:
    """Call functions that do not depend on each other, several at a time, and return what they do.

    Parameters
    ----------
    threads
        How many at a time.
    *functions
        Without arguments.
    """
    return tuple(in_order(lambda k: functions[k](), len(functions), threads))


def row_parts(n: int) -> npt.NDArray[np.int64]:
    """Return rows at which parts of about equal size begin, and the number of all: the same whatever the threads.

    Parameters
    ----------
    n
        Rows.
    """
    n_parts = int(np.clip(n // _LEAST_PART, 1, _N_PARTS))
    return np.arange(n_parts + 1, dtype=np.int64) * n // n_parts
