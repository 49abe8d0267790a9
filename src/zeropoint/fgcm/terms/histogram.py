"""Mean and width of a distribution with tails: a normal curve through its histogram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.terms.groups import MAD_TO_SIGMA, FloatArray

__all__ = ["NormalFit", "fit_normal"]

#: Values that a histogram needs: below, the median and the median absolute deviation are less noisy than a curve.
MIN_VALUES = 100
_ITERATIONS = 50
_CONVERGED = 1e-8
#: Half the range of the histogram, in robust standard deviations.
_RANGE = 6.0
_QUARTILES_TO_SIGMA = 1.349


@dataclass(frozen=True)
class NormalFit:
    """A normal distribution fitted to values.

    Parameters
    ----------
    mean, sigma
        Its mean and standard deviation; NaN without values.
    n
        Number of values.
    method
        ``histogram``; ``median`` where the values were too few for a histogram, or the curve did not converge: then these are
        the median and 1.4826 median absolute deviations; ``none`` without values.
    """

    mean: float
    sigma: float
    n: int
    method: str


def fit_normal(values: npt.ArrayLike, *, min_values: int = MIN_VALUES) -> NormalFit:
    """Fit a normal curve to the histogram of values.

    Parameters
    ----------
    values : float
        Values; those that are not finite are left out.
    min_values
        Values that a histogram needs.

    Notes
    -----
    The bins are 2 (interquartile range) n^(-1/3) wide (Freedman & Diaconis 1981); their counts weigh equally, so that the core
    decides and tails hardly matter.
    """
    x = np.asarray(values, np.float64).ravel()
    x = x[np.isfinite(x)]
    if len(x) == 0:
        return NormalFit(np.nan, np.nan, 0, "none")
    q1, median, q3 = np.percentile(x, [25.0, 50.0, 75.0])
    robust = NormalFit(float(median), float(MAD_TO_SIGMA * np.median(np.abs(x - median))), len(x), "median")
    width = 2.0 * (q3 - q1) * len(x) ** (-1.0 / 3.0)
    if len(x) < min_values or width <= 0:
        return robust
    sigma = (q3 - q1) / _QUARTILES_TO_SIGMA
    n_half = int(np.ceil(_RANGE * sigma / width))
    edges = median + width * np.arange(-n_half, n_half + 1)
    counts = np.histogram(x, edges)[0].astype(np.float64)
    fitted = _fit_curve(0.5 * (edges[1:] + edges[:-1]), counts, float(median), float(sigma))
    return robust if fitted is None else NormalFit(fitted[0], fitted[1], len(x), "histogram")


def _fit_curve(
    centers: FloatArray, counts: FloatArray, mean: float, sigma: float
) -> tuple[float, float] | None:
    """Fit height, mean and sigma by Gauss-Newton steps, halved until they help; None without convergence."""
    # in units of the first guess, so that all three are of order one
    t = (centers - mean) / sigma
    p = np.array([counts.max(), 0.0, 1.0])

    def residual(q: FloatArray) -> FloatArray:
        return np.asarray(counts - q[0] * np.exp(-0.5 * ((t - q[1]) / q[2]) ** 2))

    r = residual(p)
    for _ in range(_ITERATIONS):
        z = (t - p[1]) / p[2]
        curve = np.exp(-0.5 * z * z)
        slope = np.stack([curve, p[0] * curve * z / p[2], p[0] * curve * z * z / p[2]], axis=1)
        step = np.linalg.lstsq(slope, r, rcond=None)[0]
        factor = 1.0
        while factor > _CONVERGED:
            trial = p + factor * step
            if trial[0] > 0 and trial[2] > 0 and (better := residual(trial)) @ better <= r @ r:
                break
            factor *= 0.5
        else:
            return None
        p, r = trial, better
        if np.all(np.abs(step[1:]) < 1e-4) and factor == 1.0:
            return mean + sigma * float(p[1]), sigma * float(p[2])
    return None
