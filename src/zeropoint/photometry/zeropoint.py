"""The zero point of an image: mode of a histogram, iterative clipping, weighted mean with an honest error."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr

__all__ = ["ZeropointFit", "fit_zeropoint", "histogram_start"]

_log = logging.getLogger(__name__)
N_BINS = 20
#: Magnitudes closer than this are identical but for rounding.
_IDENTICAL = 1e-9
#: Full width at half maximum of a Gaussian in sigmas, as the start of the clipping has it.
_FWHM = 2.3
#: Below this number of stars (two a bin) the peak of the histogram counts only if most of them are in it.
_MIN_STARS_PER_HISTOGRAM = 2 * N_BINS
#: From this number of stars on, the formal error follows a scatter smaller than the quoted errors.
_MIN_STARS_TO_SHRINK = 40


@dataclass(frozen=True)
class ZeropointFit:
    """A zero point.

    Parameters
    ----------
    zp
        AB magnitude of one count.
    sigma
        Its one-sigma error.
    n_good
        Stars used.
    good : bool, shape (n,)
        Which.
    scatter
        Robust scatter (1.4826 MAD) of the stars used, mag.
    excess
        Scatter beyond the quoted errors, mag.
    weights : float64, shape (n,)
        Weights of the mean, 1/mag^2: probability of not being an outlier over the total variance; 0 where not
        used.
    """

    zp: float
    sigma: float
    n_good: int
    good: np.ndarray
    scatter: float
    excess: float
    weights: np.ndarray


def _at_quarters(ordered: np.ndarray) -> tuple[float, float]:
    n = len(ordered)
    return (
        float(ordered[min(int(0.25 * n + 0.5), n - 1)]),
        float(ordered[min(int(0.75 * n + 0.5), n - 1)]),
    )


def histogram_start(ordered: np.ndarray) -> tuple[float, float, float]:
    """Return (centre, sigma, default largest sigma) from a 20-bin histogram of sorted values.

    If the highest bins are neighbours, the centre is their middle and sigma comes from where the histogram falls
    to half of its peak; else from median and quartiles.  So, too, for few stars unless the peak holds more than
    half of them: a handful that scatter widely always have a clump somewhere, and clipping would never leave it.
    """
    if ordered[-1] - ordered[0] < _IDENTICAL:  # a histogram cannot resolve rounding
        return float(np.median(ordered)), 0.0, 0.0
    heights, edges = np.histogram(ordered, bins=N_BINS)
    highest = np.flatnonzero(heights == heights.max())
    if highest[-1] - highest[0] + 1 == len(highest):
        centre = 0.5 * float(edges[highest[0]] + edges[highest[-1] + 1])
        half = 0.5 * float(heights[highest].mean())
        left, right = int(highest[0]), int(highest[-1])
        while left > 0 and heights[left] > half:
            left -= 1
        while right < N_BINS - 1 and heights[right] > half:
            right += 1
        below = np.concatenate([[0], np.cumsum(heights)])
        if len(ordered) < _MIN_STARS_PER_HISTOGRAM and 2 * (below[right + 1] - below[left]) <= len(ordered):
            return _quartile_start(ordered)
        q1 = float(ordered[min(int(below[left]), len(ordered) - 1)])
        q3 = float(ordered[min(int(below[right]), len(ordered) - 1)])
        if q1 == q3:
            q1, q3 = _at_quarters(ordered)
        sigma = (q3 - q1) / _FWHM
        return centre, sigma, 2.0 * sigma
    return _quartile_start(ordered)


def _quartile_start(ordered: np.ndarray) -> tuple[float, float, float]:
    q1, q3 = _at_quarters(ordered)
    return float(np.median(ordered)), (q3 - q1) / _FWHM, float(ordered[-1] - ordered[0])


def _clip(
    d: np.ndarray,
    error: np.ndarray,
    *,
    sigma_max: float | None,
    n_sigma: float,
    use_median: bool,
    n_iter: int,
) -> np.ndarray:
    """Return the stars within n_sigma of the iterated centre (all of them if that leaves none)."""
    centre, sigma, widest = histogram_start(np.sort(d))
    limit = widest if sigma_max is None else sigma_max
    good = np.ones(len(d), bool)
    n_before = -1
    for iteration in range(n_iter):
        if iteration > 0:
            chosen = d[good]
            weight = 1.0 / error[good] ** 2
            centre = float(np.median(chosen) if use_median else (chosen * weight).sum() / weight.sum())
            q1, q3 = _at_quarters(np.sort(chosen))
            sigma = 0.7413 * (q3 - q1)
        # rounding must not turn identical values into outliers
        reach = max(n_sigma * min(sigma, limit), _IDENTICAL)
        good = np.abs(d - centre) < reach
        n_good = int(good.sum())
        if n_good == 0:
            _log.debug("Zero-point clipping left no star; all %d are used.", len(d))
            return np.ones(len(d), bool)
        if n_good == n_before:
            break
        n_before = n_good
    return good


def _excess_variance(square: np.ndarray, variance: np.ndarray, membership: np.ndarray, cut: float) -> float:
    """Return the variance common to all stars of highest (restricted) likelihood.

    With ``w = 1 / (variance + x)`` the condition is ``sum(w^2 r^2) = cut sum(w (1 - h))``, where ``h`` is the
    star's share in the mean and ``cut`` the second moment that clipping leaves.  With few stars, whose scatter can
    be small by accident, half a sigma of the sum is added, which keeps the error on the safe side.
    """
    generosity = 0.5 if len(square) < _MIN_STARS_TO_SHRINK else 0.0

    def surplus(x: float) -> float:
        weight = 1.0 / (variance + x)
        share = membership * weight
        leverage = share / share.sum()
        lenient = generosity * float(np.sqrt(2.0 * (share * share).sum()))
        return float((share * (weight * square - cut * (1.0 - leverage))).sum()) + lenient

    if surplus(0.0) <= 0.0:
        return 0.0
    # over the inverse variance the surplus is almost a straight line, so false position (Illinois) takes few steps
    typical = float(np.median(variance))
    largest = 4.0 * float(square.max()) + 1e-12
    low, high = 1.0 / (typical + largest), 1.0 / typical
    at_low, at_high = (surplus(1.0 / t - typical) / t for t in (low, high))
    if at_low >= 0.0:  # two or three stars
        return largest
    below, t = 0, high
    for _ in range(60):
        before, t = t, (low * at_high - high * at_low) / (at_high - at_low)
        value = surplus(1.0 / t - typical) / t
        if abs(t - before) < 1e-10 * t:
            break
        if value > 0.0:
            high, at_high, at_low = t, value, at_low * (0.5 if below > 0 else 1.0)
            below = 1
        else:
            low, at_low, at_high = t, value, at_high * (0.5 if below < 0 else 1.0)
            below = -1
    return 1.0 / t - typical


def _membership(u: np.ndarray, n_sigma: float) -> np.ndarray:
    """Return each star's probability of belonging to the Gaussian core, from its deviation in sigmas.

    The density of outliers on each side is that seen between ``n_sigma`` and twice that, so that stars of a
    one-sided tail which lie inside of the limit do not pull the mean.
    """
    core = max(float((np.abs(u) < n_sigma).sum()), 1.0)
    beyond = core * (ndtr(2.0 * n_sigma) - ndtr(n_sigma))
    density = [
        max(float(((side * u > n_sigma) & (side * u < 2.0 * n_sigma)).sum()) - beyond, 0.0) / n_sigma
        for side in (-1.0, 1.0)
    ]
    gauss = core * _normal_density(u)
    return np.asarray(gauss / (gauss + np.where(u < 0, density[0], density[1]) + 1e-300))


def _weighted_mean(
    d: np.ndarray, variance: np.ndarray, membership: np.ndarray, zp: float, cut: float
) -> tuple[float, float]:
    """Return the mean weighted with known plus excess variance, and that excess, which depend on each other."""
    extra = 0.0
    for _ in range(10):
        extra = _excess_variance((d - zp) ** 2, variance, membership, cut) if len(d) > 1 else 0.0
        weight = membership / (variance + extra)
        new = float((weight * d).sum() / weight.sum())
        done, zp = abs(new - zp) < 1e-7, new
        if done:
            break
    return zp, extra


def fit_zeropoint(
    difference: np.ndarray,
    error: np.ndarray,
    *,
    sigma_max: float | None = 0.25,
    n_sigma: float = 3.0,
    use_median: bool = True,
    n_iter: int = 20,
) -> ZeropointFit:
    """Fit the zero point of reference minus instrumental magnitudes.

    Parameters
    ----------
    difference, error : float64, shape (n,)
        Differences (mag) and their errors, source and reference in quadrature; all finite, n >= 1.
    sigma_max
        Largest sigma used for clipping (mag); None takes it from the first histogram.
    n_sigma
        Clipping limit.
    use_median
        Clip about the median, else about the mean weighted with 1 / error^2.
    n_iter
        Largest number of clipping rounds.

    Returns
    -------
    ZeropointFit

    Notes
    -----
    After the clipping, a scatter common to all stars is added in quadrature so that chi-square is that of a
    Gaussian cut at ``n_sigma``; the weighted mean and its error use the sum.  Stars are then judged by their own
    total error, until the selection stays the same.
    """
    d = np.asarray(difference, np.float64)
    if d.size == 0:
        raise ValueError("A zero point needs at least one star.")
    variance = np.maximum(np.asarray(error, np.float64), 1e-4) ** 2
    good = _clip(
        d, np.sqrt(variance), sigma_max=sigma_max, n_sigma=n_sigma, use_median=use_median, n_iter=n_iter
    )
    # second moment of a unit Gaussian that is cut at n_sigma
    cut = 1.0 - 2.0 * n_sigma * _normal_density(n_sigma) / (2.0 * ndtr(n_sigma) - 1.0)
    zp = float(np.median(d[good]))
    widest = n_sigma * (np.inf if sigma_max is None else sigma_max)
    q1, q3 = _at_quarters(np.sort(d[good]))
    # start generously: the scatter of all stars is at least the excess; it then falls to what is needed
    extra = (0.7413 * (q3 - q1)) ** 2
    before, member = np.inf, np.ones(len(d))
    for _ in range(30):
        # every star is judged by its own error: one limit for all would cut the faint ones' distribution
        keep = (d - zp) ** 2 <= np.minimum(n_sigma**2 * (variance + extra), widest**2)
        if keep.sum() < min(3, len(d)):
            break
        good = keep
        member = _membership((d - zp) / np.sqrt(variance + extra), n_sigma)
        zp, extra = _weighted_mean(d[good], variance[good], member[good], zp, cut)
        done, before = abs(zp - before) < 1e-6, zp
        if done:
            break
    n = int(good.sum())
    sigma = _error_of_mean(d[good] - zp, variance[good] + extra, member[good], extra, cut)
    scatter = float(1.4826 * np.median(np.abs(d[good] - np.median(d[good]))))
    weights = np.where(good, member / (variance + extra), 0.0)
    return ZeropointFit(zp, sigma, n, good, scatter, float(np.sqrt(extra)), weights)


def _error_of_mean(
    residual: np.ndarray, variance: np.ndarray, membership: np.ndarray, extra: float, cut: float
) -> float:
    """Return the error of the weighted mean, matched to the residuals and their number."""
    n, weight = len(residual), membership / variance
    formal = float(weight.sum() ** -0.5)
    if n == 1:
        return formal
    if n < _MIN_STARS_TO_SHRINK:
        # a few stars constrain the excess poorly: take the scatter of the mean itself if it is larger
        share = np.minimum(weight / weight.sum(), 0.9)
        sandwich = float(np.sqrt(np.sum((share * residual / (1.0 - share)) ** 2)))
        student = float(np.sqrt((n - 1) / (n - 3))) if n > 3 and extra > 0.0 else 1.0
        return max(formal * student, sandwich)
    if extra == 0.0:
        chi_square = float((weight * residual**2).sum() / membership.sum())
        return formal * max(float(np.sqrt(chi_square / (cut * (1.0 - 1.0 / n)))), 0.5)
    return formal


def _normal_density(u: Any) -> Any:
    return np.exp(-0.5 * np.square(u)) / np.sqrt(2.0 * np.pi)
