"""Proper motion and parallax of reference objects, with the covariance of what is known of them."""

from __future__ import annotations

import erfa
import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.wcs import unit_vectors

__all__ = ["JULIAN_YEAR_DAYS", "Motion", "earth_position", "move_positions", "moved_covariance"]

FloatArray = npt.NDArray[np.float64]

JULIAN_YEAR_DAYS = 365.25
_TDB_MINUS_TAI_DAYS = 32.184 / 86400.0


class Motion:
    """Motion of objects along great circles for given times.

    Parameters
    ----------
    ra, dec : float64, shape (n,)
        Positions, radians.
    pm_ra, pm_dec : float64, shape (n,)
        Proper motion to East (with the factor cos dec) and to North, radians per Julian year; NaN is no motion.
    years : float64, shape (n,)
        Time to move by, Julian years; NaN is no motion.

    Attributes
    ----------
    position : float64, shape (n, 3)
        Unit vectors of the moved positions.
    rotation : float64, shape (n, 2, 2)
        Turns components to (East, North) of the old position, carried along the circle, into those of the new one.
        Differs from unity near the poles.

    Notes
    -----
    ``r' = r cos(a) + d sin(a)`` and ``d' = d cos(a) - r sin(a)`` with ``a = hypot(pm_ra, pm_dec) years`` and d the
    direction of the motion.  Changes of the radial distance are not considered.
    """

    def __init__(
        self, ra: FloatArray, dec: FloatArray, pm_ra: FloatArray, pm_dec: FloatArray, years: FloatArray
    ) -> None:
        self._ra, self._dec = ra, dec
        to_east, to_north = np.nan_to_num(pm_ra * years), np.nan_to_num(pm_dec * years)
        angle = np.hypot(to_east, to_north)
        bearing = np.arctan2(to_north, to_east)
        self._still = angle == 0.0
        start = unit_vectors(ra, dec)
        east, north = _frame(ra, dec)
        cos_b, sin_b = np.cos(bearing)[:, None], np.sin(bearing)[:, None]
        cos_a, sin_a = np.cos(angle)[:, None], np.sin(angle)[:, None]
        ahead = east * cos_b + north * sin_b
        beside = north * cos_b - east * sin_b
        self.position: FloatArray = start * cos_a + ahead * sin_a
        ahead = ahead * cos_a - start * sin_a
        carried = np.stack([ahead * cos_b - beside * sin_b, ahead * sin_b + beside * cos_b], axis=1)
        local = np.stack(_frame(*self.coordinates), axis=1)
        self.rotation: FloatArray = np.einsum("nik,njk->nij", local, carried)
        self.rotation[self._still] = np.eye(2)

    @property
    def coordinates(self) -> tuple[FloatArray, FloatArray]:
        """Right ascension, in [0, 2 pi), and declination of the moved positions; what does not move is unchanged."""
        ra, dec = to_coordinates(self.position)
        return np.where(self._still, self._ra, ra), np.where(self._still, self._dec, dec)


def _frame(ra: FloatArray, dec: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return unit vectors to East and North, shape (n, 3)."""
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], axis=-1)
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], axis=-1)
    return east, north


def to_coordinates(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return right ascension, in [0, 2 pi), and declination of vectors of any length, radians."""
    ra = np.mod(np.arctan2(vectors[:, 1], vectors[:, 0]), 2.0 * np.pi)
    return ra, np.arctan2(vectors[:, 2], np.hypot(vectors[:, 0], vectors[:, 1]))


def move_positions(
    ra: FloatArray, dec: FloatArray, pm_ra: FloatArray, pm_dec: FloatArray, years: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return positions moved along great circles; parameters as for `Motion`.

    Returns
    -------
    ra, dec : float64, shape (n,)
        Moved positions, radians, ra in [0, 2 pi).
    """
    return Motion(ra, dec, pm_ra, pm_dec, years).coordinates


def earth_position(mjd_tai: float) -> FloatArray:
    """Return the position of the Earth's center from the solar system's barycenter.

    Parameters
    ----------
    mjd_tai
        Date.

    Returns
    -------
    float64, shape (3,)
        Astronomical units, ICRS axes; good to 5e-8 for the years 1900 to 2100 (the VSOP2000 fit of ERFA).
    """
    _, barycentric = erfa.epv00(2400000.5, mjd_tai + _TDB_MINUS_TAI_DAYS)
    return np.array(barycentric["p"], np.float64)


def moved_covariance(
    covariance: FloatArray, years: FloatArray, rotation: FloatArray, parallax_shift: FloatArray | None = None
) -> FloatArray:
    """Return the covariance of the astrometric parameters at another epoch.

    Parameters
    ----------
    covariance : float64, shape (n, 5, 5)
        Of right ascension and declination (radians; the former with the factor cos dec), their motions (radians per
        year) and parallax (radians).
    years : float64, shape (n,)
        Time moved by.
    rotation : float64, shape (n, 2, 2)
        `Motion.rotation`.
    parallax_shift : float64, shape (n, 2), optional
        Shift to East and North per unit of parallax that was added to the positions.

    Returns
    -------
    float64, shape (n, 5, 5)
        ``J C J^T`` with the Jacobian J of the parameters at the new epoch (Gaia's propagation without terms of
        second order in the motion, Butkevich & Lindegren 2014).
    """
    jacobian = np.zeros_like(covariance)
    jacobian[:, :2, :2] = jacobian[:, 2:4, 2:4] = rotation
    jacobian[:, :2, 2:4] = years[:, None, None] * rotation
    if parallax_shift is not None:
        jacobian[:, :2, 4] = parallax_shift
    jacobian[:, 4, 4] = 1.0
    return np.asarray(jacobian @ covariance @ jacobian.transpose(0, 2, 1))
