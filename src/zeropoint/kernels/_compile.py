"""The one decorator through which every compiled kernel passes.

Kernels are compiled by numba on their first call and cached on disk beside the source (or in numba's own
cache directory where that is not writable). Set ``ZEROPOINT_KERNEL_CACHE=0`` to compile in memory only, and
``NUMBA_DISABLE_JIT=1`` to run every kernel as plain Python.

Floating point stays exact (no reassociation) unless a kernel asks for ``fastmath`` and says why.
Call kernels with the dtypes their docstring names, C-contiguous: one specialisation each bounds the
compilation time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numba

__all__ = ["kernel"]

_CACHE = os.environ.get("ZEROPOINT_KERNEL_CACHE", "1") != "0"


def kernel(
    function: Callable[..., Any] | None = None,
    *,
    fastmath: bool | set[str] = False,
    inline: str = "never",
) -> Any:
    """Compile a function of arrays and scalars with the house settings.

    Parameters
    ----------
    function
        The plain-Python kernel; omitted when the decorator is used with options.
    fastmath
        Floating-point relaxations. State the reason on the line above the use and the error bound in a test.
    inline
        numba's ``inline`` option, for tiny helpers called in inner loops.

    Returns
    -------
    compiled
        The dispatcher, which releases the GIL and follows numpy's rules for division by zero.
    """

    def wrap(plain: Callable[..., Any]) -> Any:
        return numba.njit(cache=_CACHE, nogil=True, error_model="numpy", fastmath=fastmath, inline=inline)(
            plain
        )

    return wrap if function is None else wrap(function)
