"""Photometric calibrations of a visit as one table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from lsst.daf.butler.formatters.parquet import arrow_to_astropy
from lsst.images import Box

from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.photo_calib_catalog import (
    PhotoCalibCatalog,
    PhotoCalibRecord,
    is_photo_calib_table,
)
from zeropoint.errors import InvalidInputError

BOX = Box.factory[0:300, 0:200]
#: Products and changes of variables of polynomials with a handful of coefficients.
ROUNDING = 1e-12


@pytest.fixture
def records(rng):
    first = PhotoCalibRecord(
        7,
        42,
        BOX,
        np.array([[30.0, 0.2], [-0.1, 0.05]]),
        pixel_area=np.array([[1.0, 0.01, 0.002]]),
        superstar=np.outer([1, 0, 0], [1, 0]) + 0.01 * rng.normal(size=(3, 2)),
        calibration_err=0.06,
        wcs_jacobian_applied=True,
    )
    return [first, PhotoCalibRecord(3, 42, BOX, np.array([[25.0]]), calibration_err=0.02)]


def test_the_table_gives_the_records_back(records):
    catalog = PhotoCalibCatalog.from_records(records, {"COMMENT": "cycle 3"})
    for table in (catalog.to_table(), catalog.to_arrow(), arrow_to_astropy(catalog.to_arrow())):
        assert is_photo_calib_table(table)
        again = PhotoCalibCatalog.from_table(table)
        assert [record.id for record in again] == [3, 7]
        for record in records:
            found = again.find(record.id)
            assert (found.visit, found.bbox, found.domain) == (record.visit, record.bbox, record.bbox)
            assert found.wcs_jacobian_applied == record.wcs_jacobian_applied
            assert found.calibration_err == record.calibration_err
            x, y = np.array([0.0, 20.5, 199.0]), np.array([0.0, 100.0, 299.0])
            for factor in ("gray", "superstar", "pixel_area"):
                ours, theirs = (
                    ChebyshevPolynomial(200, 300, each.coefficients(factor))(x=x, y=y)
                    for each in (found, record)
                )
                np.testing.assert_array_equal(ours, theirs)
        assert again.find(4) is None


def test_columns_have_units_and_the_documented_shape(records):
    table = arrow_to_astropy(PhotoCalibCatalog.from_records(records).to_arrow())
    assert table["superstar_coefficients"].shape == (2, 6)
    assert (table["superstar_order_y"][0], table["superstar_order_x"][0]) == (2, 1)
    assert str(table["gray_coefficients"].unit) == "nJy / electron"
    assert str(table["calibrationMean"].unit) == "nJy / electron"
    assert table["superstar_coefficients"].unit is None
    np.testing.assert_array_equal(table["superstar_coefficients"][1], records[0].superstar.ravel())
    assert all(table[name].description for name in table.colnames)


def test_the_calibration_is_the_product_of_its_factors(records):
    record = records[0]
    calib = record.getPhotoCalib()
    x, y = np.array([0.0, 31.0, 199.0]), np.array([299.0, 12.5, 0.0])
    product = np.prod(
        [
            ChebyshevPolynomial(200, 300, record.coefficients(f))(x=x, y=y)
            for f in ("gray", "superstar", "pixel_area")
        ],
        axis=0,
    )
    np.testing.assert_allclose(calib.at(x=x, y=y), product, rtol=ROUNDING)
    assert record.calibration_mean == pytest.approx(float(calib.at(x=99.5, y=149.5)), rel=ROUNDING)
    assert calib.calibration_mean == pytest.approx(calib.field.image(float).mean(), rel=1e-4)
    assert calib.calibration_err / calib.calibration_mean == pytest.approx(0.06 / record.calibration_mean)


def test_a_constant_calibration_has_no_field(records):
    calib = records[1].getPhotoCalib()
    assert calib.field is None
    assert (calib.calibration_mean, calib.calibration_err) == (25.0, pytest.approx(0.02))


def test_the_polynomials_may_span_another_box_than_the_detector(records):
    domain = Box.factory[-40:500, 10:700]
    calib = replace(records[0], bbox=Box.factory[20:320, 5:205], domain=domain).getPhotoCalib()
    x, y = np.array([0.0, 31.0, 199.0]), np.array([299.0, 12.5, 0.0])
    product = np.prod(
        [
            ChebyshevPolynomial(690, 540, records[0].coefficients(f))(x=x + 5 - 10, y=y + 20 + 40)
            for f in ("gray", "superstar", "pixel_area")
        ],
        axis=0,
    )
    np.testing.assert_allclose(calib.at(x=x, y=y), product, rtol=ROUNDING)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("superstar_order_x", 4, "superstar_coefficients; orders 2 in y and 4 in x need 15"),
        ("calibrationMean", 26.0, "calibrationMean is 26, but the coefficients give 25"),
        ("calibrationErr", np.nan, "positive and finite"),
        ("bbox_max_x", -1, "empty bbox"),
        ("id", 7, "Detector 7 has two photometric calibrations"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(records, column, value, message):
    table = PhotoCalibCatalog.from_records(records).to_table()
    table[column][0] = value
    with pytest.raises(InvalidInputError, match=message):
        PhotoCalibCatalog.from_table(table)


def test_coefficients_must_be_finite_and_the_calibration_positive(records):
    table = PhotoCalibCatalog.from_records(records).to_table()
    table["gray_coefficients"][0, 0] = np.nan
    with pytest.raises(InvalidInputError, match="detector 3 has gray_coefficients that are not finite"):
        PhotoCalibCatalog.from_table(table)
    negative = replace(records[1], gray=np.array([[-25.0]]))
    with pytest.raises(InvalidInputError, match="positive"):
        PhotoCalibCatalog.from_table(PhotoCalibCatalog.from_records([negative]).to_table())


@pytest.mark.parametrize("arrow", [False, True])
def test_a_missing_column_is_named(records, arrow):
    table = PhotoCalibCatalog.from_records(records).to_table()
    table.remove_column("domain_min_x")
    with pytest.raises(InvalidInputError, match="no column 'domain_min_x'"):
        PhotoCalibCatalog.from_table(
            pa.Table.from_pydict({c: list(table[c]) for c in table.colnames}) if arrow else table
        )


def test_an_empty_catalogue_keeps_its_columns():
    empty = PhotoCalibCatalog.from_records([])
    assert len(PhotoCalibCatalog.from_table(empty.to_arrow())) == 0
    assert empty.to_table()["gray_coefficients"].shape == (0, 1)
