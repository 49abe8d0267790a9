"""``zeropoint ingest-images``: bring post-ISR images into a repository."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zeropoint.cli.errors import clear_errors, one_line

if TYPE_CHECKING:
    from zeropoint.butler.ingest import IngestReport
    from zeropoint.instruments.card import CameraCard

_TITLES = {"read": "headers read", "write": "images registered"}


@click.command(name="ingest-images")
@click.argument("repo")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--camera",
    required=True,
    metavar="NAME_OR_CARD",
    help="Registered camera, or a camera card, which is registered if need be.",
)
@click.option(
    "--transfer",
    type=click.Choice(("direct", "copy")),
    default="direct",
    show_default=True,
    help="direct: files stay where they are and are read in place; copy: REPO gets its own copies, as visit images.",
)
@click.option(
    "--update", is_flag=True, help="Ingest anew what is there already, with the present card and files."
)
@click.option(
    "--mixed", is_flag=True, help="Accept files whose headers name different cameras or telescopes."
)
@click.option(
    "-j", "processes", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Processes."
)
@clear_errors
def ingest_images(
    repo: str,
    files: tuple[Path, ...],
    camera: str,
    transfer: str,
    update: bool,
    mixed: bool,
    processes: int,
) -> None:
    """Ingest post-ISR FILEs into REPO and define their visits.

    FILEs are a camera's own FITS images (its card says how to read them), or post-ISR visit images that lsst-images
    wrote. Dates, filter, outline on the sky and numbers come from the headers. Doing it twice is harmless. A bad file is
    reported, and the others are ingested; the exit code then is 1.

    \b
    Examples
      zeropoint ingest-images REPO night1/*.fits --camera MyCam -j 4
      zeropoint ingest-images REPO corr/*/fpC-*.fit.gz --camera sdss
    """
    from zeropoint.butler.collection_chains import defaults_chain
    from zeropoint.butler.ingest import ingest_images as ingest
    from zeropoint.butler.repository import open_repository
    from zeropoint.cli.counter import counting

    butler = open_repository(repo, writeable=True)
    card = _card(butler, repo, camera)
    with counting(_TITLES) as progress:
        report = ingest(
            butler,
            files,
            card,
            transfer=transfer,
            processes=processes,
            update=update,
            mixed=mixed,
            on_progress=progress,
        )
    for _, problem in report.failures:
        click.echo(f"error: {one_line(Exception(problem))}", err=True)
    instrument = str(card.get("instrument"))
    click.echo(f"{instrument}: {_summary(report)} -> {defaults_chain(instrument)}")
    for note, count in sorted(report.notes.items()):
        click.echo(f"  {count} image{'s' * (count > 1)}: {note}")
    for warning, count in sorted(report.warnings.items()):
        click.echo(f"warning: {count} image{'s' * (count > 1)}: {warning}", err=True)
    if report.companions:
        n = len(report.companions)
        click.echo(f"  {n} file{'s' * (n > 1)} skipped: named as the card's mask or variance files are")
    if report.failures:
        click.echo(f"  {len(report.failures)} of {len(files)} files were not ingested")
        sys.exit(1)


def _card(butler: Any, repo: str, camera: str) -> CameraCard:
    """Return the card of a registered camera; register a card that is given as such."""
    from zeropoint.butler.cameras import card_content, card_of, registered_cameras
    from zeropoint.butler.cameras import register_camera as register
    from zeropoint.butler.instruments import check_instrument_name
    from zeropoint.butler.pipelines import pipeline_text
    from zeropoint.cli.register_camera import echo_pipeline
    from zeropoint.errors import InvalidInputError
    from zeropoint.instruments.card import BUILTIN_CARDS, load_card

    known = registered_cameras(butler)
    is_card = camera in BUILTIN_CARDS or Path(camera).suffix in (".yaml", ".yml")
    if camera in known or not is_card:
        return card_of(butler, camera)
    card = load_card(camera)
    name = check_instrument_name(card.get("instrument"), card.source)
    if name not in known:
        # an override that no recipe has must not leave a camera without pipeline behind
        pipeline_text(card)
        register(butler, card)
        click.echo(f"{name}: registered")
        echo_pipeline(repo, card)
    elif card_content(card_of(butler, name))["data"] != card_content(card)["data"]:
        raise InvalidInputError(
            f"{name} is registered with another version of {camera}: say --camera {name} for that one, or replace it with "
            f"`zeropoint register-camera {repo} {camera}`."
        )
    return card_of(butler, name)


def _summary(report: IngestReport) -> str:
    parts = [f"{len(report.ingested)} image{'s' * (len(report.ingested) != 1)} ingested"]
    if report.updated:
        parts.append(f"{len(report.updated)} ingested anew")
    if report.known:
        parts.append(f"{len(report.known)} there already")
    return f"{', '.join(parts)} ({len(report.visits)} visit{'s' * (len(report.visits) != 1)})"
