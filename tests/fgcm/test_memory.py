"""Freed memory stays while it is wanted, and is given back afterwards."""

import platform
from pathlib import Path

import numpy as np
import pytest

from zeropoint.fgcm.memory import kept_memory

MEGABYTE = 1 << 20


def _resident() -> int:
    """Memory of this process, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def _fail_after_large_arrays(seen: list[int]) -> None:
    """Note the memory with arrays and without, then fail."""
    with kept_memory():
        arrays = [np.ones(16 * MEGABYTE, np.uint8) for _ in range(4)]
        seen.append(_resident())
        del arrays
        seen.append(_resident())
        raise KeyError


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_memory_is_kept_and_given_back() -> None:
    seen: list[int] = []
    with pytest.raises(KeyError):
        _fail_after_large_arrays(seen)
    used, kept = seen
    assert kept > used - 8 * MEGABYTE
    assert _resident() < used - 48 * MEGABYTE
