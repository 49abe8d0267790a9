"""Instrumental magnitudes and what goes with them, from fluxes in counts.

All functions take arrays that broadcast together, compute in float64, and give NaN or infinity where a logarithm has no
value, without a warning.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = [
    "MAG_PER_LN",
    "NO_DELTA",
    "aperture_difference",
    "area_correction",
    "background_difference",
    "instrumental_magnitude",
    "magnitude_error",
]

#: Magnitudes in one unit of a natural logarithm, 2.5 / ln 10.
MAG_PER_LN = 2.5 / np.log(10.0)
#: Difference of aperture magnitudes of a star that lacks one of them.
NO_DELTA = 99.0

FloatArray = npt.NDArray[np.float64]


def instrumental_magnitude(
    flux: npt.ArrayLike, exposure_time: npt.ArrayLike, scaling: npt.ArrayLike = 1.0
) -> FloatArray:
    """Return -2.5 log10(flux * scaling / exposure time).

    Parameters
    ----------
    flux, exposure_time, scaling
        Counts, s, and a factor.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.asarray(flux, np.float64) * np.asarray(scaling, np.float64)
        rate = rate / np.asarray(exposure_time, np.float64)
        return np.asarray(-2.5 * np.log10(rate))


def area_correction(relative_area: npt.ArrayLike) -> FloatArray:
    """Return what is added to a magnitude for the area of its pixels, -2.5 log10(relative area).

    Flat fields make the sky equally bright in all pixels, so that counts of a star in pixels that cover 1 % more sky are
    1 % too low: it has to become brighter by 0.0108 mag.

    Parameters
    ----------
    relative_area
        Area over the square of the camera's median pixel scale, any shape.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(-2.5 * np.log10(np.asarray(relative_area, np.float64)))


def magnitude_error(flux: npt.ArrayLike, flux_error: npt.ArrayLike) -> FloatArray:
    """Return the error of a magnitude, (2.5 / ln 10) error / flux.

    Parameters
    ----------
    flux, flux_error
        In the same unit, shapes that broadcast.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(MAG_PER_LN * np.asarray(flux_error, np.float64) / np.asarray(flux, np.float64))


def background_difference(flux: npt.ArrayLike, background: npt.ArrayLike, area: float) -> FloatArray:
    """Return the magnitude without a local background minus that with it.

    Parameters
    ----------
    flux, background
        Counts in an aperture, and counts per pixel of the local background.
    area
        Area of the aperture, pixels.

    Returns
    -------
    difference : float64
        Infinite or NaN where nothing is left of the flux.
    """
    flux = np.asarray(flux, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(-2.5 * np.log10((flux - area * np.asarray(background, np.float64)) / flux))


def aperture_difference(inner: npt.ArrayLike, outer: npt.ArrayLike) -> FloatArray:
    """Return the magnitude in the inner aperture minus that in the outer; `NO_DELTA` where one of them is missing.

    Parameters
    ----------
    inner, outer
        Fluxes in the same unit, shapes that broadcast; missing: not positive or not finite.
    """
    inner, outer = np.asarray(inner, np.float64), np.asarray(outer, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = -2.5 * np.log10(inner) + 2.5 * np.log10(outer)
    return np.where(np.isfinite(difference), difference, NO_DELTA)
