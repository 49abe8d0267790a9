"""What dims starlight: each absorber gives its depth along the line of sight and the depth's derivatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.airmass import aerosol_airmass, molecular_airmass, ozone_airmass, water_airmass
from zeropoint.fgcm.atmosphere._growth import growth_basis
from zeropoint.fgcm.atmosphere._resampling import Resampling
from zeropoint.fgcm.atmosphere.parameters import AtmosphereParameters

__all__ = ["Absorber", "Aerosols", "CollisionBands", "MixedGases", "Ozone", "Scattering", "WaterVapor"]

FloatArray = npt.NDArray[np.float64]
Depth = tuple[FloatArray, Mapping[str, FloatArray]]


def _combine(weights: FloatArray, rows: FloatArray) -> FloatArray:
    """Multiply matrices (n, k) and (k, n_lambda), each row alike whatever the others are, which BLAS does not promise."""
    return np.asarray(np.einsum("nk,kl->nl", weights, rows))


class Absorber(Protocol):
    """One absorber at one site, on given wavelengths."""

    def depth(self, parameters: AtmosphereParameters, *, derivatives: bool) -> Depth:
        """Compute the depth along the line of sight.

        Parameters
        ----------
        parameters
            Of n exposures.
        derivatives
            Also compute derivatives.

        Returns
        -------
        depth, derivatives
            The depth, shape (n, n_lambda), and its derivatives with respect to those parameters of
            `zeropoint.fgcm.atmosphere.DERIVATIVES` on which it depends (empty unless asked for).
        """
        ...

    def resampled(self, resampling: Resampling) -> Self:
        """Give the absorber on other wavelengths.

        Parameters
        ----------
        resampling
            From the present wavelengths to others.

        Returns
        -------
        absorber
            On the other wavelengths.
        """
        ...


@dataclass(frozen=True)
class Scattering:
    """Molecular scattering, proportional to pressure."""

    per_mb: FloatArray
    """Depth towards the zenith per mb, (n_lambda,)."""

    def depth(self, parameters: AtmosphereParameters, *, derivatives: bool) -> Depth:
        """Compute the depth along the line of sight, see `Absorber`."""
        airmass, slope = molecular_airmass(parameters.airmass)
        depth = np.outer(parameters.pmb * airmass, self.per_mb)
        if not derivatives:
            return depth, {}
        return depth, {
            "pmb": np.outer(airmass, self.per_mb),
            "airmass": np.outer(parameters.pmb * slope, self.per_mb),
        }

    def resampled(self, resampling: Resampling) -> Scattering:
        """Give the absorber on other wavelengths, see `Absorber`."""
        return Scattering(resampling(self.per_mb))


@dataclass(frozen=True)
class CollisionBands:
    """Pairs of oxygen molecules, proportional to the square of pressure."""

    zenith_depth: FloatArray
    """Depth towards the zenith at the pressure of the site, (n_lambda,)."""
    pmb: float
    """That pressure, mb."""

    def depth(self, parameters: AtmosphereParameters, *, derivatives: bool) -> Depth:
        """Compute the depth along the line of sight, see `Absorber`."""
        airmass, slope = molecular_airmass(parameters.airmass)
        square = (parameters.pmb / self.pmb) ** 2
        depth = np.outer(square * airmass, self.zenith_depth)
        if not derivatives:
            return depth, {}
        return depth, {
            "pmb": depth * (2.0 / parameters.pmb)[:, None],
            "airmass": np.outer(square * slope, self.zenith_depth),
        }

    def resampled(self, resampling: Resampling) -> CollisionBands:
        """Give the absorber on other wavelengths, see `Absorber`."""
        return CollisionBands(resampling(self.zenith_depth), self.pmb)


@dataclass(frozen=True)
class Ozone:
    """Ozone in a thin shell, by Beer's law."""

    per_dobson: FloatArray
    """Depth towards the zenith per Dobson unit, (n_lambda,)."""
    elevation: float
    """Height of the site, m."""

    def depth(self, parameters: AtmosphereParameters, *, derivatives: bool) -> Depth:
        """Compute the depth along the line of sight, see `Absorber`."""
        airmass, slope = ozone_airmass(parameters.airmass, elevation=self.elevation)
        depth = np.outer(parameters.o3 * airmass, self.per_dobson)
        if not derivatives:
            return depth, {}
        return depth, {
            "o3": np.outer(airmass, self.per_dobson),
            "airmass": np.outer(parameters.o3 * slope, self.per_dobson),
        }

    def resampled(self, resampling: Resampling) -> Ozone:
        """Give the absorber on other wavelengths, see `Absorber`."""
        return Ozone(resampling(self.per_dobson), self.elevation)


@dataclass(frozen=True)
class Aerosols:
    """Particles: tau (lambda / lambda_norm)^-alpha."""

    ln_wavelength: FloatArray
    """ln(lambda / lambda_norm), (n_lambda,)."""

    def depth(self, parameters: AtmosphereParameters, *, derivatives: bool) -> Depth:
        """Compute the depth along the line of sight, see `Absorber`."""
        airmass, slope = aerosol_airmass(parameters.airmass)
        depth = np.exp(np.outer(-parameters.alpha, self.ln_wavelength))
        depth *= (parameters.tau * airmass)[:, None]
        if not derivatives:
            return depth, {}
        return depth, {
            "ln_tau": depth,
            "alpha": -depth * self.ln_wavelength,
            "airmass": depth * (slope / airmass)[:, None],
        }

    def resampled(self, resampling: Resampling) -> Aerosols:
        """Give the absorber on other wavelengths, see `Absorber`."""
        return Aerosols(resampling(self.ln_wavelength))


@dataclass(frozen=True)
class MixedGases:
    """Oxygen's bands and the trace gases: ln(depth) is a parabola in ln(airmass), and a power of pressure."""

    curve: FloatArray
    """Coefficients of ln(depth) in 1, ln m, (ln m)^2 at the reference pressure, (3, n_lambda)."""
    exponent: FloatArray
    """Power of pressure: 1 for lines (column and width grow alike), 2 for pairs of molecules, (n_lambda,)."""
    reference_pmb: float
    """Pressure to which the curve belongs, mb."""

    def depth(self, parameters: AtmosphereParameters, *, derivatives: bool) -> Depth:
        """Compute the depth along the line of sight, see `Absorber`."""
        airmass, slope = molecular_airmass(parameters.airmass)
        log = np.log(airmass)
        basis = np.column_stack([np.ones_like(log), log, log**2, np.log(parameters.pmb / self.reference_pmb)])
        depth = np.exp(_combine(basis, np.vstack([self.curve, self.exponent])))
        if not derivatives:
            return depth, {}
        growth = self.curve[1] + (2.0 * log)[:, None] * self.curve[2]
        return depth, {
            "pmb": depth * self.exponent / parameters.pmb[:, None],
            "airmass": depth * growth * (slope / airmass)[:, None],
        }

    def resampled(self, resampling: Resampling) -> MixedGases:
        """Give the absorber on other wavelengths, see `Absorber`."""
        return MixedGases(resampling(self.curve), resampling(self.exponent), self.reference_pmb)


@dataclass(frozen=True)
class WaterVapor:
    """Water vapor: ln(depth) is a spline in ln(PWV times secant)."""

    curve: FloatArray
    """Coefficients in the basis of `growth_basis`, (n_coefficient + 2, n_lambda)."""

    def depth(self, parameters: AtmosphereParameters, *, derivatives: bool) -> Depth:
        """Compute the depth along the line of sight, see `Absorber`."""
        airmass, slope = water_airmass(parameters.airmass)
        value, growth = growth_basis(np.log(parameters.pwv * airmass))
        depth = np.exp(_combine(value, self.curve))
        if not derivatives:
            return depth, {}
        by_amount = depth * _combine(growth, self.curve)
        return depth, {"ln_pwv": by_amount, "airmass": by_amount * (slope / airmass)[:, None]}

    def resampled(self, resampling: Resampling) -> WaterVapor:
        """Give the absorber on other wavelengths, see `Absorber`."""
        return WaterVapor(resampling(self.curve))
