"""Corrections beside the fit: shapes of superstar flats, chromaticities, errors; applied before it and measured after it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.cycle_state import CycleState, InstrumentState
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.model.parameters import FitParameters
from zeropoint.fgcm.terms.aperture_fit import fit_aperture_corrections
from zeropoint.fgcm.terms.chromaticity import (
    StandardIntegrals,
    chromaticity_magnitude,
    coating_pivots,
    fit_detector_chromaticity,
    fit_mirror_chromaticity,
    mirror_chromaticity_at,
)
from zeropoint.fgcm.terms.error_model import (
    expected_magnitudes,
    fit_error_model,
    modelled_errors,
    rows_of_model,
)
from zeropoint.fgcm.terms.superstar import SuperstarFlats, flat_index, shape_variance, superstar_flats
from zeropoint.recipes.fgcm_cycle.detector_seeing import detector_apertures
from zeropoint.recipes.fgcm_cycle.residuals import Photometry, gray_by_color, split_color
from zeropoint.recipes.fgcm_cycle.selection import good_observations
from zeropoint.recipes.fgcm_cycle.solution import Solution, fitted_residuals
from zeropoint.recipes.fgcm_cycle.survey import BoolArray, FloatArray, SingleArray, Survey

__all__ = [
    "ErrorCoefficients",
    "Measured",
    "first_instrument",
    "first_photometry",
    "flat_variance",
    "measure_errors",
    "measure_instrument",
    "measure_superstar",
    "sub_ccd_filters",
    "with_colors_and_errors",
    "with_shapes",
]


@dataclass(frozen=True)
class ErrorCoefficients:
    """Error model of each band; NaN: none.

    Parameters
    ----------
    coefficients, pivot
        Shapes (n_band, 7) and (n_band, 3).
    """

    coefficients: FloatArray
    pivot: FloatArray

    @classmethod
    def none(cls, n_band: int) -> ErrorCoefficients:
        """Return no model."""
        return cls(np.full((n_band, 7), np.nan), np.full((n_band, 3), np.nan))

    @classmethod
    def of(cls, state: CycleState) -> ErrorCoefficients:
        """Return the model of a state."""
        return cls(state.band.error_model, state.band.error_pivot)


def first_instrument(survey: Survey, config: FgcmFitCycleConfigBase) -> InstrumentState:
    """Return no corrections.

    Parameters
    ----------
    survey, config
        Data and settings.
    """
    e = survey.data.exposures
    return InstrumentState(
        superstar_shape=_no_shape(survey, config),
        mirror_chromaticity=np.zeros((e.n_filter, e.n_coating + 1)),
        mirror_chromaticity_pivot=coating_pivots(e.mjd, e.coating, e.n_coating),
        ccd_chromaticity=np.zeros((e.n_det, e.n_filter)),
        aper_slope_err=np.full(e.n_band, np.nan),
    )


def _no_shape(survey: Survey, config: FgcmFitCycleConfigBase) -> FloatArray:
    e = survey.data.exposures
    order = config.superStarSubCcdChebyshevOrder if sub_ccd_filters(survey, config).any() else 0
    shape = np.zeros((e.n_epoch, e.n_filter, e.n_det, order + 1, order + 1))
    shape[..., 0, 0] = 1.0
    return shape


def sub_ccd_filters(survey: Survey, config: FgcmFitCycleConfigBase) -> BoolArray:
    """Return the filters whose superstar flats vary within detectors, shape (n_filter,).

    Parameters
    ----------
    survey, config
        Data and settings.
    """
    e = survey.data.exposures
    return np.array([band >= 0 and config.superStarSubCcdDict[e.bands[band]] for band in e.filter_band], bool)


def flat_of_observations(survey: Survey, exposures: BoolArray | None = None) -> npt.NDArray[np.int32]:
    """Return the superstar flat of each observation, -1: none, or not of these exposures."""
    e = survey.data.exposures
    of_filter = e.filter if exposures is None else np.where(exposures, e.filter, -1)
    return survey.of_detector(flat_index(e.epoch, of_filter, e.n_filter, e.n_det))


def first_photometry(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    instrument: InstrumentState,
    parameters: FitParameters | None,
) -> Photometry:
    """Return the magnitudes with the corrections that need no color: superstar shapes, and detectors' own seeing.

    Parameters
    ----------
    survey, config
        Data and settings.
    instrument
        Corrections.
    parameters
        Of the cycle before, None: there was none.
    """
    observations = survey.data.observations
    mag, superstar = observations.mag, _superstar(survey, instrument)
    if not isinstance(superstar, float):
        mag = np.asarray(mag + superstar)
    if parameters is not None and config.aperCorrPerCcd:
        own = detector_apertures(survey, config, parameters)
        mag = np.asarray(mag + survey.of_detector(own.astype(np.float32)))
    usable = (observations.flag == 0) & np.isfinite(observations.err) & (observations.err > 0)
    inverse = np.zeros(len(observations), np.float32)
    np.divide(1.0, np.square(observations.err), out=inverse, where=usable)
    return Photometry(survey.with_magnitudes(mag), observations.err, inverse, superstar)


def _superstar(survey: Survey, instrument: InstrumentState) -> SingleArray | float:
    """Return what the shapes of superstar flats add to magnitudes; 0 where there are none."""
    shape = instrument.superstar_shape
    varies = (shape[..., 1:, :] != 0).any(axis=(-1, -2)) | (shape[..., 0, 1:] != 0).any(axis=-1)
    if not varies.any():
        return 0.0
    observations = survey.data.observations
    flats = SuperstarFlats(shape, np.zeros(shape.shape[:3], np.int64), varies)
    added = flats.magnitudes(
        flat_of_observations(survey), observations.x, observations.y, survey.size, threads=survey.threads
    )
    return added.astype(np.float32)


def with_shapes(survey: Survey, photometry: Photometry, instrument: InstrumentState) -> Photometry:
    """Return the photometry with other shapes of superstar flats; all else of it stays, errors too.

    Parameters
    ----------
    survey
        Data.
    photometry
        With shapes, or none.
    instrument
        With the shapes that are to take their place.
    """
    superstar = _superstar(survey, instrument)
    mag = np.asarray(photometry.observations.mag + (superstar - photometry.superstar))
    return replace(photometry, observations=survey.with_magnitudes(mag), superstar=superstar)


def standard_integrals(survey: Survey) -> StandardIntegrals:
    """Return the moments of the standard passbands."""
    source = survey.passbands
    return StandardIntegrals(source.lambda_std, source.i0_std, source.i1_std, source.i2_std)


def chromatic_corrections(
    survey: Survey, instrument: InstrumentState, slopes: FloatArray
) -> SingleArray | None:
    """Return what chromaticities of mirror and detectors add to magnitudes; None where there are none.

    Parameters
    ----------
    survey
        Data.
    instrument
        Chromaticities.
    slopes
        Of the spectra, shape (n_star, n_band).
    """
    e = survey.data.exposures
    if not (instrument.mirror_chromaticity.any() or instrument.ccd_chromaticity.any()):
        return None
    mirror = mirror_chromaticity_at(
        instrument.mirror_chromaticity, instrument.mirror_chromaticity_pivot, e.filter, e.coating, e.mjd
    )
    filters = np.maximum(e.filter, 0)
    of_detector = mirror[:, None] + instrument.ccd_chromaticity.T[filters]
    added = chromaticity_magnitude(
        survey.of_detector(of_detector),
        survey.of_exposure(filters),
        survey.of_segment(slopes),
        standard_integrals(survey),
    )
    return added.astype(np.float32)


def with_colors_and_errors(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    photometry: Photometry,
    instrument: InstrumentState,
    errors: ErrorCoefficients,
    solution: Solution,
    gray: FloatArray | None = None,
) -> Photometry:
    """Return the photometry with what a first model is needed for: chromaticities, and modeled errors.

    Parameters
    ----------
    survey, config
        Data and settings.
    photometry
        From `first_photometry`.
    instrument, errors
        Chromaticities and error model.
    solution
        Model of this photometry.
    gray
        Of the exposures, where it is known about, mag, shape (n_exp,).
    """
    added = chromatic_corrections(survey, instrument, solution.slopes.value)
    if added is not None:
        photometry = replace(
            photometry, observations=survey.with_magnitudes(photometry.observations.mag + added)
        )
    if not config.modelMagErrors or not np.isfinite(errors.coefficients).any():
        return photometry
    e, observations = survey.data.exposures, survey.data.observations
    err = modelled_errors(
        _expected(survey, solution, gray), observations.err, survey.band, survey.exposure, errors.coefficients, errors.pivot,
        exptime=e.exptime, seeing=e.psf_fwhm, sky=e.sky, sigma0_phot=config.sigma0Phot, threads=survey.threads,
    )  # fmt: skip
    inverse = np.zeros(len(observations), np.float32)
    np.divide(1.0, np.square(err), out=inverse, where=photometry.inverse_variance > 0)
    return replace(photometry, error=err, inverse_variance=inverse)


def _expected(
    survey: Survey,
    solution: Solution,
    gray: FloatArray | None = None,
    rows: npt.NDArray[np.int64] | slice = slice(None),
) -> npt.NDArray[np.float32]:
    """Return the instrumental magnitudes that observations, or some of them, should have had, clouds and all."""
    known = np.nan_to_num(solution.residuals.exposure.gray if gray is None else gray).astype(np.float32)
    residual = solution.residuals.gray.gray[rows] - known[survey.exposure[rows]]
    return expected_magnitudes(survey.data.observations.mag[rows], residual)


def measure_errors(survey: Survey, config: FgcmFitCycleConfigBase, solution: Solution) -> ErrorCoefficients:
    """Return the error model that a solution's observations suggest; none without ``modelMagErrors``.

    Parameters
    ----------
    survey, config, solution
        Data, settings and model.
    """
    if not config.modelMagErrors:
        return ErrorCoefficients.none(survey.n_band)
    e, observations = survey.data.exposures, survey.data.observations
    rows = rows_of_model(good_observations(survey, solution.selection), survey.band, survey.n_band)
    model = fit_error_model(
        _expected(survey, solution, rows=rows), observations.err[rows], survey.band[rows], survey.exposure[rows],
        np.ones(len(rows), bool),
        n_band=survey.n_band, exptime=e.exptime, seeing=e.psf_fwhm, sky=e.sky, sigma0_phot=config.sigma0Phot,
    )  # fmt: skip
    return ErrorCoefficients(model.coefficients, model.pivot)


@dataclass(frozen=True)
class Measured:
    """What a cycle measures for the next.

    Parameters
    ----------
    instrument
        Corrections.
    parameters
        Of the model: the superstar constants follow the shapes.
    """

    instrument: InstrumentState
    parameters: FitParameters


def measure_instrument(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    photometry: Photometry,
    instrument: InstrumentState,
    solution: Solution,
    cycle: int,
) -> Measured:
    """Return the corrections that a solution's residuals suggest: totals, not changes.

    Parameters
    ----------
    survey, config, photometry
        Data and settings.
    instrument
        Corrections that the photometry contains.
    solution
        Model of it.
    cycle
        Number of the cycle: detectors have a chromaticity from cycle 1.
    """
    parameters = solution.parameters
    e = survey.data.exposures
    if sub_ccd_filters(survey, config).any() or config.superStarForceZeroMean:
        flats = measure_superstar(survey, config, photometry, instrument, solution)
        instrument, parameters = flats.instrument, flats.parameters
    aperture = fit_aperture_corrections(
        e.aperture_variable, solution.residuals.exposure.gray, e.band, solution.selection.photometric,
        n_bins=config.aperCorrFitNBins, slope=parameters.aper_slope, pivot=parameters.aper_pivot,
        limits=parameters.aper_range,
    )  # fmt: skip
    chromaticity = _detectors(survey, config, instrument, solution, cycle)
    if chromaticity is not instrument.ccd_chromaticity:
        # stars of the typical color keep their magnitudes: no fit may follow that moves the flats
        typical = np.where(e.filter_band >= 0, solution.slopes.median_value[e.filter_band], 0.0)
        now, before = (
            chromaticity_magnitude(
                values.T, np.arange(e.n_filter)[:, None], typical[:, None], standard_integrals(survey)
            )
            for values in (chromaticity, instrument.ccd_chromaticity)
        )
        parameters = parameters.replace(superstar=parameters.superstar - (now - before))
    return Measured(
        replace(
            instrument,
            aper_slope_err=aperture.slope_err,
            mirror_chromaticity=_mirror(survey, config, instrument, solution),
            ccd_chromaticity=chromaticity,
        ),
        parameters,
    )


def measure_superstar(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    photometry: Photometry,
    instrument: InstrumentState,
    solution: Solution,
) -> Measured:
    """Return the superstar flats that a solution's residuals suggest; all else stays.

    Parameters
    ----------
    survey, config, photometry
        Data and settings.
    instrument
        Corrections that the photometry contains.
    solution
        Model of it.
    """
    e, observations = survey.data.exposures, survey.data.observations
    filters = sub_ccd_filters(survey, config)
    flats = superstar_flats(
        fitted_residuals(survey, solution), photometry.superstar,
        flat_of_observations(survey, solution.selection.photometric),
        (e.n_epoch, e.n_filter, e.n_det), solution.residuals.sample, observations.x, observations.y, survey.size,
        order=config.superStarSubCcdChebyshevOrder, sub_ccd=filters, triangular=config.superStarSubCcdTriangular,
        threads=survey.threads,
    )  # fmt: skip
    shape = _no_shape(survey, config)
    use = flats.measured & filters[None, :, None]
    shape[use] = flats.shapes().coefficients[use]
    constants = solution.parameters.superstar + np.where(use, np.nan_to_num(flats.constants), 0.0)
    if config.superStarForceZeroMean:
        flux = np.where(flats.measured, 10.0 ** (-0.4 * constants), np.nan)
        n = flats.measured.sum(axis=2)
        mean = np.nansum(flux, axis=2) / np.maximum(n, 1)
        constants = constants + 2.5 * np.log10(np.where(n > 0, mean, 1.0))[..., None]
    return Measured(
        replace(instrument, superstar_shape=shape), solution.parameters.replace(superstar=constants)
    )


def flat_variance(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    photometry: Photometry,
    instrument: InstrumentState,
    solution: Solution,
) -> FloatArray:
    """Return the variance of the superstar flats' shapes at the centers of detectors, mag^2, shape (n_exp, n_det).

    Parameters
    ----------
    survey, config, photometry
        Data and settings.
    instrument
        Flats.
    solution
        Model of the photometry.
    """
    e, observations = survey.data.exposures, photometry.observations
    found = shape_variance(
        solution.residuals.noisy.variance, photometry.inverse_variance,
        flat_of_observations(survey, solution.selection.photometric), instrument.superstar_shape, solution.residuals.sample,
        observations.x, observations.y, survey.size, triangular=config.superStarSubCcdTriangular, threads=survey.threads,
    )  # fmt: skip
    return np.where(e.filter[:, None] >= 0, found[e.epoch, np.maximum(e.filter, 0)], 0.0)


def _mirror(
    survey: Survey, config: FgcmFitCycleConfigBase, instrument: InstrumentState, solution: Solution
) -> FloatArray:
    """Return the chromaticity of the mirror."""
    if not config.fitMirrorChromaticity:
        return instrument.mirror_chromaticity
    e = survey.data.exposures
    color = split_color(survey, config, solution.means.magnitude)
    split = gray_by_color(survey, config, solution.residuals, solution.means)
    slope = np.full((survey.n_exp, 2), np.nan)
    for k, chosen in enumerate((color < split.edges[0], color > split.edges[1])):
        if chosen.any():
            of_band = solution.slopes.value[chosen & solution.selection.good_star].mean(axis=0)
            slope[:, k] = of_band[np.maximum(e.band, 0)]
    return fit_mirror_chromaticity(
        split.gray[:, [0, 2]], split.err[:, [0, 2]], slope,
        filter_index=e.filter, coating=e.coating, mjd=e.mjd, use=solution.selection.photometric,
        integrals=standard_integrals(survey), values=instrument.mirror_chromaticity,
    ).values  # fmt: skip


def _detectors(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    instrument: InstrumentState,
    solution: Solution,
    cycle: int,
) -> FloatArray:
    """Return the chromaticity of the detectors."""
    e = survey.data.exposures
    wanted = np.array(
        [b >= 0 and config.fitCcdChromaticityDict.get(e.bands[b], False) for b in e.filter_band], bool
    )
    if cycle < 1 or not wanted.any():
        return instrument.ccd_chromaticity
    known = np.where(solution.slopes.known, solution.slopes.value, np.nan)
    gray = fitted_residuals(survey, solution)
    sample = solution.residuals.sample & survey.of_exposure(solution.selection.photometric)
    return fit_detector_chromaticity(
        gray.gray, gray.variance, survey.of_segment(known),
        segment=survey.data.observations.segment, ec=survey.data.observations.ec, n_det=e.n_det, filter_of_exposure=e.filter, sample=sample,
        integrals=standard_integrals(survey), values=instrument.ccd_chromaticity, fit_filters=wanted,
    ).values  # fmt: skip
