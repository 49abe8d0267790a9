"""Residuals of stars that a fit did not use."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from zeropoint.astrometry.wcs_fit import MatchedStars, residuals
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import CalibrationFailure

__all__ = ["MIN_HOLD_OUT", "fold_numbers", "hold_out_rms"]

_ARCSEC = np.pi / 648000.0
#: Below this number of stars there is no hold-out figure.
MIN_HOLD_OUT = 10
N_FOLDS = 5


def fold_numbers(*keys: np.ndarray) -> np.ndarray:
    """Return the fold 0-4 of each star: every fifth in the order of the keys, whatever the order of rows."""
    order = np.lexsort(keys[::-1])
    folds = np.empty(len(order), np.int64)
    folds[order] = np.arange(len(order)) % N_FOLDS
    return folds


def hold_out_rms(stars: MatchedStars, refit: Callable[[MatchedStars], SkyWcs]) -> tuple[float, float]:
    """Return the robust rms (1.48 MAD) of held-out residuals along East and North, arcsec.

    Each fifth of the stars is compared with a fit to the others.  NaN below ten stars or if a refit fails.
    """
    if len(stars) < MIN_HOLD_OUT:
        return float("nan"), float("nan")
    folds = fold_numbers(stars.x, stars.y)
    east, north = np.empty(len(stars)), np.empty(len(stars))
    try:
        for k in range(N_FOLDS):
            held = np.flatnonzero(folds == k)
            wcs = refit(stars.take(np.flatnonzero(folds != k)))
            east[held], north[held] = residuals(stars.take(held), wcs)
    except CalibrationFailure:
        return float("nan"), float("nan")
    return _spread(east), _spread(north)


def _spread(values: np.ndarray) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))) / _ARCSEC)
