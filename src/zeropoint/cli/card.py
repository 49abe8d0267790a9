"""``zeropoint card``: write a camera card from an image, check one, show a built-in one."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from zeropoint.cli.errors import clear_errors


@click.group()
def card() -> None:
    """Write or check a camera card: the YAML file that explains a camera's FITS files."""


@card.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="File to write instead of the terminal.")
@clear_errors
def new(image: Path, out: Path | None) -> None:
    """Write a commented card for IMAGE, with the header keys found in it."""
    from zeropoint.errors import InvalidInputError
    from zeropoint.instruments.template import card_template

    text = card_template(image)
    if out is None:
        click.echo(text, nl=False)
        return
    if out.exists():
        raise InvalidInputError(f"{out}: exists already; remove it or choose another name.")
    out.write_text(text)
    click.echo(str(out))


@card.command()
@click.argument("camera")
@click.argument("images", nargs=-1, metavar="[IMAGE]...", type=click.Path(path_type=Path))
@clear_errors
def check(camera: str, images: tuple[Path, ...]) -> None:
    """Say what the card CAMERA (name or YAML file) provides and lacks.

    It is tried on each IMAGE. Of several, it is also said whether the card tells them apart: give two detectors of one
    exposure, for example.
    """
    from zeropoint.instruments.card import load_card
    from zeropoint.instruments.template import check_card, check_image, check_numbers

    loaded = load_card(camera)
    if loaded.overrides:
        from zeropoint.recipes.overrides import apply_overrides
        from zeropoint.recipes.session import production_config

        apply_overrides(production_config(), loaded.overrides, origin=f"camera card {loaded.source} (config)")
    marks = {"ok": "ok      ", "note": "note    ", "missing": "MISSING "}
    findings = check_card(loaded, None)
    for image in images:
        several = f"{image}: " if len(images) > 1 else ""
        findings += [replace(each, text=several + each.text) for each in check_image(loaded, image)]
    findings += check_numbers(loaded, images)
    for finding in findings:
        click.echo(marks[finding.level] + finding.text)
    if any(finding.level == "missing" for finding in findings):
        sys.exit(1)


@card.command()
@click.argument("name")
@clear_errors
def show(name: str) -> None:
    """Print the built-in card NAME, to copy from."""
    from importlib import resources

    from zeropoint.errors import InvalidInputError
    from zeropoint.instruments.card import BUILTIN_CARDS

    if name not in BUILTIN_CARDS:
        raise InvalidInputError(f"No built-in card {name!r}; there are {', '.join(BUILTIN_CARDS)}.")
    click.echo((resources.files("zeropoint.instruments") / "cards" / f"{name}.yaml").read_text(), nl=False)
