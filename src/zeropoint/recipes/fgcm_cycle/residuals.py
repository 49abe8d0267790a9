"""What the model leaves: standard magnitudes, means of stars, and the gray of observations, detectors and exposures."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.fit.sed_calibration import SedCalibration
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.model.model import ModelTables
from zeropoint.fgcm.model.observations import FitObservations
from zeropoint.fgcm.model.sed import SedSettings, fill_slopes, sed_slopes
from zeropoint.fgcm.model.sweep import References, standard_magnitudes, sweep
from zeropoint.fgcm.terms.gray import (
    ColorSplitGray,
    DetectorGray,
    ExposureGray,
    GrayResiduals,
    color_split_gray,
    detector_gray,
    exposure_gray,
    gray_residuals,
    gray_sample,
)
from zeropoint.fgcm.terms.robust import robust_group_means
from zeropoint.recipes.fgcm_cycle.selection import Selection, good_observations, weights
from zeropoint.recipes.fgcm_cycle.survey import BoolArray, FloatArray, SingleArray, Survey

__all__ = [
    "Means",
    "Photometry",
    "Residuals",
    "Slopes",
    "mean_magnitudes",
    "measure_residuals",
    "star_slopes",
]


@dataclass(frozen=True)
class Photometry:
    """Magnitudes and errors of a cycle: as measured, with the corrections that the fit takes as given.

    Parameters
    ----------
    observations
        With corrected magnitudes.
    error
        Error of each, float32, mag: measured or modeled, with the floor.
    inverse_variance
        1 / error^2, 0 for observations that cannot be used.
    superstar
        What the shape of the superstar flat has added, shape (n_obs,), or 0.
    """

    observations: FitObservations
    error: SingleArray
    inverse_variance: SingleArray
    superstar: SingleArray | float = 0.0


@dataclass(frozen=True)
class Slopes:
    """Slopes of the stars' spectra.

    Parameters
    ----------
    raw
        F' as colors tell, 1/Angstrom, shape (n_star, n_band); the band's median where a star's colors do not say.
    known
        Where they do.
    value
        The same, calibrated by the fit: what observations are standardized with.
    """

    raw: FloatArray
    known: BoolArray
    value: FloatArray

    @classmethod
    def of(cls, survey: Survey, raw: FloatArray, known: BoolArray, sed: SedCalibration) -> Slopes:
        """Return slopes and what a calibration makes of them."""
        return cls(raw, known, sed.apply(raw, survey.model.band_i10_std))

    @property
    def median(self) -> FloatArray:
        """Median of the known ones by band, not calibrated; 0 where there are none."""
        return _medians(self.raw, self.known)

    @property
    def median_value(self) -> FloatArray:
        """The same, calibrated."""
        return _medians(self.value, self.known)


@dataclass(frozen=True)
class Means:
    """Mean magnitudes of the stars, good and reserve.

    Parameters
    ----------
    magnitude, err
        Shape (n_star, n_band), NaN where there are none.
    chi2, n_used
        Of the observations they are from.
    member
        These observations.
    """

    magnitude: FloatArray
    err: FloatArray
    chi2: float
    n_used: int
    member: BoolArray


def mean_magnitudes(
    survey: Survey,
    photometry: Photometry,
    selection: Selection,
    slopes: FloatArray,
    tables: ModelTables,
    references: References | None = None,
    *,
    all_exposures: bool = False,
) -> Means:
    """Return the means of the good observations of good and reserve stars, in all bands.

    Parameters
    ----------
    survey, photometry, selection
        Data and flags.
    slopes
        Of the spectra, shape (n_star, n_band).
    tables
        The model.
    references
        Reference magnitudes that take part.
    all_exposures
        Whether all exposures count, photometric or not.
    """
    member = good_observations(survey, selection, reserve=True, all_exposures=all_exposures)
    weight = weights(survey, photometry.inverse_variance, member, fit_only=False)
    swept = sweep(
        photometry.observations, weight, slopes, references, tables, gradient=False, threads=survey.threads
    )
    with np.errstate(divide="ignore"):
        err = np.where(np.isfinite(swept.mean), 1.0 / np.sqrt(swept.weight_sum), np.nan)
    return Means(swept.mean, err, swept.chi2, swept.n_used, member)


def _medians(values: FloatArray, known: BoolArray) -> FloatArray:
    return np.array([np.median(v[k]) if k.any() else 0.0 for v, k in zip(values.T, known.T, strict=True)])


def star_slopes(
    survey: Survey, config: FgcmFitCycleConfigBase, mean: FloatArray, sed: SedCalibration
) -> Slopes:
    """Return the slopes of spectra that magnitudes tell.

    Parameters
    ----------
    survey, config
        Data and settings.
    mean
        Magnitudes, shape (n_star, n_band), NaN where unknown.
    sed
        Calibration of the slopes.
    """
    terms = SedSettings.from_config(config.sedboundaryterms, config.sedterms)
    given = sed_slopes(mean, survey.data.exposures.bands, survey.model.band_lambda_std, terms)
    catalog = survey.data.stars.catalog_slope
    if catalog is not None:
        given = np.where(np.isnan(given), catalog, given)
    return Slopes.of(survey, *fill_slopes(given), sed)


@dataclass(frozen=True)
class Residuals:
    """Residuals of a model.

    Parameters
    ----------
    standard, delta_std
        Standard magnitudes and their chromatic parts, shape (n_obs,).
    gray
        Of the observations.
    noisy
        The same with the excess of scatter of their detectors in the variances.
    sample
        Observations that the gray of detectors is from.
    n_clipped
        How many more it would be from but for being far from the others of their detector.
    detector, exposure
        Gray of detectors and exposures.
    excess
        Variance of each detector's stars beside that of their errors, mag^2, shape (n_exp, n_det).
    """

    standard: SingleArray
    delta_std: SingleArray
    gray: GrayResiduals
    noisy: GrayResiduals
    sample: BoolArray
    n_clipped: int
    detector: DetectorGray
    exposure: ExposureGray
    excess: FloatArray


def measure_residuals(
    survey: Survey,
    photometry: Photometry,
    selection: Selection,
    config: FgcmFitCycleConfigBase,
    slopes: FloatArray,
    tables: ModelTables,
    means: Means,
) -> Residuals:
    """Return the residuals of all observations, and the gray of all detectors and exposures.

    Parameters
    ----------
    survey, photometry, selection, config
        Data, flags and settings.
    slopes
        Of the spectra, shape (n_star, n_band).
    tables
        The model.
    means
        Of the stars.
    """
    e = survey.data.exposures
    standard, delta_std = standard_magnitudes(photometry.observations, slopes, tables, threads=survey.threads)
    segment = photometry.observations.segment
    gray = gray_residuals(standard, photometry.error, segment, means.magnitude, means.err, means.member)
    good = good_observations(survey, selection, all_exposures=True)
    sample = gray_sample(gray, good, config.ccdGrayMaxStarErr)
    tilings = survey.of_segment(survey.per_segment(means.member).astype(np.float32))
    ec, shape = photometry.observations.ec, (len(e), e.n_det)
    robust = robust_group_means(
        gray.gray, gray.variance, ec, len(e) * e.n_det, sample, n_sigma=config.focalPlaneSigmaClip
    )
    sample &= ~robust.outlier
    noisy = gray
    if robust.excess.any():
        noisy = replace(gray, variance=gray.variance + robust.excess.astype(np.float32)[ec])
    detector = detector_gray(noisy, ec, shape, sample, delta_std=delta_std, n_good=tilings)
    exposure = exposure_gray(
        detector, min_star_per_ccd=config.minStarPerCcd, max_ccd_gray_err=config.maxCcdGrayErr
    )
    return Residuals(
        standard, delta_std, gray, noisy, sample, int(robust.outlier.sum()), detector, exposure, robust.excess.reshape(shape)
    )  # fmt: skip


def gray_by_color(
    survey: Survey, config: FgcmFitCycleConfigBase, residuals: Residuals, means: Means
) -> ColorSplitGray:
    """Return the gray of exposures by the color of the stars.

    Parameters
    ----------
    survey, config
        Data and settings.
    residuals, means
        Of a cycle.
    """
    return color_split_gray(
        residuals.noisy,
        survey.exposure,
        survey.n_exp,
        residuals.sample,
        survey.data.observations.star,
        split_color(survey, config, means.magnitude),
        min_star_per_exp=config.minStarPerExp,
        delta_std=residuals.delta_std,
    )


def split_color(survey: Survey, config: FgcmFitCycleConfigBase, mean: FloatArray) -> npt.NDArray[np.float64]:
    """Return the stars' colors in ``colorSplitBands``, NaN where unknown.

    Parameters
    ----------
    survey, config
        Data and settings.
    mean
        Magnitudes, shape (n_star, n_band).
    """
    if not config.colorSplitBands:
        return np.full(len(mean), np.nan)
    first, second = (survey.data.exposures.bands.index(band) for band in config.colorSplitBands)
    return np.asarray(mean[:, first] - mean[:, second])
