"""Visit summaries hold what images say, under Rubin's names and in Rubin's types."""

from __future__ import annotations

import re

import astropy.units as u
import numpy as np
import pytest
from lsst.images import Box, DetectorFrame, ObservationSummaryStats, Polygon, SkyProjection
from lsst.images.fields import ChebyshevField
from lsst.images.serialization import ArchiveTree

from zeropoint.datamodel.exposure import DetectorInfo, VisitInfo
from zeropoint.datamodel.exposure_catalog import ExposureCatalog
from zeropoint.datamodel.visit_image import observation_info
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.quality.visit_summary import (
    DetectorSummary,
    empty_visit_summary,
    make_visit_summary,
    statistics_columns,
    statistics_of,
)

BOX = Box.factory[0:80, 0:100]


def detector_summary(detector: int, **other: object) -> DetectorSummary:
    wcs = SkyWcs.from_boresight(10.0 + detector, 5.0, x=50, y=40, pixel_scale_arcsec=0.3)
    frame = DetectorFrame(instrument="cam", visit=3, detector=detector, bbox=BOX)
    info = observation_info(
        VisitInfo(3, 30.0, 60000.0, "cam-r", "r", 10.0, 5.0),
        DetectorInfo("cam", "d", detector, 100, 80, ()),
    )
    values = {
        "detector": detector,
        "bbox": BOX,
        "physical_filter": "cam-r",
        "band": "r",
        "obs_info": info,
        "sky_projection": SkyProjection.from_fits_wcs(wcs.to_astropy((80, 100)), frame),
        "photometric_scaling": ChebyshevField(BOX, np.array([[2.0]]), unit=u.nJy / u.electron),
        "statistics": ObservationSummaryStats(
            psfSigma=1.5 + detector, nPsfStar=40 + detector, raCorners=(1.0, 2.0, 3.0, 4.0), ra=123.456789012
        ),
        "bounds": BOX,
    }
    return DetectorSummary(**{**values, **other})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def summary() -> ExposureCatalog:
    cut = Polygon(x_vertices=[0.0, 99.0, 99.0], y_vertices=[0.0, 0.0, 79.0])
    return make_visit_summary(
        3,
        [
            detector_summary(9, bounds=cut),
            detector_summary(4, photometric_scaling=None),
            detector_summary(6, statistics=None),
        ],
    )


def test_rows_are_the_detectors_whatever_their_order(summary: ExposureCatalog) -> None:
    np.testing.assert_array_equal(summary.ids, [4, 6, 9])
    np.testing.assert_array_equal(summary.table["psfSigma"], np.array([5.5, np.nan, 10.5], np.float32))
    np.testing.assert_array_equal(summary.table["nPsfStar"], [44, 0, 49])
    assert set(summary.table["band"]) == {"r"}


def test_what_an_image_lacks_is_absent(summary: ExposureCatalog) -> None:
    four, six, nine = summary
    assert four.getPhotoCalib() is None
    assert six.getPhotoCalib().calibration_mean == 2.0  # type: ignore[union-attr]
    assert four.getValidPolygon() is None
    assert nine.getValidPolygon().area == 0.5 * 99 * 79  # type: ignore[union-attr]
    assert not any(record.has(name) for record in summary for name in ("psf", "apCorrMap", "detector"))
    ra, dec = (np.rad2deg(v) for v in nine.getWcs().pixel_to_sky(x=50.0, y=40.0))  # type: ignore[union-attr]
    np.testing.assert_allclose((ra, dec), (19.0, 5.0), rtol=0, atol=1e-9)


def test_statistics_come_back(summary: ExposureCatalog) -> None:
    found = statistics_of(summary.find(4))  # type: ignore[arg-type]
    # positions are double, the rest single precision
    assert (found.ra, found.raCorners, found.nPsfStar) == (123.456789012, (1.0, 2.0, 3.0, 4.0), 44)
    assert found.psfSigma == 5.5
    assert np.isnan(found.magLim)


def test_every_statistic_of_fixed_length_has_a_column_with_unit_and_words() -> None:
    columns = {column.name: column for column in statistics_columns()}
    statistics = set(ObservationSummaryStats.model_fields) - set(ArchiveTree.model_fields)
    assert statistics - set(columns) == {"shapeletsCoeffs"}
    for name, column in columns.items():
        assert column.description, name
        # a description that speaks of a unit at its end belongs to a column that has one
        if re.search(r"\((pixel|degree|arcsec|second|mag|ADU|number)[^)]*\)\.$", column.description):
            assert column.unit is not None, name
        if column.unit is not None:
            u.Unit(column.unit)


def test_a_summary_without_rows_has_the_columns_of_every_other(summary: ExposureCatalog) -> None:
    empty = empty_visit_summary()
    assert empty.table.dtype == summary.table.dtype
    schema, other = (each.to_arrow().schema.remove_metadata() for each in (empty, summary))
    assert schema.equals(other, check_metadata=True)


def test_long_names_of_filters_are_not_cut() -> None:
    name = "a filter whose name has many more letters than 32"
    assert (
        make_visit_summary(3, [detector_summary(1, physical_filter=name)]).table["physical_filter"][0] == name
    )
