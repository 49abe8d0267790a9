"""Absorbers that interpolate tabulated depths instead of following a law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.atmosphere._resampling import Resampling
from zeropoint.fgcm.atmosphere.absorbers import Depth
from zeropoint.fgcm.atmosphere.parameters import AtmosphereParameters

__all__ = ["TabulatedGas", "TabulatedOzone", "TabulatedWater"]

FloatArray = npt.NDArray[np.float64]


def _locate(nodes: FloatArray, values: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray, FloatArray]:
    """Find the interval of each value, the fraction of it (beyond 0 and 1 outside), and the interval's width."""
    low = np.clip(np.searchsorted(nodes, values, side="right") - 1, 0, nodes.size - 2)
    width = nodes[low + 1] - nodes[low]
    return low, ((values - nodes[low]) / width)[:, None], width[:, None]


@dataclass(frozen=True)
class TabulatedGas:
    """A gas whose depth is proportional to pressure, ln(depth) linear in ln(secant) between nodes."""

    ln_secant: FloatArray
    """Nodes, (n_secant,)."""
    ln_depth: FloatArray
    """(n_secant, n_lambda)."""
    pmb: float
    """Pressure of the table, mb."""

    def depth(self, parameters: AtmosphereParameters, *, derivatives: bool) -> Depth:
        """Compute the depth along the line of sight, see `Absorber`."""
        low, fraction, width = _locate(self.ln_secant, np.log(parameters.airmass))
        rise = self.ln_depth[low + 1] - self.ln_depth[low]
        depth = np.exp(self.ln_depth[low] + fraction * rise) * (parameters.pmb / self.pmb)[:, None]
        if not derivatives:
            return depth, {}
        return depth, {
            "pmb": depth / parameters.pmb[:, None],
            "airmass": depth * rise / (width * parameters.airmass[:, None]),
        }

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

    def depth(self, parameters: AtmosphereParameters, *, derivatives: bool) -> Depth:
        """Compute the depth along the line of sight, see `Absorber`."""
        low, fraction, width = _locate(self.ln_secant, np.log(parameters.airmass))
        rise = self.ln_per_dobson[low + 1] - self.ln_per_dobson[low]
        per_dobson = np.exp(self.ln_per_dobson[low] + fraction * rise)
        depth = per_dobson * parameters.o3[:, None]
        if not derivatives:
            return depth, {}
        return depth, {"o3": per_dobson, "airmass": depth * rise / (width * parameters.airmass[:, None])}

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

    def depth(self, parameters: AtmosphereParameters, *, derivatives: bool) -> Depth:
        """Compute the depth along the line of sight, see `Absorber`."""
        w, f, w_width = _locate(self.ln_pwv, np.log(parameters.pwv))
        x, g, x_width = _locate(self.ln_secant, np.log(parameters.airmass))
        dry = (1 - g) * self.ln_depth[w, x] + g * self.ln_depth[w, x + 1]
        wet = (1 - g) * self.ln_depth[w + 1, x] + g * self.ln_depth[w + 1, x + 1]
        depth = np.exp((1 - f) * dry + f * wet)
        if not derivatives:
            return depth, {}
        low = (1 - f) * self.ln_depth[w, x] + f * self.ln_depth[w + 1, x]
        high = (1 - f) * self.ln_depth[w, x + 1] + f * self.ln_depth[w + 1, x + 1]
        return depth, {
            "ln_pwv": depth * (wet - dry) / w_width,
            "airmass": depth * (high - low) / (x_width * parameters.airmass[:, None]),
        }

    def resampled(self, resampling: Resampling) -> TabulatedWater:
        """Give the absorber on other wavelengths, see `Absorber`."""
        return TabulatedWater(self.ln_pwv, self.ln_secant, resampling(self.ln_depth))
