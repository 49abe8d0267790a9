"""Which exposures are photometric by what a model leaves, and which stars and observations fall out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.flags import ExposureFlag, ObservationFlag, StarFlag
from zeropoint.fgcm.terms.outliers import (
    StarResiduals,
    detector_outliers,
    robust_star_residuals,
    superstar_outliers,
    with_lost_stars,
)
from zeropoint.fgcm.terms.selection import (
    PhotometricCuts,
    SelectionLimits,
    exposure_flags,
    photometric_cuts,
)
from zeropoint.fgcm.terms.superstar import flat_index
from zeropoint.recipes.fgcm_cycle.consensus import thin_clouds
from zeropoint.recipes.fgcm_cycle.selection import (
    FlagArray,
    Selection,
    bad_colors,
    drop_nights,
    drop_stars,
    good_observations,
)
from zeropoint.recipes.fgcm_cycle.solution import Cuts, Solution, fitted_residuals
from zeropoint.recipes.fgcm_cycle.survey import Survey

__all__ = ["choose_exposures", "choose_stars", "exposure_flags_of", "flag_outliers", "new_cuts"]


def limits_of(survey: Survey, config: FgcmFitCycleConfigBase, cuts: Cuts) -> SelectionLimits:
    """Return the limits of photometric exposures.

    Parameters
    ----------
    survey, config
        Data and settings.
    cuts
        Of the gray.
    """
    bands = survey.data.exposures.bands
    return SelectionLimits(
        gray_low=cuts.low,
        gray_high=cuts.high,
        variance=np.array([config.expVarGrayPhotometricCutDict[band] for band in bands]),
        fwhm=np.array([config.expFwhmCutDict.get(band, np.inf) for band in bands]),
        min_star_per_exp=config.minStarPerExp,
    )


def exposure_flags_of(
    survey: Survey, config: FgcmFitCycleConfigBase, solution: Solution, cuts: Cuts
) -> FlagArray:
    """Return the flags of exposures by their gray, joint or not.

    Parameters
    ----------
    survey, config
        Data and settings.
    solution
        With the gray of all exposures.
    cuts
        By which to choose.
    """
    e = survey.data.exposures
    return exposure_flags(solution.residuals.exposure, e.band, e.psf_fwhm, limits_of(survey, config, cuts))


def choose_exposures(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    solution: Solution,
    cuts: Cuts,
    *,
    also_preliminary: bool = False,
) -> Selection:
    """Return the selection with exposures chosen by their gray, and the stars that this leaves.

    Parameters
    ----------
    survey, config
        Data and settings.
    solution
        With the gray of all exposures.
    cuts
        By which to choose.
    also_preliminary
        As of `zeropoint.recipes.fgcm_cycle.consensus.thin_clouds`.
    """
    flags = exposure_flags_of(survey, config, solution, cuts)
    thin = thin_clouds(solution, also_preliminary=also_preliminary)
    flags |= np.where(thin, np.int32(ExposureFlag.EXP_GRAY_TOO_NEGATIVE), np.int32(0))
    if config.jointGray:
        # clouds are part of the likelihood
        flags &= ~np.int32(
            ExposureFlag.EXP_GRAY_TOO_NEGATIVE | ExposureFlag.EXP_GRAY_TOO_POSITIVE | ExposureFlag.VAR_GRAY_TOO_LARGE
        )  # fmt: skip
    chosen = drop_nights(survey, replace(solution.selection, exposure=flags), config)
    return drop_stars(survey, chosen, config)


def new_cuts(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    solution: Solution,
    cuts: Cuts,
    *,
    n_sigma_low: float | None = None,
) -> PhotometricCuts:
    """Return the cuts that the gray of the photometric exposures suggests.

    Parameters
    ----------
    survey, config
        Data and settings.
    solution
        With the gray of all exposures.
    cuts
        Those before.
    n_sigma_low
        Instead of ``autoPhotometricCutNSig``.
    """
    gray = solution.residuals.exposure
    photometric = solution.selection.photometric & (gray.n_stars > config.minStarPerExp)
    return photometric_cuts(
        gray.gray, photometric, survey.data.exposures.band, cuts.low, cuts.high,
        n_sigma=(n_sigma_low or config.autoPhotometricCutNSig, config.autoHighCutNSig), step=config.autoPhotometricCutStep,
    )  # fmt: skip


def flag_outliers(survey: Survey, config: FgcmFitCycleConfigBase, solution: Solution) -> Selection:
    """Return the selection with the outliers of superstar flats and detectors flagged anew.

    Parameters
    ----------
    survey, config
        Data and settings.
    solution
        With the residuals.
    """
    e, selection = survey.data.exposures, solution.selection
    both = ObservationFlag.SUPERSTAR_OUTLIER | ObservationFlag.FOCALPLANE_OUTLIER
    unflagged = replace(selection, observation=selection.observation & ~np.uint16(both))
    # stars that outliers have left with too few observations are judged again, too
    clean = drop_stars(survey, unflagged, config)
    good = good_observations(survey, clean, reserve=True, all_exposures=True)
    photometric = good & survey.of_exposure(selection.photometric)
    observations, means = survey.data.observations, solution.means
    plain = StarResiduals(fitted_residuals(survey, solution), means.err.ravel(), means.member)
    judged = with_lost_stars(
        plain,
        solution.residuals.standard,
        solution.residuals.photometry.error,
        observations.segment,
        photometric,
    )
    residuals = robust_star_residuals(
        judged.residuals, observations.segment, judged.mean_err, judged.member, photometric
    )
    of_flat = superstar_outliers(
        residuals, survey.detectors, flat_index(e.epoch, e.filter, e.n_filter, e.n_det),
        e.n_epoch * e.n_filter * e.n_det, photometric, sigma_clip=config.superStarSigmaClip, threads=survey.threads,
    )  # fmt: skip
    of_detector = detector_outliers(
        residuals, survey.detectors, e.n_det, good,
        sigma_clip=config.focalPlaneSigmaClip, threads=survey.threads,
    )  # fmt: skip
    clean = clean.with_observation_flag(ObservationFlag.SUPERSTAR_OUTLIER, of_flat)
    return clean.with_observation_flag(ObservationFlag.FOCALPLANE_OUTLIER, of_detector)


def _cut_colors(survey: Survey, config: FgcmFitCycleConfigBase, solution: Solution) -> Selection:
    """Return the selection with stars flagged whose own or reference colors fail the cuts."""
    bands = survey.data.exposures.bands
    selection, mean = solution.selection, solution.means.magnitude
    if config.star_color_cuts:
        bad = bad_colors(mean, bands, config.star_color_cuts)
        selection = selection.with_star_flag(StarFlag.BAD_COLOR, bad)
    if config.ref_star_color_cuts:
        bad = bad_colors(survey.data.stars.ref_mag.astype(float), bands, config.ref_star_color_cuts)
        selection = selection.with_star_flag(StarFlag.REFSTAR_BAD_COLOR, bad)
    return selection


def choose_stars(survey: Survey, config: FgcmFitCycleConfigBase, solution: Solution) -> Selection:
    """Return the selection with outliers, stars of bad color and stars with too few observations flagged anew.

    Parameters
    ----------
    survey, config
        Data and settings.
    solution
        With the residuals.
    """
    clean = replace(solution, selection=flag_outliers(survey, config, solution))
    return drop_stars(survey, _cut_colors(survey, config, clean), config)
