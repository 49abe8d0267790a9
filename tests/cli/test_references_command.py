"""The command ``references``: what it prints, how it fails, and that its result serves the other commands."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from zeropoint.butler.repository import create_repository, open_repository
from zeropoint.cli.counter import counting, stopped_with

HEADER = "objid,RAJ2000,DEJ2000,rmag,e_rmag"


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    folder = tmp_path / "tables"
    folder.mkdir()
    for k in range(3):
        rows = [
            f"{i},{10 + 0.01 * i},{5 + 0.003 * i},{15 + 0.01 * i},0.01" for i in range(30 * k, 30 * k + 40)
        ]
        (folder / f"part-{k}.csv").write_text("\n".join([HEADER, *rows, "77,,,15.0,0.1"]) + "\n")
    return folder


def test_tables_become_shards_once(run: Any, tables: Path, tmp_path: Path) -> None:
    target = tmp_path / "stars"
    content = (
        "  bands (rows with a flux) r (100); no proper motions with known units and epoch\n"
        "  left out for want of a position: 3\n"
        "  left out because id and position were there already: 20\n"
    )
    first = run("references", "build", target, tables)
    assert first.stdout == f"stars: built, 100 rows in 4 shards (htm7) -> {target}\n{content}"
    again = run("references", "build", target, *sorted(tables.iterdir(), reverse=True))
    assert (
        again.stdout
        == f"stars: is there already with these 100 rows in 4 shards (htm7) -> {target}\n{content}"
    )
    named = run(
        "references", "build", tmp_path / "b", tables, "--name", "other", "--depth", 5, "--keep-duplicates"
    )
    assert named.stdout.startswith("other: built, 120 rows in ")
    assert "(htm5)" in named.stdout


def test_a_catalogue_is_described_and_verified(
    run: Any, one_error: Any, tables: Path, tmp_path: Path
) -> None:
    target = tmp_path / "stars"
    run("references", "build", target, tables)
    text = run("references", "info", target, "--verify").stdout
    assert text.startswith("stars: 100 rows in 4 shards (htm7), which touch about 1.0")
    assert "  r_fluxErr  nJy from e_rmag as error of the magnitude\n" in text
    assert "and 2 more files\n" in text
    assert text.endswith("  all 4 shards match their checksums\n")
    facts = json.loads(run("references", "info", target, "--json").stdout)
    assert (facts["kind"], facts["n_rows"], facts["n_fluxes"]) == ("built", 100, {"r": 100})
    table = run("references", "info", tables / "part-0.csv").stdout
    assert "coord_ra   RAJ2000 in deg" in table
    one_error(run("references", "info", tables / "part-0.csv", "--verify"), 1, "no checksums to verify")
    first, second = sorted(target.glob("*.parquet"))[:2]
    first.write_bytes(first.read_bytes()[:-9] + b"ABCDEPAR1")
    second.unlink()
    broken = run("references", "info", target, "--verify")
    assert broken.exit_code == 1
    assert broken.stderr.splitlines() == [
        f"error: {first}: its content does not match its checksum",
        f"error: {second}: is missing",
        "error: 2 of 4 shards are damaged",
    ]


def test_shards_are_ingested(run: Any, one_error: Any, tables: Path, tmp_path: Path) -> None:
    target = tmp_path / "stars"
    run("references", "build", target, tables)
    create_repository(tmp_path / "REPO")
    result = run("ingest-references", tmp_path / "REPO", "stars", target)
    assert result.stdout.startswith("stars: 100 rows in 4 shards (htm7) -> refcats/stars\n")
    with open_repository(tmp_path / "REPO") as butler:
        refs = butler.query_datasets("stars", collections="refcats")
        assert sum(len(butler.get(ref)) for ref in refs) == 100
    shard = sorted(target.glob("*.parquet"))[-1]
    shard.write_bytes(shard.read_bytes()[:-9] + b"ABCDEPAR1")
    one_error(run("ingest-references", tmp_path / "REPO", "more", target), 1, "does not match its checksum")


def test_wrong_use_is_one_line(run: Any, one_error: Any, tables: Path, tmp_path: Path) -> None:
    assert run("references", "build", tmp_path / "x", tmp_path / "no.csv").exit_code == 2
    assert run("references", "build", tmp_path / "x", tables, "--depth", 20).exit_code == 2
    one_error(run("references", "build", tables, tables), 1, "cannot be made of the tables that are in it")
    (tmp_path / "busy" / "x").mkdir(parents=True)
    one_error(run("references", "build", tmp_path / "busy", tables), 1, "is not empty")
    one_error(
        run("references", "build", tmp_path / "x", tables, "--column-map", "{ra: a"), 1, "not valid YAML"
    )
    for more in ([], ["--verify"]):
        one_error(run("references", "info", tmp_path / "no", *more), 1, "does not exist")


def test_a_column_map_may_have_lines_and_is_given_once(run: Any, one_error: Any, tables: Path) -> None:
    table = tables / "part-0.csv"
    lines = run(
        "references", "info", table, "--column-map", "ra: RAJ2000\nid: null\nbands:\n  g: rmag"
    ).stdout
    assert "bands g;" in lines
    assert lines.endswith("  not recognised, not used: objid\n")
    twice = run(
        "references", "info", table, "--column-map", "{id: null}", "--column-map", "{bands: {g: rmag}}"
    )
    assert twice.exit_code == 2
    assert "more than once" in twice.stderr
    wrong = one_error(run("references", "info", table, "--column-map", "nowhere.yaml"), 1, "nowhere.yaml")
    assert wrong.count("nowhere.yaml") == 1


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys: Any, monkeypatch: Any) -> None:
    now = [0.0]
    monkeypatch.setattr("zeropoint.cli.counter.time.monotonic", lambda: now[0])
    with counting({"read": "rows read"}) as report:
        for k in range(25):
            now[0] = float(k)
            report("read", 1000 * k, 25_000 if k < 15 else None)
    assert capsys.readouterr().err.splitlines() == ["rows read: 10,000 of 25,000", "rows read: 20,000"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_message(capsys: Any, number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as caught, stopped_with("go on with the same command"):
        os.kill(os.getpid(), number)
    assert caught.value.code == 128 + number
    assert capsys.readouterr().err == "go on with the same command\n"
    assert signal.getsignal(number) is before
