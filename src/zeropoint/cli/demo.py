"""``zeropoint demo``: simulate, calibrate, compare with the truth. Needs no data."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zeropoint.cli.errors import clear_errors

if TYPE_CHECKING:
    from zeropoint.recipes.calibrate_image import CalibratedImage
    from zeropoint.simulation import SimulatedExposure


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    metavar="DIR",
    help="Output folder.",
)
@click.option(
    "--size", type=click.IntRange(512, 4096), default=2048, show_default=True, help="Image side, pixels."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Random seed of the simulated sky.")
@clear_errors
def demo(out: Path, size: int, seed: int) -> None:
    """Simulate one exposure with known truth, calibrate it, and say how close the results are.

    Stars with a PSF that varies over the image, sky gradient, cosmic rays, and a header WCS that is off by 3
    arcsec and 0.05 degree. The simulated image and its reference catalogue stay in the output folder, so that
    the command line can be tried on them.
    """
    from zeropoint.cli.progress import stage_bar
    from zeropoint.cli.worker import Job, calibrate_and_write, check_common
    from zeropoint.simulation import SimulationSettings, simulate_exposure, write_simulation

    start = time.perf_counter()
    scale = (size / 2048) ** 2
    settings = SimulationSettings(
        width=size, height=size, n_stars=round(1900 * scale), n_cosmic_rays=round(120 * scale), seed=seed
    )
    click.echo(
        f"simulating {size} x {size} pixels: {settings.n_stars} stars, FWHM {settings.fwhm_arcsec} arcsec, "
        f"sky {settings.sky_electrons:g} e-, {settings.n_cosmic_rays} cosmic rays",
        err=True,
    )
    simulated = simulate_exposure(settings)
    image, references = write_simulation(simulated, out)
    job = Job("simcam", references, None, out, (), (), "WARNING")
    check_common(job)
    with stage_bar([(image,)]) as on_stage:
        outcome, run = calibrate_and_write(job, (image,), "simulated", lambda name: on_stage(0, name))
    if run.result.failure is not None:
        click.echo(f"error: {'; '.join(outcome['reasons'])}", err=True)
        sys.exit(outcome["exit_code"])
    _print(simulated, run.result, outcome)
    click.echo(f"\nreport: {out / 'simulated.report.html'}")
    click.echo(
        f"{time.perf_counter() - start:.0f} s in all; try: zeropoint calibrate {image} --camera simcam --references {references} --out {out}"
    )
    sys.exit(outcome["exit_code"])


def _print(simulated: SimulatedExposure, result: CalibratedImage, outcome: dict[str, Any]) -> None:
    """Compare with the truth and print one line a figure."""
    from zeropoint.simulation.comparison import compare_with_truth

    figures = compare_with_truth(simulated, result)
    click.echo(f"verdict: {outcome['verdict']}{outcome['summary']}")
    for reason in outcome["reasons"]:
        click.echo(f"  {reason}")
    click.echo("\nagainst the truth:")
    rows = (
        ("zeropoint, light within 12 pixels", "zeropoint_error_mmag", "{:+.2f} mmag"),
        ("WCS, rms East", "wcs_rms_east_mas", "{:.2f} mas"),
        ("WCS, rms North", "wcs_rms_north_mas", "{:.2f} mas"),
        ("PSF size, mean dT/T", "psf_dt_mean", "{:+.1e}"),
        ("PSF ellipticity, rms", "psf_de_rms", "{:.1e}"),
        ("PSF flux bias, S/N > 200", "flux_bias_mmag_above_200", "{:+.2f} mmag"),
        ("PSF flux scatter, S/N > 200", "flux_scatter_mmag_above_200", "{:.2f} mmag"),
        ("  its photon-noise bound", "flux_bound_mmag_above_200", "{:.2f} mmag"),
        ("centroid scatter, S/N > 200", "centroid_scatter_mas_above_200", "{:.2f} mas"),
        ("  its photon-noise bound", "centroid_bound_mas_above_200", "{:.2f} mas"),
        ("completeness, S/N 7-10", "completeness_7_10", "{:.1%}"),
        ("completeness, S/N > 10", "completeness_above_10", "{:.1%}"),
        ("purity", "purity", "{:.1%}"),
        ("cosmic rays found (> 8 sigma)", "cosmic_rays_found_above_8_sigma", "{:.1%}"),
        ("bright-star core pixels damaged", "star_core_pixels_damaged", "{:.0f}"),
    )
    for label, key, form in rows:
        if key in figures.values:
            click.echo(f"  {label:<35}{form.format(figures[key])}")
