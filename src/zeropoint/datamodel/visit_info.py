"""What a visit is, from the facts of an observation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import astropy.units as u
import numpy as np

from zeropoint.datamodel.exposure import VisitInfo
from zeropoint.errors import InvalidInputError

if TYPE_CHECKING:
    from astro_metadata_translator import ObservationInfo

__all__ = ["visit_info"]


def visit_info(info: ObservationInfo, band: str, name: str) -> VisitInfo:
    """Return the visit; numbers are rounded so that another trip gives the same ones.

    Parameters
    ----------
    info
        Facts of the observation.
    band
        Band, "" if unknown.
    name
        The image's name, for messages.

    Raises
    ------
    InvalidInputError
        If it has the number of neither visit nor exposure.
    """
    nan = float("nan")
    visit = info.visit_id if info.visit_id is not None else info.exposure_id
    if visit is None:
        raise InvalidInputError(f"{name}: obs_info has neither visit_id nor exposure_id.")
    ra = dec = rotation = longitude = latitude = elevation = nan
    if info.tracking_radec is not None:
        icrs = info.tracking_radec.icrs
        ra, dec = _rounded(icrs.ra.deg, 10) % 360.0, _rounded(icrs.dec.deg, 10)
    if info.boresight_rotation_angle is not None and info.boresight_rotation_coord == "sky":
        rotation = _rounded(info.boresight_rotation_angle.deg, 10)
    if info.location is not None:
        place = info.location.to_geodetic()
        longitude, latitude = _rounded(place.lon.deg, 9), _rounded(place.lat.deg, 9)
        if longitude == 180.0:
            longitude = -180.0
        elevation = _rounded(place.height.to_value(u.m), 4)
    exposure_time = nan if info.exposure_time is None else float(info.exposure_time.to_value(u.s))
    return VisitInfo(
        int(visit),
        exposure_time,
        _middle(info, exposure_time),
        str(info.physical_filter),
        band,
        ra,
        dec,
        nan if info.boresight_airmass is None else float(info.boresight_airmass),
        longitude,
        latitude,
        elevation,
        info.object or "",
        exposure=int(visit if info.exposure_id is None else info.exposure_id),
        boresight_rotation_deg=rotation,
    )


def _rounded(value: Any, digits: int) -> float:
    """Return a rounded number, without the sign of a zero."""
    return round(float(value), digits) + 0.0


def _middle(info: ObservationInfo, exposure_time: float) -> float:
    """Return the middle of the exposure, MJD in TAI, to 0.1 ms."""
    begin, end = info.datetime_begin, info.datetime_end
    if begin is None and end is None:
        return float("nan")
    half = 0.5 * float(np.nan_to_num(exposure_time)) / 86400.0
    if begin is not None and end is not None:
        middle = begin.tai + 0.5 * (end.tai - begin.tai)
        return _rounded(middle.mjd, 9)
    return _rounded(begin.tai.mjd + half if begin is not None else end.tai.mjd - half, 9)
