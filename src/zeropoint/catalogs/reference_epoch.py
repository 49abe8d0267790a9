"""Reference objects at the epoch of an image: positions, motions, and the covariance of both."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeropoint.catalogs.proper_motion import (
    JULIAN_YEAR_DAYS,
    Motion,
    earth_position,
    moved_covariance,
    to_coordinates,
)
from zeropoint.catalogs.reference_covariances import COVARIANCES, ERRORS
from zeropoint.catalogs.reference_rows import Columns

__all__ = ["at_epoch"]

FloatArray = npt.NDArray[np.float64]


def at_epoch(columns: Columns, mjd_tai: float, parallax_snr: float | None = None) -> Columns:
    """Return reference objects at another epoch.

    Parameters
    ----------
    columns
        Standard columns, with ``pm_ra``, ``pm_dec`` and ``epoch``.
    mjd_tai
        The epoch wanted.
    parallax_snr
        Parallaxes with at least this signal-to-noise ratio shift the positions to where they are seen from the Earth's
        center; None: none does.

    Returns
    -------
    dict of arrays
        The columns, with positions and proper motions, their errors and covariances, and epochs at the new epoch where
        the old one is known.
    """
    years = (mjd_tai - columns["epoch"]) / JULIAN_YEAR_DAYS
    motion = Motion(columns["coord_ra"], columns["coord_dec"], columns["pm_ra"], columns["pm_dec"], years)
    moved = dict(columns)
    moved["coord_ra"], moved["coord_dec"] = motion.coordinates
    to_east, to_north = columns["pm_ra"], columns["pm_dec"]
    rotation = motion.rotation
    moved["pm_ra"] = rotation[:, 0, 0] * to_east + rotation[:, 0, 1] * to_north
    moved["pm_dec"] = rotation[:, 1, 0] * to_east + rotation[:, 1, 1] * to_north
    moved["epoch"] = np.where(np.isfinite(years), mjd_tai, columns["epoch"])
    shift = None
    significant = _significant(columns, years, parallax_snr)
    if significant is not None and np.any(significant):
        shift = _see_from_earth(moved, motion.position, significant, mjd_tai)
    _move_errors(moved, np.nan_to_num(years), rotation, shift)
    return moved


def _significant(
    columns: Columns, years: FloatArray, parallax_snr: float | None
) -> npt.NDArray[np.bool_] | None:
    """Return which parallaxes are to be applied, or None."""
    if parallax_snr is None or not {"parallax", "parallaxErr"} <= set(columns):
        return None
    with np.errstate(invalid="ignore"):
        good = (columns["parallax"] > 0.0) & (columns["parallax"] >= parallax_snr * columns["parallaxErr"])
    return np.asarray(good & np.isfinite(years))


def _see_from_earth(
    moved: Columns, position: FloatArray, rows: npt.NDArray[np.bool_], mjd_tai: float
) -> FloatArray:
    """Shift the positions of some rows by their parallax; return the shift per unit of parallax, shape (n, 2)."""
    earth = earth_position(mjd_tai)
    seen = position[rows] - moved["parallax"][rows, None] * earth
    ra, dec = moved["coord_ra"].copy(), moved["coord_dec"].copy()
    east_shift = np.sin(ra) * earth[0] - np.cos(ra) * earth[1]
    north_shift = np.sin(dec) * (np.cos(ra) * earth[0] + np.sin(ra) * earth[1]) - np.cos(dec) * earth[2]
    ra[rows], dec[rows] = to_coordinates(seen)
    moved["coord_ra"], moved["coord_dec"] = ra, dec
    return np.where(rows[:, None], np.stack([east_shift, north_shift], axis=1), 0.0)


def _move_errors(moved: Columns, years: FloatArray, rotation: FloatArray, shift: FloatArray | None) -> None:
    """Propagate the errors and covariances that the catalogue has; others count as zero, and NaN stays NaN."""
    places = {name: (k, k) for k, name in enumerate(ERRORS)} | COVARIANCES
    known = {name: np.asarray(moved[name], np.float64) for name in places if name in moved}
    if not known:
        return
    covariance = np.zeros((years.size, 5, 5))
    for name, values in known.items():
        i, j = places[name]
        covariance[:, i, j] = covariance[:, j, i] = np.nan_to_num(values**2 if i == j else values)
    covariance = moved_covariance(covariance, years, rotation, shift)
    for name, values in known.items():
        i, j = places[name]
        new = covariance[:, i, j]
        new = np.sqrt(np.maximum(new, 0.0)) if i == j else new
        moved[name] = np.where(np.isfinite(values), new, values)
