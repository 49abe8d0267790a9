"""Do the same for many files, in this process or in several, with results in the files' order."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from zeropoint.errors import InvalidInputError

__all__ = ["map_files"]

#: Files for each process below which it does not pay to start one.
_WORTH_A_PROCESS = 20


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
        At most so many; results do not depend on it.

    Raises
    ------
    InvalidInputError
        If a process dies.
    """
    processes = min(processes, len(items) // _WORTH_A_PROCESS)
    if processes < 2:
        for item in items:
            yield function(item, *arguments)
        return
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    with pool:
        repeated = [[argument] * len(items) for argument in arguments]
        try:
            yield from pool.map(function, items, *repeated, chunksize=4)
        except BrokenProcessPool:
            raise InvalidInputError(
                "A process that read files died (out of memory?); try fewer processes."
            ) from None
