"""The fit of a small simulated survey, and the parts that only it puts together."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.fit import FitSettings, fit
from zeropoint.fgcm.fit.free_vector import FreeVector
from zeropoint.fgcm.fit.priors import Priors
from zeropoint.fgcm.fit.problem import SurveyProblem
from zeropoint.fgcm.fit.sed_calibration import SedCalibration
from zeropoint.fgcm.fit.weights import huber_weight
from zeropoint.fgcm.model.layout import DEFAULT_PRIORS, LayoutSettings, ParameterLayout
from zeropoint.fgcm.model.load import load_fit_data
from zeropoint.fgcm.model.model import PhotometricModel
from zeropoint.fgcm.model.parameters import FitParameters
from zeropoint.fgcm.model.settings import FitDataSettings
from zeropoint.fgcm.model.sweep import standard_magnitudes
from zeropoint.simulation.fgcm_star_list import star_list, survey_passbands


@pytest.fixture(scope="module")
def survey(fgcm_survey):
    """Data, model and weights of the clear visits of the small survey, with slopes of plausible colors."""
    made, site = star_list(fgcm_survey), fgcm_survey.settings.site
    passbands = survey_passbands(fgcm_survey)
    settings = FitDataSettings(fgcm_survey.settings.bands, site.latitude, site.ut_boundary)
    data = load_fit_data(made.visits, made.observations, made.ids, made.indices, None, passbands, settings)
    clear = np.asarray(fgcm_survey.visits["photometric"])
    weight = (1.0 / np.square(data.observations.err)).astype(np.float32)
    slopes = (
        np.random.default_rng(1).normal([4e-4, 2e-4, 1e-4, 5e-5], 5e-5, (data.observations.n_star, 4)).ravel()
    )
    return SimpleNamespace(
        data=data, model=PhotometricModel(data.exposures, passbands), clear=clear, slopes=slopes, all=weight,
        weight=np.where(clear[data.observations.exposure], weight, 0.0).astype(np.float32),
        start=FitParameters.standard(data.exposures, passbands.standard), cloud=np.asarray(fgcm_survey.visits["cloud"]),
    )  # fmt: skip


def solve(survey, start=None, settings=None, weight=None, **free):
    """Fit the survey, the clear visits unless weights say otherwise."""
    weight = survey.weight if weight is None else weight
    passbands, exposures = survey.model.passbands, survey.data.exposures
    used = np.bincount(survey.data.observations.exposure, weight, minlength=len(exposures)) > 0
    layout = ParameterLayout.build(
        exposures, used, survey.start, passbands.ranges, passbands.standard, passbands.std_physical_filters,
        LayoutSettings(airmass_residual=True, **free),
    )  # fmt: skip
    return fit(
        survey.model, survey.data.observations, weight, survey.slopes, None, start or survey.start, layout,
        settings or FitSettings(max_iterations=40),
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted(survey):
    """The fit of the clear visits."""
    return solve(survey)


def test_the_gradient_is_that_of_the_function(survey, fitted):
    layout = fitted.posterior.layout
    sed = SedCalibration(np.full(4, 0.9), np.full(4, 1e-5), np.array([4e-4, 2e-4, 1e-4, 5e-5]))
    free = FreeVector(layout, np.arange(4), sed, 0.2, 5e-5, np.flatnonzero(survey.clear), 3e-4)
    problem = SurveyProblem(
        survey.model,
        survey.data.observations,
        survey.weight,
        survey.slopes,
        None,
        survey.start,
        free,
        free.priors,
    )
    vector = free.pack(survey.start)
    _, gradient = problem.evaluate(vector)
    step = 0.1 / np.sqrt(np.diag(problem.hessian(vector)))
    chosen = [
        layout.slices[name].start for name in ("o3", "ln_tau_slope", "alpha", "ln_pwv_intercept", "superstar")
    ]
    chosen += [layout.n_free, layout.n_free + 4, free.n_named]
    for k in chosen:
        values = []
        for sign in (-1.0, 1.0):
            moved = vector.copy()
            moved[k] += sign * step[k]
            values.append(problem.evaluate(moved)[0])
        # third derivatives over a tenth of an error
        assert (values[1] - values[0]) / (2.0 * step[k]) == pytest.approx(
            gradient[k], rel=1e-5, abs=1e-4 / step[k]
        )


def test_two_starts_half_apart_agree_to_a_tenth_of_the_errors(survey, fitted):
    moved = survey.start.replace(
        ln_pwv_intercept=survey.start.ln_pwv_intercept + 0.5,
        ln_tau_intercept=survey.start.ln_tau_intercept - 0.5,
    )
    other = solve(survey, moved)
    sigma = fitted.posterior.sigmas
    assert fitted.converged
    assert other.converged
    moves = sigma > 0
    assert np.max(np.abs(fitted.vector - other.vector)[moves] / sigma[moves]) < 0.1


def test_the_width_of_errors_of_absorption_does_not_depend_on_where_it_begins(survey, fitted):
    settings = FitSettings(max_iterations=40, absorption_start=2.0 * fitted.absorption_prior)
    other = solve(survey, start=fitted.parameters, settings=settings)
    # from either side it is sought again where it is off by 10 %
    assert other.absorption_prior == pytest.approx(fitted.absorption_prior, rel=0.22)
    moved = np.abs(other.vector - fitted.vector)
    errors = np.sqrt(np.sum(fitted.posterior.root**2, axis=1))
    assert (moved <= 0.3 * errors + 1e-12).all()


def test_nothing_is_nan_and_chi_square_is_that_of_the_errors(fitted):
    assert np.isfinite(fitted.vector).all()
    assert np.isfinite(fitted.posterior.sigmas).all()
    # blends and errors of the flat are in the data; without a fit it is far above
    assert 0.8 < fitted.chi2 / fitted.dof < 4.0
    assert fitted.n_used == np.count_nonzero(fitted.weight)


def test_threads_do_not_change_a_bit_of_the_fit(survey):
    two = solve(survey, settings=FitSettings(max_iterations=3, threads=2))
    one = solve(survey, settings=FitSettings(max_iterations=3))
    np.testing.assert_array_equal(two.vector, one.vector)


def test_a_night_without_exposures_keeps_its_values_and_has_no_errors(survey):
    night = survey.data.exposures.night
    weight = np.where(night[survey.data.observations.exposure] == 1, 0.0, survey.weight).astype(np.float32)
    result = solve(survey, weight=weight)
    assert result.parameters.alpha[1] == survey.start.alpha[1]
    sigmas = result.posterior.atmosphere_sigmas(result.parameters)
    assert np.isnan(sigmas["ln_tau"][night == 1]).all()
    assert np.isfinite(sigmas["ln_tau"][night != 1]).all()


def test_a_night_of_one_exposure_is_held_by_its_priors(survey):
    e, o = survey.data.exposures, survey.data.observations
    first = np.flatnonzero((e.night == 2) & survey.clear)[0]
    lost = (e.night == 2) & (np.arange(len(e)) != first)
    result = solve(survey, weight=np.where(lost[o.exposure], 0.0, survey.weight).astype(np.float32))
    assert np.isfinite(result.vector).all()
    sigma = result.posterior.parameter_sigmas(result.parameters)
    # of the prior's width together with the survey's mean, at most
    assert 0.05 < sigma.o3[2] / 15.0 < 1.3


def test_joint_gray_finds_the_clouds(survey, fitted):
    result = solve(
        survey,
        fitted.parameters,
        FitSettings(joint_gray=True, max_iterations=40),
        survey.all,
        exposure_gray=True,
    )
    gray = result.parameters.exposure_gray
    cloudy = survey.cloud > 0.05
    assert cloudy.any()
    # clouds change over the field by some percent of themselves
    np.testing.assert_allclose(gray[cloudy], -survey.cloud[cloudy], rtol=0.15, atol=0.02)
    # errors alone: of the priors that these grays have, not of those of clear sky
    again = solve(
        survey,
        result.parameters,
        FitSettings(joint_gray=True, max_iterations=0),
        survey.all,
        exposure_gray=True,
    )
    first, second = (
        np.array(each.posterior.parameter_sigmas(each.parameters).exposure_gray) for each in (result, again)
    )
    # what is at a bound is free where no step is taken
    np.testing.assert_allclose(second[cloudy], first[cloudy], rtol=0.15)


def test_zeropoints_know_less_of_what_is_not_measured(survey, fitted):
    errors = fitted.posterior.zeropoint_errors(survey.all, survey.clear)
    measured = np.sqrt(errors.measured[survey.clear])
    assert np.isfinite(measured).all()
    assert np.all(measured < 0.01)
    assert np.median(errors.unmeasured[survey.clear]) > 0
    assert np.isfinite(errors.common).all()


def test_errors_alone_take_no_step(survey, fitted):
    again = solve(survey, fitted.parameters, FitSettings(max_iterations=0))
    assert again.iterations == 0
    assert again.converged
    assert again.posterior.sigma("alpha[0]") > 0


@pytest.mark.parametrize(("name", "value"), [("weight", np.nan), ("weight", -1.0), ("slopes", np.inf)])
def test_what_is_no_number_is_refused(survey, name, value):
    values = getattr(survey, name).copy()
    values[3] = value
    with pytest.raises(InvalidInputError):
        solve(SimpleNamespace(**{**vars(survey), name: values}))


def test_without_weights_there_is_nothing_to_fit(survey):
    with pytest.raises(InvalidInputError, match="nothing to fit"):
        solve(survey, weight=np.zeros_like(survey.weight))


def test_settings_out_of_range_are_refused():
    with pytest.raises(InvalidInputError, match="gray_sigma"):
        FitSettings(gray_sigma=0.0)
    with pytest.raises(InvalidInputError, match="optimizer"):
        replace(FitSettings(), optimizer="simplex")


def test_nights_share_half_as_much_again_of_their_prior():
    sigma = np.array([15.0, 15.0, 15.0, 0.3])
    priors = Priors(np.zeros(4), sigma, (np.arange(3),))
    covariance = np.diag([112.5, 112.5, 112.5, 0.09])
    covariance[:3, :3] += 225.0
    np.testing.assert_allclose(np.linalg.inv(priors.hessian()), covariance, rtol=1e-10)
    vector = np.array([3.0, -1.0, 20.0, 0.2])
    np.testing.assert_allclose(priors.pull(vector), priors.hessian() @ vector, rtol=1e-10)


def test_priors_of_nights_hold_in_the_middle_of_their_exposures(survey, fitted):
    layout = fitted.posterior.layout
    e, priors = survey.data.exposures, Priors.of(layout)
    covariance = np.linalg.inv(priors.hessian()[:, : layout.n_free])
    for name in ("ln_pwv", "ln_tau"):
        intercept, slope = (layout.indices[f"{name}_{part}"] for part in ("intercept", "slope"))
        for night in range(e.n_nights):
            time = float(e.night_time[survey.clear & (e.night == night)].mean())
            row = np.zeros(layout.n_free)
            row[intercept[night]], row[slope[night]] = 1.0, time
            # a night by itself, and what nights share: 1.5 times 0.6 squared
            assert row @ covariance @ row == pytest.approx(1.5 * 0.36, rel=1e-8)
            # how a night changes says nothing of how it is
            assert (row @ covariance)[slope[night]] == pytest.approx(0.0, abs=1e-8)
    vector = np.random.default_rng(1).normal(priors.mean, 0.1)
    pull = priors.hessian() @ (vector - priors.mean)
    np.testing.assert_allclose(priors.pull(vector), pull, rtol=1e-8, atol=1e-8)


def test_the_strength_of_water_in_a_band_is_found(survey):
    # without noise: what is left is held by the priors
    e, o, passbands = survey.data.exposures, survey.data.observations, survey.model.passbands
    nights = survey.start.ln_pwv_intercept + np.linspace(-0.8, 0.8, e.n_nights)
    true = survey.start.replace(ln_pwv_intercept=nights, water_residual=np.array([0.0, 0.0, 0.3, -0.3]))
    flat = replace(o, mag=np.zeros(len(o), np.float32))
    mag = standard_magnitudes(flat, survey.slopes, survey.model.tables(true))[0]
    layout = ParameterLayout.build(
        e, survey.clear, survey.start, passbands.ranges, passbands.standard, passbands.std_physical_filters,
        LayoutSettings(water_residual=True, priors=dict(DEFAULT_PRIORS) | {"water_residual": 1.0}),
    )  # fmt: skip
    found = fit(
        survey.model, replace(o, mag=(15.0 - mag).astype(np.float32)), 1e3 * survey.weight, survey.slopes, None,
        survey.start, layout, FitSettings(max_iterations=40, calibrate_sed=False, absorption_sigma=0.0),
    )  # fmt: skip
    row = np.zeros((1, layout.n_free))
    row[0, layout.indices["water_residual"][[2, 3]]] = 1.0, -1.0
    error = found.posterior.linear_sigmas(row)[0]
    assert error < 0.08
    # how much water there is is another matter, of the prior: bands are compared
    assert row @ found.vector == pytest.approx(0.6, abs=1.5 * error)
    # the air has the water of the night, passbands that of their lines
    z = int(np.flatnonzero(e.band == 3)[0])
    felt = found.parameters.at(e, passbands.ranges).pwv[z] / found.parameters.pwv(e, passbands.ranges)[z]
    assert felt == pytest.approx(np.exp(found.parameters.water_residual[3]))


def test_calibrated_slopes_turn_about_the_pivot():
    pivot = np.array([2e-4])
    calibration = SedCalibration(np.array([1.5]), np.array([1e-5]), pivot)
    std = np.array([20.0])
    slope = pivot / (1.0 - pivot * std)
    found = calibration.apply(slope, std)
    assert found / (1.0 + found * std) == pytest.approx(pivot + 1e-5)
    np.testing.assert_array_equal(SedCalibration.none(1).apply(slope, std), slope)


def test_huber_weights_fall_as_one_over_the_residual():
    weight = np.full(3, 100.0, np.float32)
    found = huber_weight(np.array([0.1, 0.5, np.nan]), weight, np.full(3, 1e9), 2.5)
    np.testing.assert_allclose(found, [100.0, 50.0, 100.0], rtol=1e-6)
