"""Functions that only kernels call have no entry for Python."""

from __future__ import annotations

import numpy as np
import pytest
from numba import config

from zeropoint.kernels._compile import helper, kernel


@helper
def _add(values, k):  # type: ignore[no-untyped-def]
    return values[k] + 1.0


@kernel
def _add_twice(values):  # type: ignore[no-untyped-def]
    return _add(values, 0) + _add(values, 1)


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="compilation is disabled")
def test_helpers_serve_kernels_and_refuse_calls_from_python() -> None:
    values = np.array([1.0, 2.0])
    for _ in range(2):  # before and after a kernel had them compiled
        with pytest.raises(TypeError, match="_add is called by kernels only"):
            _add(values, 0)
        assert _add_twice(values) == 5.0
