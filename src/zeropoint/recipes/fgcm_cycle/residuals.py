"""What the model leaves: standard magnitudes, means of stars, and the gray of observations, detectors and exposures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.fit.sed_calibration import SedCalibration
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.model.model import ModelTables
from zeropoint.fgcm.model.observations import FitObservations
from zeropoint.fgcm.model.sed import SedSettings, fill_slopes, sed_slopes
from zeropoint.fgcm.model.sweep import References, RelativeSlopes, standard_magnitudes, star_means
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
from zeropoint.fgcm.terms.robust import RobustMeans, robust_group_means
from zeropoint.recipes.fgcm_cycle.selection import Selection, good_observations
from zeropoint.recipes.fgcm_cycle.survey import BoolArray, FloatArray, SingleArray, Survey

__all__ = [
    "Means",
    "Photometry",
    "Residuals",
    "Slopes",
    "error_of_mean",
    "mean_magnitudes",
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
    band_i10_std
        I10 of the standard passbands, Angstrom, shape (n_band,).
    """

    raw: FloatArray
    known: BoolArray
    value: FloatArray
    band_i10_std: FloatArray

    @cached_property
    def relative(self) -> RelativeSlopes:
        """The values as sweeps take them."""
        return RelativeSlopes.of(self.value, self.band_i10_std)

    @classmethod
    def of(cls, survey: Survey, raw: FloatArray, known: BoolArray, sed: SedCalibration) -> Slopes:
        """Return slopes and what a calibration makes of them."""
        i10_std = survey.model.band_i10_std
        return cls(raw, known, sed.apply(raw, i10_std), i10_std)

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
    member
        The observations they are from.
    """

    magnitude: FloatArray
    err: FloatArray
    member: BoolArray


def mean_magnitudes(
    survey: Survey,
    photometry: Photometry,
    member: BoolArray,
    slopes: RelativeSlopes,
    tables: ModelTables,
    references: References | None = None,
) -> Means:
    """Return the means of some observations, in all bands.

    Parameters
    ----------
    survey, photometry
        Data.
    member
        Observations that count.
    slopes
        Of the spectra.
    tables
        The model.
    references
        Reference magnitudes that take part.
    """
    mean, weight = star_means(
        photometry.observations, photometry.inverse_variance, member, slopes, references, tables,
        threads=survey.threads,
    )  # fmt: skip
    return Means(mean, error_of_mean(weight), member)


def error_of_mean(weight: FloatArray) -> FloatArray:
    """Return the errors of means from the sums of their weights; NaN where there are none.

    Parameters
    ----------
    weight
        Sums of inverse variances.
    """
    with np.errstate(divide="ignore"):
        return np.where(weight > 0, 1.0 / np.sqrt(weight), np.nan)


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
    """Residuals of a model, each computed when it is asked for.

    Parameters
    ----------
    survey, photometry, selection, config
        Data, flags and settings.
    slopes
        Of the spectra.
    tables
        The model.
    means
        Of the stars.
    """

    survey: Survey
    photometry: Photometry
    selection: Selection
    config: FgcmFitCycleConfigBase
    slopes: RelativeSlopes
    tables: ModelTables
    means: Means

    @cached_property
    def _standardized(self) -> tuple[SingleArray, SingleArray]:
        return standard_magnitudes(
            self.photometry.observations, self.slopes, self.tables, threads=self.survey.threads
        )

    @property
    def standard(self) -> SingleArray:
        """Standard magnitudes, shape (n_obs,)."""
        return self._standardized[0]

    @property
    def delta_std(self) -> SingleArray:
        """Chromatic parts of the standard magnitudes."""
        return self._standardized[1]

    @cached_property
    def gray(self) -> GrayResiduals:
        """Gray of the observations."""
        means = self.means
        return gray_residuals(
            self.standard, self.photometry.error, self.photometry.observations.segment, means.magnitude, means.err, means.member,
            threads=self.survey.threads,
        )  # fmt: skip

    @cached_property
    def _averaged(self) -> tuple[BoolArray, RobustMeans]:
        """Observations of good stars, and their means by detector."""
        survey, config = self.survey, self.config
        good = good_observations(survey, self.selection, all_exposures=True)
        sample = gray_sample(self.gray, good, config.ccdGrayMaxStarErr)
        robust = robust_group_means(
            self.gray.gray, self.gray.variance, survey.detectors, len(survey.detectors), sample,
            n_sigma=config.focalPlaneSigmaClip, threads=survey.threads,
        )  # fmt: skip
        return sample & ~robust.outlier, robust

    @property
    def sample(self) -> BoolArray:
        """Observations that the gray of detectors is from."""
        return self._averaged[0]

    @property
    def n_clipped(self) -> int:
        """How many more it would be from but for being far from the others of their detector."""
        return int(np.count_nonzero(self._averaged[1].outlier))

    @property
    def excess(self) -> FloatArray:
        """Variance of each detector's stars beside that of their errors, mag^2, shape (n_exp, n_det)."""
        return self._averaged[1].excess.reshape(self.survey.n_exp, -1)

    @cached_property
    def noisy(self) -> GrayResiduals:
        """Gray of the observations with the excess of scatter of their detectors in the variances."""
        if not self.excess.any():
            return self.gray
        added = self.survey.of_detector(self.excess.astype(np.float32))
        return replace(self.gray, variance=self.gray.variance + added)

    @cached_property
    def detector(self) -> DetectorGray:
        """Gray of the detectors."""
        survey = self.survey
        tilings = survey.of_segment(survey.per_segment(self.means.member).astype(np.float32))
        return detector_gray(
            self.noisy, survey.data.observations.ec, self.excess.shape, self.sample,
            delta_std=self.delta_std, n_good=tilings,
        )  # fmt: skip

    @cached_property
    def exposure(self) -> ExposureGray:
        """Gray of the exposures."""
        config = self.config
        return exposure_gray(
            self.detector, min_star_per_ccd=config.minStarPerCcd, max_ccd_gray_err=config.maxCcdGrayErr
        )


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
