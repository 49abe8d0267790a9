"""Which stars fit the PSF too badly to shape it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import gammainccinv, stdtrit

from zeropoint.psf.spatial_solve import orthonormal_basis

__all__ = ["expected_chi2", "find_outliers"]

FloatArray = npt.NDArray[np.float64]

#: Median absolute deviation to standard deviation of a normal distribution.
MAD_TO_SIGMA = 1.4826
#: The variance of a standard deviation over that of one from the median absolute deviation, normal distribution.
MAD_EFFICIENCY = 0.37


def expected_chi2(basis: FloatArray, fit_weight: FloatArray, noise_to_flux: FloatArray) -> FloatArray:
    """Return the reduced chi-square that noise alone gives each star of the fit.

    A star pulls the model towards itself, and the other stars' noise pushes it away; for bright stars under
    capped weights the second is the larger by far.

    Parameters
    ----------
    basis : float64, shape (n, m)
        Monomials at the stars.
    fit_weight : float64, shape (n,)
        Weight of each star's profile in the fit: pixel weight times flux squared.
    noise_to_flux : float64, shape (n,)
        Standard deviation of a pixel over the star's flux.

    Returns
    -------
    expected : float64, shape (n,)
        With the hat matrix ``H_st = w_t K_s . K_t`` (K orthonormal under w) it is
        ``1 - 2 H_ss + sum_t H_st^2 r_t^2 / r_s^2``.
    """
    k, _ = orthonormal_basis(basis, fit_weight)
    hat = (k @ k.T) * fit_weight[None, :]
    power = noise_to_flux**2
    return np.asarray(1.0 - 2.0 * np.diag(hat) + (hat**2 @ power) / power)


def find_outliers(
    reduced_chi2: np.ndarray,
    dof: np.ndarray,
    signal_to_noise: np.ndarray,
    *,
    n_sigma: float,
    max_remove: float,
) -> npt.NDArray[np.bool_]:
    """Return True for stars whose chi-square is beyond what noise and their brightness explain.

    Parameters
    ----------
    reduced_chi2 : float, shape (n,)
        Chi-square per degree of freedom of each star under its true noise (photon noise of the star included),
        divided by `expected_chi2`.
    dof : int, shape (n,)
        Degrees of freedom.
    signal_to_noise : float, shape (n,)
        Signal-to-noise ratio of each star.
    n_sigma
        Threshold, as the equivalent number of standard deviations of a normal distribution.
    max_remove
        At most this fraction of the stars (if < 1) or this number is named, the worst first.

    Returns
    -------
    outlier : bool, shape (n,)

    Notes
    -----
    A PSF model that is wrong by a fixed fraction of the star adds ``c (S/N)^2`` to the reduced chi-square. Median
    and scatter of c come from the brightest third of the stars. The threshold of a star is
    ``isf(erfc(n_sigma/sqrt 2), dof)/dof`` times the median reduced chi-square of the others (if above 1), plus
    ``(median c + t sigma_c) (S/N)^2`` with t the quantile of Student's distribution that is as unlikely as
    ``n_sigma``: 4 standard deviations are 4.8 where 67 stars gave the scatter, 9 where 17 did. Non-finite values are
    outliers always.
    """
    n = len(reduced_chi2)
    outlier = np.zeros(n, np.bool_)
    if n == 0:
        return outlier
    finite = np.isfinite(reduced_chi2) & np.isfinite(signal_to_noise)
    if not finite.any():
        return ~outlier
    power = np.where(finite, signal_to_noise, 1.0) ** 2
    bright = finite & (signal_to_noise >= np.quantile(signal_to_noise[finite], 2.0 / 3.0))
    slope = (reduced_chi2[bright] - 1.0) / np.maximum(power[bright], 1e-30)
    median_slope = float(np.median(slope))
    sigma_slope = MAD_TO_SIGMA * float(np.median(np.abs(slope - median_slope)))
    unlikely = 0.5 * math.erfc(n_sigma / math.sqrt(2.0))
    freedom = max(MAD_EFFICIENCY * (int(bright.sum()) - 1), 1.0)
    allowed = max(0.0, median_slope - float(stdtrit(freedom, unlikely)) * sigma_slope)
    faint = finite & ~bright
    level = float(np.median(reduced_chi2[faint])) if faint.any() else 1.0
    dof = np.maximum(dof, 1)
    quantile = 2.0 * gammainccinv(0.5 * dof, math.erfc(n_sigma / math.sqrt(2.0))) / dof
    excess = np.where(finite, reduced_chi2, np.inf) / (quantile * max(1.0, level) + allowed * power)
    bad = np.flatnonzero(~(excess <= 1.0))
    limit = math.ceil(max_remove * n) if 0 < max_remove < 1 else int(max_remove)
    worst_first = bad[np.argsort(-excess[bad], kind="stable")]
    outlier[worst_first[:limit]] = True
    return outlier
