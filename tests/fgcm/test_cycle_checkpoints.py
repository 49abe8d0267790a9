"""Cycles of a fit on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from zeropoint.fgcm.cycle_checkpoints import CycleCheckpoints, SavedCycle


def cycle(number: int) -> SavedCycle:
    table = Table({"gray": np.array([0.5, np.nan]), "shape": np.arange(6.0).reshape(2, 3)})
    table.meta["CYCLE"] = number
    return SavedCycle(number, {"FitParameters": table}, {"metrics": {"chi2": 1.25, "bands": {"g": 3}}})


def test_cycles_come_back_as_they_were(tmp_path: Path) -> None:
    kept = CycleCheckpoints.of({"config": 1}, tmp_path)
    assert kept.load() == []
    for number in (0, 1):
        kept.save(cycle(number))
    # what a killed run was writing
    (kept.directory / "cycle-02.17.tmp").mkdir()
    found = CycleCheckpoints.of({"config": 1}, tmp_path).load()
    assert [each.cycle for each in found] == [0, 1]
    assert found[1].facts == cycle(1).facts
    table = found[1].tables["FitParameters"]
    assert table.meta["CYCLE"] == 1
    assert (
        np.asarray(table["gray"]).tobytes() == np.asarray(cycle(1).tables["FitParameters"]["gray"]).tobytes()
    )
    assert table["shape"].shape == (2, 3)
    assert CycleCheckpoints.of({"config": 2}, tmp_path).load() == []
    kept.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_cycle_is_run_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = CycleCheckpoints.of({}, tmp_path)
    for number in (0, 1, 2):
        kept.save(cycle(number))
    (kept.directory / "cycle-01" / "FitParameters.parq").write_bytes(b"PAR1")
    assert [each.cycle for each in kept.load()] == [0]
    assert "its cycle is run again" in caplog.text
    kept.save(cycle(1))
    assert [each.cycle for each in kept.load()] == [0, 1, 2]
