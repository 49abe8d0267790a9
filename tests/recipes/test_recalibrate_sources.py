"""Sources with the WCS and photometric calibration of a visit summary."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Column, Table
from lsst.images import Box

from zeropoint.datamodel.exposure import AB_FLUX_NJY, PhotoCalib
from zeropoint.datamodel.exposure_catalog import ExposureCatalog, ExposureRecord, ExposureRow
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import InvalidInputError
from zeropoint.recipes.recalibrate_sources import RecalibrateSources, RecalibrateSourcesConfig

WIDTH, HEIGHT, SCALE = 400, 300, 0.4
#: One source has no centroid.
X = np.array([10.0, 200.0, 390.5, np.nan])
Y = np.array([20.0, 150.0, 280.25, 50.0])
FLUX = np.array([1e4, -50.0, 3e5, 10.0])
COORDINATES = ("coord_ra", "coord_dec")


@pytest.fixture(scope="module")
def wcs() -> SkyWcs:
    return SkyWcs.from_boresight(
        0.001, 60.0, x=200.0, y=150.0, pixel_scale_arcsec=SCALE, rotation_deg=25.0, flip=True
    )


@pytest.fixture(scope="module")
def summary(wcs: SkyWcs) -> ExposureCatalog:
    """Detector 3 has both calibrations, detector 4 none."""
    box = Box.factory[0:HEIGHT, 0:WIDTH]
    slope = ChebyshevPolynomial(WIDTH, HEIGHT, np.array([[30.0, 2.0], [1.0, 0.0]]))
    rows = [
        ExposureRow(3, 71, bbox=box, wcs=wcs, photo_calib=PhotoCalib(30.0, 0.25, slope)),
        ExposureRow(4, 71, bbox=box),
    ]
    return ExposureCatalog.from_rows(rows)


def row_of(summary: ExposureCatalog, detector: int) -> ExposureRecord:
    row = summary.find(detector)
    assert row is not None
    return row


@pytest.fixture
def table() -> Table:
    error = np.full(4, 0.01, "f4")
    return Table(
        {
            "id": Column([5, 6, 7, 8], description="unique row id"),
            "coord_ra": Column(np.full(4, 1.0), unit="rad"),
            "coord_dec": Column(np.full(4, 0.5), unit="rad"),
            "coord_raErr": Column(error, unit="rad"),
            "coord_decErr": Column(error, unit="rad"),
            "coord_ra_dec_Cov": Column(error, unit="rad2"),
            "slot_Centroid_x": Column(X, unit="pixel"),
            "slot_Centroid_y": Column(Y, unit="pixel"),
            "slot_Centroid_xErr": Column(error, unit="pixel"),
            "slot_Centroid_yErr": Column(2 * error, unit="pixel"),
            "base_PsfFlux_instFlux": Column(FLUX, unit="count"),
            "base_PsfFlux_instFluxErr": Column(np.full(4, 20.0), unit="count"),
            "base_PsfFlux_flux": Column(np.full(4, -1.0), unit="nJy"),
            "base_PsfFlux_fluxErr": Column(np.full(4, -1.0), unit="nJy"),
            "base_PsfFlux_mag": Column(np.full(4, -1.0), unit="mag(AB)"),
            "base_PsfFlux_magErr": Column(np.full(4, -1.0), unit="mag(AB)"),
            "base_GaussianFlux_instFlux": Column(FLUX, unit="count"),
            "detect_isPrimary": np.array([True, False, True, True]),
            "detector": np.full(4, 99, "i2"),
            "band": np.full(4, "r"),
        }
    )


def test_coordinates_and_their_errors_are_those_of_the_new_wcs(table, summary, wcs) -> None:
    result = RecalibrateSources().run(table, row_of(summary, 3)).table
    ra, dec = wcs.pixel_to_sky(x=X, y=Y)
    # the polynomials of both forms of the WCS agree to the rounding of a radian
    np.testing.assert_allclose(result["coord_ra"], ra, rtol=0, atol=1e-14)
    np.testing.assert_allclose(result["coord_dec"], dec, rtol=0, atol=1e-14)
    assert np.isnan([result[name][3] for name in COORDINATES]).all()
    # rotation keeps the area of the error ellipse: 1 x 2 hundredths of a pixel
    pixel = np.deg2rad(SCALE / 3600)
    variances = result["coord_raErr"] ** 2.0 * result["coord_decErr"] ** 2.0
    area = np.sqrt(variances - np.asarray(result["coord_ra_dec_Cov"], "f8") ** 2)
    # single precision, and the difference of two numbers ten times as large
    np.testing.assert_allclose(area[:3], 2e-4 * pixel**2, rtol=1e-5)


def test_local_wcs_is_the_derivative_of_the_coordinates(table, summary) -> None:
    recipe, row = RecalibrateSources(), row_of(summary, 3)
    result = recipe.run(table, row).table
    for axis, column in enumerate(("slot_Centroid_x", "slot_Centroid_y"), start=1):
        ends = []
        for step in (-0.5, 0.5):
            moved = table.copy()
            moved[column] += step
            ends.append(recipe.run(moved, row).table)
        east = (ends[1]["coord_ra"] - ends[0]["coord_ra"] + np.pi) % (2 * np.pi) - np.pi
        north = ends[1]["coord_dec"] - ends[0]["coord_dec"]
        # a step of a pixel, 2e-6 rad, is known to 1e-16 * 6 rad (right ascension near 24 h): 5e-10 of it
        expected = {1: east * np.cos(result["coord_dec"]), 2: north}
        for component, values in expected.items():
            local = result[f"base_LocalWcs_CDMatrix_{component}_{axis}"]
            np.testing.assert_allclose(local[:3], values[:3], atol=3e-9 * np.deg2rad(SCALE / 3600))
    assert result["base_LocalWcs_flag"].tolist() == [False, False, False, True]


def test_local_photo_calib_and_calibrated_columns_follow_the_new_calibration(table, summary) -> None:
    result = RecalibrateSources().run(table, row_of(summary, 3)).table
    u, v = (2 * X - WIDTH + 1) / WIDTH, (2 * Y - HEIGHT + 1) / HEIGHT
    expected = 30.0 + 2.0 * u + 1.0 * v
    np.testing.assert_allclose(result["base_LocalPhotoCalib"], expected, rtol=1e-13)
    np.testing.assert_array_equal(result["base_LocalPhotoCalibErr"], [0.25, 0.25, 0.25, np.nan])
    assert result["base_LocalPhotoCalib_flag"].tolist() == [False, False, False, True]
    np.testing.assert_allclose(result["base_PsfFlux_flux"], FLUX * expected, rtol=1e-13)
    np.testing.assert_allclose(result["base_PsfFlux_fluxErr"], 20.0 * expected, rtol=1e-13)
    np.testing.assert_allclose(
        result["base_PsfFlux_mag"][[0, 2]],
        -2.5 * np.log10((FLUX * expected)[[0, 2]] / AB_FLUX_NJY),
        rtol=1e-13,
    )
    assert np.isnan(result["base_PsfFlux_mag"][1])
    # a flux that was not calibrated before is not now
    assert "base_GaussianFlux_flux" not in result.colnames


def test_everything_else_is_kept_and_the_input_is_not_touched(table, summary) -> None:
    before = table.copy()
    result = RecalibrateSources().run(table, row_of(summary, 3)).table
    assert result.colnames[: len(table.colnames)] == table.colnames
    for name in table.colnames:
        np.testing.assert_array_equal(table[name], before[name], err_msg=name)
        assert result[name].dtype == table[name].dtype
        assert str(result[name].unit) == str(table[name].unit)
    for name in ("id", "slot_Centroid_x", "base_PsfFlux_instFlux", "detect_isPrimary", "band"):
        np.testing.assert_array_equal(result[name], table[name], err_msg=name)
    assert set(result["visit"]) == {71}
    assert set(result["detector"]) == {3}


def test_what_is_switched_off_is_kept(table, summary) -> None:
    config = RecalibrateSourcesConfig()
    config.doReevaluateSkyWcs = False
    result = RecalibrateSources(config).run(table, row_of(summary, 3)).table
    np.testing.assert_array_equal(result["coord_ra"], table["coord_ra"])
    assert not [name for name in result.colnames if name.startswith("base_LocalWcs")]
    assert "base_LocalPhotoCalib" in result.colnames
    config.doReevaluateSkyWcs, config.doReevaluatePhotoCalib = True, False
    result = RecalibrateSources(config).run(table, row_of(summary, 3)).table
    np.testing.assert_array_equal(result["base_PsfFlux_flux"], table["base_PsfFlux_flux"])
    assert not [name for name in result.colnames if name.startswith("base_LocalPhotoCalib")]


def test_calibrations_that_the_summary_lacks_leave_nan_and_flags(table, summary) -> None:
    result = RecalibrateSources().run(table, row_of(summary, 4))
    assert (result.has_wcs, result.has_photo_calib) == (False, False)
    nan = [
        *COORDINATES,
        "coord_raErr",
        "base_LocalWcs_CDMatrix_1_1",
        "base_LocalPhotoCalib",
        "base_PsfFlux_flux",
    ]
    for name in [*nan, "base_PsfFlux_mag", "base_LocalPhotoCalibErr"]:
        assert np.isnan(result.table[name]).all(), name
    for name in ("base_LocalWcs_flag", "base_LocalPhotoCalib_flag"):
        assert result.table[name].all()
    np.testing.assert_array_equal(result.table["base_PsfFlux_instFlux"], FLUX)


def test_the_same_calibrations_again_change_nothing(table, summary) -> None:
    recipe, row = RecalibrateSources(), row_of(summary, 3)
    once = recipe.run(table, row).table
    twice = recipe.run(once, row).table
    assert twice.colnames == once.colnames
    for name in once.colnames:
        np.testing.assert_array_equal(twice[name], once[name], err_msg=name)


def test_sources_without_centroids_are_refused(table, summary) -> None:
    del table["slot_Centroid_x"]
    with pytest.raises(
        InvalidInputError, match="visit 71 detector 3: the sources have no column slot_Centroid_x"
    ):
        RecalibrateSources().run(table, row_of(summary, 3))
