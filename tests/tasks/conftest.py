"""A small simulated exposure, and tasks that calibrate it without a repository."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from astropy.table import Table

from zeropoint.catalogs.reference_shards import ReferenceShards
from zeropoint.catalogs.references import ReferenceObjectLoader
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
