"""Colors of stars: retrieved integrals and water vapor, and chromaticity of mirror and detectors, against truth."""

from __future__ import annotations

import numpy as np
import pytest

from zeropoint.fgcm.atmosphere import AtmosphereParameters
from zeropoint.fgcm.terms.chromaticity import (
    StandardIntegrals,
    chromaticity_magnitude,
    fit_detector_chromaticity,
    fit_mirror_chromaticity,
    mirror_chromaticity_at,
)
from zeropoint.fgcm.terms.detector_integrals import detector_integrals, with_airmass
from zeropoint.fgcm.terms.retrieval import (
    INTERPOLATED,
    RETRIEVED,
    STANDARD,
    RetrievedIntegrals,
    retrieve_integrals,
    retrieve_pwv,
    varying_pwv,
)
from zeropoint.simulation.fgcm_star_list import survey_passbands
from zeropoint.simulation.fgcm_survey import FgcmSurvey

_NAN = float("nan")
_INTEGRALS = StandardIntegrals(
    np.array([4800.0, 6200.0]), np.array([0.30, 0.25]), np.array([0.0, 2.0]), np.array([9e4, 6e4]) * 0.3
)


def _air(n: int, pwv: np.ndarray | float) -> AtmosphereParameters:
    ones = np.ones(n)
    return AtmosphereParameters(732.0 * ones, pwv * ones, 263.0 * ones, 0.03 * ones, ones, 1.2 * ones)


def test_chromaticity_is_that_of_a_tilted_top_hat() -> None:
    # a top hat of throughput 1 from 5000 to 6000 Angstrom, moments by sums, about 5500
    lam = np.linspace(5000.0, 6000.0, 20_001)
    d = lam - 5500.0
    moments = [np.sum(d**k / lam) for k in range(3)]
    integrals = StandardIntegrals(np.array([5500.0]), *(np.array([each]) for each in moments))
    slope, c = 3e-4, 0.3
    tilt = 1.0 + c * d / 5500.0

    def counts(throughput: np.ndarray, spectrum: np.ndarray) -> float:
        return float(np.sum(throughput * spectrum / lam))

    star, flat = 1.0 + slope * d, np.ones_like(lam)
    fades = -2.5 * np.log10(counts(tilt, star) / counts(flat, star) * counts(flat, flat) / counts(tilt, flat))
    found = chromaticity_magnitude(c, np.array([0]), np.array([slope]), integrals)[0]
    assert found == pytest.approx(-fades, abs=1e-12)


def test_chromaticity_of_the_mirror_uses_its_filter() -> None:
    rng = np.random.default_rng(3)
    n, n_coating = 400, 2
    mjd = np.sort(rng.uniform(1000.0, 1400.0, n))
    coating = (mjd > 1250.0).astype(int)
    filters = rng.integers(0, 2, n)
    true = np.array([[4e-4, 0.0, 0.08], [-3e-4, 0.0, -0.05]])
    slope = np.stack([np.full(n, -2e-4), np.full(n, 3e-4)], axis=1)
    use = rng.uniform(size=n) < 0.9
    pivot = np.array([np.median(mjd[coating == k]) for k in range(n_coating)])
    old = np.array([[1e-4, 0.0, 0.0], [0.0, 0.0, 0.0]])
    err = 0.0002

    def reds_minus_blues(values: np.ndarray) -> np.ndarray:
        c = mirror_chromaticity_at(values, pivot, filters, coating, mjd)
        red, blue = (chromaticity_magnitude(c, filters, slope[:, k], _INTEGRALS) for k in (1, 0))
        return red - blue

    # stars' means are over all exposures of a filter
    mean = np.array([reds_minus_blues(true)[filters == f].mean() for f in (0, 1)])
    gray = np.zeros((n, 2))
    gray[:, 1] = reds_minus_blues(true) - mean[filters] - reds_minus_blues(old) + err * rng.normal(size=n)
    found = fit_mirror_chromaticity(
        gray, np.full((n, 2), err / np.sqrt(2.0)), slope, filter_index=filters, coating=coating, mjd=mjd, use=use,
        integrals=_INTEGRALS, values=old,
    )  # fmt: skip
    np.testing.assert_allclose(found.pivot, pivot)
    free = [0, 2]
    assert np.all(np.abs(found.values - true)[:, free] < 4.5 * found.err[:, free])
    assert np.all(found.err[:, 0] < 1e-4)
    assert not found.values[:, 1].any()
    none = fit_mirror_chromaticity(
        gray, np.full((n, 2), err), slope, filter_index=filters, coating=coating, mjd=mjd, use=np.zeros(n, bool),
        integrals=_INTEGRALS, values=old,
    )  # fmt: skip
    assert none.values.tolist() == old.tolist()
    assert mirror_chromaticity_at(
        true, pivot, np.array([-1, 0]), coating[:2], np.array([1.0, _NAN])
    ).tolist() == [0, 0]


def test_chromaticity_of_detectors_is_found_under_clouds() -> None:
    rng = np.random.default_rng(9)
    n_exp, n_det, n = 40, 3, 60_000
    exposure, detector = rng.integers(0, n_exp, n), rng.integers(0, n_det, n)
    filters = np.arange(n_exp) % 2
    slope = rng.uniform(-2e-4, 3e-4, n)
    true = np.array([[0.2, 0.2], [-0.2, 0.1], [0.0, 0.0]])
    old = np.array([[0.02, 0.3], [0.0, 0.3], [0.0, 0.3]])
    f = filters[exposure]
    noise = 0.004
    # of three stars in four all observations are on one detector, and the means of all hold a part of it
    star = np.arange(n) // 12
    detector = np.where(star % 4 < 3, star % n_det, detector)
    slope = slope[star]
    shift = chromaticity_magnitude(true[detector, f], f, slope, _INTEGRALS)
    gray = shift - chromaticity_magnitude(old[detector, f], f, slope, _INTEGRALS)
    gray += rng.normal(size=(n_exp, n_det))[exposure, detector] + noise * rng.normal(size=n)
    gray -= (np.bincount(star, gray) / 12)[star]
    slope[:100] = _NAN
    found = fit_detector_chromaticity(
        gray, np.full(n, noise**2), slope, segment=star, ec=exposure * n_det + detector, n_det=n_det,
        filter_of_exposure=filters, sample=np.ones(n, bool), integrals=_INTEGRALS, values=old, fit_filters=np.array([True, False]),
    )  # fmt: skip
    # relative to the mean of the detectors, weighted by what each tells: nearly alike
    difference = found.values[:, 0] - (true[:, 0] - true[:, 0].mean())
    assert np.all(np.abs(difference - difference.mean()) < 4 * found.err[:, 0])
    assert abs(difference.mean()) < 5e-3
    assert np.all(found.err[:, 0] < 0.05)
    assert found.values[:, 1].tolist() == [0.3] * 3
    assert np.isnan(found.err[:, 1]).all()


def test_integrals_are_retrieved_with_their_errors() -> None:
    rng = np.random.default_rng(0)
    n_exp, n_det, n = 3, 2, 60_000
    ec = rng.integers(0, n_exp * n_det - 1, n)  # the last detector has no star
    r0, r10 = 0.4 * (1.0 + 0.2 * np.arange(6)), 10.0 * np.arange(6) - 20.0
    slope = rng.normal(size=n) * 2e-4
    i10_std = 4.0
    err = np.full(n, 0.005)
    mean = rng.uniform(14.0, 18.0, n)
    counts = r0[ec] * (1.0 + slope * r10[ec]) / (1.0 + slope * i10_std)
    magnitude = mean - 2.5 * np.log10(counts) + err * rng.normal(size=n)
    found = retrieve_integrals(
        magnitude, mean, err, np.arange(n), slope, np.full(n, i10_std), ec, np.ones(n, bool), shape=(n_exp, n_det), min_star_per_ccd=5
    )  # fmt: skip
    good = slice(0, 5)
    assert np.all(np.abs(found.r10.ravel() - r10)[good] < 4 * found.r10_err.ravel()[good])
    assert np.all(found.r10_err.ravel()[good] < 0.5)
    # magnitudes' errors are not those of fluxes: half their variance, 12 ppm
    np.testing.assert_allclose(found.r0.ravel()[good], r0[good], rtol=4 * 0.005 / np.sqrt(n / 5))
    assert np.isnan(found.r10[2, 1])
    assert found.n_stars[2, 1] == 0
    # the slow way, detector by detector
    for k in range(5):
        rows = ec == k
        q = 1.0 + slope[rows] * i10_std
        f = 10.0 ** (-0.4 * (magnitude - mean)[rows])
        root = 1.0 / (0.4 * np.log(10.0) * f * err[rows] * q)
        design = np.stack([np.ones(rows.sum()), slope[rows]], axis=1) * root[:, None]
        solution = np.linalg.solve(design.T @ design, design.T @ (f * q * root))
        # values are in single precision, which is a thousand times finer than their errors
        error = found.r10_err.ravel()[k]
        assert found.r0.ravel()[k] == pytest.approx(solution[0], rel=1e-6)
        assert found.r1.ravel()[k] == pytest.approx(solution[1], abs=1e-3 * error)
    one_color = retrieve_integrals(
        magnitude, mean, err, np.arange(n), np.full(n, 1e-4), np.full(n, i10_std), ec, np.ones(n, bool), shape=(n_exp, n_det),
        min_star_per_ccd=5,
    )  # fmt: skip
    assert not (one_color.r10_err < 1e4).any()


def test_water_comes_back_from_the_integrals(fgcm_survey: FgcmSurvey) -> None:
    source = survey_passbands(fgcm_survey)
    z = source.physical_filters.index("z_fgcm")
    n_exp, n_det = 12, len(source.detectors)
    rng = np.random.default_rng(8)
    true = rng.uniform(np.log(1.0), np.log(9.0), n_exp)
    secant = rng.uniform(1.0, 1.8, n_exp)
    filters = np.full(n_exp, z)
    found = source.evaluate(z, with_airmass(_air(n_exp, np.exp(true)), secant), derivatives=False)
    err = np.full((n_exp, n_det), 1.0)
    r10 = found.i10 + err * rng.normal(size=err.shape)
    r10[0], r10[1, 0] = _NAN, _NAN
    night = np.repeat([0, 1, 2], 4)
    night[-1] = 3
    choose = np.ones(n_exp, bool)
    choose[[5, 11]] = False
    nothing = np.full(r10.shape, _NAN)
    retrieved = RetrievedIntegrals(nothing, nothing, r10, err, np.full(r10.shape, 100))
    result = retrieve_pwv(
        retrieved, source, _air(n_exp, 3.0), filter_index=filters, secant=secant, choose=choose,
        nightly=np.full(n_exp, np.log(3.0)), night=night,
        time=np.arange(n_exp, dtype=float), min_ccd_per_exp=3, smoothing_block=1,
    )  # fmt: skip
    expected = [INTERPOLATED, *[RETRIEVED] * 4, INTERPOLATED, *[RETRIEVED] * 5, STANDARD]
    assert result.flag.tolist() == expected
    known = np.isfinite(result.ln_pwv_raw)
    pull = (result.ln_pwv_raw - true)[known] / result.ln_pwv_err[known]
    assert np.all(np.abs(pull) < 4.5)
    assert 0.5 < np.sqrt(np.mean(pull**2)) < 1.6
    # what all have in common is left out: the nights' model is that of 3 mm
    own = true - np.average(true[known], weights=1.0 / result.ln_pwv_linear_err[known] ** 2)
    deviation = result.ln_pwv - np.log(3.0)
    assert np.std((deviation - own)[known]) < 0.3 * np.std(own[known])
    assert deviation[0] == deviation[1]
    assert deviation[5] == pytest.approx(0.5 * (deviation[4] + deviation[6]))
    assert deviation[11] == 0.0


def test_water_that_is_noise_leaves_the_model_of_the_nights() -> None:
    rng = np.random.default_rng(3)
    time, night = np.arange(20.0), np.repeat([0, 1], 10)
    nightly = np.where(night == 0, 0.8, 1.4)
    noise, water = rng.normal(size=20), 0.4 * np.sin(time)
    noise = (noise - noise.mean()) / noise.std()
    err = np.full(20, 0.6)
    assert (varying_pwv(nightly + 0.6 * noise, err, nightly, night, time, 3) == nightly).all()
    # one cloud's worth of nonsense does not make it water
    spoiled = np.where(time == 4.0, 6.0, 0.6 * noise)
    assert (varying_pwv(nightly + spoiled, err, nightly, night, time, 3) == nightly).all()
    err = np.full(20, 0.1)
    found = varying_pwv(nightly + water + 0.1 * noise, err, nightly, night, time, 1) - nightly
    assert np.std(found - water) < 0.12


def test_integrals_at_detectors_are_those_of_their_secants(fgcm_survey: FgcmSurvey) -> None:
    source = survey_passbands(fgcm_survey)
    n_det = len(source.detectors)
    filters = np.array([0, -1, 2])
    secant = 1.5 + 0.02 * np.arange(n_det) + np.array([[0.0], [0.0], [0.1]])
    secant[2] = 1.4  # all detectors at one secant
    found = detector_integrals(source, filters, _air(3, 3.0), secant)
    assert np.isnan(found.i0[1]).all()
    for e in (0, 2):
        for d in range(n_det):
            exact = source.evaluate(
                int(filters[e]), with_airmass(_air(1, 3.0), secant[e, d]), derivatives=False
            )
            assert 2.5 * np.log10(found.i0[e, d] / exact.i0[0, d]) == pytest.approx(0.0, abs=1e-5)
            assert found.i10[e, d] == pytest.approx(exact.i10[0, d], abs=0.01)
