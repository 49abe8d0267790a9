"""Where the detectors of each exposure look, and through how much air."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.airmass import observation_secant
from zeropoint.fgcm.terms._kernels_stars import secant_sums

__all__ = ["CenterSecants", "DetectorPositions", "center_secants", "detector_positions", "detector_secants"]

FloatArray = npt.NDArray[np.float64]

#: Stars that a plane of secants needs, and how many times the variance of one of them its value at the center may have.
_LEAST, _MOST_VARIANCE = 6, 1.0
#: As many observations of each detector tell the plane.
_ENOUGH = 200


@dataclass(frozen=True)
class DetectorPositions:
    """Centers of the detectors on the sky, degrees; shape (n_exp, n_det). NaN where the rotation is unknown.

    Parameters
    ----------
    ra, dec
        ICRS.
    """

    ra: FloatArray
    dec: FloatArray


def detector_positions(
    offset_x: npt.ArrayLike,
    offset_y: npt.ArrayLike,
    *,
    ra: npt.ArrayLike,
    dec: npt.ArrayLike,
    rotation: npt.ArrayLike,
) -> DetectorPositions:
    """Place the detectors' centers on the sky, each exposure with its own pointing and rotation.

    Parameters
    ----------
    offset_x, offset_y : shape (n_det,)
        Tangent-plane positions at rotation 0, East and North, degrees (`zeropoint.datamodel.focal_plane.DetectorGeometry`).
    ra, dec : shape (n_exp,)
        Boresights, degrees.
    rotation : shape (n_exp,)
        Position angles of the focal plane's +Y axis, degrees.

    Returns
    -------
    positions : DetectorPositions
    """
    x, y = (np.deg2rad(np.asarray(each, np.float64))[None, :] for each in (offset_x, offset_y))
    ra0, dec0, angle = (np.deg2rad(np.asarray(each, np.float64))[:, None] for each in (ra, dec, rotation))
    east = x * np.cos(angle) + y * np.sin(angle)
    north = y * np.cos(angle) - x * np.sin(angle)
    # the direction boresight + east + north on the tangent plane, in the frame of the boresight's meridian
    toward_equator = np.cos(dec0) - north * np.sin(dec0)
    toward_pole = np.sin(dec0) + north * np.cos(dec0)
    longitude = np.arctan2(east, toward_equator)
    latitude = np.arctan2(toward_pole, np.hypot(east, toward_equator))
    return DetectorPositions(np.rad2deg(ra0 + longitude) % 360.0, np.rad2deg(latitude))


@dataclass(frozen=True)
class CenterSecants:
    """Secants of the zenith distance as the stars of each detector have them, shape (n_exp, n_det).

    Parameters
    ----------
    value
        At the center of the detector where its stars tell it, else their mean; NaN without stars.
    at_center : bool
        Whether it is at the center.
    """

    value: FloatArray
    at_center: npt.NDArray[np.bool_]


def center_secants(
    secant: npt.NDArray[np.floating],
    x: npt.NDArray[np.floating],
    y: npt.NDArray[np.floating],
    ec: npt.NDArray[np.integer],
    size: FloatArray,
    n_exp: int,
) -> CenterSecants:
    """Return the secant at the center of each detector from those of its stars: a plane over the pixels.

    Parameters
    ----------
    secant, x, y : shape (n_obs,)
        Of the stars; pixels, NaN where unknown.
    ec : shape (n_obs,)
        Exposure times number of detectors, plus position of the detector.
    size : shape (n_det, 2)
        Columns and rows of the detectors.
    n_exp
        Number of exposures.

    Notes
    -----
    Neither a camera nor pointing, rotation and hour angle are needed, which may be told in another way than is thought. The
    secant of a detector of half a degree differs from a plane by 0.0002 at secant 2, so that few stars tell it.
    """
    n_det, n = len(size), n_exp * len(size)
    mean, count, normal, right = np.zeros(n), np.zeros(n), np.zeros((n, 3, 3)), np.zeros((n, 3))
    single = (np.ascontiguousarray(each, np.float32) for each in (secant, x, y))
    step, half = max(len(ec) // (_ENOUGH * max(n, 1)), 1), 0.5 * np.asarray(size, np.float64)
    secant_sums(*single, np.asarray(ec, np.int32), step, half, mean, count, normal, right)
    normal += np.tril(normal, -1).transpose(0, 2, 1)
    enough = (normal[:, 0, 0] >= _LEAST) & (np.linalg.det(normal) > 1e-9 * normal[:, 0, 0] ** 3)
    inverse = np.linalg.inv(np.where(enough[:, None, None], normal, np.eye(3)))
    enough &= inverse[:, 0, 0] < _MOST_VARIANCE
    center = mean + np.einsum("ij,ij->i", inverse[:, 0], right)
    value = np.where(enough, center, mean)
    return CenterSecants(value.reshape(n_exp, n_det), enough.reshape(n_exp, n_det))


def detector_secants(
    positions: DetectorPositions | None,
    *,
    ra: npt.ArrayLike,
    hour_angle: npt.ArrayLike,
    latitude: float,
    observed: CenterSecants,
    boresight: npt.ArrayLike,
) -> FloatArray:
    """Return the secant of the zenith distance at the center of each detector, shape (n_exp, n_det).

    Parameters
    ----------
    positions
        Of the detectors; None: the camera's geometry is unknown.
    ra, hour_angle : shape (n_exp,)
        Of the boresights, degrees; the hour angle is NaN where unknown.
    latitude
        Of the site, degrees.
    observed
        By the stars on each detector: at its center, what counts; their mean, what counts where position, rotation or hour
        angle are unknown.
    boresight : shape (n_exp,)
        Secant of the boresight: for detectors without stars of which the position is not known either.

    Returns
    -------
    secant : float64, shape (n_exp, n_det)
        At least 1.
    """
    by_stars = observed.value
    fallback = np.where(np.isfinite(by_stars), by_stars, np.asarray(boresight, np.float64)[:, None])
    if positions is None:
        return np.asarray(np.maximum(fallback, 1.0))
    sidereal = np.deg2rad(np.asarray(hour_angle, np.float64) + np.asarray(ra, np.float64))[:, None]
    known = np.isfinite(positions.ra) & np.isfinite(sidereal) & ~observed.at_center
    secant = observation_secant(
        np.deg2rad(np.where(known, positions.ra, 0.0)),
        np.deg2rad(np.where(known, positions.dec, 0.0)),
        np.where(known, sidereal, 0.0),
        np.deg2rad(latitude),
    )
    # below the horizon there is nothing to see: the hour angle is wrong
    return np.asarray(np.maximum(np.where(known & (secant > 0.0), secant, fallback), 1.0))
