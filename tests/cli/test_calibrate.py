"""The command from end to end on one small simulated image, and on images that cannot be calibrated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

PRODUCTS = {
    "visit_image.fits",
    "background.fits",
    "stars.parquet",
    "psf_stars.parquet",
    "astrometry_matches.parquet",
    "photometry_matches.parquet",
    "metrics.json",
    "report.html",
}


def written(folder: Path, stem: str) -> set[str]:
    return {path.name.removeprefix(f"{stem}.") for path in folder.glob(f"{stem}.*")}


@pytest.fixture
def calibrate_and_plot(run: Any, simulated_files: Any, tmp_path: Path) -> Callable[..., Any]:
    def call(
        *images: Path, references: Path | None = None, camera: object = "simcam", more: tuple[str, ...] = ()
    ) -> Any:
        references = references or simulated_files.references
        options = ["--camera", camera, "--references", references, "--out", tmp_path / "out", *more]
        return run("calibrate", *images, *options)

    return call


@pytest.fixture
def calibrate(calibrate_and_plot: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The same without plots, which take half of the time."""
    monkeypatch.setattr("zeropoint.quality.report._figures", lambda *_: ({}, []))
    return calibrate_and_plot


@pytest.fixture
def changed(simulated_files: Any, tmp_path: Path) -> Callable[..., Path]:
    """Write a changed copy of the simulated image."""

    def call(
        change: Callable[[fits.HDUList], None] | None = None, stem: str = "changed", **cards: Any
    ) -> Path:
        path = tmp_path / f"{stem}.fits"
        with fits.open(simulated_files.image) as hdus:
            hdus[0].header.update(cards)
            if change is not None:
                change(hdus)
            hdus.writeto(path)
        return path

    return call


def test_a_good_image(calibrate_and_plot: Any, simulated_files: Any, tmp_path: Path) -> None:
    result = calibrate_and_plot(simulated_files.image, more=("--json",))
    assert result.exit_code in (0, 3), result.output
    (line,) = result.stdout.splitlines()
    outcome = json.loads(line)
    assert outcome["exit_code"] == result.exit_code
    assert outcome["stem"] == "simulated"
    assert abs(outcome["metrics"]["zeroPoint"] - 31.8) < 0.05
    assert written(tmp_path / "out", "simulated") == PRODUCTS
    assert not list((tmp_path / "out").glob(".*"))
    stored = json.loads((tmp_path / "out" / "simulated.metrics.json").read_text())
    assert stored["verdict"] == outcome["verdict"]
    assert any(note.startswith("first look:") for note in stored["notes"])


def spoil_stars(hdus: fits.HDUList) -> None:
    """Flatten every star at a level just above the sky."""
    sky = np.median(hdus[0].data)
    noise = 1.5 * np.sqrt(sky)
    hdus[0].data = np.minimum(hdus[0].data, np.float32(sky + 4 * noise))
    hdus[0].header["SATURATE"] = float(sky + 3.5 * noise)


def only_sky(hdus: fits.HDUList, n_stars: int = 0) -> None:
    """Replace the scene by its sky and noise, with a few Gaussian stars."""
    sky = float(np.median(hdus[0].data))
    image = np.random.default_rng(1).normal(sky, np.sqrt(sky / 1.6), hdus[0].data.shape)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    for k in range(n_stars):
        image += 8000.0 * np.exp(-((x - 150 - 140 * k) ** 2 + (y - 130 - 160 * k) ** 2) / (2 * 1.7**2))
    hdus[0].data = image.astype(np.float32)
    hdus["VARIANCE"].data[:] = sky / 1.6


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        (spoil_stars, ["star", "source"]),
        (only_sky, ["source", "star"]),
        (lambda hdus: only_sky(hdus, 3), ["star", "source"]),
    ],
    ids=["every-star-saturated", "no-star", "three-stars"],
)
def test_images_that_cannot_be_calibrated(
    calibrate: Any, changed: Any, tmp_path: Path, change: Any, reasons: list[str]
) -> None:
    result = calibrate(changed(change))
    assert result.exit_code == 4, result.output
    assert any(word in result.stdout for word in reasons)
    assert_partial(tmp_path / "out")


def assert_partial(folder: Path) -> None:
    files = written(folder, "changed")
    assert {"metrics.json", "report.html"} <= files
    assert "photometry_matches.parquet" not in files
    assert ("visit_image.fits" in files) != ("partial_image.fits" in files)
    stored = json.loads((folder / "changed.metrics.json").read_text())
    assert stored["verdict"] == "bad"
    assert stored["reasons"]
    assert "bad" in (folder / "changed.report.html").read_text().lower()
    assert not list(folder.glob(".*"))


def moved(references: Path, path: Path, change: Callable[[Table], None]) -> Path:
    table = Table.read(references)
    change(table)
    table.write(path)
    return path


def elsewhere(table: Table) -> None:
    table["coord_ra"] += 0.5


def shuffled(table: Table) -> None:
    """As many stars on the same patch of sky, none of them ours."""
    rng = np.random.default_rng(2)
    for name in ("coord_ra", "coord_dec"):
        table[name] = rng.uniform(table[name].min(), table[name].max(), len(table))
        table[name].unit = "rad"


@pytest.mark.parametrize("change", [elsewhere, shuffled])
def test_references_of_another_field(
    calibrate: Any, changed: Any, simulated_files: Any, tmp_path: Path, change: Any
) -> None:
    references = moved(simulated_files.references, tmp_path / "other.fits", change)
    result = calibrate(changed(), references=references)
    assert result.exit_code == 4, result.output
    assert "reference" in result.stdout.lower() or "match" in result.stdout.lower()
    assert_partial(tmp_path / "out")
    # a wrong WCS must not survive
    with fits.open(next((tmp_path / "out").glob("changed.*image.fits"))) as hdus:
        assert not any("CRVAL1" in hdu.header for hdu in hdus[:2])


@pytest.mark.parametrize("case", ["gain", "nan", "constant", "masked", "weight", "band"])
def test_inputs_that_are_refused(
    calibrate: Any, changed: Any, one_error: Any, tmp_path: Path, case: str
) -> None:
    changes: dict[str, tuple[Any, dict[str, Any], list[str]]] = {
        "gain": (None, {"GAIN": -1.0}, ["gain is -1"]),
        "nan": (lambda hdus: hdus[0].data.fill(np.nan), {}, ["NaN"]),
        "constant": (lambda hdus: hdus[0].data.fill(5.0), {}, ["every pixel has the value 5"]),
        "masked": (lambda hdus: hdus["MASK"].data.fill(1), {}, ["every pixel is masked"]),
        "weight": (lambda hdus: hdus["VARIANCE"].data.fill(0.0), {}, ["zero", "variance"]),
        "band": (None, {"FILTER": "K_s"}, ["no band 'K_s'", "it has r"]),
    }
    change, cards, words = changes[case]
    line = one_error(calibrate(changed(change, **cards)), 1, "changed.fits", *words)
    assert "\n" not in line
    assert not (tmp_path / "out").exists()


def test_one_bad_image_does_not_stop_the_others(calibrate: Any, simulated_files: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.fits").write_text("no image")
    result = calibrate(
        tmp_path / "broken.fits", simulated_files.image, tmp_path / "missing.fits", more=("--json",)
    )
    outcomes = [json.loads(line) for line in result.stdout.splitlines()]
    assert [outcome["stem"] for outcome in outcomes] == ["broken", "simulated", "missing"]
    assert outcomes[0]["exit_code"] == outcomes[2]["exit_code"] == 1
    assert outcomes[1]["exit_code"] in (0, 3)
    assert result.exit_code == 1
    assert written(tmp_path / "out", "simulated") == PRODUCTS
