"""Parts of a run on disk."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from zeropoint.fgcm.checkpoints import Checkpoints, default_directory, fingerprint

COLUMNS = {
    "ra": np.array([1.5, -0.0, np.nan]),
    "ccd": np.array([1, 2, 3], np.int32),
    "flag": np.array([0, 1, 1], "u1"),
}


def same(one, other) -> bool:
    return list(one) == list(other) and all(
        one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes() for name in one
    )


def test_parts_come_back_as_they_were(tmp_path) -> None:
    kept = Checkpoints(tmp_path / "run")
    assert list(kept.parts()) == []
    empty = {name: values[:0] for name, values in COLUMNS.items()}
    saved = [
        kept.save(0, COLUMNS, {"visits": [7], "delta_aper": [0.25]}),
        kept.save(1, empty, {"visits": [8]}),
    ]
    parts = list(Checkpoints(tmp_path / "run").parts())
    for found in (saved, parts):
        assert [meta for _, meta in found] == [{"visits": [7], "delta_aper": [0.25]}, {"visits": [8]}]
        assert same(found[0][0], COLUMNS)
        assert same(found[1][0], empty)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"not a part"])
def test_a_damaged_part_and_those_behind_it_are_read_again(tmp_path, caplog, damage) -> None:
    kept = Checkpoints(tmp_path)
    for number in range(3):
        kept.save(number, COLUMNS, {"visits": [number]})
    path = tmp_path / "part-00001.arrow"
    path.write_bytes(damage(path.read_bytes()))
    assert [meta["visits"] for _, meta in kept.parts()] == [[0]]
    assert "is read again" in caplog.text or "are read again" in caplog.text


def test_a_run_that_was_killed_while_it_wrote_leaves_no_part(tmp_path) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(0, COLUMNS, {"visits": [0]})
    (tmp_path / "part-00001.123.tmp").write_bytes(b"half of a part")
    assert len(list(kept.parts())) == 1


def test_other_inputs_have_other_checkpoints(tmp_path) -> None:
    inputs = {"visits": [1, 2], "fields": {"flux": "a"}}
    assert Checkpoints.of(inputs, tmp_path).directory == Checkpoints.of(dict(inputs), tmp_path).directory
    assert fingerprint(inputs) != fingerprint({"visits": [1, 2], "fields": {"flux": "b"}})


def test_checkpoints_that_nobody_came_back_to_go_after_a_month(tmp_path) -> None:
    old, young = (Checkpoints.of({"run": name}, tmp_path) for name in ("old", "young"))
    for each in (old, young):
        each.save(0, COLUMNS, {})
    (tmp_path / "other").mkdir()
    month = time.time() - 31 * 86400.0
    for path in (old.directory, tmp_path / "other"):
        os.utime(path, (month, month))
    Checkpoints.of({"run": "new"}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([young.directory.name, "other"])


def test_the_default_place_is_the_users_cache(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "zeropoint" / "checkpoints"
