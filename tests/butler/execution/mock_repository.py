"""A repository with an instrument of two detectors, any number of exposures and one small table each."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.table import Table
from astropy.time import Time
from lsst.daf.butler import Butler, CollectionType, DatasetType, Timespan

from zeropoint.butler.repository import create_repository, open_repository

PIPELINE = """\
description: Mock pipeline of the executor's tests.
tasks:
  measure: butler.execution.quantum_tasks.MeasureTask
  mean: butler.execution.quantum_tasks.MeanTask
subsets:
  detectors: {subset: [measure], description: per detector}
"""


def make_repository(root: Path, n_exposures: int, instrument: str = "MockCam") -> str:
    """Create or extend a repository; the input chain is ``<instrument>/defaults``."""
    create_repository(root)
    with open_repository(root, writeable=True) as butler:
        with butler.transaction():
            _insert_dimensions(butler, n_exposures, instrument)
        dataset_type = DatasetType(
            "raw_numbers", ("instrument", "exposure", "detector"), "ArrowAstropy", universe=butler.dimensions
        )
        butler.registry.registerDatasetType(dataset_type)
        run = f"{instrument}/raw"
        butler.collections.register(run, CollectionType.RUN)
        for exposure in range(1, n_exposures + 1):
            for detector in (0, 1):
                flux = np.random.default_rng(10 * exposure + detector).uniform(1, 2, 20)
                butler.put(
                    Table({"flux": flux}),
                    dataset_type,
                    instrument=instrument,
                    exposure=exposure,
                    detector=detector,
                    run=run,
                )
        chain = f"{instrument}/defaults"
        butler.collections.register(chain, CollectionType.CHAINED)
        butler.collections.redefine_chain(chain, [run])
    pipeline = root / "mock.yaml"
    pipeline.write_text(PIPELINE)
    return str(pipeline)


def _insert_dimensions(butler: Butler, n_exposures: int, instrument: str) -> None:
    registry = butler.registry
    registry.syncDimensionData(
        "instrument",
        {
            "name": instrument,
            "detector_max": 2,
            "visit_max": 2**31,
            "exposure_max": 2**31,
            "class_name": "lsst.pipe.base.Instrument",
            "visit_system": 0,
        },
    )
    registry.insertDimensionData(
        "detector", *({"instrument": instrument, "id": i, "full_name": f"D{i}"} for i in (0, 1))
    )
    registry.insertDimensionData("physical_filter", {"instrument": instrument, "name": "r", "band": "r"})
    registry.insertDimensionData("day_obs", {"instrument": instrument, "id": 20260101})
    times = Time("2026-01-01T00:00:00", scale="tai") + np.arange(n_exposures + 1) * u.min
    numbers = range(1, n_exposures + 1)
    registry.insertDimensionData("group", *({"instrument": instrument, "name": str(i)} for i in numbers))
    registry.insertDimensionData(
        "exposure",
        *(
            {
                "instrument": instrument,
                "id": i,
                "obs_id": str(i),
                "group": str(i),
                "day_obs": 20260101,
                "physical_filter": "r",
                "timespan": Timespan(times[i - 1], times[i]),
                "observation_type": "science",
            }
            for i in numbers
        ),
    )
