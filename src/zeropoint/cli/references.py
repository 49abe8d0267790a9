"""``zeropoint references``: build a reference catalogue of any tables, and say what one holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zeropoint.cli.errors import clear_errors

if TYPE_CHECKING:
    from zeropoint.catalogs.reference_manifest import Manifest
    from zeropoint.catalogs.reference_source import ReferenceSource

_BUILD_TITLES = {"files": "files read", "read": "rows read", "write": "shards written"}
_VERIFY_TITLES = {"verify": "shards verified"}


def _at_most_one(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> str | None:
    """Return the value of an option that must not be given twice: the last would silently replace the others."""
    if len(values) > 1:
        raise click.BadParameter("is given more than once; put all columns into one map.")
    return values[0] if values else None


column_map_option = click.option(
    "--column-map",
    metavar="FILE_OR_YAML",
    multiple=True,
    callback=_at_most_one,
    help="YAML file, or YAML text, that says which column is what; what it lacks is guessed.",
)


@click.group()
def references() -> None:
    """Build reference catalogues and look into them."""


@references.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument(
    "tables", metavar="TABLE...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True)
)
@column_map_option
@click.option("--name", help="Name of the catalogue.  [default: that of DIRECTORY]")
@click.option(
    "--depth", type=click.IntRange(3, 12), default=7, show_default=True, help="Depth of the HTM trixels."
)
@click.option(
    "--rows-in-memory",
    type=click.IntRange(20_000),
    default=1_000_000,
    show_default=True,
    metavar="N",
    help="Rows held in memory at a time; of 18 columns, a million need about 1 GB.",
)
@click.option(
    "--keep-duplicates", is_flag=True, help="Keep rows that repeat both id and position of another one."
)
@click.option(
    "--overwrite", is_flag=True, help="Remove the catalogue that is in DIRECTORY, or its beginning."
)
@clear_errors
def build(
    directory: Path,
    tables: tuple[Path, ...],
    column_map: str | None,
    name: str | None,
    depth: int,
    rows_in_memory: int,
    keep_duplicates: bool,
    overwrite: bool,
) -> None:
    """Turn TABLEs into a reference catalogue in DIRECTORY: one file per HTM trixel, and a manifest.

    TABLEs are FITS, parquet, CSV, ECSV, VOTable or text tables, perhaps compressed, or directories of such; together they
    may be larger than memory. Columns are recognised by name and unit. Interrupted in whatever way, the same command goes
    on where it stopped. The result serves `zeropoint calibrate --references DIRECTORY` and `zeropoint ingest-references`.

    \b
    Examples
      zeropoint references build gaia_dr3 gaia/GaiaSource_*.csv.gz
      zeropoint references build apass apass.fits \\
          --column-map "{ra: RAJ2000, dec: DEJ2000, bands: {r: {mag: r_mag, mag_err: e_r_mag}}}"
    """
    from zeropoint.catalogs.reference_build import build_references
    from zeropoint.cli.counter import counting, stopped_with

    after = f"{directory}: interrupted; the same command goes on where it stopped."
    with stopped_with(after), counting(_BUILD_TITLES) as report:
        done = build_references(
            directory,
            tables,
            parse_column_map(column_map),
            name=name,
            depth=depth,
            chunk_rows=rows_in_memory,
            keep_duplicates=keep_duplicates,
            overwrite=overwrite,
            on_progress=report,
        )
    manifest = done.manifest
    rows = f"{manifest.n_rows:,} rows in {len(manifest.shards):,} shards (htm{manifest.depth})"
    state = (
        "is there already with these" if done.was_there else "finished, with" if done.resumed else "built,"
    )
    click.echo(f"{manifest.name}: {state} {rows} -> {done.folder}")
    _echo_content(manifest)


@references.command()
@click.argument("catalogue", type=click.Path(path_type=Path))
@column_map_option
@click.option("--verify", is_flag=True, help="Read every shard and compare it with its checksum.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@clear_errors
def info(catalogue: Path, column_map: str | None, verify: bool, as_json: bool) -> None:
    """Say what a reference CATALOGUE holds: a built one, shards in Rubin's format, or a table.

    For a table it says which column is taken for what, with which unit.
    """
    from zeropoint.catalogs.reference_source import ReferenceSource

    if verify:
        _verify(catalogue)
    source = ReferenceSource.open(catalogue, parse_column_map(column_map))
    facts = _facts(source)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    _echo_facts(source, facts)
    if verify:
        click.echo(f"  all {facts['n_shards']:,} shards match their checksums")


def _facts(source: ReferenceSource) -> dict[str, Any]:
    """Return what is known of a catalogue without reading all of it, as plain values."""
    from zeropoint.catalogs.reference_source import sky_area_deg2

    mapping, manifest = source.column_map, source.manifest
    facts: dict[str, Any] = {
        "name": source.name,
        "path": str(source.path),
        "kind": "built" if manifest is not None else "shards" if source.shards else "table",
        "bands": source.bands,
        "has_proper_motion": source.has_proper_motion,
        "columns": {rule.target: rule.describe() for rule in mapping.rules},
        "unused_columns": source.unused_columns,
    }
    if source.shards:
        facts["n_shards"] = len(source.shards)
        facts["depths"] = sorted({shard.depth for shard in source.shards})
        facts["area_deg2"] = sky_area_deg2(source.shards)
    if manifest is not None:
        facts |= {
            "n_rows": manifest.n_rows,
            "n_dropped": manifest.n_dropped,
            "n_duplicates": manifest.n_duplicates,
            "n_repeated_ids": manifest.n_repeated_ids,
            "n_bytes": manifest.n_bytes,
            "n_fluxes": dict(manifest.bands),
            "columns": {
                name: " ".join(filter(None, (column["unit"], f"from {column['from']}")))
                for name, column in manifest.columns.items()
            },
            "inputs": list(manifest.plan["inputs"]),
            "sha256": manifest.sha256,
            "zeropoint": manifest.zeropoint,
        }
    return facts


def _echo_facts(source: ReferenceSource, facts: dict[str, Any]) -> None:
    """Print the facts for people."""
    if not source.shards:
        click.echo(f"{source.name}: one table, {source.path}")
    else:
        depths = ", ".join(f"htm{depth}" for depth in facts["depths"])
        rows = f"{facts['n_rows']:,} rows in " if "n_rows" in facts else ""
        click.echo(
            f"{source.name}: {rows}{facts['n_shards']:,} shards ({depths}), which touch about {facts['area_deg2']:.4g} "
            "square degrees"
        )
    if source.manifest is not None:
        _echo_content(source.manifest)
        inputs = facts["inputs"]
        more = f" and {len(inputs) - 1:,} more files" if len(inputs) > 1 else ""
        click.echo(f"  {facts['n_bytes'] / 1e6:,.1f} MB, made of {inputs[0]}{more}")
    else:
        motion = (
            "proper motions" if source.has_proper_motion else "no proper motions with known units and epoch"
        )
        click.echo(f"  bands {', '.join(source.bands)}; {motion}")
    width = max(map(len, facts["columns"]))
    for name, text in facts["columns"].items():
        click.echo(f"  {name:{width}}  {text}".rstrip())
    if facts["unused_columns"]:
        click.echo(f"  not recognised, not used: {', '.join(facts['unused_columns'])}")


def _echo_content(manifest: Manifest) -> None:
    """Print bands, motions, and what was left out."""
    bands = ", ".join(f"{band} ({count:,})" for band, count in manifest.bands.items())
    motion = (
        "proper motions" if manifest.has_proper_motion else "no proper motions with known units and epoch"
    )
    covariances = " with covariances" if manifest.format_version == 2 else ""
    click.echo(f"  bands (rows with a flux) {bands}; {motion}{covariances}")
    for count, what in (
        (manifest.n_dropped, "left out for want of a position"),
        (manifest.n_duplicates, "left out because id and position were there already"),
        (manifest.n_repeated_ids, "kept although another row has the same id"),
    ):
        if count:
            click.echo(f"  {what}: {count:,}")


def _verify(folder: Path) -> None:
    """Compare all shards with their checksums; exit with 1 if one is damaged."""
    from zeropoint.catalogs.reference_manifest import read_manifest, verify_shards
    from zeropoint.catalogs.reference_source import ReferenceSource
    from zeropoint.cli.counter import counting
    from zeropoint.errors import InvalidInputError

    manifest = read_manifest(folder) if folder.is_dir() else None
    if manifest is None:
        ReferenceSource.open(folder)  # what is not there, or not understood, is said so
        raise InvalidInputError(
            f"{folder}: has no checksums to verify; only what `zeropoint references build` wrote has."
        )
    with counting(_VERIFY_TITLES) as report:
        problems = list(verify_shards(folder, manifest, lambda k, n: report("verify", k, n)))
    for problem in problems:
        click.echo(f"error: {problem}", err=True)
    if problems:
        click.echo(f"error: {len(problems)} of {len(manifest.shards)} shards are damaged", err=True)
        sys.exit(1)


def parse_column_map(text: str | None) -> Any:
    """Return a column map given as YAML text, of one line in braces or of several; else it is the name of a file."""
    if text is None or not (text.lstrip().startswith("{") or "\n" in text.strip()):
        return text
    import yaml

    from zeropoint.errors import InvalidInputError

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInputError(f"The column map is not valid YAML: {error}") from error
