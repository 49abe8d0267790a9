"""``zeropoint fgcm``: global calibration without a repository; one file per sub-command, imported only when it runs."""

from __future__ import annotations

import importlib

import click

__all__ = ["fgcm"]

#: Sub-command -> (module, attribute, one line of help).
COMMANDS = {
    "lut": (
        "zeropoint.cli.fgcm_lut",
        "lut",
        "Make the look-up table of a site and a camera from throughput files.",
    ),
    "stars": (
        "zeropoint.cli.fgcm_stars",
        "stars",
        "Build the star list of a survey from tables of observations and visits.",
    ),
}


class _LazyGroup(click.Group):
    """A group whose commands are imported on use, so that ``--help`` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.group(cls=_LazyGroup)
def fgcm() -> None:
    """Calibrate a whole survey at once: atmosphere, instrument and zeropoints (forward global calibration).

    These commands need no repository; in one, the same steps are tasks of the pipeline fgcm.yaml.
    """
