"""The error of the calibration that bright reserve stars show beyond what is known: one number per band."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.terms._kernels_normal import median_chi2

__all__ = ["SigmaCal", "calibration_variance", "fit_sigma_cal"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]

#: Values tried between the ends of the range.
_STEPS = 50
#: Observations of a star besides those of its mean, and stars, that are needed.
_MIN_OBS, _MIN_STARS = 3, 10


@dataclass(frozen=True)
class SigmaCal:
    """Calibration error of each band.

    Parameters
    ----------
    sigma : float64, shape (n_band,)
        Magnitudes; the lower end of the range where there are too few stars.
    chi2 : float64, shape (n_band, n_steps)
        Median reduced chi-square over that expected, at each value tried; NaN where there are too few stars.
    tried : float64, shape (n_steps,)
        Values, magnitudes.
    n_stars : int64, shape (n_band,)
        Stars.
    """

    sigma: FloatArray
    chi2: FloatArray
    tried: FloatArray
    n_stars: npt.NDArray[np.int64]


def calibration_variance(
    err: Floats,
    *,
    sigma0_phot: float,
    sig_fgcm: FloatArray,
    band: npt.NDArray[np.integer],
    tilings: FloatArray,
    gray_err: FloatArray,
    ec: npt.NDArray[np.integer],
) -> npt.NDArray[np.float32]:
    """Return the variance of calibrated observations without sigmaCal, float32, shape (n_obs,).

    Parameters
    ----------
    err : shape (n_obs,)
        Errors with the floor ``sigma0Phot`` included, which is taken off again.
    sigma0_phot
        The floor, mag.
    sig_fgcm : shape (n_band,)
        Scatter of single observations, mag.
    band, ec : shape (n_obs,)
        Band, and ``exposure * n_det + detector``.
    tilings, gray_err : shape (n_exp, n_det)
        Mean number of observations of the detector's stars, and error of its gray; NaN gives NaN.
    """
    t, g = tilings.ravel()[ec], gray_err.ravel()[ec]
    own = np.maximum(np.square(np.asarray(err, np.float64)) - sigma0_phot**2, 0.0)
    scatter = np.square(np.asarray(sig_fgcm)[band]) / np.maximum(t - 1.0, 1.0)
    return np.asarray(own + scatter + np.square(g), np.float32)


def fit_sigma_cal(
    residual: Floats,
    variance: Floats,
    segment: npt.NDArray[np.integer],
    use: BoolArray,
    mean: Floats,
    *,
    limits: tuple[float, float],
    percentile: tuple[float, float],
) -> SigmaCal:
    """Find the calibration error for which bright reserve stars scatter as they should.

    Parameters
    ----------
    residual, variance : shape (n_obs,)
        Gray-corrected observation minus mean of its star, and its variance without sigmaCal; NaN: left out.
    segment : shape (n_obs,)
        Star-band: ``star * n_band + band``.
    use : shape (n_obs,)
        Observations of reserve stars in photometric exposures.
    mean : shape (n_star, n_band)
        Mean magnitudes.
    limits
        Range of the result (``sigmaCalRange``).
    percentile
        Stars to use by brightness, as parts of all (``sigmaCalFitPercentile``).

    Notes
    -----
    The median of chi2/(n - 1) of few observations is less than 1 although nothing is wrong: each star's is divided by
    (1 - 2/(9 (n - 1)))^3, that of a chi-square.
    """
    n_star, n_band = mean.shape
    tried = np.linspace(limits[0], limits[1], _STEPS if limits[1] > limits[0] else 1)
    rows = np.flatnonzero(use & np.isfinite(residual) & np.isfinite(variance))
    count = np.bincount(segment[rows], minlength=n_star * n_band).reshape(mean.shape)
    chosen = np.zeros(mean.shape, bool)
    for b in range(n_band):
        stars = np.flatnonzero((count[:, b] >= _MIN_OBS) & np.isfinite(mean[:, b]))
        order = stars[np.argsort(mean[stars, b], kind="stable")]
        low, high = (int(part * len(order)) for part in percentile)
        chosen[order[low:high], b] = True
    rows = rows[chosen.ravel()[segment[rows]]]
    keys, place = np.unique(segment[rows], return_inverse=True)
    n = np.bincount(place, minlength=len(keys))
    square, var = np.square(residual[rows].astype(np.float64)), variance[rows].astype(np.float64)
    expected = (n - 1.0) * (1.0 - 2.0 / (9.0 * np.maximum(n - 1.0, 1.0))) ** 3
    chi2 = np.full((n_band, len(tried)), np.nan)
    n_stars = np.bincount(keys % n_band, minlength=n_band)
    median_chi2(
        square,
        var,
        place.astype(np.int64, copy=False),
        expected,
        (keys % n_band).astype(np.int64),
        tried,
        chi2,
    )
    chi2[n_stars < _MIN_STARS] = np.nan
    best = np.full(n_band, tried[0])
    for b in np.flatnonzero(np.isfinite(chi2).all(axis=1) & (chi2 > 0).all(axis=1)).tolist():
        best[b] = tried[np.argmin(np.abs(np.log10(chi2[b])))]
    return SigmaCal(best, chi2, tried, n_stars)
