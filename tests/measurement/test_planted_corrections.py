"""Planted gradients of 2 % come back in the aperture correction of every flux, and failures say what to do."""

from __future__ import annotations

import logging

import lsst.pex.config as pexConfig
import numpy as np
import pytest

from naive.measurement import config_of
from naive.star_field import disc_footprints, exposure_of
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.psf_model import GaussianPsf
from zeropoint.errors import InvalidInputError, MeasureApCorrError, NormalizedCalibrationFluxError
from zeropoint.measurement.aperture_corrections import MeasureApCorr, MeasureApCorrConfig, ap_corr_names
from zeropoint.measurement.apply_aperture_corrections import ApplyApCorr, ApplyApCorrConfig
from zeropoint.measurement.normalized_flux import NormalizedCalibrationFlux, NormalizedCalibrationFluxConfig
from zeropoint.measurement.ratio_fit import TooFewRatios, fit_ratio
from zeropoint.measurement.single_frame import SingleFrameMeasurement

SIDE, SIGMA = 480, 2.0
SMALL, LARGE = "base_CircularApertureFlux_3_0", "base_CircularApertureFlux_12_0"
#: Every kind of flux column that the measurement plugins write.
FLUXES = ("base_PsfFlux", "base_GaussianFlux", SMALL, "base_CompensatedTophatFlux_12", "base_SdssShape")


def star_config(**settings) -> MeasureApCorrConfig:
    config = MeasureApCorrConfig(refFluxName=LARGE, **settings)
    selector = config.sourceSelector["science"]
    selector.doUnresolved, selector.flags.good, selector.flags.bad = False, ["calib_psf_used"], []
    return config


def grid(n: int = 21) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(np.linspace(0, SIDE - 1, n), np.linspace(0, SIDE - 1, n))
    return x, y


def rms_mmag(field: ChebyshevPolynomial, truth: np.ndarray) -> float:
    x, y = grid()
    return float(1e3 * np.sqrt(np.mean((2.5 * np.log10(field(x=x, y=y) / truth)) ** 2)))


# -- on catalogues: every flux, any gradient ---------------------------------------------------------------


def flux_schema() -> Schema:
    schema = Schema()
    schema.add(*(ColumnSpec(f"base_SdssCentroid_{axis}", "f8") for axis in "xy"))
    schema.add(ColumnSpec("calib_psf_used", "bool"))
    for name in (*FLUXES, LARGE):
        schema.add(*(ColumnSpec(f"{name}_{end}", "f8") for end in ("instFlux", "instFluxErr")))
        schema.add(ColumnSpec(f"{name}_flag", "bool"))
    schema.alias("slot_Centroid", "base_SdssCentroid")
    return schema


def planted(x: np.ndarray, y: np.ndarray, angle: float) -> np.ndarray:
    """Return a correction that changes by 2 % along a direction from edge to edge, and is curved by 0.5 %."""
    u, v = x / SIDE - 0.5, y / SIDE - 0.5
    return 1.04 + 0.02 * (np.cos(angle) * u + np.sin(angle) * v) + 0.02 * u * v


def stars_with_gradients(schema: Schema, seed: int, n: int = 200, noise: float = 0.002) -> SourceCatalog:
    """Return stars whose fluxes each fall short of the large aperture's by another planted correction."""
    rng = np.random.default_rng(seed)
    catalog = SourceCatalog(schema, n)
    x, y = rng.uniform(0, SIDE, (2, n))
    catalog["slot_Centroid_x"], catalog["slot_Centroid_y"], catalog["calib_psf_used"] = x, y, True
    flux = 10 ** rng.uniform(5, 6, n)
    catalog[f"{LARGE}_instFlux"], catalog[f"{LARGE}_instFluxErr"] = flux, noise * flux
    for k, name in enumerate(FLUXES):
        catalog[f"{name}_instFlux"] = flux / planted(x, y, k) * (1 + noise * rng.normal(size=n))
        catalog[f"{name}_instFluxErr"] = 0.5 * noise * flux
    return catalog


@pytest.mark.parametrize("seed", range(5))
def test_a_gradient_of_two_per_cent_is_recovered_in_every_flux(seed):
    schema = flux_schema()
    others = [name for name in FLUXES if name not in ap_corr_names(schema)]
    measure = MeasureApCorr(star_config(additional_fluxes=others), schema=schema)
    apply = ApplyApCorr(ApplyApCorrConfig(additional_fluxes=others), schema=schema)
    assert measure.names == tuple(sorted(FLUXES)) == tuple(sorted(apply.models))
    catalog = stars_with_gradients(schema, seed)
    result = measure.run(exposure_of(np.zeros((SIDE, SIDE)), 1.0, None), catalog)
    apply.run(catalog, result.ap_corr_map)
    for k, name in enumerate(FLUXES):
        # six terms from 200 stars of 2.2 mmag: 0.4 mmag
        assert rms_mmag(result.ap_corr_map[f"{name}_instFlux"], planted(*grid(), k)) < 1.0
        corrected = 2.5 * np.log10(catalog[f"{name}_instFlux"] / catalog[f"{LARGE}_instFlux"])
        assert np.std(corrected) < 2.5e-3
        assert not catalog[f"{name}_flag_apCorr"].any()


def test_one_star_without_an_error_does_not_change_the_weights_of_the_others():
    schema = flux_schema()
    catalog, exposure = stars_with_gradients(schema, 1), exposure_of(np.zeros((SIDE, SIDE)), 1.0, None)
    measure = MeasureApCorr(star_config(), schema=schema)
    catalog = catalog.with_schema(schema)
    x, y = grid()
    values = []
    for bad in (None, np.nan):
        if bad is not None:
            catalog["base_PsfFlux_instFluxErr"][0] = bad
        values.append(measure.run(exposure, catalog).ap_corr_map["base_PsfFlux_instFlux"](x=x, y=y))
    # one of 200 stars of 2 mmag less: changes of 0.01 mmag on average, 0.1 mmag in a corner
    np.testing.assert_allclose(values[0], values[1], atol=3e-4)
    assert not catalog["apcorr_base_PsfFlux_used"][0]


# -- on pixels: a PSF model that lacks the growth of the stars' size ----------------------------------------


@pytest.fixture(scope="module")
def measured():
    """Stars whose size grows by 2 % over an image with a constant PSF model, measured and corrected."""
    rng = np.random.default_rng(0)
    places = np.arange(32, SIDE - 31, 32)
    x, y = (g.ravel() + rng.uniform(-0.5, 0.5, g.size) for g in np.meshgrid(places, places))
    flux = 10 ** rng.uniform(5.3, 6, len(x))
    image, (dy, dx) = np.zeros((SIDE, SIDE)), np.mgrid[-15:16, -15:16]
    for px, py, f, s in zip(x, y, flux, size_at(x), strict=True):
        i, j = int(np.floor(px + 0.5)), int(np.floor(py + 0.5))
        r2 = (dx + i - px) ** 2 + (dy + j - py) ** 2
        image[j - 15 : j + 16, i - 15 : i + 16] += f * np.exp(-0.5 * r2 / s**2) / (2 * np.pi * s**2)
    variance = image + 100.0
    exposure = exposure_of(
        image + rng.normal(size=image.shape) * np.sqrt(variance), 1.0, GaussianPsf(SIGMA, 31)
    )
    exposure.variance[...] = variance
    config = config_of(
        "base_SdssCentroid",
        "base_SdssShape",
        "base_PsfFlux",
        "base_GaussianFlux",
        "base_CircularApertureFlux",
    )
    config.slots.shape = "base_SdssShape"
    config.plugins["base_CircularApertureFlux"].radii = [3.0, 12.0]
    schema = Schema()
    schema.add(ColumnSpec("id", "i8"), ColumnSpec("parent", "i8"), ColumnSpec("calib_psf_used", "bool"))
    measurement = SingleFrameMeasurement(config, schema=schema)
    measure = MeasureApCorr(star_config(additional_fluxes=[SMALL]), schema=schema)
    apply = ApplyApCorr(ApplyApCorrConfig(additional_fluxes=[SMALL]), schema=schema)
    catalog = SourceCatalog(schema, len(x), footprints=disc_footprints(x, y, 12))
    catalog["id"], catalog["calib_psf_used"] = np.arange(len(x)) + 1, True
    measurement.run(exposure, catalog, seed=1)
    fields = measure.run(exposure, catalog).ap_corr_map
    apply.run(catalog, fields)
    return catalog, fields, x, y, flux


def size_at(x: np.ndarray) -> np.ndarray:
    return SIGMA * (1 + 0.02 * (x / SIDE - 0.5))


def test_the_psf_fluxes_get_what_the_model_misses(measured):
    # a Gaussian of width s fitted by one of width S: flux times 2 S^2 / (s^2 + S^2)
    fields, truth = measured[1], (size_at(grid()[0]) ** 2 + SIGMA**2) / (2 * SIGMA**2)
    assert rms_mmag(fields["base_PsfFlux_instFlux"], truth) < 1.0
    assert np.ptp(truth) > 0.019


def test_a_small_aperture_gets_what_lies_outside(measured):
    fields, truth = measured[1], 1 / (1 - np.exp(-4.5 / size_at(grid()[0]) ** 2))
    field = fields[f"{SMALL}_instFlux"]
    level = np.mean(field(x=grid()[0], y=grid()[1]) / truth)
    assert level == pytest.approx(1.0, abs=1.5e-3)  # the truncated sinc aperture itself
    assert rms_mmag(field.scaled(1 / level), truth) < 1.0


@pytest.mark.parametrize("name", ["base_PsfFlux", "base_GaussianFlux", SMALL])
def test_corrected_fluxes_are_on_one_scale_over_the_image(measured, name):
    catalog, _, x, _, flux = measured
    ratio = 2.5 * np.log10(catalog[f"{name}_instFlux"] / flux)
    left, right = x < SIDE / 3, x > 2 * SIDE / 3
    # 60 stars of 1 to 4 mmag on each side
    assert abs(np.median(ratio[left]) - np.median(ratio[right])) < 1.5e-3


# -- failures ------------------------------------------------------------------------------------------------


def test_rejection_that_leaves_too_few_tells_the_round_and_what_is_left():
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, SIDE, (2, 5))
    config = MeasureApCorrConfig(numSigmaClip=0.1)
    result = fit_ratio(x, y, np.array([1.0, 1.1, 1.3, 1.6, 2.0]), (SIDE, SIDE), config)
    assert result == TooFewRatios(iteration=0, n_left=1)


def test_the_failure_names_the_selector_and_what_it_rejects():
    schema = flux_schema()
    config = star_config()
    config.sourceSelector["science"].signalToNoise.minimum = 1e6
    config.fallback_snr = 1e5
    measure = MeasureApCorr(config, schema=schema)
    catalog = stars_with_gradients(schema, 1)
    with pytest.raises(
        MeasureApCorrError, match=r"sourceSelector\['science'\] selects none of 200.*signalToNoise 200"
    ):
        measure.run(exposure_of(np.zeros((SIDE, SIDE)), 1.0, None), catalog)
    catalog["calib_psf_used"] = False
    with pytest.raises(MeasureApCorrError, match=r"flags 200") as caught:
        measure.run(exposure_of(np.zeros((SIDE, SIDE)), 1.0, None), catalog)
    assert caught.value.metadata == {"name": "base_GaussianFlux", "nSources": 0, "ndof": -1}


def test_a_flux_that_no_source_has_is_no_news(caplog):
    schema = flux_schema()
    measure = MeasureApCorr(star_config(allowFailure=["base_GaussianFlux"]), schema=schema)
    apply = ApplyApCorr(schema=schema)
    catalog = stars_with_gradients(schema, 1)
    catalog["base_GaussianFlux_flag"] = True
    flux = catalog["base_GaussianFlux_instFlux"].copy()
    fields = measure.run(exposure_of(np.zeros((SIDE, SIDE)), 1.0, None), catalog).ap_corr_map
    apply.run(catalog, fields)
    assert "base_GaussianFlux_instFlux" not in fields
    np.testing.assert_array_equal(catalog["base_GaussianFlux_instFlux"], flux)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    catalog["base_GaussianFlux_flag"][0] = False
    measure.run(exposure_of(np.zeros((SIDE, SIDE)), 1.0, None), catalog)
    assert "Too few stars" in caplog.text


def test_the_scale_of_the_calibration_flux_names_its_second_selection():
    schema = flux_schema()
    scale = NormalizedCalibrationFlux(schema=schema)
    catalog = stars_with_gradients(schema, 1)
    catalog["calib_psf_used"] = False
    with pytest.raises(
        NormalizedCalibrationFluxError, match=r"fallback_source_selector\['science'\] selects none"
    ):
        scale.run(exposure_of(np.zeros((SIDE, SIDE)), 1.0, None), catalog)


@pytest.mark.parametrize("kind", [MeasureApCorr, ApplyApCorr])
def test_an_additional_flux_must_exist(kind):
    config = kind.ConfigClass(additional_fluxes=["base_NoSuchFlux"])
    with pytest.raises(InvalidInputError, match=r"additional_fluxes: there is no flux 'base_NoSuchFlux'"):
        kind(config, schema=flux_schema())


def test_the_reference_flux_must_exist():
    schema = flux_schema()
    measure = MeasureApCorr(MeasureApCorrConfig(refFluxName="slot_NoFlux"), schema=schema)
    with pytest.raises(
        InvalidInputError, match="refFluxName: the catalogue has no column slot_NoFlux_instFlux"
    ):
        measure.run(exposure_of(np.zeros((SIDE, SIDE)), 1.0, None), stars_with_gradients(schema, 1))


@pytest.mark.parametrize(
    ("kind", "field"),
    [(MeasureApCorrConfig, "sourceSelector"), (NormalizedCalibrationFluxConfig, "fallback_source_selector")],
)
def test_selectors_that_need_matches_are_refused(kind, field):
    config = kind()
    getattr(config, field).name = "diaCatalog"
    with pytest.raises(pexConfig.FieldValidationError, match=f"{field}.*needs matches"):
        config.validate()
