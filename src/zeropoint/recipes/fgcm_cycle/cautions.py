"""What a cycle has to warn of: errors that are too small, and an atmosphere at the end of its range."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.fit import FitResult
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.terms.reference_scatter import ExposureOffsets
from zeropoint.recipes.fgcm_cycle.solution import Solution
from zeropoint.recipes.fgcm_cycle.survey import Survey

__all__ = [
    "atmosphere_at_ends",
    "nights_without_fit",
    "warn_of",
    "warn_of_few_stars",
    "warn_of_lost_references",
    "with_scatter",
]

_log = logging.getLogger(__name__)

#: Chi-square per degree of freedom from which the errors of a fit are not to be believed.
_BAD_CHI2 = 2.0
#: How near, as a part, a value is to an end of its range to count as there.
_NEAR = 1e-6
#: Exposures with less than so many times ``minStarPerExp`` may lose too many of their stars in later cycles.
_SPARE = 1.2


def warn_of(cycle: int, metrics: Mapping[str, Any], config: FgcmFitCycleConfigBase) -> None:
    """Warn, at the end, where observations scatter by much more than the errors stated, and of what was assumed.

    Before the last cycle flats within detectors are not in the model yet, and the scatter says little.

    Parameters
    ----------
    cycle
        Its number.
    metrics
        Of the cycle.
    config
        Settings.
    """
    if not config.isFinalCycle:
        return
    if not metrics["has_photometric"]:
        _log.warning(
            "No part of the nights is photometric: exposures scatter by %.0f mmag about any atmosphere. Their gray was fitted "
            "with everything else (autoJointGray): magnitudes rest on stars that exposures share and on references, and the "
            "atmosphere is little more than was assumed.",
            1e3 * metrics["joint_gray_sigma"],
        )  # fmt: skip
    chi2_dof = metrics["chi2_dof_measured"]
    if chi2_dof is not None and chi2_dof > _BAD_CHI2:
        remedy = (
            "Look at the repeatability of each band, and at sigma0Phot"
            if metrics["joint_gray"]
            else "Were the nights not photometric? Then jointGray=True fits the gray of exposures with the atmosphere"
        )
        _log.warning(
            "Cycle %d: observations scatter by %.1f times their errors (chi2/dof %.1f): the model does not hold, and errors "
            "are too small, though they were made larger by as much. %s.",
            cycle, chi2_dof**0.5, chi2_dof, remedy,
        )  # fmt: skip
    if metrics["nights_without_fit"]:
        nights = ", ".join(f"{night} ({n})" for night, n in metrics["nights_without_fit"].items())
        _log.warning(
            "No exposure is in the fit of these nights (floor(MJD + utBoundary), and exposures): %s. Their zeropoints rest on "
            "the standard atmosphere.",
            nights,
        )
    for name, n in metrics["atmosphere_at_ends"].items():
        _log.warning(
            "%s of %d exposures is at an end of its range: the data say little of it, or the range of the look-up table is "
            "too narrow.",
            name, n,
        )  # fmt: skip


def atmosphere_at_ends(survey: Survey, solution: Solution) -> dict[str, int]:
    """Return how many exposures of fitted nights have a part of the atmosphere at an end of its range, of parts with any.

    Parameters
    ----------
    survey, solution
        Data and model.
    """
    e, ranges = survey.data.exposures, survey.passbands.ranges
    if not survey.passbands.fitted:
        return {}
    air = solution.parameters.at(e, ranges)
    nights = np.unique(e.night[solution.selection.photometric & survey.in_fit_band])
    fitted = np.isin(e.night, nights) & (e.band >= 0)
    counts = {}
    for name in ("pwv", "o3", "tau", "alpha"):
        (low, high), values = ranges[name], getattr(air, name)
        margin = _NEAR * (high - low)
        n = int(np.count_nonzero(fitted & ((values <= low + margin) | (values >= high - margin))))
        if n:
            counts[name] = n
    return counts


def nights_without_fit(survey: Survey, solution: Solution) -> dict[str, int]:
    """Return the nights of which no exposure is in the fit, by number, floor(MJD + utBoundary), and their exposures.

    Parameters
    ----------
    survey, solution
        Data and model.
    """
    e = survey.data.exposures
    photometric: npt.NDArray[np.bool_] = solution.selection.photometric & survey.in_fit_band
    has = np.bincount(e.night[photometric], minlength=e.n_nights) > 0
    there = np.bincount(e.night[e.band >= 0], minlength=e.n_nights)
    return {str(e.night_numbers[k]): int(there[k]) for k in np.flatnonzero((there > 0) & ~has)}


def with_scatter(solution: Solution, chi2_dof: float) -> Solution:
    """Return a solution whose posterior errors have grown by how much more observations scatter than their errors say.

    Parameters
    ----------
    solution
        Model.
    chi2_dof
        Of the good observations about the means of their stars, with the errors stated; NaN: unknown.
    """
    fit = solution.fit
    if fit is None or fit.posterior is None or not chi2_dof > 1.0:
        return solution
    return replace(
        solution, fit=_scaled(fit, chi2_dof), fit_of_others=_scaled(solution.fit_of_others, chi2_dof)
    )


def _scaled(fit: FitResult | None, factor: float) -> FitResult | None:
    """Return a fit whose posterior variances have grown by a factor."""
    if fit is None or fit.posterior is None:
        return fit
    posterior = replace(fit.posterior, root=fit.posterior.root * np.sqrt(factor))
    return replace(fit, find_posterior=lambda: posterior)


def warn_of_lost_references(survey: Survey, offsets: ExposureOffsets, min_star_per_exp: int) -> None:
    """Warn of exposures that get no offset to reference stars although that is wanted.

    Parameters
    ----------
    survey
        Data.
    offsets
        Of the exposures.
    min_star_per_exp
        Reference stars that an exposure must have.
    """
    n = int(np.count_nonzero(survey.data.exposures.has_passband & ~np.isfinite(offsets.offset)))
    if n:
        _log.warning(
            "%d of %d exposures have fewer than minStarPerExp = %d good reference stars: useExposureReferenceOffset leaves their "
            "zeropoints as they are, unlike those of the others. Lower minStarPerExp, or take more reference stars.",
            n, survey.n_exp, min_star_per_exp,
        )  # fmt: skip


def warn_of_few_stars(survey: Survey, solution: Solution, min_star_per_exp: int) -> None:
    """Warn of bands whose exposures have hardly enough stars.

    Parameters
    ----------
    survey, solution
        Data and model.
    min_star_per_exp
        How many an exposure must have.
    """
    e = survey.data.exposures
    n_stars = solution.residuals.exposure.n_stars
    for b in np.flatnonzero(survey.fit_band):
        own = n_stars[(e.band == b) & (n_stars > 0)]
        if len(own) and np.median(own) < _SPARE * min_star_per_exp:
            _log.warning(
                "Exposures of %s have %d to %d good stars, half of them less than %d, and minStarPerExp = %d are needed: lower "
                "it, or few exposures stay in the fit.",
                e.bands[b], own.min(), own.max(), np.median(own), min_star_per_exp,
            )  # fmt: skip
