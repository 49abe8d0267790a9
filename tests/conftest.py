"""Fixtures shared by all rooms."""

from __future__ import annotations

import functools
import gc
import logging
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType

import numpy as np
import pytest
from hypothesis import settings
from lsst.pex.config import callStack
from lsst.utils import packages

# the same examples on every machine; `pytest --hypothesis-profile=default` looks for new ones
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

#: Frames of a call that configurations keep in their histories.
_NEAREST = 4
#: Those seen before: id of the code, place in it -> the code, which keeps its id, and the frame.
_frames: dict[tuple[int, int], tuple[CodeType, callStack.StackFrame]] = {}


def _nearest_frames(skip: int = 0) -> list[callStack.StackFrame]:
    """Return the innermost frames of the call, most recent last.

    A configuration notes the whole call for each of its thousand fields; with pytest's own sixty frames that takes
    four times as long as all the rest, and histories of tests are read at their innermost frame only.
    """
    frame: FrameType | None = sys._getframe(skip + 2)
    stack: list[callStack.StackFrame] = []
    while frame is not None and len(stack) < _NEAREST:
        code = frame.f_code
        place = id(code), frame.f_lasti
        if place not in _frames:
            found = callStack.StackFrame.fromFrame(frame)
            if code.co_name != "<module>":  # that of a configuration file is another one each time
                _frames[place] = code, found
        else:
            found = _frames[place][1]
        stack.append(found)
        frame = frame.f_back
    return stack[::-1]


_all_frames = callStack.getCallStack
for _module in [module for name, module in sys.modules.items() if name.startswith("lsst.pex.config")]:
    if getattr(_module, "getCallStack", None) is _all_frames:
        _module.getCallStack = _nearest_frames

# every run writes the versions of all packages, half of its time in a small repository: they are looked up once
packages.getPythonPackages = functools.cache(packages.getPythonPackages)

#: Objects made since the last module that are worth setting aside.
_MANY_OBJECTS = 50_000


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Set aside after each module what it imported: looking for garbage in all of it takes a sixth of the time."""
    if nextitem is None or nextitem.path == item.path:
        return
    if len(gc.get_objects()) > _MANY_OBJECTS:
        gc.collect()
        gc.freeze()


_LEVELS = {
    logger: logger.level
    for logger in (logging.root, logging.getLogger("zeropoint"), logging.getLogger("lsst"))
}


def _reset_levels() -> None:
    for logger, level in _LEVELS.items():
        logger.setLevel(level)


@pytest.fixture(autouse=True)
def levels_of_logs() -> Iterator[None]:
    """Undo what commands set: their ``--log-level`` stays for the process, and tests run many in one."""
    _reset_levels()  # fixtures of a session that run commands came before this one
    yield
    _reset_levels()


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
