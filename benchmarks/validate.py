"""Full-size truth test: a 4072 x 4000 simulated exposure against what is required of it.

Prints a table (and with ``--markdown FILE`` writes it) and exits with 1 if a requirement is missed.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from zeropoint.cli.worker import Job, calibrate_and_write, check_common
from zeropoint.simulation import SimulationSettings, simulate_exposure, write_simulation
from zeropoint.simulation.comparison import compare_with_truth

#: About 5,000 stars above 5 sigma, 470 cosmic rays; everything else as in `SimulationSettings`.
FULL = SimulationSettings(width=4072, height=4000, n_stars=7800, n_cosmic_rays=470, seed=7)


def requirements(figures: dict[str, float], metrics: dict[str, float]) -> list[tuple[str, str, str, bool]]:
    """Return (quantity, measured, required, met)."""
    rows: list[tuple[str, str, str, bool]] = []

    def least(name: str, key: str, limit: float, form: str = "{:.4f}") -> None:
        rows.append((name, form.format(figures[key]), f">= {limit}", figures[key] >= limit))

    def most(name: str, value: float, limit: float, form: str = "{:.3f}") -> None:
        rows.append((name, form.format(value), f"<= {limit:.4g}", bool(abs(value) <= limit)))

    least("completeness, isolated, S/N 7-10", "completeness_7_10", 0.95)
    least("completeness, isolated, S/N > 10", "completeness_above_10", 0.98)
    least("purity", "purity", 0.97)
    for band in ("10_20", "20_50", "50_100", "100_200", "above_200"):
        if f"n_{band}" not in figures:
            continue
        n = figures[f"n_{band}"]
        for name, kind, unit, floor, count in (
            ("PSF flux scatter", "flux", "mmag", 2.0, n),
            ("centroid scatter per axis", "centroid", "mas", 0.5, 2 * n),
        ):
            scatter = figures[f"{kind}_scatter_{unit}_{band}"]
            limit = float(np.hypot(1.10 * figures[f"{kind}_bound_{unit}_{band}"], floor))
            # a scatter from the median absolute deviation of n values is itself uncertain by 1.17/sqrt(n)
            error = 1.17 * scatter / np.sqrt(count)
            rows.append(
                (
                    f"{name}, S/N {band.replace('_', '-')} ({unit})",
                    f"{scatter:.2f} +- {error:.2f}",
                    f"<= {limit:.2f} within its error",
                    bool(scatter - error <= limit),
                )
            )
    most("PSF flux bias, S/N 50-100 minus > 200 (mmag)", figures["flux_bias_drift_mmag"], 3.0)
    most("PSF model, mean dT/T", figures["psf_dt_mean"], 5e-4, "{:.2e}")
    most("PSF model, ellipticity rms", figures["psf_de_rms"], 7e-4, "{:.2e}")
    for name in ("dT", "de1", "de2"):
        pull = metrics.get(f"psf_reserved_{name}_pull")
        if pull is not None:
            most(f"reserved stars, {name} over its error", pull, 3.0)
    most("WCS, rms East (mas)", figures["wcs_rms_east_mas"], 1.5)
    most("WCS, rms North (mas)", figures["wcs_rms_north_mas"], 1.5)
    most("zeropoint error (mmag)", figures["zeropoint_error_mmag"], 2.0)
    least("cosmic rays found, > 8 sigma", "cosmic_rays_found_above_8_sigma", 0.98)
    rows.append(
        ("cosmic rays found, 5-8 sigma", f"{figures['cosmic_rays_found_5_to_8_sigma']:.4f}", "stated", True)
    )
    most("damaged core pixels of stars with S/N > 100", figures["star_core_pixels_damaged"], 0.0, "{:.0f}")
    rows.extend(
        (key.replace("_", " "), f"{figures[key]:.3f}", "0.9 to 1.1", 0.9 <= figures[key] <= 1.1)
        for key in ("flux_pull", "position_pull")
    )
    return rows


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", type=Path, help="also write the table here")
    parser.add_argument("--seed", type=int, default=FULL.seed)
    arguments = parser.parse_args()
    settings = SimulationSettings(**{**FULL.__dict__, "seed": arguments.seed})
    simulated = simulate_exposure(settings)
    with TemporaryDirectory() as folder:
        image, references = write_simulation(simulated, folder)
        job = Job("simcam", references, None, Path(folder), (), (), "WARNING")
        check_common(job)
        outcome, run = calibrate_and_write(job, (image,), "simulated", None)
    if run.result.failure is not None:
        print(f"failed: {run.result.failure}")
        return 1
    figures = compare_with_truth(simulated, run.result).values
    lines = [
        f"{settings.width} x {settings.height} pixels of {settings.pixel_scale} arcsec, FWHM {settings.fwhm_arcsec} arcsec "
        f"(quadratic, {settings.psf_variation:.0%}), sky {settings.sky_electrons:g} e-, read noise "
        f"{settings.read_noise_electrons:g} e-, gain {settings.gain:g} e-/ADU, {settings.n_stars} stars of "
        f"{settings.magnitude_bright:g}-{settings.magnitude_faint:g} mag with N ~ 10^({settings.magnitude_slope:g} m), "
        f"{int((np.asarray(simulated.stars['snr']) > 5).sum())} above S/N 5, {settings.n_cosmic_rays} cosmic rays; reference "
        f"errors {settings.reference_position_error_mas:g} mas and {settings.reference_magnitude_error:g} mag, initial WCS "
        f"off by {settings.wcs_offset_arcsec:g} arcsec and {settings.wcs_rotation_deg:g} degree, seed {settings.seed}. "
        f"Verdict: {outcome['verdict']}.",
        "",
        "| quantity | measured | required | |",
        "|---|---|---|---|",
    ]
    rows = requirements(figures, outcome["metrics"])
    lines += [
        f"| {name} | {value} | {limit} | {'yes' if met else 'NO'} |" for name, value, limit, met in rows
    ]
    text = "\n".join(lines)
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text("# Validation on a simulated exposure\n\n" + text + "\n")
    return 0 if all(met for *_, met in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
