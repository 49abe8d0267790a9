"""Spectra, atmosphere and throughput that the truth of a simulated survey is integrated from: the simple kind.

`zeropoint.simulation.fgcm_measured` has the real ones. Neither shares a formula or a coefficient with the atmosphere of
the fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["FloatArray", "Physics", "simple_physics"]

FloatArray = npt.NDArray[np.float64]

#: Wavelength of the aerosol depth, Angstrom.
LAMBDA_NORM = 7750.0
#: Top-hats with soft edges of the simple physics, Angstrom.
_BANDS = {"g": (4000.0, 5500.0), "r": (5500.0, 7000.0), "i": (6950.0, 8150.0), "z": (8150.0, 9250.0)}
#: Bands of water (at 3 mm) and oxygen: centre, width, optical depth; of Gaussian form.
_WATER = ((7200.0, 120.0, 0.05), (8200.0, 130.0, 0.05), (9150.0, 250.0, 0.12), (9450.0, 200.0, 0.45))
_OXYGEN = ((6880.0, 40.0, 0.2), (7620.0, 45.0, 0.7))


@dataclass(frozen=True)
class Physics:
    """What light there is and what becomes of it.

    Parameters
    ----------
    wavelength : float64, shape (n_lam,)
        Angstrom, evenly spaced.
    names
        Spectra.
    weights : float64, shape (n_spectra,)
        How frequent each is; their sum is 1.
    spectra : float64, shape (n_spectra, n_lam)
        Flux per unit of frequency, in any unit.
    transmission
        Function of pressure (mb), PWV (mm), ozone (DU), aerosol depth, its slope and secant, each of shape (n,): the
        transmission of the atmosphere, shape (n, n_lam).
    throughput : mapping of float64, shape (n_lam,)
        Of telescope, filter and detector, by band; detectors have their own on top.
    """

    wavelength: FloatArray
    names: tuple[str, ...]
    weights: FloatArray
    spectra: FloatArray
    transmission: Callable[
        [FloatArray, FloatArray, FloatArray, FloatArray, FloatArray, FloatArray], FloatArray
    ]
    throughput: Mapping[str, FloatArray]


def aerosol_depth(
    wavelength: FloatArray, tau: FloatArray, alpha: FloatArray, secant: FloatArray
) -> FloatArray:
    """Return the optical depth of aerosols that fall off with a height of 1.5 km, shape (n, n_lam).

    Parameters
    ----------
    wavelength : float64, shape (n_lam,)
        Angstrom.
    tau, alpha : float64, shape (n,)
        Depth at `LAMBDA_NORM` in the zenith, and slope.
    secant : float64, shape (n,)
        Of the zenith distance.
    """
    # Chapman's function to second order: X - (X^3 - X) h / R
    path = secant - (secant**3 - secant) * (1.5 / 6371.0)
    return (tau * path)[:, None] * np.exp(-alpha[:, None] * np.log(wavelength / LAMBDA_NORM))


def simple_physics() -> Physics:
    """Return black bodies, soft top-hats, and an atmosphere of a power law and a few Gaussian bands."""
    wavelength = np.arange(3000.0, 11000.0, 20.0)
    temperature = np.geomspace(3200.0, 12000.0, 16)
    frequency = 1.0 / wavelength
    # Planck's law per unit of frequency; h c / k in Angstrom Kelvin
    spectra = frequency**3 / np.expm1(1.4388e8 * frequency / temperature[:, None])
    weights = np.exp(-0.5 * (np.log(temperature / 5200.0) / 0.3) ** 2)

    def gaussians(bands: tuple[tuple[float, float, float], ...]) -> FloatArray:
        return np.asarray(
            sum(depth * np.exp(-0.5 * ((wavelength - centre) / width) ** 2) for centre, width, depth in bands)
        )

    rayleigh = 0.0083 * (wavelength / 1e4) ** -4.05
    ozone = 3.4e-2 * np.exp(-0.5 * ((wavelength - 6000.0) / 480.0) ** 2)
    water, oxygen = gaussians(_WATER), gaussians(_OXYGEN)

    def transmission(
        pressure: FloatArray,
        pwv: FloatArray,
        o3: FloatArray,
        tau: FloatArray,
        alpha: FloatArray,
        x: FloatArray,
    ) -> FloatArray:
        molecules = (x * pressure / 1013.25)[:, None]
        depth = molecules * rayleigh + molecules**0.6 * oxygen + (x * o3 / 300.0)[:, None] * ozone
        depth += ((x * pwv / 3.0) ** 0.7)[:, None] * water
        return np.exp(-depth - aerosol_depth(wavelength, tau, alpha, x))

    throughput = {
        band: 0.5 / (1.0 + np.exp((low - wavelength) / 60.0)) / (1.0 + np.exp((wavelength - high) / 60.0))
        for band, (low, high) in _BANDS.items()
    }
    names = tuple(f"{t:.0f} K" for t in temperature)
    return Physics(wavelength, names, weights / weights.sum(), spectra, transmission, throughput)
