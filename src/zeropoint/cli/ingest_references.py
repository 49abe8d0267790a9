"""``zeropoint ingest-references``: bring a reference catalogue into a repository."""

from __future__ import annotations

from pathlib import Path

import click

from zeropoint.cli.errors import clear_errors
from zeropoint.cli.references import column_map_option, parse_column_map

_TITLES = {"read": "rows read", "write": "shards written", "compare": "shards compared"}


@click.command(name="ingest-references")
@click.argument("repo")
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@column_map_option
@click.option(
    "--depth", type=click.IntRange(3, 12), default=7, show_default=True, help="Depth of the HTM trixels."
)
@clear_errors
def ingest_references(repo: str, name: str, path: Path, column_map: str | None, depth: int) -> None:
    """Ingest the reference catalogue at PATH into REPO under NAME.

    PATH is one table (FITS, parquet, ECSV, VOTable, CSV or text, perhaps gzipped), a directory that `zeropoint references
    build` wrote of many, or one of HTM shards in Rubin's format, of which DIRECTORY/NAME chooses one if it holds several.
    Its rows go into collection refcats/NAME as one table per trixel, and become an input of every registered camera.
    Doing it twice is harmless.

    \b
    Examples
      zeropoint ingest-references REPO gaia_dr3 gaia_field.parquet
      zeropoint ingest-references REPO apass apass.csv \\
          --column-map "{ra: RAJ2000, dec: DEJ2000, bands: {r: {mag: r_mag, mag_err: e_r_mag}}}"

    Tables may be larger than memory, except VOTables, text other than CSV and ECSV, and compressed FITS.
    """
    from zeropoint.butler.refcats import ingest_references as ingest
    from zeropoint.butler.repository import open_repository
    from zeropoint.cli.counter import counting, stopped_with

    given = parse_column_map(column_map)
    butler = open_repository(repo, writeable=True)
    after = f"{name}: interrupted; run the same command again."
    with stopped_with(after), counting(_TITLES) as report:
        done = ingest(butler, name, path, given, depth, on_progress=report)
    rows = f"{done.n_rows:,} rows in {done.n_shards:,} shards (htm{done.depth})"
    click.echo(
        f"{name}: these {rows} are already there" if done.was_there else f"{name}: {rows} -> {done.run}"
    )
    motion = "proper motions" if done.has_proper_motion else "no proper motions with known units and epoch"
    click.echo(f"  bands {', '.join(done.bands)}; {motion}")
    if done.n_dropped:
        click.echo(f"  left out for want of a position: {done.n_dropped:,}")
