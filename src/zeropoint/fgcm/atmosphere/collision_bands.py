"""Absorption by pairs of oxygen molecules that collide: broad weak bands in u, g and r, from published measurements."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.atmosphere.scattering import pressure_at, temperature_at

__all__ = ["collision_band_depth"]

FloatArray = npt.NDArray[np.float64]

#: Center and full width at half maximum in nm, peak cross section in 1e-46 cm^5 per molecule^2.  The band at 1065.2 nm
#: is left out: the law of mixed gases holds it.
_BANDS = (
    (343.4, 4.2, 1.20),
    (360.5, 4.8, 4.10),
    (380.2, 4.4, 2.40),
    (446.7, 5.6, 0.57),
    (477.3, 6.2, 6.30),
    (532.2, 10.2, 1.00),
    (577.2, 11.6, 11.00),
    (630.0, 13.8, 7.20),
)
_OXYGEN_FRACTION = 0.20946
_BOLTZMANN = 1.380649e-23
#: Density falls as temperature**_DENSITY_POWER in the standard atmosphere, temperature by _LAPSE per m.
_DENSITY_POWER, _LAPSE = 4.2559, 0.0065


def collision_band_depth(wavelength: npt.ArrayLike, *, elevation: float) -> FloatArray:
    """Compute the depth of oxygen's collision bands towards the zenith, at the site's standard pressure.

    Parameters
    ----------
    wavelength
        In Angstrom, any shape.
    elevation
        Height of the site in m.

    Returns
    -------
    depth
        Of the input's shape; it is proportional to the square of pressure.

    Notes
    -----
    Gaussians with the centers, widths and peaks that Greenblatt, Orlando, Burkholder & Ravishankara (1990, J. Geophys.
    Res. 95, 18577) measured at 296 K, times the integral of the square of oxygen's density over the height of a
    standard atmosphere.  Their integrals hardly depend on temperature (Thalman & Volkamer 2013, Phys. Chem. Chem.
    Phys. 15, 15371).
    """
    temperature = temperature_at(elevation)
    oxygen = _OXYGEN_FRACTION * pressure_at(elevation) * 100.0 / (_BOLTZMANN * temperature) * 1e-6
    # the integral of (T / T0)^(2 power) dh over a constant lapse, in cm
    path = temperature / (_LAPSE * (2.0 * _DENSITY_POWER + 1.0)) * 100.0
    nanometers = np.asarray(wavelength, dtype=np.float64) / 10.0
    cross_section = np.zeros_like(nanometers)
    for center, width, peak in _BANDS:
        cross_section += peak * np.exp(-4.0 * np.log(2.0) * ((nanometers - center) / width) ** 2)
    return np.asarray(1e-46 * cross_section * oxygen**2 * path)
