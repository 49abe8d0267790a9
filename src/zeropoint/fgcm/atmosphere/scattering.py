"""Scattering by air, and the pressure of a site: closed forms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["pressure_at", "rayleigh_depth", "temperature_at"]

FloatArray = npt.NDArray[np.float64]

_SEA_LEVEL_MB = 1013.25
_SEA_LEVEL_K = 288.15
_LAPSE_K_PER_M = 0.0065
_GRAVITY = 9.80665
_MOLAR_MASS_AIR = 0.0289644
_GAS_CONSTANT = 8.31447


def temperature_at(elevation: float) -> float:
    """Compute the temperature of the standard atmosphere.

    Parameters
    ----------
    elevation
        Height above the sea in m.

    Returns
    -------
    temperature
        In K: ``288.15 - 0.0065 h``.
    """
    return float(_SEA_LEVEL_K - _LAPSE_K_PER_M * elevation)


def pressure_at(elevation: float) -> float:
    """Compute the pressure of the standard atmosphere.

    Parameters
    ----------
    elevation
        Height above the sea in m.

    Returns
    -------
    pressure
        In mb: ``1013.25 (1 - 0.0065 h / 288.15)^(g M / (R L))``; 731.66 mb at 2663 m.
    """
    exponent = _GRAVITY * _MOLAR_MASS_AIR / (_GAS_CONSTANT * _LAPSE_K_PER_M)
    return float(_SEA_LEVEL_MB * (temperature_at(elevation) / _SEA_LEVEL_K) ** exponent)


def rayleigh_depth(wavelength: npt.ArrayLike, *, elevation: float = 0.0) -> FloatArray:
    """Compute the depth of molecular scattering towards the zenith per mb of pressure.

    Parameters
    ----------
    wavelength
        In Angstrom, any shape.
    elevation
        Height of the site in m: gravity falls with it, so a mb holds more air (0.1 % at 4000 m).

    Returns
    -------
    depth
        Per mb, of the input's shape.

    Notes
    -----
    The fit of Bodhaine, Wood, Dutton & Slusser (1999, J. Atmos. Oceanic Technol. 16, 1854, eq. 30) for 1013.25 mb and
    latitude 45 degrees, whose mass-weighted gravity belongs to a height of 0.73737 h + 5517.56 m.
    """
    square = (np.asarray(wavelength, dtype=np.float64) / 1e4) ** 2
    numerator = 1.0455996 - 341.29061 / square - 0.90230850 * square
    denominator = 1.0 + 0.0027059889 / square - 85.968563 * square
    gravity = 1.0 - 3.085462e-6 / _GRAVITY * 0.73737 * elevation
    return np.asarray(0.0021520 * numerator / denominator / _SEA_LEVEL_MB / gravity)
