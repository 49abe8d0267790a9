"""Nodes of a table of transmissions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.atmosphere.parameters import AtmosphereParameters
from zeropoint.fgcm.limits import LIMITS

__all__ = ["TableAxes"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TableAxes:
    """Ranges and numbers of nodes of a table, and the standard atmosphere; as FgcmMakeLutParametersConfig has them."""

    pmb_range: tuple[float, float]
    """mb."""
    pwv_range: tuple[float, float]
    """mm; nodes are even in the logarithm."""
    pmb_std: float
    pwv_std: float
    airmass_std: float
    o3_range: tuple[float, float] = (220.0, 310.0)
    """Dobson units."""
    tau_range: tuple[float, float] = (0.002, 0.35)
    """Nodes are even in the logarithm."""
    alpha_range: tuple[float, float] = (0.0, 2.0)
    zenith_range: tuple[float, float] = (0.0, 70.0)
    """Degrees; nodes are even in the secant."""
    pmb_steps: int = 5
    pwv_steps: int = 15
    o3_steps: int = 3
    tau_steps: int = 11
    alpha_steps: int = 9
    zenith_steps: int = 21
    o3_std: float = 263.0
    tau_std: float = 0.03
    alpha_std: float = 1.0

    def __post_init__(self) -> None:
        for name in ("pmb", "pwv", "o3", "tau", "alpha", "zenith"):
            low, high = getattr(self, f"{name}_range")
            steps = getattr(self, f"{name}_steps")
            positive = name in ("pmb", "pwv", "tau")
            if steps < 2 or not low < high or (positive and low <= 0):
                raise InvalidInputError(
                    f"the axis {name} of the table of atmospheres needs an ascending range"
                    f"{' above 0' if positive else ''} and at least 2 steps; it has {low:g} to {high:g} in {steps}"
                )
        if not 0 <= self.zenith_range[0] < self.zenith_range[1] < 78.4:
            raise InvalidInputError(f"zenith_range must lie within 0 and 78 degrees, not {self.zenith_range}")
        # the standard atmosphere is checked as any
        AtmosphereParameters(
            self.pmb_std, self.pwv_std, self.o3_std, self.tau_std, self.alpha_std, self.airmass_std
        )
        for value in self.pmb_range:
            if LIMITS["pmb"].wrong(value):
                raise InvalidInputError(
                    f"pmb_range of the table of atmospheres: {value:g} is not between {LIMITS['pmb'].told(value)}"
                )

    def nodes(self, name: str) -> FloatArray:
        """Give the nodes of an axis.

        Parameters
        ----------
        name
            One of pmb, pwv, o3, tau, alpha, secant.

        Returns
        -------
        nodes
            In the axis' own unit; even in ln for pwv and tau.
        """
        if name == "secant":
            nearest, farthest = 1.0 / np.cos(np.radians(self.zenith_range))
            return np.linspace(float(nearest), float(farthest), self.zenith_steps)
        low, high = getattr(self, f"{name}_range")
        steps = getattr(self, f"{name}_steps")
        if name in ("pwv", "tau"):
            return np.exp(np.linspace(np.log(low), np.log(high), steps))
        return np.linspace(low, high, steps)
