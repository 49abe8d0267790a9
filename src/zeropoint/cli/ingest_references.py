"""``zeropoint ingest-references``: bring a reference catalogue into a repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zeropoint.cli.errors import clear_errors

_TITLES = {"read": "rows read", "write": "shards written", "compare": "shards compared"}


@click.command(name="ingest-references")
@click.argument("repo")
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--column-map",
    metavar="FILE_OR_YAML",
    help="YAML file, or YAML text in braces, that says which column is what; what it lacks is guessed.",
)
@click.option(
    "--depth", type=click.IntRange(3, 12), default=7, show_default=True, help="Depth of the HTM trixels."
)
@clear_errors
def ingest_references(repo: str, name: str, path: Path, column_map: str | None, depth: int) -> None:
    """Ingest the reference catalogue at PATH into REPO under NAME.

    PATH is one table (FITS, parquet, ECSV, VOTable, CSV or text, perhaps gzipped) or a directory of HTM shards in
    Rubin's format, of which DIRECTORY/NAME chooses one if it holds several. Its rows go into collection refcats/NAME
    as one table per trixel, and become an input of every registered camera. Doing it twice is harmless.

    \b
    Examples
      zeropoint ingest-references REPO gaia_dr3 gaia_field.parquet
      zeropoint ingest-references REPO apass apass.csv \\
          --column-map "{ra: RAJ2000, dec: DEJ2000, bands: {r: {mag: r_mag, mag_err: e_r_mag}}}"

    Parquet and uncompressed FITS tables may be larger than memory; others should not.
    """
    from zeropoint.butler.refcats import ingest_references as ingest
    from zeropoint.butler.repository import open_repository
    from zeropoint.cli.counter import counting

    given = _column_map(column_map)
    butler = open_repository(repo, writeable=True)
    with counting(_TITLES) as report:
        done = ingest(butler, name, path, given, depth, on_progress=report)
    rows = f"{done.n_rows:,} rows in {done.n_shards:,} shards (htm{done.depth})"
    click.echo(
        f"{name}: these {rows} are already there" if done.was_there else f"{name}: {rows} -> {done.run}"
    )
    motion = "proper motions" if done.has_proper_motion else "no proper motions with known units and epoch"
    click.echo(f"  bands {', '.join(done.bands)}; {motion}")
    if done.n_dropped:
        click.echo(f"  left out for want of a position: {done.n_dropped:,}")


def _column_map(text: str | None) -> Any:
    """Return a column map given as YAML text in braces; anything else is the name of a file."""
    if text is None or not text.lstrip().startswith("{"):
        return text
    import yaml

    from zeropoint.errors import InvalidInputError

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInputError(f"The column map {text!r} is not valid YAML: {error}") from error
