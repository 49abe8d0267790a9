"""Bands that take no part in the fit: their flats, aperture slopes and scales, under the atmosphere of the others."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from zeropoint.fgcm.fit import fit
from zeropoint.fgcm.fit.posterior import Posterior, ZeropointErrors
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.flags import ExposureFlag
from zeropoint.fgcm.model.layout import LayoutSettings, ParameterLayout
from zeropoint.fgcm.model.parameters import FitParameters
from zeropoint.recipes.fgcm_cycle.fit_settings import settings_of
from zeropoint.recipes.fgcm_cycle.fitting import Work
from zeropoint.recipes.fgcm_cycle.photometric import exposure_flags_of, new_cuts
from zeropoint.recipes.fgcm_cycle.selection import Selection, drop_stars, good_observations, weights
from zeropoint.recipes.fgcm_cycle.solution import Cuts, Solution, evaluate, references_of
from zeropoint.recipes.fgcm_cycle.survey import BoolArray, SingleArray, Survey

__all__ = ["other_sigmas", "with_other_bands", "zeropoint_errors"]

#: Most fits, between which exposures are chosen anew; those so many sigma too faint are left out.
_MAX_FITS, _N_SIGMA = 8, 1.5


def with_other_bands(survey: Survey, config: FgcmFitCycleConfigBase, work: Work) -> Work:
    """Return the work with a fit of the bands that are not in ``fitBands``, where photometric exposures have any.

    Parameters
    ----------
    survey, config
        Data and settings.
    work
        With the fit of the others.

    Notes
    -----
    Free are what these bands have for themselves: constants of flats, slopes of aperture corrections, the absolute scale
    (with references), and the optics if each band has its own (``instrumentParsPerBand``). Atmosphere and common optics are
    those of the others. Exposures fainter than 1.5 sigma of their band are left out, until they stay.
    """
    solution = work.solution
    for _ in range(_MAX_FITS):
        bands = _bands(survey, solution)
        if not bands.any():
            break
        solution = _fitted(survey, config, replace(work, solution=solution), bands)
        chosen = _without_clouds(survey, config, solution, bands)
        unchanged = np.array_equal(chosen.photometric, solution.selection.photometric)
        if config.max_iterations == 0 or config.freezeStdAtmosphere or unchanged:
            break
        solution = replace(solution, selection=chosen)
    return replace(work, solution=solution)


def _fitted(survey: Survey, config: FgcmFitCycleConfigBase, work: Work, bands: BoolArray) -> Solution:
    """Return a solution with a fit of some bands."""
    solution = work.solution
    rest = replace(survey, fit_band=bands)
    parameters = _with_common_optics(survey, config, solution, bands)
    references = references_of(rest, config, solution.selection)
    settings = LayoutSettings(
        atmosphere=False,
        wash=config.instrumentParsPerBand,
        per_band=True,
        abs_offset=references is not None,
        aper_slope=config.aperCorrFitNBins > 0,
    )
    source, used = survey.passbands, rest.in_fit_band & solution.selection.photometric
    layout = ParameterLayout.build(
        survey.data.exposures, used, parameters, source.ranges, source.standard, source.std_physical_filters, settings
    )  # fmt: skip
    how = replace(
        settings_of(survey, config),
        joint_gray=False,
        calibrate_sed=False,
        max_iterations=config.max_iterations,
        preliminary=config.freezeStdAtmosphere,
    )
    good = good_observations(rest, solution.selection)
    result = fit(
        survey.model, work.photometry.observations,
        weights(rest, work.photometry.inverse_variance, good),
        solution.slopes.value.ravel(), references, parameters, layout, how,
    )  # fmt: skip
    done = evaluate(
        survey, work.photometry, config, result.parameters, solution.selection, solution.slopes, solution.cuts, solution.sed
    )  # fmt: skip
    return replace(done, fit=solution.fit, n_fits=solution.n_fits, fit_of_others=result)


def _without_clouds(
    survey: Survey, config: FgcmFitCycleConfigBase, solution: Solution, bands: BoolArray
) -> Selection:
    """Return the selection without the exposures of some bands that are fainter than most; clouds only dim."""
    found = new_cuts(survey, config, solution, solution.cuts, n_sigma_low=_N_SIGMA)
    flags = exposure_flags_of(survey, config, solution, Cuts(found.low, np.full(survey.n_band, np.inf)))
    before, band = solution.selection.exposure, survey.data.exposures.band
    flags |= before & np.int32(ExposureFlag.TOO_FEW_EXP_ON_NIGHT)
    flags = np.where((band >= 0) & bands[np.maximum(band, 0)], flags, before).astype(np.int32)
    return drop_stars(survey, replace(solution.selection, exposure=flags), config)


def _bands(survey: Survey, solution: Solution) -> BoolArray:
    """Return the bands outside the fit that have photometric exposures, shape (n_band,)."""
    e = survey.data.exposures
    present = (
        np.bincount(e.band[solution.selection.photometric & e.has_passband], minlength=survey.n_band) > 0
    )
    return np.asarray(present & ~survey.fit_band)


def _with_common_optics(
    survey: Survey, config: FgcmFitCycleConfigBase, solution: Solution, bands: BoolArray
) -> FitParameters:
    """Return the parameters of a solution; bands have the optics of those in the fit, if all have the same."""
    e, parameters = survey.data.exposures, solution.parameters
    if config.instrumentParsPerBand:
        return parameters
    used = survey.in_fit_band & solution.selection.photometric
    intercept, slope = parameters.qe_intercept.copy(), parameters.qe_slope.copy()
    for wash in np.unique(e.wash[used]).tolist():
        of_fit = int(e.band[used & (e.wash == wash)][0])
        intercept[bands, wash], slope[bands, wash] = intercept[of_fit, wash], slope[of_fit, wash]
    return parameters.replace(qe_intercept=intercept, qe_slope=slope)


def other_sigmas(solution: Solution, sigmas: FitParameters) -> FitParameters:
    """Return the errors of all parameters: of the fit, and of that of the bands outside it.

    Parameters
    ----------
    solution
        With its fits.
    sigmas
        Of the fit, NaN where it had no such parameter.
    """
    result = solution.fit_of_others
    if result is None or result.posterior is None:
        return sigmas
    others = result.posterior.parameter_sigmas(solution.parameters)
    both = {}
    for each in fields(sigmas):
        ours, theirs = getattr(sigmas, each.name), getattr(others, each.name)
        if ours is not None:
            both[each.name] = np.where(np.isnan(ours), theirs, ours)
    return sigmas.replace(**both)


def zeropoint_errors(
    survey: Survey, solution: Solution, posterior: Posterior, inverse_variance: SingleArray
) -> ZeropointErrors:
    """Return what the errors of all parameters do to zeropoints, in all bands.

    Parameters
    ----------
    survey, solution
        Data and model.
    posterior
        Of the fit.
    inverse_variance
        Of the observations.

    Notes
    -----
    In bands outside the fit the variances from the fit, whose atmosphere they have, and from their own are added.
    """
    photometric = solution.selection.photometric
    sample = np.where(solution.residuals.sample, inverse_variance, np.float32(0.0))
    errors = posterior.zeropoint_errors(sample, photometric)
    own = None if solution.fit_of_others is None else solution.fit_of_others.posterior
    if own is None:
        return errors
    bands = np.flatnonzero(_bands(survey, solution)).tolist()
    own_errors = own.zeropoint_errors(sample, photometric, bands=bands)
    # their stars' means are not of observations of the fit
    response = replace(posterior, weight=own.weight, reference_weight=own.reference_weight)
    common_errors = response.zeropoint_errors(sample, photometric, bands=bands)
    others = np.isin(survey.data.exposures.band, bands)[:, None]
    common = errors.common.copy()
    common[bands] = np.hypot(own_errors.common[bands], common_errors.common[bands])
    return ZeropointErrors(
        np.where(others, own_errors.measured + common_errors.measured, errors.measured),
        np.where(others, own_errors.unmeasured + common_errors.unmeasured, errors.unmeasured),
        common,
    )
