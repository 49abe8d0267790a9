"""A small simulated exposure, and tasks that calibrate it without a repository."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from astropy.table import Table
from click.testing import CliRunner, Result
from lsst.ctrl.mpexec.cli.pipetask import cli as pipetask
from lsst.daf.butler import Butler

from tasks import make
from tasks.older_pair import MakePair, Pair
from zeropoint.butler.cameras import register_camera
from zeropoint.butler.ingest import ingest_images
from zeropoint.butler.refcats import ingest_references
from zeropoint.butler.repository import create_repository, open_repository
from zeropoint.catalogs.reference_shards import ReferenceShards
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.instruments.card import CameraCard
from zeropoint.recipes.overrides import apply_override
from zeropoint.simulation import SimulationSettings, simulate_exposure
from zeropoint.simulation.exposures import SimulatedExposure
from zeropoint.tasks.calibrate_image import CalibrateImageConfig, CalibrateImageTask

MakeTask = Callable[..., CalibrateImageTask]


@pytest.fixture(scope="session")
def simulated() -> SimulatedExposure:
    return simulate_exposure(
        SimulationSettings(
            width=600, height=600, n_stars=260, magnitude_bright=17.0, n_cosmic_rays=20, seed=1
        )
    )


@pytest.fixture(scope="session")
def base_config() -> CalibrateImageConfig:
    return CalibrateImageConfig()


@pytest.fixture(scope="session")
def make_task(simulated: SimulatedExposure, base_config: CalibrateImageConfig) -> MakeTask:
    """Return a function that makes a task with overrides, given as pairs, and with reference loaders."""

    def make(*overrides: tuple[str, Any], references: Table | None = None) -> CalibrateImageTask:
        config = base_config.copy()
        for name, value in overrides:
            apply_override(config, name, value)
        task = CalibrateImageTask(config=config)
        table = simulated.references if references is None else references
        task.set_reference_loaders(
            ReferenceObjectLoader(ReferenceShards("simulated", [lambda: table]), config.astrometry_ref_loader)
        )
        return task

    return make


@pytest.fixture(scope="session")
def make_pair(simulated: SimulatedExposure) -> MakePair:
    return MakePair(simulated)


@pytest.fixture(scope="session")
def pair(make_pair: MakePair) -> Pair:
    return make_pair.run()


# -- a repository ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Repository:
    """A repository of one camera, and the files of which it was made.

    Parameters
    ----------
    path
        Its directory.
    card
        The card of its camera.
    images
        Exposure id -> FITS file.
    references
        Reference table.
    """

    path: Path
    card: CameraCard
    images: dict[int, Path]
    references: Path

    def open(self, **kwargs: Any) -> Butler:
        return Butler.from_config(str(self.path), **kwargs)

    def pipetask(self, *arguments: object) -> Result:
        """Run ``pipetask ARGUMENTS`` in this process; its log goes to the test's."""
        return CliRunner().invoke(pipetask, [str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def repository(simulated: SimulatedExposure, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    folder = tmp_path_factory.mktemp("tasks")
    images, references = make.write_exposures(simulated, folder)
    flat_image = make.visit_image_file(simulated, folder / "flat.fits")
    path, card = folder / "repo", make.camera_card(folder)
    create_repository(path)
    with open_repository(path, writeable=True) as butler:
        register_camera(butler, card)
        ingest_references(butler, "simulated", references)
        report = ingest_images(butler, [*images.values(), flat_image], card)
        assert not report.failures
        make.certify_calibrations(butler, simulated)
    return Repository(path, card, images, references)
