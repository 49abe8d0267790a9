"""Gray residuals: what the model leaves of every observation, of every detector and of every exposure.

The gray of an observation is the mean magnitude of its star minus its own standard magnitude: negative under clouds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.terms import _kernels
from zeropoint.fgcm.terms.groups import BoolArray, FloatArray, group_sums, ratio
from zeropoint.fgcm.threads import finish, row_parts

__all__ = [
    "ColorSplitGray",
    "DetectorGray",
    "ExposureGray",
    "GrayResiduals",
    "color_split_gray",
    "detector_gray",
    "exposure_gray",
    "gray_residuals",
    "gray_sample",
    "gray_scatter",
]

#: Stars that a detector needs for a gray of its own.
MIN_STARS = 3
#: Detectors that an exposure needs for a gray of its own, of surveys with stars on as many.
MIN_DETECTORS = 3
#: Chi-square counts as more than the errors explain from as many of its own errors on.
_SIGNIFICANT = 3.0

SingleArray = npt.NDArray[np.float32]
IndexArray = npt.NDArray[np.integer]


@dataclass(frozen=True)
class GrayResiduals:
    """Gray of the observations.

    Parameters
    ----------
    gray : float32, shape (n_obs,)
        Mean magnitude of the star minus that of the observation; NaN where either is unknown.
    variance : float32, shape (n_obs,)
        Its variance, mag^2; NaN where unknown. Zero or less where the observation alone makes the mean.
    """

    gray: SingleArray
    variance: SingleArray


def gray_residuals(
    mstd: SingleArray,
    err: SingleArray,
    segment: IndexArray,
    mean: npt.NDArray[np.floating],
    mean_err: npt.NDArray[np.floating],
    member: BoolArray,
    *,
    threads: int = 1,
) -> GrayResiduals:
    """Compare observations with the means of their stars.

    Parameters
    ----------
    mstd, err : float32, shape (n_obs,)
        Standard magnitudes, and errors of the measurements (those whose inverse squares weighted the means).
    segment : int, shape (n_obs,)
        Star-band of each observation: ``star * n_band + band``.
    mean, mean_err : float, shape (n_star, n_band)
        Mean magnitudes and ``(sum of weights)^-1/2``, NaN where there are none. Reference magnitudes against which to compare
        do as well, with no members.
    member : bool, shape (n_obs,)
        Whether an observation is part of its star's mean.
    threads
        Threads; the result has the same bits for any number.

    Notes
    -----
    The variance is ``err^2 - mean_err^2`` for members, whose own error pulls the mean along, and ``err^2 + mean_err^2`` for
    others.
    """
    gray, variance = np.empty(len(mstd), np.float32), np.empty(len(mstd), np.float32)
    magnitude, error = np.ascontiguousarray(mstd, np.float32), np.ascontiguousarray(err, np.float32)
    owner, parts = segment.astype(np.int32, copy=False), row_parts(len(mstd))
    means = np.asarray(mean, np.float64).ravel(), np.square(np.asarray(mean_err, np.float64)).ravel()

    def run(k: int) -> None:
        rows = slice(parts[k], parts[k + 1])
        _kernels.residuals(
            magnitude[rows], error[rows], owner[rows], *means, member[rows], gray[rows], variance[rows]
        )

    finish(run, len(parts) - 1, threads)
    return GrayResiduals(gray, variance)


def gray_sample(residuals: GrayResiduals, good: BoolArray, max_err: float) -> BoolArray:
    """Choose the observations that gray values are made of.

    Parameters
    ----------
    residuals
        Gray of the observations.
    good : bool, shape (n_obs,)
        Good observations of good stars that are not in reserve, in exposures good and bad.
    max_err
        Largest error, mag (``ccdGrayMaxStarErr``). The error of the residual itself is compared, not its square.
    """
    v = residuals.variance
    return np.asarray(good & (v > 0) & (v < np.float32(max_err) ** 2) & np.isfinite(residuals.gray))


@dataclass(frozen=True)
class DetectorGray:
    """Gray of each detector in each exposure; arrays of shape (n_exp, n_det), NaN where it was not measured.

    Parameters
    ----------
    gray, err, rms : float64
        Weighted mean, its error and the weighted scatter of the stars, mag.
    delta_std : float64
        Weighted mean of the chromatic corrections of the stars, mag.
    n_stars : int64
        Good stars, also where they are too few.
    n_tilings : float64
        Mean number of good observations of these stars in the band.
    coefficients : float64, shape (n_exp, n_det, order + 1, order + 1), optional
        Field in flux over each detector, ``[y, x]``, whose value at the center is ``10^(-0.4 gray)``; NaN where the gray was
        not measured. Only where a form with a field was asked for.
    """

    gray: FloatArray
    err: FloatArray
    rms: FloatArray
    delta_std: FloatArray
    n_stars: npt.NDArray[np.int64]
    n_tilings: FloatArray
    coefficients: FloatArray | None = None


def detector_gray(
    residuals: GrayResiduals,
    ec: IndexArray,
    shape: tuple[int, int],
    sample: BoolArray,
    *,
    delta_std: SingleArray | None = None,
    n_good: SingleArray | None = None,
) -> DetectorGray:
    """Average the gray of the stars on each detector of each exposure.

    Parameters
    ----------
    residuals
        Gray of the observations.
    ec : int, shape (n_obs,)
        ``exposure * n_det + detector`` of each.
    shape
        Number of exposures and of detectors.
    sample : bool, shape (n_obs,)
        Observations to average (`gray_sample`).
    delta_std : float32, shape (n_obs,), optional
        Chromatic correction of each observation, mag.
    n_good : float32, shape (n_obs,), optional
        Good observations of its star in its band.

    Notes
    -----
    Weights are inverse variances; the error is (sum of weights)^-1/2. At least three stars are needed.
    """
    sums = _sums(residuals, np.where(sample, ec, -1), shape[0] * shape[1], delta_std, n_good)
    usable = np.where(sums.n >= MIN_STARS, 1.0, np.nan)
    parts = (sums.mean, sums.err, sums.rms, sums.delta_std, sums.n_good)
    gray, err, rms, delta, tilings = ((part * usable).reshape(shape) for part in parts)
    return DetectorGray(gray, err, rms, delta, sums.n.reshape(shape), tilings)


@dataclass(frozen=True)
class _Sums:
    """Averages by group, shape (n_groups,): NaN without stars, or where nothing was given to average."""

    n: npt.NDArray[np.int64]
    mean: FloatArray
    err: FloatArray
    rms: FloatArray
    delta_std: FloatArray
    n_good: FloatArray


def _sums(
    residuals: GrayResiduals,
    group: IndexArray,
    n_groups: int,
    delta_std: SingleArray | None,
    n_good: SingleArray | None = None,
) -> _Sums:
    """Average by group; group -1 is left out."""
    out = np.zeros((n_groups, 7))
    given = [np.asarray(v, np.float32) if v is not None else residuals.gray for v in (delta_std, n_good)]
    _kernels.weighted_sums(
        group.astype(np.int32, copy=False), residuals.gray, residuals.variance, *given, out
    )
    n, origin, total, first, square, delta, tilings = out.T
    offset = ratio(first, total)
    unknown = np.full(n_groups, np.nan)
    return _Sums(
        n=n.astype(np.int64),
        mean=origin + offset,
        err=np.sqrt(ratio(1.0, total)),
        rms=np.sqrt(np.maximum(ratio(square, total) - offset**2, 0.0)),
        delta_std=unknown if delta_std is None else ratio(delta, total),
        n_good=unknown if n_good is None else ratio(tilings, n),
    )


@dataclass(frozen=True)
class ExposureGray:
    """Gray of each exposure; arrays of shape (n_exp,), NaN where it was not measured.

    Parameters
    ----------
    gray, err, rms : float64
        Weighted mean of the detectors, its error, and their weighted scatter, mag.
    n_stars : int64
        Good stars on all detectors, also where the gray could not be measured.
    n_detectors : int64
        Detectors used.
    n_tilings, delta_std : float64
        Weighted means of the detectors' values.
    """

    gray: FloatArray
    err: FloatArray
    rms: FloatArray
    n_stars: npt.NDArray[np.int64]
    n_detectors: npt.NDArray[np.int64]
    n_tilings: FloatArray
    delta_std: FloatArray

    @property
    def variance(self) -> FloatArray:
        """Scatter of the detectors, squared: what ``expVarGrayPhotometricCutDict`` limits."""
        return np.asarray(np.square(self.rms))


def exposure_gray(detectors: DetectorGray, *, min_star_per_ccd: int, max_ccd_gray_err: float) -> ExposureGray:
    """Average the gray of the detectors of each exposure.

    Parameters
    ----------
    detectors
        Gray of the detectors.
    min_star_per_ccd
        Stars that a detector needs to take part (``minStarPerCcd``).
    max_ccd_gray_err
        Largest error of its gray, mag (``maxCcdGrayErr``).

    Notes
    -----
    At least three detectors are needed, or one where fewer than three have any gray. The error is (sum of weights)^-1/2;
    where detectors scatter significantly more than their errors, it is as much larger.
    """
    use = (detectors.n_stars >= min_star_per_ccd) & (detectors.err > 0) & (detectors.err < max_ccd_gray_err)
    least = MIN_DETECTORS if np.count_nonzero(use.any(axis=0)) >= MIN_DETECTORS else 1
    n = use.sum(axis=1)
    weight = np.where(use & (n >= least)[:, None], ratio(1.0, np.square(detectors.err)), 0.0)
    total = weight.sum(axis=1)

    def average(values: FloatArray) -> FloatArray:
        return ratio(np.where(weight > 0, weight * values, 0.0).sum(axis=1), total)

    gray = average(detectors.gray)
    rms = np.sqrt(average(np.square(detectors.gray - gray[:, None])))
    err = np.sqrt(ratio(1.0, total))
    more = np.maximum(n - 1, 1)
    square = np.square(rms / err) / more
    scattered = square > 1.0 + _SIGNIFICANT * np.sqrt(2.0 / more)
    return ExposureGray(
        gray=gray,
        err=np.where(scattered, err * np.sqrt(square), err),
        rms=rms,
        n_stars=detectors.n_stars.sum(axis=1),
        n_detectors=n,
        n_tilings=average(detectors.n_tilings),
        delta_std=average(detectors.delta_std),
    )


def gray_scatter(
    detectors: DetectorGray, band: npt.NDArray[np.integer], n_band: int, photometric: BoolArray
) -> FloatArray:
    """Return how much the gray of clear exposures scatters beside its errors, mag^2, shape (n_band,).

    Parameters
    ----------
    detectors
        Measured gray.
    band : int, shape (n_exp,)
        Band of each exposure, -1: none.
    n_band
        Number of bands.
    photometric : bool, shape (n_exp,)
        Exposures whose observations make the stars' means.

    Notes
    -----
    The estimate of moments of DerSimonian and Laird (1986): that with which the sum of squared pulls is their number. The model's
    own errors are in it, as far as they differ between exposures.
    """
    gray, variance = detectors.gray, np.square(detectors.err)
    use = photometric[:, None] & np.isfinite(gray) & (variance > 0) & (band >= 0)[:, None]
    weight = np.where(use, ratio(1.0, variance), 0.0).sum(axis=1)
    squares = np.where(use, ratio(np.square(gray), variance) - 1.0, 0.0).sum(axis=1)
    by_band = np.where(band >= 0, band, n_band)
    total, excess = (group_sums(each, by_band, n_band + 1)[:-1] for each in (weight, squares))
    return np.where(total > 0, np.maximum(excess, 0.0) / np.where(total > 0, total, 1.0), 0.0)


@dataclass(frozen=True)
class ColorSplitGray:
    """Gray of each exposure from blue, middling and red stars; arrays of shape (n_exp, 3), NaN where stars were too few.

    Parameters
    ----------
    gray, err, delta_std : float64
        Weighted mean, its error, and the weighted mean of the chromatic corrections, mag.
    n_stars : int64
        Stars.
    edges
        Colors that divide the stars, mag: the quartiles; NaN where no color is known.
    """

    gray: FloatArray
    err: FloatArray
    delta_std: FloatArray
    n_stars: npt.NDArray[np.int64]
    edges: tuple[float, float]


def color_split_gray(
    residuals: GrayResiduals,
    exposure: IndexArray,
    n_exp: int,
    sample: BoolArray,
    star: IndexArray,
    color: npt.NDArray[np.floating],
    *,
    min_star_per_exp: int,
    delta_std: SingleArray | None = None,
) -> ColorSplitGray:
    """Average the gray of each exposure for the bluest quarter of the stars, the middle half and the reddest quarter.

    Parameters
    ----------
    residuals
        Gray of the observations.
    exposure, star : int, shape (n_obs,)
        Exposure and star of each.
    n_exp
        Number of exposures.
    sample : bool, shape (n_obs,)
        Observations to average (`gray_sample`).
    color : float, shape (n_star,)
        Color of the stars (of ``colorSplitBands``), mag; NaN where unknown. The quarters are of the stars of the sample.
    min_star_per_exp
        Stars that an exposure needs altogether (``minStarPerExp``); each part needs a quarter of it.
    delta_std : float32, shape (n_obs,), optional
        Chromatic correction of each observation, mag.
    """
    known, owner = np.isfinite(color), np.asarray(star, np.int32)
    seen, group = np.zeros(len(color), bool), np.empty(len(owner), np.int32)
    _kernels.seen_stars(sample, owner, seen)
    if not (known & seen).any():
        empty = np.full((n_exp, 3), np.nan)
        return ColorSplitGray(empty, empty, empty, np.zeros((n_exp, 3), np.int64), (np.nan, np.nan))
    low, high = (float(q) for q in np.quantile(np.asarray(color)[known & seen], (0.25, 0.75)))
    part = np.where(known, (color >= low).astype(np.int32) + (color > high), -1).astype(np.int32)
    _kernels.color_groups(sample, owner, np.asarray(exposure, np.int32), part, group)
    sums = _sums(residuals, group, 3 * n_exp, delta_std)
    usable = np.where(sums.n >= max(0.25 * min_star_per_exp, 1.0), 1.0, np.nan)
    gray, err, delta = (
        (values * usable).reshape(n_exp, 3) for values in (sums.mean, sums.err, sums.delta_std)
    )
    return ColorSplitGray(gray, err, delta, sums.n.reshape(n_exp, 3), (low, high))
