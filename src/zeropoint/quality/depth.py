"""Depth of an exposure: limiting magnitude, effective time, zenith distance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.exposure import DetectorInfo, VisitInfo

__all__ = ["effective_times", "horizontal_position", "limiting_magnitude", "zenith_distance"]


def limiting_magnitude(
    detector: DetectorInfo, values: Mapping[str, Any], config: pexConfig.Config
) -> dict[str, float]:
    """Return ``magLim``: the magnitude of a point source at ``magLimSnr`` in the optimal aperture.

    ``C = s^2/(2g) + sqrt(s^4/(4g^2) + s^2 (B/g + sigma^2) n)`` with g = 1 since the image is in electrons
    (the LSST photometric signal-to-noise note, SMTN-002).

    Parameters
    ----------
    detector
        Gives the read noise, electrons.
    values
        Summary values so far: zeroPoint, psfArea, skyBg.
    config
        Summary configuration.
    """
    noises = np.array([a.read_noise for a in detector.amplifiers])
    noises = noises[np.isfinite(noises)]
    read_noise = float(np.mean(noises)) if noises.size else 0.0
    s = config.magLimSnr
    try:
        n, sky, zeropoint = values["psfArea"], values["skyBg"], values["zeroPoint"]
    except KeyError:
        return {}
    radicand = s**4 / 4.0 + s**2 * (sky + read_noise**2) * n
    if not radicand > 0:
        return {}
    counts = s**2 / 2.0 + np.sqrt(radicand)
    return {"magLim": float(zeropoint - 2.5 * np.log10(counts))}


def effective_times(
    band: str, exposure_time: float, values: Mapping[str, Any], config: pexConfig.Config
) -> dict[str, float]:
    """Return ``effTime`` and its three diagnostic scale factors.

    Parameters
    ----------
    band, exposure_time
        Band, and exposure time in seconds.
    values
        Summary values so far.
    config
        Summary configuration with the fiducial values per band.
    """
    result: dict[str, float] = {}
    if not exposure_time > 0 or band not in config.fiducialMagLim:
        return result
    if "psfSigma" in values and values["psfSigma"] > 0:
        result["effTimePsfSigmaScale"] = float((values["psfSigma"] / config.fiducialPsfSigma[band]) ** -2)
    if "zeroPoint" in values:
        per_second = values["zeroPoint"] - 2.5 * np.log10(exposure_time)
        scale = 10.0 ** (-0.8 * (config.fiducialZeroPoint[band] - per_second))
        result["effTimeZeroPointScale"] = float(min(scale, config.maxEffectiveTransparency))
    if values.get("skyBg", 0.0) > 0:
        result["effTimeSkyBgScale"] = float(
            config.fiducialSkyBackground[band] / (values["skyBg"] / exposure_time)
        )
    if "magLim" in values:
        deeper = values["magLim"] - config.fiducialMagLim[band]
        result["effTime"] = float(config.fiducialExpTime[band] * 10.0 ** (0.8 * deeper))
    return result


def zenith_distance(info: VisitInfo, ra_deg: float, dec_deg: float) -> float:
    """Return the zenith distance in degrees, without refraction; NaN without time or site.

    See `horizontal_position`.
    """
    return 90.0 - horizontal_position(info, ra_deg, dec_deg)[1]


def horizontal_position(info: VisitInfo, ra_deg: float, dec_deg: float) -> tuple[float, float]:
    """Return azimuth (from North through East) and altitude in degrees, without refraction; NaN without time or site.

    Uses the IAU 1982 mean sidereal time at UTC ~ UT1 (good to 0.005 degree), so no Earth-orientation tables
    are needed.
    """
    needed = (info.mjd_tai, info.longitude_deg, info.latitude_deg, ra_deg, dec_deg)
    if not np.isfinite(needed).all():
        return float("nan"), float("nan")
    from astropy.time import Time

    mjd_utc = float(Time(info.mjd_tai, format="mjd", scale="tai").utc.mjd)
    days = mjd_utc - 51544.5
    # Explanatory Supplement to the Astronomical Almanac, mean sidereal time in degrees
    gmst = 280.46061837 + 360.98564736629 * days + 0.000387933 * (days / 36525.0) ** 2
    # precess the catalogue position roughly to the date (0.014 degree per year along the ecliptic)
    years = days / 365.25
    ra, dec = np.deg2rad(ra_deg), np.deg2rad(dec_deg)
    m, n = np.deg2rad(46.1244 / 3600) * years, np.deg2rad(20.0431 / 3600) * years
    ra_date, dec_date = ra + m + n * np.sin(ra) * np.tan(dec), dec + n * np.cos(ra)
    hour_angle = np.deg2rad(gmst + info.longitude_deg) - ra_date
    latitude = np.deg2rad(info.latitude_deg)
    sine = np.sin(latitude) * np.sin(dec_date) + np.cos(latitude) * np.cos(dec_date) * np.cos(hour_angle)
    west = np.cos(dec_date) * np.sin(hour_angle)
    north = np.sin(dec_date) * np.cos(latitude) - np.cos(dec_date) * np.cos(hour_angle) * np.sin(latitude)
    azimuth = np.rad2deg(np.arctan2(-west, north)) % 360.0
    return float(azimuth), float(np.rad2deg(np.arcsin(np.clip(sine, -1.0, 1.0))))
