"""Do the same for many files, in this process or in several, with results in the files' order."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from zeropoint.errors import InvalidInputError

__all__ = ["map_files"]

#: Seconds of work for each process below which it does not pay to start one.
_WORTH_A_PROCESS = 6.0
#: Seconds in which this process works alone, to learn how long a file takes.
_ALONE = 1.0


def map_files[T, R](
    function: Callable[..., R], items: Sequence[T], arguments: tuple[Any, ...], processes: int
) -> Iterator[R]:
    """Yield ``function(item, *arguments)`` for each item, in order.

    Parameters
    ----------
    function
        Importable; returns problems instead of raising them.
    items, arguments
        Picklable.
    processes
        At most so many, and only if it pays; results do not depend on it.

    Raises
    ------
    InvalidInputError
        If a process dies.
    """
    start = time.perf_counter()
    for done, item in enumerate(items, start=1):
        yield function(item, *arguments)
        spent = time.perf_counter() - start
        if processes > 1 and spent > _ALONE:
            useful = min(processes, int(spent / done * (len(items) - done) / _WORTH_A_PROCESS))
            if useful > 1:
                yield from _in_processes(function, items[done:], arguments, useful)
                return


def _in_processes[T, R](
    function: Callable[..., R], items: Sequence[T], arguments: tuple[Any, ...], processes: int
) -> Iterator[R]:
    repeated = [[argument] * len(items) for argument in arguments]
    try:
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield from pool.map(function, items, *repeated, chunksize=4)
    except BrokenProcessPool:
        raise InvalidInputError(
            "A process that read files died (out of memory?); try fewer processes."
        ) from None
