"""Which exposures and nights are photometric."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.flags import ExposureFlag
from zeropoint.fgcm.terms.gray import ExposureGray
from zeropoint.fgcm.terms.groups import BoolArray, FloatArray
from zeropoint.fgcm.terms.histogram import NormalFit, fit_normal

__all__ = [
    "PhotometricCuts",
    "SelectionLimits",
    "calibratable_nights",
    "cuts_from_scatter",
    "exposure_flags",
    "initial_flags",
    "photometric_cuts",
]

#: Cuts of the next cycle are at least this far from zero, mag.
LEAST_CUT = 0.005

IntArray = npt.NDArray[np.int64]
FlagArray = npt.NDArray[np.int32]
IndexArray = npt.NDArray[np.integer]


@dataclass(frozen=True)
class SelectionLimits:
    """Limits of photometric exposures; arrays have the shape (n_band,).

    Parameters
    ----------
    gray_low, gray_high : float64
        Least and largest gray, mag (``expGrayPhotometricCutDict``, ``expGrayHighCutDict``).
    variance : float64
        Largest variance of the gray over the detectors, mag^2 (``expVarGrayPhotometricCutDict``).
    fwhm : float64
        Widest PSF, arcsec (``expFwhmCutDict``); infinite without a limit.
    min_star_per_exp
        Least number of good stars (``minStarPerExp``).
    """

    gray_low: FloatArray
    gray_high: FloatArray
    variance: FloatArray
    fwhm: FloatArray
    min_star_per_exp: int


def initial_flags(
    gray: FloatArray,
    n_stars: IntArray,
    band: IndexArray,
    psf_fwhm: FloatArray,
    *,
    min_star_per_exp: int,
    gray_cut: float,
    fwhm_cut: FloatArray,
) -> FlagArray:
    """Flag exposures by the residuals from the first means.

    Parameters
    ----------
    gray : float64, shape (n_exp,)
        Plain mean of the stars' gray, mag; NaN without stars.
    n_stars : int, shape (n_exp,)
        Good stars.
    band : int, shape (n_exp,)
        Index of the band; -1: none.
    psf_fwhm : float64, shape (n_exp,)
        Width of the PSF, arcsec; NaN if unknown.
    min_star_per_exp, gray_cut
        ``minStarPerExp``, ``expGrayInitialCut``.
    fwhm_cut : float64, shape (n_band,)
        Widest PSF of each band; infinite without a limit.
    """
    flags = _basic_flags(n_stars, band, psf_fwhm, min_star_per_exp, fwhm_cut)
    flags[gray < gray_cut] |= ExposureFlag.EXP_GRAY_TOO_NEGATIVE
    return flags


def exposure_flags(
    gray: ExposureGray, band: IndexArray, psf_fwhm: FloatArray, limits: SelectionLimits
) -> FlagArray:
    """Flag exposures that are not photometric.

    Parameters
    ----------
    gray
        Gray of the exposures.
    band : int, shape (n_exp,)
        Index of the band; -1: none.
    psf_fwhm : float64, shape (n_exp,)
        Width of the PSF, arcsec; NaN if unknown.
    limits
        Limits by band.

    Returns
    -------
    flags : int32, shape (n_exp,)
        Bits of `zeropoint.fgcm.flags.ExposureFlag`; 0 for photometric exposures. Those whose gray could not be measured,
        with stars on too few detectors, have TOO_FEW_STARS as well.
    """
    flags = _basic_flags(gray.n_stars, band, psf_fwhm, limits.min_star_per_exp, limits.fwhm)
    low, high, variance = (
        np.asarray(values)[band] for values in (limits.gray_low, limits.gray_high, limits.variance)
    )
    flags[(gray.n_stars > 0) & np.isnan(gray.gray)] |= ExposureFlag.TOO_FEW_STARS
    flags[gray.gray < low] |= ExposureFlag.EXP_GRAY_TOO_NEGATIVE
    flags[gray.gray > high] |= ExposureFlag.EXP_GRAY_TOO_POSITIVE
    flags[gray.variance > variance] |= ExposureFlag.VAR_GRAY_TOO_LARGE
    return flags


def _basic_flags(
    n_stars: IntArray, band: IndexArray, psf_fwhm: FloatArray, min_star_per_exp: int, fwhm_cut: FloatArray
) -> FlagArray:
    """Flag what does not need the gray."""
    flags = np.zeros(len(band), np.int32)
    flags[band < 0] |= ExposureFlag.BAND_NOT_IN_LUT
    flags[n_stars == 0] |= ExposureFlag.NO_STARS
    flags[(n_stars > 0) & (n_stars < min_star_per_exp)] |= ExposureFlag.TOO_FEW_STARS
    flags[psf_fwhm > np.asarray(fwhm_cut)[band]] |= ExposureFlag.BAD_FWHM
    return flags


def calibratable_nights(
    flags: npt.NDArray[np.integer],
    night: IndexArray,
    n_nights: int,
    in_fit_band: BoolArray,
    *,
    min_exp_per_night: int,
) -> tuple[FlagArray, BoolArray]:
    """Find the nights with enough photometric exposures for an atmosphere of their own.

    Parameters
    ----------
    flags : int, shape (n_exp,)
        Flags of the exposures.
    night : int, shape (n_exp,)
        Index of the night.
    n_nights
        Number of nights.
    in_fit_band : bool, shape (n_exp,)
        Whether the exposure's band takes part in the fit.
    min_exp_per_night
        ``minExpPerNight``.

    Returns
    -------
    flags : int32, shape (n_exp,)
        The flags, with TOO_FEW_EXP_ON_NIGHT for all exposures of the other nights (and of no others).
    calibratable : bool, shape (n_nights,)
        Nights with enough.
    """
    cleared = np.asarray(flags, np.int32) & ~np.int32(ExposureFlag.TOO_FEW_EXP_ON_NIGHT)
    counts = np.bincount(night[(cleared == 0) & in_fit_band], minlength=n_nights)
    calibratable = counts >= max(min_exp_per_night, 1)
    cleared[~calibratable[night]] |= ExposureFlag.TOO_FEW_EXP_ON_NIGHT
    return cleared, calibratable


@dataclass(frozen=True)
class PhotometricCuts:
    """Limits of the gray for the next cycle.

    Parameters
    ----------
    low, high : float64, shape (n_band,)
        ``expGrayPhotometricCutDict`` and ``expGrayHighCutDict``, mag.
    fits
        The distribution of each band's gray; its method is ``none`` where the old cuts stay.
    """

    low: FloatArray
    high: FloatArray
    fits: tuple[NormalFit, ...]


def photometric_cuts(
    gray: FloatArray,
    photometric: BoolArray,
    band: IndexArray,
    old_low: FloatArray,
    old_high: FloatArray,
    *,
    n_sigma: tuple[float, float] = (3.0, 4.0),
    step: float = 0.0025,
) -> PhotometricCuts:
    """Choose new limits from the distribution of the gray of photometric exposures.

    Parameters
    ----------
    gray : float64, shape (n_exp,)
        Gray of the exposures, mag.
    photometric : bool, shape (n_exp,)
        Photometric exposures with enough stars.
    band : int, shape (n_exp,)
        Index of the band.
    old_low, old_high : float64, shape (n_band,)
        Limits of this cycle: the new ones lie no farther than twice as far.
    n_sigma
        How many standard deviations from the mean the low and the high limit lie (``autoPhotometricCutNSig``,
        ``autoHighCutNSig``).
    step
        Limits are multiples of this, mag (``autoPhotometricCutStep``).
    """
    low, high = np.array(old_low, np.float64), np.array(old_high, np.float64)
    fits = []
    for b in range(len(low)):
        fit = fit_normal(gray[photometric & (band == b)])
        fits.append(fit)
        if fit.n and fit.sigma > 0:
            low[b], high[b] = _cuts(fit.mean, fit.sigma, (low[b], high[b]), n_sigma, step)
    return PhotometricCuts(low, high, tuple(fits))


def cuts_from_scatter(
    scatter: FloatArray,
    old_low: FloatArray,
    old_high: FloatArray,
    *,
    n_sigma: tuple[float, float] = (3.0, 4.0),
    step: float = 0.0025,
) -> tuple[FloatArray, FloatArray]:
    """Choose new limits from how well the magnitudes of reserve stars repeat.

    Parameters
    ----------
    scatter : float64, shape (n_band,)
        Repeatability of each band, mag; NaN: the old limits stay.
    old_low, old_high, n_sigma, step
        As for `photometric_cuts`.

    Returns
    -------
    low, high : float64, shape (n_band,)
        New limits, mag.
    """
    low, high = np.array(old_low, np.float64), np.array(old_high, np.float64)
    for b in np.flatnonzero(np.asarray(scatter) > 0):
        low[b], high[b] = _cuts(0.0, float(scatter[b]), (low[b], high[b]), n_sigma, step)
    return low, high


def _cuts(
    mean: float, sigma: float, old: tuple[float, float], n_sigma: tuple[float, float], step: float
) -> tuple[float, float]:
    """Return the limits of a distribution, rounded outward and kept within twice the old ones."""
    low = -np.ceil((n_sigma[0] * sigma - mean) / step) * step
    high = np.ceil((n_sigma[1] * sigma + mean) / step) * step
    # the limit nearest to zero comes last, should the two contradict each other
    return (
        float(min(max(low, 2.0 * old[0]), -LEAST_CUT)),
        float(max(min(high, 2.0 * old[1]), LEAST_CUT)),
    )
