"""A simulated survey from images to visit summaries: 12 visits in each of two bands, 4 detectors, two tracts.

Writes the survey, fills a repository, and runs the pipeline `recalibrate` as a user does; the run is killed (`kill -9`)
while PSFs are fitted, and resumed.  Prints every command with its time, counts all outputs, and compares the final PSFs with
the noiseless truth and with the stars that they were not fitted to.  Exits with 1 if a requirement is missed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _commands import BIN, run, run_arguments
from astropy.table import Table, vstack

REFERENCES, SKY_MAP, OUT = "survey_refs", "survey", "survey"
#: Requirements: mean of |dT/T| at reserved stars; significance of residuals.
SIZE_LIMIT, SIGNIFICANCE_LIMIT = 5e-4, 3.0
#: Outputs of a detector image, of a visit, of a tract, of the survey.
DETECTOR = ("preliminary_visit_image", "single_visit_star_unstandardized", "single_visit_star_detector",
            "refit_psf_star_detector", "refit_psf_models_detector", "recalibrated_star_unstandardized",
            "recalibrated_star_detector")  # fmt: skip
VISIT = ("single_visit_star", "preliminary_visit_summary", "refit_psf_star", "refit_psf_models", "visit_summary",
         "recalibrated_star")  # fmt: skip
TRACT = ("isolated_star", "isolated_star_association")
GLOBAL = (
    "preliminary_visit_table",
    "preliminary_visit_detector_table",
    "visit_table",
    "visit_detector_table",
)


def prepare(folder: Path, n_visits: int, size: int, seed: int) -> Any:
    """Write the survey and fill the repository; what is there already is kept. Return the survey."""
    from zeropoint.simulation import SurveySettings, read_survey, write_survey
    from zeropoint.simulation.survey import CAMERA, NUM_RINGS

    images, repository = folder / "images", folder / "repo"
    if not (images / "survey.json").exists():
        start = time.perf_counter()
        write_survey(SurveySettings(n_visits=n_visits, size=size, seed=seed), images, jobs=2)
        print(f"simulated in {time.perf_counter() - start:.0f} s")
    survey = read_survey(images)
    if not repository.exists():
        run("zeropoint", "create-repo", repository)
    run("zeropoint", "register-camera", repository, survey.card)
    run("zeropoint", "ingest-images", repository, *survey.images, "--camera", CAMERA, "-j", 2, last=2)
    run("zeropoint", "ingest-references", repository, REFERENCES, survey.references)
    run("zeropoint", "make-skymap", repository, SKY_MAP, "--rings", NUM_RINGS, "--patches", "none")
    return survey


def kill_in_the_middle(words: list[object], refits: Path, n: int) -> None:
    """Start a command, and kill it and its workers as soon as a run has written n files of refits."""
    print(f"\n$ {' '.join(map(str, words))}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([str(BIN / str(words[0])), *map(str, words[1:])], stdout=log, stderr=log,
                                   env=environment, start_new_session=True)  # fmt: skip
        while process.poll() is None:
            if sum(1 for _ in refits.glob("*/refit_psf_star_detector/**/*.parq*")) >= n:
                os.killpg(process.pid, signal.SIGKILL)
                print(f"  killed after {n} refits")
            time.sleep(1.0)
        print(f"  ended with {process.returncode}")


def stacked(butler: Any, name: str) -> Table:
    """Return all tables of a dataset type in the collection, in the order of their data ids."""
    refs = butler.query_datasets(name, explain=False, limit=None)
    tables = [butler.get(ref) for ref in sorted(refs, key=lambda ref: str(ref.dataId))]
    return vstack(tables, metadata_conflicts="silent")


def star_sources(butler: Any) -> Table:
    """Return the sources of isolated stars of all tracts, with the ids of their stars."""
    tables = []
    for ref in butler.query_datasets("isolated_star", explain=False, limit=None):
        sources = butler.get(ref)
        stars = butler.get("isolated_star_association", ref.dataId)
        sources["isolated_star_id"] = np.asarray(stars["isolated_star_id"])[np.asarray(sources["obj_index"])]
        tables.append(sources)
    return vstack(tables, metadata_conflicts="silent")


def count(butler: Any, n_images: int, n_visits: int) -> bool:
    """Print how many outputs of each kind there are; return whether all are."""
    print("\n| output | datasets | expected |\n|---|---|---|")
    complete = True
    kinds = ((DETECTOR, n_images), (VISIT, n_visits), (TRACT, 2), (GLOBAL, 1))
    for names, expected in kinds:
        for name in names:
            n = len(butler.query_datasets(name, explain=False, limit=None))
            print(f"| {name} | {n} | {expected} |")
            complete &= n == expected
    return complete


def psf_sizes(butler: Any, survey: Any, stars: Table) -> tuple[np.ndarray, int]:
    """Return |dT/T| of the final PSFs at the reserved stars, and the detectors whose summary has PSF and corrections."""
    from zeropoint.datamodel.exposure_catalog import ExposureCatalog
    from zeropoint.psf.piff_io import from_lsst_psf
    from zeropoint.simulation.survey_comparison import psf_errors

    reserved = stars[np.asarray(stars["calib_psf_reserved"], bool)]
    errors, n_complete = [], 0
    print(
        "\n| visit | band | FWHM, arcsec | reserved stars | mean dT/T | mean abs dT/T |\n|---|---|---|---|---|---|"
    )
    for ref in sorted(butler.query_datasets("visit_summary", explain=False, limit=None),
                      key=lambda ref: int(ref.dataId["visit"])):  # fmt: skip
        visit, of_visit = int(ref.dataId["visit"]), []
        for record in ExposureCatalog.from_table(butler.get(ref, storageClass="ArrowTable")):
            psf = record.getPsf()
            if psf is None or record.getApCorrMap() is None or record.getWcs() is None:
                continue
            n_complete += 1
            here = reserved[(reserved["visit"] == visit) & (reserved["detector"] == record.id)]
            x, y = (np.asarray(here[f"slot_Centroid_{axis}"], np.float64) for axis in "xy")
            truth = survey.truth_psf(visit, record.id)
            of_visit.append(psf_errors(from_lsst_psf(psf), truth, x, y).size)
        values = np.concatenate(of_visit) if of_visit else np.array([])
        print(f"| {visit} | {truth.settings.band} | {truth.settings.fwhm_arcsec} | {len(values)} | "
              f"{np.mean(values):+.1e} | {np.mean(np.abs(values)):.1e} |")  # fmt: skip
        errors.append(values)
    return np.concatenate(errors), n_complete


def judge(repository: Path, survey: Any) -> bool:
    """Print all figures; return whether they meet the requirements."""
    from lsst.daf.butler import Butler

    from zeropoint.simulation.survey_comparison import reserve_conflicts, reserved_residuals

    n_images, n_visits = len(survey.images), len({s.visit for s in survey.settings})
    with Butler.from_config(str(repository), collections=OUT) as butler:
        rows = [("all outputs are there", "", count(butler, n_images, n_visits))]
        stars = stacked(butler, "refit_psf_star")
        sizes, n_complete = psf_sizes(butler, survey, stars)
        n_often, n_conflicts = reserve_conflicts(stars, star_sources(butler))
    rows.append(("detectors with final PSF, aperture corrections and WCS", f"{n_complete} of {n_images}",
                 n_complete == n_images))  # fmt: skip
    mean = float(np.mean(np.abs(sizes)))
    rows.append(("mean abs dT/T at reserved stars", f"{mean:.2e} of {len(sizes)} (mean {np.mean(sizes):+.1e})",
                 mean <= SIZE_LIMIT))  # fmt: skip
    rows += [
        (f"reserved stars, mean {one.name}", f"{one.mean:+.1e} +- {one.error:.1e} ({one.n_stars} in {one.n_groups} images)",
         abs(one.significance) <= SIGNIFICANCE_LIMIT)
        for one in reserved_residuals(stars)
    ]  # fmt: skip
    rows.append(("stars reserved in some visits of a band only", f"{n_conflicts} of {n_often}",
                 n_conflicts == 0 and n_often > 0))  # fmt: skip
    print("\n| requirement | measured | met |\n|---|---|---|")
    for name, measured, met in rows:
        print(f"| {name} | {measured} | {'yes' if met else 'NO'} |")
    return all(met for _, _, met in rows)


def repeatable(repository: Path, visit: int, base: list[object]) -> bool:
    """Refit one visit in a collection of its own; return whether its tables are those of the run that was killed."""
    from lsst.daf.butler import Butler

    step = f"{base[base.index('-p') + 1]}#refitPsfModelDetector"
    words = ["-b", repository, "-p", step, "-i", f"{OUT},SurveyCam/defaults", "-o", "again",
             "-d", f"instrument='SurveyCam' AND visit={visit}", "-j", 2]  # fmt: skip
    run("zeropoint", "run", *words, last=3)
    names = ("refit_psf_star_detector", "refit_psf_models_detector")
    with Butler.from_config(str(repository)) as butler:
        equal = True
        for name in names:
            found = butler.query_datasets(name, collections="again", explain=False, limit=None)
            refs = [ref for ref in found if ref.run.startswith("again/")]
            for ref in refs:
                other = butler.find_dataset(name, ref.dataId, collections=OUT)
                one, two = (Path(butler.getURI(r).ospath).read_bytes() for r in (ref, other))
                equal &= one == two
            equal &= len(refs) == 4
    return equal


def main() -> int:
    """Simulate the survey, run the pipeline, and print the figures; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=12, help="visits in each band (default 12)")
    parser.add_argument("--size", type=int, default=1536, help="side of a detector, pixels (default 1536)")
    parser.add_argument("--seed", type=int, default=1, help="random seed of the survey (default 1)")
    parser.add_argument("--folder", type=Path, help="keep everything here; what is there already is used")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="survey") as temporary:
        folder = (arguments.folder or Path(temporary)).absolute()
        survey = prepare(folder, arguments.n, arguments.size, arguments.seed)
        repository = folder / "repo"
        pipeline = repository / "pipelines" / "SurveyCam" / "recalibrate.yaml"
        base = run_arguments(repository, pipeline, "SurveyCam", REFERENCES, OUT)
        words: list[object] = ["zeropoint", "run", *base]
        kill_in_the_middle(words, repository / OUT, max(len(survey.images) // 4, 2))
        run(*words)
        met = judge(repository, survey)
        equal = repeatable(repository, survey.settings[0].visit, base)
        print(
            f"\nrefits of the run that was killed {'are' if equal else 'are NOT'} those of another run, byte for byte"
        )
    print("\nall requirements met" if met and equal else "\nNOT all requirements met")
    return 0 if met and equal else 1


if __name__ == "__main__":
    sys.exit(main())
