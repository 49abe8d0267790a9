"""Zeropoints of every detector in every exposure: the sum of the model's terms and of the gray, with flags and errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.flags import ExposureFlag, ZeropointFlag
from zeropoint.fgcm.terms.gray import DetectorGray, ExposureGray

__all__ = [
    "ChosenGray",
    "FlatTerms",
    "ZeropointTerms",
    "Zeropoints",
    "choose_gray",
    "chromatic_offset",
    "compute_zeropoints",
    "flat_terms",
    "zeropoint_flags",
]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
FlagArray = npt.NDArray[np.int32]

#: There is nothing to calibrate.
_HOPELESS = ExposureFlag.NO_STARS | ExposureFlag.BAND_NOT_IN_LUT | ExposureFlag.BAD_ZPFLAG


@dataclass(frozen=True)
class ChosenGray:
    """The gray that goes into each zeropoint; arrays of shape (n_exp, n_det).

    Parameters
    ----------
    gray, variance, tilings : float64
        Gray, mag, its variance, and the mean number of good observations of its stars; NaN where there is none.
    from_detector, from_exposure : bool
        Whether it is the detector's own, or that of the whole exposure; at most one of them.
    """

    gray: FloatArray
    variance: FloatArray
    tilings: FloatArray
    from_detector: BoolArray
    from_exposure: BoolArray


@dataclass(frozen=True)
class FlatTerms:
    """The superstar flat of each detector in each exposure.

    Parameters
    ----------
    center : float64, shape (n_exp, n_det)
        At the detector's center, mag, added.
    coefficients : float64, shape (n_exp, n_det, n_y, n_x)
        Chebyshev coefficients in flux, ``[y, x]``: the magnitude added is -2.5 log10 of the field.
    """

    center: FloatArray
    coefficients: FloatArray


@dataclass(frozen=True)
class ZeropointTerms:
    """What a zeropoint is the sum of, at the detectors' centers; shape (n_exp, n_det) or (n_exp, 1), NaN where unknown.

    Parameters
    ----------
    i0, i10
        Integral of the passband at the detector's own secant, and I1/I0, Angstrom.
    dust, filter_offset, aperture, background, reference
        Magnitudes that are added: mirror and optics; offset of the filter and absolute throughput; aperture correction; local
        background; offset to the reference stars (0 without ``useExposureReferenceOffset``).
    exptime
        Seconds.
    flat
        Superstar flat.
    """

    i0: FloatArray
    i10: FloatArray
    dust: FloatArray
    filter_offset: FloatArray
    aperture: FloatArray
    background: FloatArray
    reference: FloatArray
    exptime: FloatArray
    flat: FlatTerms


@dataclass(frozen=True)
class Zeropoints:
    """Zeropoints and what they are made of; shape (n_exp, n_det) unless said.

    Parameters
    ----------
    flag : int32
        `zeropoint.fgcm.flags.ZeropointFlag`; one of 1, 2, 4, 8 or none, 16 where there is no zeropoint, and 32 where that is
        for want of stars.
    zeropoint : float64
        ``m = -2.5 log10(instFlux) + zeropoint`` at the detector's center for a source without color (F' = 0), AB mag;
        ``delta_chromatic`` added, for the mean star. NaN only with flag 16, as are ``sigma`` and ``coefficients``.
    sigma : float64
        Its error relative to the band: posterior of the fit, and the gray's own, mag.
    gray : ChosenGray
        Gray.
    terms : ZeropointTerms
        The rest, as it was given.
    delta_chromatic : float64
        Mean chromatic correction of the stars, mag; where there are none, that of a star of the band's median slope.
    coefficients : float64, shape (n_exp, n_det, n_y, n_x)
        Zeropoint without flat in flux, ``[y, x]``: AB flux of one count.
    """

    flag: FlagArray
    zeropoint: FloatArray
    sigma: FloatArray
    gray: ChosenGray
    terms: ZeropointTerms
    delta_chromatic: FloatArray
    coefficients: FloatArray


def zeropoint_flags(exposure_flag: npt.NDArray[np.integer], in_fit_band: BoolArray) -> FlagArray:
    """Return the flag that an exposure gives to its zeropoints, int32, shape (n_exp,).

    Parameters
    ----------
    exposure_flag : shape (n_exp,)
        `zeropoint.fgcm.flags.ExposureFlag`.
    in_fit_band : shape (n_exp,)
        Whether its band is fitted.

    Notes
    -----
    ==========================================================  ====
    exposure                                                    flag
    ==========================================================  ====
    no stars, no band, or the zeropoint known to be bad         16
    else on a night with too few exposures                      8
    else with any other flag                                    4
    without flag, in a band of the fit, or in another           1, 2
    ==========================================================  ====
    """
    flag = np.asarray(exposure_flag).astype(np.int64)
    few = (flag & int(ExposureFlag.TOO_FEW_EXP_ON_NIGHT)) != 0
    values = np.select(
        [(flag & int(_HOPELESS)) != 0, few, flag != 0, in_fit_band],
        [
            ZeropointFlag.CANNOT_COMPUTE_ZEROPOINT,
            ZeropointFlag.NOFIT_NIGHT,
            ZeropointFlag.NON_PHOTOMETRIC_FIT_NIGHT,
            ZeropointFlag.PHOTOMETRIC_FIT_EXPOSURE,
        ],
        ZeropointFlag.PHOTOMETRIC_NOTFIT_EXPOSURE,
    )
    return np.asarray(values, np.int32)


def choose_gray(
    detectors: DetectorGray,
    exposures: ExposureGray,
    exposure_flags: FlagArray,
    *,
    min_star_per_ccd: int,
    max_ccd_gray_err: float,
    min_ccd_per_exp: int,
    exp_gray_err_recover_cut: float,
    exp_gray_recover_cut: float,
    exp_var_gray_cut: npt.ArrayLike,
) -> ChosenGray:
    """Choose the gray of each zeropoint: the detector's if it is well measured, else the exposure's if that is even.

    Parameters
    ----------
    detectors, exposures
        Measured gray.
    exposure_flags : shape (n_exp,)
        From `zeropoint_flags`. Nights without fit want the detector's own gray.
    min_star_per_ccd, max_ccd_gray_err
        What the detector's gray needs: stars, and at most this error (``minStarPerCcd``, ``maxCcdGrayErr``).
    min_ccd_per_exp, exp_gray_err_recover_cut, exp_gray_recover_cut, exp_var_gray_cut
        What the exposure's needs: detectors, at most this error, at least this gray, and at most this variance of its
        detectors, by exposure or for all (``minCcdPerExp``, ``expGrayErrRecoverCut``, ``expGrayRecoverCut``,
        ``expVarGrayPhotometricCutDict``).
    """
    own = (
        (detectors.n_stars >= min_star_per_ccd)
        & (detectors.err <= max_ccd_gray_err)
        & np.isfinite(detectors.gray)
    )
    cameras_detectors = detectors.gray.shape[1]
    even = (
        (exposures.n_detectors >= min(min_ccd_per_exp, cameras_detectors))
        & (exposures.err <= exp_gray_err_recover_cut)
        & (np.square(exposures.rms) <= np.asarray(exp_var_gray_cut, np.float64))
        & (exposures.gray >= exp_gray_recover_cut)
        & (exposure_flags != ZeropointFlag.NOFIT_NIGHT)
    )
    other = even[:, None] & ~own

    def choose(of_detector: FloatArray, of_exposure: FloatArray) -> FloatArray:
        return np.where(own, of_detector, np.where(other, of_exposure[:, None], np.nan))

    # the scatter of the other detectors says how far this one may be from their mean; the mean's own error is in it
    return ChosenGray(
        choose(detectors.gray, exposures.gray),
        choose(np.square(detectors.err), np.square(exposures.rms)),
        choose(detectors.n_tilings, exposures.n_tilings),
        own,
        other,
    )


def flat_terms(
    superstar: npt.ArrayLike,
    shape: npt.ArrayLike,
    epoch: npt.NDArray[np.integer],
    filter_index: npt.NDArray[np.integer],
) -> FlatTerms:
    """Return the superstar flat of each exposure.

    Parameters
    ----------
    superstar : shape (n_epoch, n_filter, n_det)
        Constants, mag, added.
    shape : shape (n_epoch, n_filter, n_det, n_y, n_x)
        Chebyshev coefficients in flux of the flat within each detector; 1, 0, 0... is none.
    epoch, filter_index : shape (n_exp,)
        Epoch and filter of each exposure; without a filter (-1) the flat is NaN.
    """
    constants = np.asarray(superstar, np.float64)[epoch, filter_index]
    within = np.asarray(shape, np.float64)[epoch, filter_index]
    unknown = np.asarray(filter_index) < 0
    constants[unknown] = np.nan
    within[unknown] = np.nan
    coefficients = within * 10.0 ** (-0.4 * constants[..., None, None])
    field = _at_center(coefficients)
    center = -2.5 * np.log10(field, out=np.full_like(field, np.nan), where=field > 0.0)
    return FlatTerms(center, coefficients)


def chromatic_offset(slope: npt.ArrayLike, i10: npt.ArrayLike, i10_std: npt.ArrayLike) -> FloatArray:
    """Return the chromatic correction 2.5 log10[(1 + F' I10)/(1 + F' I10std)] of a star, mag.

    Parameters
    ----------
    slope
        F' of the star, 1/Angstrom.
    i10, i10_std
        Of the exposure and of the standard passband, Angstrom.
    """
    f, a, b = (np.asarray(each, np.float64) for each in (slope, i10, i10_std))
    return np.asarray(2.5 * np.log10((1.0 + f * a) / (1.0 + f * b)))


def compute_zeropoints(
    terms: ZeropointTerms,
    gray: ChosenGray,
    exposure_flags: FlagArray,
    *,
    zp_ab: float,
    model_variance: FloatArray,
    delta_std: FloatArray,
    median_delta_std: FloatArray,
    gray_coefficients: FloatArray | None = None,
) -> Zeropoints:
    """Add up the zeropoints of every exposure and detector.

    Parameters
    ----------
    terms
        Of the model.
    gray
        From `choose_gray`.
    exposure_flags : shape (n_exp,)
        From `zeropoint_flags`.
    zp_ab
        Constant of the AB system, mag.
    model_variance : shape (n_exp, n_det)
        Posterior variance of the model's part of a zeropoint, without the gray's own error, mag^2.
    delta_std : shape (n_exp, n_det)
        Mean chromatic correction of the detector's stars, mag, NaN where there are none.
    median_delta_std : shape (n_exp, n_det)
        That of a star with the median slope of the band (`chromatic_offset`), mag.
    gray_coefficients : shape (n_exp, n_det, n_y, n_x), optional
        Gray over each detector in flux (`DetectorGray.coefficients`); None: constant.

    Returns
    -------
    zeropoints : Zeropoints
    """
    shape = gray.gray.shape
    flat = terms.flat.center
    magnitude = np.full(shape, np.nan)
    i0 = np.broadcast_to(terms.i0, shape)
    np.log10(i0, out=magnitude, where=i0 > 0.0)
    without_flat = (
        2.5 * magnitude
        + terms.dust
        + terms.filter_offset
        + terms.aperture
        + terms.background
        + terms.reference
        + 2.5 * np.log10(terms.exptime)
        + zp_ab
    )
    zeropoint = without_flat + flat + gray.gray
    sigma = np.sqrt(gray.variance + model_variance)
    flag = np.broadcast_to(exposure_flags[:, None], shape).copy()
    hopeless = flag == ZeropointFlag.CANNOT_COMPUTE_ZEROPOINT
    few = ~hopeless & ~np.isfinite(gray.gray)
    flag[few] |= ZeropointFlag.TOO_FEW_STARS_ON_CCD
    none = hopeless | ~np.isfinite(zeropoint) | ~np.isfinite(sigma)
    flag[none] |= ZeropointFlag.CANNOT_COMPUTE_ZEROPOINT
    coefficients = _zeropoint_coefficients(without_flat, gray, gray_coefficients)
    for array in (zeropoint, sigma, coefficients):
        array[none] = np.nan
    chromatic = np.where(np.isfinite(delta_std), delta_std, median_delta_std)
    return Zeropoints(flag, zeropoint, sigma, gray, terms, chromatic, coefficients)


def _zeropoint_coefficients(
    without_flat: FloatArray, gray: ChosenGray, gray_coefficients: FloatArray | None
) -> FloatArray:
    """Return the zeropoints without flat in flux; where the gray has no field of its own it is constant."""
    constant = 10.0 ** (-0.4 * (without_flat + gray.gray))
    if gray_coefficients is None:
        return constant[..., None, None]
    field = gray_coefficients * 10.0 ** (-0.4 * without_flat)[..., None, None]
    flat = ~gray.from_detector | ~np.isfinite(gray_coefficients).all(axis=(2, 3))
    field[flat] = 0.0
    field[flat, 0, 0] = constant[flat]
    return np.asarray(field)


def _at_center(coefficients: FloatArray) -> FloatArray:
    """Return Chebyshev fields at the center, where T_n is 1, 0, -1, 0, ..."""
    n_y, n_x = coefficients.shape[-2:]
    t_y, t_x = (np.array([1.0, 0.0, -1.0, 0.0])[np.arange(n) % 4] for n in (n_y, n_x))
    return np.einsum("...yx,y,x->...", coefficients, t_y, t_x)
