"""The tasks that write the products: their datasets, and what they hand to the steps."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table
from lsst.pex.config import FieldValidationError
from lsst.pipe.base import InMemoryDatasetHandle, NoWorkFound

from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.datamodel.photo_calib_catalog import PhotoCalibCatalog
from zeropoint.fgcm.lut import LookUpTable
from zeropoint.tasks.fgcm_output_illumination_correction import FgcmOutputIlluminationCorrectionTask
from zeropoint.tasks.fgcm_output_products import FgcmOutputProductsTask


def handle(table: Table) -> InMemoryDatasetHandle:
    return InMemoryDatasetHandle(table_to_arrow(table), storageClass="ArrowTable")


def test_datasets_have_rubin_names_and_follow_the_settings():
    config = FgcmOutputProductsTask.ConfigClass()
    config.connections.cycleNumber = "3"
    connections = config.connections.ConnectionsClass(config=config)
    assert connections.fgcmZeropoints.name == "fgcm_Cycle3_Zeropoints"
    assert connections.fgcmPhotoCalib.name == "fgcmPhotoCalibCatalog"
    assert set(connections.outputs) == {"fgcmPhotoCalib", "fgcmTransmissionAtmosphere", "fgcmTractStars"}
    config.doReferenceCalibration, config.doTractStars, config.doAtmosphereOutput = True, False, False
    connections = config.connections.ConnectionsClass(config=config)
    assert set(connections.outputs) == {"fgcmPhotoCalib", "fgcmOffsets"}
    assert set(connections.prerequisiteInputs) == {"camera", "fgcmLookUpTable", "refCat"}
    for number in ("last", "03", "-1"):
        config.connections.cycleNumber = number
        with pytest.raises(ValueError, match="whole number"):
            config.connections.ConnectionsClass(config=config)


def test_products_of_stored_tables(zeropoints, visits, stars):
    config = FgcmOutputProductsTask.ConfigClass()
    config.doTractStars = False
    header = {"tablename": "NoTableWasUsed", "elevation": 2663.0, "lambdaNorm": 7750.0}
    header |= {
        "atmLambda": np.arange(5000.0, 5101.0, 10.0),
        "physicalFilters": "g",
        "stdPhysicalFilters": "g",
    }
    air = Table({"visit": [11], "pmb": [740.0], "pwv": [2.0], "tau": [0.02], "alpha": [1.0], "o3": [260.0]})
    air["secZenith"], air["cTrans"], air["lamStd"] = 1.2, 0.0, 5000.0
    task = FgcmOutputProductsTask(config=config)
    result = task.run(
        fgcmVisitCatalog=handle(visits),
        fgcmStandardStars=handle(stars),
        fgcmZeropoints=handle(zeropoints),
        fgcmAtmosphereParameters=handle(air),
        fgcmLookUpTable=LookUpTable(header, None),
    )
    catalogs = dict(result.photoCalibCatalogs)
    assert sorted(catalogs) == [11, 12]
    # the metadata came along: areas of pixels are those of the star list
    assert catalogs[11].find(4).wcs_jacobian_applied
    assert len(PhotoCalibCatalog.from_table(catalogs[11].to_arrow())) == 3
    assert [visit for visit, _ in result.atmospheres] == [11]
    assert task.metadata["accounting"]["photo_calibs"]["rejected"]["no_zeropoint"] == 1


@pytest.fixture
def parameters() -> Table:
    table = Table(
        {
            "lutFilterNames": ["g_cam,r_cam"],
            "superstarSize": [[1, 2, 3, 1]],
            "superstar": [[1.1, 1.2, 1.3, 0.9, 0.8, 100.0]],
            "epochMjdStart": [[59000.0]],
            "epochMjdEnd": [[61000.0]],
        }
    )
    table.meta["DETECTORS"] = [1, 4, 6]
    return table


def test_illumination_corrections_of_a_detector(parameters, visits, focal_plane):
    config = FgcmOutputIlluminationCorrectionTask.ConfigClass()
    config.epoch_time, config.physical_filters = "2023-02-25 00:00:00", ["r_cam", "y_cam"]
    task = FgcmOutputIlluminationCorrectionTask(config=config)

    def run(detector):
        return task.run(
            fgcm_visit_catalog=handle(visits),
            fgcm_fit_parameters_catalog=handle(parameters),
            detector_id=detector,
            physical_filters=["g_cam", "r_cam"],
        ).illum_corr_dict

    images = run(4)
    assert list(images) == ["r_cam"]
    area = focal_plane[4].area.image(np.float64)
    np.testing.assert_allclose(images["r_cam"].array * 0.8 * area, 1.0, rtol=1e-6)
    # the last detector has no flat in r
    assert np.array_equal(np.unique(run(6)["r_cam"].array), [1.0])
    assert list(task.metadata.getArray("unfitted")) == ["r_cam"]
    with pytest.raises(NoWorkFound):
        run(9)


def test_the_time_of_the_epoch_must_be_one():
    config = FgcmOutputIlluminationCorrectionTask.ConfigClass()
    config.epoch_time = "the day before"
    with pytest.raises(FieldValidationError, match="epoch_time"):
        config.validate()
    config.epoch_time, config.epoch_format = "60000.5", "mjd"
    config.validate()
    assert config.epoch.mjd == 60000.5
