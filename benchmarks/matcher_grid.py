"""Fit WCSs on a grid of simulated star lists: how often is it solved, does it fail by name, is it ever wrong?

The axes are the number of sources, how wrong the initial WCS is (offset, rotation, scale, unknown distortion), the
share of sources without a reference (and as many references without a source), and the kind of field.  Unrelated
lists, which must be refused, come on top.  Prints a table (with ``--markdown FILE`` puts it at the end of that page,
after its marker) and exits with 1 if a requirement is missed.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import itertools
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.table import Table

from zeropoint.astrometry.solve import Astrometry, AstrometryConfig, AstrometryResult
from zeropoint.catalogs.references import ReferenceCatalog
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.exposure import Amplifier, DetectorInfo, Exposure, VisitInfo
from zeropoint.datamodel.wcs import SkyWcs, angular_separation
from zeropoint.errors import AstrometryError

ARCSEC = np.pi / 648000.0
SIZE = 4096
SCALE = 0.2
MARGIN = 600
AB_NJY = 3630780547701.003
NUMBERS = (10, 16, 25, 50, 150, 500, 1500, 5000)
#: Kinds of fields.  uniform; clustered: half of the stars in one clump; deep: eight times more references, fainter;
#: saturated: the brightest quarter of the common stars is lost among the sources; artifacts: spurious sources come in
#: pairs, along rows and columns, and are the brightest; doubles: a third of the references is listed twice.
KINDS = ("uniform", "clustered", "deep", "saturated", "artifacts", "doubles")
#: In a page, what follows this is the table.
MARKER = "<!-- table of benchmarks/matcher_grid.py -->"
#: From this number of true common stars on the field must be solved.
ENOUGH_STARS = 12
#: Of the fields with enough stars, the share that must be solved.
SOLVED_SHARE = 0.99


@dataclass(frozen=True)
class Mistake:
    """How wrong an initial WCS is: offset (arcsec), rotation (degrees), scale (relative), distortion (pixels)."""

    offset: float
    rotation: float
    scale: float
    distortion: float


MISTAKES = (
    Mistake(5.0, 0.1, 0.001, 1.0),
    Mistake(30.0, 1.0, 0.005, 10.0),
    Mistake(60.0, 2.0, 0.01, 20.0),
)


@dataclass(frozen=True)
class Trial:
    """One simulated field.

    Parameters
    ----------
    n_sources
        Sources on the image; as many references lie on it.
    contamination
        Share of both that have no partner; 1 makes unrelated lists.
    mistake
        Error of the initial WCS; signs and directions are random.
    kind
        One of `KINDS`.
    seed
        Of every random draw.
    """

    n_sources: int
    contamination: float
    mistake: Mistake
    kind: str
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    Parameters
    ----------
    trial
        What was tried.
    n_common
        True common stars.
    failure
        Class of the failure, empty if a WCS was accepted.
    right
        Share of the accepted pairs that are one star (or its second entry in the references).
    error_pix
        Median distance of the fitted from the true WCS at the true common stars, pixels; NaN without a WCS.
    n_pairs
        Accepted pairs.
    seconds
        Processor time.
    """

    trial: Trial
    n_common: int
    failure: str
    right: float
    error_pix: float
    n_pairs: int
    seconds: float

    @property
    def wrong(self) -> bool:
        """Whether a WCS was accepted that is not the field's."""
        return not self.failure and not (self.right >= 0.8 and self.error_pix <= 5.0)

    @property
    def solved(self) -> bool:
        """Whether the field's WCS was found, with at least half of its common stars."""
        return not self.failure and not self.wrong and self.n_pairs >= 0.5 * self.n_common


def grid_trials(repeats: int, numbers: tuple[int, ...] = NUMBERS) -> list[Trial]:
    """Return ``repeats`` trials of every cell of the grid, and unrelated lists of every number."""
    cells = itertools.product(numbers, (0.0, 0.5), MISTAKES, KINDS)
    trials = [Trial(*cell, seed) for cell in cells for seed in range(repeats)]
    nothing = itertools.product(numbers, (1.0,), MISTAKES[2:], KINDS)
    return trials + [Trial(*cell, seed) for cell in nothing for seed in range(repeats)]


def grid_config() -> AstrometryConfig:
    """Return the configuration for the grid's largest mistakes."""
    config = AstrometryConfig()
    config.sourceSelector.name = "null"
    config.referenceSelector.doCullFromMaskedRegion = False
    config.wcsFitter.order = 3
    config.matcher.maxOffsetPix = 320
    config.matcher.maxRotationDeg = 2.1
    config.matcher.minMatchedPairs = 8
    return config


def nominal_wcs() -> SkyWcs:
    """Return the WCS that is believed at first."""
    middle = (SIZE - 1) / 2
    return SkyWcs.from_boresight(
        150.0, -30.0, x=middle, y=middle, pixel_scale_arcsec=SCALE, rotation_deg=30.0
    )


def true_wcs(rng: np.random.Generator, mistake: Mistake) -> SkyWcs:
    """Return the nominal WCS with mistakes of these sizes; the distortion is a radial cubic off the middle."""
    nominal, middle = nominal_wcs(), (SIZE - 1) / 2
    x, y = (v.ravel() for v in np.meshgrid(*[np.linspace(-MARGIN, SIZE + MARGIN, 30)] * 2))
    axis = middle + rng.uniform(-0.5, 0.5, 2) * middle
    cube = (x - axis[0]) * np.hypot(x - axis[0], y - axis[1]) ** 2
    cube_y = (y - axis[1]) * np.hypot(x - axis[0], y - axis[1]) ** 2
    inside = (np.abs(x - middle) <= middle) & (np.abs(y - middle) <= middle)
    size = rng.choice([-1, 1]) * mistake.distortion / np.hypot(cube, cube_y)[inside].max()
    xi, eta = nominal.pixel_to_tangent(x=x + size * cube, y=y + size * cube_y)
    wcs = SkyWcs.fit(
        x,
        y,
        xi,
        eta,
        ra0=nominal.ra0,
        dec0=nominal.dec0,
        x_ref=middle,
        y_ref=middle,
        scale=middle,
        order=3,
    )
    turn, way = np.deg2rad(mistake.rotation) * rng.choice([-1, 1]), rng.uniform(0, 2 * np.pi)
    stretch = 1.0 + mistake.scale * rng.choice([-1, 1])
    matrix = stretch * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    # the offset is that of the image's middle
    here = np.array(wcs.pixel_to_tangent(x=middle, y=middle))
    there = np.array(nominal.pixel_to_tangent(x=middle, y=middle))
    goal = there + mistake.offset * ARCSEC * np.array([np.cos(way), np.sin(way)])
    return wcs.with_affine(matrix, goal - matrix @ here)


def positions(rng: np.random.Generator, n: int, clump: np.ndarray | None) -> np.ndarray:
    """Return positions (n, 2) on the image, uniform or half of them in a clump."""
    xy = rng.uniform(0, SIZE - 1, (n, 2))
    if clump is not None:
        members = rng.random(n) < 0.5
        xy[members] = np.clip(rng.normal(clump, SIZE / 12, (n, 2)), 0, SIZE - 1)[members]
    return xy


def magnitudes(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return magnitudes of N ~ 10^(0.3 m), 14 to 20."""
    return np.asarray(20.0 + np.log10(1.0 - rng.random(n) * (1.0 - 10**-1.8)) / 0.3)


def artifacts(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return positions (n, 2) on one row, one column, and of close pairs."""
    xy = rng.uniform(0, SIZE - 1, (n, 2))
    xy[: n // 3, 0], xy[n // 3 : 2 * n // 3, 1] = rng.uniform(0, SIZE - 1, 2)
    half = (n - 2 * (n // 3)) // 2
    xy[n - half :] = xy[n - 2 * half : n - half] + rng.normal(0, 10, 2)
    return xy


def simulate(trial: Trial) -> tuple[SkyWcs, dict[str, np.ndarray]]:
    """Return the true WCS and the lists; common stars are the first rows of both, ``star`` numbers all references."""
    entropy = [trial.n_sources, round(100 * trial.contamination), round(trial.mistake.offset)]
    rng = np.random.default_rng([*entropy, KINDS.index(trial.kind), trial.seed])
    truth = true_wcs(rng, trial.mistake)
    n_other = round(trial.contamination * trial.n_sources)
    n_common = trial.n_sources - n_other
    clump = rng.uniform(0.25 * SIZE, 0.75 * SIZE, 2) if trial.kind == "clustered" else None
    common, spurious, unseen = (positions(rng, n, clump) for n in (n_common, n_other, n_other))
    mag, spurious_mag, unseen_mag = (magnitudes(rng, n) for n in (n_common, n_other, n_other))
    if trial.kind == "deep":
        unseen = np.concatenate([unseen, positions(rng, 8 * trial.n_sources, None)])
        unseen_mag = np.r_[unseen_mag, 20.0 + magnitudes(rng, 8 * trial.n_sources) - 16.0]
    if trial.kind == "saturated":
        n_lost = n_common // 4
        lost = positions(rng, n_lost, None)
        unseen, unseen_mag = np.concatenate([unseen, lost]), np.r_[unseen_mag, rng.uniform(11, 14, n_lost)]
    if trial.kind == "artifacts":
        spurious, spurious_mag = artifacts(rng, n_other), spurious_mag - 3.0
    density = (len(unseen) + n_common) / SIZE**2
    around = rng.uniform(-MARGIN, SIZE + MARGIN, (round(density * (SIZE + 2 * MARGIN) ** 2), 2))
    around = around[np.any((around < 0) | (around > SIZE - 1), axis=1)]
    ref_xy = np.concatenate([common, unseen, around])
    star = np.arange(len(ref_xy))
    ref_mag = np.r_[
        mag,
        unseen_mag,
        rng.permutation(np.r_[mag, unseen_mag])[rng.integers(0, len(mag) + len(unseen), len(around))],
    ]
    if trial.kind == "doubles":
        twice = rng.random(len(ref_xy)) < 1 / 3
        ref_xy = np.concatenate([ref_xy, ref_xy[twice] + rng.normal(0, 4, (twice.sum(), 2))])
        ref_mag = np.r_[ref_mag, ref_mag[twice] + rng.uniform(0, 1, twice.sum())]
        star = np.r_[star, star[twice]]
    ra, dec = truth.pixel_to_sky(x=ref_xy[:, 0], y=ref_xy[:, 1])
    noise = rng.normal(0, 0.02 * ARCSEC, (2, len(ra)))
    source_xy = np.concatenate([common, spurious])
    source_xy = source_xy + rng.normal(0, 0.1, source_xy.shape)
    return truth, {
        "x": source_xy[:, 0],
        "y": source_xy[:, 1],
        "mag": np.r_[mag + rng.normal(0, 0.3, n_common), spurious_mag],
        "ra": ra + noise[0] / np.cos(dec),
        "dec": dec + noise[1],
        "ref_mag": ref_mag,
        "common": common,
        "star": star,
    }


def columns() -> Schema:
    """Return the columns that astrometry needs."""
    result = Schema()
    result.add(ColumnSpec("id", "i8"))
    result.add(*[ColumnSpec(name, "f8") for name in ("coord_ra", "coord_dec", "c_x", "c_y", "p_instFlux")])
    result.add(*[ColumnSpec(name, "f4") for name in ("c_xErr", "c_yErr")])
    result.alias("slot_Centroid", "c")
    result.alias("slot_PsfFlux", "p")
    return result


def solve(config: AstrometryConfig, lists: dict[str, np.ndarray]) -> AstrometryResult:
    """Run the astrometry on lists with the nominal WCS."""
    schema = columns()
    step = Astrometry(config, schema=schema)
    catalog = SourceCatalog(schema, len(lists["x"]))
    catalog["id"] = np.arange(len(catalog)) + 1
    catalog["c_x"], catalog["c_y"] = lists["x"], lists["y"]
    catalog["c_xErr"] = catalog["c_yErr"] = 0.1
    catalog["p_instFlux"] = 10 ** (-0.4 * (lists["mag"] - 30.0))
    table = Table({"coord_ra": lists["ra"], "coord_dec": lists["dec"]})
    table["r_flux"] = AB_NJY * 10 ** (-0.4 * lists["ref_mag"])
    blank = np.zeros((SIZE, SIZE), np.float32)
    detector = DetectorInfo("grid", "d0", 0, SIZE, SIZE, (Amplifier("A", (0, 0, SIZE - 1, SIZE - 1)),))
    exposure = Exposure(
        blank, blank, blank.view(np.int32), detector, VisitInfo(1, 30.0, 60000.0, "r", "r"), wcs=nominal_wcs()
    )
    result = step.run(exposure, catalog, ReferenceCatalog(table, "r_flux", None, "grid", len(table)))
    step.check(exposure, catalog, len(result.match_src))
    return result


def run_trial(trial: Trial) -> Outcome:
    """Simulate a field, solve it and compare with the truth."""
    truth, lists = simulate(trial)
    n_common = len(lists["common"])
    empty = Outcome(trial, n_common, "", float("nan"), float("nan"), 0, 0.0)
    start = time.process_time()
    try:
        result = solve(grid_config(), lists)
    except AstrometryError as error:
        return replace(empty, failure=type(error).__name__, seconds=time.process_time() - start)
    seconds = time.process_time() - start
    right = np.mean((result.match_src == lists["star"][result.match_ref]) & (result.match_src < n_common))
    error_pix = float("nan")
    if n_common:
        x, y = lists["common"].T
        away = angular_separation(*result.wcs.pixel_to_sky(x=x, y=y), *truth.pixel_to_sky(x=x, y=y))
        error_pix = float(np.median(away)) / (SCALE * ARCSEC)
    return replace(
        empty, right=float(right), error_pix=error_pix, n_pairs=len(result.match_src), seconds=seconds
    )


def summary(outcomes: list[Outcome]) -> list[str]:
    """Return the table, a row for each number of sources and contamination."""
    lines = [
        "| sources | without partner | common stars | trials | solved | named failure | wrong | pairs right | error (pix) | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    keys = sorted(
        {(o.trial.contamination == 1.0, o.trial.n_sources, o.trial.contamination) for o in outcomes}
    )
    for unrelated, n_sources, contamination in keys:
        cell = [
            o for o in outcomes if (o.trial.n_sources, o.trial.contamination) == (n_sources, contamination)
        ]
        good = [o for o in cell if o.solved]
        names = sorted({o.failure for o in cell if o.failure})
        failed = ", ".join(f"{sum(o.failure == name for o in cell)} {name}" for name in names)
        right = f"{np.mean([o.right for o in good]):.4f}" if good else ""
        error = f"{np.median([o.error_pix for o in good]):.3f}" if good else ""
        lines.append(
            f"| {n_sources} | {contamination:.0%}{' (unrelated)' if unrelated else ''} | {cell[0].n_common} | "
            f"{len(cell)} | {len(good)} | {failed} | {sum(o.wrong for o in cell)} | {right} | {error} | "
            f"{np.mean([o.seconds for o in cell]):.3f} |"
        )
    return lines


def main() -> int:
    """Run the grid and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--repeats", type=int, default=4, help="trials of each cell of the grid; 4 make 1,344 in all"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--markdown", type=Path, help="also renew the table at the end of this page")
    parser.add_argument("--verbose", action="store_true", help="print every trial that is not solved")
    options = parser.parse_args()
    trials = grid_trials(options.repeats)
    with ProcessPoolExecutor(options.jobs) as pool:
        outcomes = list(pool.map(run_trial, trials, chunksize=4))
    enough = [o for o in outcomes if o.n_common >= ENOUGH_STARS]
    solved, wrong = sum(o.solved for o in enough), [o for o in outcomes if o.wrong]
    lines = [*summary(outcomes), ""]
    lines.append(
        f"{len(outcomes)} trials; with at least {ENOUGH_STARS} common stars {solved} of {len(enough)} solved "
        f"({solved / len(enough):.2%}, required {SOLVED_SHARE:.0%}); wrong solutions accepted: {len(wrong)}."
    )
    print("\n".join(lines))
    if options.verbose:
        for o in outcomes:
            if o.wrong or (not o.solved and o.trial.contamination < 1.0):
                print(o)
    if options.markdown:
        page = options.markdown.read_text().partition(MARKER)[0]
        options.markdown.write_text(page + MARKER + "\n\n" + "\n".join(lines) + "\n")
    return 0 if solved >= SOLVED_SHARE * len(enough) and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
