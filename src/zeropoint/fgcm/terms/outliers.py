"""Observations far from the others on their detector: blends, cosmic rays, variable stars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.terms._kernels_robust import (
    chosen_rows,
    mark_far_pulls,
    pull_medians,
    suspicious_rows,
)
from zeropoint.fgcm.terms.gray import GrayResiduals
from zeropoint.fgcm.terms.groups import MAD_TO_SIGMA, BoolArray
from zeropoint.fgcm.terms.robust import Groups, robust_group_means
from zeropoint.fgcm.threads import finish, row_parts

__all__ = [
    "StarResiduals",
    "detector_outliers",
    "robust_star_residuals",
    "superstar_outliers",
    "with_lost_stars",
]

#: Stars that a detector needs for outliers of its own; those of emptier detectors are judged together.
MIN_STARS = 5
#: One in so many pulls tells how pulls scatter.
_EVERY = 7
#: Pull, in units of their scatter, from which on the mean of a star is looked at.
_SUSPICIOUS = 4.0
#: Parts that flats are divided into, whatever the number of threads.
_PARTS = 16

IndexArray = npt.NDArray[np.integer]


@dataclass(frozen=True)
class StarResiduals:
    """Residuals from the means of stars, and what these are made of.

    Parameters
    ----------
    residuals
        Gray of the observations.
    mean_err : float, shape (n_segments,)
        Errors of the means, NaN where there are none.
    member : bool, shape (n_obs,)
        Observations that the means are made of.
    """

    residuals: GrayResiduals
    mean_err: npt.NDArray[np.floating]
    member: BoolArray


def with_lost_stars(
    given: StarResiduals,
    standard: npt.NDArray[np.floating],
    err: npt.NDArray[np.floating],
    segment: IndexArray,
    candidate: BoolArray,
) -> StarResiduals:
    """Give stars without a mean, as all their observations were taken for outliers, the mean of these.

    Parameters
    ----------
    given
        Residuals from means without outliers.
    standard, err : float32, shape (n_obs,)
        Standard magnitudes and their errors.
    segment : int, shape (n_obs,)
        Star-band of each.
    candidate : bool, shape (n_obs,)
        Good observations of photometric exposures, those flagged as outliers before included.

    Notes
    -----
    Two observations that contradict each other are both outliers. Without this they would have no mean to be judged by
    when they are judged anew, pass for good, and come back into every second fit.
    """
    mean_err = np.asarray(given.mean_err, np.float64)
    found = np.empty(len(candidate), np.int64)
    rows = found[: chosen_rows(candidate, np.asarray(segment, np.int32), np.isnan(mean_err), found)]
    rows = rows[np.isfinite(standard[rows]) & (err[rows] > 0)]
    if len(rows) == 0:
        return given
    _, first, of = np.unique(segment[rows], return_index=True, return_inverse=True)
    weight = err[rows].astype(np.float64) ** -2.0
    total = np.bincount(of, weight)
    # differences from one of the star's own keep their digits
    magnitude = standard[rows].astype(np.float64)
    magnitude -= magnitude[first][of]
    mean = np.bincount(of, weight * magnitude) / total
    gray, variance = given.residuals.gray.copy(), given.residuals.variance.copy()
    gray[rows] = mean[of] - magnitude
    variance[rows] = 1.0 / weight - 1.0 / total[of]
    mean_err, member = mean_err.copy(), given.member.copy()
    mean_err[segment[rows]] = total[of] ** -0.5
    member[rows] = True
    return StarResiduals(GrayResiduals(gray, variance), mean_err, member)


def robust_star_residuals(
    residuals: GrayResiduals,
    segment: IndexArray,
    mean_err: npt.NDArray[np.floating],
    member: BoolArray,
    candidate: BoolArray,
) -> GrayResiduals:
    """Compare observations with means of their stars that outliers have not moved.

    Parameters
    ----------
    residuals
        Gray of the observations.
    segment : int, shape (n_obs,)
        Star-band of each, ascending.
    mean_err : float, shape (n_segments,)
        Errors of the means, NaN where there are none.
    member : bool, shape (n_obs,)
        Observations that the means are made of.
    candidate : bool, shape (n_obs,)
        Observations that the new means may be made of: good ones of photometric exposures, those flagged before included.

    Returns
    -------
    residuals : GrayResiduals
        The same for stars none of whose observations is suspicious. For the others a mean without outliers has taken the
        place of the mean: else one outlier among seven observations would make outliers of the other six.
    """
    gray, variance = residuals.gray, residuals.variance
    some = slice(None, None, _EVERY)
    known = candidate[some] & (variance[some] > 0) & np.isfinite(gray[some])
    square = np.square(gray[some][known]) / variance[some][known]
    scale = max(MAD_TO_SIGMA * float(np.sqrt(np.median(square))), 1.0) if len(square) else 1.0
    n_segments, found = len(mean_err), np.empty(len(gray), np.int64)
    limit = np.float32((_SUSPICIOUS * scale) ** 2)
    rows = found[: suspicious_rows(gray, variance, candidate, np.asarray(segment, np.int32), limit, found)]
    if len(rows) == 0:
        return residuals
    of = segment[rows]
    square_err = np.square(np.asarray(mean_err, np.float64))[of]
    own = variance[rows] + np.where(member[rows], square_err, -square_err)
    means = robust_group_means(
        gray[rows], own, of, n_segments, candidate[rows], n_sigma=_SUSPICIOUS * scale, with_excess=False
    )
    known = means.weight[of] > 0
    rows, of, own = rows[known], of[known], own[known]
    part = candidate[rows] & ~means.outlier[known]
    gray, variance = gray.copy(), variance.copy()
    gray[rows] -= means.mean[of].astype(np.float32)
    variance[rows] = own + np.where(part, -1.0, 1.0) / means.weight[of]
    return GrayResiduals(gray, variance)


def detector_outliers(
    residuals: GrayResiduals,
    detectors: Groups,
    n_det: int,
    good: BoolArray,
    *,
    sigma_clip: float,
    threads: int = 1,
) -> BoolArray:
    """Find observations far from the others of their exposure and detector.

    Parameters
    ----------
    residuals
        Gray of the observations; or against reference magnitudes, for FOCALPLANE_OUTLIER_REF.
    detectors
        Observations by ``exposure * n_det + detector``.
    n_det
        Number of detectors.
    good : bool, shape (n_obs,)
        Good observations, those flagged as outliers before included.
    sigma_clip
        ``focalPlaneSigmaClip``.
    threads
        Threads; the result has the same bits for any number.

    Returns
    -------
    outlier : bool, shape (n_obs,)
        Whether it is one; False for those not judged.

    Notes
    -----
    Residuals from the detector's mean are judged in units of their own errors, to which the detector's excess of scatter is
    added: so a bright star that is off by ten of its errors is found among faint ones that scatter as much, under clouds
    too, whose gray is many errors of a bright star and few of a faint one. Detectors with fewer than five stars are judged
    together, each exposure by itself.
    """
    n, group = len(detectors), detectors
    few = np.bincount(detectors.group[good], minlength=n) < MIN_STARS
    if few.any():
        together = np.where(few, n + np.arange(n) // n_det, np.arange(n)).astype(np.int32)
        group = Groups.of(together[detectors.group], n + n // n_det)
    means = robust_group_means(
        residuals.gray, residuals.variance, group, len(group), good, n_sigma=sigma_clip, threads=threads
    )
    return means.outlier


def superstar_outliers(
    residuals: GrayResiduals,
    detectors: Groups,
    flat: IndexArray,
    n_flats: int,
    good: BoolArray,
    *,
    sigma_clip: float,
    min_count: int = 3,
    threads: int = 1,
) -> BoolArray:
    """Find observations far from the others of their superstar flat (an epoch, filter and detector).

    Parameters
    ----------
    residuals
        Gray of the observations.
    detectors
        Observations by ``exposure * n_det + detector``.
    flat : int, shape (n_exp * n_det,)
        Flat of each of these (`zeropoint.fgcm.terms.superstar.flat_index`); -1: none.
    n_flats
        Number of flats.
    good : bool, shape (n_obs,)
        Good observations of photometric exposures, those flagged as outliers before included.
    sigma_clip
        ``superStarSigmaClip``.
    min_count
        Flats with fewer observations have no outliers.
    threads
        Threads; the result has the same bits for any number.

    Returns
    -------
    outlier : bool, shape (n_obs,)
        Whether it is one; False for those not judged.

    Notes
    -----
    Residuals are judged in units of their own errors: so a bright star that is off by ten of its errors is found among faint
    ones that scatter as much. In exposures that were taken for photometric and are not, bright stars are outliers of the flat
    all together: clouds that are not found yet then weigh less.
    """
    given, owner = (residuals.gray, residuals.variance, good), np.asarray(flat, np.int32)
    pairs = detectors.put(*given, threads=threads)
    member = np.argsort(owner, kind="stable")
    start = np.searchsorted(owner[member], np.arange(n_flats + 1))
    median, mad = np.zeros((2, n_flats), np.float32)
    count, outlier = np.zeros(n_flats, np.int64), np.empty(len(good), bool)
    rows, parts = row_parts(len(good)), np.linspace(0, n_flats, min(n_flats, _PARTS) + 1).astype(np.int64)

    def measure(k: int) -> None:
        pull_medians(pairs, detectors.first, member, start, parts[k], parts[k + 1], median, mad, count)

    def mark(k: int) -> None:
        mark_far_pulls(*given, detectors.group, rows[k], rows[k + 1], owner, median, limit, outlier)

    finish(measure, len(parts) - 1, threads)
    limit = (sigma_clip * MAD_TO_SIGMA * mad.astype(np.float64)).astype(np.float32)
    limit[count < min_count] = np.inf
    finish(mark, len(rows) - 1, threads)
    return outlier
