"""Compare PSF determiners with each other, with Piff itself and with PSFEx, on the same stars.

    python benchmarks/psf_compare.py                                # everything; prints the tables
    python benchmarks/psf_compare.py --only psfex --sample simulated
    python benchmarks/psf_compare.py --markdown docs/psf.md         # and puts them into the marked block

Each fit runs in a process of its own. Simulated samples have several realizations, in each of which 200 stars are
fitted and the model is compared with the noiseless truth; real ones are cross-validated, so every star is judged by
a model that it did not shape. Results of Piff and PSFEx are kept in a cache folder, as they do not change; --fresh
forgets them.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import hashlib
import logging
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psf_methods
import psf_samples

HERE = Path(__file__).resolve().parent
EXTERNAL = ("Piff", "PSFEx")
#: Side on which everything is judged, pixels.
SIDE = 25
BEGIN, END = "<!-- psf_compare: begin -->", "<!-- psf_compare: end -->"
#: Residuals against truth, and of stars that were set aside.
TRUTH = ("truth_size", "truth_e", "truth_profile")
STARS = ("size", "e", "chi2")


# -- one fit, in its own process ----------------------------------------------------------------------------


def cut(stamps: np.ndarray) -> np.ndarray:
    """Return the central part of PSF stamps, of sum 1."""
    edge = (stamps.shape[1] - SIDE) // 2
    if edge > 0:
        stamps = stamps[:, edge:-edge, edge:-edge]
    return stamps / stamps.sum(axis=(1, 2), keepdims=True)


def against_truth(psf, sample: psf_samples.Sample) -> dict[str, np.ndarray]:
    """Return dT/T, ellipticity errors and profile errors on a grid over the detector."""
    from zeropoint.kernels.moments import adaptive_moments_stack

    axis = np.linspace(40, psf_samples.WIDTH - 40, 20)
    x, y = (a.ravel() for a in np.meshgrid(axis, axis))
    drawn, true = cut(psf.kernel_stamps(x=x, y=y)), sample.truth(x, y)
    shapes = []
    for stamps in (drawn, true):
        out = np.empty((len(stamps), 4))
        centre = np.full(len(stamps), float(stamps.shape[1] // 2))
        adaptive_moments_stack(np.ascontiguousarray(stamps), centre, centre, 1.5, 300, 1e-8, out)
        size = out[:, 1] + out[:, 2]
        shapes.append((size, (out[:, 1] - out[:, 2]) / size, 2 * out[:, 3] / size))
    (a, b, c), (p, q, r) = shapes
    difference = ((drawn - true) ** 2).sum(axis=(1, 2)) / (true**2).sum(axis=(1, 2))
    return {
        "truth_size": a / p - 1,
        "truth_e": np.hypot(b - q, c - r),
        "truth_profile": np.sqrt(difference),
    }


def against_stars(psf, sample: psf_samples.Sample) -> dict[str, np.ndarray]:
    """Return residuals of the reserved stars: dT/T, de1, de2 under one Gaussian weight, their errors, chi-square.

    The weight has the same width for all stars and methods, the typical width of the stars, so that undersampled
    stars, whose adaptive moments collapse, are measured like others. The factor 8 makes the values those of a
    Gaussian star of that width.
    """
    from dataclasses import replace

    from zeropoint.datamodel.mask_planes import bitmask
    from zeropoint.psf.pixel_grid_stars import star_sizes
    from zeropoint.psf.quality import BAD_PLANES, fit_stars
    from zeropoint.psf.stars import make_psf_stars

    edge = (sample.candidates.side - SIDE) // 2
    inner = slice(edge, edge + SIDE)
    all_stars = sample.candidates
    small = replace(
        all_stars,
        **{name: np.ascontiguousarray(getattr(all_stars, name)[:, inner, inner])
           for name in ("image", "variance", "mask")},
    )  # fmt: skip
    every = make_psf_stars(
        small, side=SIDE, bad_bits=bitmask(BAD_PLANES), minimum_unmasked_fraction=0.5, max_snr=np.inf
    )
    sigma = float(np.nanmedian(star_sizes(every)))
    fits = fit_stars(psf, small.take(sample.reserved))
    half = fits.model.shape[1] // 2
    axis = np.arange(fits.model.shape[1]) - half
    u = axis[None, None, :] - fits.dx[:, None, None]
    v = axis[None, :, None] - fits.dy[:, None, None]
    weight = np.exp(-0.5 * (u * u + v * v) / sigma**2)
    residual = np.where(fits.good, fits.stars.image - fits.model, 0.0)
    noise = np.where(fits.good, fits.variance, 0.0)

    def total(values: np.ndarray) -> np.ndarray:
        return values.sum(axis=(1, 2))

    result = {}
    for name, pattern in (("size", u * u + v * v), ("e1", u * u - v * v), ("e2", 2 * u * v)):
        pattern = weight * (
            pattern - (total(weight * pattern * fits.model) / total(weight * fits.model))[:, None, None]
        )
        pattern *= 8.0 / (2.0 * sigma**2)
        result[name] = total(pattern * residual) / fits.flux
        result[f"{name}_err"] = np.sqrt(total(pattern**2 * noise)) / fits.flux
    result["chi2"] = fits.reduced_chi2
    result["star"] = np.flatnonzero(sample.reserved)[fits.stars.index]
    return result


def child(method: str, name: str, part: int, parts: int, cache: Path, out: Path) -> None:
    """Fit once and write what came out."""
    from zeropoint.errors import CalibrationFailure

    logging.basicConfig(level=logging.ERROR)
    sample = psf_samples.load(name, part, parts, cache)
    try:
        done = psf_methods.fit(method, sample)
    except CalibrationFailure as failure:
        np.savez(out, failure=f"{type(failure).__name__}: {failure}")
        return
    values = against_stars(done.psf, sample)
    if sample.truth is not None:
        values.update(against_truth(done.psf, sample))
    np.savez(
        out, cpu=done.cpu, memory=done.memory, used=done.used, fitted=int((~sample.reserved).sum()), **values
    )


# -- all fits -----------------------------------------------------------------------------------------------


def run(
    method: str, name: str, part: int, parts: int, cache: Path, fresh: bool, cached: bool = False
) -> dict[str, np.ndarray] | None:
    """Return what a fit gave, from the cache if it is one that does not change; None if it is not there and must be."""
    version = hashlib.sha256((HERE / "psf_samples.py").read_bytes()).hexdigest()[:8]
    out = cache / version / f"{name}.{method}.{part}of{parts if name in psf_samples.REAL else 'n'}.npz"
    out.parent.mkdir(parents=True, exist_ok=True)
    if cached and not out.exists():
        return None
    if not cached and (method not in EXTERNAL or fresh or not out.exists()):
        command = [sys.executable, str(HERE / "psf_compare.py"), "--cache", str(cache), "--child", method, name,
                   str(part), str(parts), str(out)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{method} on {name}, part {part}:\n{done.stderr[-3000:]}")
    with np.load(out) as values:
        return {key: values[key] for key in values}


@dataclass(frozen=True)
class Score:
    """All fits of one method to one sample.

    Parameters
    ----------
    parts
        What each fit gave.
    failures
        Messages of fits that gave no PSF.
    """

    parts: list[dict[str, np.ndarray]]
    failures: list[str]

    def mean(self, key: str) -> float:
        """Return the mean of a number over the fits."""
        return float(np.mean([part[key] for part in self.parts]))

    def rms(self, key: str) -> float:
        """Return the root mean square of residuals against truth, over positions and realizations."""
        return float(np.sqrt(np.mean([np.mean(part[key] ** 2) for part in self.parts])))

    def stars(self, key: str) -> dict[tuple[int, int], float]:
        """Return a value of each reserved star, by realization or fold and number."""
        return {
            (k, int(star)): float(value)
            for k, part in enumerate(self.parts)
            for star, value in zip(part["star"], part[key], strict=True)
        }


def star_matrix(scores: dict[str, Score]) -> dict[str, dict[str, np.ndarray]]:
    """Return for each method the arrays of the stars that all have; stars that are bad for all are left out.

    A star is bad (double, galaxy, neighbour) if the smallest of the methods' chi-squares is beyond 5 robust standard
    deviations of such minima in the logarithm.
    """
    tables = {
        method: {key: score.stars(key) for key in ("size", "e1", "e2", "size_err", "chi2")}
        for method, score in scores.items()
    }
    common = sorted(set.intersection(*(set(table["size"]) for table in tables.values())))
    arrays = {
        method: {key: np.array([values[star] for star in common]) for key, values in table.items()}
        for method, table in tables.items()
    }
    least = np.log(np.min([a["chi2"] for a in arrays.values()], axis=0))
    middle = np.median(least)
    spread = 1.4826 * np.median(np.abs(least - middle))
    least_size = np.min([np.abs(a["size"]) / np.hypot(a["size_err"], 0.02) for a in arrays.values()], axis=0)
    keep = (least <= middle + 5.0 * spread) & (least_size < 6.0)
    return {method: {key: values[keep] for key, values in a.items()} for method, a in arrays.items()}


def star_statistics(a: dict[str, np.ndarray], rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return weighted rms of size and of ellipticity (per component), and the mean reduced chi-square."""
    w = weight[rows] / weight[rows].sum()
    size = np.sqrt((w * a["size"][rows] ** 2).sum())
    e = np.sqrt((w * (a["e1"][rows] ** 2 + a["e2"][rows] ** 2)).sum() / 2.0)
    return np.array([size, e, a["chi2"][rows].mean()])


@dataclass(frozen=True)
class StarTable:
    """Residuals of stars set aside: per method the statistics, and the lead over each other method in sigma."""

    n: int
    values: dict[str, np.ndarray]
    sigma: dict[tuple[str, str], np.ndarray]


def star_table(scores: dict[str, Score], draws: int = 1000) -> StarTable:
    """Return the statistics and the paired bootstrap significances ``(a - b)/error`` of all pairs."""
    arrays = star_matrix(scores)
    first = next(iter(arrays.values()))
    n = len(first["size"])
    weight = 1.0 / (np.median([a["size_err"] for a in arrays.values()], axis=0) ** 2 + 0.01**2)
    everything = np.arange(n)
    values = {method: star_statistics(a, everything, weight) for method, a in arrays.items()}
    rng = np.random.default_rng(11)
    drawn = {method: np.empty((draws, 3)) for method in arrays}
    for k in range(draws):
        rows = rng.integers(0, n, n)
        for method, a in arrays.items():
            drawn[method][k] = star_statistics(a, rows, weight)
    sigma = {
        (p, q): (values[p] - values[q]) / np.maximum((drawn[p] - drawn[q]).std(axis=0), 1e-12)
        for p in arrays
        for q in arrays
        if p != q
    }
    return StarTable(n, values, sigma)


# -- tables -------------------------------------------------------------------------------------------------


def truth_ratio(scores: dict[str, Score], method: str) -> float | None:
    """Return the worst ratio of a method's residuals to those of the better of Piff and PSFEx."""
    others = [m for m in EXTERNAL if m in scores and scores[m].parts]
    if method in EXTERNAL or not others:
        return None
    return max(scores[method].rms(key) / min(scores[m].rms(key) for m in others) for key in TRUTH)


def star_lag(table: StarTable, method: str) -> float | None:
    """Return by how many sigma a method is worse than the better of Piff and PSFEx, in its worst residual."""
    others = [m for m in EXTERNAL if m in table.values]
    if method in EXTERNAL or method not in table.values or not others:
        return None
    lags = []
    for k in range(len(STARS)):
        better = min(others, key=lambda m: table.values[m][k])
        lags.append(table.sigma[method, better][k])
    return float(max(lags))


def markdown(name: str, scores: dict[str, Score]) -> str:
    """Return one sample's table."""
    good = {method: score for method, score in scores.items() if score.parts}
    table = star_table(good) if good else StarTable(0, {}, {})
    simulated = name in psf_samples.SIMULATED
    head = ["fit", "stars used"]
    if simulated:
        head += ["dT/T mean", "dT/T rms", "e rms", "profile rms"]
    head += ["set aside: size rms", "e rms", "chi2", "CPU s", "MB", "against the better of Piff and PSFEx"]
    lines = [f"**{psf_samples.TITLES[name]}** ({table.n} stars set aside)", "",
             "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]  # fmt: skip
    for method, score in scores.items():
        cells = [psf_methods.TITLES[method]]
        if not score.parts:
            lines.append(f"| {cells[0]} | {score.failures[0]} |" + " |" * (len(head) - 2))
            continue
        cells.append(f"{score.mean('used'):.0f} of {score.mean('fitted'):.0f}")
        if simulated:
            bias = np.mean([part["truth_size"].mean() for part in score.parts])
            cells += [f"{1e3 * bias:+.2f}e-3", *(f"{1e3 * score.rms(key):.2f}e-3" for key in TRUTH)]
        size, e, chi2 = table.values[method]
        cells += [
            f"{size:.4f}",
            f"{e:.4f}",
            f"{chi2:.3f}",
            f"{score.mean('cpu'):.2f}",
            f"{score.mean('memory'):.0f}",
        ]
        ratio, lag = truth_ratio(good, method) if simulated else None, star_lag(table, method)
        said = [] if ratio is None else [f"{ratio:.2f} x"]
        said += [] if lag is None or simulated else [f"{lag:+.1f} sigma"]
        cells.append(", ".join(said) or "-")
        lines.append("| " + " | ".join(cells) + " |")
        lines += [f"\n{len(score.failures)} fits failed: {score.failures[0]}"] if score.failures else []
    return "\n".join(lines) + "\n"


def put(path: Path, text: str) -> None:
    """Write the tables, between the marks if the file has them."""
    if path.exists():
        old = path.read_text()
        if BEGIN in old and END in old:
            text = old[: old.index(BEGIN)] + f"{BEGIN}\n\n{text}\n" + old[old.index(END) :]
    path.write_text(text)


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=psf_methods.METHODS, default=list(psf_methods.METHODS))
    parser.add_argument(
        "--sample", nargs="+", choices=list(psf_samples.TITLES), default=list(psf_samples.TITLES)
    )
    parser.add_argument("--realizations", type=int, default=4, help="of each simulated sample")
    parser.add_argument("--folds", type=int, default=5, help="of each real sample")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "psf_compare")
    parser.add_argument("--cached", action="store_true", help="fit nothing: tables of what has been done")
    parser.add_argument("--fresh", action="store_true", help="run Piff and PSFEx again")
    parser.add_argument(
        "--no-peers", action="store_true", help="with --only, leave out Piff and PSFEx entirely"
    )
    parser.add_argument("--markdown", type=Path, help="file to write, or to put between its marks")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        method, name, part, parts, out = options.child
        child(method, name, int(part), int(parts), options.cache, Path(out))
        return
    wanted = [m for m in psf_methods.METHODS
              if m in options.only or (m in EXTERNAL and not options.no_peers)]  # fmt: skip
    methods = [m for m in wanted if psf_methods.available(m)]
    for method in set(wanted) - set(methods):
        print(f"{method} is not available here.", file=sys.stderr)
    tables = []
    for name in options.sample:
        parts = options.realizations if name in psf_samples.SIMULATED else options.folds
        scores = {}
        for method in methods:
            found = [
                run(method, name, part, parts, options.cache, options.fresh, options.cached)
                for part in range(parts)
            ]
            got = [values for values in found if values is not None]
            if len(got) < parts:
                print(f"{method}: {parts - len(got)} fits of {name} have not been done.", file=sys.stderr)
                continue
            scores[method] = Score(
                [g for g in got if "failure" not in g], [str(g["failure"]) for g in got if "failure" in g]
            )
        tables.append(markdown(name, scores))
        print(tables[-1], flush=True)
    if options.markdown:
        put(options.markdown, "\n".join(tables))


if __name__ == "__main__":
    main()
