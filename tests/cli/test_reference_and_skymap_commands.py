"""The commands ``ingest-references`` and ``make-skymap``: what they print and how they fail."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from zeropoint.butler.repository import create_repository, open_repository
from zeropoint.cli.make_skymap import described_map

HEADER = "RAJ2000,DEJ2000,rmag,e_rmag"
ROWS = "\n".join(f"{10 + 0.01 * i},{5 + 0.003 * i},{15 + 0.01 * i},0.01" for i in range(100))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository without anything; not to be changed."""
    root = tmp_path_factory.mktemp("empty") / "REPO"
    create_repository(root)
    return root


@pytest.fixture
def repo(empty: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(empty, tmp_path / "REPO"))


@pytest.fixture
def stars(tmp_path: Path) -> Path:
    path = tmp_path / "stars.csv"
    path.write_text(f"{HEADER}\n{ROWS}\n,,15.0,0.1\n")
    return path


def test_references_are_ingested_once(run: Any, repo: Path, stars: Path) -> None:
    first = run("ingest-references", repo, "stars", stars)
    assert first.stdout == (
        "stars: 100 rows in 4 shards (htm7) -> refcats/stars\n"
        "  bands r; no proper motions with known units and epoch\n"
        "  left out for want of a position: 1\n"
    )
    assert (
        "these 100 rows in 4 shards (htm7) are already there"
        in run("ingest-references", repo, "stars", stars).stdout
    )
    with open_repository(repo) as butler:
        assert len(butler.query_datasets("stars", collections="refcats")) == 4


@pytest.mark.parametrize("inline", [True, False])
def test_a_column_map_is_text_or_a_file(run: Any, repo: Path, tmp_path: Path, inline: bool) -> None:
    table = tmp_path / "odd.csv"
    table.write_text(f"alpha,delta,brightness,x\n{ROWS}\n")
    text = "{ra: alpha, dec: delta, bands: {g: {mag: brightness}}}"
    (tmp_path / "map.yaml").write_text(text)
    given = text if inline else tmp_path / "map.yaml"
    result = run("ingest-references", repo, "odd", table, "--column-map", given, "--depth", 6)
    assert "(htm6)" in result.stdout
    assert "bands g;" in result.stdout


def test_unusable_references_are_one_line(run: Any, one_error: Any, repo: Path, stars: Path) -> None:
    bad = stars.with_name("bad.csv")
    bad.write_text("a,b\n1,2\n")
    one_error(
        run("ingest-references", repo, "x", bad), 1, "bad.csv", "ra: RAJ2000", "Columns of the file: a, b"
    )
    one_error(run("ingest-references", repo, "x", bad, "--column-map", "{ra: a"), 1, "not valid YAML")
    one_error(run("ingest-references", repo, "x", bad, "--column-map", "{rra: a}"), 1, "unknown keys ['rra']")
    one_error(
        run("ingest-references", repo, "x", stars.with_name("nope.csv")), 1, "nope.csv", "does not exist"
    )
    one_error(run("ingest-references", stars.with_name("no"), "x", stars), 1, "no such repository")
    run("ingest-references", repo, "x", stars)
    stars.write_text(f"{HEADER}\n{ROWS[: ROWS.rindex(chr(10))]}\n")
    one_error(run("ingest-references", repo, "x", stars), 1, "already with other content", "rows 100, now 99")


def test_sky_maps_are_registered_once(run: Any, repo: Path) -> None:
    arguments = ("make-skymap", repo, "m", "--discrete", "10,5,0.5", "--discrete", "12,-5,0.2")
    first = run(*arguments)
    assert first.stdout == "m: registered 2 tracts\n  29 patches registered now, of 29 in all tracts\n"
    again = run(*arguments)
    assert (
        again.stdout == "m: is already there with 2 tracts\n  0 patches registered now, of 29 in all tracts\n"
    )


def test_options_define_the_map(run: Any, repo: Path) -> None:
    options = ["--discrete", "10,5,0.2", "--projection", "STG", "--pixel-scale", 3, "--overlap", 0.1,
               "--rotation", 5, "--patch-size", 200, "--patch-border", 50]  # fmt: skip
    assert run("make-skymap", repo, "m", *options).exit_code == 0
    with open_repository(repo) as butler:
        sky_map = butler.get("skyMap", skymap="m", collections="skymaps")
    assert (sky_map.projection, sky_map.pixelScale) == ("STG", 3.0)
    assert (sky_map.tractOverlap, sky_map.rotation) == (0.1, 5.0)
    assert (sky_map.patches.inner, sky_map.patches.border) == ((200, 200), 50)
    rings = described_map(None, 120, (), {"ra_start": 10.0, "cells": True})
    assert (rings.layout.numRings, rings.layout.raStart, rings.patches.inner) == (120, 10.0, (3000, 3000))


def test_the_map_of_a_survey_is_that_of_the_survey() -> None:
    assert described_map("hsc", None, (), {})[9813].num_patches == (9, 9)
    assert described_map("rubin", None, (), {})[5063].shape == (30000, 30000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Give one of --like, --rings and --discrete."),
        (["--rings", 0, "--like", "hsc"], "not --like and --rings"),
        (["--like", "hsc", "--pixel-scale", 1], "leave out --pixel-scale"),
        (["--discrete", "10,5"], "is not RA,DEC,RADIUS"),
        (["--discrete", "10,5,1", "--ra-start", 3], "--ra-start belongs to --rings"),
        (["--rings", 9, "--cells", "--patch-size", 3], "--cells fixes the patches"),
        (["--rings", 9, "--patches", "some"], "neither auto, all or none"),
    ],
)
def test_wrong_usage_exits_2(run: Any, repo: Path, options: list[Any], message: str) -> None:
    result = run("make-skymap", repo, "m", *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_impossible_maps_are_one_line(run: Any, one_error: Any, repo: Path) -> None:
    one_error(run("make-skymap", repo, "m", "--rings", 0), 1, "numRings", "greater than or equal to 2")
    one_error(run("make-skymap", repo, "m", "--discrete", "400,5,1"), 1, "raList.0", "less than 360")
    one_error(run("make-skymap", repo, "m", "--rings", 9, "--patches", "9999"), 1, "there is no tract 9999")
    run("make-skymap", repo, "m", "--discrete", "10,5,0.4")
    one_error(run("make-skymap", repo, "m", "--discrete", "10,5,0.5"), 1, "with another definition")
