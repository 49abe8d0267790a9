"""The task that summarizes a visit: what it reads, what it writes, and what it says without a camera or a WCS."""

from __future__ import annotations

import logging
from typing import Any

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import numpy as np
import pytest
from lsst.daf.butler import DataCoordinate, DimensionUniverse
from lsst.images import DetectorFrame, ObservationSummaryStats, SkyProjection
from lsst.images.cameras import CameraFrameSet
from lsst.pipe.base import InMemoryDatasetHandle

from tasks.camera_of_four import BOX, HEIGHT, WIDTH, camera_wcs, make_camera
from zeropoint.astrometry.boresight import Boresight
from zeropoint.datamodel.exposure_catalog import ExposureCatalog
from zeropoint.datamodel.visit_geometry import VisitGeometry
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.quality.visit_summary import DetectorSummary
from zeropoint.tasks import _errors
from zeropoint.tasks.consolidate_visit_summary import (
    ConsolidateVisitSummaryConfig,
    ConsolidateVisitSummaryConnections,
    ConsolidateVisitSummaryTask,
)

VISIT = 12


@pytest.fixture(scope="module")
def camera() -> CameraFrameSet:
    return make_camera()


@pytest.fixture(scope="module")
def detectors(camera: CameraFrameSet) -> list[DetectorSummary]:
    wcs = camera_wcs(camera, Boresight(150.0, 2.0, 33.0))
    return [summary(detector, each) for detector, each in wcs.items()]


def summary(detector: int, wcs: SkyWcs | None, **other: Any) -> DetectorSummary:
    assert wcs is not None
    frame = DetectorFrame(instrument="cam", visit=VISIT, detector=detector, bbox=BOX)
    values: dict[str, Any] = {
        "detector": detector,
        "bbox": BOX,
        "physical_filter": "cam-r",
        "band": "r",
        "obs_info": None,
        "sky_projection": SkyProjection.from_fits_wcs(wcs.to_astropy((HEIGHT, WIDTH)), frame),
        "photometric_scaling": None,
        "statistics": ObservationSummaryStats(psfSigma=1.5),
    }
    return DetectorSummary(**{**values, **other})


def make_task(**overrides: Any) -> ConsolidateVisitSummaryTask:
    config = ConsolidateVisitSummaryConfig()
    for name, value in overrides.items():
        setattr(config, name, value)
    config.validate()
    return ConsolidateVisitSummaryTask(config=config)


def test_the_summary_has_the_schema_that_was_announced(
    detectors: list[DetectorSummary], camera: CameraFrameSet
) -> None:
    for overrides in ({}, {"do_refit_pointing": False, "do_write_visit_geometry": False}):
        task = make_task(**overrides)
        result = task.run(VISIT, detectors, camera)
        written = result.visitSummary.schema.remove_metadata()
        assert written.equals(task.visitSummarySchema, check_metadata=True)


def test_the_pointing_is_fitted_and_written(
    detectors: list[DetectorSummary], camera: CameraFrameSet, caplog: pytest.LogCaptureFixture
) -> None:
    task = make_task()
    with caplog.at_level(logging.INFO):
        result = task.run(VISIT, detectors[::-1], camera)
    assert "pointing fitted to 4 detectors: ra 150.000000, dec 2.000000, orientation 33.0000" in caplog.text
    assert task.metadata["pointing_refitted"] is True
    geometry = VisitGeometry.from_dict(result.visit_geometry)
    np.testing.assert_allclose(
        (geometry.boresight_ra, geometry.boresight_dec, geometry.orientation), (150.0, 2.0, 33.0), atol=1e-7
    )
    catalog = ExposureCatalog.from_table(result.visitSummary)
    assert np.nanmax(catalog.table["preliminary_wcs_visit_pointing_residual"]) < 1e-9


def test_without_a_camera_it_says_so(
    detectors: list[DetectorSummary], caplog: pytest.LogCaptureFixture
) -> None:
    task = make_task()
    with caplog.at_level(logging.INFO):
        result = task.run(VISIT, [*detectors[:2], summary_without_statistics(detectors[2])])
    assert "visit 12: there is no dataset 'camera', so the pointing is not fitted" in caplog.text
    assert "visit 12: detectors [4] have no summary statistics" in caplog.text
    assert task.metadata["pointing_refitted"] is False
    assert task.metadata["n_detectors_without_statistics"] == 1
    assert np.isnan(result.catalog.table["preliminary_wcs_visit_pointing_residual"]).all()
    assert result.visit_geometry["boresight_ra"] is None
    # detectors without an image have no row
    np.testing.assert_array_equal(result.catalog.ids, [0, 1, 4])


def summary_without_statistics(detector: DetectorSummary) -> DetectorSummary:
    return DetectorSummary(**{**detector.__dict__, "statistics": None})


def test_no_wcs_is_a_failure_with_a_summary(camera: CameraFrameSet) -> None:
    narrow = SkyWcs.from_boresight(150.0, 2.0, x=500.0, y=400.0, pixel_scale_arcsec=0.3)
    task, result = make_task(), pipeBase.Struct()
    with pytest.raises(_errors.NoVisitWcs) as caught:  # type: ignore[attr-defined]
        task.run(VISIT, [summary(0, narrow), summary(7, narrow)], camera, result=result)
    assert caught.value.metadata["n_rejected"] == 2
    assert isinstance(caught.value, pipeBase.AlgorithmError)
    catalog = ExposureCatalog.from_table(result.visitSummary)
    assert not any(record.has("wcs") for record in catalog)
    assert catalog.table["psfSigma"][0] == 1.5
    assert result.visit_geometry is None


def test_no_detector_is_no_work() -> None:
    with pytest.raises(pipeBase.NoWorkFound, match="visit 12: no detector"):
        make_task().run(VISIT, [])


def test_only_components_are_read(detectors: list[DetectorSummary]) -> None:
    stored = detectors[1]
    parts = {
        "bbox": BOX,
        "bounds": BOX,
        "obs_info": None,
        "sky_projection": stored.sky_projection,
        "photometric_scaling": None,
        "summary_stats": stored.statistics,
        "psf": None,
        "aperture_corrections": {},
    }
    read: list[str] = []

    class Handle(InMemoryDatasetHandle):
        def get(self, *, component: str | None = None, **kwargs: Any) -> Any:
            assert component is not None
            read.append(component)
            return parts[component]

    universe = DimensionUniverse()
    data_id = DataCoordinate.standardize(
        {
            "instrument": "cam",
            "visit": VISIT,
            "detector": 1,
            "day_obs": 20250101,
            "band": "r",
            "physical_filter": "cam-r",
        },
        universe=universe,
    )
    for full in (False, True):
        read.clear()
        task = make_task(full=full)
        found = task._summary(Handle(None, storageClass="VisitImage", dataId=data_id))
        assert (found.detector, found.physical_filter, found.band) == (1, "cam-r", "r")
        assert {"psf", "aperture_corrections"} & set(read) == (
            {"psf", "aperture_corrections"} if full else set()
        )


def test_connections_follow_the_configuration() -> None:
    config = ConsolidateVisitSummaryConfig()
    config.cameraDimensions = ["instrument", "physical_filter"]
    connections = ConsolidateVisitSummaryConnections(config=config)
    assert set(connections.camera.dimensions) == {"instrument", "physical_filter"}
    config.do_refit_pointing = config.do_write_visit_geometry = False
    connections = ConsolidateVisitSummaryConnections(config=config)
    assert set(connections.inputs) | set(connections.prerequisiteInputs) == {"calexp"}
    assert set(connections.outputs) == {"visitSummary"}


def test_geometry_needs_the_fit() -> None:
    with pytest.raises(pexConfig.FieldValidationError, match="do_write_visit_geometry"):
        make_task(do_refit_pointing=False)
