"""The fit: from weights and a start to parameters, the chi-square there, and errors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.fit.absorption import likely_absorption
from zeropoint.fgcm.fit.free_vector import NIGHT_CLASSES, FreeVector
from zeropoint.fgcm.fit.minimize import Minimum, Step, gauss_newton, lbfgsb
from zeropoint.fgcm.fit.posterior import Posterior
from zeropoint.fgcm.fit.problem import SurveyProblem
from zeropoint.fgcm.fit.quadratic import inverse_root
from zeropoint.fgcm.fit.result import FitResult
from zeropoint.fgcm.fit.sed_calibration import SedCalibration, typical_slopes
from zeropoint.fgcm.fit.settings import FitSettings
from zeropoint.fgcm.fit.weight_sums import WeightSums
from zeropoint.fgcm.fit.weights import gray_prior_sigma, huber_weight, structure_weight

if TYPE_CHECKING:
    from zeropoint.fgcm.fit.priors import Priors
    from zeropoint.fgcm.model.layout import ParameterLayout
    from zeropoint.fgcm.model.model import PhotometricModel
    from zeropoint.fgcm.model.observations import FitObservations
    from zeropoint.fgcm.model.parameters import FitParameters
    from zeropoint.fgcm.model.sweep import References

__all__ = ["fit"]

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]

_log = logging.getLogger(__name__)

#: Classes of parameters of which one must be free for anything to be learned of the atmosphere.
_ATMOSPHERE = (*NIGHT_CLASSES, "retrieved_scale", "retrieved_offset", "retrieved_night_offset")
#: Most exposures whose absorption may be wrong each by itself: beyond, the matrices are too large.
_MOST_ABSORPTIONS = 2500
#: Least width of the prior of those while photometric exposures are being found, mag.
_PRELIMINARY_ABSORPTION = 5e-3
#: Widths of the gray's prior, from where clouds and atmosphere are told apart roughly to the one asked for: factor of each.
_ANNEALING = 0.3
#: Most steps of fits whose widths are not final.
_ROUGH = 4
#: Half of a normal distribution is nearer to the middle than this part of sigma.
_MEDIAN_DEVIATION = 0.6745
#: Errors of absorption that are likely to be larger or smaller by this factor than their prior says get another prior.
_LARGER = 1.1
#: Last step, in errors, of a fit after which widths of priors are decided.
_NEARLY = 0.3
#: How often at most the width of errors of absorption is decided: each time from the fit with that of before.
_MOST_WIDTHS = 3
#: The widths of the priors are settled when none changes by more than this part.
_SETTLED = 0.05


def fit(
    model: PhotometricModel,
    observations: FitObservations,
    weight: SingleArray,
    slopes: FloatArray,
    references: References | None,
    parameters: FitParameters,
    layout: ParameterLayout,
    settings: FitSettings,
    on_progress: Callable[[str, int, int], None] | None = None,
    *,
    sed: SedCalibration | None = None,
) -> FitResult:
    """Fit the free parameters to the scatter of the stars' observations about their means.

    Parameters
    ----------
    model
        Of the exposures.
    observations
        Star by star, with all static corrections in their magnitudes.
    weight : float32, shape (n_obs,)
        Inverse variances, mag^-2; 0: not used.
    slopes : float64, shape (n_star * n_band,)
        F' of each star and band from its colors, 1/Angstrom; not calibrated.
    references
        Magnitudes from elsewhere and their weights; None: none.
    parameters
        Where to begin, and the values of what is not free.
    layout
        What is free, within which bounds, with which priors.
    settings
        How to proceed.
    on_progress
        Called with title, steps done and most steps.
    sed
        Calibration of the slopes to begin with; None: none.

    Returns
    -------
    result : FitResult

    Raises
    ------
    InvalidInputError
        If nothing is used, or a weight or slope is no number.
    """
    single = np.asarray(weight, np.float32)
    sums = WeightSums.of(observations, single, len(model.exposures))
    _check(sums, slopes)
    with threadpool_limits(limits=1, user_api="blas"):
        # matrices are small: threads would cost more than they give, and bits
        free = _free_vector(model, sums, slopes, layout, settings, sed)
        problem = SurveyProblem(
            model, observations, single, np.asarray(slopes, np.float64).ravel(), references,
            parameters, free, free.priors, settings.threads, _sums=sums,
        )  # fmt: skip
        return _solve(problem, free.pack(parameters), settings, on_progress)


def _solve(
    problem: SurveyProblem,
    start: FloatArray,
    settings: FitSettings,
    on_progress: Callable[[str, int, int], None] | None,
) -> FitResult:
    """Return the result of all minimisations: of gray and robust weights, too."""
    given = problem.weight
    steps: list[Step] = []
    if len(problem.free) == 0 or settings.max_iterations == 0:
        minimum = Minimum(start, np.nan, (), 0, True, np.zeros(len(start), bool))
        if settings.joint_gray:
            # errors are those of the priors that these grays have in a fit
            problem, _ = _with_widths(problem, given, problem.priors, start, settings.gray_sigma, settings)
        for _ in range(_MOST_WIDTHS):
            problem = _with_likely(problem, minimum, settings)
        return _result(problem, minimum, [], settings, given, 1)

    def after(step: Step) -> None:
        steps.append(step)
        _log.debug(
            "Step %d: half of chi2 %.2f, largest change %.3g sigma, damping %.1g%s.",
            len(steps), step.value, step.largest, step.damping, "" if step.accepted else ", rejected",
        )  # fmt: skip
        if on_progress is not None:
            on_progress("fitting", min(len(steps), settings.max_iterations), settings.max_iterations)

    def minimise(
        current: SurveyProblem,
        vector: FloatArray,
        most: int = settings.max_iterations,
        tolerance: float = settings.step_tolerance,
    ) -> Minimum:
        if settings.optimizer == "lbfgsb":
            return lbfgsb(current, vector, max_iterations=most, on_step=after)
        return gauss_newton(
            current, vector, tolerance=tolerance, max_iterations=most, on_step=after,
            arrive=current.arrive if settings.joint_gray else None,
        )  # fmt: skip

    start = problem.free.released(start)
    evaluations = 0
    if settings.joint_gray:
        columns = problem.free.layout.indices["exposure_gray"]
        problem, minimum, evaluations = _with_gray(problem, start, columns, settings, minimise)
    else:
        # what the priors' width is decided from need not be exact
        seeks = len(problem.free.exposures) > 0 and not settings.seeks_clouds
        is_known = settings.absorption_start is not None
        nearly = max(settings.step_tolerance, _NEARLY) if seeks and not is_known else settings.step_tolerance
        minimum = minimise(problem, start, tolerance=nearly)
        again = problem.free.released(minimum.vector)
        if settings.optimizer == "gauss_newton" and not np.array_equal(again, minimum.vector):
            # a night that ended at a bound may have come there the wrong way
            other = minimise(problem, again, tolerance=nearly)
            minimum = other if other.value < minimum.value else minimum
        exact = nearly == settings.step_tolerance
        for _ in range(_MOST_WIDTHS):
            likely = _with_likely(problem, minimum, settings)
            if likely is problem and exact:
                break
            if likely is not problem:
                evaluations += problem.evaluations
                problem = likely
            minimum, exact = minimise(problem, minimum.vector), True
    for _ in range(settings.robust_rounds if settings.robust else 0):
        evaluations += problem.evaluations
        problem = problem.reweighted(_robust(problem, minimum.vector, given, settings), problem.priors)
        minimum = minimise(problem, minimum.vector)
    result = _result(problem, minimum, steps, settings, given, evaluations + problem.evaluations)
    _log.log(
        logging.INFO if result.converged or settings.preliminary else logging.WARNING,
        "Fit %s after %d steps: chi2 %.1f of %d degrees of freedom, %d parameters, %d at bounds.",
        "converged" if result.converged else "has not converged", result.iterations, result.chi2, result.dof,
        result.n_free, len(result.at_bounds),
    )  # fmt: skip
    return result


def _free_vector(
    model: PhotometricModel,
    sums: WeightSums,
    slopes: FloatArray,
    layout: ParameterLayout,
    settings: FitSettings,
    sed: SedCalibration | None,
) -> FreeVector:
    """Return what is free besides the layout's parameters: of an atmosphere that is fitted, what may be wrong about it."""
    n_band = model.exposures.n_band
    start = SedCalibration.none(n_band) if sed is None else sed
    bands, exposures = np.zeros(0, np.int64), np.zeros(0, np.int64)
    if any((layout.indices[name] >= 0).any() for name in _ATMOSPHERE):
        by_band = sums.by_segment.reshape(-1, n_band)
        if settings.calibrate_sed:
            start = replace(
                start, pivot=typical_slopes(np.asarray(slopes, float), model.band_i10_std, by_band)
            )
            several = np.ptp(np.where(by_band > 0, slopes.reshape(-1, n_band), start.pivot), axis=0) > 0
            bands = np.flatnonzero(several & (by_band.sum(axis=0) > 0))
        fitted = np.flatnonzero(sums.used_exposures)
        grays = (layout.indices["exposure_gray"] >= 0).any()
        if settings.absorption_sigma > 0 and not grays and len(fitted) <= _MOST_ABSORPTIONS:
            exposures = fitted
    sigma = max(settings.absorption_sigma, settings.absorption_start or 0.0)
    if settings.seeks_clouds:
        # clouds may be among the exposures yet: no night must bend its atmosphere to explain one
        sigma = max(sigma, _PRELIMINARY_ABSORPTION)
    return FreeVector(
        layout, bands, start, settings.sed_scale_sigma, settings.sed_offset_sigma, exposures, sigma
    )


def _check(sums: WeightSums, slopes: FloatArray) -> None:
    """Raise where an input is no number or nothing is used."""
    if sums.n_wrong:
        raise InvalidInputError(
            f"{sums.n_wrong} weights of the fit are negative or no numbers; set them to 0."
        )
    if not sums.n_used:
        raise InvalidInputError("No observation has a weight: there is nothing to fit.")
    if not np.isfinite(slopes).all():
        raise InvalidInputError("Slopes of spectra are no numbers; fill the unknown ones.")
    if sums.n_wrong_mag:
        raise InvalidInputError("Observations whose magnitudes are no numbers have a weight; set it to 0.")


def _with_gray(
    problem: SurveyProblem,
    start: FloatArray,
    columns: npt.NDArray[np.int64],
    settings: FitSettings,
    minimise: Callable[[SurveyProblem, FloatArray, int], Minimum],
) -> tuple[SurveyProblem, Minimum, int]:
    """Fit with the gray of the exposures among the parameters; the last two are the minimum and evaluations so far.

    The prior of heavy tail is a normal one whose widths are decided anew from each minimum. It begins as wide as the gray at
    the start scatters, so that no exposure is taken for clear or cloudy before its neighbors are understood.
    """
    free = columns >= 0
    if not free.any():
        raise InvalidInputError("Joint gray was asked for, but no exposure's gray is free in the layout.")
    given, priors, vector = problem.weight, problem.priors, start.copy()
    own = columns[free]
    if not vector[own].any():
        vector[own] = _measured_gray(problem, vector)[free]
    evaluations, last = problem.evaluations, np.full(len(own), np.inf)
    scatter = float(np.median(np.abs(vector[own]))) / _MEDIAN_DEVIATION
    width, settled = max(scatter, settings.gray_sigma), 0
    while True:
        at_target = width <= settings.gray_sigma
        settled += at_target
        problem, widths = _with_widths(problem, given, priors, vector, width, settings)
        # what is not settled need not be exact
        is_last = at_target and (
            settled > settings.gray_rounds or np.all(np.abs(widths / last - 1.0) < _SETTLED)
        )
        minimum = minimise(problem, vector, settings.max_iterations if is_last else _ROUGH)
        if is_last:
            return problem, minimum, evaluations
        evaluations += problem.evaluations
        vector, last = minimum.vector, widths
        width = max(width * _ANNEALING, settings.gray_sigma)


def _with_widths(
    problem: SurveyProblem,
    given: SingleArray,
    priors: Priors,
    vector: FloatArray,
    width: float,
    settings: FitSettings,
) -> tuple[SurveyProblem, FloatArray]:
    """Return the problem with the priors and weights that the gray of a vector has, and the widths of these priors."""
    columns = problem.free.layout.indices["exposure_gray"]
    free = columns >= 0
    own, gray = columns[free], np.zeros(columns.shape)
    gray[free] = vector[own]
    widths = gray_prior_sigma(gray[free], width, settings.gray_tail)
    weight = structure_weight(given, problem.observations, gray, settings.gray_structure)
    return problem.reweighted(weight, priors.with_sigma(own, widths)), widths


def _absorption_prior(problem: SurveyProblem) -> float:
    """Return the width of the prior of the errors of absorption, mag; what was asked for where there are none."""
    free = problem.free
    return float(problem.priors.sigma[free.n_named]) if len(free.exposures) else free.absorption_sigma


def _with_likely(problem: SurveyProblem, minimum: Minimum, settings: FitSettings) -> SurveyProblem:
    """Return the problem with errors of absorption as large as is likely, or the same where they are about as large."""
    free = problem.free
    if settings.seeks_clouds or not len(free.exposures):
        return problem
    width = likely_absorption(problem, minimum.vector, minimum.held, settings.absorption_sigma)
    prior = _absorption_prior(problem)
    if prior / _LARGER < width < prior * _LARGER:
        return problem
    columns = np.arange(free.n_named, len(free))
    priors = problem.priors.with_sigma(columns, np.full(len(columns), width))
    return problem.reweighted(problem.weight, priors)


def _measured_gray(problem: SurveyProblem, vector: FloatArray) -> FloatArray:
    """Return the gray that takes the mean residual of each exposure away, mag, shape (n_exp,)."""
    gradient = problem.at(vector).result.gradient
    assert gradient is not None
    n_exp = len(problem.model.exposures)
    pull, total = (each.reshape(n_exp, -1).sum(axis=1) for each in (gradient[:, 0], problem.sums.by_detector))
    return np.asarray(-0.5 * pull / np.where(total > 0, total, 1.0))


def _robust(
    problem: SurveyProblem, vector: FloatArray, given: SingleArray, settings: FitSettings
) -> SingleArray:
    """Return the weights of single observations from their residuals at a minimum."""
    swept, segment = problem.at(vector).result, problem.observations.segment
    # what an exposure's gray has made of the weights is kept
    base = np.where(problem.weight > 0, np.minimum(problem.weight, given), 0.0).astype(np.float32)
    residual = problem.standard_magnitudes(vector) - swept.mean.ravel()[segment]
    return huber_weight(residual, base, swept.weight_sum.ravel()[segment], settings.robust_threshold)


def _result(
    problem: SurveyProblem,
    minimum: Minimum,
    steps: list[Step],
    settings: FitSettings,
    given: SingleArray,
    evaluations: int,
) -> FitResult:
    """Return the result at a minimum."""
    point = problem.at(minimum.vector)
    swept = point.result
    n_reference = problem.reference_weight.reshape(swept.mean.shape)
    used = np.isfinite(swept.mean)
    names = np.array(problem.free.names, dtype=object)

    @cache
    def posterior() -> Posterior | None:
        return _posterior(problem, minimum) if len(problem.free) else None

    if not settings.preliminary or len(problem.undetermined) != len(names):
        posterior()
    undetermined = problem.undetermined if len(names) else np.zeros(0, bool)
    return FitResult(
        parameters=point.parameters,
        sed=point.calibration,
        vector=minimum.vector,
        chi2=float(swept.chi2),
        prior_chi2=problem.priors.chi2(minimum.vector),
        n_used=int(swept.n_used),
        n_reference=int(np.count_nonzero(used & (n_reference > 0))),
        n_means=int(np.count_nonzero(used)),
        n_free=len(problem.free) - int((minimum.held | undetermined).sum()),
        iterations=len(steps),
        evaluations=evaluations,
        converged=minimum.converged,
        at_bounds=tuple(names[minimum.held].tolist()),
        undetermined=tuple(names[undetermined].tolist()),
        mean=swept.mean,
        weight_sum=swept.weight_sum,
        weight=problem.weight,
        n_downweighted=int(np.count_nonzero(problem.weight < 0.5 * given)),
        steps=tuple(steps),
        find_posterior=posterior,
        absorption_exposures=problem.free.exposures,
        absorption_prior=_absorption_prior(problem),
        absorption_sigma=settings.absorption_sigma,
        seeks_clouds=settings.seeks_clouds,
    )


def _posterior(problem: SurveyProblem, minimum: Minimum) -> Posterior:
    """Return the errors at a minimum."""
    # of exposures that are not in the fit, too: their zeropoints have errors as well
    tables = problem.model.tables(problem.at(minimum.vector).parameters)
    derivatives = problem.derivatives(minimum.vector, tables)
    hessian = problem.hessian(minimum.vector)
    root = inverse_root(hessian, ~minimum.held & ~problem.undetermined)
    return Posterior(
        layout=problem.free.layout,
        names=problem.free.names,
        model=problem.model,
        root=root,
        derivatives=derivatives,
        flat_column=problem.flat_column,
        observations=problem.observations,
        weight=problem.weight,
        color=problem.color,
        reference_weight=problem.reference_weight,
    )
