"""The command ``fgcm fit``: what it writes and says, how it goes on after a crash, and how it fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.fgcm.cycle_checkpoints import CycleCheckpoints

N_STAR, N_EXP, NOISE = 150, 10, 0.005


@pytest.fixture(scope="module")
def stars(tmp_path_factory: Any) -> Path:
    """A star list: one band, one detector, ten exposures of two nights with zeropoints of their own, one cloudy."""
    folder = tmp_path_factory.mktemp("survey")
    rng = np.random.default_rng(3)
    star, visit = (each.ravel() for each in np.meshgrid(np.arange(N_STAR), np.arange(N_EXP), indexing="ij"))
    true = rng.uniform(12.0, 15.0, N_STAR)
    gray = rng.normal(0.0, 0.003, N_EXP)
    gray[4] = 0.4
    table = Table(
        {
            "visit": visit,
            "ra": 10.0 + 0.02 * (star % 15),
            "dec": 0.02 * (star // 15),
            "x": rng.uniform(0, 1000, len(star)),
            "y": rng.uniform(0, 1000, len(star)),
            "instMag": true[star] - 25.0 + gray[visit] + rng.normal(0.0, NOISE, len(star)),
            "instMagErr": np.full(len(star), NOISE),
        }
    )
    visits = Table({"visit": np.arange(N_EXP), "filter": ["R1"] * N_EXP, "exptime": [30.0] * N_EXP})
    visits["mjd"] = 60000.1 + np.arange(N_EXP) // 5 + 0.02 * (np.arange(N_EXP) % 5)
    pq.write_table(table_to_arrow(table), folder / "o.parquet")
    visits.write(folder / "v.csv")
    from click.testing import CliRunner

    from zeropoint.cli import main

    made = CliRunner().invoke(
        main,
        ["fgcm", "stars", "--observations", str(folder / "o.parquet"), "--visits", str(folder / "v.csv"),
         "--column-map", "{filters: {R1: r}}", "--out", str(folder / "stars")],
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    return folder / "stars"


#: A calibration of this survey; plots are tested elsewhere.
def _fit(run: Any, stars: Path, out: Path, *more: str) -> Any:
    given = ["-c", "sigma0Phot=0.0", "-c", "modelMagErrors=False", "--cycles", "3", "--no-plots", *more]
    return run("fgcm", "fit", "--stars", stars, "--no-atmosphere", "--out", out, *given)


def test_a_survey_is_fitted_and_goes_on_where_it_was_killed(
    run: Any, stars: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    whole = _fit(run, stars, tmp_path / "whole")
    assert whole.exit_code in (0, 3), whole.output
    assert "minStarPerExp = 45: a typical exposure has 150 stars" in whole.stderr
    assert "r: 9 of 10 exposures photometric" in whole.stdout
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    tables = {
        f"fgcm_Cycle2_{name}.parquet"
        for name in ("FitParameters", "FlaggedStars", "Zeropoints", "StandardStars")
    }
    assert (
        tables | {"metrics.json", "report.html", "config.py", "fgcm_standard_star.parquet", "photo_calib"}
        <= names
    )
    assert not {"checkpoints", "plots"} & names
    assert len(list((tmp_path / "whole" / "photo_calib").iterdir())) == N_EXP

    save = CycleCheckpoints.save

    def killed(self: CycleCheckpoints, saved: Any) -> None:
        save(self, saved)
        raise KeyboardInterrupt

    monkeypatch.setattr(CycleCheckpoints, "save", killed)
    broken = _fit(run, stars, tmp_path / "broken")
    assert broken.exit_code != 0
    assert not (tmp_path / "broken" / "metrics.json").exists()
    monkeypatch.undo()
    again = _fit(run, stars, tmp_path / "broken")
    assert "goes on after cycle 0, which an earlier run had done" in again.stderr
    for name in ("fgcm_Cycle2_Zeropoints.parquet", "fgcm_standard_star.parquet"):
        first, second = (pq.read_table(tmp_path / folder / name) for folder in ("whole", "broken"))
        assert first.equals(second), name


def test_the_metrics_are_json(run: Any, stars: Path, tmp_path: Path) -> None:
    result = _fit(run, stars, tmp_path / "out", "--json")
    metrics = json.loads(result.stdout)
    assert metrics == json.loads((tmp_path / "out" / "metrics.json").read_text())
    band = metrics["bands"]["r"]
    assert band["n_photometric"] == 9
    # 150 stars in nine exposures: their scatter is known to 3 %; four sigma
    assert band["scatter_mmag"] == pytest.approx(1e3 * NOISE, rel=0.12)
    assert metrics["not_photometric"] == [4]
    assert metrics["verdict"] in ("good", "usable")
    assert len(metrics["cycles"]) == 3


def test_data_that_cannot_be_calibrated_get_a_report(run: Any, stars: Path, tmp_path: Path) -> None:
    result = _fit(run, stars, tmp_path / "out", "-c", "minStarPerExp=10000")
    assert result.exit_code == 4, result.output
    assert "error: " in result.stderr
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["verdict"] == "bad"
    assert "stopped early" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ((), 2, "Give the passbands"),
        (("--band", "R1=5500:7000"), 2, "does not say where the site is"),
        (("--band", "Z9=5500:7000", "--elevation", "2200"), 1, "visits are in R1, passbands are of Z9"),
        (("--throughputs", "curves.parq"), 2, "give --lut too"),
        (("--lut", "no.parq"), 1, "no.parq: there is no such file"),
        (("--lut", "no.parq", "--no-atmosphere"), 2, "--lut holds site and passbands"),
        (("--no-atmosphere", "--elevation", "10"), 2, "--no-atmosphere needs no site"),
        (("--no-atmosphere", "-c", "fitBand=['r']"), 2, "fitBand"),
        (("--no-atmosphere", "-c", "fitBands=['q']"), 2, "fitBands"),
    ],
)  # fmt: skip
def test_wrong_options_are_one_line(
    run: Any, stars: Path, tmp_path: Path, options: tuple[str, ...], code: int, text: str
) -> None:
    result = run("fgcm", "fit", "--stars", stars, "--out", tmp_path / "out", *options)
    assert result.exit_code == code, result.output
    assert text in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_a_folder_without_a_star_list_is_named(run: Any, stars: Path, tmp_path: Path) -> None:
    result = run("fgcm", "fit", "--stars", tmp_path / "no", "--no-atmosphere", "--out", tmp_path / "out")
    assert (result.exit_code, "there is no such folder" in result.stderr) == (1, True)
    result = run("fgcm", "fit", "--stars", tmp_path, "--no-atmosphere", "--out", tmp_path / "out")
    assert (result.exit_code, "holds no star list" in result.stderr) == (1, True)
    (tmp_path / "fgcmStarObservations.parquet").write_bytes(
        (stars / "fgcmStarObservations.parquet").read_bytes()
    )
    result = run("fgcm", "fit", "--stars", tmp_path, "--no-atmosphere", "--out", tmp_path / "out")
    assert "but not fgcmVisitCatalog.parquet, fgcmStarIds.parquet, fgcmStarIndices.parquet" in result.stderr


def test_an_empty_table_is_named_and_leaves_no_folder(run: Any, stars: Path, tmp_path: Path) -> None:
    copy = tmp_path / "stars"
    shutil.copytree(stars, copy)
    (copy / "fgcmStarIds.parquet").write_bytes(b"")
    result = _fit(run, copy, tmp_path / "out")
    assert (result.exit_code, "is empty (0 bytes)" in result.stderr) == (1, True)
    assert not (tmp_path / "out").exists()
