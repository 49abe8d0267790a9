"""Memory that is used again: a pass over millions of observations makes arrays that the next one needs, too."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["kept_memory"]

#: Numbers of glibc's settings: bytes at the end of the heap beyond which memory is given back, bytes from which on an array
#: gets memory of its own, and how many heaps threads share.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
#: The largest that it takes for the second, and what it comes to by itself for the first when such arrays are freed.
_LARGEST = 32 << 20
_ORDINARY_TRIM = 2 * _LARGEST
#: As good as never.
_NEVER = (1 << 31) - 1
#: Heaps that it allows for each core by itself.
_ARENAS_PER_CORE = 8


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory for the next arrays meanwhile, and give it back to the system afterwards.

    The system clears each page that it gives anew, which takes a tenth of the time of a calibration. Arrays of 32 MiB and
    more come and go as ever. With another library than glibc nothing changes.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(_MMAP_THRESHOLD, _LARGEST)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    # what one thread frees another can use
    libc.mallopt(_ARENA_MAX, 1)
    try:
        yield
    finally:
        libc.mallopt(_ARENA_MAX, _ARENAS_PER_CORE * (os.cpu_count() or 1))
        libc.mallopt(_TRIM_THRESHOLD, _ORDINARY_TRIM)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return the C library of the process if it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
