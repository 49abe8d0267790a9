"""The task that makes the final summary: what it reads and writes, and what keeps it from doing so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import lsst.pipe.base as pipeBase
import numpy as np
import pyarrow as pa
import pytest
from lsst.daf.butler.formatters.parquet import arrow_to_astropy
from lsst.pipe.base import AnnotatedPartialOutputsError

from recipes import small_visit as small
from tasks import camera_of_four
from zeropoint.astrometry.boresight import Boresight
from zeropoint.datamodel.exposure import AB_FLUX_NJY
from zeropoint.datamodel.exposure_catalog import ExposureCatalog
from zeropoint.datamodel.photo_calib_catalog import PhotoCalibCatalog, PhotoCalibRecord
from zeropoint.datamodel.skymap import SkyMap
from zeropoint.datamodel.visit_geometry import VisitGeometry
from zeropoint.tasks import _errors
from zeropoint.tasks.update_visit_summary import (
    UpdateVisitSummaryConfig,
    UpdateVisitSummaryConnections,
    UpdateVisitSummaryTask,
)


@pytest.fixture(scope="module")
def visit() -> small.SmallVisit:
    return small.make_small_visit(nanojansky=True)


class Image:
    """A deferred image, of which only what is asked for is read."""

    def __init__(self, image: Any, detector: int) -> None:
        self.image, self.dataId, self.read = image, {"detector": detector}, []

    def get(self, *, component: str | None = None, parameters: dict[str, Any] | None = None) -> Any:
        if component is not None:
            self.read.append(component)
            return getattr(self.image, component)
        assert parameters is not None
        self.read.append(parameters["bbox"].shape)
        return self.image[parameters["bbox"]]


class Context:
    """What a task sees of the Butler: inputs and data ids by connection, and what was written."""

    def __init__(self, inputs: dict[str, Any], ids: dict[str, list[dict[str, int]]] | None = None) -> None:
        self.inputs, self.written = inputs, None
        self.quantum = SimpleNamespace(dataId={"instrument": "SimCam", "visit": small.VISIT})
        refs = {
            name: [SimpleNamespace(dataId=each) for each in dataIds] for name, dataIds in (ids or {}).items()
        }
        self.refs = SimpleNamespace(**refs)

    def get(self, refs: Any) -> dict[str, Any]:
        return dict(self.inputs)

    def put(self, result: pipeBase.Struct, refs: Any) -> None:
        self.written = result


def make_task(summary: ExposureCatalog, **fields: Any) -> UpdateVisitSummaryTask:
    config = UpdateVisitSummaryConfig()
    config.update(**fields)
    config.validate()
    schema = summary.to_arrow().schema.remove_metadata()
    return UpdateVisitSummaryTask(config=config, initInputs={"input_summary_schema": schema})


def inputs_of(visit: small.SmallVisit, **others: Any) -> dict[str, Any]:
    psfs = small.final_psfs().to_arrow()
    return {
        "input_summary_catalog": visit.summary.to_arrow(),
        "input_exposures": [Image(image, detector) for detector, image in visit.images.items()][::-1],
        "psf_overrides": psfs,
        "ap_corr_overrides": psfs,
        "psf_star_catalog": small.stars(),
        **others,
    }


def run(task: UpdateVisitSummaryTask, context: Context) -> pipeBase.Struct:
    task.runQuantum(context, context.refs, None)
    assert context.written is not None
    return context.written


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"do_refit_pointing": False, "do_fit_sip_approximations": False},
    ],
)
def test_the_summary_has_the_schema_that_was_announced(visit, fields):
    task = make_task(visit.summary, **fields)
    result = run(task, Context(inputs_of(visit)))
    table = result.output_summary_catalog
    assert isinstance(table, pa.Table)
    assert table.schema.remove_metadata().equals(task.output_summary_schema, check_metadata=True)
    catalog = ExposureCatalog.from_table(arrow_to_astropy(table))
    assert catalog.ids.tolist() == list(small.DETECTORS)
    assert catalog.find(3)["psfSigma"] == pytest.approx(small.FINAL_SIGMA, rel=2e-3)
    assert task.metadata["n_complete"] == 2


def test_without_a_schema_it_takes_that_of_our_own_summaries(visit):
    task = UpdateVisitSummaryTask(config=UpdateVisitSummaryConfig())
    result = task.run(visit.summary, visit.images)
    written = result.output_summary_catalog.schema.remove_metadata()
    assert written.equals(task.output_summary_schema, check_metadata=True)


def test_pixels_are_read_only_where_the_background_changes(visit):
    inputs = inputs_of(visit)
    run(make_task(visit.summary), Context(inputs))
    assert [image.read for image in inputs["input_exposures"]] == [["mask", (1, 1)], ["mask", (1, 1)]]


def test_overrides_by_tract_are_read_with_the_sky_map(visit):
    sky_map = SkyMap.discrete([150.1, 150.1], [2.185, 2.215], [0.1, 0.1], pixelScale=1.0)
    wcs = {d: small.detector_wcs(d, shift_arcsec=0.1) for d in small.DETECTORS}
    gray = np.array([[AB_FLUX_NJY * 10**-12.2]])
    records = [PhotoCalibRecord(d, small.VISIT, small.BOX, gray) for d in small.DETECTORS]
    tables = {
        "wcs_overrides_tract": [small.wcs_catalog(wcs).to_arrow()] * 2,
        "photo_calib_overrides_tract": [PhotoCalibCatalog.from_records(records).to_arrow()],
    }
    ids = {
        "wcs_overrides_tract": [{"tract": 1}, {"tract": 0}],
        "photo_calib_overrides_tract": [{"tract": 1}],
    }
    task = make_task(visit.summary, wcs_provider="tract", photo_calib_provider="tract")
    catalog = run(task, Context(inputs_of(visit, sky_map=sky_map, **tables), ids)).record.catalog
    assert catalog.table["wcsTractId"].tolist() == [0, 1]
    assert catalog.table["photoCalibTractId"].tolist() == [1, 1]
    np.testing.assert_allclose(catalog.table["zeroPoint"], 30.5, atol=1e-5)


def test_overrides_by_pixel_are_read_at_their_level(visit):
    wcs = {d: small.detector_wcs(d) for d in small.DETECTORS}
    tables = {"wcs_overrides_skypix": [small.wcs_catalog(wcs).to_arrow()]}
    ids = {"wcs_overrides_skypix": [{"healpix5": 4711}]}
    task = make_task(visit.summary, wcs_provider="healpix5")
    catalog = run(task, Context(inputs_of(visit, **tables), ids)).record.catalog
    assert catalog.table["wcsSkypixId"].tolist() == [4711, 4711]


def test_an_image_that_is_missing_makes_the_quantum_invalid(visit):
    inputs = inputs_of(visit)
    inputs["input_exposures"] = inputs["input_exposures"][:1]
    with pytest.raises(pipeBase.InvalidQuantumError, match=r"calexp \(input_exposures\) lacks detector 3 of"):
        run(make_task(visit.summary), Context(inputs))


def test_a_visit_without_a_wcs_that_could_be_right_is_written_and_fails():
    camera = camera_of_four.make_camera()
    wcs = camera_of_four.camera_wcs(camera, Boresight(150.0, 2.0, 10.0))
    doubled = {d: each.with_affine(2.0 * np.eye(2), np.zeros(2)) for d, each in wcs.items()}
    visit = small.black_visit(doubled, camera_of_four.BOX)
    inputs = inputs_of(visit, camera=camera)
    for name in ("psf_overrides", "ap_corr_overrides", "psf_star_catalog"):
        del inputs[name]
    task, context = make_task(visit.summary, do_write_visit_geometry=True), Context(inputs)
    with pytest.raises(AnnotatedPartialOutputsError) as caught:
        run(task, context)
    assert isinstance(caught.value.__cause__, _errors.NoVisitWcs)
    assert task.metadata["n_without_wcs"] == 4
    catalog = ExposureCatalog.from_table(context.written.output_summary_catalog)
    assert len(catalog) == 4
    assert not any(record.has("wcs") for record in catalog)
    assert context.written.visit_geometry is None
    good = small.black_visit(wcs, camera_of_four.BOX)
    inputs.update(
        input_summary_catalog=good.summary.to_arrow(),
        input_exposures=[Image(image, detector) for detector, image in good.images.items()],
    )
    geometry = run(task, Context(inputs)).visit_geometry
    assert VisitGeometry.from_dict(geometry).boresight_ra == pytest.approx(150.0)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, set()),
        ({"wcs_provider": "tract"}, {"sky_map", "wcs_overrides_tract"}),
        ({"wcs_provider": "global"}, {"wcs_overrides_global"}),
        ({"wcs_provider": "healpix3"}, {"wcs_overrides_skypix"}),
        ({"photo_calib_provider": "tract"}, {"sky_map", "photo_calib_overrides_tract"}),
        ({"photo_calib_provider": "global"}, {"photo_calib_overrides_global"}),
        ({"background_provider": "replacement"}, {"background_originals", "background_overrides"}),
    ],
)
def test_connections_follow_the_providers(fields, wanted):
    config = UpdateVisitSummaryConfig()
    config.update(**fields)
    connections = UpdateVisitSummaryConnections(config=config)
    always = {
        "input_summary_catalog",
        "input_exposures",
        "psf_overrides",
        "ap_corr_overrides",
        "psf_star_catalog",
    }
    assert set(connections.inputs) == always | wanted
    assert set(connections.prerequisiteInputs) == {"camera"}
    assert set(connections.outputs) == {"output_summary_catalog"}


def test_dimensions_follow_the_configuration():
    config = UpdateVisitSummaryConfig()
    config.update(wcs_provider="healpix5", camera_dimensions=["instrument", "physical_filter"])
    connections = UpdateVisitSummaryConnections(config=config)
    assert set(connections.wcs_overrides_skypix.dimensions) == {"instrument", "visit", "healpix5"}
    assert set(connections.camera.dimensions) == {"instrument", "physical_filter"}
    config.do_refit_pointing = False
    assert not UpdateVisitSummaryConnections(config=config).prerequisiteInputs
