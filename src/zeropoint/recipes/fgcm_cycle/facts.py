"""What plots and reports of a cycle are made of."""

from __future__ import annotations

import numpy as np

from zeropoint.fgcm.cycle_result import ObservationFacts
from zeropoint.fgcm.facts.cycle_facts import CycleFacts, ExposureFacts, cycle_facts
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.model.sweep import standard_magnitudes
from zeropoint.recipes.fgcm_cycle.products import FinalStars
from zeropoint.recipes.fgcm_cycle.solution import Solution
from zeropoint.recipes.fgcm_cycle.start import start_parameters
from zeropoint.recipes.fgcm_cycle.survey import Survey

__all__ = ["facts_of"]


def facts_of(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    solution: Solution,
    observations: ObservationFacts,
    final: FinalStars | None,
) -> CycleFacts:
    """Return the facts of a cycle.

    Parameters
    ----------
    survey, config, solution
        Data, settings and model.
    observations
        One by one.
    final
        Stars with all gray applied, where there are zeropoints.
    """
    e, residuals = survey.data.exposures, solution.residuals
    air = solution.parameters.at(e, survey.passbands.ranges)
    unknown = np.full(len(e), np.nan)
    posterior = None if solution.fit is None else solution.fit.posterior
    sigmas = {} if posterior is None else posterior.atmosphere_sigmas(solution.parameters)
    nominal = survey.model.tables(start_parameters(survey, config), derivatives=False)
    start, _ = standard_magnitudes(
        survey.data.observations, solution.slopes.value, nominal, threads=survey.threads
    )
    exposures = ExposureFacts(
        photometric=solution.selection.photometric,
        flag=solution.selection.exposure,
        gray=residuals.exposure.gray,
        gray_err=residuals.exposure.err,
        gray_rms=residuals.exposure.rms,
        n_stars=residuals.exposure.n_stars,
        pwv=solution.parameters.pwv(e, survey.passbands.ranges),
        o3=np.asarray(air.o3),
        tau=np.asarray(air.tau),
        alpha=np.asarray(air.alpha),
        ln_pwv_err=sigmas.get("ln_pwv", unknown),
        o3_err=sigmas.get("o3", unknown),
        ln_tau_err=sigmas.get("ln_tau", unknown),
        alpha_err=sigmas.get("alpha", unknown),
    )
    magnitude, err = (
        (solution.means.magnitude, solution.means.err) if final is None else (final.magnitude, final.err)
    )
    return cycle_facts(
        survey.data,
        exposures,
        {
            "nominal": start,
            "model": observations.standard_magnitude,
            "zeropoints": observations.standard_magnitude + observations.gray,
        },
        magnitude,
        err,
        good=observations.good,
        reserve=observations.reserve,
        error=observations.error,
        detector_size=survey.size,
        star_flag=solution.selection.star,
        joint_gray=bool(solution.parameters.exposure_gray.any()),
        color_bands=tuple(config.colorSplitBands) or None,
        map_nside=config.mapNSide,
    )
