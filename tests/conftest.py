"""Fixtures shared by all rooms."""

from __future__ import annotations

import os
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from lsst.pex.config import callStack

# the same examples on every machine; `pytest --hypothesis-profile=default` looks for new ones
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

#: Frames of a call that configurations keep in their histories.
_NEAREST = 8


def _nearest_frames(skip: int = 0) -> list[callStack.StackFrame]:
    """Return the innermost frames of the call, most recent last.

    A configuration notes the whole call for each of its thousand fields; with pytest's own sixty frames that takes
    four times as long as all the rest, and histories of tests are read at their innermost frame only.
    """
    frame, stack = callStack.getCallerFrame(skip + 1), []
    while frame is not None and len(stack) < _NEAREST:
        stack.append(callStack.StackFrame.fromFrame(frame))
        frame = frame.f_back
    return stack[::-1]


_all_frames = callStack.getCallStack
for _module in [module for name, module in sys.modules.items() if name.startswith("lsst.pex.config")]:
    if getattr(_module, "getCallStack", None) is _all_frames:
        _module.getCallStack = _nearest_frames

_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def testdata() -> Path:
    """Folder of real data; the test is skipped where it is absent."""
    folder = Path(os.environ.get("ZEROPOINT_TESTDATA", _ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist (set ZEROPOINT_TESTDATA)")
    return folder


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the test's name."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))
