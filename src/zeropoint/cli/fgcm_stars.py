"""``zeropoint fgcm stars``: the star list of a survey from tables of observations and visits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zeropoint.cli.errors import clear_errors
from zeropoint.cli.outputs import require_writable
from zeropoint.cli.references import parse_column_map

if TYPE_CHECKING:
    from zeropoint.catalogs.reference_raw import RawTable
    from zeropoint.fgcm.survey_tables import StarsFromTablesConfig
    from zeropoint.recipes.fgcm_build_stars import SurveyStars

_LEVELS = ["debug", "info", "warning", "error"]
_TABLE = click.Path(path_type=Path)


@click.command()
@click.option("--observations", metavar="TABLE", type=_TABLE, required=True, help="One row per observation.")
@click.option("--visits", metavar="TABLE", type=_TABLE, required=True, help="One row per visit.")
@click.option(
    "--column-map",
    metavar="FILE_OR_YAML",
    help="YAML file, or YAML text, that says which column is what; columns that bear the name of what they are need none.",
)
@click.option(
    "--references", metavar="PATH", type=_TABLE, help="Reference catalogue, as for `zeropoint calibrate`."
)
@click.option("--reference-column-map", metavar="FILE_OR_YAML", help="Its columns; what it lacks is guessed.")
@click.option("--out", metavar="DIR", type=_TABLE, required=True, help="Folder for the star list.")
@click.option(
    "-c",
    "assignments",
    metavar="FIELD=VALUE",
    multiple=True,
    help="Set a configuration field, e.g. -c matchRadius=2.",
)
@click.option(
    "-C",
    "config_files",
    metavar="FILE.py",
    type=_TABLE,
    multiple=True,
    help="Python config file (`config.field = value`).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the accounting as JSON.")
@click.option("--log-level", type=click.Choice(_LEVELS), default="warning", show_default=True)
@clear_errors
def stars(
    observations: Path,
    visits: Path,
    column_map: str | None,
    references: Path | None,
    reference_column_map: str | None,
    out: Path,
    assignments: tuple[str, ...],
    config_files: tuple[Path, ...],
    as_json: bool,
    log_level: str,
) -> None:
    """Match the observations of a survey into unique stars, without a repository.

    Tables are FITS, parquet, CSV, ECSV, VOTable or text, perhaps compressed. Needed are visit, ra, dec and flux with error
    (instFlux, instFluxErr, counts) or magnitude with error (instMag, instMagErr, for one second) of each observation, and
    the filter (physicalFilter) of each visit; what else the tables do not say is listed, and counted in the accounting.
    DIR receives fgcmVisitCatalog, fgcmStarObservations, fgcmStarIds, fgcmStarIndices and, with --references,
    fgcmReferenceStars as parquet, and accounting.json.

    \b
    Example
      zeropoint fgcm stars --observations obs.parquet --visits exposures.csv --out stars \\
          --column-map "{observations: {instFlux: FLUX, instFluxErr: E_FLUX}, visits: {physicalFilter: FILT},
                         filters: {SDSS-R: r}}"
    """
    from lsst.pex.config import FieldValidationError

    from zeropoint.cli.counter import counting, stopped_with
    from zeropoint.cli.logs import start_logging
    from zeropoint.errors import InvalidInputError
    from zeropoint.fgcm.column_map import SurveyColumns
    from zeropoint.recipes.config_files import reason
    from zeropoint.recipes.fgcm_stars_from_tables import FgcmStarsFromTables, write_star_list

    start_logging(log_level.upper())
    require_writable(out, f"--out {out}")
    config = _config(config_files, assignments, references is not None)
    columns = SurveyColumns.from_mapping(_mapping(column_map))
    loader = None
    if references is not None:
        from zeropoint.catalogs.reference_source import ReferenceSource
        from zeropoint.catalogs.references import ReferenceObjectLoader

        loader = ReferenceObjectLoader(
            ReferenceSource.open(references, parse_column_map(reference_column_map))
        )
    tables = _open(observations), _open(visits)
    name = "" if references is None else references.stem
    with stopped_with(f"{out}: interrupted; nothing was written."), counting({}) as report:
        try:
            result = FgcmStarsFromTables(config).run(
                *tables, columns, references=loader, reference_name=name, on_progress=report
            )
        except FieldValidationError as error:
            raise InvalidInputError(f"configuration: {reason(error)}") from error
    write_star_list(result, out)
    if as_json:
        click.echo(json.dumps(result.accounting.to_meta()))
    else:
        _echo(result, out)


def _config(
    files: tuple[Path, ...], assignments: tuple[str, ...], has_references: bool
) -> StarsFromTablesConfig:
    """Return the configuration with all overrides."""
    from zeropoint.fgcm.survey_tables import StarsFromTablesConfig
    from zeropoint.recipes.overrides import apply_override, load_override_file, parse_assignment

    config = StarsFromTablesConfig()
    config.doReferenceMatches = has_references
    for path in files:
        load_override_file(config, path)
    for text in assignments:
        field, value = parse_assignment(text)
        apply_override(config, field, value, origin=f"-c {text}")
    return config


def _mapping(text: str | None) -> Any:
    """Return the column map as it is given, in a file or as text."""
    import yaml

    from zeropoint.errors import InvalidInputError

    given = parse_column_map(text)
    if isinstance(given, str):
        try:
            given = yaml.safe_load(Path(given).read_text())
        except yaml.YAMLError as error:
            raise InvalidInputError(f"{text}: not valid YAML: {error}") from error
    if given is not None and not isinstance(given, dict):
        raise InvalidInputError(f"The column map must be a mapping, not {given!r}.")
    return given


def _open(path: Path) -> RawTable:
    """Open a table of the survey."""
    from zeropoint.catalogs.reference_formats import open_table
    from zeropoint.errors import InvalidInputError

    if not path.exists():
        raise InvalidInputError(f"{path} does not exist; check the path.")
    return open_table(path)


def _echo(stars: SurveyStars, out: Path) -> None:
    """Say what came of it."""
    absent = stars.visits.meta["ABSENT"]
    n_observations = len(stars.star_indices)
    click.echo(
        f"{len(stars.star_ids):,} stars with {n_observations:,} observations in {len(stars.visits):,} visits -> {out}"
    )
    for line in stars.accounting.lines():
        click.echo(f"  {line}")
    if absent:
        click.echo(f"  not in the tables: {', '.join(absent)}")
    if stars.visits.meta["SECANT_ONE"]:
        click.echo(
            f"  secant 1 for want of hour angle and site, or airmass: {stars.visits.meta['SECANT_ONE']:,} visits"
        )
