"""CPU seconds of every stage on one simulated exposure, beside sep on the same image.

Prints a plain table: the recipe's stages (median of warm runs in one process), what sep needs for the stages
that it has too, peak memory, and the wall time of reading, writing, the report and ``zeropoint --help``.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy is imported

import argparse
import multiprocessing
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import sep

#: Stars per pixel of which about 5,000 are detectable on 4072 x 4000 pixels, and cosmic rays per pixel.
STAR_DENSITY, COSMIC_RAY_DENSITY = 7800 / (4072 * 4000), 470 / (4072 * 4000)
#: Radii of sep's ten circular apertures, pixels: the defaults of base_CircularApertureFlux.
RADII = (3.0, 4.5, 6.0, 9.0, 12.0, 17.0, 25.0, 35.0, 50.0, 70.0)


def simulate(folder: str, height: int, width: int, seed: int) -> None:
    """Write one exposure and its references; in a process of its own, whose memory does not count."""
    from zeropoint.simulation import SimulationSettings, simulate_exposure, write_simulation

    settings = SimulationSettings(
        width=width,
        height=height,
        n_stars=round(STAR_DENSITY * width * height),
        n_cosmic_rays=round(COSMIC_RAY_DENSITY * width * height),
        seed=seed,
    )
    write_simulation(simulate_exposure(settings), folder)


def cpu(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of a call, and its result."""
    start = time.process_time()
    value = function()
    return time.process_time() - start, value


def resident() -> float:
    """Return the resident memory of this process, GB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e9


class PluginTimer:
    """Adds up the CPU seconds of the measurement plugins of the star phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def watch(self, recipe: Any) -> None:
        """Wrap the plugins of a recipe."""
        for plugin in recipe.star_phase.measurement.plugins:
            plugin.measure = self._timed(plugin.name, plugin.measure)

    def _timed(self, name: str, measure: Callable[[Any], None]) -> Callable[[Any], None]:
        def timed(context: Any) -> None:
            """Measure, and add the CPU seconds to the plugin's."""
            self.seconds[name] = self.seconds.get(name, 0.0) + cpu(lambda: measure(context))[0]

        return timed


def run_recipe(image: Path, references: Path, repeats: int) -> dict[str, Any]:
    """Run the recipe once cold and then warm; return medians of the warm runs."""
    from zeropoint.catalogs.reference_source import ReferenceSource
    from zeropoint.catalogs.references import ReferenceObjectLoader
    from zeropoint.datamodel.ids import CatalogIdGenerator
    from zeropoint.instruments.card import load_card
    from zeropoint.instruments.reader import load_image
    from zeropoint.recipes.calibrate_image import CalibrateImage
    from zeropoint.recipes.session import production_config

    config = production_config()
    config.astrometry_ref_loader.anyFilterMapsToThis = None
    source = ReferenceSource.open(references)
    loaded = load_image(image, load_card("simcam"))
    ids = CatalogIdGenerator(1, 0, *loaded.ids)
    recipe = CalibrateImage(config)
    timer = PluginTimer()
    timer.watch(recipe)
    before = resident()
    stages: dict[str, list[float]] = {}
    plugins: dict[str, list[float]] = {}
    totals: list[float] = []
    cold = 0.0
    for k in range(repeats + 1):
        exposure = loaded.exposure.copy()
        timer.seconds.clear()
        seconds, result = cpu(
            lambda exposure=exposure: recipe.run(
                exposure,
                astrometry_references=ReferenceObjectLoader(source, config.astrometry_ref_loader),
                photometry_references=ReferenceObjectLoader(source, config.photometry_ref_loader),
                id_generator=ids,
            )
        )
        if k == 0:
            cold = seconds
            continue
        totals.append(seconds)
        for stage in result.stages:
            stages.setdefault(stage.name, []).append(stage.cpu_seconds)
        for name, value in timer.seconds.items():
            plugins.setdefault(name, []).append(value)
    return {
        "stages": {name: float(np.median(values)) for name, values in stages.items()},
        "plugins": {name: float(np.median(values)) for name, values in plugins.items()},
        "total": float(np.median(totals)),
        "cold": cold,
        "stars": len(result.stars),
        "before": before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "image": loaded.exposure,
    }


def sep_once(image: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Return CPU seconds of sep's steps on an image, and its number of objects."""
    seconds: dict[str, float] = {}
    seconds["background"], background = cpu(lambda: sep.Background(image, mask=mask))
    seconds["subtract"], flat = cpu(lambda: image - background.back())
    rms = background.globalrms
    seconds["extract"], objects = cpu(lambda: sep.extract(flat, 1.5, err=rms, mask=mask))
    x, y = objects["x"], objects["y"]
    seconds["apertures"], _ = cpu(
        lambda: [sep.sum_circle(flat, x, y, radius, err=rms, mask=mask) for radius in RADII]
    )
    half_light, _ = sep.flux_radius(flat, x, y, 6.0 * objects["a"], 0.5, mask=mask, subpix=5)
    sigma = np.where(np.isfinite(half_light) & (half_light > 0), half_light, 2.0) * 2.0 / 2.35
    seconds["centroids"], _ = cpu(lambda: sep.winpos(flat, x, y, sigma, mask=mask))
    return seconds | {"objects": len(objects)}


def run_sep(exposure: Any, repeats: int) -> dict[str, float]:
    """Return medians of `sep_once` on the same pixels."""
    sep.set_extract_pixstack(2_000_000)
    bad = (exposure.mask & 1) != 0
    runs = [sep_once(exposure.image, bad) for _ in range(repeats)]
    return {name: float(np.median([run[name] for run in runs])) for name in runs[0]}


def run_files(image: Path, references: Path, folder: Path) -> dict[str, float]:
    """Return wall seconds of reading, writing and the report, once everything is warm."""
    from zeropoint.cli.worker import Job, calibrate_and_write, check_common

    job = Job("simcam", references, None, folder / "out", (), (), "WARNING")
    check_common(job)
    calibrate_and_write(job, (image,), "bench", None)
    seconds = calibrate_and_write(job, (image,), "bench", None)[1].seconds
    return {name: seconds[name] for name in ("read", "write", "report")}


def run_help() -> float:
    """Return the wall seconds of ``zeropoint --help``, the median of five."""
    command = [str(Path(sys.executable).with_name("zeropoint")), "--help"]
    walls = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        walls.append(time.perf_counter() - start)
    return float(np.median(walls))


def machine() -> str:
    """Return processor, cores, and versions."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    packages = ", ".join(f"{name} {version(name)}" for name in ("zeropoint", "numpy", "numba", "sep"))
    return f"{model}, {os.cpu_count()} cores; Python {platform.python_version()}, {packages}; one thread"


def table(recipe: dict[str, Any], peer: dict[str, Any]) -> list[str]:
    """Return the lines of the table of stages."""
    lines = [f"{'stage':<36}{'zeropoint':>10}{'sep':>8}{'ratio':>7}  (CPU seconds)"]

    def line(name: str, own: float, other: float | None = None, note: str = "") -> None:
        """Append a row: CPU seconds of our own, of the peer, their ratio, a remark."""
        ratio = f"{other:8.3f}{own / other:7.2f}" if other else " " * 15
        lines.append(f"{name:<36}{own:10.3f}{ratio}  {note}".rstrip())

    for name, seconds in recipe["stages"].items():
        line(name, seconds)
    line("total", recipe["total"], note=f"first run, loading compiled kernels: {recipe['cold']:.1f}")
    lines.append("comparable:")
    stages, plugins = recipe["stages"], recipe["plugins"]
    back = peer["background"] + peer["subtract"]
    line("  background", stages["background"], back, "Background and its subtraction")
    found = stages["star_detection"] + stages["deblend"]
    line(
        "  detection and deblending", found, peer["extract"], "extract at 1.5 sigma, deblending at 32 levels"
    )
    apertures = plugins["base_CircularApertureFlux"]
    line("  circular apertures", apertures, peer["apertures"], "ten calls of sum_circle, subpix 5")
    line("  windowed centroids", plugins["base_SdssCentroid"], peer["centroids"], "SdssCentroid; winpos")
    lines.append("star measurement by plugin:")
    for name, seconds in sorted(plugins.items(), key=lambda item: -item[1]):
        if seconds >= 0.01:
            line("  " + name, seconds)
    return lines


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", default="4072x4000", help="WIDTHxHEIGHT or SIDE, pixels")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    parts = [int(part) for part in arguments.size.lower().split("x")]
    width, height = parts[0], parts[-1]
    warnings.simplefilter("ignore")
    print(machine(), flush=True)
    with TemporaryDirectory() as name:
        folder = Path(name)
        child = multiprocessing.get_context("spawn").Process(
            target=simulate, args=(name, height, width, arguments.seed)
        )
        child.start()
        child.join()
        if child.exitcode != 0:
            return 1
        image, references = folder / "simulated.fits", folder / "simulated_references.fits"
        recipe = run_recipe(image, references, arguments.repeats)
        peer = run_sep(recipe.pop("image"), arguments.repeats)
        files = run_files(image, references, folder)
    print(
        f"{width} x {height} pixels, seed {arguments.seed}: {recipe['stars']} rows, sep finds "
        f"{peer['objects']:.0f}; medians of {arguments.repeats} warm runs\n"
    )
    print("\n".join(table(recipe, peer)))
    print(
        f"\nmemory: {recipe['before']:.2f} GB before, peak {recipe['peak']:.2f} GB, "
        f"growth {recipe['peak'] - recipe['before']:.2f} GB"
    )
    print("wall seconds: " + ", ".join(f"{name} {value:.2f}" for name, value in files.items()))
    print(f"wall seconds of zeropoint --help: {run_help():.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
