"""The tasks that gather summaries read nothing of the components but the observation."""

from __future__ import annotations

from typing import Any

import lsst.pipe.base as pipeBase
import numpy as np
import pytest
from lsst.daf.butler import DataCoordinate, DimensionUniverse
from lsst.images import Box, ObservationSummaryStats
from lsst.images.psfs import GaussianPointSpreadFunction
from lsst.pipe.base import InMemoryDatasetHandle

from zeropoint.datamodel.arrow import arrow_to_table
from zeropoint.datamodel.exposure import DetectorInfo, VisitInfo
from zeropoint.datamodel.exposure_catalog import ExposureCatalog
from zeropoint.datamodel.visit_image import observation_info
from zeropoint.quality.visit_summary import DetectorSummary, make_visit_summary
from zeropoint.tasks.make_visit_tables import MakeCcdVisitTableTask, MakeVisitTableTask, _read

BOX = Box.factory[0:80, 0:100]


def make_summary(visit: int, *detectors: int) -> ExposureCatalog:
    info = observation_info(
        VisitInfo(visit, 30.0, 60000.0, "cam-r", "r"), DetectorInfo("cam", "d", 0, 100, 80, ())
    )
    return make_visit_summary(
        visit,
        [
            DetectorSummary(
                detector=detector,
                bbox=BOX,
                physical_filter="cam-r",
                band="r",
                obs_info=info,
                sky_projection=None,
                photometric_scaling=None,
                statistics=ObservationSummaryStats(psfSigma=2.0, pixelScale=0.2),
                psf=GaussianPointSpreadFunction(2.0, bounds=BOX, stamp_size=25),
            )
            for detector in detectors
        ],
    )


class Handle(InMemoryDatasetHandle):
    """A summary in a repository, which remembers what was read of it."""

    columns: tuple[str, ...] = ()

    def get(self, **kwargs: Any) -> Any:
        columns = (kwargs.get("parameters") or {}).get("columns")
        if columns is not None:
            object.__setattr__(self, "columns", tuple(columns))
        return super().get(**kwargs)


@pytest.fixture
def handles() -> list[Handle]:
    universe = DimensionUniverse()
    result = []
    for visit, detectors in ((8, (1, 0)), (5, (1,)), (6, ())):
        data_id = DataCoordinate.standardize(
            {
                "instrument": "cam",
                "visit": visit,
                "day_obs": 20250101,
                "band": "r",
                "physical_filter": "cam-r",
            },
            universe=universe,
        )
        table = arrow_to_table(make_summary(visit, *detectors).to_arrow())
        result.append(Handle(table, storageClass="ArrowAstropy", dataId=data_id))
    return result


def test_components_are_not_read(handles: list[Handle]) -> None:
    first = next(iter(_read(handles)))
    assert "visitInfo" in handles[0].columns
    assert not {"psf", "wcs", "photoCalib", "apCorrMap", "detector"} & set(handles[0].columns)
    assert first.find(0).getVisitInfo() is not None  # type: ignore[union-attr]
    assert first.find(0).getPsf() is None  # type: ignore[union-attr]


def test_tables_are_made_of_handles(handles: list[Handle]) -> None:
    config = MakeCcdVisitTableTask.ConfigClass()
    # else the instrument's record has them
    config.idGenerator.packer.name = "observation"
    packer = config.idGenerator.packer["observation"]
    packer.n_detectors, packer.n_observations = 4, 1000
    task = MakeCcdVisitTableTask(config=config)
    generators = [task.config.idGenerator.apply(handle.dataId, detector=0) for handle in handles]
    table = task.run(zip(_read(handles), generators)).outputCatalog
    np.testing.assert_array_equal(table["visitId"], [5, 8, 8])
    np.testing.assert_array_equal(table["detector"], [1, 0, 1])
    np.testing.assert_array_equal(table["ccdVisitId"], [21, 32, 33])
    visits = MakeVisitTableTask(config=MakeVisitTableTask.ConfigClass()).run(_read(handles)).outputCatalog
    np.testing.assert_array_equal(visits["visit"], [5, 8])


def test_no_row_anywhere_is_no_work(handles: list[Handle]) -> None:
    with pytest.raises(pipeBase.NoWorkFound, match="No visit summary has a row"):
        MakeVisitTableTask(config=MakeVisitTableTask.ConfigClass()).run(_read(handles[2:]))
