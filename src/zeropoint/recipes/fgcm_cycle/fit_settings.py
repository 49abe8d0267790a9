"""What is free in the fit of a cycle, and how the fit proceeds."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from zeropoint.fgcm.fit import FitSettings
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.model.layout import DEFAULT_PRIORS, LayoutSettings, ParameterLayout
from zeropoint.recipes.fgcm_cycle.consensus import clear_scatter
from zeropoint.recipes.fgcm_cycle.joint_gray import has_joint_gray, seeks_photometric
from zeropoint.recipes.fgcm_cycle.selection import Selection
from zeropoint.recipes.fgcm_cycle.solution import Solution
from zeropoint.recipes.fgcm_cycle.survey import Survey

if TYPE_CHECKING:
    from zeropoint.fgcm.model.parameters import FitParameters

_log = logging.getLogger(__name__)

#: Scatter of clear exposures from which on it is gray rather than an error of the absorption model, mag.
_LEAST_SCATTER = 0.001

#: Degrees of freedom of a prior that is as good as normal.
_NO_TAIL = 100.0

__all__ = ["layout_of", "settings_of"]


def layout_of(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    selection: Selection,
    parameters: FitParameters,
    has_references: bool,
    fit: FitSettings,
) -> ParameterLayout:
    """Return which parameters are free in a cycle.

    Parameters
    ----------
    survey, config, selection
        Data, settings and flags.
    parameters
        At the start.
    has_references
        Whether the absolute throughput can be fitted.
    fit
        How the fit proceeds: with the gray of exposures or without.
    """
    priors: Mapping[str, float] = dict(DEFAULT_PRIORS) | {
        "airmass_residual": config.airmassResidualSigma,
        "water_residual": config.waterResidualSigma,
        "exposure_gray": fit.gray_sigma,
    }
    atmosphere = not config.freezeStdAtmosphere and bool(survey.passbands.fitted)
    settings = LayoutSettings(
        atmosphere=atmosphere,
        quadratic_pwv=config.useQuadraticPwv,
        retrieved_pwv=parameters.retrieved_ln_pwv is not None,
        nightly_offset=True,
        per_band=config.instrumentParsPerBand,
        abs_offset=has_references,
        aper_slope=config.aperCorrFitNBins > 0,
        airmass_residual=atmosphere and config.airmassResidualSigma > 0,
        water_residual=atmosphere and config.waterResidualSigma > 0,
        exposure_gray=fit.joint_gray,
        priors=priors,
    )
    used = survey.in_fit_band & selection.photometric
    source = survey.passbands
    return ParameterLayout.build(
        survey.data.exposures, used, parameters, source.ranges, source.standard, source.std_physical_filters, settings
    )  # fmt: skip


def settings_of(
    survey: Survey, config: FgcmFitCycleConfigBase, solution: Solution | None = None
) -> FitSettings:
    """Return how the fit of a cycle proceeds.

    Parameters
    ----------
    survey, config
        Data and settings.
    solution
        Model whose photometric exposures tell by how much clear ones scatter: their gray is fitted if that is more than what
        the absorption model may lack. None: that is not asked for.
    """
    joint, sigma = has_joint_gray(survey, config), float(config.jointGraySigma)
    if solution is not None and seeks_photometric(survey, config) and not joint:
        scatter = clear_scatter(survey, solution, _LEAST_SCATTER)
        if scatter > _LEAST_SCATTER:
            _log.info(
                "Photometric exposures scatter by %.1f mmag about the atmospheres of their nights: their gray is fitted, too.",
                1e3 * scatter,
            )
            joint, sigma = True, scatter
    return FitSettings(
        optimizer=config.optimizer,
        max_iterations=config.maxIterBeforeFinalCycle,
        robust=config.robustWeights,
        joint_gray=joint,
        gray_sigma=sigma,
        # what is left of clear exposures has no tail: clouds are out
        gray_tail=FitSettings.gray_tail if config.jointGray else _NO_TAIL,
        threads=survey.threads,
    )
