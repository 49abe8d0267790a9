"""Tables of visits and detectors: Rubin's columns, and values that can be computed by hand."""

from __future__ import annotations

from importlib import resources

import astropy.units as u
import numpy as np
import pytest
import yaml
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.table import Column, Table
from astropy.time import Time
from astropy.utils import iers
from lsst.daf.butler.formatters.parquet import arrow_to_astropy
from lsst.images import Box, ObservationSummaryStats

from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.datamodel.exposure import DetectorInfo, VisitInfo
from zeropoint.datamodel.exposure_catalog import ExposureCatalog
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.datamodel.visit_image import observation_info
from zeropoint.errors import InvalidInputError
from zeropoint.quality.visit_summary import DetectorSummary, make_visit_summary
from zeropoint.recipes.visit_tables import VISIT_COLUMNS, visit_detector_table, visit_facts, visit_table

BOX = Box.factory[0:4176, 0:2048]
ANGLES = (
    "wcs_corner_max_offset",
    "wcs_detector_pointing_residual",
    "wcs_visit_pointing_residual",
    "preliminary_wcs_detector_pointing_residual",
    "preliminary_wcs_visit_pointing_residual",
    "wcs_sip_delta_sky",
)


def make_summary(visit: int, detectors: tuple[int, ...] = (2, 1), **info: object) -> ExposureCatalog:
    values = {
        "visit": visit,
        "exposure_time": 30.0,
        "mjd_tai": 60000.25,
        "physical_filter": "cam-r",
        "band": "r",
        "boresight_ra_deg": 150.0,
        "boresight_dec_deg": 2.0,
        "airmass": 1.2,
        "longitude_deg": -155.5,
        "latitude_deg": 19.8,
        "elevation_m": 4200.0,
        "boresight_rotation_deg": 33.0,
    }
    visit_info = VisitInfo(**{**values, **info})  # type: ignore[arg-type]
    statistics = ObservationSummaryStats(
        psfSigma=2.0,
        pixelScale=0.2,
        # round from the first pixel along x
        raCorners=(150.0, 149.0, 149.0, 150.0),
        decCorners=(1.0, 1.0, 3.0, 3.0),
    )
    return make_visit_summary(
        visit,
        [
            DetectorSummary(
                detector=detector,
                bbox=BOX,
                physical_filter="cam-r",
                band="r",
                obs_info=observation_info(visit_info, DetectorInfo("cam", "d", detector, 2048, 4176, ())),
                sky_projection=None,
                photometric_scaling=None,
                statistics=statistics,
            )
            for detector in detectors
        ],
    )


def make_final(visit: int) -> ExposureCatalog:
    """Return a summary with the columns that the final one has beside those of the first."""
    summary = make_summary(visit)
    angles = {name: Column(np.full(2, 1e-6), unit="rad") for name in ANGLES}
    return summary.with_columns({**angles, "wcs_sip_delta_pixel": Column(np.full(2, 0.01), unit="pixel")})


def ids(visit: int) -> CatalogIdGenerator:
    return CatalogIdGenerator(visit, 0, 100000, 200)


@pytest.fixture(scope="module")
def detectors() -> Table:
    return visit_detector_table([(make_final(v), ids(v)) for v in (11, 7)])


def rubins_columns(table: str) -> dict[str, dict[str, str]]:
    """Return the columns of a table in the data model of the LSST camera's releases."""
    schemas = resources.files("lsst.sdm.schemas")
    model, base = (
        yaml.load(schemas.joinpath(f"{n}.yaml").read_text(), yaml.CSafeLoader)
        for n in ("lsstcam", "drp_base")
    )
    names = next(t for t in model["tables"] if t["name"] == table)["columnRefs"]["base"][table]
    columns = next(t for t in base["tables"] if t["name"] == table)["columns"]
    return {column["name"]: column for column in columns if column["name"] in names}


def test_columns_are_those_of_rubins_data_model(detectors: Table) -> None:
    kinds = {"double": "f", "float": "f", "int": "i", "long": "i", "char": "U", "timestamp": "M"}
    visits = visit_table([make_summary(7)])
    for name, table, ours in (
        ("Visit", visits, {"visitId"}),
        # the task's table has the ids besides
        ("VisitDetector", detectors, {"detectorId", "ccdVisitId"}),
    ):
        columns = rubins_columns(name)
        assert set(table.colnames) - ours == set(columns)
        for column, about in columns.items():
            assert table[column].dtype.kind == kinds[about["datatype"]], column
            # our counts are electrons
            unit = about.get("ivoa:unit", "").replace("count", "").replace("adu", "electron").lstrip("/")
            if unit and unit != "deg**2":
                assert table[column].unit == u.Unit(unit), column


def test_the_table_of_visits_needs_some_columns_only() -> None:
    summary = make_summary(7)
    part = ExposureCatalog.from_table(summary.to_arrow().select(VISIT_COLUMNS))
    whole, other = visit_table([summary]), visit_table([part])
    assert whole.colnames == other.colnames
    assert list(whole[0]) == list(other[0])


def test_rows_are_sorted_whatever_the_order_of_the_visits(detectors: Table) -> None:
    np.testing.assert_array_equal(detectors["visitId"], [7, 7, 11, 11])
    np.testing.assert_array_equal(detectors["detector"], [1, 2, 1, 2])
    # detector + n_detectors x visit, as in the ids of sources
    np.testing.assert_array_equal(detectors["ccdVisitId"], [1401, 1402, 2201, 2202])
    np.testing.assert_array_equal(visit_table([make_summary(9), make_summary(3)])["visit"], [3, 9])


def test_corners_and_size_are_those_of_the_image(detectors: Table) -> None:
    row = detectors[0]
    assert (row["xSize"], row["ySize"]) == (2048, 4176)
    corners = {c: (row[f"{c}ra"], row[f"{c}dec"]) for c in ("llc", "ulc", "urc", "lrc")}
    assert corners == {
        "llc": (150.0, 1.0),
        "lrc": (149.0, 1.0),
        "urc": (149.0, 3.0),
        "ulc": (150.0, 3.0),
    }


def test_derived_numbers(detectors: Table) -> None:
    row = detectors[0]
    # 2.3548 x 2 pixels x 0.2 arcsec, in single precision
    np.testing.assert_allclose(row["seeing"], 0.941928, rtol=1e-6)
    assert row["expMidpt"] == np.datetime64("2023-02-25T06:00:00")
    assert row["obsStart"] == np.datetime64("2023-02-25T05:59:45")
    assert (row["expMidptMJD"], row["skyRotation"]) == (60000.25, 33.0)
    np.testing.assert_allclose(row["obsStartMJD"], 60000.25 - 15.0 / 86400.0, rtol=0, atol=1e-10)
    assert np.isnan(row["darkTime"])
    np.testing.assert_allclose(row["wcsVisitPointingResidual"], 0.2062648, rtol=1e-6)
    assert row["wcsSIPDeltaPixel"] == 0.01


def test_the_boresight_is_where_astropy_puts_it() -> None:
    site = EarthLocation.from_geodetic(-155.5, 19.8, 4200.0)
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("iers_degraded_accuracy", "ignore"):
        frame = AltAz(obstime=Time(60000.25, format="mjd", scale="tai"), location=site)
        expected = SkyCoord(150.0, 2.0, unit="deg").transform_to(frame)
    row = visit_table([make_summary(7)])[0]
    found = SkyCoord(row["azimuth"], row["altitude"], unit="deg")
    offset = found.separation(SkyCoord(expected.az, expected.alt)).to_value(u.deg)
    # mean positions: nutation and aberration are 0.01 degree together
    assert offset < 0.02
    np.testing.assert_allclose(row["zenithDistance"], 90.0 - row["altitude"], rtol=0, atol=1e-12)


def test_what_is_not_known_is_not_a_number() -> None:
    nan = float("nan")
    summary = make_summary(
        7, boresight_ra_deg=nan, mjd_tai=nan, longitude_deg=nan, airmass=nan, boresight_rotation_deg=nan
    )
    row = visit_table([summary])[0]
    assert np.isnan(
        [row[n] for n in ("ra", "skyRotation", "azimuth", "altitude", "airmass", "obsStartMJD")]
    ).all()
    assert np.isnat(row["expMidpt"])


def test_tables_survive_the_file(detectors: Table) -> None:
    back = arrow_to_astropy(table_to_arrow(detectors))
    assert back.dtype == detectors.dtype
    for name in detectors.colnames:
        np.testing.assert_array_equal(back[name], detectors[name])


def test_summaries_that_differ_are_refused() -> None:
    with pytest.raises(
        InvalidInputError, match=r"not every visit summary makes the columns wcsCornerMaxOffset"
    ):
        visit_detector_table([(make_final(7), ids(7)), (make_summary(8), ids(8))])
    narrow = make_summary(7)
    narrow.table.remove_column("psfSigma")
    with pytest.raises(InvalidInputError, match="the summary of visit 7 has no column psfSigma"):
        visit_detector_table([(narrow, ids(7))])


def test_a_visit_without_rows_is_passed_over() -> None:
    empty = make_summary(5, ())
    assert len(visit_table([empty, make_summary(7)])) == 1
    assert len(visit_table([empty])) == 0
    assert len(visit_detector_table([(empty, ids(5))])) == 0


def test_a_summary_that_says_nothing_of_the_observation_is_named() -> None:
    with pytest.raises(InvalidInputError, match="visit 7: the summary says nothing"):
        visit_facts(make_summary(7).without("visitInfo", [1, 2]))
