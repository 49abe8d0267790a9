"""``zeropoint fgcm``: global calibration without a repository; one file per sub-command, imported only when it runs."""

from __future__ import annotations

import click

from zeropoint.cli._lazy import LazyGroup

__all__ = ["fgcm"]

#: Sub-command -> (module, attribute, one line of help).
COMMANDS = {
    "fit": (
        "zeropoint.cli.fgcm_fit",
        "fit",
        "Fit atmosphere, instrument and zeropoints of a survey from its star list.",
    ),
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


@click.group(cls=LazyGroup, lazy=COMMANDS)
def fgcm() -> None:
    """Calibrate a whole survey at once: atmosphere, instrument and zeropoints (forward global calibration).

    These commands need no repository; in one, the same steps are tasks of the pipeline fgcm.yaml.
    """
