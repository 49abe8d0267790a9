"""What dims starlight: each absorber gives its depth along the line of sight and the depth's derivatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.airmass import aerosol_airmass, molecular_airmass, ozone_airmass, water_airmass
from zeropoint.fgcm.atmosphere._growth import growth_basis
from zeropoint.fgcm.atmosphere._resampling import Resampling
from zeropoint.fgcm.atmosphere.parameters import AtmosphereParameters

__all__ = ["Absorber", "Aerosols", "CollisionBands", "Law", "MixedGases", "Ozone", "Scattering", "WaterVapor"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Law:
    """The depth of an absorber for n exposures, as few numbers of each exposure times rows of the wavelengths.

    With e = weights @ rows the depth is ``scale exp(e)`` and its derivatives are ``exp(e) (slopes @ rows)``; without a scale
    they are ``e`` and ``slopes @ rows``.

    Parameters
    ----------
    weights : float64, shape (n, k)
        Numbers of the exposures.
    rows : float64, shape (k, n_lambda)
        Of the wavelengths.
    slopes
        The same for the derivatives by those parameters of `zeropoint.fgcm.atmosphere.DERIVATIVES` on which it depends: what
        returns each, for few are asked for.
    scale : float64, shape (n,), optional
        As above.
    """

    weights: FloatArray
    rows: FloatArray
    slopes: Mapping[str, Callable[[], FloatArray]]
    scale: FloatArray | None = None

    def depth(self) -> tuple[FloatArray, dict[str, FloatArray]]:
        """Return the depth along the line of sight, and its derivatives; each of shape (n, n_lambda)."""
        depth, slopes = (
            self.weights @ self.rows,
            {name: each() @ self.rows for name, each in self.slopes.items()},
        )
        if self.scale is None:
            return depth, slopes
        growth = np.exp(depth)
        return self.scale[:, None] * growth, {name: growth * each for name, each in slopes.items()}


class Absorber(Protocol):
    """One absorber at one site, on given wavelengths."""

    def law(self, parameters: AtmosphereParameters) -> Law:
        """Return the depth along the line of sight.

        Parameters
        ----------
        parameters
            Of n exposures.
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


def _columns(*values: FloatArray) -> FloatArray:
    """Return columns as a matrix."""
    return np.ascontiguousarray(np.stack(values, axis=1))


@dataclass(frozen=True)
class Scattering:
    """Molecular scattering, proportional to pressure."""

    per_mb: FloatArray
    """Depth towards the zenith per mb, (n_lambda,)."""

    def law(self, parameters: AtmosphereParameters) -> Law:
        """Return the depth along the line of sight, see `Absorber`."""
        airmass, slope = molecular_airmass(parameters.airmass)
        return Law(
            _columns(parameters.pmb * airmass),
            self.per_mb[None],
            {"pmb": lambda: _columns(airmass), "airmass": lambda: _columns(parameters.pmb * slope)},
        )

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

    def law(self, parameters: AtmosphereParameters) -> Law:
        """Return the depth along the line of sight, see `Absorber`."""
        airmass, slope = molecular_airmass(parameters.airmass)
        square = (parameters.pmb / self.pmb) ** 2
        return Law(
            _columns(square * airmass),
            self.zenith_depth[None],
            {
                "pmb": lambda: _columns(square * airmass * 2.0 / parameters.pmb),
                "airmass": lambda: _columns(square * slope),
            },
        )

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

    def law(self, parameters: AtmosphereParameters) -> Law:
        """Return the depth along the line of sight, see `Absorber`."""
        airmass, slope = ozone_airmass(parameters.airmass, elevation=self.elevation)
        return Law(
            _columns(parameters.o3 * airmass),
            self.per_dobson[None],
            {"o3": lambda: _columns(airmass), "airmass": lambda: _columns(parameters.o3 * slope)},
        )

    def resampled(self, resampling: Resampling) -> Ozone:
        """Give the absorber on other wavelengths, see `Absorber`."""
        return Ozone(resampling(self.per_dobson), self.elevation)


@dataclass(frozen=True)
class Aerosols:
    """Particles: tau (lambda / lambda_norm)^-alpha."""

    ln_wavelength: FloatArray
    """ln(lambda / lambda_norm), (n_lambda,)."""

    def law(self, parameters: AtmosphereParameters) -> Law:
        """Return the depth along the line of sight, see `Absorber`."""
        airmass, slope = aerosol_airmass(parameters.airmass)
        scale, none = parameters.tau * airmass, np.zeros(len(parameters))
        return Law(
            _columns(none, -parameters.alpha),
            np.stack([np.ones_like(self.ln_wavelength), self.ln_wavelength]),
            {
                "ln_tau": lambda: _columns(scale, none),
                "alpha": lambda: _columns(none, -scale),
                "airmass": lambda: _columns(parameters.tau * slope, none),
            },
            scale,
        )

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

    def law(self, parameters: AtmosphereParameters) -> Law:
        """Return the depth along the line of sight, see `Absorber`."""
        airmass, slope = molecular_airmass(parameters.airmass)
        log, one, none = np.log(airmass), np.ones(len(parameters)), np.zeros(len(parameters))
        growth = slope / airmass
        return Law(
            _columns(one, log, log**2, np.log(parameters.pmb / self.reference_pmb)),
            np.vstack([self.curve, self.exponent]),
            {
                "pmb": lambda: _columns(none, none, none, 1.0 / parameters.pmb),
                "airmass": lambda: _columns(none, growth, 2.0 * log * growth, none),
            },
            one,
        )

    def resampled(self, resampling: Resampling) -> MixedGases:
        """Give the absorber on other wavelengths, see `Absorber`."""
        return MixedGases(resampling(self.curve), resampling(self.exponent), self.reference_pmb)


@dataclass(frozen=True)
class WaterVapor:
    """Water vapor: ln(depth) is a spline in ln(PWV times secant)."""

    curve: FloatArray
    """Coefficients in the basis of `growth_basis`, (n_coefficient + 2, n_lambda)."""

    def law(self, parameters: AtmosphereParameters) -> Law:
        """Return the depth along the line of sight, see `Absorber`."""
        airmass, slope = water_airmass(parameters.airmass)
        value, growth = growth_basis(np.log(parameters.pwv * airmass))
        slopes = {"ln_pwv": lambda: growth, "airmass": lambda: growth * (slope / airmass)[:, None]}
        return Law(value, self.curve, slopes, np.ones(len(parameters)))

    def resampled(self, resampling: Resampling) -> WaterVapor:
        """Give the absorber on other wavelengths, see `Absorber`."""
        return WaterVapor(resampling(self.curve))
