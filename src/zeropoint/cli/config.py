"""``zeropoint config``: the recipe's configuration fields, and translation of Rubin's config files."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zeropoint.cli.errors import clear_errors

if TYPE_CHECKING:
    from lsst.pex.config import Config

    from zeropoint.recipes.translate import Translation


#: Task after those of single images, by its name -> module and class of its configuration.
_LATER_TASKS = {
    "isolatedStarAssociation": (
        "zeropoint.tasks.isolated_star_association",
        "IsolatedStarAssociationConfig",
    ),
    "finalize_characterization": (
        "zeropoint.tasks.finalize_characterization",
        "FinalizeCharacterizationConfig",
    ),
    "finalize_characterization_detector": (
        "zeropoint.tasks.finalize_characterization",
        "FinalizeCharacterizationDetectorConfig",
    ),
    "updateVisitSummary": ("zeropoint.tasks.update_visit_summary", "UpdateVisitSummaryConfig"),
    "fgcmMakeLut": ("zeropoint.tasks.fgcm_make_lut", "FgcmMakeLutConfig"),
    "fgcmBuildStarsTable": ("zeropoint.tasks.fgcm_build_stars_table", "FgcmBuildStarsTableConfig"),
    "fgcmBuildFromIsolatedStars": (
        "zeropoint.tasks.fgcm_build_from_isolated_stars",
        "FgcmBuildFromIsolatedStarsConfig",
    ),
    "fgcmFitCycle": ("zeropoint.tasks.fgcm_fit_cycle", "FgcmFitCycleConfig"),
    "fgcmOutputProducts": ("zeropoint.tasks.fgcm_output_products", "FgcmOutputProductsConfig"),
    "fgcmOutputIlluminationCorrection": (
        "zeropoint.tasks.fgcm_output_illumination_correction",
        "FgcmOutputIlluminationCorrectionConfig",
    ),
    "fgcmCalibrateTractTable": (
        "zeropoint.tasks.fgcm_calibrate_tract_table",
        "FgcmCalibrateTractTableConfig",
    ),
}
_TASK = click.option(
    "--task",
    type=click.Choice(["calibrateImage", "characterizeImage", "calibrate", *_LATER_TASKS]),
    default="calibrateImage",
    show_default=True,
    help="Task whose configuration it is.",
)


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
    zeropoint config --task calibrate photoCal   the same of the older pair's tasks
    zeropoint config translate FILE.py   rewrite a file that imports lsst.meas... or lsst.pipe.tasks...
    """


@config.command("list")
@click.argument("pattern", required=False, default="")
@click.option("--class-defaults", is_flag=True, help="Show class defaults instead of the production values.")
@_TASK
@clear_errors
def list_fields(pattern: str, class_defaults: bool, task: str) -> None:
    """List configuration fields whose name contains PATTERN, with their values.

    Any of them can be set with `-c FIELD=VALUE` or in a Python file given with `-C`. Choices of a registry
    (selectors, PSF determiners, plugins) stand in brackets: in a shell, put quotes around the whole.

    \b
    zeropoint config list 'starSelector["objectSize"]'
    zeropoint calibrate ... -c 'psf_measure_psf.starSelector["objectSize"].widthMin=0.5'
    """
    from zeropoint.recipes.calibrate_image import CalibrateImageConfig

    class_only = class_defaults and task == "calibrateImage"
    current = CalibrateImageConfig() if class_only else _configuration(task)
    shown = 0
    for name, value in _fields(current):
        if pattern.lower() in name.lower():
            click.echo(f"{name}={value}")
            shown += 1
    if not shown:
        click.echo(f"no field contains {pattern!r}", err=True)


def _fields(config: Config, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every field as ``-c`` takes it, and its value."""
    from lsst.pex.config import (
        ConfigChoiceField,
        ConfigDictField,
        ConfigField,
        ConfigurableField,
        DictField,
        ListField,
        RegistryField,
    )

    for name, field in config._fields.items():
        value, path = getattr(config, name), f"{prefix}{name}"
        if isinstance(field, (RegistryField, ConfigChoiceField)):
            chosen = sorted(value.names) if field.multi else [value.name]
            yield (f"{path}.names", repr(chosen)) if field.multi else (f"{path}.name", repr(value.name))
            for entry in [*chosen, *sorted(set(value.types) - set(chosen))]:
                if entry is not None:
                    yield from _fields(value[entry], f'{path}["{entry}"].')
        elif isinstance(field, ConfigurableField):
            yield path, value.target.__name__
            yield from _fields(value.value, f"{path}.")
        elif isinstance(field, ConfigField):
            yield from _fields(value, f"{path}.")
        elif isinstance(field, ConfigDictField):
            yield path, repr({key: entry.toDict() for key, entry in value.items()})
        elif isinstance(field, (DictField, ListField)) and value is not None:
            yield path, repr((dict if isinstance(field, DictField) else list)(value))
        else:
            yield path, repr(value)


@config.command()
@click.argument("file", metavar="FILE.py", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="OUT.py",
    help="File to write; without it the translation is printed.",
)
@_TASK
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
    if task in _LATER_TASKS:
        module, name = _LATER_TASKS[task]
        made: Config = getattr(importlib.import_module(module), name)()
        return made
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
