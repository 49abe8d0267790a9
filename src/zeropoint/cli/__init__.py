"""The ``zeropoint`` command: one file per sub-command, imported only when it runs."""

from __future__ import annotations

import os

import click

from zeropoint.cli._lazy import LazyGroup

__all__ = ["main"]

# one image is one thread's work; threads of the linear algebra only get in each other's way.  Must be set before
# numpy is imported, and is inherited by worker processes.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

#: Sub-command -> (module, attribute, one line of help).
COMMANDS = {
    "calibrate": (
        "zeropoint.cli.calibrate",
        "calibrate",
        "Calibrate post-ISR images: PSF, WCS, zeropoint, stars, report.",
    ),
    "demo": (
        "zeropoint.cli.demo",
        "demo",
        "Simulate one exposure, calibrate it, compare with the truth.",
    ),
    "card": ("zeropoint.cli.card", "card", "Write or check a camera card."),
    "config": ("zeropoint.cli.config", "config", "List the configuration fields of the recipe."),
    "create-repo": ("zeropoint.cli.create_repo", "create_repo", "Create a Butler repository."),
    "register-camera": (
        "zeropoint.cli.register_camera",
        "register_camera",
        "Register a camera in a repository, and write its pipeline.",
    ),
    "ingest-images": (
        "zeropoint.cli.ingest_images",
        "ingest_images",
        "Bring post-ISR images into a repository, with their visits.",
    ),
    "references": (
        "zeropoint.cli.references",
        "references",
        "Build a reference catalogue of any tables; say what one holds.",
    ),
    "ingest-references": (
        "zeropoint.cli.ingest_references",
        "ingest_references",
        "Bring a reference catalogue into a repository.",
    ),
    "ingest-throughputs": (
        "zeropoint.cli.ingest_throughputs",
        "ingest_throughputs",
        "Bring a camera's transmission curves into a repository.",
    ),
    "make-skymap": ("zeropoint.cli.make_skymap", "make_skymap", "Register a sky map in a repository."),
    "run": (
        "zeropoint.cli.run",
        "run",
        "Run a pipeline on a repository, in several processes, only what is missing.",
    ),
    "fgcm": ("zeropoint.cli.fgcm", "fgcm", "Global calibration from tables: look-up table, star list, fit."),
    "doctor": (
        "zeropoint.cli.doctor",
        "doctor",
        "Check this machine, and a repository, and say what to do.",
    ),
    "pipelines": ("zeropoint.cli.pipelines", "pipelines", "List the shipped pipelines and their paths."),
}


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        import zeropoint

        click.echo(f"zeropoint {zeropoint.__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--version", is_flag=True, callback=_version, expose_value=False, is_eager=True, help="Show the version."
)
def main() -> None:
    """Calibrate astronomical survey images.

    From a post-ISR CCD image of any camera and a reference catalogue to a calibrated image in nanojansky, a
    star catalogue, a PSF model, a WCS, a zeropoint with its uncertainty, and a report to look at.

    \b
    Begin with        zeropoint demo
    Your own images   zeropoint card new IMAGE > mycamera.yaml
                      zeropoint calibrate IMAGE --camera mycamera.yaml --references gaia.parquet

    Exit codes: 0 good, 1 input error, 2 usage, 3 usable (with caveats), 4 bad or not calibratable.
    """
