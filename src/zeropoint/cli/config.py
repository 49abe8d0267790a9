"""``zeropoint config``: the recipe's configuration fields, and translation of Rubin's config files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zeropoint.cli.errors import clear_errors

if TYPE_CHECKING:
    from lsst.pex.config import Config

    from zeropoint.recipes.translate import Translation


class _ListByDefault(click.Group):
    """A group whose first word may be a pattern instead of a command: then the fields are listed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ListByDefault, context_settings={"help_option_names": ["-h", "--help"]})
def config() -> None:
    """List the recipe's configuration fields, or translate Rubin's config files.

    \b
    zeropoint config background          fields whose name contains "background"
    zeropoint config translate FILE.py   rewrite a file that imports lsst.meas... or lsst.pipe.tasks...
    """


@config.command("list")
@click.argument("pattern", required=False, default="")
@click.option("--class-defaults", is_flag=True, help="Show class defaults instead of the production values.")
@clear_errors
def list_fields(pattern: str, class_defaults: bool) -> None:
    """List configuration fields whose name contains PATTERN, with their values.

    Any of them can be set with `-c FIELD=VALUE` or in a Python file given with `-C`.
    """
    from zeropoint.recipes.calibrate_image import CalibrateImageConfig
    from zeropoint.recipes.session import production_config

    current = CalibrateImageConfig() if class_defaults else production_config()
    shown = 0
    for name, value in _fields(current.toDict()):
        if pattern.lower() in name.lower():
            click.echo(f"{name}={value!r}")
            shown += 1
    if not shown:
        click.echo(f"no field contains {pattern!r}", err=True)


def _fields(data: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(data, dict) or (prefix and not data):
        return [(prefix, data)]
    fields: list[tuple[str, Any]] = []
    for key, value in data.items():
        fields += _fields(value, f"{prefix}.{key}" if prefix else str(key))
    return fields


@config.command()
@click.argument("file", metavar="FILE.py", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="OUT.py",
    help="File to write; without it the translation is printed.",
)
@click.option(
    "--task",
    type=click.Choice(["calibrateImage", "characterizeImage", "calibrate"]),
    default="calibrateImage",
    show_default=True,
    help="Task that the file configures.",
)
@clear_errors
def translate(file: Path, out: Path | None, task: str) -> None:
    """Rewrite a config file of one of Rubin's tasks that imports the compiled stack.

    Imports and retargeted classes become ours, with comments and layout kept. Each statement is tried on a
    configuration; one that has no equivalent becomes a comment with the reason. Files that FILE.py loads are
    translated too, and written beside OUT.py. What changed is listed on stderr.

    \b
    zeropoint config translate obs_mycam/config/calibrateImage.py -o mycam/calibrateImage.py

    Exit codes: 0 everything translated, 3 something became a comment, 1 the file cannot be read.
    """
    from zeropoint.recipes.translate import translate_file

    result = translate_file(file, _configuration(task))
    if out is None:
        click.echo(result.text, nl=False)
    else:
        _write(result, out)
    for member in result.family():
        _report(member, task)
    if out is None and any(member.changes or member.dropped for member in result.family()[1:]):
        click.echo("note: loaded files need translation too; -o OUT.py writes them beside OUT.py", err=True)
    sys.exit(3 if any(member.dropped for member in result.family()) else 0)


def _write(result: Translation, out: Path) -> None:
    """Write a translation and the files that it loads, never over the originals."""
    from zeropoint.errors import InvalidInputError

    source = result.path.resolve().parent
    targets: dict[Path, str] = {out: result.text}
    for member in result.family()[1:]:
        path = member.path.resolve()
        if path.is_relative_to(source):
            targets[out.parent / path.relative_to(source)] = member.text
        else:
            member.dropped.append(f"it lies outside {source} and was not written; translate it by itself")
    for target, text in targets.items():
        if target.resolve() in {member.path.resolve() for member in result.family()}:
            if target != out and target.read_text() == text:
                continue
            raise InvalidInputError(
                f"{target} would be written over the file to translate; choose OUT.py in another folder."
            )
    for target, text in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        click.echo(target)


def _configuration(task: str) -> Config:
    """Return the configuration that the files of a task are tried on."""
    if task == "characterizeImage":
        from zeropoint.recipes.characterize_image import CharacterizeImageConfig

        return CharacterizeImageConfig()
    if task == "calibrate":
        from zeropoint.recipes.calibrate import CalibrateConfig

        return CalibrateConfig()
    from zeropoint.recipes.session import production_config

    return production_config()


def _report(member: Translation, task: str) -> None:
    for sentence in member.changes:
        click.echo(f"{member.path}, {sentence}", err=True)
    for sentence in member.dropped:
        click.echo(f"NO EQUIVALENT: {member.path}, {sentence}", err=True)
    if not member.checked:
        click.echo(
            f"note: {member.path} sets no field of {task}'s configuration: only imports were translated, "
            "field names were not tried (--task names another task)",
            err=True,
        )
