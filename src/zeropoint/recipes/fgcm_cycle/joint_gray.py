"""When the gray of exposures is fitted with the atmosphere, and under which prior."""

from __future__ import annotations

from typing import Any

from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.recipes.fgcm_cycle.consensus import night_consensus
from zeropoint.recipes.fgcm_cycle.solution import Solution
from zeropoint.recipes.fgcm_cycle.survey import Survey

__all__ = [
    "continued_joint_gray",
    "has_joint_gray",
    "joint_gray_numbers",
    "seeks_photometric",
    "with_joint_gray",
]

#: Exposures of surveys whose gray is not fitted unasked: the matrices would be too large.
_MOST_GRAYS = 5000


def has_joint_gray(survey: Survey, config: FgcmFitCycleConfigBase) -> bool:
    """Tell whether the gray of exposures is fitted: with the atmosphere, if there is one, which it would stand for otherwise.

    Parameters
    ----------
    survey, config
        Data and settings.
    """
    frozen = bool(survey.passbands.fitted) and config.freezeStdAtmosphere
    return bool(config.jointGray and not frozen)


def seeks_photometric(survey: Survey, config: FgcmFitCycleConfigBase) -> bool:
    """Tell whether a cycle has to find out if any exposure is photometric.

    Parameters
    ----------
    survey, config
        Data and settings.
    """
    fits_atmosphere = bool(survey.passbands.fitted) and not config.freezeStdAtmosphere
    return bool(
        fits_atmosphere and survey.n_exp <= _MOST_GRAYS and (config.autoJointGray or config.jointGray)
    )


def with_joint_gray(config: FgcmFitCycleConfigBase, sigma: float) -> FgcmFitCycleConfigBase:
    """Return settings with a joint gray whose prior is at least so wide.

    Parameters
    ----------
    config
        Settings.
    sigma
        Scatter of the gray, mag.
    """
    joint: FgcmFitCycleConfigBase = config.copy()
    joint.jointGray = True
    joint.jointGraySigma = max(sigma, config.jointGraySigma)
    return joint


def continued_joint_gray(
    survey: Survey, config: FgcmFitCycleConfigBase, solution: Solution
) -> FgcmFitCycleConfigBase:
    """Return the settings of a cycle: with a joint gray, if the model that it goes on from has one by itself.

    Parameters
    ----------
    survey, config
        Data and settings.
    solution
        Model to go on from.
    """
    if not seeks_photometric(survey, config) or not solution.parameters.exposure_gray.any():
        return config
    evidence = night_consensus(survey, config, solution).evidence
    if evidence.has_photometric:
        return config
    return with_joint_gray(config, evidence.sigma)


def joint_gray_numbers(
    given: FgcmFitCycleConfigBase, used: FgcmFitCycleConfigBase, sigma: float | None
) -> dict[str, Any]:
    """Return what metrics say of the joint gray.

    Parameters
    ----------
    given, used
        Settings of a cycle as they were asked for, and as they were with what was found.
    sigma
        Width of the gray's prior, mag; None: no gray was fitted.
    """
    return {
        "joint_gray": sigma is not None,
        "joint_gray_sigma": sigma,
        "has_photometric": used is given,
    }
