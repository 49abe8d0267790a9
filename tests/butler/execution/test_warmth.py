"""Kernels that are not compiled yet: noticed, and compiled by one worker alone."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from butler.execution.conftest import Mock
from zeropoint.butler.execution import runner, warmth
from zeropoint.butler.execution.report import RunReport


def test_kernels_are_cold_until_most_modules_have_one_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("zeropoint.")]:
        monkeypatch.delitem(sys.modules, name)
    for stem in ("_kernels_a", "_kernels_b"):
        module = ModuleType(f"zeropoint.room.{stem}")
        kernel = SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path)), __module__=module.__name__)
        module.kernel = kernel  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
    assert warmth.cache_folders() == {tmp_path}
    assert warmth.kernels_are_cold()
    (tmp_path / "_kernels_a.kernel-1.py313.nbi").touch()
    assert not warmth.kernels_are_cold()


def test_one_worker_runs_alone_until_it_has_ended_a_quantum(
    mock: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Listener:
        running_at_first = 0
        said: tuple[str, ...] = ()

        def say(self, text: str) -> None:
            self.said += (text,)

        def progress(self, report: RunReport, n_running: int) -> None:
            if report.n_not_run == report.n_quanta:
                self.running_at_first = max(self.running_at_first, n_running)

    monkeypatch.setattr(runner, "kernels_are_cold", lambda: True)
    listener = Listener()
    request = mock.request("cold", "exposure IN (1..2)", "measure:seconds=1", processes=2)
    assert runner.run_pipeline(request, listener).exit_code == 0
    assert listener.running_at_first == 1
    assert any(text.startswith("first run: compiling kernels") for text in listener.said)
