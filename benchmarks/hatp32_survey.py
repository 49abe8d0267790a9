"""Associate the stars of 71 real exposures of one night, fit the PSFs again, and measure how well magnitudes repeat.

Fills a repository with the hatp32 frames of the test data, runs the pipeline `recalibrate` on them as a user does, and prints
how many exposures the stars are seen in, the repeatability of the bright half before any global fit (a zeropoint for each frame
only), and what became of each frame's final PSF.  Exits with 1 if a frame is not calibrated or no star is seen in more than
60 exposures.  The data folder is the variable ``ZEROPOINT_TESTDATA``, else ``../shared/data``.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from _commands import report, run, run_arguments
from real_data import CARDS, DATA, hatp32_frames

INSTRUMENT, REFERENCES, SKY_MAP, OUT = "MicroObservatory", "tycho2", "hatp32", "u/hatp32"
#: Exposures that a star must be seen in to count as seen all night, and to be measured.
N_COUNTED, N_MEASURED = 61, 60
FLUXES = ("psfFlux", "ap03Flux", "ap06Flux", "ap12Flux")


def fill(repository: Path, data: Path) -> None:
    """Make the repository and bring everything in."""
    from zeropoint.instruments.card import load_card

    card = CARDS / "hatp32_wcs_table.yaml"
    columns = yaml.safe_dump(load_card(card).get("references"), default_flow_style=True)
    table = data / "hatp32" / "tycho2_field.txt"
    run("zeropoint", "create-repo", repository)
    run("zeropoint", "register-camera", repository, card)
    run("zeropoint", "ingest-images", repository, *hatp32_frames(data), "--camera", INSTRUMENT)
    run("zeropoint", "ingest-references", repository, REFERENCES, "--column-map", columns, table)
    # the field and its drift on one tract
    run(
        "zeropoint",
        "make-skymap",
        repository,
        SKY_MAP,
        "--discrete",
        "31.0,46.8,1.0",
        "--pixel-scale",
        5,
        "--patches",
        "none",
    )


@dataclass(frozen=True)
class Night:
    """Sources of isolated stars.

    Parameters
    ----------
    n_seen
        Exposures that each star is seen in.
    star, frame
        Row of the star and of the frame of each source.
    flux, error
        Name -> nJy, of each source.
    offset_arcsec
        Distance of each source from its star.
    """

    n_seen: np.ndarray
    star: np.ndarray
    frame: np.ndarray
    flux: dict[str, np.ndarray]
    error: dict[str, np.ndarray]
    offset_arcsec: np.ndarray


def read_night(butler: Any) -> Night:
    """Read the associations, with the fluxes of the visits' tables."""
    (ref,) = butler.query_datasets("isolated_star_association")
    stars, sources = butler.get(ref), butler.get("isolated_star", ref.dataId)
    frames, frame = np.unique(np.asarray(sources["visit"]), return_inverse=True)
    flux = {name: np.full(len(sources), np.nan) for name in FLUXES}
    error = {name: np.full(len(sources), np.nan) for name in FLUXES}
    columns = ["sourceId", *FLUXES, *(f"{name}Err" for name in FLUXES)]
    for i, visit in enumerate(frames):
        table = butler.get("single_visit_star", visit=int(visit), parameters={"columns": columns})
        here = np.flatnonzero(frame == i)
        rows = np.asarray(sources["source_row"])[here]
        assert np.array_equal(np.asarray(table["sourceId"])[rows], np.asarray(sources["sourceId"])[here])
        for name in FLUXES:
            flux[name][here] = np.asarray(table[name])[rows]
            error[name][here] = np.asarray(table[f"{name}Err"])[rows]
    star = np.asarray(sources["obj_index"])
    dec = np.radians(np.asarray(sources["dec"]))
    d_ra = (np.asarray(sources["ra"]) - np.asarray(stars["ra"])[star]) * np.cos(dec)
    d_dec = np.asarray(sources["dec"]) - np.asarray(stars["dec"])[star]
    return Night(np.asarray(stars["nsource"]), star, frame, flux, error, 3600.0 * np.hypot(d_ra, d_dec))


def fit_zeropoints(magnitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean magnitudes of stars and residuals (star, frame) with a zeropoint for each frame, medians of stars."""
    zeropoint = np.zeros(magnitude.shape[1])
    for _ in range(20):
        mean = np.nanmean(magnitude - zeropoint, axis=1)
        zeropoint += np.nanmedian(magnitude - zeropoint - mean[:, None], axis=0)
        zeropoint -= zeropoint.mean()
    mean = np.nanmean(magnitude - zeropoint, axis=1)
    return mean, magnitude - zeropoint - mean[:, None]


def clipped_std(values: np.ndarray) -> float:
    """Return the standard deviation without outliers beyond 4 sigma."""
    values = values[np.isfinite(values)]
    while True:
        sigma = float(np.std(values, ddof=1))
        kept = np.abs(values - values.mean()) <= 4.0 * sigma
        if kept.all():
            return sigma
        values = values[kept]


def repeatability(night: Night) -> None:
    """Print how well the magnitudes of the stars that are seen all night repeat."""
    rows = np.flatnonzero(night.n_seen >= N_MEASURED)
    place = np.full(len(night.n_seen), -1)
    place[rows] = np.arange(len(rows))
    chosen = place[night.star] >= 0
    index = place[night.star[chosen]], night.frame[chosen]
    print(
        f"\n{len(rows)} stars in at least {N_MEASURED} exposures; a zeropoint for each frame, no other fit:\n"
    )
    print(
        "| flux | median std of the bright half, mmag | expected of the noise, mmag | brightest quarter | all stars |"
    )
    print("|---|---|---|---|---|")
    for name in FLUXES:
        magnitude = np.full((len(rows), night.frame.max() + 1), np.nan)
        noise = magnitude.copy()
        flux, error = night.flux[name][chosen], night.error[name][chosen]
        good = flux > 0
        magnitude[index[0][good], index[1][good]] = -2.5 * np.log10(flux[good])
        noise[index[0][good], index[1][good]] = 2.5 / np.log(10.0) * error[good] / flux[good]
        mean, residuals = fit_zeropoints(magnitude)
        std = 1e3 * np.array([clipped_std(row) for row in residuals])
        expected = 1e3 * np.sqrt(np.nanmean(noise**2, axis=1))
        bright, quarter = mean <= np.median(mean), mean <= np.percentile(mean, 25)
        print(f"| {name} | {np.median(std[bright]):.1f} | {np.median(expected[bright]):.1f} | "
              f"{np.median(std[quarter]):.1f} | {np.median(std):.1f} |")  # fmt: skip


def association(night: Night, n_frames: int) -> int:
    """Print how many stars are seen how often; return the number seen all night."""
    print(f"\n{len(night.n_seen)} isolated stars with {len(night.star)} sources in {n_frames} exposures; a source is "
          f"{np.median(night.offset_arcsec):.2f} arcsec from its star (median)\n")  # fmt: skip
    print("| exposures that a star is seen in | stars |\n|---|---|")
    edges = (1, 2, 11, 31, N_COUNTED, n_frames + 1)
    for first, after in itertools.pairwise(edges):
        print(f"| {first} to {after - 1} | {int(np.sum((night.n_seen >= first) & (night.n_seen < after)))} |")
    return int(np.sum(night.n_seen >= N_COUNTED))


def finalization(butler: Any) -> None:
    """Print what became of each frame's final PSF, and how much processor time it took."""
    outcomes: Counter[str] = Counter()
    lines, seconds, size = [], [], []
    for ref in sorted(butler.query_datasets("refitPsfModelDetector_metadata", explain=False, limit=None),
                      key=lambda ref: int(ref.dataId["visit"])):  # fmt: skip
        metadata = butler.get(ref)
        task, quantum = metadata["refitPsfModelDetector"], metadata["quantum"]
        outcome = task.get("outcome", "no work")
        outcomes[outcome] += 1
        seconds.append(quantum["endCpuTime"] - quantum["prepCpuTime"])
        if reason := task.get("reason", ""):
            lines.append(f"  visit {ref.dataId['visit']}: {outcome}: {reason}")
        size.append(task.get("n_candidates", 0))
    print(f"\nfinal PSFs: {', '.join(f'{n} {name}' for name, n in outcomes.most_common())}; candidates per frame "
          f"{min(size)} to {max(size)}; {np.median(seconds):.1f} CPU s each (median)")  # fmt: skip
    for line in lines:
        print(line)


def main() -> int:
    """Run the pipeline and print what came of it; 1 if a frame has no calibration, or no star is seen all night."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the test data")
    parser.add_argument(
        "--repository", type=Path, help="repository to make, or to go on with; default: temporary"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hatp32") as folder:
        return survey(arguments.repository or Path(folder) / "repo", arguments.data)


def survey(repository: Path, data: Path) -> int:
    """Run the pipeline in a repository and print what came of it; return the exit code."""
    from lsst.daf.butler import Butler

    if not repository.exists():
        fill(repository, data)
    pipeline = f"{INSTRUMENT}/recalibrate"
    run("zeropoint", "run", *run_arguments(repository, pipeline, INSTRUMENT, REFERENCES, OUT), allow=(0, 4))
    report(repository, OUT)
    n_frames = len(hatp32_frames(data))
    with Butler.from_config(str(repository), collections=OUT, instrument=INSTRUMENT) as butler:
        n_calibrated = len(butler.query_datasets("preliminary_visit_image", explain=False, limit=None))
        night = read_night(butler)
        n_all_night = association(night, n_frames)
        repeatability(night)
        finalization(butler)
    met = n_calibrated == n_frames and n_all_night > 0
    print(f"\n{n_calibrated} of {n_frames} frames calibrated, {n_all_night} stars in more than 60 exposures")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
