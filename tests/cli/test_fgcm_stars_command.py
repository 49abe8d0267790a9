"""The command ``fgcm stars``: files it writes, what it prints, and how it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from zeropoint.datamodel.arrow import table_to_arrow

COLUMNS = "{observations: {instFlux: counts, instFluxErr: error}, filters: {R1: r}}"


@pytest.fixture
def survey(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Tables of observations, visits and references: five stars in three visits, and one of them not in the references."""
    star, visit = np.tile(np.arange(5), 3), np.repeat([7, 8, 9], 5)
    counts, ra = np.full(15, 1e4), 150.0 + 0.01 * star
    table = Table(
        {"visit": visit, "ra": ra, "dec": np.full(15, 2.0), "counts": counts, "error": counts / 100}
    )
    observations, visits, references = (tmp_path / f"{name}" for name in ("o.parquet", "v.csv", "r.csv"))
    pq.write_table(table_to_arrow(table), observations)
    Table({"visit": [7, 8, 9], "filter": ["R1"] * 3, "exptime": [60.0] * 3}).write(visits)
    Table({"ra": ra[:4], "dec": [2.0] * 4, "r_mag": [15.0] * 4, "r_mag_err": [0.01] * 4}).write(references)
    return observations, visits, references


def test_a_star_list_is_written_and_explained(run: Any, survey: tuple[Path, ...], tmp_path: Path) -> None:
    observations, visits, references = survey
    arguments = ["fgcm", "stars", "--observations", observations, "--visits", visits, "--column-map", COLUMNS]
    with_references = [
        *arguments,
        "--references",
        references,
        "-c",
        "fgcmLoadReferenceCatalog.filterMap={'R1': 'r'}",
    ]
    result = run(*with_references, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("5 stars with 15 observations in 3 visits")
    assert "not in the tables: visits.mjd" in result.stdout
    assert "secant 1 for want of hour angle and site, or airmass: 3 visits" in result.stdout
    rows = {path.stem: pq.read_metadata(path).num_rows for path in (tmp_path / "out").glob("*.parquet")}
    names = ("VisitCatalog", "StarObservations", "StarIds", "StarIndices", "ReferenceStars")
    assert rows == dict(zip([f"fgcm{name}" for name in names], (3, 15, 5, 15, 4), strict=True))

    again = run(*arguments, "--out", tmp_path / "out", "--json")
    accounting = json.loads(again.stdout)
    assert accounting == json.loads((tmp_path / "out" / "accounting.json").read_text())
    assert accounting["stars"]["kept"] == 5
    assert not (tmp_path / "out" / "fgcmReferenceStars.parquet").exists()  # of the run before


def test_wrong_input_is_one_line(
    run: Any, survey: tuple[Path, ...], tmp_path: Path, one_error: Callable[..., str]
) -> None:
    observations, visits, _ = survey

    def stars(*more: object, table: Path = observations) -> Any:
        return run("fgcm", "stars", "--observations", table, "--visits", visits, "--out", tmp_path / "x", "--log-level",
                   "error", *more)  # fmt: skip

    one_error(stars(table=tmp_path / "no.fits"), 1, "no.fits", "does not exist")
    (tmp_path / "empty.csv").touch()
    one_error(stars(table=tmp_path / "empty.csv"), 1, "empty.csv is empty (0 bytes)")
    one_error(stars(), 1, "o.parquet", "no column for instFlux, instFluxErr", "counts")
    one_error(
        stars("--column-map", COLUMNS, "-c", "isolationRadius=0.5"), 1, "isolationRadius", "matchRadius (1)"
    )
    one_error(stars("--column-map", COLUMNS, "-c", "requiredBands=['z']"), 1, "requiredBands", "z")
    one_error(stars("--column-map", COLUMNS, "-c", "minPerBand=4"), 4, "No star is left")
    assert not (tmp_path / "x").exists()
    one_error(stars("--column-map", COLUMNS, "--out", visits), 1, "v.csv is no folder; choose another")
    one_error(stars("--column-map", COLUMNS, "--out", "/proc/nope"), 1, "/proc cannot be written to")
    one_error(stars("--column-map", COLUMNS, "--out", visits / "y"), 1, "v.csv is no folder; choose another")
