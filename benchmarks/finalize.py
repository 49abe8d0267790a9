"""CPU seconds of final characterization on one simulated detector, beside Piff's own fit of the same stars.

    python benchmarks/finalize.py --width 4072 --height 4000 --stars 300

Simulates an exposure, calibrates it, takes its unblended stars as isolated ones with a tenth reserved, and times what
the task does to one detector: the median of warm runs in one process. Piff gets the stars that the fit here got. Both
models are compared with the noiseless PSF at the places of the reserved stars.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy is imported

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from typing import Any

import numpy as np
from astropy.table import Table
from bench import COSMIC_RAY_DENSITY, STAR_DENSITY, cpu


def calibrated(width: int, height: int, seed: int) -> tuple[Any, Any]:
    """Return a simulated exposure and what calibrating it gives, in electrons."""
    from zeropoint.catalogs.reference_shards import ReferenceShards
    from zeropoint.catalogs.references import ReferenceObjectLoader
    from zeropoint.recipes.calibrate_image import CalibrateImage
    from zeropoint.recipes.session import production_config
    from zeropoint.simulation import SimulationSettings, simulate_exposure

    settings = SimulationSettings(
        width=width,
        height=height,
        n_stars=round(STAR_DENSITY * width * height),
        n_cosmic_rays=round(COSMIC_RAY_DENSITY * width * height),
        seed=seed,
    )
    simulated = simulate_exposure(settings)
    config = production_config()
    config.do_calibrate_pixels = False
    config.astrometry_ref_loader.anyFilterMapsToThis = None
    shards = ReferenceShards("simulated", [lambda: simulated.references])
    result = CalibrateImage(config).run(
        simulated.exposure.copy(),
        astrometry_references=ReferenceObjectLoader(shards, config.astrometry_ref_loader),
        photometry_references=ReferenceObjectLoader(shards, config.photometry_ref_loader),
    )
    return simulated, result


def isolated_sources(stars: Table) -> Table:
    """Return the ids of stars that association would find isolated, a tenth of them reserved."""
    from zeropoint.association.reserve import ReserveIsolatedStars

    alone = (np.asarray(stars["parent"]) == 0) & (np.asarray(stars["deblend_nChild"]) == 0)
    good = alone & np.asarray(stars["detect_isPrimary"])
    good &= np.asarray(stars["base_ClassificationSizeExtendedness_value"]) < 0.1
    ids = np.asarray(stars["id"])[good]
    return Table({"sourceId": ids, "reserved": ReserveIsolatedStars().run(len(ids), extra="r_1")})


def production_config(stars: int) -> Any:
    """Return the shipped configuration, with a limit on the stars of the fit."""
    from zeropoint.recipes.finalize import FinalizeCharacterizationConfig

    config = FinalizeCharacterizationConfig()
    path = resources.files("zeropoint.recipes") / "configs" / "production_finalize.py"
    config.loadFromString(path.read_text(), filename=str(path))
    config.psf_determiner["piff"].maxCandidates = stars
    return config


class Stopwatch:
    """CPU seconds of the steps of a recipe."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.fitted: Any = None

    def watch(self, step: Any, method: str, name: str) -> None:
        """Time a method of a step from now on."""
        function: Callable[..., Any] = getattr(step, method)

        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start
                if name == "PSF fit":
                    self.fitted = arguments

        setattr(step, method, timed)


def size_errors(psf: Any, truth: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return dT/T of a model against the noiseless PSF at some places."""
    from zeropoint.datamodel.psf_model import shapes_of_stamps

    true = np.ascontiguousarray([truth.stamp(a, b, psf.size, centered=True) for a, b in zip(x, y)])
    model, wanted = psf.shapes(x=x, y=y), shapes_of_stamps(true)
    return np.asarray((model.xx + model.yy) / (wanted.xx + wanted.yy) - 1.0)


def show_errors(name: str, errors: np.ndarray) -> None:
    """Print the errors of a model's size at the reserved stars."""
    print(
        f"{name:34s} mean dT/T {errors.mean():9.1e}   mean |dT/T| {np.abs(errors).mean():8.1e}   rms {errors.std():8.1e}"
    )


def main() -> None:
    """Time everything, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=4072)
    parser.add_argument("--height", type=int, default=4000)
    parser.add_argument("--stars", type=int, default=300, help="at most so many stars for the fit")
    parser.add_argument("--repeats", type=int, default=3, help="warm runs")
    parser.add_argument("--no-piff", action="store_true", help="do not run Piff")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    from zeropoint.psf.piff_determiner import PiffPsfDeterminer
    from zeropoint.recipes.finalize import FinalizeCharacterization
    from zeropoint.recipes.finalize.products import detector_catalog, star_table
    from zeropoint.recipes.finalize.schema import Sources

    simulated, calibration = calibrated(options.width, options.height, options.seed)
    stars = calibration.stars
    sources = Sources(stars.to_table(), stars.footprints)
    isolated = isolated_sources(sources.table)
    recipe = FinalizeCharacterization(production_config(options.stars))
    recipe.prepare(sources)
    watch = Stopwatch()
    for step, method, name in (
        (recipe.make_psf_candidates, "run", "candidates"),
        (recipe.psf_determiner, "determine_psf", "PSF fit"),
        (recipe.measurement, "run", "measurement"),
        (recipe.measure_ap_corr, "run", "aperture corrections"),
    ):
        watch.watch(step, method, name)
    rows: list[dict[str, float]] = []
    for _ in range(options.repeats + 1):
        watch.seconds.clear()
        total, result = cpu(
            lambda: recipe.compute_psf_and_ap_corr_map(1, 0, replace(calibration.exposure), sources, isolated)
        )
        writing, _ = cpu(lambda done=result: (detector_catalog(done).to_arrow(), star_table(done)))
        rows.append({**watch.seconds, "total": total, "tables": writing})
    numbers = result.metadata()
    print(f"{options.width} x {options.height} pixels, {len(stars)} sources, outcome {result.outcome}")
    print({name: numbers[name] for name in ("n_candidates", "n_reserved", "n_used", "psf_psfSpatialOrder")})
    print(f"{'CPU seconds':34s} {'cold':>7s} {'warm':>7s}")
    for name in rows[0]:
        print(f"{name:34s} {rows[0][name]:7.2f} {np.median([row[name] for row in rows[1:]]):7.2f}")
    measured = result.measured
    reserved = measured["calib_psf_reserved"]
    x, y = measured["slot_Centroid_x"][reserved], measured["slot_Centroid_y"][reserved]
    show_errors("here", size_errors(result.psf, simulated.psf, x, y))
    if not options.no_piff:
        config = recipe.psf_determiner.config.copy()
        config.solver = "piff"
        seconds, fit = cpu(lambda: PiffPsfDeterminer(config).determine_psf(*watch.fitted))
        print(f"{'Piff, the fit alone':34s} {'':7s} {seconds:7.2f}   ({int(fit.used.sum())} stars)")
        show_errors("Piff", size_errors(fit.psf, simulated.psf, x, y))


if __name__ == "__main__":
    main()
