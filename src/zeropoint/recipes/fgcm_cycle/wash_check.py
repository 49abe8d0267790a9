"""The mirror's loss of light as the fit has it, beside what stars that were seen again tell."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.terms.instrument_slope import fit_instrument_slope
from zeropoint.recipes.fgcm_cycle.residuals import Photometry
from zeropoint.recipes.fgcm_cycle.selection import good_observations
from zeropoint.recipes.fgcm_cycle.solution import Solution
from zeropoint.recipes.fgcm_cycle.survey import Survey

__all__ = ["wash_slopes"]


def wash_slopes(
    survey: Survey, config: FgcmFitCycleConfigBase, photometry: Photometry, solution: Solution
) -> dict[str, dict[str, float | None]]:
    """Return the slopes of the mirror term of each band and interval between washes, mag per day.

    Parameters
    ----------
    survey, config, photometry, solution
        Data, settings and model.

    Returns
    -------
    numbers
        Band -> ``wash_slope_<interval>`` of the fit, and ``..._stars`` and ``..._stars_err`` of the stars; None: stars that
        were seen for ``instrumentSlopeMinDeltaT`` are too few.
    """
    e, observations, parameters = survey.data.exposures, survey.data.observations, solution.parameters
    fitted_gray = parameters.exposure_gray.astype(np.float32)
    found = fit_instrument_slope(
        solution.residuals.standard + survey.of_exposure(fitted_gray), photometry.error, observations.segment,
        survey.exposure, good_observations(survey, solution.selection),
        wash=e.wash, wash_time=e.wash_time,
        applied=parameters.qe_slope, per_band=config.instrumentParsPerBand, fit_bands=survey.fit_band,
        min_delta_t=config.instrumentSlopeMinDeltaT, max_err=config.ccdGrayMaxStarErr,
    )  # fmt: skip
    numbers: dict[str, dict[str, float | None]] = {}
    for b, band in enumerate(e.bands):
        numbers[band] = {}
        for k in range(e.n_wash):
            stars, err = float(found.measured[b, k]), float(found.err[b, k])
            known = math.isfinite(stars)
            numbers[band][f"wash_slope_{k}"] = float(parameters.qe_slope[b, k])
            numbers[band][f"wash_slope_{k}_stars"] = stars if known else None
            numbers[band][f"wash_slope_{k}_stars_err"] = err if known else None
    return numbers
