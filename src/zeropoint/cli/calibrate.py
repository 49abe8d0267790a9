"""``zeropoint calibrate``: images in, calibrated images, tables and reports out."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import click

from zeropoint.cli.errors import clear_errors
from zeropoint.cli.logs import start_logging

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--camera",
    required=True,
    metavar="CARD",
    help="Camera card: sdss, ztf, microobservatory, simcam, generic, or a YAML file (`zeropoint card new`).",
)
@click.option(
    "--references",
    required=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Reference catalogue: a directory of HTM shards in Rubin's format, or one table (parquet, FITS, ECSV, CSV).",
)
@click.option(
    "--photometry-references",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Another catalogue for the photometry.",
)
@click.option("--snaps", is_flag=True, help="The two images are snaps of one visit: add them.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("."),
    show_default=True,
    metavar="DIR",
    help="Output folder.",
)
@click.option(
    "-c",
    "overrides",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Set a configuration field, e.g. -c psf_detection.thresholdValue=8 (`zeropoint config` lists them).",
)
@click.option(
    "-C",
    "config_files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE.py",
    help="Python config file, as Rubin's (`config.field = value`).",
)
@click.option(
    "-j", "processes", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Processes."
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of metrics per image on stdout.")
@click.option(
    "--log-level",
    type=click.Choice(_LEVELS, case_sensitive=False),
    default="WARNING",
    show_default=True,
    help="Log level (stderr).",
)
@clear_errors
def calibrate(
    images: tuple[Path, ...],
    camera: str,
    references: Path,
    photometry_references: Path | None,
    snaps: bool,
    out: Path,
    overrides: tuple[str, ...],
    config_files: tuple[Path, ...],
    processes: int,
    as_json: bool,
    log_level: str,
) -> None:
    """Calibrate post-ISR FITS images against a reference catalogue.

    For each IMAGE the output folder receives STEM.visit_image.fits (nJy, with PSF, WCS, aperture
    corrections), STEM.background.fits, STEM.stars.parquet, STEM.psf_stars.parquet,
    STEM.astrometry_matches.parquet, STEM.photometry_matches.parquet, STEM.metrics.json and
    STEM.report.html. An image that cannot be calibrated gets the products that exist, and a report that says
    why.

    \b
    Exit code: 0 good; 3 usable, see the caveats; 4 bad or not calibratable; 1 input error; 2 usage.
    With several images the worst counts, in the order 1, 4, 3, 0; one bad image does not stop the others.
    """
    if snaps and len(images) != 2:
        raise click.UsageError("--snaps takes exactly two images.")
    start_logging(log_level.upper())
    groups: list[tuple[Path, ...]] = [images] if snaps else [(path,) for path in images]
    _require_distinct_stems(groups)
    # read what is common to all images first: an error there is an error before any work starts
    from zeropoint.cli.worker import Job, check_common

    job = Job(
        camera,
        references,
        photometry_references,
        out,
        tuple(config_files),
        tuple(overrides),
        log_level.upper(),
    )
    existed = out.exists()
    check_common(job)
    from zeropoint.cli.progress import run_all

    outcomes = run_all(job, groups, processes)
    _print(outcomes, as_json)
    if not existed and not any(out.iterdir()):
        out.rmdir()
    codes = {outcome["exit_code"] for outcome in outcomes}
    sys.exit(next(code for code in (1, 4, 3, 0) if code in codes))


def _require_distinct_stems(groups: list[tuple[Path, ...]]) -> None:
    from zeropoint.errors import InvalidInputError

    seen: dict[str, Path] = {}
    for group in groups:
        stem = file_stem(group[0])
        if stem in seen:
            raise InvalidInputError(
                f"{seen[stem]} and {group[0]} would write the same outputs ({stem}.*); calibrate them into different folders."
            )
        seen[stem] = group[0]


def file_stem(path: Path) -> str:
    """Return a file's name without FITS and compression suffixes."""
    stem = path.name
    for _ in range(2):
        stem = re.sub(r"\.(fits?|fz|gz|bz2)$", "", stem, flags=re.IGNORECASE)
    return stem


def _print(outcomes: list[dict[str, Any]], as_json: bool) -> None:
    for outcome in outcomes:
        if "error" in outcome:
            click.echo(f"error: {outcome['error']}", err=True)
        if as_json:
            click.echo(json.dumps(outcome, sort_keys=True, allow_nan=False))
            continue
        if "error" in outcome:
            continue
        click.echo(f"{outcome['stem']}: {outcome['verdict']}{outcome['summary']}")
        for reason in outcome["reasons"]:
            click.echo(f"  {reason}")
        for path in outcome["files"]:
            click.echo(path)
