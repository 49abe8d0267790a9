"""The global calibration's look-up table and star list of a simulated survey in a repository, against the truth.

Fills a fresh repository with 240 visits of nine detectors (``--small``: 32 visits of four), makes the look-up table and
the star list with ``zeropoint run``, and compares: every observation with what was simulated, every star of the list with
the true stars, visits and references with the truth.  The run is then killed (``kill -9``) between two checkpoints and
resumed; both must give the same files.  A second, small repository holds one of each kind of bad input: each must be a named
error or a counted rejection, and the rest must go on.  Exits with 1 if a requirement is missed.  Real spectra and atmospheres are
read from ``ZEROPOINT_TESTDATA``, else ``../shared/data``.
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
import pyarrow as pa
from _commands import BIN, run
from _fgcm_repository import INSTRUMENT, REFERENCES, TABLES, fill, tables_of

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.build_stars_config import FgcmBuildStarsTableConfig
from zeropoint.recipes.fgcm_build_stars import FgcmBuildStars
from zeropoint.simulation.fgcm_photometry import standard_passbands
from zeropoint.simulation.fgcm_settings import FgcmSurveySettings, small_survey
from zeropoint.simulation.fgcm_sources import INNER, OUTER, aperture_loss
from zeropoint.simulation.fgcm_survey import FgcmSurvey, simulate_fgcm_survey
from zeropoint.simulation.fgcm_tables import source_table, visit_summary
from zeropoint.simulation.fgcm_truth import compare_star_list, observation_truth

DATA = Path(os.environ.get("ZEROPOINT_TESTDATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
PRIMARY = ("i", "r", "z", "g")
OUTPUTS = ("fgcmVisitCatalog", "fgcmStarObservations", "fgcmStarIds", "fgcmStarIndices", "fgcmReferenceStars")
#: Share of isolated stars that may be lost, and of observations that may be another star's: any other, or the other one of a
#: pair that is one source in most visits.
MOST_LOST, MOST_WRONG, MOST_PARTNER = 2e-3, 1e-4, 1e-3
#: Coarse grids: the grid of the table is no matter of this benchmark.
LUT = ("doOpticsTransmission=False", "doSensorTransmission=False", "doFilterDetectorTransmission=True",
       "parameters.pmbSteps=2", "parameters.pwvSteps=5", "parameters.tauSteps=5", "parameters.alphaSteps=3",
       "parameters.zenithSteps=5")  # fmt: skip

type Rows = list[tuple[str, str, bool]]


def lut_words(repository: Path) -> list[object]:
    """Return the command that makes the look-up table."""
    words: list[object] = ["zeropoint", "run", "-b", repository, "-p", f"{INSTRUMENT}/fgcm#fgcmLut",
                           "-i", f"{INSTRUMENT}/defaults", "-o", "lut", "-d", f"instrument='{INSTRUMENT}'"]  # fmt: skip
    return words + [word for field in LUT for word in ("-c", f"fgcmMakeLut:{field}")]


def star_words(repository: Path, out: str, *fields: str, query: str = "") -> list[object]:
    """Return the command that builds the star list into a collection."""
    where = f"instrument='{INSTRUMENT}'{query}"
    words: list[object] = ["zeropoint", "run", "-b", repository, "-p", f"{INSTRUMENT}/fgcm#fgcmStars",
                           "-i", f"{TABLES},lut,{INSTRUMENT}/defaults", "-o", out, "-d", where]  # fmt: skip
    settings = (f"connections.refCat={REFERENCES}", *fields)
    return words + [word for field in settings for word in ("-c", f"fgcmBuildStarsTable:{field}")]


def accounting_of(tables: dict[str, Any]) -> dict[str, Any]:
    """Return all stages that the tables tell of."""
    stages: dict[str, Any] = {}
    for table in tables.values():
        stages |= table.meta.get("ACCOUNTING", {})
    return stages


def judge_observations(survey: FgcmSurvey, tables: dict[str, Any], rows: Rows) -> None:
    """Compare the observations, row by row, with what was simulated, and the accounting with what was stored."""
    stages = accounting_of(tables)
    for name, stage in stages.items():
        gone = sum(stage["rejected"].values())
        print(f"  {name}: {stage['read']:,} read, {stage['kept']:,} kept, rejected {stage['rejected']}")
        rows.append((f"accounting of {name} adds up", "", stage["read"] == stage["kept"] + gone))
    sources = list(survey.all_sources())
    n_sources, n_clean = (
        sum(int(k) for k in each) for each in zip(*((len(s), s.clean.sum()) for s in sources))
    )
    read, kept = stages["sources"]["read"], stages["sources"]["kept"]
    rows.append(("every source simulated was read", f"{read:,} of {n_sources:,}", read == n_sources))
    rows.append(("every unflagged source is kept, no other", f"{kept:,} of {n_clean:,}", kept == n_clean))
    found, truth = tables["fgcmStarObservations"], survey.observations()
    # of a detector the order of the table is that of the simulation
    same = len(found) == len(truth)
    for name in ("visit", "ccd", "ra", "dec", "x", "y"):
        same = same and bool(np.allclose(found[name], truth[name], rtol=0, atol=1e-9))
    rows.append(("positions are those simulated, in their order", f"{len(found):,}", same))
    for name, limit in (("instMag", 2e-5), ("instMagErr", 1e-6), ("jacobian", 2e-5), ("deltaMagAper", 1e-5)):
        worst = float(np.max(np.abs(np.asarray(found[name]) - np.asarray(truth[name])))) if same else np.nan
        rows.append((f"largest difference of {name}", f"{worst:.1e} (limit {limit:.0e})", worst <= limit))


def judge_stars(survey: FgcmSurvey, tables: dict[str, Any], rows: Rows) -> None:
    """Compare the stars and their references with the true ones."""
    observations, ids = tables["fgcmStarObservations"], tables["fgcmStarIds"]
    observations["star"], observations["merged"] = observation_truth(survey, observations)
    result = compare_star_list(survey, observations, ids, tables["fgcmStarIndices"], primary_bands=PRIMARY)
    print(f"  {result}")
    lost = result.n_lost / result.n_expected
    rows.append(("isolated stars lost", f"{result.n_lost} of {result.n_expected}", lost <= MOST_LOST))
    rows.append(("stars that come twice", f"{result.n_split}", result.n_split == 0))
    rows.append(
        (
            "observations of other stars",
            f"{result.n_wrong} of {result.n_assigned:,} (and {result.n_partner} of the other star of a close pair)",
            result.n_wrong <= MOST_WRONG * result.n_assigned
            and result.n_partner <= MOST_PARTNER * result.n_assigned,
        )
    )
    listed = ids["fgcm_id"][np.isin(ids["fgcm_id"], tables["fgcmReferenceStars"]["fgcm_id"])]
    references, bands = tables["fgcmReferenceStars"], survey.settings.bands
    place = np.searchsorted(np.asarray(ids["fgcm_id"]), np.asarray(references["fgcm_id"]))
    first = tables["fgcmStarIndices"]["obsIndex"][ids["obsArrIndex"][place]]
    star = np.asarray(observations["star"])[first]
    true = np.stack([np.asarray(survey.stars[f"mag_{band}"])[star] for band in bands], axis=1)
    pulls = (np.asarray(references["refMag"]) - true) / np.asarray(references["refMagErr"])
    outliers = int((np.abs(pulls) > 6.0).any(axis=1).sum())
    rows.append(("references are true stars with their magnitudes",
                 f"{len(listed)} references, width {np.std(pulls):.3f}, {outliers} of another star",
                 len(references) > 0 and outliers <= 2e-3 * len(references)))  # fmt: skip


def judge_visits(survey: FgcmSurvey, tables: dict[str, Any], rows: Rows) -> None:
    """Compare the catalogue of visits with the truth."""
    catalog, truth, s = tables["fgcmVisitCatalog"], survey.visits, survey.settings
    fwhm = np.asarray(truth["fwhm"])
    loss = [aperture_loss(fwhm, s.pixel_scale * radius) for radius in (INNER, OUTER)]
    scale = np.asarray(catalog["psfFwhm"]) / fwhm
    # four sigma of a median of so many stars, whose median error is 15 mmag
    n_stars = len(tables["fgcmStarObservations"]) / len(truth)
    figures = {
        "telra": (catalog["telra"] - truth["ra"], 1e-8), "teldec": (catalog["teldec"] - truth["dec"], 1e-8),
        "telha": (catalog["telha"] - truth["hour_angle"], 1e-4), "mjd": (catalog["mjd"] - truth["mjd"], 1e-8),
        "pmb": (catalog["pmb"] - truth["pressure"], 1e-3), "psfFwhm / true": (scale - np.median(scale), 1e-3),
        "telrot": (catalog["telrot"] - truth["rotation"], 1e-8),
        "deltaAper": (catalog["deltaAper"] - (loss[0] - loss[1]), 0.08 / np.sqrt(n_stars)),
    }  # fmt: skip
    for name, (difference, limit) in figures.items():
        worst = float(np.max(np.abs(np.asarray(difference, np.float64))))
        rows.append(
            (f"visits, largest difference of {name}", f"{worst:.1e} (limit {limit:.0e})", worst <= limit)
        )


def judge_table(survey: FgcmSurvey, repository: Path, rows: Rows) -> None:
    """Compare the look-up table's passbands with the simulated ones."""
    header = tables_of(repository, "lut", ["fgcmLookUpTable"])["fgcmLookUpTable"][:1]
    lam = survey.physics.wavelength
    passbands = standard_passbands(survey.settings, survey.physics, survey.throughput) / lam
    i0 = passbands.sum(axis=1) * (lam[1] - lam[0])
    difference = 2.5e3 * np.log10(np.asarray(header["i0Std"])[0] / i0)
    print(f"  standard passbands against the simulated ones: {np.round(difference, 1)} mmag")
    if survey.settings.physics == "measured":
        # what published tables of oxygen and water differ by
        rows.append(("standard passbands, mmag from the simulated ones", f"{np.max(np.abs(difference)):.1f}",
                     bool(np.max(np.abs(difference)) < 12.0)))  # fmt: skip


def kill_after_checkpoint(words: list[object], checkpoints: Path) -> bool:
    """Start a command, and kill it and its workers as soon as it has saved two parts; return whether it was killed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([str(BIN / str(words[0])), *map(str, words[1:])], stdout=log, stderr=log,
                                   env=environment, start_new_session=True)  # fmt: skip
        while process.poll() is None:
            if sum(1 for path in checkpoints.rglob("*") if path.is_file()) >= 2:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return True
            time.sleep(0.05)
    return False


def files_of(repository: Path, collection: str) -> dict[str, bytes]:
    """Return the files of the star list in a collection."""
    from lsst.daf.butler import Butler

    with Butler.from_config(str(repository), collections=collection, instrument=INSTRUMENT) as butler:
        return {name: Path(butler.getURI(name).ospath).read_bytes() for name in OUTPUTS}


def judge_resumed(repository: Path, folder: Path, n_visits: int, rows: Rows) -> None:
    """Kill a run and resume it; its files must be those of the run that was left alone."""
    checkpoints = folder / "checkpoints"
    part = max(n_visits // 8, 1)
    words = star_words(
        repository, "resumed", f"nVisitsPerCheckpoint={part}", f"checkpoint_directory={checkpoints}"
    )
    killed = kill_after_checkpoint(words, checkpoints)
    left = sum(1 for path in checkpoints.rglob("*") if path.is_file())
    rows.append(("killed with checkpoints on disk", f"{left} parts of {part} visits", killed and left >= 2))
    seconds = run(*words, last=4)
    same = files_of(repository, "resumed") == files_of(repository, "stars")
    rows.append(("resumed run has the same files", f"{seconds:.0f} s", same))
    rest = sum(1 for path in checkpoints.rglob("*") if path.is_file())
    rows.append(("checkpoints are gone after it", f"{rest} files", rest == 0))


class BadInput:
    """One of each kind of bad input, on visits of a small survey.

    Parameters
    ----------
    survey
        Survey; visits in its first three bands are spoiled, and the filter of the last has no band.
    """

    def __init__(self, survey: FgcmSurvey) -> None:
        good = np.flatnonzero(np.asarray(survey.visits["band"]) < len(survey.settings.bands) - 1)
        names = ("no summary", "no PSF size", "missing columns", "empty", "NaN and negative")
        self.rows = {name: int(row) for name, row in zip(names, good)}
        self.survey = survey

    def change(self, row: int, sources: pa.Table, summary: pa.Table) -> tuple[pa.Table, pa.Table | None]:
        """Return what is stored of a visit."""
        kind = next((name for name, bad in self.rows.items() if bad == row), "")
        if kind == "no summary":
            return sources, None
        if kind == "no PSF size":
            place = summary.column_names.index("psfSigma")
            nothing = pa.array(np.full(len(summary), np.nan, np.float32))
            return sources, summary.set_column(place, summary.schema.field(place), nothing)
        if kind == "missing columns":
            return sources.drop_columns(["apFlux_12_0_instFluxErr"]), summary
        if kind == "empty":
            return sources.slice(0, 0), summary
        if kind == "NaN and negative":
            place = sources.column_names.index("apFlux_12_0_instFlux")
            flux = sources["apFlux_12_0_instFlux"].to_numpy().copy()
            flux[0::4], flux[1::4] = np.nan, -flux[1::4]
            return sources.set_column(place, sources.schema.field(place), pa.array(flux)), summary
        return sources, summary


def refused(words: list[object], expected: str, rows: Rows, name: str) -> None:
    """Run a command that must end with an error that says what is wrong."""
    command = [str(BIN / str(words[0])), *map(str, words[1:])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = " ".join((done.stdout + done.stderr).split())
    rows.append((name, f"exit {done.returncode}: {expected!r}", done.returncode != 0 and expected in text
                 and "Traceback" not in text))  # fmt: skip
    if not rows[-1][2]:
        print(f"  {text[-1500:]}")


def judge_bad_input(folder: Path, rows: Rows) -> None:
    """Give each kind of bad input; each must be a named error or be counted, and the rest must go on."""
    survey = simulate_fgcm_survey(small_survey())
    bad = BadInput(survey)
    repository = fill(survey, folder / "bad", change=bad.change)
    run(*lut_words(repository), last=2)
    last = survey.physical_filter(survey.settings.bands[-1])
    filters = {survey.physical_filter(band): band for band in survey.settings.bands[:-1]}
    without = (f"physicalFilterMap={filters}", "primaryBands=['i','r','g']", "checkpoint_directory=")
    run(*star_words(repository, "stars", *without), last=6)
    accounting = accounting_of(tables_of(repository, "stars", OUTPUTS))
    rejected, sources = accounting["visits"]["rejected"], accounting["sources"]
    print(f"  {accounting}")
    n_last = int((np.asarray(survey.visits["band"]) == len(survey.settings.bands) - 1).sum())
    for reason, number in {
        "no_summary": 1,
        "no_psf_size": 1,
        "missing_columns": 1,
        "no_band": n_last,
    }.items():
        rows.append((f"visits counted as {reason} ({last if reason == 'no_band' else 'one visit'})",
                     f"{rejected.get(reason, 0)} of {number}", rejected.get(reason, 0) == number))  # fmt: skip
    kept = accounting["visits"]["kept"]
    rows.append(("all other visits are used, the empty one too", f"{kept} of {len(survey.visits) - 3 - n_last}",
                 kept == len(survey.visits) - 3 - n_last))  # fmt: skip
    used = [
        row
        for row in range(len(survey.visits))
        if survey.visits["band"][row] < len(survey.settings.bands) - 1
    ]
    spoiled = [bad.rows[name] for name in ("no summary", "no PSF size", "missing columns", "empty")]
    expected = sum(len(survey.sources(row)) for row in used if row not in spoiled)
    rows.append(("sources with NaN and negative fluxes are read and rejected", str(sources["rejected"]),
                 sources["read"] == expected and sum(sources["rejected"].values()) + sources["kept"] == expected))  # fmt: skip
    one_band = (
        f" AND band='r' AND visit NOT IN ({','.join(str(survey.visits['visit'][row]) for row in spoiled)})"
    )
    words = star_words(repository, "one", "primaryBands=['r']", "doReferenceMatches=False", query=one_band)
    run(*words, last=3)
    n_stars = len(tables_of(repository, "one", ["fgcmStarIds"])["fgcmStarIds"])
    rows.append(("all stars in one band: a list of that band", f"{n_stars} stars", n_stars > 0))
    words = star_words(repository, "two", "primaryBands=['r']", "requiredBands=['g']", "doReferenceMatches=False",
                       query=one_band)  # fmt: skip
    refused(words, "requiredBands", rows, "all stars in one band where another is required")
    _judge_files(folder, repository, survey, rows)


def _judge_files(folder: Path, repository: Path, survey: FgcmSurvey, rows: Rows) -> None:
    """Give files that are wrong: a throughput with decreasing wavelengths, and visits that come twice."""
    falling = folder / "falling.dat"
    falling.write_text("# Angstrom\n6000 0.5\n5500 0.6\n5000 0.4\n")
    words: list[object] = [
        "zeropoint",
        "ingest-throughputs",
        repository,
        INSTRUMENT,
        "--filter",
        f"r_fgcm={falling}",
    ]
    refused(words, "wavelengths must increase", rows, "a throughput file with decreasing wavelengths")
    config = FgcmBuildStarsTableConfig()
    config.primaryBands, config.doReferenceMatches = ["r"], False
    table, summary = source_table(survey, survey.sources(0)), visit_summary(survey, 0)
    try:
        FgcmBuildStars(config).run([(1001, table), (1001, table)], [(1001, summary)])
    except InvalidInputError as error:
        rows.append(("a visit that comes twice", str(error), "1001" in str(error)))
    else:
        rows.append(("a visit that comes twice", "nothing is said", False))


def show(rows: Rows) -> bool:
    """Print a table of requirements; return whether all are met."""
    print(f"\n| requirement | measured | met |\n|---|---|---|\n{chr(10).join(f'| {n} | {m} | {'yes' if met else 'NO'} |' for n, m, met in rows)}")  # fmt: skip
    return all(met for _, _, met in rows)


def main() -> int:
    """Simulate, run and compare everything; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="32 visits, without real spectra")
    parser.add_argument("--seed", type=int, default=1, help="random seed of the survey (default 1)")
    parser.add_argument("--folder", type=Path, help="keep everything here; what is there already is used")
    arguments = parser.parse_args()
    settings = (
        small_survey(seed=arguments.seed) if arguments.small else FgcmSurveySettings(seed=arguments.seed)
    )
    start = time.process_time()
    survey = simulate_fgcm_survey(settings, DATA)
    print(
        f"truth of {len(survey.visits)} visits and {len(survey.stars):,} stars in {time.process_time() - start:.1f} CPU s"
    )
    rows: Rows = []
    with tempfile.TemporaryDirectory(prefix="fgcm_survey") as temporary:
        folder = (arguments.folder or Path(temporary)).absolute()
        repository = fill(survey, folder)
        run(*lut_words(repository), last=3)
        judge_table(survey, repository, rows)
        run(*star_words(repository, "stars", "checkpoint_directory="), last=3)
        tables = tables_of(repository, "stars", OUTPUTS)
        judge_observations(survey, tables, rows)
        judge_stars(survey, tables, rows)
        judge_visits(survey, tables, rows)
        judge_resumed(repository, folder, len(survey.visits), rows)
        judge_bad_input(folder, rows)
    met = show(rows)
    print("\nall requirements met" if met else "\nNOT all requirements met")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
