"""Observations far from the others on their detector or in their exposure: blends, cosmic rays, variable stars."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.terms.gray import GrayResiduals
from zeropoint.fgcm.terms.groups import BoolArray, robust_outliers

__all__ = ["focal_plane_outliers", "superstar_outliers"]

IndexArray = npt.NDArray[np.integer]


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
    ones that scatter as much.
    """
    return _outliers(residuals, flat, n_flats, good & (flat >= 0), sigma_clip)


def focal_plane_outliers(
    residuals: GrayResiduals,
    exposure: IndexArray,
    n_exp: int,
    good: BoolArray,
    *,
    sigma_clip: float,
) -> BoolArray:
    """Find observations far from the others of their exposure.

    Parameters
    ----------
    residuals
        Gray of the observations; or against reference magnitudes, for FOCALPLANE_OUTLIER_REF.
    exposure : int, shape (n_obs,)
        Exposure of each.
    n_exp
        Number of exposures.
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
    As for `superstar_outliers`, in units of the errors of the residuals.
    """
    return _outliers(residuals, exposure, n_exp, good, sigma_clip)


def _outliers(
    residuals: GrayResiduals, group: IndexArray, n_groups: int, judged: BoolArray, n_sigma: float
) -> BoolArray:
    rows = np.flatnonzero(judged & (residuals.variance > 0) & np.isfinite(residuals.gray))
    pulls = residuals.gray[rows] / np.sqrt(residuals.variance[rows])
    outlier = np.zeros(len(judged), bool)
    outlier[rows] = robust_outliers(pulls, group[rows], n_groups, n_sigma)
    return outlier
