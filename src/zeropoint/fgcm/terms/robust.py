"""Means of observations by group that outliers do not move, with errors that know how much the observations scatter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.terms._kernels_robust import robust_means
from zeropoint.fgcm.terms.groups import BoolArray, FloatArray

__all__ = ["RobustMeans", "robust_group_means"]

IndexArray = npt.NDArray[np.integer]


@dataclass(frozen=True)
class RobustMeans:
    """Robust means of groups.

    Parameters
    ----------
    mean : float64, shape (n_groups,)
        Weighted means of the values that are not outliers; NaN for groups without values.
    weight : float64, shape (n_groups,)
        Sums of the weights, whose inverse is the variance of a mean; 0 for groups without values, or of outliers only.
    excess : float64, shape (n_groups,)
        Variance that values have beside that of their errors; 0 where their scatter does not show any.
    outlier : bool, shape (n,)
        Values that are far from their group's mean.
    """

    mean: FloatArray
    weight: FloatArray
    excess: FloatArray
    outlier: BoolArray


def robust_group_means(
    values: npt.NDArray[np.floating],
    variance: npt.NDArray[np.floating],
    group: IndexArray,
    n_groups: int,
    use: BoolArray,
    *,
    n_sigma: float,
    with_excess: bool = True,
    min_count: int = 3,
) -> RobustMeans:
    """Average values by group without those that are far from the others.

    Parameters
    ----------
    values, variance : float, shape (n,)
        Values and their variances, taken in single precision.
    group : int, shape (n,)
        Group of each; negative: none.
    n_groups
        Number of groups.
    use : bool, shape (n,)
        Which values take part; those that are not finite or whose variance is not positive do not.
    n_sigma
        How many of its own errors, with the group's excess in them, a value may be from the mean.
    with_excess
        Whether groups may scatter more than the errors say. Without, the errors are taken at their word.
    min_count
        Groups with fewer values have no outliers.

    Notes
    -----
    From the median of a group on, three times: the excess of variance with which the pulls, limited to 2.5, scatter as normal
    ones do (zero unless they scatter more by three of the scatter's errors), then the mean, with inverse variances as weights,
    of values with pulls up to ``n_sigma``. Limits are symmetric, so that a mean of normal noise is not biased; with one value in
    fifty far away the excess changes little, since limited pulls count 6.25 at most and outliers then do not count.
    """
    known = use & np.isfinite(values) & (variance > 0) & (np.asarray(group) >= 0)
    owner = np.where(known, group, -1).astype(np.int32)
    count = np.bincount(owner[known], minlength=n_groups)
    first = np.concatenate([[0], np.cumsum(count)])
    mean, weight, excess = np.full(n_groups, np.nan), np.zeros(n_groups), np.zeros(n_groups)
    outlier = np.zeros(len(owner), bool)
    robust_means(
        np.ascontiguousarray(values, np.float32),
        np.ascontiguousarray(variance, np.float32),
        owner,
        first,
        float(n_sigma),
        bool(with_excess),
        mean,
        weight,
        excess,
        outlier,
    )
    if (count < min_count).any():
        few = np.append(count < min_count, True)
        outlier &= ~few[owner]
    return RobustMeans(mean, weight, excess, outlier)
