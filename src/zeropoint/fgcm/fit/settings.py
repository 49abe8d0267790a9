"""How a fit proceeds: one frozen record, which a cycle's config is turned into."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from zeropoint.errors import InvalidInputError

__all__ = ["FitSettings"]


@dataclass(frozen=True)
class FitSettings:
    """How a fit proceeds.

    Parameters
    ----------
    optimizer
        ``gauss_newton``: damped Newton steps on the reduced problem. ``lbfgsb``: scipy's L-BFGS-B on the same objective and
        gradient, for comparison.
    max_iterations
        Most steps of one minimisation: Gauss-Newton needs about ten, L-BFGS-B hundreds. 0: only errors are computed.
    step_tolerance
        A fit has converged when the next step changes no parameter by more than this part of its error.
    robust
        Whether observations far from their star's mean get less weight (Huber), which is decided between minimisations and
        then kept.
    robust_threshold
        Residual over its error from where on an observation's weight falls as one over the residual.
    robust_rounds
        How often the weights are decided.
    joint_gray
        Whether the gray of every exposure is a parameter with a prior of heavy tail, so that clouds are part of the same
        likelihood.
    gray_sigma
        Width of the prior of the gray of an exposure, magnitudes: how much clear exposures scatter beyond what the
        atmosphere's parameters say.
    gray_tail
        Degrees of freedom of the prior's Student distribution.
    gray_rounds
        How often, at most, the widths of the priors of the exposures are decided anew.
    gray_structure
        By what part of its gray an exposure scatters over the field: their observations get so much larger errors.
    calibrate_sed
        Whether scale and offset of the slopes of spectra are fitted for each band.
    sed_scale_sigma, sed_offset_sigma
        Widths of their priors: parts, 1/Angstrom.
    absorption_sigma
        How well, at best, the model knows the absorption of one exposure, beyond what the atmosphere's parameters and the
        residuals of bands say, mag: width of the prior of an error that each exposure in the fit has, and that the posterior
        knows of. Where the observations say that these errors are larger, they are taken to be. 0: none. Surveys of more than 2500 exposures in the fit have none.
    absorption_start
        Width to begin with, mag: that of a fit from which this one goes on. None: the least.
    preliminary
        Whether the fit is one from which another goes on: that it has not converged is then no warning.
    seeks_clouds
        Whether clouds may be among the exposures yet: the width of the error of absorption is then 5 mmag or more.
    threads
        For sweeps.

    Raises
    ------
    InvalidInputError
        If a number is out of its range.
    """

    optimizer: Literal["gauss_newton", "lbfgsb"] = "gauss_newton"
    max_iterations: int = 25
    step_tolerance: float = 0.01
    robust: bool = False
    robust_threshold: float = 2.5
    robust_rounds: int = 2
    joint_gray: bool = False
    gray_sigma: float = 0.001
    gray_tail: float = 2.0
    gray_rounds: int = 8
    gray_structure: float = 0.05
    calibrate_sed: bool = True
    sed_scale_sigma: float = 0.2
    sed_offset_sigma: float = 1e-4
    absorption_sigma: float = 1.2e-4
    absorption_start: float | None = None
    preliminary: bool = False
    seeks_clouds: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        if self.optimizer not in ("gauss_newton", "lbfgsb"):
            raise InvalidInputError(f"optimizer must be 'gauss_newton' or 'lbfgsb', not {self.optimizer!r}.")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool | str) or value is None:
                continue
            may_be_0 = field.name in ("gray_structure", "max_iterations", "absorption_sigma")
            if not np.isfinite(value) or (value < 0 if may_be_0 else value <= 0):
                raise InvalidInputError(
                    f"{field.name} of the fit must be {'0 or more' if may_be_0 else 'positive'}, not {value}."
                )
