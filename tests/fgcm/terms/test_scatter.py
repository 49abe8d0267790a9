"""Scatter, aperture correction, errors, slopes: each against numbers that were put in."""

from __future__ import annotations

import numpy as np
import pytest

from zeropoint.fgcm.terms.aperture_fit import (
    aperture_correction,
    fill_detectors,
    fit_aperture_corrections,
)
from zeropoint.fgcm.terms.error_model import expected_magnitudes, fit_error_model, modelled_errors
from zeropoint.fgcm.terms.instrument_slope import fit_instrument_slope
from zeropoint.fgcm.terms.reference_scatter import (
    exposure_reference_offsets,
    means_of_observations,
    reference_scatter,
)
from zeropoint.fgcm.terms.repeatability import color_edges, color_parts, sig_fgcm
from zeropoint.fgcm.terms.sigma_cal import calibration_variance, fit_sigma_cal

_NAN = float("nan")


def test_scatter_beyond_the_errors_is_found_by_band_and_color() -> None:
    rng = np.random.default_rng(3)
    n = 40_000
    band = np.arange(n) % 2
    color = rng.uniform(0.0, 1.0, n)
    intrinsic = np.where(color < 0.25, 0.006, 0.003) * (1 + band)
    error = 0.004
    egray = np.hypot(intrinsic, error) * rng.normal(size=n)
    egray[::50] += 0.04  # tails
    found = sig_fgcm(
        egray, np.full(n, error**2), band, np.ones(n, bool), n_band=3, max_egray=[0.05] * 3, max_err=0.01, color=color
    )  # fmt: skip
    # a width from n values is right to 1/sqrt(2 n); the difference of squares multiplies that
    for b in (0, 1):
        blue, red = 0.006 * (1 + b), 0.003 * (1 + b)
        assert found.sigma_fgcm[b, 1] == pytest.approx(blue, rel=0.04)
        assert found.sigma_fgcm[b, 3] == pytest.approx(red, rel=0.09)
        assert found.sigma_total[b, 3] == pytest.approx(np.hypot(red, error), rel=0.03)
    assert np.isnan(found.sigma_fgcm[2]).all()
    assert found.n_used[2].tolist() == [0, 0, 0, 0]
    smaller = sig_fgcm(
        egray, np.full(n, 0.1**2), band, np.ones(n, bool), n_band=2, max_egray=0.05, max_err=0.2
    )
    assert smaller.sigma_fgcm[0, 0] == 0.001
    few = sig_fgcm(
        egray[:8:2], np.full(4, 1e-6), band[:8:2], np.ones(4, bool), n_band=1, max_egray=0.05, max_err=0.2
    )
    assert few.failed[0, 0]
    assert few.sigma_fgcm[0, 0] == 0.05


def test_quartiles_of_color_leave_out_unknown_colors() -> None:
    color = np.array([_NAN, 0.0, 1.0, 2.0, 3.0])
    parts = color_parts(color, color_edges(color))
    assert parts[0].all()
    assert parts[1:, 0].tolist() == [False] * 3
    assert parts[1:, 1:].sum(axis=0).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("by_detector", [False, True])
def test_aperture_slope_is_found_in_total(by_detector: bool) -> None:
    rng = np.random.default_rng(1)
    n, n_det = (300, 4) if by_detector else (1500, 1)
    seeing = rng.uniform(0.02, 0.12, (n, n_det))
    seeing = seeing if by_detector else seeing[:, 0]
    band = np.arange(n) % 2
    slope, old = np.array([0.4, -0.2]), np.array([0.3, 0.0])
    pivot, limits = np.array([0.05, 0.0]), np.array([[0.0, 1.0], [0.0, 1.0]])
    true = slope[band].reshape((n,) + (1,) * (seeing.ndim - 1)) * seeing
    noise = 0.004
    # the gray is what the old correction left
    gray = true - aperture_correction(seeing, band, slope=old, pivot=pivot, limits=limits)
    gray = gray + noise * rng.normal(size=seeing.shape)
    photometric = rng.uniform(size=n) < 0.9
    gray[~photometric] -= 1.0
    found = fit_aperture_corrections(
        seeing, gray, band, photometric, n_bins=10, slope=old, pivot=pivot, limits=limits
    )
    assert found.fitted.all()
    assert np.all(np.abs(found.slope - slope) < 4 * found.slope_err)
    assert np.all(found.slope_err < 0.02)
    assert np.all(found.range[:, 0] < found.pivot)
    assert np.all(found.pivot < found.range[:, 1])
    assert found.pivot * 1000 == pytest.approx(np.round(found.pivot * 1000))
    # nothing to fit: what was given stays
    few = fit_aperture_corrections(
        seeing[:8], gray[:8], band[:8], photometric[:8], n_bins=10, slope=old, pivot=pivot, limits=limits
    )
    assert few.slope.tolist() == old.tolist()
    assert not few.fitted.any()


def test_unknown_seeing_of_detectors_is_filled() -> None:
    filled = fill_detectors([[1.0, -9999.0, 3.0], [_NAN, _NAN, _NAN]], [9.0, 5.0])
    assert filled.tolist() == [[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]
    outside = aperture_correction(
        [0.5, 9.0, _NAN, 1.0], np.array([0, 0, 0, -1]), slope=[2.0], pivot=[1.0], limits=[[0.0, 2.0]]
    )
    assert outside.tolist() == [-1.0, 2.0, 0.0, 0.0]


def test_modelled_errors_do_not_follow_the_fluctuation() -> None:
    rng = np.random.default_rng(5)
    n, n_exp = 30_000, 60
    exposure = rng.integers(0, n_exp, n)
    seeing, sky = rng.uniform(0.7, 1.3, n_exp), rng.uniform(100.0, 400.0, n_exp)
    exptime = np.where(np.arange(n_exp) % 2, 30.0, 60.0)
    true = rng.uniform(-12.0, -8.5, n)
    total = true - 2.5 * np.log10(exptime[exposure])

    def law(x: np.ndarray) -> np.ndarray:
        photons = 10.0 ** (-0.4 * x)
        return np.sqrt(1.0 / photons + sky[exposure] * (seeing[exposure] / photons) ** 2 * 20.0)

    magnitude = true + law(total) * rng.normal(size=n)
    stated = law(magnitude - 2.5 * np.log10(exptime[exposure]))
    err = np.hypot(stated, 0.003).astype(np.float32)
    band = np.zeros(n, int)
    expected = expected_magnitudes(magnitude, true - magnitude)
    facts = {"exptime": exptime, "seeing": seeing, "sky": sky, "sigma0_phot": 0.003}
    model = fit_error_model(expected, err, band, exposure, np.ones(n, bool), n_band=2, **facts)  # type: ignore[arg-type]
    assert np.isnan(model.coefficients[1]).all()
    assert model.n_used[1] == 0
    modelled = modelled_errors(expected, err, band, exposure, model.coefficients, model.pivot, **facts)  # type: ignore[arg-type]
    ratio = modelled / np.hypot(law(total), 0.003)
    # a polynomial is not the law of photons and sky, but within some percent of it
    assert np.sqrt(np.mean((ratio - 1.0) ** 2)) < 0.04
    # stated errors of faint sources are small where the source came out bright; the model's are not
    faint = true > -9.0
    fluctuation = (magnitude - true)[faint]
    assert np.corrcoef(fluctuation, err[faint] / np.hypot(law(total), 0.003)[faint])[0, 1] > 0.9
    assert abs(np.corrcoef(fluctuation, ratio[faint])[0, 1]) < 0.05
    # without seeing or model, errors stay
    facts["seeing"] = np.full(n_exp, _NAN)
    kept = modelled_errors(expected, err, band, exposure, model.coefficients, model.pivot, **facts)  # type: ignore[arg-type]
    np.testing.assert_array_equal(kept, err)


@pytest.mark.parametrize("true", [0.0014, 0.0025])
def test_sigma_cal_is_what_bright_stars_miss(true: float) -> None:
    rng = np.random.default_rng(7)
    n_star, n_obs = 4000, 8
    mean = rng.uniform(14.0, 18.0, (n_star, 1))
    segment = np.repeat(np.arange(n_star), n_obs)
    noise = np.hypot(0.002, true) * rng.normal(size=(n_star, n_obs))
    residual = (noise - noise.mean(axis=1, keepdims=True)).ravel()
    variance = np.full(len(segment), 0.002**2, np.float32)
    found = fit_sigma_cal(
        residual, variance, segment, np.ones(len(segment), bool), mean, limits=(0.001, 0.003), percentile=(0.0, 0.5)
    )  # fmt: skip
    # medians of 2000 reduced chi-squares of 7 degrees of freedom: 0.7 % of the variance, and steps of 0.04 mmag
    assert found.sigma[0] == pytest.approx(true, abs=0.00015)
    assert found.n_stars[0] == 2000
    none = fit_sigma_cal(
        residual, variance, segment, np.zeros(len(segment), bool), mean, limits=(0.001, 0.003), percentile=(0.0, 0.5)
    )  # fmt: skip
    assert none.sigma[0] == 0.001
    assert np.isnan(none.chi2).all()


def test_variance_of_calibration_adds_up() -> None:
    variance = calibration_variance(
        np.array([0.005]), sigma0_phot=0.003, sig_fgcm=np.array([0.006]), band=np.array([0]),
        tilings=np.array([[5.0]]), gray_err=np.array([[0.002]]), ec=np.array([0]),
    )  # fmt: skip
    assert variance[0] == pytest.approx(0.004**2 + 0.006**2 / 4 + 0.002**2, rel=1e-6)


def test_reference_outliers_and_offsets_of_exposures() -> None:
    rng = np.random.default_rng(2)
    n = 3000
    mean = rng.uniform(14.0, 18.0, (n, 2))
    reference = mean - 0.03 + 0.01 * rng.normal(size=(n, 2))
    reference[:, 1] = _NAN
    reference[:40, 1] = mean[:40, 1]
    reference[:20, 0] += 0.2
    reference[0, 1] += 5.0
    found = reference_scatter(mean, reference, np.ones(n, bool), n_sigma=4.0)
    assert found.offset[0, 0] == pytest.approx(0.03, abs=4 * 0.01 / np.sqrt(n))
    assert found.sigma[0, 0] == pytest.approx(0.01, rel=0.06)
    # few stars have no outliers
    assert found.n_stars[1, 0] == 40
    assert found.n_outliers[1] == 0
    # beyond 4 sigma by chance: 0.2 of 3000
    assert found.outlier[:20].all()
    assert found.outlier.sum() <= 22
    segment = np.arange(n) * 2
    exposure = np.arange(n) % 3
    standard = mean[:, 0] + np.array([0.0, 0.1, _NAN])[exposure]
    offsets = exposure_reference_offsets(
        standard, reference, segment, exposure, np.ones(n, bool), n_exp=4, min_stars=100
    )
    sigma = 1.2533 * 0.01 / np.sqrt(1000)
    assert offsets.offset[:2] == pytest.approx([-0.03, -0.13], abs=4 * sigma)
    assert offsets.err[:2] == pytest.approx(sigma, rel=0.2)
    assert np.isnan(offsets.offset[2:]).all()


def test_references_are_not_compared_with_themselves() -> None:
    own, weight = np.array([[15.0, 16.0, _NAN]]), np.array([[1e4, 4e4, 0.0]])
    reference, ref_weight = np.array([[15.2, 0.0, 17.0]]), np.array([[1e4, 0.0, 1e4]])
    total = weight + ref_weight
    mean = (np.nan_to_num(own) * weight + reference * ref_weight) / total
    found = means_of_observations(mean, 1.0 / np.sqrt(total), reference, ref_weight)
    np.testing.assert_allclose(found, own, rtol=1e-12)


@pytest.mark.parametrize("per_band", [False, True])
def test_loss_of_light_between_washes(per_band: bool) -> None:
    rng = np.random.default_rng(11)
    n_exp, n_star, n_band = 80, 400, 2
    time = np.sort(rng.uniform(0.0, 100.0, n_exp))
    wash = (time > 50.0).astype(int)
    wash_time = time - 50.0 * wash
    true = np.array([[-5e-4, -2e-4], [-3e-4, -2e-4]]) if per_band else np.full((2, 2), -4e-4)
    star, exposure = (
        each.ravel() for each in np.meshgrid(np.arange(n_star), np.arange(n_exp), indexing="ij")
    )
    order = np.argsort(star * n_band + exposure % n_band, kind="stable")
    star, exposure = star[order], exposure[order]
    band = exposure % n_band
    applied = np.full((2, 2), -1e-4)
    err = 0.01
    standard = (
        17.0 + (applied - true)[band, wash[exposure]] * wash_time[exposure] + err * rng.normal(size=len(star))
    )
    found = fit_instrument_slope(
        standard, np.full(len(star), err), star * n_band + band, exposure, np.ones(len(star), bool),
        wash=wash, wash_time=wash_time, applied=applied,
        per_band=per_band, fit_bands=np.ones(2, bool), min_delta_t=20.0, max_err=0.1,
    )  # fmt: skip
    assert np.all(np.abs(found.measured - true) < 4 * found.err)
    assert np.all(found.err < 2e-5)
    assert np.all(found.slope <= 0.0)
    nothing = fit_instrument_slope(
        standard, np.full(len(star), err), star * n_band + band, exposure, np.ones(len(star), bool),
        wash=wash, wash_time=wash_time, applied=applied,
        per_band=per_band, fit_bands=np.ones(2, bool), min_delta_t=60.0, max_err=0.1,
    )  # fmt: skip
    assert not nothing.slope.any()
    assert np.isnan(nothing.measured).all()
