"""The tables of a finished calibration: zeropoints, atmospheres, standard stars."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zeropoint.fgcm.cycle_state import InstrumentState
from zeropoint.fgcm.fit.posterior import ZeropointErrors
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.flags import ZeropointFlag
from zeropoint.fgcm.model.sweep import star_means
from zeropoint.fgcm.terms.chebyshev import flux_field_magnitudes
from zeropoint.fgcm.terms.chromaticity import mirror_chromaticity_at
from zeropoint.fgcm.terms.cycle_tables import atmosphere_table, standard_star_table, zeropoint_table
from zeropoint.fgcm.terms.detector_integrals import detector_integrals
from zeropoint.fgcm.terms.gray import ColorSplitGray, DetectorGray, gray_scatter
from zeropoint.fgcm.terms.gray_fields import (
    FocalPlaneForm,
    focal_plane_gray,
    focal_plane_offsets,
    sub_detector_gray,
)
from zeropoint.fgcm.terms.groups import ratio
from zeropoint.fgcm.terms.reference_scatter import ExposureOffsets
from zeropoint.fgcm.terms.zeropoints import (
    ChosenGray,
    Zeropoints,
    ZeropointTerms,
    choose_gray,
    chromatic_offset,
    compute_zeropoints,
    flat_terms,
    zeropoint_flags,
)
from zeropoint.recipes.fgcm_cycle.assumed import assumed_variance
from zeropoint.recipes.fgcm_cycle.detector_seeing import detector_apertures
from zeropoint.recipes.fgcm_cycle.residuals import Photometry, error_of_mean
from zeropoint.recipes.fgcm_cycle.selection import good_observations
from zeropoint.recipes.fgcm_cycle.solution import Solution
from zeropoint.recipes.fgcm_cycle.survey import BoolArray, FloatArray, SingleArray, Survey

__all__ = [
    "FinalStars",
    "applied_gray",
    "atmospheres",
    "chosen_gray",
    "final_stars",
    "shaped_gray",
    "standard_stars",
    "zeropoints",
]


def shaped_gray(
    survey: Survey, config: FgcmFitCycleConfigBase, photometry: Photometry, solution: Solution
) -> DetectorGray:
    """Return the gray of the detectors in the forms that are configured: constant, within detectors, over the focal plane.

    Parameters
    ----------
    survey, config, photometry, solution
        Data, settings and model.
    """
    e, observations = survey.data.exposures, photometry.observations
    residuals = solution.residuals
    gray = residuals.detector
    within, over = (
        np.array([b >= 0 and chosen.get(e.bands[b], False) for b in e.band], bool)
        for chosen in (config.ccdGraySubCcdDict, config.ccdGrayFocalPlaneDict)
    )
    if (within & ~over).any():
        gray = sub_detector_gray(
            gray, residuals.gray, observations.ec, residuals.sample, observations.x, observations.y, survey.size,
            order=config.ccdGraySubCcdChebyshevOrder, triangular=config.ccdGraySubCcdTriangular, chosen=within & ~over,
        )  # fmt: skip
    if not over.any():
        return gray
    stars = survey.data.stars
    offsets = focal_plane_offsets(
        survey.of_star(stars.ra), survey.of_star(stars.dec), survey.exposure, e.ra, e.dec, e.rotation
    )
    for both in (False, True):
        chosen = over & (within == both)
        if chosen.any():
            form = FocalPlaneForm(
                order=config.ccdGrayFocalPlaneChebyshevOrder,
                min_ccd=config.ccdGrayFocalPlaneFitMinCcd,
                max_stars=config.ccdGrayFocalPlaneMaxStars,
                seed=config.seed,
                sub_order=config.ccdGraySubCcdChebyshevOrder if both else None,
                sub_triangular=config.ccdGraySubCcdTriangular,
            )
            gray = focal_plane_gray(
                gray, residuals.gray, observations.ec, residuals.sample, offsets,
                observations.x, observations.y, survey.size, form, chosen,
            )  # fmt: skip
    return gray


def chosen_gray(
    survey: Survey, config: FgcmFitCycleConfigBase, solution: Solution, gray: DetectorGray
) -> tuple[ChosenGray, npt.NDArray[np.int32]]:
    """Return the gray of each zeropoint, and the flags of exposures.

    Parameters
    ----------
    survey, config, solution
        Data, settings and model.
    gray
        Of the detectors.
    """
    e = survey.data.exposures
    flags = zeropoint_flags(solution.selection.exposure, survey.in_fit_band)
    cuts = np.array([config.expVarGrayPhotometricCutDict[band] for band in e.bands])
    chosen = choose_gray(
        gray, solution.residuals.exposure, flags,
        min_star_per_ccd=config.minStarPerCcd,
        max_ccd_gray_err=config.maxCcdGrayErr,
        min_ccd_per_exp=config.minCcdPerExp,
        exp_gray_err_recover_cut=config.expGrayErrRecoverCut,
        exp_gray_recover_cut=config.expGrayRecoverCut,
        exp_var_gray_cut=cuts[np.maximum(e.band, 0)],
    )  # fmt: skip
    return chosen, flags


def applied_gray(survey: Survey, chosen: ChosenGray, gray: DetectorGray) -> SingleArray:
    """Return the gray of each observation as its zeropoint has it at its place, mag; NaN without.

    Parameters
    ----------
    survey
        Data.
    chosen, gray
        Gray of each zeropoint, and of the detectors, which may vary within them.
    """
    applied = survey.of_detector(chosen.gray.astype(np.float32))
    if gray.coefficients is None:
        return applied
    observations = survey.data.observations
    fields = gray.coefficients.reshape(-1, *gray.coefficients.shape[2:])
    varies = chosen.from_detector & np.isfinite(gray.coefficients).all(axis=(2, 3))
    rows = np.flatnonzero(survey.of_detector(varies))
    applied[rows] = flux_field_magnitudes(
        fields, observations.ec[rows], observations.x[rows], observations.y[rows], survey.size
    )
    return applied


def zeropoints(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    solution: Solution,
    instrument: InstrumentState,
    gray: DetectorGray,
    chosen: ChosenGray,
    flags: npt.NDArray[np.int32],
    errors: ZeropointErrors | None,
    flat_variance: FloatArray,
    background: FloatArray,
    reference: ExposureOffsets | None,
) -> Zeropoints:
    """Return the zeropoints of all exposures and detectors.

    Parameters
    ----------
    survey, config, solution, instrument
        Data, settings and model.
    gray, chosen, flags
        Gray of the detectors, what of it zeropoints have, and flags of the exposures.
    errors
        Posterior of the model; None: nothing was fitted, and the model's error counts as none. Nights without fit have the
        error of an assumed atmosphere besides (`assumed_variance`).
    flat_variance
        Of the superstar flats' shapes at the centers of the detectors (`instrument.flat_variance`), mag^2, shape (n_exp, n_det).
    background
        Offsets of the local background, mag, shape (n_exp,) or (n_exp, n_det).
    reference
        Offsets to reference stars, 0 where they are not known; None: not wanted.
    """
    e, parameters = survey.data.exposures, solution.parameters
    filters, band = np.maximum(e.filter, 0), np.maximum(e.band, 0)
    secant = survey.secants
    integrals = detector_integrals(
        survey.passbands, e.filter, parameters.at(e, survey.passbands.ranges), secant
    )
    extinction = parameters.airmass_residual[band][:, None] * (secant - 1.0)
    aperture = (parameters.aper_slope[band] * parameters.seeing_offset(e))[:, None]
    if config.aperCorrPerCcd:
        aperture = aperture + detector_apertures(survey, config, parameters)
    terms = ZeropointTerms(
        # what the absorption model lacks is light that the passband lacks
        i0=integrals.i0 * 10.0 ** (0.4 * extinction),
        i10=integrals.i10,
        dust=survey.model.dust(parameters)[:, None],
        filter_offset=(parameters.filter_offset[filters] + parameters.abs_offset[band])[:, None],
        aperture=aperture,
        background=background.reshape(len(e), -1),
        reference=np.zeros((1, 1)) if reference is None else np.nan_to_num(reference.offset)[:, None],
        exptime=e.exptime[:, None],
        flat=flat_terms(parameters.superstar, instrument.superstar_shape, e.epoch, e.filter),
    )
    # stars' means have a part of the gray of each exposure that they are from, but for what a joint fit took off
    left = replace(
        solution.residuals.detector, gray=solution.residuals.detector.gray - parameters.exposure_gray[:, None]
    )
    scatter = gray_scatter(left, e.band, e.n_band, solution.selection.photometric)
    shared = np.nan_to_num(ratio(scatter[band][:, None], chosen.tilings))
    variance = assumed_variance(survey, solution, flags) + flat_variance + shared
    if errors is not None:
        variance = variance + errors.model_variance(chosen.from_detector)
    if reference is not None:
        variance = variance + np.nan_to_num(np.square(reference.err))[:, None]
    i10_std = np.where(e.filter >= 0, survey.passbands.i10_std[filters], np.nan)
    return compute_zeropoints(
        terms, chosen, flags,
        zp_ab=survey.model.zp_ab,
        model_variance=variance,
        delta_std=gray.delta_std,
        median_delta_std=chromatic_offset(solution.slopes.median_value[band][:, None], integrals.i10, i10_std[:, None]),
        gray_coefficients=gray.coefficients,
    )  # fmt: skip


def zeropoints_as_table(
    survey: Survey,
    solution: Solution,
    found: Zeropoints,
    split: ColorSplitGray,
    errors: ZeropointErrors | None,
    retrieved: tuple[FloatArray, FloatArray] | None,
) -> Table:
    """Return ``fgcm_Cycle{N}_Zeropoints``.

    Parameters
    ----------
    survey, solution
        Data and model.
    found
        Zeropoints.
    split
        Gray of the exposures by color.
    errors
        Whose common mode the metadata have; they have the standard passbands' too: wavelength and I10 (Angstrom).
    retrieved
        R0 and R10 of the detectors; None: not retrieved.
    """
    e = survey.data.exposures
    common = {} if errors is None else {b: float(s) for b, s in zip(e.bands, errors.common) if np.isfinite(s)}
    names = np.array([*e.physical_filters, ""])[e.filter]
    source = survey.passbands
    r0, r10 = (None, None) if retrieved is None else retrieved
    table = zeropoint_table(
        found, solution.residuals.exposure, split,
        visit=e.visit, detectors=e.detectors, filter_names=names.tolist(), detector_size=survey.detector_size,
        r0=r0, r10=r10, common_mode=common,
    )  # fmt: skip
    # with these and a star's colors everyone can compute its chromatic correction
    for k, name in enumerate(e.physical_filters):
        table.meta[f"I10STD_{name}"] = float(source.i1_std[k] / source.i0_std[k])
        table.meta[f"LAMBDASTD_{name}"] = float(source.lambda_std[k])
    return table


def atmospheres(survey: Survey, solution: Solution, instrument: InstrumentState) -> Table:
    """Return ``fgcm_Cycle{N}_AtmosphereParameters``.

    Parameters
    ----------
    survey, solution, instrument
        Data and model.
    """
    e = survey.data.exposures
    air = solution.parameters.at(e, survey.passbands.ranges)
    mirror = mirror_chromaticity_at(
        instrument.mirror_chromaticity, instrument.mirror_chromaticity_pivot, e.filter, e.coating, e.mjd
    )
    lambda_std = np.where(e.filter >= 0, survey.passbands.lambda_std[np.maximum(e.filter, 0)], np.nan)
    return atmosphere_table(
        visit=e.visit, pmb=air.pmb, pwv=solution.parameters.pwv(e, survey.passbands.ranges), tau=air.tau, alpha=air.alpha, o3=air.o3, airmass=e.airmass,
        lambda_std=lambda_std, mirror_chromaticity=mirror,
    )  # fmt: skip


@dataclass(frozen=True)
class FinalStars:
    """Stars with the gray of all exposures applied.

    Parameters
    ----------
    magnitude, err, n_good
        Shape (n_star, n_band): means over all exposures with a zeropoint; NaN and 0 where there are none.
    gray
        Of each observation, NaN without zeropoint.
    """

    magnitude: FloatArray
    err: FloatArray
    n_good: npt.NDArray[np.int32]
    gray: SingleArray


def final_stars(
    survey: Survey, photometry: Photometry, solution: Solution, found: Zeropoints, gray: DetectorGray
) -> FinalStars:
    """Return the stars' means over all exposures with their gray.

    Parameters
    ----------
    survey, photometry, solution
        Data and model.
    found
        Zeropoints.
    gray
        Of the detectors.
    """
    has = (found.flag & int(ZeropointFlag.CANNOT_COMPUTE_ZEROPOINT)) == 0
    applied = np.where(survey.of_detector(has), applied_gray(survey, found.gray, gray), np.float32(np.nan))
    known = np.isfinite(applied)
    good = good_observations(survey, solution.selection, reserve=True, all_exposures=True) & known
    mag = photometry.observations.mag + np.where(known, applied, np.float32(0.0))
    mean, weight = star_means(
        survey.with_magnitudes(mag), photometry.inverse_variance, good, solution.slopes.relative, None, solution.tables,
        threads=survey.threads,
    )  # fmt: skip
    return FinalStars(mean, error_of_mean(weight), survey.per_segment(good), applied)


def standard_stars(
    survey: Survey, solution: Solution, stars: FinalStars, delta_aper: FloatArray | None
) -> Table:
    """Return ``fgcm_Cycle{N}_StandardStars``.

    Parameters
    ----------
    survey, solution
        Data and model.
    stars
        Final means.
    delta_aper
        Mean difference of the aperture magnitudes, shape (n_star, n_band); None: not computed.
    """
    e, given = survey.data.exposures, survey.data.stars
    present: BoolArray = np.bincount(e.band[e.band >= 0], minlength=e.n_band) > 0
    return standard_star_table(
        fgcm_id=given.fgcm_id, isolated_star_id=given.isolated_star_id, ra=given.ra, dec=given.dec,
        star_flag=solution.selection.star, bands=e.bands, has_exposures=present,
        magnitude=stars.magnitude, magnitude_err=stars.err, n_good=stars.n_good,
        n_total=survey.data.observations.count, n_psf_candidate=given.n_psf_candidate, delta_aper=delta_aper,
    )  # fmt: skip
