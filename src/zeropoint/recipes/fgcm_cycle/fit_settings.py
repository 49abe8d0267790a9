"""What is free in the fit of a cycle, and how the fit proceeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from zeropoint.fgcm.fit import FitSettings
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.model.layout import DEFAULT_PRIORS, LayoutSettings, ParameterLayout
from zeropoint.recipes.fgcm_cycle.joint_gray import has_joint_gray
from zeropoint.recipes.fgcm_cycle.selection import Selection
from zeropoint.recipes.fgcm_cycle.survey import Survey

if TYPE_CHECKING:
    from zeropoint.fgcm.model.parameters import FitParameters

__all__ = ["layout_of", "settings_of"]


def layout_of(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    selection: Selection,
    parameters: FitParameters,
    has_references: bool,
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
    """
    priors: Mapping[str, float] = dict(DEFAULT_PRIORS) | {
        "airmass_residual": config.airmassResidualSigma,
        "water_residual": config.waterResidualSigma,
        "exposure_gray": config.jointGraySigma,
    }
    atmosphere = not config.freezeStdAtmosphere and bool(survey.passbands.fitted)
    settings = LayoutSettings(
        atmosphere=atmosphere,
        quadratic_pwv=config.useQuadraticPwv,
        retrieved_pwv=parameters.retrieved_ln_pwv is not None,
        per_band=config.instrumentParsPerBand,
        abs_offset=has_references,
        aper_slope=config.aperCorrFitNBins > 0,
        airmass_residual=atmosphere and config.airmassResidualSigma > 0,
        water_residual=atmosphere and config.waterResidualSigma > 0,
        exposure_gray=has_joint_gray(survey, config),
        priors=priors,
    )
    used = survey.in_fit_band & selection.photometric
    source = survey.passbands
    return ParameterLayout.build(
        survey.data.exposures, used, parameters, source.ranges, source.standard, source.std_physical_filters, settings
    )  # fmt: skip


def settings_of(survey: Survey, config: FgcmFitCycleConfigBase) -> FitSettings:
    """Return how the fit of a cycle proceeds.

    Parameters
    ----------
    survey, config
        Data and settings.
    """
    return FitSettings(
        optimizer=config.optimizer,
        max_iterations=config.maxIterBeforeFinalCycle,
        robust=config.robustWeights,
        joint_gray=has_joint_gray(survey, config),
        gray_sigma=config.jointGraySigma,
        threads=survey.threads,
    )
