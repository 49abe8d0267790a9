"""Photometric calibrations that zeropoints stand for."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.datamodel.exposure import AB_FLUX_NJY
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.focal_plane import DetectorGeometry, FocalPlane
from zeropoint.datamodel.photo_calib_catalog import PhotoCalibCatalog
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.magnitudes import MAG_PER_LN, area_correction
from zeropoint.fgcm.outputs.photo_calib import photo_calibs

#: Of the detectors of the tables.
WIDTH, HEIGHT = 200, 300
X, Y = np.array([0.0, 33.0, 199.0]), np.array([0.0, 250.5, 299.0])
#: Products of a handful of floating-point numbers.
ROUNDING = 1e-12


def row_of(zeropoints, visit, detector):
    return zeropoints[(zeropoints["visit"] == visit) & (zeropoints["detector"] == detector)][0]


def test_a_calibration_is_area_times_flat_times_gray(zeropoints, focal_plane, visits):
    calibs = photo_calibs(zeropoints, focal_plane=focal_plane, offsets={"r_cam": 0.05}, visits=visits)
    row = row_of(zeropoints, 12, 4)
    record = calibs.catalog(12).find(4)
    flat, gray = (
        ChebyshevPolynomial(WIDTH, HEIGHT, np.asarray(row[name]).reshape(2, 2))(x=X, y=Y)
        for name in ("fgcmfZptSstarCheb", "fgcmfZptCheb")
    )
    # the fluxes of this detector were scaled in the fit, and the references added 0.05 mag to r
    area = focal_plane.relative_area(4, X, Y)
    expected = area * flat * gray * AB_FLUX_NJY * 1.1 * 10 ** (-0.4 * 0.05)
    found = record.getPhotoCalib().at(x=X, y=Y)
    np.testing.assert_allclose(found, expected, rtol=ROUNDING)
    assert record.wcs_jacobian_applied
    assert record.calibration_err / record.calibration_mean == pytest.approx(row["fgcmZptErr"] / MAG_PER_LN)


def test_a_calibrated_flux_has_the_magnitude_that_the_fit_gave_it(zeropoints, focal_plane, visits):
    zeropoints["fgcmfZptCheb"][:, 1:] = 0.0
    zeropoints["fgcmfZptSstarCheb"] = [1.0, 0.0, 0.0, 0.0]
    calibs = photo_calibs(zeropoints, focal_plane=focal_plane, visits=visits)
    counts = 12345.0
    nanojansky = counts * calibs.catalog(11).find(4).getPhotoCalib().at(x=X, y=Y)
    row = row_of(zeropoints, 11, 4)
    area = area_correction(focal_plane.relative_area(4, X, Y))
    expected = -2.5 * np.log10(counts) + area + row["fgcmZpt"] + row["fgcmDeltaChrom"]
    np.testing.assert_allclose(-2.5 * np.log10(nanojansky / AB_FLUX_NJY), expected, rtol=0, atol=1e-9)


def test_zeropoints_that_cannot_be_used_are_counted(zeropoints):
    zeropoints["fgcmZptErr"][zeropoints["detector"] == 4] = [np.nan, 0.0]
    zeropoints["fgcmfZptSstarCheb"][(zeropoints["visit"] == 12) & (zeropoints["detector"] == 1), 0] = 100.0
    calibs = photo_calibs(zeropoints)
    stage = calibs.accounting["photo_calibs"]
    assert stage.adds_up
    assert (stage.read, stage.kept) == (6, 2)
    assert dict(stage.rejected) == {"no_zeropoint": 1, "no_error": 2, "no_flat": 1}
    assert (calibs.visits.tolist(), calibs.without.tolist()) == ([11], [12])
    assert len(calibs.catalog(12)) == 0


def test_without_stars_the_chromatic_correction_is_that_of_the_visit(zeropoints):
    calibs = photo_calibs(zeropoints)
    plain = photo_calibs(zeropoints, mean_chromatic=False)
    ratio = calibs.factor / plain.factor
    np.testing.assert_allclose(-2.5 * np.log10(ratio), [0.001, 0.002, 0.0015, 0.0, 0.0], atol=1e-12)
    assert dict(calibs.accounting["photo_calibs"].noted) == {"chromatic_from_visit": 1}


def test_the_order_of_rows_does_not_matter(zeropoints, focal_plane, visits):
    first, again = (
        [catalog.to_arrow() for _, catalog in photo_calibs(rows, focal_plane=focal_plane, visits=visits)]
        for rows in (zeropoints, zeropoints[::-1])
    )
    assert first == again
    record = PhotoCalibCatalog.from_table(first[0]).find(6)
    assert (record.visit, record.id) == (11, 6)


def test_the_common_mode_of_the_band_goes_along(zeropoints):
    assert photo_calibs(zeropoints).catalog(11).metadata == {"COMMON_MODE_g": 0.004}


@settings(max_examples=30, deadline=None)
@given(
    st.integers(-40, 40),
    st.integers(-40, 40),
    st.integers(1, 60),
    st.lists(st.floats(-0.05, 0.05), min_size=8, max_size=8),
)
def test_areas_are_those_of_the_pixels_whatever_the_box(x0, y0, grow, terms):
    coefficients = np.array([1.0, *terms]).reshape(3, 3)
    width, height = WIDTH + grow, HEIGHT - grow
    area = ChebyshevPolynomial(width, height, coefficients)
    plane = FocalPlane("Cam", (DetectorGeometry(1, "1", x0, y0, width, height, 0, 0, 0.2, area),))
    columns = {
        "visit": [5],
        "detector": [1],
        "fgcmFlag": [1],
        "fgcmZpt": [30.0],
        "fgcmZptErr": [0.01],
        "fgcmDeltaChrom": [0.0],
        "fgcmfZptChebXyMax": [[WIDTH, HEIGHT]],
        "fgcmfZptCheb": [[1e-12]],
        "fgcmfZptSstarCheb": [[1.0]],
        "filtername": ["g"],
    }
    record = photo_calibs(Table(columns), focal_plane=plane).catalog(5).find(1)
    # fields count from the first pixel of the box
    x, y = np.array([0.0, width - 1.0, 17.0]), np.array([0.0, height - 1.0, 100.0])
    expected = 1e-12 * AB_FLUX_NJY * plane.relative_area(1, x + x0, y + y0)
    np.testing.assert_allclose(record.getPhotoCalib().at(x=x, y=y), expected, rtol=1e-10)


def test_what_is_missing_is_named(zeropoints, focal_plane, visits):
    with pytest.raises(InvalidInputError, match="no column fgcmZptErr"):
        photo_calibs(zeropoints[[name for name in zeropoints.colnames if name != "fgcmZptErr"]])
    with pytest.raises(InvalidInputError, match=r"Visit 12 .* not in fgcmVisitCatalog"):
        photo_calibs(zeropoints, visits=visits[:1])
    visits.meta["DETECTORS"] = [1, 4, 5]
    with pytest.raises(InvalidInputError, match="Detector 6"):
        photo_calibs(zeropoints, visits=visits)
    with pytest.raises(InvalidInputError, match="no detector 6"):
        photo_calibs(zeropoints, focal_plane=focal_plane.only([1, 4])).catalog(11)
