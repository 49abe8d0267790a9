"""Calibrate two real surveys of one band and one detector globally, and measure what that is worth.

``hat-dslr``: nine wide-field exposures, against the r magnitudes of APASS.  ``hatp32``: a night of one drifting field, against
its own repeats; unless a repository is given, ``hatp32_survey.py`` makes one first (minutes; it prints its own figures, and its
failure is one here).  Everything runs by commands, as in the documentation; what is measured are magnitudes made with the
photoCalib of each visit.  Exits with 1 if a figure misses its limit.  The data folder is the variable ``ZEROPOINT_TESTDATA``,
else ``../shared/data``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _commands import run
from hatp32_survey import OUT, survey
from real_data import DATA

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
#: Cycles of each fit: flats within the detector alternate with it.
CYCLES = 6
#: Largest scatter against APASS r, mag, of observations of stars between these magnitudes.
APASS_SCATTER, APASS_RANGE = 0.125, (8.0, 11.5)
#: Largest ratio of scatters after and before, of the brightest 40 % of the stars seen in at least so many frames.
REPEAT_RATIO, FRAMES, BRIGHT = 0.85, 60, 40.0


def clipped(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Return which values are within 4 sigma of their mean, and their standard deviation, clipped until nothing changes."""
    kept = np.isfinite(values)
    while True:
        middle, sigma = float(values[kept].mean()), float(values[kept].std(ddof=1))
        again = kept & (np.abs(np.where(kept, values, middle) - middle) <= 4.0 * sigma)
        if np.array_equal(again, kept):
            return kept, sigma
        kept = again


@dataclass(frozen=True)
class Calibrated:
    """Observations of the stars of a list, star by star.

    Parameters
    ----------
    star, visit
        Row of the star and number of the visit of each.
    raw, mag
        Magnitude as measured, for one second, and calibrated, AB.
    mean
        Standard magnitude of the star, from the fit, on the same scale as ``mag``; NaN where the fit has none.
    """

    star: np.ndarray
    visit: np.ndarray
    raw: np.ndarray
    mag: np.ndarray
    mean: np.ndarray


def read(name: Path):
    """Read a table."""
    from zeropoint.datamodel.table_files import read_table_file

    return read_table_file(name)


def calibrated(stars: Path, fit: Path) -> Calibrated:
    """Return the observations of a star list, calibrated with the photoCalib of their visits."""
    from zeropoint.datamodel.photo_calib_catalog import PhotoCalibCatalog

    ids, index = read(stars / "fgcmStarIds.parquet"), read(stars / "fgcmStarIndices.parquet")
    table = read(stars / "fgcmStarObservations.parquet")[np.asarray(index["obsIndex"])]
    visits = read(stars / "fgcmVisitCatalog.parquet")
    exptime = dict(
        zip(np.asarray(visits["visit"]).tolist(), np.asarray(visits["exptime"]).tolist(), strict=True)
    )
    star, visit = np.repeat(np.arange(len(ids)), np.asarray(ids["nObs"])), np.asarray(table["visit"])
    raw, mag = np.asarray(table["instMag"], float), np.full(len(table), np.nan)
    for number in np.unique(visit).tolist():
        path, here = fit / "photo_calib" / f"{number}.parquet", visit == number
        if not path.exists():
            continue
        record = PhotoCalibCatalog.from_table(read(path)).find(0)
        if record is None:
            continue
        factor = record.getPhotoCalib().field(x=np.asarray(table["x"])[here], y=np.asarray(table["y"])[here])
        counts = 10.0 ** (-0.4 * raw[here]) * exptime[number]
        mag[here] = -2.5 * np.log10(counts * factor) + 31.4
    last = sorted(fit.glob("fgcm_Cycle*_StandardStars.parquet"))[-1]
    standard = read(last)
    rows = np.searchsorted(np.asarray(ids["fgcm_id"]), np.asarray(standard["id"]))
    mean = np.full(len(ids), np.nan)
    values = np.asarray(standard["mag_std_noabs"], float).reshape(len(standard), -1)[:, 0]
    mean[rows] = np.where(values < 90.0, values, np.nan)
    return Calibrated(star, visit, raw, mag, mean)


def make_fit(stars: Path, settings: Path, band: str, fit: Path) -> None:
    """Fit a star list of one band."""
    run("zeropoint", "fgcm", "fit", "--stars", stars, "--no-atmosphere", "--band", band, "--cycles", CYCLES, "-C", settings,
        "--no-plots", "--no-resume", "--out", fit, allow=(0, 3))  # fmt: skip


def measure_hat_dslr(data: Path, folder: Path) -> bool:
    """Fit the wide-field exposures and compare them with APASS; return whether the limit is met."""
    example, stars, fit = EXAMPLES / "hat_dslr", folder / "stars", folder / "fit"
    run("python", example / "convert.py", data / "hat-dslr-20170306", folder)
    run("zeropoint", "fgcm", "stars", "--observations", folder / "observations.parquet", "--visits", folder / "visits.csv",
        "--column-map", example / "columns.yaml", "-C", example / "stars.py", "--references", folder / "references.csv",
        "--out", stars)  # fmt: skip
    make_fit(stars, example / "fit.py", "R1=5700:6900", fit)
    found = calibrated(stars, fit)
    references = read(stars / "fgcmReferenceStars.parquet")
    ids = np.asarray(read(stars / "fgcmStarIds.parquet")["fgcm_id"])
    names = list(references.meta["FILTERNAMES"])
    mags = np.where(np.abs(np.asarray(references["refMag"])) < 90.0, references["refMag"], np.nan)
    r, color = np.full(len(ids), np.nan), np.full(len(ids), np.nan)
    rows = np.searchsorted(ids, np.asarray(references["fgcm_id"]))
    r[rows] = mags[:, names.index("R1")]
    color[rows] = mags[:, names.index("G1")] - mags[:, names.index("R1")]
    term = color_term(fit)
    bright = (r > APASS_RANGE[0]) & (r < APASS_RANGE[1]) & np.isfinite(color)
    chosen = bright[found.star]
    star = found.star[chosen]
    print(f"\nhat-dslr: {chosen.sum()} observations of {bright.sum()} stars, {APASS_RANGE[0]} < r < {APASS_RANGE[1]}; color "
          f"term {term:+.3f} (g - r)\n")  # fmt: skip
    print("| magnitudes | scatter against APASS r, 4-sigma clip, mag | observations kept |\n|---|---|---|")
    sigma = np.nan
    for label, mag, coefficient in (
        ("as measured", found.raw[chosen], 0.0),
        ("as measured, with the color term", found.raw[chosen], term),
        ("calibrated", found.mag[chosen], 0.0),
        ("calibrated, with the color term", found.mag[chosen], term),
    ):
        kept, sigma = clipped(r[star] - coefficient * color[star] - mag)
        print(f"| {label} | {sigma:.4f} | {kept.sum()} |")
    print(f"\nhat-dslr: {sigma:.4f} mag, limit {APASS_SCATTER}")
    return bool(sigma <= APASS_SCATTER)


def color_term(fit: Path) -> float:
    """Return the color term of the references that a fit of the DSLR found, mag per mag of g - r."""
    metrics = json.loads((fit / "metrics.json").read_text())
    last = metrics["cycles"][-1]["bands"]["r"]
    return float(-last["reference_color_term"] / (4770.0 - 6231.0) * np.log(10.0) / 2.5)


def measure_hatp32(data: Path, folder: Path, repository: Path | None) -> bool:
    """Fit the night and compare how well its magnitudes repeat; return whether the limit is met."""
    example, stars, fit = EXAMPLES / "hatp32_stars", folder / "stars", folder / "fit"
    if repository is None:
        repository = folder / "repo"
        if survey(repository, data) != 0:
            return False
    run("python", example / "export.py", repository, OUT, folder)
    run("zeropoint", "fgcm", "stars", "--observations", folder / "observations.fits", "--visits", folder / "visits.ecsv",
        "--column-map", example / "columns.yaml", "-C", example / "stars.py", "--out", stars)  # fmt: skip
    make_fit(stars, example / "fit.py", "Clear=4000:9000", fit)
    found = calibrated(stars, fit)
    seen = np.bincount(found.star, minlength=len(found.mean))
    often = (seen >= FRAMES) & np.isfinite(found.mean)
    bright = often & (found.mean <= np.percentile(found.mean[often], BRIGHT))
    frames, frame = np.unique(found.visit, return_inverse=True)
    row = np.cumsum(bright) - 1
    chosen = bright[found.star]
    place = row[found.star[chosen]], frame[chosen]
    raw, mag = (np.full((bright.sum(), len(frames)), np.nan) for _ in range(2))
    raw[place], mag[place] = found.raw[chosen], found.mag[chosen]
    plain = by_frame(raw, np.nanmean)
    before, after = clipped(plain.ravel())[1], clipped((mag - found.mean[bright][:, None]).ravel())[1]
    robust_before = clipped(by_frame(raw, np.nanmedian).ravel())[1]
    robust_after = clipped((mag - np.nanmedian(mag, axis=1)[:, None]).ravel())[1]
    print(f"\nhatp32: {bright.sum()} stars, the brightest {BRIGHT:.0f} % of {often.sum()} seen in {FRAMES} of {len(frames)} frames"
          "\n\n| magnitudes | about | std, 4-sigma clip, mag |\n|---|---|---|")  # fmt: skip
    for label, about, value in (
        ("a zeropoint for each frame", "the star's mean", before),
        ("calibrated", "the star's standard magnitude", after),
        ("a zeropoint for each frame", "the star's median", robust_before),
        ("calibrated", "the star's median", robust_after),
    ):
        print(f"| {label} | {about} | {value:.4f} |")
    print(f"\nhatp32: {after:.4f} / {before:.4f} = {after / before:.3f}, limit {REPEAT_RATIO}; about medians "
          f"{robust_after / robust_before:.3f}")  # fmt: skip
    return bool(after < REPEAT_RATIO * before)


def by_frame(magnitude: np.ndarray, mean) -> np.ndarray:
    """Return residuals (star, frame) about the stars' means, with the frames' zeropoints by medians of stars."""
    zeropoint = np.zeros(magnitude.shape[1])
    for _ in range(20):
        middle = mean(magnitude - zeropoint, axis=1)
        zeropoint += np.nanmedian(magnitude - zeropoint - middle[:, None], axis=0)
        zeropoint -= zeropoint.mean()
    return magnitude - zeropoint - mean(magnitude - zeropoint, axis=1)[:, None]


def main() -> int:
    """Measure both; 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the test data")
    parser.add_argument("--repository", type=Path, help="repository of hatp32_survey.py; default: made anew")
    parser.add_argument("--only", choices=("hat-dslr", "hatp32"), help="only one of the two")
    arguments = parser.parse_args()
    met = []
    with tempfile.TemporaryDirectory(prefix="fgcm_real") as folder:
        if arguments.only != "hatp32":
            met.append(measure_hat_dslr(arguments.data, Path(folder) / "hat"))
        if arguments.only != "hat-dslr":
            met.append(measure_hatp32(arguments.data, Path(folder) / "hatp32", arguments.repository))
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
