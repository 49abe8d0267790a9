"""A small survey as a user would make it: simulated images, a repository filled by our commands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from click.testing import CliRunner
from lsst.ctrl.mpexec.cli.pipetask import cli as pipetask

from zeropoint.cli import main
from zeropoint.simulation import SimulationSettings, simulate_exposure, write_simulation

__all__ = ["CATALOGUES", "DATA_QUERY", "Images", "fill", "run_pipetask", "simulate_images", "zeropoint"]

#: Overrides that name the reference catalogue of `fill`, as ``pipetask`` takes them.
CATALOGUES = tuple(
    part
    for connection in ("astrometry_ref_cat", "photometry_ref_cat")
    for part in ("-c", f"calibrateImage:connections.{connection}=simulated")
)
#: All images.
DATA_QUERY = "instrument='SimCam'"


@dataclass(frozen=True)
class Images:
    """Files of the simulated camera.

    Parameters
    ----------
    images
        (visit, detector) -> file.
    references
        Reference table.
    """

    images: dict[tuple[int, int], Path]
    references: Path


def simulate_images(folder: Path, visits: tuple[int, ...], detectors: tuple[int, ...]) -> Images:
    """Write one scene as the images of several visits and detectors; each costs no simulation of its own."""
    simulated = simulate_exposure(
        SimulationSettings(
            width=600, height=600, n_stars=260, magnitude_bright=17.0, n_cosmic_rays=20, seed=1
        )
    )
    images = {}
    for visit in visits:
        for detector in detectors:
            exposure = simulated.exposure.copy()
            exposure.visit_info = replace(exposure.visit_info, visit=visit, exposure=visit)
            settings = replace(simulated.settings, visit=visit, detector=detector)
            images[visit, detector], references = write_simulation(
                replace(simulated, exposure=exposure, settings=settings), folder, f"visit{visit}_{detector}"
            )
    return Images(images, references)


def zeropoint(*arguments: object) -> str:
    """Run ``zeropoint ARGUMENTS`` in this process; return its output."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def fill(repository: Path, images: Images, *options: str) -> None:
    """Create a repository with options of ``zeropoint create-repo``, and bring the images into it."""
    zeropoint("create-repo", repository, *options)
    zeropoint("register-camera", repository, "simcam")
    zeropoint("ingest-images", repository, *images.images.values(), "--camera", "SimCam")
    zeropoint("ingest-references", repository, "simulated", images.references)


def run_pipetask(repository: Path, output: str, query: str = DATA_QUERY) -> None:
    """Run the camera's pipeline in this process."""
    arguments = [
        "--log-level", "ERROR", "run", "-b", repository, "-p", repository / "pipelines" / "SimCam" / "calibrate.yaml",
        "-i", "SimCam/defaults", "-o", output, "-d", query, "--register-dataset-types", *CATALOGUES,
    ]  # fmt: skip
    result = CliRunner().invoke(pipetask, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
