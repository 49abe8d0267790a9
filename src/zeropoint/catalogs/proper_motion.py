"""Proper motion of reference objects."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.wcs import unit_vectors

__all__ = ["move_positions", "moved_error"]

FloatArray = npt.NDArray[np.float64]

JULIAN_YEAR_DAYS = 365.25


def move_positions(
    ra: FloatArray, dec: FloatArray, pm_ra: FloatArray, pm_dec: FloatArray, years: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Move positions along great circles.

    Parameters
    ----------
    ra, dec : float64, shape (n,)
        Positions, radians.
    pm_ra, pm_dec : float64, shape (n,)
        Proper motion to East (with the factor cos dec) and to North, radians per Julian year; NaN is no motion.
    years : float64, shape (n,)
        Time to move by, Julian years; NaN is no motion.

    Returns
    -------
    ra, dec : float64, shape (n,)
        Moved positions, radians, ra in [0, 2 pi).

    Notes
    -----
    ``r' = r cos(a) + (e cos(b) + n sin(b)) sin(a)`` with ``a = hypot(pm_ra, pm_dec) years`` and b the bearing of
    the motion from East to North.  Parallax and radial velocity are not applied.
    """
    east_motion = np.nan_to_num(pm_ra * years)
    north_motion = np.nan_to_num(pm_dec * years)
    angle = np.hypot(east_motion, north_motion)
    bearing = np.arctan2(north_motion, east_motion)
    position = unit_vectors(ra, dec)
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], axis=-1)
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], axis=-1)
    direction = east * np.cos(bearing)[:, None] + north * np.sin(bearing)[:, None]
    moved = position * np.cos(angle)[:, None] + direction * np.sin(angle)[:, None]
    new_ra = np.mod(np.arctan2(moved[:, 1], moved[:, 0]), 2.0 * np.pi)
    new_dec = np.arctan2(moved[:, 2], np.hypot(moved[:, 0], moved[:, 1]))
    still = angle == 0.0
    return np.where(still, ra, new_ra), np.where(still, dec, new_dec)


def moved_error(
    error: FloatArray, pm_error: FloatArray, years: FloatArray, covariance: FloatArray | None = None
) -> FloatArray:
    """Return the error of a moved coordinate.

    Parameters
    ----------
    error, pm_error : float64, shape (n,)
        Errors of the coordinate (radians) and of its proper motion (radians per year); a NaN of the latter is 0.
    years : float64, shape (n,)
        Time moved by; NaN is no motion.
    covariance : float64, shape (n,), optional
        Covariance of the two, radians squared per year; a NaN is 0.

    Returns
    -------
    float64, shape (n,)
        ``sqrt(error^2 + 2 years covariance + (years pm_error)^2)``.
    """
    years = np.nan_to_num(years)
    variance = error**2 + (np.nan_to_num(pm_error) * years) ** 2
    if covariance is not None:
        variance = variance + 2.0 * years * np.nan_to_num(covariance)
    return np.sqrt(np.maximum(variance, 0.0))
