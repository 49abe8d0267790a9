"""Work that several threads share, whose results do not depend on how many these are.

The threads stay: to start one takes milliseconds on some machines, as long as a pass over a million observations.
"""

from __future__ import annotations

import itertools
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["at_once", "finish", "in_order", "row_parts"]

#: Parts that rows are divided into, whatever the number of threads, and rows of one, if there are not enough for all.
_N_PARTS, _LEAST_PART = 16, 1 << 15


class _Crew:
    """Threads that wait for work beside the caller's: one caller at a time has them."""

    def __init__(self) -> None:
        self._free = threading.Lock()
        self._orders: list[queue.SimpleQueue[Callable[[], None]]] = []

    def take(self) -> bool:
        """Tell whether the threads are the caller's from now on: not if another, or this one farther up, has them."""
        return self._free.acquire(blocking=False)

    def leave(self) -> None:
        """Let others have the threads."""
        self._free.release()

    def begin(self, work: Callable[[], None], n: int) -> Callable[[], None]:
        """Let so many threads do the same, which raises nothing, and return what waits until all have."""
        while len(self._orders) < n:
            orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
            threading.Thread(target=_follow, args=(orders,), name="zeropoint-crew", daemon=True).start()
            self._orders.append(orders)
        done: queue.SimpleQueue[None] = queue.SimpleQueue()

        def order() -> None:
            try:
                work()
            finally:
                done.put(None)

        for orders in self._orders[:n]:
            orders.put(order)

        def wait() -> None:
            for _ in range(n):
                done.get()

        return wait


def _follow(orders: queue.SimpleQueue[Callable[[], None]]) -> None:
    while True:
        orders.get()()


_crew = _Crew()


def _new_crew() -> None:
    global _crew
    _crew = _Crew()


# a forked process has none of the threads
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_crew)


class _Shared[T]:
    """Numbered pieces of work that several threads take one after another, and their results.

    Parameters
    ----------
    run
        What is to be done with each number.
    n
        How many numbers.
    ahead
        How many results may wait at a time.
    """

    def __init__(self, run: Callable[[int], T], n: int, ahead: int) -> None:
        self.run, self.n, self.ahead = run, n, ahead
        self._next, self._wanted = 0, 0
        self._results: dict[int, tuple[T | None, BaseException | None]] = {}
        self._change = threading.Condition()

    def help(self) -> None:
        """Take numbers while there are any."""
        while True:
            with self._change:
                while self._is_far_ahead and self._next < self.n:
                    self._change.wait()
                if self._next >= self.n:
                    return
                k = self._take()
            self._do(k)

    def get(self, k: int) -> T:
        """Return a result; numbers are asked for in order, and what nobody has begun with is done here meanwhile."""
        while True:
            with self._change:
                if self._wanted <= k:
                    self._wanted = k + 1
                    self._change.notify_all()
                if k in self._results:
                    value, error = self._results.pop(k)
                    break
                if self._next >= self.n or self._is_far_ahead:
                    self._change.wait()
                    continue
                other = self._take()
            self._do(other)
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    @property
    def _is_far_ahead(self) -> bool:
        return self._next >= self._wanted + self.ahead

    def _take(self) -> int:
        self._next += 1
        return self._next - 1

    def _do(self, k: int) -> None:
        try:
            found: tuple[T | None, BaseException | None] = self.run(k), None
        except BaseException as error:  # raised where the result is wanted
            found = None, error
        with self._change:
            self._results[k] = found
            self._change.notify_all()

    def stop(self) -> None:
        """Let nobody take another number."""
        with self._change:
            self._next = self.n
            self._change.notify_all()


def in_order[T](run: Callable[[int], T], n: int, threads: int) -> Iterator[T]:
    """Yield run(0), run(1), ... in order, computed by several threads; at most one result per thread waits.

    Parameters
    ----------
    run
        What is to be done with each number. It should release the interpreter's lock most of the time.
    n
        How many numbers.
    threads
        How many at a time, the caller's included. Within work that is shared already, one.
    """
    if threads <= 1 or n <= 1 or not _crew.take():
        for k in range(n):
            yield run(k)
        return
    crew, shared = _crew, _Shared(run, n, threads)
    try:
        wait = crew.begin(shared.help, min(threads, n) - 1)
        try:
            for k in range(n):
                yield shared.get(k)
        finally:
            shared.stop()
            wait()
    finally:
        crew.leave()


def finish(run: Callable[[int], object], n: int, threads: int) -> None:
    """Do run(0), run(1), ... with several threads.

    Parameters
    ----------
    run, n, threads
        As for `in_order`, but in any order.
    """
    if threads <= 1 or n <= 1 or not _crew.take():
        for k in range(n):
            run(k)
        return
    crew, numbers, errors = _crew, itertools.count(), list[BaseException]()

    def work() -> None:
        try:
            while not errors and (k := next(numbers)) < n:
                run(k)
        except BaseException as error:  # raised by the caller
            errors.append(error)

    try:
        wait = crew.begin(work, min(threads, n) - 1)
        work()
        wait()
    finally:
        crew.leave()
    if errors:
        raise errors[0]


def at_once(threads: int, *functions: Callable[[], Any]) -> tuple[Any, ...]:
    """Call functions that do not depend on each other, several at a time, and return what they do.

    Parameters
    ----------
    threads
        How many at a time.
    *functions
        Without arguments.
    """
    results: list[Any] = [None] * len(functions)

    def run(k: int) -> None:
        results[k] = functions[k]()

    finish(run, len(functions), threads)
    return tuple(results)


def row_parts(n: int) -> npt.NDArray[np.int64]:
    """Return rows at which parts of about equal size begin, and the number of all: the same whatever the threads.

    Parameters
    ----------
    n
        Rows.
    """
    n_parts = int(np.clip(n // _LEAST_PART, 1, _N_PARTS))
    return np.arange(n_parts + 1, dtype=np.int64) * n // n_parts
