"""The decorators through which every compiled kernel passes.

Kernels are compiled by numba on their first call and cached on disk beside the source (or in numba's own
cache directory where that is not writable). Set ``ZEROPOINT_KERNEL_CACHE=0`` to compile in memory only, and
``NUMBA_DISABLE_JIT=1`` to run every kernel as plain Python.

Floating point stays exact (no reassociation) unless a kernel asks for ``fastmath`` and says why.
Call kernels with the dtypes their docstring names, C-contiguous: one specialisation each bounds the
compilation time. For its sake kernels copy arrays in loops, too (``a[:] = b`` compiles the formatting of an error
message, three seconds), pass ``np.int64(1)`` or ``np.bool_(True)`` to each other where a literal would be a type of
its own, and functions that only kernels call are `helper`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numba

__all__ = ["helper", "kernel"]

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
        return _compile(plain, fastmath=fastmath, inline=inline)

    return wrap if function is None else wrap(function)


def helper(
    function: Callable[..., Any] | None = None,
    *,
    fastmath: bool | set[str] = False,
    inline: str = "never",
) -> Any:
    """Compile a function that only kernels call: as `kernel`, without the costly entry for Python.

    Parameters
    ----------
    function, fastmath, inline
        As for `kernel`.

    Returns
    -------
    compiled
        The dispatcher; a call from Python raises TypeError.
    """

    def wrap(plain: Callable[..., Any]) -> Any:
        compiled = _compile(plain, fastmath=fastmath, inline=inline, no_cpython_wrapper=True)
        if not isinstance(compiled, numba.core.dispatcher.Dispatcher):
            return compiled  # compilation is disabled

        def keep(result: Any) -> None:
            # known to kernels that are compiled, not to calls from Python, which would jump to address 0
            compiled.overloads[tuple(result.signature.args)] = result

        def refuse(*_arguments: Any, **_keywords: Any) -> None:
            raise TypeError(
                f"{plain.__qualname__} is called by kernels only; make it one to call it from Python."
            )

        compiled.add_overload = keep
        compiled._compile_for_args = refuse
        return compiled

    return wrap if function is None else wrap(function)


def _compile(plain: Callable[..., Any], **options: Any) -> Any:
    """Pass a function to numba with the settings of all."""
    return numba.njit(cache=_CACHE, nogil=True, error_model="numpy", no_cfunc_wrapper=True, **options)(plain)
