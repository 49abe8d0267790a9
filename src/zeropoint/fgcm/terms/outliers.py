"""Observations far from the others on their detector: blends, cosmic rays, variable stars."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.terms.gray import GrayResiduals
from zeropoint.fgcm.terms.groups import MAD_TO_SIGMA, BoolArray, FloatArray, robust_outliers
from zeropoint.fgcm.terms.robust import Groups, robust_group_means

__all__ = ["detector_outliers", "robust_star_residuals", "superstar_outliers"]

#: Stars that a detector needs for outliers of its own; those of emptier detectors are judged together.
MIN_STARS = 5
#: One in so many pulls tells how pulls scatter.
_EVERY = 7
#: Pull, in units of their scatter, from which on the mean of a star is looked at.
_SUSPICIOUS = 4.0

IndexArray = npt.NDArray[np.integer]


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
