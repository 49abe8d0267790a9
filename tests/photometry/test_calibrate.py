import numpy as np
import pytest

from naive import matched_stars as sky
from zeropoint.datamodel.background import BackgroundComponent, BackgroundList
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.exposure import PhotoCalib
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.photometry.calibrate import calibrate_catalog, calibrate_pixels_in_place, calibrated_columns

CALIB = PhotoCalib(36.3, 0.363)


def catalog():
    columns = Schema()
    names = ["deblend_psf_instFlux", "base_PsfFlux_instFlux", "base_PsfFlux_instFluxErr"]
    columns.add(*[ColumnSpec(name, "f8") for name in names])
    columns.alias("slot_PsfFlux", "base_PsfFlux")
    result = SourceCatalog(columns, 3)
    result["base_PsfFlux_instFlux"] = [100.0, -5.0, np.nan]
    result["base_PsfFlux_instFluxErr"] = [1.0, 1.0, 1.0]
    return result


def test_columns_are_known_in_advance_and_in_order():
    assert [(spec.name, spec.unit) for spec in calibrated_columns(catalog().schema)] == [
        ("base_PsfFlux_flux", "nJy"),
        ("base_PsfFlux_mag", "mag(AB)"),
        ("base_PsfFlux_fluxErr", "nJy"),
        ("base_PsfFlux_magErr", "mag(AB)"),
        ("deblend_psf_flux", "nJy"),
        ("deblend_psf_mag", "mag(AB)"),
    ]


def test_fluxes_become_njy_and_magnitudes():
    before = catalog()
    after = calibrate_catalog(before, CALIB)
    assert "base_PsfFlux_flux" not in before
    np.testing.assert_allclose(after["slot_PsfFlux_flux"], [3630.0, -181.5, np.nan])
    # 31.4 is the usual rounding of the AB zero point in nJy
    np.testing.assert_allclose(
        after["base_PsfFlux_mag"], [31.4 - 2.5 * np.log10(3630), np.nan, np.nan], atol=1e-4
    )
    np.testing.assert_allclose(after["base_PsfFlux_fluxErr"], 36.3)
    np.testing.assert_allclose(after["base_PsfFlux_magErr"], [1.0857e-2, np.nan, np.nan], rtol=1e-4)


def test_declared_columns_are_filled_in_place():
    declared = catalog()
    schema = declared.schema.copy()
    schema.add(*calibrated_columns(schema))
    declared = declared.with_schema(schema)
    assert calibrate_catalog(declared, CALIB) is declared
    assert declared["base_PsfFlux_flux"][0] == pytest.approx(3630.0)


def test_pixels_and_background_are_scaled():
    exposure = sky.exposure(None, 8)
    exposure.image = np.full((8, 8), 2.0, np.float32)
    exposure.variance = np.full((8, 8), 3.0, np.float32)
    values = np.array([[5.0]])
    component = BackgroundComponent(values, values, np.array([3.5]), np.array([3.5]), 8, 8, "CONSTANT")
    scaled = calibrate_pixels_in_place(exposure, BackgroundList([component]), PhotoCalib(10.0, 0.2))
    assert np.all(exposure.image == 20.0)
    assert np.all(exposure.variance == 300.0)
    assert exposure.metadata["BUNIT"] == "nJy"
    assert exposure.photo_calib == PhotoCalib(1.0, 0.02)
    assert np.all(scaled.image() == 50.0)
    assert component.values[0, 0] == 5.0


FIELD = ChebyshevPolynomial(8, 8, np.array([[10.0, 0.5], [0.2, 0.0]]))


def test_a_field_is_applied_where_each_source_is():
    before = catalog()
    schema = before.schema.copy()
    schema.add(ColumnSpec("c_x", "f8"), ColumnSpec("c_y", "f8"))
    schema.alias("slot_Centroid", "c")
    before = before.with_schema(schema)
    before["c_x"], before["c_y"] = [-0.5, 3.5, 7.5], [3.5, 3.5, 3.5]
    after = calibrate_catalog(before, PhotoCalib(10.0, 0.1, FIELD))
    np.testing.assert_allclose(after["base_PsfFlux_flux"], [950.0, -50.0, np.nan])
    np.testing.assert_allclose(after["base_PsfFlux_fluxErr"], [9.5, 10.0, 10.5])


@pytest.mark.parametrize("style", ["NATURAL_SPLINE", "CHEBYSHEV"])
def test_a_field_scales_pixels_and_background_alike(style, rng):
    values = rng.uniform(90, 110, (3, 3))
    centers = np.array([1.0, 3.5, 6.0])
    polynomial = ChebyshevPolynomial(8, 8, values) if style == "CHEBYSHEV" else None
    subtracted = BackgroundList(
        [BackgroundComponent(values, values, centers, centers, 8, 8, style, polynomial)] * 2
    )
    raw = rng.normal(2 * 100, 1, (8, 8)).astype(np.float32)
    exposure = sky.exposure(None, 8)
    exposure.image, exposure.variance = raw - subtracted.image(), np.full((8, 8), 3.0, np.float32)
    background = calibrate_pixels_in_place(exposure, subtracted, PhotoCalib(10.0, 0.2, FIELD))
    y, x = np.mgrid[0:8, 0:8]
    field = FIELD(x=x, y=y)
    np.testing.assert_allclose(exposure.image + background.image(), raw * field, rtol=2e-6)
    np.testing.assert_allclose(exposure.variance, 3.0 * field**2, rtol=1e-6)
    assert exposure.photo_calib == PhotoCalib(1.0, 0.02)
    twice = background.scaled(FIELD).scaled(0.1)
    np.testing.assert_allclose(twice.image(), 0.1 * subtracted.image() * field**2, rtol=1e-6, atol=1e-3)
