"""Observations far from the others on their detector: blends, cosmic rays, variable stars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.terms.gray import GrayResiduals
from zeropoint.fgcm.terms.groups import MAD_TO_SIGMA, BoolArray, FloatArray, robust_outliers
from zeropoint.fgcm.terms.robust import Groups, robust_group_means

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
    rows = np.flatnonzero(candidate & np.isnan(mean_err)[segment])
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
    square = np.full(len(gray), -1.0, np.float32)
    np.divide(np.square(gray), variance, out=square, where=candidate & (variance > 0) & np.isfinite(gray))
    some = square[::_EVERY]
    some = some[some >= 0]
    scale = max(MAD_TO_SIGMA * float(np.sqrt(np.median(some))), 1.0) if len(some) else 1.0
    n_segments = len(mean_err)
    suspicious = np.bincount(segment[square > (_SUSPICIOUS * scale) ** 2], minlength=n_segments) > 0
    rows = np.flatnonzero(suspicious[segment] & np.isfinite(gray))
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
        residuals.gray, residuals.variance, group, len(group), good, n_sigma=sigma_clip
    )
    return means.outlier


def superstar_outliers(
    residuals: GrayResiduals,
    flat: IndexArray,
    n_flats: int,
    good: BoolArray,
    *,
    sigma_clip: float,
) -> BoolArray:
    """Find observations far from the others of their superstar flat (an epoch, filter and detector).

    Parameters
    ----------
    residuals
        Gray of the observations.
    flat : int, shape (n_obs,)
        Flat of each (`zeropoint.fgcm.terms.superstar.flat_index`); -1: none.
    n_flats
        Number of flats.
    good : bool, shape (n_obs,)
        Good observations of photometric exposures, those flagged as outliers before included.
    sigma_clip
        ``superStarSigmaClip``.

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
    judged = good & (flat >= 0) & (residuals.variance > 0) & np.isfinite(residuals.gray)
    rows = np.flatnonzero(judged)
    pulls: FloatArray = residuals.gray[rows] / np.sqrt(residuals.variance[rows])
    outlier = np.zeros(len(judged), bool)
    outlier[rows] = robust_outliers(pulls, flat[rows], n_flats, sigma_clip)
    return outlier
