"""Exposure catalogues come back from parquet as they were, and stock readers read their components."""

from __future__ import annotations

import io
import json
from pathlib import Path

import astropy.units as u
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from lsst.daf.butler.formatters.parquet import arrow_to_astropy
from lsst.images import Box, Polygon, SkyProjection
from lsst.images.fields import ChebyshevField
from lsst.images.psfs import GaussianPointSpreadFunction
from lsst.images.serialization import read_archive

from zeropoint.datamodel.exposure import Amplifier, DetectorInfo, PhotoCalib, VisitInfo
from zeropoint.datamodel.exposure_catalog import (
    COMPONENTS,
    DETECTOR_COMMENTS,
    VISIT_COMMENTS,
    ExposureCatalog,
    ExposureRow,
)
from zeropoint.datamodel.exposure_components import encode_detector
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.visit_image import lsst_detector, observation_info
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import InvalidInputError

WIDTH, HEIGHT = 400, 300
BOX = Box.factory[0:HEIGHT, 0:WIDTH]


def make_wcs(order: int = 1) -> SkyWcs:
    wcs = SkyWcs.from_boresight(30.0, -12.0, x=200.0, y=150.0, pixel_scale_arcsec=0.4, rotation_deg=20.0)
    if order == 1:
        return wcs
    c = np.zeros((2, 4, 4))
    c[:, :2, :2] = wcs.coefficients
    c[0, 1, 1], c[1, 3, 0] = 1e-11, 2e-14
    return SkyWcs(wcs.ra0, wcs.dec0, c, wcs.x_ref, wcs.y_ref, wcs.scale)


def make_row(detector: int, **other: object) -> ExposureRow:
    info = DetectorInfo(
        "cam", f"d{detector}", detector, WIDTH, HEIGHT, (Amplifier("a", (0, 0, 399, 299), 2.0, 5.0),), 0.015
    )
    visit = VisitInfo(7, 30.0, 60000.25, "cam-r", "r", 30.0, -12.0, 1.2, -70.0, -30.0, 2700.0)
    values = {
        "bbox": BOX,
        "psf": GaussianPointSpreadFunction(1.5 + detector, bounds=BOX, stamp_size=25),
        "ap_corr_map": {"base_PsfFlux_instFlux": ChebyshevPolynomial(WIDTH, HEIGHT, np.array([[1.0, 0.1]]))},
        "wcs": make_wcs(order=3),
        "photo_calib": PhotoCalib(1.25, 0.01),
        "visit_info": observation_info(visit, info),
        "detector": lsst_detector(info),
        "polygon": Polygon(x_vertices=[0.0, 399.0, 399.0], y_vertices=[0.0, 0.0, 299.0]),
        "values": {"band": "r", "psfSigma": 1.5 + detector, "raCorners": (1.0, 2.0, 3.0, 4.0)},
    }
    return ExposureRow(detector, 7, **{**values, **other})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def catalog() -> ExposureCatalog:
    return ExposureCatalog.from_rows([make_row(5), make_row(2), ExposureRow(3, 7, values=make_row(3).values)])


@pytest.fixture(scope="module")
def stored(catalog: ExposureCatalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalog") / "summary.parquet"
    pq.write_table(catalog.to_arrow(), path)
    return path


def test_rows_are_sorted_by_detector_and_have_the_required_columns(catalog: ExposureCatalog) -> None:
    np.testing.assert_array_equal(catalog.ids, [2, 3, 5])
    dtypes = {name: catalog.table[name].dtype.str[1:] for name in catalog.table.colnames[:6]}
    assert dtypes == {"id": "i8", **dict.fromkeys(list(dtypes)[1:5], "i4"), "visit": "i8"}
    assert list(dtypes) == ["id", "bbox_min_x", "bbox_min_y", "bbox_max_x", "bbox_max_y", "visit"]
    assert catalog.table.meta["COMMENT"] == list(VISIT_COMMENTS)
    assert catalog.find(4) is None


@pytest.mark.parametrize("reader", [pq.read_table, lambda path: arrow_to_astropy(pq.read_table(path))])
def test_a_file_gives_the_same_catalogue_back(catalog: ExposureCatalog, stored: Path, reader: object) -> None:
    back = ExposureCatalog.from_table(reader(stored))  # type: ignore[operator]
    assert back.texts == catalog.texts
    assert back.table.meta == catalog.table.meta
    for name in catalog.table.colnames:
        np.testing.assert_array_equal(back.table[name], catalog.table[name])
        assert back.table[name].dtype == catalog.table[name].dtype
        assert back.table[name].unit == catalog.table[name].unit


def test_components_come_back(catalog: ExposureCatalog) -> None:
    record, row = catalog.find(5), make_row(5)
    assert record is not None
    assert record.getBBox() == BOX
    assert record.getPsf() == row.psf
    assert record.getVisitInfo() == row.visit_info
    # saturation levels are NaN, so that detectors differ from themselves
    assert encode_detector(record.getDetector()) == encode_detector(row.detector)  # type: ignore[arg-type]
    assert record.getValidPolygon() == row.polygon
    assert record.getPhotoCalib() == row.photo_calib
    corrections = record.getApCorrMap()
    assert corrections is not None
    x, y = np.array([0.0, 250.0]), np.array([10.0, 290.0])
    for name, field in row.ap_corr_map.items():  # type: ignore[union-attr]
        np.testing.assert_array_equal(corrections[name](x=x, y=y), field(x=x, y=y))  # type: ignore[operator]
    # the polynomial is kept with every bit
    assert record.getWcs().to_text() == row.wcs.to_text()  # type: ignore[union-attr]


def test_absent_components_are_none(catalog: ExposureCatalog) -> None:
    record = catalog.find(3)
    assert record is not None
    for get in (
        record.getBBox,
        record.getPsf,
        record.getWcs,
        record.getPhotoCalib,
        record.getApCorrMap,
        record.getVisitInfo,
        record.getDetector,
        record.getValidPolygon,
    ):
        assert get() is None
    assert not any(record.has(name) for name in COMPONENTS)


def test_stock_readers_read_the_texts(stored: Path) -> None:
    row = pq.read_table(stored).to_pylist()[2]
    kinds = {}
    for name in ("wcs", "psf", "photoCalib", "detector"):
        kinds[name] = type(read_archive(io.BytesIO(row[name].encode()))).__name__
    assert kinds == {
        "wcs": "SkyProjection",
        "psf": "GaussianPointSpreadFunction",
        "photoCalib": "ChebyshevField",
        "detector": "Detector",
    }
    fields = {
        name: read_archive(io.BytesIO(json.dumps(tree).encode()))
        for name, tree in json.loads(row["apCorrMap"]).items()
    }
    assert isinstance(fields["base_PsfFlux_instFlux"], ChebyshevField)
    assert json.loads(row["validPolygon"])["type"] == "Polygon"
    assert row["transmissionCurve"] == ""


def test_a_projection_made_elsewhere_becomes_the_same_wcs(catalog: ExposureCatalog) -> None:
    record = catalog.find(5)
    assert record is not None
    projection = record.sky_projection
    assert isinstance(projection, SkyProjection)
    other = ExposureCatalog.from_rows([make_row(5, wcs=projection)]).find(5)
    wcs = other.getWcs()  # type: ignore[union-attr]
    x, y = np.array([0.0, 399.0, 120.0]), np.array([0.0, 299.0, 44.0])
    ra, dec = wcs.pixel_to_sky(x=x, y=y)  # type: ignore[union-attr]
    # conversions of TAN-SIP are exact but for rounding: 1e-13 radian is 2e-8 arcsec
    expected = make_wcs(order=3).pixel_to_sky(x=x, y=y)
    np.testing.assert_allclose((ra, dec), expected, rtol=0, atol=1e-12)
    sky = projection.pixel_to_sky(x=x, y=y)
    offsets = sky.separation(SkyCoord(*expected, unit="rad")).to_value(u.arcsec)
    assert offsets.max() < 1e-6


def test_a_calibration_that_varies_keeps_field_and_error() -> None:
    calib = PhotoCalib(2.0, 0.02, ChebyshevPolynomial(WIDTH, HEIGHT, np.array([[2.0, 0.1], [0.05, 0.0]])))
    record = ExposureCatalog.from_rows([make_row(1, photo_calib=calib)]).find(1)
    back = record.getPhotoCalib()  # type: ignore[union-attr]
    assert back is not None
    assert (back.calibration_mean, back.calibration_err) == (2.0, 0.02)
    np.testing.assert_array_equal(back.field.coefficients, calib.field.coefficients)  # type: ignore[union-attr]


@settings(max_examples=4, deadline=None)
@given(order=st.permutations(range(5)), absent=st.sets(st.sampled_from(range(5))))
def test_bytes_do_not_depend_on_the_order_of_rows(order: list[int], absent: set[int]) -> None:
    rows = [
        ExposureRow(
            k, 7, bbox=BOX, photo_calib=None if k in absent else PhotoCalib(1.0 + k), values={"x": 0.5 * k}
        )
        for k in range(5)
    ]
    one, other = (ExposureCatalog.from_rows(each) for each in (rows, [rows[k] for k in order]))
    assert one.to_arrow().equals(other.to_arrow(), check_metadata=True)
    split = ExposureCatalog.concatenate([ExposureCatalog.from_rows([rows[k]]) for k in order])
    assert split.to_arrow().equals(one.to_arrow(), check_metadata=True)
    for k in range(5):
        calib = other.find(k).getPhotoCalib()  # type: ignore[union-attr]
        assert (calib is None) == (k in absent)
        assert calib is None or calib.calibration_mean == 1.0 + k


def test_concatenation_does_not_depend_on_the_order() -> None:
    parts = [ExposureCatalog.from_rows([make_row(k)], comments=DETECTOR_COMMENTS) for k in (4, 1, 9)]
    one, other = ExposureCatalog.concatenate(parts), ExposureCatalog.concatenate(parts[::-1])
    assert one.to_arrow().equals(other.to_arrow())
    np.testing.assert_array_equal(one.ids, [1, 4, 9])
    assert one.table.meta["COMMENT"] == list(VISIT_COMMENTS)


def test_tables_that_are_none_are_refused(catalog: ExposureCatalog) -> None:
    table = catalog.to_table()
    with pytest.raises(InvalidInputError, match="no column visit"):
        ExposureCatalog.from_table(table[[n for n in table.colnames if n != "visit"]])
    with pytest.raises(InvalidInputError, match="detector 3 has more than one row"):
        ExposureCatalog.from_table(table[[0, 1, 1]])
    with pytest.raises(InvalidInputError, match="'id' is float64"):
        ExposureCatalog.from_table(Table({**{n: table[n] for n in table.colnames}, "id": [1.0, 2.0, 3.0]}))
    other = ExposureCatalog.from_rows([make_row(8, values={"band": "r", "raCorners": (0.0,) * 4})])
    with pytest.raises(InvalidInputError, match=r"differ.*psfSigma"):
        ExposureCatalog.concatenate([catalog, other])
    with pytest.raises(InvalidInputError, match="other columns than detector 2: psfSigma"):
        ExposureCatalog.from_rows([make_row(2), make_row(3, values={"band": "r", "raCorners": (0.0,) * 4})])
    with pytest.raises(InvalidInputError, match="no exposure catalogue"):
        ExposureCatalog.concatenate([])


def test_a_damaged_component_is_named(catalog: ExposureCatalog) -> None:
    table = catalog.to_table()
    table["wcs"][0] = '{"schema_url": "nothing"}'
    table["psf"][0] = "garbage"
    record = ExposureCatalog.from_table(table).find(2)
    for get, name in ((record.getWcs, "wcs"), (record.getPsf, "psf")):  # type: ignore[union-attr]
        with pytest.raises(InvalidInputError, match=f"visit 7 detector 2: the column '{name}'"):
            get()


def test_sentences_are_written_again_where_a_reader_lost_them(catalog: ExposureCatalog) -> None:
    bare = ExposureCatalog.from_table(catalog.to_arrow().replace_schema_metadata(None))
    assert b"Only detectors with data" in bare.to_arrow().schema.metadata[b"table_meta_yaml"]


def test_an_empty_catalogue_keeps_its_columns(catalog: ExposureCatalog) -> None:
    empty = ExposureCatalog.from_table(catalog.to_table()[:0])
    back = ExposureCatalog.from_table(empty.to_arrow())
    assert len(back) == 0
    assert back.table.dtype == catalog.table.dtype


def test_components_and_columns_are_replaced_in_a_copy(catalog: ExposureCatalog) -> None:
    changed = catalog.without("wcs", [5]).with_columns({"flag": np.array([True, False, True])})
    assert changed.find(5).getWcs() is None  # type: ignore[union-attr]
    assert changed.find(2).getWcs() is not None  # type: ignore[union-attr]
    assert catalog.find(5).has("wcs")  # type: ignore[union-attr]
    assert "flag" not in catalog.table.colnames
