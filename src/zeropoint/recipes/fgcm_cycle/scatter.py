"""How well magnitudes repeat and agree with references, what water the stars tell, and what two apertures tell."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from zeropoint.fgcm.cycle_state import EpsilonMaps
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.flags import StarFlag
from zeropoint.fgcm.terms.delta_aper import (
    ApertureRadii,
    band_background_errors,
    bright_medians,
    detector_background_errors,
    exposure_background_errors,
    sky_background_errors,
    star_delta_aper,
)
from zeropoint.fgcm.terms.detector_integrals import detector_integrals, with_airmass
from zeropoint.fgcm.terms.groups import group_sums, ratio
from zeropoint.fgcm.terms.reference_scatter import (
    ExposureOffsets,
    ReferenceScatter,
    exposure_reference_offsets,
    means_of_observations,
    reference_scatter,
)
from zeropoint.fgcm.terms.repeatability import Repeatability, sig_fgcm
from zeropoint.fgcm.terms.retrieval import PwvRetrieval, RetrievedIntegrals, retrieve_integrals, retrieve_pwv
from zeropoint.fgcm.terms.sigma_cal import SigmaCal, calibration_variance, fit_sigma_cal
from zeropoint.recipes.fgcm_cycle.residuals import Photometry, split_color
from zeropoint.recipes.fgcm_cycle.selection import good_observations
from zeropoint.recipes.fgcm_cycle.solution import Solution, references_of
from zeropoint.recipes.fgcm_cycle.survey import BoolArray, FloatArray, SingleArray, Survey

__all__ = [
    "Apertures",
    "Scatter",
    "background_offsets",
    "compare_references",
    "look_at_apertures",
    "measure_scatter",
    "reference_offsets",
    "retrieve",
]


@dataclass(frozen=True)
class Scatter:
    """Repeatability.

    Parameters
    ----------
    stars, reserve
        Of the stars in the fit, and of reserve stars, before the gray is applied.
    stars_gray, reserve_gray
        The same after.
    sigma_cal
        Calibration error.
    """

    stars: Repeatability
    reserve: Repeatability
    stars_gray: Repeatability
    reserve_gray: Repeatability
    sigma_cal: SigmaCal


def measure_scatter(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    photometry: Photometry,
    solution: Solution,
    gray: SingleArray,
) -> Scatter:
    """Return how well magnitudes of photometric exposures repeat.

    Parameters
    ----------
    survey, config, photometry, solution
        Data, settings and model.
    gray
        Of each observation as its zeropoint has it, mag; NaN without zeropoint.
    """
    e, residuals = survey.data.exposures, solution.residuals
    groups = {
        "stars": good_observations(survey, solution.selection),
        "reserve": good_observations(survey, solution.selection, stars=solution.selection.reserve_star),
    }
    color = split_color(survey, config, solution.means.magnitude)
    limits = np.array([config.sigFgcmMaxEGrayDict[band] for band in e.bands])
    corrected = residuals.gray.gray - gray
    found = {}
    for name, use in groups.items():
        few = np.flatnonzero(use) if name == "reserve" else slice(None)
        for end, values in (("", residuals.gray.gray), ("_gray", corrected)):
            found[name + end] = sig_fgcm(
                values[few], residuals.gray.variance[few], survey.band[few], use[few],
                n_band=survey.n_band, max_egray=limits, max_err=config.sigFgcmMaxErr,
                color=color[survey.data.observations.star[few]] if name + end == "reserve_gray" else None,
            )  # fmt: skip
    sigma = np.nan_to_num(found["stars_gray"].sigma_fgcm[:, 0])
    rows = np.flatnonzero(groups["reserve"] & np.isfinite(corrected))
    observations = survey.data.observations
    variance = calibration_variance(
        photometry.error[rows], sigma0_phot=config.sigma0Phot, sig_fgcm=sigma, band=survey.band[rows],
        tilings=residuals.detector.n_tilings, gray_err=residuals.detector.err, ec=observations.ec[rows],
    )  # fmt: skip
    cal = fit_sigma_cal(
        -corrected[rows], variance, observations.segment[rows], np.ones(len(rows), bool), solution.means.magnitude,
        limits=tuple(config.sigmaCalRange), percentile=tuple(config.sigmaCalFitPercentile),
    )  # fmt: skip
    return Scatter(**found, sigma_cal=cal)


def background_offsets(survey: Survey, config: FgcmFitCycleConfigBase, solution: Solution) -> FloatArray:
    """Return what the correction of the local background adds to bright stars' magnitudes, 0 where it is not known.

    Parameters
    ----------
    survey, config, solution
        Data, settings and model.

    Returns
    -------
    offset : float64
        Magnitudes, shape (n_exp,), or (n_exp, n_det) with ``deltaMagBkgPerCcd``.
    """
    e, observations = survey.data.exposures, survey.data.observations
    values, part = observations.delta_mag_bkg, config.deltaMagBkgOffsetPercentile
    if values is None:
        return np.zeros(survey.n_exp)
    mean_of = survey.of_segment(solution.means.magnitude.astype(np.float32))
    use = good_observations(survey, solution.selection, reserve=True, all_exposures=True)
    use &= np.isfinite(values) & np.isfinite(mean_of)
    least = int(np.ceil(3.0 / part)) + 1
    by_exposure = bright_medians(
        values, mean_of, survey.exposure, use, n_exp=survey.n_exp, part=part, least=least
    )
    if not config.deltaMagBkgPerCcd:
        return np.nan_to_num(by_exposure)
    n = survey.n_exp * e.n_det
    own = bright_medians(values, mean_of, observations.ec, use, n_exp=n, part=part, least=least)
    own = own.reshape(survey.n_exp, e.n_det)
    return np.nan_to_num(np.where(np.isfinite(own), own, by_exposure[:, None]))


def compare_references(
    survey: Survey, config: FgcmFitCycleConfigBase, solution: Solution
) -> tuple[ReferenceScatter | None, Solution]:
    """Return how stars compare with references, and the solution with outliers flagged; None without references.

    Parameters
    ----------
    survey, config, solution
        Data, settings and model.
    """
    stars, selection = survey.data.stars, solution.selection
    if not config.doReferenceCalibration or not stars.has_references:
        return None, solution
    known = (selection.star & np.int32(StarFlag.REFSTAR_OUTLIER | StarFlag.REFSTAR_BAD_COLOR)) == 0
    means, taking_part = solution.means, references_of(survey, config, selection)
    mean = means.magnitude
    if taking_part is not None:
        mean = means_of_observations(
            mean, means.err, taking_part.mag.reshape(mean.shape), taking_part.weight.reshape(mean.shape)
        )
    found = reference_scatter(
        mean,
        stars.ref_mag,
        (selection.good_star | selection.reserve_star) & known,
        n_sigma=config.refStarOutlierNSig,
        color=split_color(survey, config, solution.means.magnitude),
    )
    outlier = found.outlier | ((selection.star & np.int32(StarFlag.REFSTAR_OUTLIER)) != 0)
    flagged = selection.with_star_flag(StarFlag.REFSTAR_OUTLIER, outlier)
    return found, replace(solution, selection=flagged)


def reference_offsets(
    survey: Survey, config: FgcmFitCycleConfigBase, solution: Solution, gray: SingleArray
) -> ExposureOffsets:
    """Return the median of reference minus standard magnitudes of each exposure, NaN where unknown.

    Parameters
    ----------
    survey, config, solution
        Data, settings and model.
    gray
        Of each observation as its zeropoint has it.
    """
    stars, selection = survey.data.stars, solution.selection
    if not config.doReferenceCalibration or not stars.has_references:
        return ExposureOffsets(*np.full((2, survey.n_exp), np.nan))
    bad = np.int32(StarFlag.REFSTAR_OUTLIER | StarFlag.REFSTAR_BAD_COLOR)
    chosen = (selection.good_star | selection.reserve_star) & ((selection.star & bad) == 0)
    use = good_observations(survey, selection, stars=chosen, all_exposures=True)
    return exposure_reference_offsets(
        solution.residuals.standard + gray, stars.ref_mag, survey.data.observations.segment, survey.exposure, use,
        n_exp=survey.n_exp, min_stars=config.minStarPerExp,
    )  # fmt: skip


def retrieve(
    survey: Survey, config: FgcmFitCycleConfigBase, photometry: Photometry, solution: Solution
) -> tuple[RetrievedIntegrals, PwvRetrieval | None]:
    """Return the integrals of the passbands that the stars tell, and the water vapor that follows.

    The latter is None without bands for it, and without an atmosphere or with a frozen one, which is no model of the nights.

    Parameters
    ----------
    survey, config, photometry, solution
        Data, settings and model.
    """
    e, observations = survey.data.exposures, survey.data.observations
    residuals = solution.residuals
    # what is left without the passband's part are the other corrections
    integral = detector_integrals(
        survey.passbands, e.filter, solution.parameters.at(e, survey.passbands.ranges), survey.secants
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        passband = 2.5 * np.log10(integral.i0)
    without = residuals.standard - residuals.delta_std - survey.of_detector(passband.astype(np.float32))
    integrals = retrieve_integrals(
        without, residuals.gray.gray + residuals.standard, photometry.error, observations.segment,
        np.where(solution.slopes.known, solution.slopes.value, np.nan).ravel(),
        np.tile(survey.model.band_i10_std, survey.n_star), observations.ec,
        good_observations(survey, solution.selection, all_exposures=True),
        shape=(survey.n_exp, e.n_det), min_star_per_ccd=config.minStarPerCcd,
    )  # fmt: skip
    wanted = np.array([band in config.retrievedPwvBands for band in e.bands])
    if not survey.passbands.fitted or config.freezeStdAtmosphere or not wanted.any():
        return integrals, None
    chosen = solution.selection.photometric & (e.band >= 0) & wanted[np.maximum(e.band, 0)]
    n_seen = np.bincount(survey.exposure, minlength=survey.n_exp)
    secant = ratio(group_sums(observations.secant, survey.exposure, survey.n_exp), n_seen)
    secant = np.where(np.isfinite(secant), secant, e.airmass)
    air = with_airmass(solution.parameters.at(e, survey.passbands.ranges), secant)
    pwv = retrieve_pwv(
        integrals, survey.passbands, air, filter_index=e.filter, secant=secant, choose=chosen,
        nightly=solution.parameters.replace(retrieved_ln_pwv=None).ln_pwv(e), night=e.night, time=e.mjd,
        min_ccd_per_exp=min(config.minCcdPerExp, e.n_det), smoothing_block=config.retrievedPwvSmoothingBlock,
    )  # fmt: skip
    return integrals, pwv


@dataclass(frozen=True)
class Apertures:
    """What the difference of two apertures tells of the background.

    Parameters
    ----------
    star
        Mean difference of each star and band, mag, shape (n_star, n_band); None: not computed.
    median
        Of each exposure's bright stars, mag, shape (n_exp,).
    epsilon
        Error of the background in each exposure, nJy/arcsec^2, shape (n_exp,); NaN: not computed.
    global_epsilon
        In each band, shape (n_band,).
    maps
        On the sky and on the detectors.
    """

    star: FloatArray | None
    median: FloatArray
    epsilon: FloatArray
    global_epsilon: FloatArray
    maps: EpsilonMaps

    @classmethod
    def none(cls, survey: Survey) -> Apertures:
        """Return what is not known."""
        e = survey.data.exposures
        empty = EpsilonMaps(
            np.zeros((e.n_band, 0)), np.zeros((e.n_band, 0), np.int32),
            np.zeros((e.n_filter, e.n_det, 0, 0)), np.zeros((e.n_filter, e.n_det, 0, 0), np.int32),
        )  # fmt: skip
        unknown = np.full(len(e), np.nan)
        return cls(None, unknown, unknown, np.full(e.n_band, np.nan), empty)


def look_at_apertures(
    survey: Survey, config: FgcmFitCycleConfigBase, photometry: Photometry, solution: Solution
) -> Apertures:
    """Return what the differences of aperture magnitudes tell.

    Parameters
    ----------
    survey, config, photometry, solution
        Data, settings and model.
    """
    none = Apertures.none(survey)
    e, observations, stars = survey.data.exposures, survey.data.observations, survey.data.stars
    delta, means = observations.delta_aper, solution.means.magnitude
    if not np.isfinite(delta).any():
        return none
    mean_of = survey.of_segment(means.astype(np.float32))
    use = good_observations(survey, solution.selection, reserve=True, all_exposures=True) & np.isfinite(delta) & np.isfinite(mean_of)  # fmt: skip
    median = bright_medians(
        delta, mean_of, survey.exposure, use, n_exp=survey.n_exp, part=0.25, least=config.minStarPerExp
    )
    radii = ApertureRadii(config.deltaAperInnerRadiusArcsec, config.deltaAperOuterRadiusArcsec)
    found = replace(none, median=median)
    good = solution.selection.good_star | solution.selection.reserve_star
    if config.doComputeDeltaAperPerStar:
        photometric = use & survey.of_exposure(solution.selection.photometric)
        star = star_delta_aper(
            delta, photometry.error, observations.segment, survey.exposure, photometric, median,
            shape=means.shape, min_good=config.deltaAperFitMinNgoodObs,
        )  # fmt: skip
        offset = np.array(
            [_median(median[(e.band == band) & solution.selection.photometric]) for band in range(e.n_band)]
        )
        whole = band_background_errors(star, means, good, stars.ra, stars.dec, offset, radii)
        found = replace(found, star=star, global_epsilon=whole.epsilon)
        if config.doComputeDeltaAperMap:
            sky = sky_background_errors(
                star, means, good, stars.ra, stars.dec, offset, radii,
                nside=config.deltaAperFitSpatialNside, min_stars=config.deltaAperFitSpatialMinStar,
            )  # fmt: skip
            found = replace(found, maps=replace(found.maps, sky=sky.epsilon, n_sky=sky.n_stars))
    if config.doComputeDeltaAperPerVisit:
        by_exposure = exposure_background_errors(
            delta, mean_of, survey.exposure, use, n_exp=survey.n_exp, min_star_per_exp=config.minStarPerExp, radii=radii
        )  # fmt: skip
        found = replace(found, epsilon=by_exposure.epsilon)
    if config.doComputeDeltaAperPerCcd:
        found = replace(found, maps=_detector_maps(survey, config, solution, found, use, mean_of, radii))
    return found


def _detector_maps(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    solution: Solution,
    found: Apertures,
    use: BoolArray,
    mean_of: SingleArray,
    radii: ApertureRadii,
) -> EpsilonMaps:
    e, observations = survey.data.exposures, survey.data.observations
    photometric = solution.selection.photometric
    offset = np.array([_median(found.median[(e.filter == k) & photometric]) for k in range(e.n_filter)])
    relative = observations.delta_aper - survey.of_exposure(found.median.astype(np.float32))
    on_detectors = detector_background_errors(
        relative, mean_of, observations.x, observations.y, observations.detector, survey.of_exposure(e.filter),
        use & survey.of_exposure(photometric) & np.isfinite(relative), n_filter=e.n_filter,
        detector_size=survey.detector_size, n_x=config.deltaAperFitPerCcdNx, n_y=config.deltaAperFitPerCcdNy,
        min_stars=config.deltaAperFitSpatialMinStar, radii=radii, offset=offset,
    )  # fmt: skip
    return replace(found.maps, ccd=on_detectors.epsilon, n_ccd=on_detectors.n_stars)


def _median(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")
