"""``zeropoint fgcm fit``: the global fit of a star list, without a repository."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zeropoint.cli.camera_options import camera_options
from zeropoint.cli.errors import clear_errors
from zeropoint.cli.outputs import require_writable

if TYPE_CHECKING:
    from zeropoint.errors import CalibrationFailure
    from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
    from zeropoint.fgcm.passband_choice import ChosenPassbands
    from zeropoint.quality.verdict import Verdict
    from zeropoint.recipes.fgcm_fit_from_tables import FitProgress, StarListFiles

_LEVELS = ["debug", "info", "warning", "error"]
_PATH = click.Path(path_type=Path)


@click.command(name="fit")
@click.option(
    "--stars",
    "folder",
    metavar="DIR",
    type=_PATH,
    required=True,
    help="Star list, as `zeropoint fgcm stars` writes it.",
)
@click.option(
    "--out", metavar="DIR", type=_PATH, required=True, help="Folder for tables, products and report."
)
@click.option("--lut", metavar="FILE", type=_PATH, help="Look-up table of `zeropoint fgcm lut`.")
@click.option(
    "--throughputs", metavar="FILE", type=_PATH,
    help="Throughputs that `zeropoint fgcm lut --passbands FILE` wrote with it: passbands are then integrated, not interpolated.",
)  # fmt: skip
@camera_options
@click.option("--no-atmosphere", is_flag=True, help="Fit no atmosphere: flats, gray and instrument only.")
@click.option(
    "-c",
    "assignments",
    metavar="FIELD=VALUE",
    multiple=True,
    help="Set a configuration field, e.g. -c washMjds=[59998.5].",
)
@click.option(
    "-C",
    "config_files",
    metavar="FILE.py",
    type=_PATH,
    multiple=True,
    help="Python config file (`config.field = value`).",
)
@click.option(
    "--cycles",
    type=click.IntRange(3, 11),
    default=4,
    show_default=True,
    help="Cycles; the last writes and fits nothing.",
)
@click.option(
    "--threads", type=click.IntRange(1), metavar="N", help="Threads of the fit.  [default: all cores]"
)
@click.option(
    "--resume/--no-resume",
    default=True,
    show_default=True,
    help="Go on after the last cycle that a killed run had done.",
)
@click.option(
    "--name",
    metavar="TEXT",
    help="Name of the survey in the report.  [default: the folder that holds the star list]",
)
@click.option("--no-plots", is_flag=True, help="No plots, in files and in the report.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
@click.option("--log-level", type=click.Choice(_LEVELS), default="warning", show_default=True)
@clear_errors
def fit(
    folder: Path,
    out: Path,
    lut: Path | None,
    throughputs: Path | None,
    no_atmosphere: bool,
    assignments: tuple[str, ...],
    config_files: tuple[Path, ...],
    cycles: int,
    threads: int | None,
    resume: bool,
    name: str | None,
    no_plots: bool,
    as_json: bool,
    log_level: str,
    **camera: Any,
) -> None:
    """Fit atmosphere, instrument and zeropoints of a survey from its star list, without a repository.

    Passbands are those of --lut, or of curves given as for `zeropoint fgcm lut` (--elevation, --band, --filter, ...), which
    are then integrated for each exposure; the site's elevation is the star list's where it has one. Settings that nobody
    gives are taken from the data, and said. DIR receives the tables of each cycle (fgcm_Cycle0_FitParameters.parquet, ...),
    zeropoints, atmospheres and standard stars of the last, photo_calib/VISIT.parquet, transmission_atmosphere/VISIT.parquet,
    fgcm_standard_star.parquet, metrics.json, report.html, plots and the configuration.

    \b
    Exit code: 0 good; 3 usable, see the report; 4 bad or not calibratable; 1 input error; 2 usage.

    \b
    Examples
      zeropoint fgcm fit --stars stars --lut lut.parq --throughputs curves.parq --out fit
      zeropoint fgcm fit --stars stars --elevation 2663 --filter g=g.dat --filter r=r.dat --out fit
      zeropoint fgcm fit --stars stars --no-atmosphere --out fit
    """
    from zeropoint.cli.logs import start_logging

    start_logging(log_level.upper())
    require_writable(out, f"--out {out}")
    from zeropoint.recipes.fgcm_fit_from_tables import FgcmFitFromTables, StarListFiles

    stars = StarListFiles.of(folder)
    config = _config(config_files, assignments, cycles)
    passbands = _passbands(stars, config, lut, throughputs, no_atmosphere, camera)
    click.echo(passbands.description, err=True)
    recipe = FgcmFitFromTables(config, passbands)
    progress = _prepared(recipe, stars)
    for note in progress.notes:
        click.echo(f"  {note}", err=True)
    failure = _run(recipe, stars, progress, out, resume=resume, threads=threads)
    notes = [] if failure is not None else _products(progress, passbands, lut, out)
    from zeropoint.recipes.fgcm_fit_report import fit_report_data, write_fit_report

    title = name or folder.absolute().parent.name or folder.name
    data = fit_report_data(title, config, passbands, progress, failure=failure, notes=notes)
    verdict, metrics = write_fit_report(data, config, out, plots=not no_plots)
    if failure is None:
        recipe.forget(stars, out)
    _echo(verdict, metrics, out, progress, failure, as_json)
    sys.exit(verdict.exit_code)


def _config(files: tuple[Path, ...], assignments: tuple[str, ...], cycles: int) -> FgcmFitCycleConfigBase:
    """Return the configuration with all overrides."""
    from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
    from zeropoint.recipes.overrides import apply_option, load_override_file, parse_assignment

    config = FgcmFitCycleConfigBase()
    config.doMultipleCycles = True
    config.multipleCyclesFinalCycleNumber = cycles - 1
    for path in files:
        load_override_file(config, path)
    for text in assignments:
        apply_option(config, *parse_assignment(text))
    for note in config.retired_fields():
        click.echo(f"warning: {note}", err=True)
    return config


def _passbands(
    stars: StarListFiles,
    config: FgcmFitCycleConfigBase,
    lut: Path | None,
    throughputs: Path | None,
    no_atmosphere: bool,
    camera: dict[str, Any],
) -> ChosenPassbands:
    """Return the passbands that the options name."""
    from zeropoint.errors import InvalidInputError
    from zeropoint.fgcm.fit_passbands import passbands_of_files

    named = [name for name, value in camera.items() if value not in (None, (), False)]
    if lut is not None:
        if no_atmosphere or named:
            raise click.UsageError("--lut holds site and passbands; give it alone, or with --throughputs.")
        for path, command in ((lut, "lut FILE"), (throughputs, "lut FILE --passbands")):
            if path is not None and not path.is_file():
                raise InvalidInputError(
                    f"{path}: there is no such file; `zeropoint fgcm {command}` makes one."
                )
        return passbands_of_files(lut, throughputs, config.passbandIntegrals)
    if throughputs is not None:
        raise click.UsageError("--throughputs belongs to a look-up table: give --lut too.")
    if no_atmosphere:
        if set(named) - {"bands"}:
            raise click.UsageError(
                "--no-atmosphere needs no site and no curves; --band says where a filter is."
            )
        return _gray_passbands(stars, config, camera["bands"])
    return _integrated_passbands(stars, camera)


def _detectors(stars: StarListFiles) -> list[int]:
    """Return the detectors of the star list."""
    import numpy as np

    from zeropoint.fgcm.model.star_tables import StarColumns

    return np.unique(StarColumns(stars.observations, stars.observations.name).column("detector")).tolist()


def _gray_passbands(
    stars: StarListFiles, config: FgcmFitCycleConfigBase, bands: tuple[str, ...]
) -> ChosenPassbands:
    """Return passbands without atmosphere."""
    from zeropoint.cli.camera_options import top_hats
    from zeropoint.fgcm.fit_passbands import without_atmosphere

    visits = stars.read_visits()
    known = dict(config.physicalFilterMap) or dict(visits.meta.get("BANDS", {}))
    there = sorted({str(name) for name in visits["physicalFilter"]})
    middle = {name: 0.5 * (first + last) for name, (first, last) in top_hats(bands).items()}
    return without_atmosphere({name: known.get(name, name) for name in there}, _detectors(stars), middle)


def _integrated_passbands(stars: StarListFiles, camera: dict[str, Any]) -> ChosenPassbands:
    """Return passbands of curves, integrated for each exposure."""
    from zeropoint.cli.camera_options import given_camera
    from zeropoint.fgcm.fit_passbands import passbands_of_curves
    from zeropoint.fgcm.make_lut import MakeLookUpTable

    curves = ("bands", "filters", "filter_detectors")
    if not any(camera[name] for name in curves):
        raise click.UsageError(
            "Give the passbands: --lut FILE, or curves as for `zeropoint fgcm lut` (--filter NAME=FILE, --band NAME=FIRST:LAST), "
            "or --no-atmosphere."
        )
    if camera["elevation"] is None and camera["table"] is None:
        elevation = stars.read_visits().meta.get("ELEVATION")
        if elevation is None:
            raise click.UsageError(
                "The star list does not say where the site is: give --elevation, or --like."
            )
        click.echo(f"--elevation {float(elevation):g}: of the star list's site", err=True)
        camera = {**camera, "elevation": float(elevation)}
    seen = _detectors(stars)
    if camera["detectors"] is None:
        # the fit asks every detector of the camera for stars
        camera = {**camera, "detectors": ",".join(str(number) for number in seen)}
    given = given_camera(**camera)
    unseen = sorted(set(given.curves.sensors) - set(given.detectors))
    if unseen:
        click.echo(
            f"no stars on detectors {', '.join(map(str, unseen))}: they take no part",
            err=True,
        )
    return passbands_of_curves(*MakeLookUpTable(given.config).passbands(**given.arguments()))


def _prepared(recipe: Any, stars: StarListFiles) -> FitProgress:
    """Complete the configuration; what is wrong with it is one line."""
    from lsst.pex.config import FieldValidationError

    from zeropoint.errors import OptionError
    from zeropoint.recipes.config_files import reason

    try:
        return recipe.prepare(stars)
    except FieldValidationError as error:
        raise OptionError(f"configuration: {reason(error)}") from None


def _run(
    recipe: Any, stars: StarListFiles, progress: FitProgress, out: Path, **options: Any
) -> CalibrationFailure | None:
    """Run the cycles, showing each; return why the fit ended early, or None."""
    from zeropoint.cli.counter import counting, stopped_with
    from zeropoint.errors import CalibrationFailure

    is_new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    message = f"{out}: interrupted; the same command goes on after the last cycle that was finished."

    def tell(cycle: int, metrics: Mapping[str, Any]) -> None:
        click.echo(_cycle_line(cycle, metrics, progress.seconds[-1][2]), err=True)

    def tell_resumed(cycle: int) -> None:
        click.echo(f"goes on after cycle {cycle}, which an earlier run had done", err=True)

    with stopped_with(message), counting({}) as report:
        try:
            recipe.run(
                stars, progress, out, on_progress=report, on_cycle=tell, on_resume=tell_resumed, **options
            )
        except CalibrationFailure as failure:
            return failure
        except BaseException:
            if is_new and not any(out.iterdir()):
                out.rmdir()
            raise
    return None


def _cycle_line(cycle: int, metrics: Mapping[str, Any], seconds: float) -> str:
    """Return what a cycle came to in a line."""
    parts = []
    chi2 = metrics.get("chi2_dof_measured")
    if chi2 is not None:
        parts.append(f"χ²/dof {chi2:.3f}")
    bands: Mapping[str, Mapping[str, Any]] = metrics.get("bands", {})
    scatter = {band: numbers.get("repeatability_after") for band, numbers in bands.items()}
    known = [
        f"{band} {1e3 * value:.1f}" for band, value in scatter.items() if value is not None and value == value
    ]
    if known:
        parts.append(f"repeatability {' '.join(known)} mmag")
    used, there = (
        [int(numbers[key]) for numbers in bands.values() if key in numbers]
        for key in ("n_photometric", "n_exposures")
    )
    if used and there:
        parts.append(_exposures(metrics, f"{sum(used):,}", f"{sum(there):,}"))
    return f"cycle {cycle}: {', '.join(parts)} ({seconds:.1f} s)"


def _exposures(metrics: Mapping[str, Any], used: str, there: str) -> str:
    """Return in words how many exposures are in the fit: they are photometric, unless none was found to be."""
    if metrics.get("has_photometric") is False:
        return f"gray of {used} of {there} exposures fitted"
    return f"{used} of {there} exposures photometric"


def _products(progress: FitProgress, passbands: ChosenPassbands, lut: Path | None, out: Path) -> list[str]:
    """Make and write the products of the last cycle; return what there is to say of them."""
    from zeropoint.cli.counter import counting
    from zeropoint.recipes.fgcm_fit_products import atmosphere_of_fit, make_products, write_products

    assert progress.last is not None
    with counting({}) as report:
        products = make_products(
            progress.visits,
            progress.last,
            focal_plane=progress.focal_plane,
            atmosphere=atmosphere_of_fit(passbands.source, lut),
            on_progress=report,
        )
    progress.written += write_products(products, out)
    return list(products.notes)


def _echo(
    verdict: Verdict,
    metrics: Mapping[str, Any],
    out: Path,
    progress: FitProgress,
    failure: CalibrationFailure | None,
    as_json: bool,
) -> None:
    """Say what came of it."""
    from zeropoint.recipes.fgcm_fit_report import EXPOSURES, METRICS, REPORT

    if failure is not None:
        click.echo(f"error: {failure}", err=True)
    if as_json:
        click.echo(json.dumps(metrics, allow_nan=False))
        return
    click.echo(f"{out}: {verdict.level}")
    for reason in verdict.reasons[1:] if failure is not None else verdict.reasons:  # the failure was told
        click.echo(f"  {reason}")
    nights = metrics.get("nights_without_fit")
    if nights:
        told = ", ".join(
            f"{night} ({number} exposure{'s' * (number != 1)})" for night, number in nights.items()
        )
        click.echo(f"  nights without fit, on the standard atmosphere: {told}")
    for band, numbers in metrics["bands"].items():
        click.echo(f"  {_band_line(band, numbers, metrics)}")
    for path in [
        *progress.written,
        *(out / name for name in (EXPOSURES, METRICS, REPORT) if (out / name).exists()),
    ]:
        click.echo(path)


def _band_line(band: str, numbers: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the figures of a band that everyone looks for."""

    def shown(key: str, form: str) -> str:
        value = numbers.get(key)
        return "?" if value is None else format(value, form)

    before = f"{shown('scatter_nominal_mmag', '.1f')} -> " if "scatter_nominal_mmag" in numbers else ""
    return (
        f"{band}: {_exposures(metrics, shown('n_photometric', 'd'), shown('n_exposures', 'd'))}, repeatability "
        f"{before}{shown('scatter_mmag', '.1f')} mmag (noise {shown('noise_mmag', '.1f')}), zeropoints to "
        f"{shown('zeropoint_err_mmag', '.2f')} mmag"
    )
