"""The figures of a cycle, as plain numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from zeropoint.fgcm.flags import ExposureFlag, ObservationFlag, StarFlag, ZeropointFlag
from zeropoint.fgcm.terms._kernels_stars import segment_chi2
from zeropoint.fgcm.terms.reference_scatter import ReferenceScatter
from zeropoint.fgcm.terms.repeatability import COLOR_PARTS
from zeropoint.fgcm.terms.zeropoints import Zeropoints
from zeropoint.recipes.fgcm_cycle.scatter import Scatter
from zeropoint.recipes.fgcm_cycle.selection import flag_counts
from zeropoint.recipes.fgcm_cycle.solution import Cuts, Solution, fitted_residuals
from zeropoint.recipes.fgcm_cycle.survey import Survey

__all__ = ["cycle_metrics", "measured_chi2"]


def cycle_metrics(
    survey: Survey,
    solution: Solution,
    scatter: Scatter,
    cuts: Cuts,
    references: ReferenceScatter | None,
    chi2: tuple[np.ndarray, np.ndarray],
    found: Zeropoints | None,
) -> dict[str, Any]:
    """Return the metrics of a cycle; what is not known is None.

    Parameters
    ----------
    survey, solution
        Data and model.
    scatter, references
        How magnitudes repeat and agree with references.
    cuts
        Of the next cycle.
    chi2
        From `measured_chi2`.
    found
        Zeropoints, where there are any.
    """
    e, fit, selection = survey.data.exposures, solution.fit, solution.selection
    metrics: dict[str, Any] = {
        "n_exposures": survey.n_exp,
        "n_photometric": int(selection.photometric.sum()),
        "n_stars": survey.n_star,
        "n_fit_stars": int(selection.good_star.sum()),
        "n_reserve_stars": int(selection.reserve_star.sum()),
        "n_observations": len(survey.data.observations),
        "n_fits": solution.n_fits,
        "chi2": None if fit is None else fit.chi2,
        "dof": None if fit is None else fit.dof,
        "chi2_dof": None if fit is None or fit.dof <= 0 else fit.chi2 / fit.dof,
        "chi2_dof_measured": _over(float(chi2[0].sum()), float(chi2[1].sum())),
        "n_used": None if fit is None else fit.n_used,
        "n_references": None if fit is None else fit.n_reference,
        "n_free": None if fit is None else fit.n_free,
        "iterations": 0 if fit is None else fit.iterations,
        "evaluations": 0 if fit is None else fit.evaluations,
        "converged": None if fit is None else bool(fit.converged),
        "at_bounds": [] if fit is None else list(fit.at_bounds),
        "exposure_flags": flag_counts(selection.exposure, ExposureFlag),
        "star_flags": flag_counts(selection.star, StarFlag),
        "observation_flags": flag_counts(selection.observation, ObservationFlag),
        "n_gray_clipped": solution.residuals.n_clipped,
        "n_noisy_detectors": int(np.count_nonzero(solution.residuals.excess)),
    }
    if found is not None:
        metrics["zeropoint_flags"] = flag_counts(found.flag, ZeropointFlag)
    metrics["bands"] = {
        band: _of_band(survey, solution, scatter, cuts, references, chi2, b) for b, band in enumerate(e.bands)
    }
    return metrics


def _of_band(
    survey: Survey,
    solution: Solution,
    scatter: Scatter,
    cuts: Cuts,
    references: ReferenceScatter | None,
    chi2: tuple[np.ndarray, np.ndarray],
    b: int,
) -> dict[str, Any]:
    """Return the metrics of a band."""
    of_band = survey.data.exposures.band == b
    photometric = of_band & solution.selection.photometric
    gray = solution.residuals.exposure.gray[photometric]
    numbers: dict[str, Any] = {
        "n_exposures": int(of_band.sum()),
        "n_photometric": int(photometric.sum()),
        "n_reserve_observations": int(scatter.reserve.n_used[b, 0]),
        "exposure_gray_rms": float(np.nanstd(gray)) if np.isfinite(gray).any() else math.nan,
        "repeatability_before": scatter.reserve.sigma_total[b, 0],
        "repeatability_after": scatter.reserve_gray.sigma_total[b, 0],
        "repeatability_expected": scatter.reserve.error[b, 0],
        "repeatability_stars_before": scatter.stars.sigma_total[b, 0],
        "repeatability_stars_after": scatter.stars_gray.sigma_total[b, 0],
        "sigma_fgcm": scatter.stars_gray.sigma_fgcm[b, 0],
        "sigma_fgcm_before": scatter.stars.sigma_fgcm[b, 0],
        "sigma_fgcm_reserve": scatter.reserve_gray.sigma_fgcm[b, 0],
        **{
            f"sigma_fgcm_reserve_{part.lower()}": scatter.reserve_gray.sigma_fgcm[b, k]
            for k, part in enumerate(COLOR_PARTS)
            if k > 0
        },
        "sigma_cal": scatter.sigma_cal.sigma[b],
        "chi2_dof": _over(float(chi2[0][b]), float(chi2[1][b])),
        "gray_cut": cuts.low[b],
        "gray_high_cut": cuts.high[b],
        "median_sed_slope": solution.slopes.median[b],
        "sed_scale": solution.sed.scale[b],
        "sed_offset": solution.sed.offset[b],
    }
    if references is not None:
        numbers |= {
            "ref_offset": references.offset[b, 0],
            "ref_sigma": references.sigma[b, 0],
            "n_ref_stars": int(references.n_stars[b, 0]),
            "n_ref_outliers": int(references.n_outliers[b]),
        }
    return {name: _plain(value) for name, value in numbers.items()}


def measured_chi2(survey: Survey, solution: Solution) -> tuple[np.ndarray, np.ndarray]:
    """Return chi-square and degrees of freedom of each band: good observations about their stars' means, measured errors.

    Parameters
    ----------
    survey, solution
        Data and model. The means are those with the weights of the fit; the errors are those stated, with the floor only.
    """
    chi2, dof = np.zeros((2, survey.n_band))
    observations, good = survey.data.observations, solution.selection.good_star
    residual = fitted_residuals(survey, solution).gray
    segment_chi2(residual, observations.err, solution.means.member, observations.start, good, chi2, dof)
    return chi2, dof


def _over(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0 else None


def _plain(value: Any) -> Any:
    """Return a plain number, None in place of what is not known."""
    if isinstance(value, int | str) or value is None:
        return value
    return float(value) if math.isfinite(value) else None
