"""``zeropoint register-camera``: bring a camera into a repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zeropoint.cli.errors import clear_errors

if TYPE_CHECKING:
    from zeropoint.instruments.card import CameraCard

_OUTCOMES = {
    "registered": "registered",
    "updated": "card replaced; images ingested before keep the old one until `ingest-images --update`",
    "unchanged": "is registered with this card already; nothing to do",
}


@click.command(name="register-camera")
@click.argument("repo")
@click.argument("card")
@clear_errors
def register_camera(repo: str, card: str) -> None:
    """Register the camera that CARD describes in REPO, and write its pipelines.

    CARD is a built-in camera card (sdss, ztf, microobservatory, simcam) or a YAML file of yours (`zeropoint card new`);
    its `instrument:` must be a plain name. Doing it again with a changed card replaces the card.

    \b
    Examples
      zeropoint register-camera REPO sdss
      zeropoint register-camera REPO mycamera.yaml
    """
    from zeropoint.butler.cameras import register_camera as register
    from zeropoint.butler.collection_chains import defaults_chain
    from zeropoint.butler.pipelines import pipeline_text
    from zeropoint.butler.repository import open_repository
    from zeropoint.instruments.card import load_card

    content = load_card(card)
    # an override that no recipe has must not leave a camera without pipeline behind
    pipeline_text(content)
    butler = open_repository(repo, writeable=True)
    camera = register(butler, content)
    click.echo(f"{camera.instrument}: {_OUTCOMES[camera.outcome]}")
    click.echo(f"  inputs of pipelines: {defaults_chain(camera.instrument)}")
    echo_pipeline(repo, content)


def echo_pipeline(repo: str, card: CameraCard) -> None:
    """Write a camera's pipelines into a repository and say where, or print the first if that is no directory."""
    from zeropoint.butler.pipelines import pipeline_text, write_pipeline

    if Path(repo).is_dir():
        path = write_pipeline(Path(repo), card)
        click.echo(f"  pipeline: {path}")
        click.echo(f"  as far as the visit summary: {path.with_name('recalibrate.yaml')}")
        click.echo(f"  of the older pair of tasks: {path.with_name('legacy.yaml')}")
        click.echo(f"  of the global calibration: {path.with_name('fgcm.yaml')}")
        click.echo(f"  of both in one: {path.with_name('global.yaml')}")
    else:
        click.echo(f"  pipeline, to be saved as a file:\n{pipeline_text(card)}")
