"""Airmass of each absorber as a function of the secant of the zenith distance: one rule for every user.

The table of integrals, the fit and the atmospheres that are written all call these functions, so a visit's atmosphere
is the one that its zeropoint was computed with.  Every function takes X = sec z and gives the relative airmass and its
derivative with respect to X; at X = 1 the airmass is 1.

======================  ====================================================  =======================================
absorber                rule                                                  against
======================  ====================================================  =======================================
air, oxygen, aerosols   Hardie's polynomial                                   Kasten & Young (1989): 4e-4 at X = 3
ozone                   thin spherical shell at 22 km                         -
water vapor             X itself (scale height 2 km)                          Gueymard (1995): 0.2 % at X = 3
======================  ====================================================  =======================================

References
----------
Hardie, R. H. 1962, in Astronomical Techniques, ed. W. A. Hiltner (Chicago), 178.
Kasten, F., Young, A. T. 1989, Applied Optics 28, 4735.
Robinson, N. 1966, Solar Radiation (Elsevier), for the shell of ozone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeropoint.errors import InvalidInputError

__all__ = [
    "OZONE_HEIGHT_KM",
    "aerosol_airmass",
    "molecular_airmass",
    "observation_secant",
    "ozone_airmass",
    "water_airmass",
]

FloatArray = npt.NDArray[np.float64]

#: Height of the ozone shell above sea level, km.
OZONE_HEIGHT_KM = 22.0
_EARTH_RADIUS_KM = 6371.0
#: How far, as a part, angles may lie beyond the poles: single precision.
_ROUNDING = 1e-6


def molecular_airmass(secant: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Compute the airmass of well-mixed air (scattering and oxygen).

    Parameters
    ----------
    secant
        X = sec z, any shape.

    Returns
    -------
    airmass, derivative
        ``X - 0.0018167 (X-1) - 0.002875 (X-1)^2 - 0.0008083 (X-1)^3`` and its derivative, of the input's shape.

    Notes
    -----
    Within 4e-4 of Kasten & Young (1989) for X <= 3, and within 0.002 for X <= 5.
    """
    excess = np.asarray(secant, dtype=np.float64) - 1.0
    airmass = 1.0 + excess * (1.0 - 0.0018167 - excess * (0.002875 + 0.0008083 * excess))
    derivative = 1.0 - 0.0018167 - excess * (2 * 0.002875 + 3 * 0.0008083 * excess)
    return airmass, derivative


def aerosol_airmass(secant: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Compute the airmass of aerosols: the same polynomial as that of air, as in Burke et al. (2018).

    Parameters
    ----------
    secant
        X = sec z, any shape.

    Returns
    -------
    airmass, derivative
        Of the input's shape.
    """
    return molecular_airmass(secant)


def water_airmass(secant: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Compute the airmass of water vapor: the secant, for the vapor lies low.

    Parameters
    ----------
    secant
        X = sec z, any shape.

    Returns
    -------
    airmass, derivative
        X and 1, of the input's shape.
    """
    airmass = np.array(secant, dtype=np.float64)
    return airmass, np.ones_like(airmass)


def ozone_airmass(secant: npt.ArrayLike, *, elevation: float = 0.0) -> tuple[FloatArray, FloatArray]:
    """Compute the airmass of a thin shell of ozone 22 km above the sea.

    Parameters
    ----------
    secant
        X = sec z, any shape.
    elevation
        Height of the site above the sea in m.

    Returns
    -------
    airmass, derivative
        ``1 / sqrt(1 - s^2 (1 - 1/X^2))`` with s the ratio of the distances of site and shell from the Earth's
        center, and its derivative; of the input's shape.
    """
    x = np.asarray(secant, dtype=np.float64)
    ratio = ((_EARTH_RADIUS_KM + elevation / 1000.0) / (_EARTH_RADIUS_KM + OZONE_HEIGHT_KM)) ** 2
    airmass = 1.0 / np.sqrt(1.0 - ratio * (1.0 - x**-2))
    return airmass, ratio * (airmass / x) ** 3


def observation_secant(
    ra: npt.ArrayLike, dec: npt.ArrayLike, sidereal_time: npt.ArrayLike, latitude: float
) -> FloatArray:
    """Compute the secant of the zenith distance of observations.

    Parameters
    ----------
    ra, dec
        Position in radians, any shapes that broadcast.
    sidereal_time
        Local sidereal time in radians: the hour angle plus the right ascension of the telescope's pointing.
    latitude
        Latitude of the site in radians.

    Returns
    -------
    secant
        ``1 / (sin dec sin lat + cos dec cos lat cos H)``; not clipped, so negative below the horizon.

    Raises
    ------
    InvalidInputError
        If a declination or the latitude is beyond the poles, as degrees mostly are.
    """
    dec = np.asarray(dec, dtype=np.float64)
    for name, angles in (("dec", dec), ("latitude", np.asarray(latitude, dtype=np.float64))):
        beyond = angles[np.abs(angles) > 0.5 * np.pi * (1.0 + _ROUNDING)]
        if beyond.size:
            raise InvalidInputError(
                f"{name} must lie between -pi/2 and pi/2 radians, not {beyond[0]:g} ({beyond.size} of {angles.size} values are "
                "wrong); is it in degrees?"
            )
    hour_angle = np.asarray(sidereal_time, dtype=np.float64) - np.asarray(ra, dtype=np.float64)
    cosine = np.sin(dec) * np.sin(latitude) + np.cos(dec) * np.cos(latitude) * np.cos(hour_angle)
    with np.errstate(divide="ignore"):
        return np.asarray(1.0 / cosine)
