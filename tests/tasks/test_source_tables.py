"""Tasks that make the source tables of a visit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.table import Column, Table
from lsst.images import Box
from lsst.pex.config import FieldValidationError
from lsst.pipe.base import InMemoryDatasetHandle, NoWorkFound, UpstreamFailureNoWorkFound

from zeropoint.catalogs.functor_file import FunctorFile
from zeropoint.datamodel.exposure import PhotoCalib
from zeropoint.datamodel.exposure_catalog import ExposureCatalog, ExposureRow
from zeropoint.errors import InvalidInputError
from zeropoint.tasks.consolidate_source_table import ConsolidateSourceTableConfig, ConsolidateSourceTableTask
from zeropoint.tasks.transform_source_table import TransformSourceTableConfig, TransformSourceTableTask
from zeropoint.tasks.write_recalibrated_source_table import (
    WriteRecalibratedSourceTableConfig,
    WriteRecalibratedSourceTableTask,
)
from zeropoint.tasks.write_source_table import WriteSourceTableConfig, WriteSourceTableTask

FUNCTORS = FunctorFile.from_text(
    """
funcs:
    sourceId: {functor: Column, args: id}
    ra: {functor: RAColumn}
    psfFlux:
        functor: LocalNanojansky
        args: [slot_PsfFlux_instFlux, slot_PsfFlux_instFluxErr, base_LocalPhotoCalib, base_LocalPhotoCalibErr]
flags: [base_PixelFlags_flag_bad, base_Extra]
flag_rename_rules: [[base_PixelFlags_flag, pixelFlags], [base_, ""]]
optional: [Extra]
"""
)
DATA_ID = {"visit": 71, "detector": 3, "band": "r", "physical_filter": "r_57"}


def src(n: int = 4) -> Table:
    return Table(
        {
            "id": Column(np.arange(n) + 100, description="unique row id"),
            "coord_ra": Column(np.linspace(1, 2, n), unit="rad"),
            "coord_dec": Column(np.linspace(0, 1, n), unit="rad"),
            "slot_Centroid_x": Column(np.linspace(0, 50, n), unit="pixel"),
            "slot_Centroid_y": Column(np.linspace(0, 40, n), unit="pixel"),
            "slot_PsfFlux_instFlux": Column(np.linspace(10, 20, n), unit="count"),
            "slot_PsfFlux_instFluxErr": Column(np.full(n, 1.0), unit="count"),
            "base_PixelFlags_flag_bad": np.arange(n) % 2 == 0,
            "not_used": np.zeros(n),
        }
    )


class Handle(InMemoryDatasetHandle):
    """A handle that notes which columns were asked for."""

    def __init__(self, table: Table, **data_id: Any) -> None:
        super().__init__(table, storageClass="ArrowAstropy", **data_id)
        self.asked: list[Any] = []

    def get(self, *, component=None, parameters=None, storageClass=None) -> Any:
        self.asked.append(component or (parameters or {}).get("columns", "all"))
        return super().get(component=component, parameters=parameters, storageClass=storageClass)


@pytest.fixture(scope="module")
def summary() -> ExposureCatalog:
    box = Box.factory[0:50, 0:60]
    rows = [ExposureRow(3, 71, bbox=box, photo_calib=PhotoCalib(2.0)), ExposureRow(5, 71, bbox=box)]
    return ExposureCatalog.from_rows(rows)


def test_sources_go_from_measurement_to_the_table_of_a_visit(summary: ExposureCatalog) -> None:
    transform, tables = TransformSourceTableTask(), {}
    for detector in (5, 3):
        config = WriteRecalibratedSourceTableConfig()
        config.doReevaluateSkyWcs = False
        write = WriteRecalibratedSourceTableTask(config=config)
        flat = write.run(catalog=Handle(src(detector)), visitSummary=summary.to_arrow(), detector=detector)
        handle = Handle(flat.outputCatalog)
        tables[detector] = transform.run(handle, FUNCTORS, DATA_ID | {"detector": detector}).outputCatalog
        # the names, and then no column that is not needed
        names = [
            "id",
            "coord_ra",
            "slot_PsfFlux_instFlux",
            "base_LocalPhotoCalib",
            "base_PixelFlags_flag_bad",
        ]
        assert handle.asked == ["columns", names]
        # detector 5 has no photometric calibration in the summary
        assert ("caveats" in write.metadata) == (detector == 5)
    handles = [Handle(table, instrument="Cam", visit=71, detector=d) for d, table in tables.items()]
    consolidate = ConsolidateSourceTableTask()
    visit = consolidate.run(inputCatalogs=handles).outputCatalog
    assert visit.colnames == ["sourceId", "ra", "psfFlux", "pixelFlags_bad", *DATA_ID]
    assert visit["detector"].tolist() == [3, 3, 3, 5, 5, 5, 5, 5]
    np.testing.assert_array_equal(visit["psfFlux"], [20, 30, 40, *[np.nan] * 5])
    assert visit["ra"].unit == "deg"
    assert transform.metadata.getArray("columns_left_out") == ["Extra"]
    assert (consolidate.metadata["n_detectors"], consolidate.metadata["n_sources"]) == (2, 8)


def test_the_flat_table_has_visit_and_detector() -> None:
    flat = WriteSourceTableTask().run(catalog=Handle(src()), visit=71, detector=3).outputCatalog
    assert flat.colnames == [*src().colnames, "visit", "detector"]
    assert flat["coord_ra"].unit == "rad"


def test_no_sources_are_no_work() -> None:
    flat = WriteSourceTableTask().run(catalog=src(0), visit=71, detector=3).outputCatalog
    flat["base_LocalPhotoCalib"] = np.zeros(0)
    with pytest.raises(UpstreamFailureNoWorkFound, match="no source to transform"):
        TransformSourceTableTask().run(flat, FUNCTORS, DATA_ID)
    with pytest.raises(NoWorkFound, match="No detector"):
        ConsolidateSourceTableTask().run(inputCatalogs=[])


def test_a_detector_without_a_row_in_the_summary_is_no_work(summary: ExposureCatalog) -> None:
    with pytest.raises(NoWorkFound, match="no row of detector 4"):
        WriteRecalibratedSourceTableTask().run(catalog=src(), visitSummary=summary, detector=4)


def test_a_missing_column_is_named_before_anything_is_read() -> None:
    handle = Handle(src())
    with pytest.raises(InvalidInputError, match=r"no column base_LocalPhotoCalib \(of psfFlux\)"):
        TransformSourceTableTask().run(handle, FUNCTORS, DATA_ID)
    assert handle.asked == ["columns"]


def test_further_columns_are_named_as_the_files_flags_are() -> None:
    config = TransformSourceTableConfig()
    config.extra_columns = ["base_CircularApertureFlux_6_0_instFlux", "base_CircularApertureFlux_6_0_flag"]
    config.validate()
    functors = TransformSourceTableTask(config=config).functors.functors
    assert functors["apFlux_6_0_instFlux"].inputs == ("base_CircularApertureFlux_6_0_instFlux",)
    assert list(functors)[-1] == "apFlux_6_0_flag"
    config.extra_columns = ["base_PixelFlags_flag_bad"]
    with pytest.raises(FieldValidationError, match="made twice"):
        config.validate()


def test_a_functor_file_that_does_not_exist_is_found_when_the_configuration_is_checked() -> None:
    config = TransformSourceTableConfig()
    config.functorFile = "/nowhere/Source.yaml"
    with pytest.raises(FieldValidationError, match=r"(?s)functorFile.*/nowhere/Source.yaml cannot be read"):
        config.validate()


@pytest.mark.parametrize(
    ("config", "names", "dimensions"),
    [
        (WriteSourceTableConfig, {"catalog": "my_src", "outputCatalog": "my_source"}, "detector"),
        (
            TransformSourceTableConfig,
            {"inputCatalog": "my_source", "outputCatalog": "my_sourceTable"},
            "detector",
        ),
        (
            ConsolidateSourceTableConfig,
            {"inputCatalogs": "my_sourceTable", "outputCatalog": "my_sourceTable_visit"},
            "visit",
        ),
        (
            WriteRecalibratedSourceTableConfig,
            {"catalog": "my_src", "visitSummary": "finalVisitSummary", "outputCatalog": "my_source"},
            "detector",
        ),
    ],
)
def test_dataset_names_follow_the_template_of_the_class_defaults(config, names, dimensions) -> None:
    made = config()
    made.connections.catalogType = "my_"
    connections = made.connections.ConnectionsClass(config=made)
    assert {name: connections.allConnections[name].name for name in connections.allConnections} == names
    assert connections.dimensions == {"instrument", "visit", "detector"} - (
        set() if dimensions == "detector" else {"detector"}
    )
