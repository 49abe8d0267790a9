"""The fit of a cycle: repeated, with exposures, stars and outliers chosen anew, until the exposures stay."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from zeropoint.fgcm.fit import FitResult, FitSettings, fit
from zeropoint.fgcm.fit.sed_calibration import SedCalibration
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.flags import ExposureFlag, ObservationFlag, StarFlag
from zeropoint.fgcm.model.layout import DEFAULT_PRIORS, LayoutSettings, ParameterLayout
from zeropoint.fgcm.model.model import ModelTables
from zeropoint.fgcm.model.sweep import References
from zeropoint.fgcm.progress import OnProgress
from zeropoint.fgcm.terms.outliers import focal_plane_outliers, superstar_outliers
from zeropoint.fgcm.terms.selection import (
    PhotometricCuts,
    SelectionLimits,
    exposure_flags,
    photometric_cuts,
)
from zeropoint.fgcm.terms.superstar import flat_index
from zeropoint.recipes.fgcm_cycle.residuals import (
    Means,
    Photometry,
    Residuals,
    Slopes,
    mean_magnitudes,
    measure_residuals,
    star_slopes,
)
from zeropoint.recipes.fgcm_cycle.selection import (
    Selection,
    bad_colors,
    drop_nights,
    drop_stars,
    good_observations,
    require,
    weights,
)
from zeropoint.recipes.fgcm_cycle.survey import FloatArray, Survey

if TYPE_CHECKING:
    from zeropoint.fgcm.model.parameters import FitParameters

__all__ = [
    "Cuts",
    "Solution",
    "choose_exposures",
    "evaluate",
    "fit_cycle",
    "new_cuts",
    "posterior_at",
    "references_of",
]

_log = logging.getLogger(__name__)

#: Most fits of a cycle: exposures are chosen anew between them.
_MAX_FITS = 5


@dataclass(frozen=True)
class Cuts:
    """Gray between which exposures are photometric, mag, shape (n_band,).

    Parameters
    ----------
    low, high
        Limits.
    """

    low: FloatArray
    high: FloatArray


@dataclass(frozen=True)
class Solution:
    """A model with what it leaves.

    Parameters
    ----------
    parameters, tables
        The model.
    selection
        What takes part.
    slopes, means, residuals
        Of the stars, and of their observations.
    fit
        The last fit; None: none was made.
    cuts
        By which exposures were chosen.
    n_fits
        How many fits were made.
    """

    parameters: FitParameters
    tables: ModelTables
    selection: Selection
    slopes: Slopes
    means: Means
    residuals: Residuals
    cuts: Cuts
    sed: SedCalibration
    fit: FitResult | None = None
    n_fits: int = 0


def references_of(survey: Survey, config: FgcmFitCycleConfigBase, selection: Selection) -> References | None:
    """Return the reference magnitudes that take part; None without any.

    Parameters
    ----------
    survey, config, selection
        Data, settings and flags.
    """
    stars = survey.data.stars
    if not config.doReferenceCalibration or not stars.has_references:
        return None
    bad = StarFlag.REFSTAR_OUTLIER | StarFlag.REFSTAR_BAD_COLOR | StarFlag.REFSTAR_RESERVED
    used = selection.good_star & ((selection.star & np.int32(bad)) == 0)
    references = References.of(stars.ref_mag, stars.ref_err, used[:, None] & survey.fit_band)
    return references if references.weight.any() else None


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
        exposure_gray=config.jointGray,
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
        joint_gray=config.jointGray,
        gray_sigma=config.jointGraySigma,
        threads=survey.threads,
    )


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


def choose_exposures(
    survey: Survey, config: FgcmFitCycleConfigBase, solution: Solution, cuts: Cuts
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
    """
    e = survey.data.exposures
    flags = exposure_flags(solution.residuals.exposure, e.band, e.psf_fwhm, limits_of(survey, config, cuts))
    if config.jointGray:
        # clouds are part of the likelihood
        flags &= ~np.int32(
            ExposureFlag.EXP_GRAY_TOO_NEGATIVE | ExposureFlag.EXP_GRAY_TOO_POSITIVE | ExposureFlag.VAR_GRAY_TOO_LARGE
        )  # fmt: skip
    chosen = drop_nights(survey, replace(solution.selection, exposure=flags), config)
    return drop_stars(survey, chosen, config)


def new_cuts(
    survey: Survey, config: FgcmFitCycleConfigBase, solution: Solution, cuts: Cuts
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
    """
    gray = solution.residuals.exposure
    photometric = solution.selection.photometric & (gray.n_stars > config.minStarPerExp)
    return photometric_cuts(
        gray.gray, photometric, survey.data.exposures.band, cuts.low, cuts.high,
        n_sigma=(config.autoPhotometricCutNSig, config.autoHighCutNSig), step=config.autoPhotometricCutStep,
    )  # fmt: skip


def flag_outliers(survey: Survey, config: FgcmFitCycleConfigBase, solution: Solution) -> Selection:
    """Return the selection with the outliers of superstar flats and focal planes flagged anew.

    Parameters
    ----------
    survey, config
        Data and settings.
    solution
        With the residuals.
    """
    e, selection = survey.data.exposures, solution.selection
    both = ObservationFlag.SUPERSTAR_OUTLIER | ObservationFlag.FOCALPLANE_OUTLIER
    clean = replace(selection, observation=selection.observation & ~np.uint16(both))
    good = good_observations(survey, clean, reserve=True)
    flat = flat_index(e.epoch, e.filter, e.n_filter, e.n_det)[survey.data.observations.ec]
    n_flats = e.n_epoch * e.n_filter * e.n_det
    residuals = solution.residuals.gray
    outlier = superstar_outliers(residuals, flat, n_flats, good, sigma_clip=config.superStarSigmaClip)
    clean = clean.with_observation_flag(ObservationFlag.SUPERSTAR_OUTLIER, outlier)
    good = good_observations(survey, clean, reserve=True, all_exposures=True)
    outlier = focal_plane_outliers(
        residuals, survey.exposure, survey.n_exp, good, sigma_clip=config.focalPlaneSigmaClip
    )
    return clean.with_observation_flag(ObservationFlag.FOCALPLANE_OUTLIER, outlier)


def evaluate(
    survey: Survey,
    photometry: Photometry,
    config: FgcmFitCycleConfigBase,
    parameters: FitParameters,
    selection: Selection,
    slopes: Slopes,
    cuts: Cuts,
    sed: SedCalibration,
    *,
    tables: ModelTables | None = None,
) -> Solution:
    """Return a model with its means, slopes of spectra and residuals.

    Parameters
    ----------
    survey, photometry, config
        Data and settings.
    parameters, selection, slopes, cuts, sed
        The model, and with what it is to be evaluated; the slopes are those that a first mean is made with.
    tables
        Of the parameters, where they are known.
    """
    if tables is None:
        tables = survey.model.tables(parameters, derivatives=False)
    references = references_of(survey, config, selection)
    means = mean_magnitudes(survey, photometry, selection, slopes.value, tables, references)
    slopes = star_slopes(survey, config, means.magnitude, sed)
    means = mean_magnitudes(survey, photometry, selection, slopes.value, tables, references)
    residuals = measure_residuals(survey, photometry, selection, config, slopes.value, tables, means)
    return Solution(parameters, tables, selection, slopes, means, residuals, cuts, sed)


def fit_cycle(
    survey: Survey,
    photometry: Photometry,
    config: FgcmFitCycleConfigBase,
    start: Solution,
    cycle: int,
    on_progress: OnProgress | None = None,
) -> Solution:
    """Fit, choose exposures by what the fit leaves, and fit again until they stay.

    Parameters
    ----------
    survey, photometry, config
        Data and settings.
    start
        Model to begin with, its selection and cuts.
    cycle
        Number of the cycle.
    on_progress
        Told the steps of the fit.

    Raises
    ------
    NoPhotometricExposuresError, NoFitStarsError
        If nothing is left to fit.

    Notes
    -----
    With a frozen atmosphere there is one fit: what it leaves is the atmosphere rather than clouds.
    """
    current, cuts = start, start.cuts
    n_fits = 1 if config.freezeStdAtmosphere or not survey.passbands.fitted else _MAX_FITS
    for n in range(1, n_fits + 1):
        current = replace(current, selection=flag_outliers(survey, config, current))
        selection = _cut_colors(survey, config, current)
        selection = drop_stars(survey, selection, config)
        require(survey, selection, cycle)
        current = replace(current, selection=selection)
        result = _fit(survey, photometry, config, current, settings_of(survey, config), on_progress)
        current = evaluate(
            survey, photometry, config, result.parameters, selection, current.slopes, cuts, result.sed
        )
        current = replace(current, fit=result, n_fits=n)
        if n == n_fits:
            break
        found = new_cuts(survey, config, current, cuts)
        cuts = Cuts(found.low, found.high)
        chosen = choose_exposures(survey, config, current, cuts)
        n_changed = int(np.count_nonzero(chosen.photometric != current.selection.photometric))
        _log.info(
            "Cycle %d, fit %d: chi2/dof %.4f, %d of %d exposures photometric, %d of them changed.",
            cycle, n, result.chi2 / max(result.dof, 1), int(chosen.photometric.sum()), survey.n_exp, n_changed,
        )  # fmt: skip
        if n_changed == 0:
            break
        current = replace(current, selection=chosen, cuts=cuts)
    return current


def posterior_at(
    survey: Survey, photometry: Photometry, config: FgcmFitCycleConfigBase, start: Solution, cycle: int
) -> Solution:
    """Return a solution whose parameters stay, with outliers flagged anew and errors: what a final cycle does.

    Parameters
    ----------
    survey, photometry, config
        Data and settings.
    start
        The model, and its selection.
    cycle
        Number of the cycle.

    Raises
    ------
    NoPhotometricExposuresError, NoFitStarsError
        If nothing is left.
    """
    current = replace(start, selection=flag_outliers(survey, config, start))
    current = replace(current, selection=drop_stars(survey, _cut_colors(survey, config, current), config))
    require(survey, current.selection, cycle)
    result = _fit(survey, photometry, config, current, replace(settings_of(survey, config), max_iterations=0))
    done = evaluate(
        survey, photometry, config, start.parameters, current.selection, current.slopes, start.cuts, start.sed, tables=start.tables
    )  # fmt: skip
    return replace(done, fit=result)


def _fit(
    survey: Survey,
    photometry: Photometry,
    config: FgcmFitCycleConfigBase,
    current: Solution,
    settings: FitSettings,
    on_progress: OnProgress | None = None,
) -> FitResult:
    """Fit the observations that a selection leaves."""
    references = references_of(survey, config, current.selection)
    good = good_observations(survey, current.selection)
    return fit(
        survey.model,
        photometry.observations,
        weights(survey, photometry.inverse_variance, good, fit_only=True),
        current.slopes.raw.ravel(),
        references,
        current.parameters,
        layout_of(survey, config, current.selection, current.parameters, references is not None),
        settings,
        on_progress,
        sed=current.sed,
    )


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
