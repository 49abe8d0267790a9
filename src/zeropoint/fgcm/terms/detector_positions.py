"""Where the detectors of each exposure look, and through how much air."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.airmass import observation_secant

__all__ = ["DetectorPositions", "detector_positions", "detector_secants"]

FloatArray = npt.NDArray[np.float64]


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


def detector_secants(
    positions: DetectorPositions | None,
    *,
    ra: npt.ArrayLike,
    hour_angle: npt.ArrayLike,
    latitude: float,
    observed: npt.ArrayLike,
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
    observed : shape (n_exp, n_det)
        Mean secant of the stars on each detector, NaN without stars: what counts where position, rotation or hour angle are
        unknown.
    boresight : shape (n_exp,)
        Secant of the boresight: for detectors without stars of which the position is not known either.

    Returns
    -------
    secant : float64, shape (n_exp, n_det)
        At least 1.
    """
    fallback = np.where(
        np.isfinite(observed), observed, np.asarray(boresight, np.float64)[:, None]
    )  # fmt: skip
    if positions is None:
        return np.asarray(np.maximum(fallback, 1.0))
    sidereal = np.deg2rad(np.asarray(hour_angle, np.float64) + np.asarray(ra, np.float64))[:, None]
    known = np.isfinite(positions.ra) & np.isfinite(sidereal)
    secant = observation_secant(
        np.deg2rad(np.where(known, positions.ra, 0.0)),
        np.deg2rad(np.where(known, positions.dec, 0.0)),
        np.where(known, sidereal, 0.0),
        np.deg2rad(latitude),
    )
    # below the horizon there is nothing to see: the hour angle is wrong
    return np.asarray(np.maximum(np.where(known & (secant > 0.0), secant, fallback), 1.0))
