"""Mean and width of a distribution with tails: a normal curve through its histogram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.terms._kernels_normal import fit_curve, quartiles_and_mad
from zeropoint.fgcm.terms.groups import MAD_TO_SIGMA

__all__ = ["NormalFit", "fit_normal"]

#: Values that a histogram needs: below, the median and the median absolute deviation are less noisy than a curve.
MIN_VALUES = 100
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
    x = np.ascontiguousarray(values, np.float64).ravel()
    x = x[np.isfinite(x)]
    if len(x) == 0:
        return NormalFit(np.nan, np.nan, 0, "none")
    q1, median, q3, mad = quartiles_and_mad(x, np.empty_like(x))
    robust = NormalFit(median, MAD_TO_SIGMA * mad, len(x), "median")
    width = 2.0 * (q3 - q1) * len(x) ** (-1.0 / 3.0)
    if len(x) < min_values or width <= 0:
        return robust
    sigma = (q3 - q1) / _QUARTILES_TO_SIGMA
    n_half = int(np.ceil(_RANGE * sigma / width))
    edges = median + width * np.arange(-n_half, n_half + 1)
    mean, sigma = fit_curve(x, edges, median, sigma)
    return robust if np.isnan(mean) else NormalFit(mean, sigma, len(x), "histogram")
