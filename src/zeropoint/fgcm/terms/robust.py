"""Means of observations by group that outliers do not move, with errors that know how much the observations scatter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.terms._kernels_robust import mark_outliers, places_by_group, put_in_groups, robust_means
from zeropoint.fgcm.terms.groups import BoolArray, FloatArray
from zeropoint.fgcm.threads import finish, row_parts

__all__ = ["Groups", "RobustMeans", "robust_group_means"]

IndexArray = npt.NDArray[np.integer]
SingleArray = npt.NDArray[np.float32]


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


@dataclass(frozen=True)
class Groups:
    """Rows by the group that they belong to.

    Parameters
    ----------
    group : int32, shape (n,)
        Group of each row; negative: none.
    first : int64, shape (n_groups + 1,)
        Where the groups begin among rows sorted by group.
    place : int32, shape (n,)
        Place of each row among them; -1: none.
    """

    group: npt.NDArray[np.int32]
    first: npt.NDArray[np.int64]
    place: npt.NDArray[np.int32]

    @classmethod
    def of(cls, group: IndexArray, n_groups: int) -> Groups:
        """Return the groups of rows.

        Parameters
        ----------
        group : int, shape (n,)
            Group of each; negative: none.
        n_groups
            Number of groups.
        """
        owner = np.ascontiguousarray(group, np.int32)
        # those without a group are counted first
        count = np.bincount(np.maximum(owner, -1) + 1, minlength=n_groups + 1)
        first = np.cumsum(count) - count[0]
        place = np.empty(len(owner), np.int32)
        places_by_group(owner, first[:-1].copy(), place)
        return cls(owner, first, place)

    def __len__(self) -> int:
        return len(self.first) - 1

    def bounds(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return rows and groups at which parts begin, and their numbers: parts have about equal numbers of rows."""
        rows = row_parts(len(self.group))
        inner = np.searchsorted(self.first, rows[1:-1] * self.first[-1] // max(len(self.group), 1))
        return rows, np.concatenate([[0], inner, [len(self)]]).astype(np.int64)

    def put(
        self, values: SingleArray, variance: SingleArray, use: BoolArray, *, threads: int = 1
    ) -> npt.NDArray[np.float32]:
        """Return values and their variances by group, shape (n_known, 2): a variance of 0 says that there is none.

        Parameters
        ----------
        values, variance : float32, shape (n,)
            What is not finite, or without a positive variance, is left out.
        use : bool, shape (n,)
            Which take part.
        threads
            Threads.
        """
        pairs, rows = np.empty((int(self.first[-1]), 2), np.float32), row_parts(len(self.group))

        def put(k: int) -> None:
            put_in_groups(values, variance, use, self.place, rows[k], rows[k + 1], pairs)

        finish(put, len(rows) - 1, threads)
        return pairs


def robust_group_means(
    values: npt.NDArray[np.floating],
    variance: npt.NDArray[np.floating],
    group: IndexArray | Groups,
    n_groups: int,
    use: BoolArray,
    *,
    n_sigma: float,
    with_excess: bool = True,
    min_count: int = 3,
    threads: int = 1,
) -> RobustMeans:
    """Average values by group without those that are far from the others.

    Parameters
    ----------
    values, variance : float, shape (n,)
        Values and their variances, taken in single precision.
    group : int, shape (n,)
        Group of each; negative: none. Or what `Groups.of` has made of them.
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
    threads
        Threads; the result has the same bits for any number.

    Notes
    -----
    From the median of a group on, three times: the excess of variance with which the pulls, limited to 2.5, scatter as normal
    ones do (zero unless they scatter more by three of the scatter's errors), then the mean, with inverse variances as weights,
    of values with pulls up to ``n_sigma``. Limits are symmetric, so that a mean of normal noise is not biased; with one value in
    fifty far away the excess changes little, since limited pulls count 6.25 at most and outliers then do not count.
    """
    if not isinstance(group, Groups):
        group = Groups.of(group, n_groups)
    mean, weight, excess = np.full(n_groups, np.nan), np.zeros(n_groups), np.zeros(n_groups)
    count, outlier = np.zeros(n_groups, np.int64), np.empty(len(values), bool)
    given = np.ascontiguousarray(values, np.float32), np.ascontiguousarray(variance, np.float32), use
    pairs, limit = group.put(*given, threads=threads), float(n_sigma)
    rows, groups = group.bounds()

    def average(k: int) -> None:
        robust_means(
            pairs,
            group.first,
            groups[k],
            groups[k + 1],
            limit,
            bool(with_excess),
            count,
            mean,
            weight,
            excess,
        )

    def mark(k: int) -> None:
        mark_outliers(*given, group.group, rows[k], rows[k + 1], limit, judged, excess, outlier)

    finish(average, len(groups) - 1, threads)
    judged = np.where(count >= min_count, mean, np.nan)
    finish(mark, len(rows) - 1, threads)
    return RobustMeans(mean, weight, excess, outlier)
