"""What a cycle begins with: the first look at a survey, or what the cycle before left."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from zeropoint.fgcm.cycle_state import CycleState
from zeropoint.fgcm.fit.sed_calibration import SedCalibration
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.flags import PERSISTENT_STAR_FLAGS, ExposureFlag
from zeropoint.fgcm.model.parameters import FitParameters
from zeropoint.fgcm.model.sweep import standard_magnitudes
from zeropoint.fgcm.terms.bright_means import bright_means, mean_exposure_gray
from zeropoint.fgcm.terms.gray import gray_residuals
from zeropoint.fgcm.terms.selection import initial_flags
from zeropoint.recipes.fgcm_cycle.detector_seeing import seeing_of_detectors
from zeropoint.recipes.fgcm_cycle.residuals import Photometry, Slopes, star_slopes
from zeropoint.recipes.fgcm_cycle.selection import (
    Selection,
    drop_nights,
    drop_stars,
    good_observations,
    require,
)
from zeropoint.recipes.fgcm_cycle.solution import Cuts, Solution, evaluate, references_of
from zeropoint.recipes.fgcm_cycle.survey import FloatArray, Survey

__all__ = ["configured_cuts", "continue_from", "first_look", "start_parameters"]

_log = logging.getLogger(__name__)

#: Parts of the differences of detectors from their exposures between which aperture corrections follow them.
_DETECTOR_RANGE = (0.02, 0.98)


def configured_cuts(survey: Survey, config: FgcmFitCycleConfigBase) -> Cuts:
    """Return the cuts of exposures that the configuration says.

    Parameters
    ----------
    survey, config
        Data and settings.
    """
    bands = survey.data.exposures.bands
    return Cuts(
        np.array([config.expGrayPhotometricCutDict[band] for band in bands], float),
        np.array([config.expGrayHighCutDict[band] for band in bands], float),
    )


def start_parameters(survey: Survey, config: FgcmFitCycleConfigBase) -> FitParameters:
    """Return the parameters of cycle 0: standard atmosphere, throughputs and aperture slopes as configured.

    Parameters
    ----------
    survey, config
        Data and settings.
    """
    e = survey.data.exposures
    throughput = np.array([config.approxThroughputDict[band] for band in e.bands], float)
    parameters = FitParameters.standard(e, survey.passbands.standard, 2.5 * np.log10(throughput))
    pivot, limits = parameters.aper_pivot.copy(), parameters.aper_range.copy()
    own = (
        seeing_of_detectors(survey, config) - e.aperture_variable[:, None] if config.aperCorrPerCcd else None
    )
    for band in range(e.n_band):
        known = (e.band == band) & np.isfinite(e.aperture_variable)
        seeing = e.aperture_variable[known]
        if len(seeing):
            # by as much wider as detectors differ from their exposures, but for single ones
            wider = (0.0, 0.0) if own is None else np.nanquantile(own[known], _DETECTOR_RANGE)
            limits[band] = seeing.min() + min(wider[0], 0.0), seeing.max() + max(wider[1], 0.0)
            pivot[band] = np.floor(1000.0 * np.median(seeing)) / 1000.0
    slope = np.array([config.aperCorrInputSlopeDict.get(band, 0.0) for band in e.bands], float)
    return parameters.replace(aper_pivot=pivot, aper_range=limits, aper_slope=slope)


def first_look(
    survey: Survey, photometry: Photometry, config: FgcmFitCycleConfigBase, cycle: int
) -> Solution:
    """Return where cycle 0 begins: exposures chosen by the brightest observations of their stars.

    Parameters
    ----------
    survey, photometry, config
        Data and settings.
    cycle
        Number of the cycle.

    Raises
    ------
    NoPhotometricExposuresError, NoFitStarsError
        If nothing is left to fit.
    """
    e, observations = survey.data.exposures, photometry.observations
    parameters = start_parameters(survey, config)
    tables = survey.model.tables(parameters, derivatives=False)
    everything = Selection(
        star=survey.data.stars.flag.astype(np.int32),
        exposure=np.where(e.has_passband, 0, int(ExposureFlag.BAND_NOT_IN_LUT)).astype(np.int32),
        observation=observations.flag,
        star_band=np.ones((survey.n_star, survey.n_band), bool),
    )
    everything = drop_stars(survey, everything, config)
    good = good_observations(survey, everything, reserve=True)
    shape = (survey.n_star, survey.n_band)
    sed = SedCalibration.none(survey.n_band)
    slopes = Slopes.of(survey, np.zeros(shape), np.zeros(shape, bool), sed)
    for _ in range(2):  # without color, then with that of the first means
        standard, _delta = standard_magnitudes(observations, slopes.relative, tables, threads=survey.threads)
        bright = bright_means(
            standard,
            photometry.error,
            observations.start,
            good,
            gray_max=config.brightObsGrayMax,
            threads=survey.threads,
        )
        slopes = star_slopes(survey, config, bright.mean.reshape(shape), sed)
    gray = gray_residuals(
        standard, photometry.error, observations.segment, bright.mean.reshape(shape), bright.err.reshape(shape), bright.used,
        threads=survey.threads,
    )  # fmt: skip
    mean_gray, n_stars = mean_exposure_gray(gray.gray, survey.exposure, survey.n_exp, good)
    flags = initial_flags(
        mean_gray, n_stars, e.band, e.psf_fwhm,
        min_star_per_exp=config.minStarPerExp,
        gray_cut=config.expGrayInitialCut,
        fwhm_cut=np.array([config.expFwhmCutDict.get(band, np.inf) for band in e.bands]),
    )  # fmt: skip
    selection = drop_stars(survey, drop_nights(survey, replace(everything, exposure=flags), config), config)
    require(survey, selection, cycle)
    _log.info("First look: %d of %d exposures may be photometric.", selection.photometric.sum(), survey.n_exp)
    cuts = configured_cuts(survey, config)
    look = evaluate(survey, photometry, config, parameters, selection, slopes, cuts, sed, tables=tables)
    offset = _absolute_offsets(survey, config, look)
    if not offset.any():
        return look
    parameters = parameters.replace(abs_offset=parameters.abs_offset + offset)
    return evaluate(survey, photometry, config, parameters, selection, look.slopes, cuts, sed)


def _absolute_offsets(survey: Survey, config: FgcmFitCycleConfigBase, look: Solution) -> FloatArray:
    """Return what brings each band to its reference stars; bands without take the mean of the others; 0 without any."""
    stars = survey.data.stars
    if not config.doReferenceCalibration or not stars.has_references:
        return np.zeros(survey.n_band)
    references = references_of(survey, config, look.selection)
    if references is None:
        return np.zeros(survey.n_band)
    shape = look.means.magnitude.shape
    weight = references.weight.reshape(shape)
    mean, err = look.means.magnitude, look.means.err
    use = (weight > 0) & np.isfinite(mean)
    w = np.where(use, 1.0 / (np.nan_to_num(err) ** 2 + 1.0 / np.where(weight > 0, weight, 1.0)), 0.0)
    difference = np.where(use, references.mag.reshape(shape) - np.nan_to_num(mean), 0.0)
    total = w.sum(axis=0)
    offset = np.where(total > 0, (w * difference).sum(axis=0) / np.where(total > 0, total, 1.0), np.nan)
    return np.asarray(np.where(np.isfinite(offset), offset, np.nanmean(offset)))


def continue_from(
    survey: Survey,
    photometry: Photometry,
    config: FgcmFitCycleConfigBase,
    previous: CycleState,
    cycle: int,
) -> Solution:
    """Return where a later cycle begins: the model and the exposures of the one before.

    Parameters
    ----------
    survey, photometry, config
        Data and settings.
    previous
        State after the cycle before.
    cycle
        Number of the cycle.

    Raises
    ------
    NoPhotometricExposuresError, NoFitStarsError
        If nothing is left to fit.
    """
    star = survey.data.stars.flag.astype(np.int32) | _flags_of(survey, previous)
    selection = Selection(
        star=star,
        exposure=previous.exposures.flag.copy(),
        observation=photometry.observations.flag,
        star_band=np.ones((survey.n_star, survey.n_band), bool),
    )
    selection = drop_stars(survey, drop_nights(survey, selection, config), config)
    require(survey, selection, cycle)
    shape = (survey.n_star, survey.n_band)
    median = np.broadcast_to(previous.band.median_sed_slope, shape).copy()
    sed = SedCalibration(previous.band.sed_scale, previous.band.sed_offset, previous.band.sed_pivot)
    slopes = Slopes.of(survey, median, np.zeros(shape, bool), sed)
    cuts = configured_cuts(survey, config)
    return evaluate(survey, photometry, config, _with_water(config, previous), selection, slopes, cuts, sed)


def _with_water(config: FgcmFitCycleConfigBase, previous: CycleState) -> FitParameters:
    """Return the parameters of a state with the water vapor that was retrieved, where a fit follows that needs it."""
    parameters = previous.parameters
    if not config.useRetrievedPwv:
        return parameters.replace(retrieved_ln_pwv=None)
    known = np.isfinite(previous.exposures.retrieved_ln_pwv).all()
    if config.isFinalCycle or config.freezeStdAtmosphere or not known:
        return parameters
    return parameters.replace(retrieved_ln_pwv=previous.exposures.retrieved_ln_pwv)


def _flags_of(survey: Survey, previous: CycleState) -> np.ndarray:
    """Return the flags that stay from cycle to cycle, by star."""
    flagged, stars = previous.flagged_stars, survey.data.stars
    out = np.zeros(len(stars), np.int32)
    place = np.searchsorted(stars.fgcm_id, flagged.fgcm_id)
    known = place < len(stars)
    known[known] = stars.fgcm_id[place[known]] == flagged.fgcm_id[known]
    out[place[known]] = flagged.flag[known] & np.int32(PERSISTENT_STAR_FLAGS)
    return out
