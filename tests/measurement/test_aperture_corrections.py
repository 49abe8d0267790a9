"""Aperture corrections, the normalized flux, catalogue calculations and primary flags."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from naive.star_field import disc_footprints, exposure_of
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.errors import MeasureApCorrError, NormalizedCalibrationFluxError
from zeropoint.measurement.aperture_corrections import (
    MeasureApCorr,
    MeasureApCorrConfig,
    ap_corr_names,
)
from zeropoint.measurement.apply_aperture_corrections import ApplyApCorr, ApplyApCorrConfig
from zeropoint.measurement.catalog_calculation import CatalogCalculation
from zeropoint.measurement.normalized_flux import (
    NormalizedCalibrationFlux,
    NormalizedCalibrationFluxConfig,
)
from zeropoint.measurement.primary_flags import SetPrimaryFlags
from zeropoint.measurement.ratio_fit import fit_ratio

SIDE = 200
TOPHAT = "base_CompensatedTophatFlux_12"
APERTURE = "base_CircularApertureFlux_12_0"
NORMALIZED = "base_NormalizedCompensatedTophatFlux"
FLUXES = ("base_PsfFlux", "base_GaussianFlux", APERTURE, TOPHAT)


def flux_schema():
    schema = Schema()
    schema.add(
        ColumnSpec("id", "i8"),
        ColumnSpec("parent", "i8"),
        ColumnSpec("base_SdssCentroid_x", "f8"),
        ColumnSpec("base_SdssCentroid_y", "f8"),
        ColumnSpec("calib_psf_used", "bool"),
    )
    for name in FLUXES:
        schema.add(
            ColumnSpec(f"{name}_instFlux", "f8"),
            ColumnSpec(f"{name}_instFluxErr", "f8"),
            ColumnSpec(f"{name}_flag", "bool"),
        )
    for alias, target in (
        ("slot_Centroid", "base_SdssCentroid"),
        ("slot_CalibFlux", APERTURE),
        ("slot_PsfFlux", "base_PsfFlux"),
        ("slot_ModelFlux", "base_GaussianFlux"),
    ):
        schema.alias(alias, target)
    return schema


def star_config(cls=MeasureApCorrConfig):
    """Return a config that takes the PSF stars, as the recipe does."""
    config = cls()
    selector = config.sourceSelector["science"]
    selector.doUnresolved = False
    selector.flags.good, selector.flags.bad = ["calib_psf_used"], []
    return config


def truth(x, y):
    """Return a correction with a 2 % gradient."""
    return 1.05 + 0.02 * (x / SIDE - 0.5) + 0.005 * (y / SIDE - 0.5)


def stars(schema, n=200, noise=0.002, seed=1):
    rng = np.random.default_rng(seed)
    catalog = SourceCatalog(schema, n)
    x, y = rng.uniform(0, SIDE, (2, n))
    catalog["id"] = np.arange(n) + 1
    catalog["base_SdssCentroid_x"], catalog["base_SdssCentroid_y"] = x, y
    catalog["calib_psf_used"] = True
    flux = 10 ** rng.uniform(5, 6, n)
    for name in FLUXES:
        catalog[f"{name}_instFlux"] = flux
        catalog[f"{name}_instFluxErr"] = flux / 500
    reference = flux * truth(x, y) * (1 + noise * rng.normal(size=n))
    catalog[f"{APERTURE}_instFlux"] = reference
    return catalog


EXPOSURE = exposure_of(np.zeros((SIDE, SIDE)), 1.0, None)


def grid():
    return np.meshgrid(np.linspace(0, SIDE - 1, 21), np.linspace(0, SIDE - 1, 21))


def test_only_fluxes_of_the_schema_are_corrected():
    assert ap_corr_names(flux_schema()) == ("base_GaussianFlux", "base_PsfFlux")
    assert ap_corr_names(Schema()) == ()


def test_a_planted_gradient_is_recovered_to_a_millimagnitude():
    schema = flux_schema()
    step = MeasureApCorr(star_config(), schema=schema)
    catalog = stars(schema)
    result = step.run(EXPOSURE, catalog)
    x, y = grid()
    residual = 2.5 * np.log10(result.ap_corr_map["base_PsfFlux_instFlux"](x=x, y=y) / truth(x, y))
    # 200 stars of 2.2 mmag: 0.4 mmag on average from 6 terms, 0.2 from the median shift, more in the corners
    assert np.sqrt(np.mean(residual**2)) < 1e-3
    error = result.ap_corr_map["base_PsfFlux_instFluxErr"](x=0.0, y=0.0)
    assert 0.0015 < error < 0.003
    assert catalog["apcorr_base_PsfFlux_used"].sum() == result.n_used["base_PsfFlux"] > 190
    assert not catalog["apcorr_slot_CalibFlux_used"].any()


def test_the_flags_are_in_the_order_of_the_catalogue():
    schema = flux_schema()
    MeasureApCorr(schema=schema)
    assert [name for name in schema.columns if name.startswith("apcorr")] == [
        "apcorr_slot_CalibFlux_used",
        "apcorr_base_GaussianFlux_used",
        "apcorr_base_PsfFlux_used",
    ]


def test_outliers_are_rejected_and_not_marked_used():
    schema = flux_schema()
    step = MeasureApCorr(star_config(), schema=schema)
    catalog = stars(schema)
    catalog[f"{APERTURE}_instFlux"][:10] *= 1.3
    result = step.run(EXPOSURE, catalog)
    x, y = grid()
    residual = 2.5 * np.log10(result.ap_corr_map["base_PsfFlux_instFlux"](x=x, y=y) / truth(x, y))
    assert np.sqrt(np.mean(residual**2)) < 1e-3
    assert not catalog["apcorr_base_PsfFlux_used"][:10].any()


@pytest.mark.parametrize(("n", "highest"), [(7, 2), (6, 1), (4, 1), (3, 0), (2, 0)])
def test_the_order_falls_with_the_number_of_stars(n, highest):
    rng = np.random.default_rng(n)
    config = MeasureApCorrConfig()
    config.numSigmaClip = 1e9
    x, y = rng.uniform(0, SIDE, (2, n))
    # an exact quadratic: every order that the stars allow is worth taking
    ratio = 1 + 0.5 * (x / SIDE) + 0.3 * (y / SIDE) ** 2
    fit = fit_ratio(x, y, ratio, (SIDE, SIDE), config)
    assert fit.field.coefficients.shape[0] <= highest + 1
    if n == 7:
        np.testing.assert_allclose(fit.field(x=x, y=y), ratio, rtol=1e-6)


def test_noise_alone_is_not_fitted_by_a_surface():
    orders = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, y = rng.uniform(0, SIDE, (2, 25))
        fit = fit_ratio(x, y, 1 + 0.02 * rng.normal(size=25), (SIDE, SIDE), MeasureApCorrConfig())
        orders.append(fit.field.coefficients.shape[0] - 1)
    # a quadratic of noise is taken by chance now and then, but most fields stay constant
    assert np.mean(np.array(orders) == 0) > 0.6


def test_bright_stars_decide_over_faint_ones():
    rng = np.random.default_rng(5)
    n = 30
    error = np.where(np.arange(n) < 10, 0.002, 0.05)
    x, y = rng.uniform(0, SIDE, (2, n))
    pulls = []
    for seed in range(60):
        noise = np.random.default_rng(seed).normal(size=n) * error
        fit = fit_ratio(x, y, 1.05 + noise, (SIDE, SIDE), MeasureApCorrConfig(), error)
        pulls.append(float(fit.field(x=SIDE / 2, y=SIDE / 2)) - 1.05)
    # ten stars of 0.2 %: the mean is good to 0.1 %, whatever the twenty poor ones say
    assert np.std(pulls) < 0.0015


def test_too_few_stars_are_an_error_with_numbers():
    schema = flux_schema()
    step = MeasureApCorr(star_config(), schema=schema)
    with pytest.raises(MeasureApCorrError) as caught:
        step.run(EXPOSURE, stars(schema, 1))
    assert caught.value.metadata == {"name": "base_GaussianFlux", "nSources": 1, "ndof": 0}


def test_allowed_failures_leave_no_entry():
    schema = flux_schema()
    config = star_config()
    config.allowFailure = ["base_GaussianFlux"]
    step = MeasureApCorr(config, schema=schema)
    catalog = stars(schema)
    catalog["base_GaussianFlux_flag"] = True
    result = step.run(EXPOSURE, catalog)
    assert set(result.ap_corr_map) == {"base_PsfFlux_instFlux", "base_PsfFlux_instFluxErr"}


def test_bad_rows_do_not_enter():
    schema = flux_schema()
    step = MeasureApCorr(star_config(), schema=schema)
    catalog = stars(schema)
    catalog["base_PsfFlux_instFlux"][:5] = [np.nan, -1e5, 0.0, np.inf, 1e5]
    catalog["base_PsfFlux_flag"][4] = True
    catalog[f"{APERTURE}_instFlux"][5] = np.nan
    catalog["base_SdssCentroid_x"][6] = np.nan
    catalog["base_PsfFlux_instFluxErr"][7] = 1e5
    step.run(EXPOSURE, catalog)
    assert not catalog["apcorr_base_PsfFlux_used"][:8].any()


def test_identical_ratios_do_not_reject_each_other():
    config = MeasureApCorrConfig()
    x = np.linspace(0, SIDE - 1, 30)
    fit = fit_ratio(x, x[::-1] ** 2 / SIDE, np.full(30, 1.25), (SIDE, SIDE), config)
    assert fit.kept.all()
    np.testing.assert_allclose(fit.field(x=x, y=x), 1.25, rtol=1e-9)


def test_corrections_are_applied_and_recorded():
    schema = flux_schema()
    step = ApplyApCorr(schema=schema)
    catalog = stars(schema)
    catalog["base_SdssCentroid_x"][0] = np.nan
    before = {name: catalog[f"base_PsfFlux_{name}"].copy() for name in ("instFlux", "instFluxErr")}
    field = ChebyshevPolynomial(SIDE, SIDE, np.array([[1.1, 0.05]]))
    zero = ChebyshevPolynomial.constant(SIDE, SIDE, 0.001)
    result = step.run(catalog, {"base_PsfFlux_instFlux": field, "base_PsfFlux_instFluxErr": zero})
    x, y = catalog["slot_Centroid_x"], catalog["slot_Centroid_y"]
    expected = field(x=x[1:], y=y[1:])
    for name, values in before.items():
        np.testing.assert_allclose(catalog[f"base_PsfFlux_{name}"][1:], values[1:] * expected)
        assert catalog[f"base_PsfFlux_{name}"][0] == values[0]
    np.testing.assert_allclose(catalog["base_PsfFlux_apCorr"][1:], expected)
    assert (catalog["base_PsfFlux_apCorrErr"][1:] == 0).all()
    assert np.isnan(catalog["base_PsfFlux_apCorr"][0])
    np.testing.assert_array_equal(catalog["base_PsfFlux_flag_apCorr"], ~np.isfinite(x))
    np.testing.assert_array_equal(catalog["base_PsfFlux_flag"], ~np.isfinite(x))
    assert result.n_corrected == {"base_GaussianFlux": 0, "base_PsfFlux": len(catalog) - 1}
    # no entry in the map: the flux stays, marked
    assert catalog["base_GaussianFlux_flag_apCorr"].all()
    assert not catalog["base_GaussianFlux_flag"].any()


def test_corrections_that_are_not_positive_flag_the_flux():
    schema = flux_schema()
    config = ApplyApCorrConfig()
    step, quiet = ApplyApCorr(config, schema=schema), ApplyApCorr(schema=schema)
    quiet.config.doFlagApCorrFailures = False
    field = ChebyshevPolynomial.constant(SIDE, SIDE, -1.0)
    entries = {"base_PsfFlux_instFlux": field, "base_PsfFlux_instFluxErr": field.scaled(0.0)}
    catalog = stars(schema, 5)
    quiet.run(catalog, entries)
    assert not catalog["base_PsfFlux_flag"].any()
    step.run(catalog, entries)
    assert catalog["base_PsfFlux_flag"].all()
    assert (catalog["base_PsfFlux_instFlux"] > 0).all()


def test_tables_get_the_columns_and_proxies_the_model():
    schema = flux_schema()
    config = ApplyApCorrConfig()
    config.ignoreList = ["base_GaussianFlux"]
    config.proxies = {TOPHAT: "base_PsfFlux"}
    step = ApplyApCorr(config, schema=schema)
    assert "base_CompensatedTophatFlux_12_apCorr" in schema
    catalog = stars(schema, 4)
    table = Table({name: catalog[name] for name in flux_schema().columns})
    table["slot_Centroid_x"] = catalog["slot_Centroid_x"]
    table["slot_Centroid_y"] = catalog["slot_Centroid_y"]
    field = ChebyshevPolynomial.constant(SIDE, SIDE, 2.0)
    step.run(table, {"base_PsfFlux_instFlux": field, "base_PsfFlux_instFluxErr": field})
    np.testing.assert_allclose(table[f"{TOPHAT}_instFlux"], 2 * catalog[f"{TOPHAT}_instFlux"])
    np.testing.assert_allclose(table["base_GaussianFlux_instFlux"], catalog["base_GaussianFlux_instFlux"])
    assert (np.asarray(table["base_PsfFlux_apCorr"]) == 2.0).all()


def test_the_tophat_is_scaled_to_the_aperture():
    schema = flux_schema()
    step = NormalizedCalibrationFlux(schema=schema)
    assert schema.resolve("slot_CalibFlux_instFlux") == f"{NORMALIZED}_instFlux"
    catalog = stars(schema)
    catalog[f"{TOPHAT}_flag"][3] = True
    result = step.run(EXPOSURE, catalog)
    scale = np.median(catalog[f"{APERTURE}_instFlux"] / catalog[f"{TOPHAT}_instFlux"])
    # the robust constant and the median agree within their errors: 5 mmag of gradient over sqrt(200)
    np.testing.assert_allclose(
        catalog[f"{NORMALIZED}_instFlux"], scale * catalog[f"{TOPHAT}_instFlux"], rtol=2e-3
    )
    assert list(np.flatnonzero(catalog[f"{NORMALIZED}_flag"])) == [3]
    assert set(result.ap_corr_map) == {f"{TOPHAT}_instFlux", f"{TOPHAT}_instFluxErr"}
    assert result.ap_corr_map[f"{TOPHAT}_instFluxErr"](x=1.0, y=1.0) == 0
    assert catalog[f"apcorr_{TOPHAT}_used"].sum() > 190


def test_few_faint_stars_scale_by_their_median():
    schema = flux_schema()
    step = NormalizedCalibrationFlux(schema=schema)
    catalog = stars(schema, 5)
    catalog[f"{TOPHAT}_instFluxErr"] = catalog[f"{TOPHAT}_instFlux"] / 20
    result = step.run(EXPOSURE, catalog)
    expected = np.median(catalog[f"{APERTURE}_instFlux"] / catalog[f"{TOPHAT}_instFlux"])
    np.testing.assert_allclose(result.ap_corr_map[f"{TOPHAT}_instFlux"](x=5.0, y=5.0), expected)
    assert catalog[f"apcorr_{TOPHAT}_used"].all()


def test_no_star_to_scale_by_is_an_error_with_numbers():
    schema = flux_schema()
    step = NormalizedCalibrationFlux(schema=schema)
    catalog = stars(schema, 5)
    catalog[f"{TOPHAT}_flag"][:] = True
    catalog[f"{APERTURE}_flag"][:2] = True
    with pytest.raises(NormalizedCalibrationFluxError) as caught:
        step.run(EXPOSURE, catalog)
    assert caught.value.metadata == {"n_init_sources": 5, "n_calib_flux_flag": 5, "n_ref_flux_flag": 2}


def test_the_scale_of_the_exposure_is_applied():
    schema = flux_schema()
    config = NormalizedCalibrationFluxConfig()
    config.do_measure_ap_corr = config.do_set_calib_slot = False
    step = NormalizedCalibrationFlux(config, schema=schema)
    assert not any(name.startswith("apcorr") for name in schema.columns)
    assert schema.resolve("slot_CalibFlux_instFlux") == f"{APERTURE}_instFlux"
    catalog = stars(schema)
    exposure = exposure_of(np.zeros((SIDE, SIDE)), 1.0, None)
    step.run(exposure, catalog)
    np.testing.assert_array_equal(catalog[f"{NORMALIZED}_instFlux"], catalog[f"{TOPHAT}_instFlux"])
    exposure.ap_corr_map = {f"{TOPHAT}_instFlux": ChebyshevPolynomial.constant(SIDE, SIDE, 1.5)}
    step.run(exposure, catalog)
    np.testing.assert_allclose(catalog[f"{NORMALIZED}_instFluxErr"], 1.5 * catalog[f"{TOPHAT}_instFluxErr"])
    exposure.ap_corr_map = {f"{TOPHAT}_instFlux": ChebyshevPolynomial.constant(SIDE, SIDE, -1.5)}
    step.run(exposure, catalog)
    assert catalog[f"{NORMALIZED}_flag"].all()


def test_extendedness_compares_model_and_psf_flux():
    schema = flux_schema()
    step = CatalogCalculation(schema=schema)
    catalog = stars(schema, 4)
    catalog["base_GaussianFlux_instFlux"] = [1.0, 1.2, np.nan, 1.0]
    catalog["base_PsfFlux_instFlux"] = 1.0
    catalog["base_PsfFlux_flag"][3] = True
    step.run(catalog)
    np.testing.assert_array_equal(
        catalog["base_ClassificationExtendedness_value"], [0.0, 1.0, np.nan, np.nan]
    )
    np.testing.assert_array_equal(catalog["base_ClassificationExtendedness_flag"], [False, False, True, True])


def test_footprint_areas_are_counted():
    schema = flux_schema()
    step = CatalogCalculation(schema=schema)
    x = np.array([20.0, 50.0])
    catalog = SourceCatalog(schema, 2, footprints=disc_footprints(x, x, 1))
    step.run(catalog)
    assert list(catalog["base_FootprintArea_value"]) == [5, 5]


def test_primary_flags_of_every_kind_of_row():
    schema = flux_schema()
    schema.add(ColumnSpec("sky_source", "bool"), ColumnSpec("deblend_nChild", "i4"))
    step = SetPrimaryFlags(schema=schema)
    catalog = SourceCatalog(schema, 4)  # isolated, parent, child, sky
    catalog["parent"] = [0, 0, 2, 0]
    catalog["deblend_nChild"] = [0, 2, 0, 0]
    catalog["sky_source"] = [False, False, False, True]
    assert step.run(catalog).n_primary == 2
    assert list(catalog["detect_isPrimary"]) == [True, False, True, False]
    assert list(catalog["detect_isDeblendedSource"]) == [True, False, True, True]
    assert list(catalog["detect_fromBlend"]) == [False, False, True, False]
    assert list(catalog["detect_isIsolated"]) == [True, False, False, True]


def test_primary_flags_without_deblending():
    schema = flux_schema()
    step = SetPrimaryFlags(schema=schema)
    catalog = SourceCatalog(schema, 2)
    step.run(catalog)
    assert catalog["detect_isPrimary"].all()
    with pytest.raises(ValueError, match="single-frame"):
        SetPrimaryFlags(isSingleFrame=False)
