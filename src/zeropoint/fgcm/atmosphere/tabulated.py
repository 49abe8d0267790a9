"""Absorbers that interpolate tabulated depths instead of following a law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.atmosphere._resampling import Resampling
from zeropoint.fgcm.atmosphere.absorbers import Law
from zeropoint.fgcm.atmosphere.parameters import AtmosphereParameters

__all__ = ["TabulatedGas", "TabulatedOzone", "TabulatedWater"]

FloatArray = npt.NDArray[np.float64]


def _between(nodes: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the weights with which nodes give what is linear between them (and beyond the last), and their slopes."""
    low = np.clip(np.searchsorted(nodes, values, side="right") - 1, 0, nodes.size - 2)
    width, row = nodes[low + 1] - nodes[low], np.arange(len(values))
    fraction = (values - nodes[low]) / width
    weights, slopes = np.zeros((2, len(values), nodes.size))
    weights[row, low], weights[row, low + 1] = 1.0 - fraction, fraction
    slopes[row, low], slopes[row, low + 1] = -1.0 / width, 1.0 / width
    return weights, slopes


def _products(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the products of the weights of two sets of nodes, the second running faster."""
    return np.asarray((first[:, :, None] * second[:, None, :]).reshape(len(first), -1))


def _with_constant(weights: FloatArray, constant: float) -> FloatArray:
    """Return weights with one more, of a row of ones."""
    return np.column_stack([weights, np.full(len(weights), constant)])


def _with_row_of_ones(rows: FloatArray) -> FloatArray:
    """Return rows with one more, of ones."""
    return np.vstack([rows, np.ones(rows.shape[1])])


@dataclass(frozen=True)
class TabulatedGas:
    """A gas whose depth is proportional to pressure, ln(depth) linear in ln(secant) between nodes."""

    ln_secant: FloatArray
    """Nodes, (n_secant,)."""
    ln_depth: FloatArray
    """(n_secant, n_lambda)."""
    pmb: float
    """Pressure of the table, mb."""

    def law(self, parameters: AtmosphereParameters) -> Law:
        """Return the depth along the line of sight, see `Absorber`."""
        weights, slopes = _between(self.ln_secant, np.log(parameters.airmass))
        scale = parameters.pmb / self.pmb
        return Law(
            _with_constant(weights, 0.0),
            _with_row_of_ones(self.ln_depth),
            {
                "pmb": lambda: _with_constant(0.0 * weights, 1.0 / self.pmb),
                "airmass": lambda: _with_constant((scale / parameters.airmass)[:, None] * slopes, 0.0),
            },
            scale,
        )

    def resampled(self, resampling: Resampling) -> TabulatedGas:
        """Give the absorber on other wavelengths, see `Absorber`."""
        return TabulatedGas(self.ln_secant, resampling(self.ln_depth), self.pmb)


@dataclass(frozen=True)
class TabulatedOzone:
    """Ozone by Beer's law in its amount, ln(depth per DU) linear in ln(secant) between nodes."""

    ln_secant: FloatArray
    """Nodes, (n_secant,)."""
    ln_per_dobson: FloatArray
    """(n_secant, n_lambda)."""

    def law(self, parameters: AtmosphereParameters) -> Law:
        """Return the depth along the line of sight, see `Absorber`."""
        weights, slopes = _between(self.ln_secant, np.log(parameters.airmass))
        return Law(
            _with_constant(weights, 0.0),
            _with_row_of_ones(self.ln_per_dobson),
            {
                "o3": lambda: _with_constant(0.0 * weights, 1.0),
                "airmass": lambda: _with_constant(
                    (parameters.o3 / parameters.airmass)[:, None] * slopes, 0.0
                ),
            },
            parameters.o3,
        )

    def resampled(self, resampling: Resampling) -> TabulatedOzone:
        """Give the absorber on other wavelengths, see `Absorber`."""
        return TabulatedOzone(self.ln_secant, resampling(self.ln_per_dobson))


@dataclass(frozen=True)
class TabulatedWater:
    """Water, ln(depth) bilinear in ln(PWV) and ln(secant) between nodes."""

    ln_pwv: FloatArray
    """Nodes, (n_pwv,)."""
    ln_secant: FloatArray
    """Nodes, (n_secant,)."""
    ln_depth: FloatArray
    """(n_pwv, n_secant, n_lambda)."""

    def law(self, parameters: AtmosphereParameters) -> Law:
        """Return the depth along the line of sight, see `Absorber`."""
        water, more_water = _between(self.ln_pwv, np.log(parameters.pwv))
        air, more_air = _between(self.ln_secant, np.log(parameters.airmass))
        slopes = {
            "ln_pwv": lambda: _products(more_water, air),
            "airmass": lambda: _products(water, more_air) / parameters.airmass[:, None],
        }
        rows = self.ln_depth.reshape(-1, self.ln_depth.shape[-1])
        return Law(_products(water, air), rows, slopes, np.ones(len(parameters)))

    def resampled(self, resampling: Resampling) -> TabulatedWater:
        """Give the absorber on other wavelengths, see `Absorber`."""
        return TabulatedWater(self.ln_pwv, self.ln_secant, resampling(self.ln_depth))
