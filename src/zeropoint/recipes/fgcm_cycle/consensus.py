"""Which exposures of a night agree on one atmosphere: what is clear, and what is behind clouds, while both bend the model.

A fit that takes a thin cloud for clear sky bends the night's atmosphere until other exposures look wrong.  Here a night is
looked at by itself: to first order the gray of its exposures follows from a change of six parameters, and the change is
sought with which most exposures have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.fit.leave_out import clouds_left_out
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.flags import ExposureFlag
from zeropoint.fgcm.magnitudes import MAG_PER_LN
from zeropoint.fgcm.model.layout import DEFAULT_PRIORS
from zeropoint.fgcm.model.parameters import FitParameters
from zeropoint.recipes.fgcm_cycle.sky_evidence import NightGray, SkyEvidence, scatter_of_clear, sky_evidence
from zeropoint.recipes.fgcm_cycle.solution import Solution
from zeropoint.recipes.fgcm_cycle.survey import BoolArray, FloatArray, Survey

__all__ = ["Consensus", "clear_scatter", "night_consensus", "thin_clouds"]

#: Parameters of a night: class, quantity of the atmosphere, and whether it is the change with time.
_CLASSES = (
    ("o3", "o3", False),
    ("alpha", "alpha", False),
    ("ln_tau_intercept", "ln_tau", False),
    ("ln_tau_slope", "ln_tau", True),
    ("ln_pwv_intercept", "ln_pwv", False),
    ("ln_pwv_slope", "ln_pwv", True),
)
#: Error of the gray of an exposure under a clear sky, mag, and beyond how many of these it is no clear sky.
_SIGMA, _LIMIT = 0.002, 3.0
#: What an exposure costs at most that is too faint, and one that is too bright, for which there is no cause.
_FAINT, _BRIGHT = 9.0, 36.0
#: Samples of exposures, how many each has, and how often the best are fitted to all that agree with them.
_SAMPLES, _SIZE, _BEST, _ROUNDS = 256, 6, 16, 4
#: An exposure among those in the fit is under a thin cloud if a fit without it would find it too faint by so many errors and
#: magnitudes; it comes back when it is not fainter than the last.
_THIN, _LEAST, _BACK = 4.0, 0.0025, -0.0015
#: Least part of the variance of gray that nights leave which bend to their exposures.
_KEPT = 0.4
#: Least scatter of clear exposures where clouds are looked for, mag.
_CLEAR = 2.5e-4
#: Flags that say nothing of the sky.
_SKY = (
    ExposureFlag.EXP_GRAY_TOO_NEGATIVE | ExposureFlag.EXP_GRAY_TOO_POSITIVE | ExposureFlag.VAR_GRAY_TOO_LARGE
    | ExposureFlag.TOO_FEW_EXP_ON_NIGHT | ExposureFlag.TEMPORARY_BAD_EXPOSURE
)  # fmt: skip


@dataclass(frozen=True)
class Consensus:
    """What the exposures of each night agree on.

    Parameters
    ----------
    parameters
        With the changes of the nights.
    cloudy
        Exposures that are too faint for it, shape (n_exp,).
    nights
        The nights that were looked at.
    """

    parameters: FitParameters
    cloudy: BoolArray
    nights: tuple[NightGray, ...]

    @cached_property
    def evidence(self) -> SkyEvidence:
        """Whether there are photometric exposures at all."""
        return sky_evidence(self.nights)


def night_consensus(survey: Survey, config: FgcmFitCycleConfigBase, solution: Solution) -> Consensus:
    """Seek the atmosphere of each night that most of its exposures agree on.

    Parameters
    ----------
    survey, config
        Data and settings.
    solution
        Model to begin with, and the gray of all exposures.
    """
    e, parameters = survey.data.exposures, solution.parameters
    gray = solution.residuals.exposure.gray
    usable = survey.in_fit_band & np.isfinite(gray) & (gray > config.expGrayInitialCut)
    usable &= (solution.selection.exposure & ~np.int32(_SKY)) == 0
    rows = _responses(survey, solution)
    values = np.stack([getattr(parameters, name) for name, _, _ in _CLASSES], axis=1)
    typical = np.median(values, axis=0)
    weight = np.array([DEFAULT_PRIORS[name] for name, _, _ in _CLASSES]) ** -2.0
    cloudy = np.zeros(len(e), bool)
    changed = values.copy()
    nights = []
    for night in range(e.n_nights):
        index = np.flatnonzero(usable & (e.night == night))
        if len(index) <= _SIZE:
            continue
        rng = np.random.default_rng([config.seed, int(e.night_numbers[night]) & 0xFFFFFFFF])
        prior = typical - values[night]
        step, residual = _agree(rows[index], gray[index], prior, weight, rng)
        changed[night] += step
        faint, clear = residual < -_LIMIT * _SIGMA, np.abs(residual) < _LIMIT * _SIGMA
        cloudy[index] = faint
        noise = solution.residuals.exposure.err[index]
        nights.append(NightGray(gray[index], rows[index], prior, 1.0 / weight, noise, clear, faint))
    new = {name: changed[:, k] for k, (name, _, _) in enumerate(_CLASSES)}
    return Consensus(parameters.replace(**new), cloudy, tuple(nights))


def clear_scatter(survey: Survey, solution: Solution, least: float) -> float:
    """Return by how much photometric exposures scatter about the atmospheres of their nights beyond their errors, mag.

    Parameters
    ----------
    survey
        Data.
    solution
        Model, and the gray of all exposures.
    least
        What does not matter, mag: 0 is returned where the scatter cannot be more.
    """
    e, residuals = survey.data.exposures, solution.residuals.exposure
    usable = survey.in_fit_band & solution.selection.photometric & np.isfinite(residuals.gray)
    gray = residuals.gray[usable]
    if not len(gray) or np.mean(gray**2) < _KEPT * least**2:
        return 0.0
    rows = _responses(survey, solution)
    values = np.stack([getattr(solution.parameters, name) for name, _, _ in _CLASSES], axis=1)
    prior = np.median(values, axis=0) - values
    variance = np.array([DEFAULT_PRIORS[name] for name, _, _ in _CLASSES]) ** 2
    nights = []
    for night in np.unique(e.night[usable]):
        index = np.flatnonzero(usable & (e.night == night))
        every = np.ones(len(index), bool)
        nights.append(
            NightGray(
                residuals.gray[index],
                rows[index],
                prior[night],
                variance,
                residuals.err[index],
                every,
                ~every,
            )
        )
    return scatter_of_clear(nights)


def thin_clouds(solution: Solution, *, also_preliminary: bool = False) -> BoolArray:
    """Return the exposures that are too faint for the others of a fit, shape (n_exp,), by as little as the fit can tell.

    A night bends to each of its exposures, so that a cloud leaves less gray than it has.  What counts is the gray in a fit
    without the exposure.  Fits that have not converged, those without an atmosphere and those whose gray is joint tell of none.

    Parameters
    ----------
    solution
        Model with its fit, and the gray of all exposures.
    also_preliminary
        Whether a fit in which clouds are still sought counts: as if exposures scattered as little as in the last fit.
    """
    gray = solution.residuals.exposure.gray
    # once out, an exposure shows its gray: not to come and go, it comes back when little of that is left
    was_out = (solution.selection.exposure & np.int32(ExposureFlag.EXP_GRAY_TOO_NEGATIVE)) != 0
    cloudy = was_out & (gray < _BACK)
    fit = solution.fit
    if (
        fit is None
        or not len(fit.absorption_exposures)
        or (fit.seeks_clouds and not also_preliminary)
        or fit.posterior is None
    ):
        return np.zeros(len(gray), bool)
    if not (fit.converged or fit.seeks_clouds):
        return cloudy
    found = clouds_left_out(
        fit.vector[-len(fit.absorption_exposures) :],
        fit.absorption_covariance(),
        fit.absorption_prior,
        max(fit.absorption_sigma, _CLEAR),
        n_sigma=_THIN,
        least=_LEAST,
    )
    cloudy[fit.absorption_exposures[found]] = True
    return cloudy


def _responses(survey: Survey, solution: Solution) -> FloatArray:
    """Return how the magnitude of a typical star changes with its night's parameters, shape (n_exp, 6)."""
    e = survey.data.exposures
    tables = survey.model.tables(solution.parameters)
    color = MAG_PER_LN * solution.slopes.median_value[np.maximum(e.band, 0)]
    columns = []
    for _, quantity, with_time in _CLASSES:
        mean = tables.derivatives[quantity].mean(axis=(1, 2))
        column = mean[:, 0] + color * mean[:, 1]
        columns.append(column * e.night_time if with_time else column)
    return np.stack(columns, axis=1)


def _agree(
    rows: FloatArray, gray: FloatArray, prior: FloatArray, weight: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return the change of the parameters that most exposures agree on, and the gray that it leaves."""
    n = len(gray)
    order = np.argsort(rng.random((_SAMPLES, n)), axis=1)
    used = np.zeros((_SAMPLES + 1, n), bool)
    np.put_along_axis(used[:-1], order[:, :_SIZE], True, axis=1)
    used[-1] = True
    steps = _solve(used, rows, gray, prior, weight)
    cost = _cost(steps, rows, gray, prior, weight)
    best = np.argsort(cost, kind="stable")[:_BEST]
    steps, cost = steps[best], cost[best]
    for _ in range(_ROUNDS):
        residual = gray - steps @ rows.T
        trial = _solve(np.abs(residual) < _LIMIT * _SIGMA, rows, gray, prior, weight)
        new = _cost(trial, rows, gray, prior, weight)
        better = new < cost
        steps[better], cost[better] = trial[better], new[better]
    chosen = steps[np.argmin(cost)]
    return chosen, gray - rows @ chosen


def _solve(
    used: npt.NDArray[np.bool_], rows: FloatArray, gray: FloatArray, prior: FloatArray, weight: FloatArray
) -> FloatArray:
    """Return least-squares changes from some of the exposures and the prior, shape (n_samples, 6)."""
    w = used / _SIGMA**2
    squares = (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)
    hessian = (w @ squares).reshape(len(w), *np.diag(weight).shape) + np.diag(weight)
    target = w @ (rows * gray[:, None]) + weight * prior
    return np.linalg.solve(hessian, target[..., None])[..., 0]


def _cost(
    steps: FloatArray, rows: FloatArray, gray: FloatArray, prior: FloatArray, weight: FloatArray
) -> FloatArray:
    """Return what each change costs."""
    pull = (gray - steps @ rows.T) / _SIGMA
    most = np.where(pull < 0, _FAINT, _BRIGHT)
    return np.asarray(np.minimum(pull**2, most).sum(axis=1) + ((steps - prior) ** 2 * weight).sum(axis=1))
