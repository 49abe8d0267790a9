"""``zeropoint create-repo``: make a Butler repository."""

from __future__ import annotations

from pathlib import Path

import click

from zeropoint.cli.errors import clear_errors


@click.command(name="create-repo")
@click.argument("repo", type=click.Path(path_type=Path))
@click.option(
    "--db",
    metavar="URL",
    help="Database of the registry, e.g. postgresql://user@host/database; default: an SQLite file in REPO.",
)
@click.option("--namespace", metavar="NAME", help="Schema in that database, one for each repository.")
@click.option(
    "--lossy16",
    is_flag=True,
    help="Quantise the pixels of calibrated images to a 16th of their noise (a quarter of the size); default: lossless.",
)
@clear_errors
def create_repo(repo: Path, db: str | None, namespace: str | None, lossy16: bool) -> None:
    """Create the Butler repository REPO, a new or an empty directory.

    Doing it twice is harmless. SQLite serves one machine; take PostgreSQL where many write at once.

    \b
    Examples
      zeropoint create-repo REPO
      zeropoint create-repo REPO --db postgresql://me@dbhost/surveys --namespace night1

    \b
    Next
      zeropoint register-camera REPO mycamera.yaml
      zeropoint ingest-images REPO night1/*.fits --camera MyCam
      zeropoint ingest-references REPO gaia gaia.parquet
    """
    from zeropoint.butler.repository import create_repository

    created = create_repository(repo, db=db, namespace=namespace, lossy16=lossy16)
    click.echo(f"{repo}: {'created' if created else 'is a repository already; nothing to do'}")
