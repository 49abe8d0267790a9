"""What a fit returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.fit.minimize import Step
from zeropoint.fgcm.fit.posterior import Posterior
from zeropoint.fgcm.fit.sed_calibration import SedCalibration

if TYPE_CHECKING:
    from zeropoint.fgcm.model.parameters import FitParameters

__all__ = ["FitResult"]


@dataclass(frozen=True)
class FitResult:
    """Result of a fit.

    Parameters
    ----------
    parameters
        All of them, the free ones as fitted.
    sed
        Calibration of the slopes of spectra: apply it to the slopes from colors wherever they are used.
    vector : float64, shape (n_free,)
        The free ones, and those of the calibration.
    chi2
        Of observations and references, with the weights that the fit ended with.
    prior_chi2
        Of the priors.
    n_used, n_reference, n_means
        Observations and reference magnitudes in ``chi2``, and stars and bands whose means were fitted.
    n_free
        Free parameters, those held at a bound left out.
    iterations, evaluations
        Steps, and sweeps over the observations.
    converged
        Whether the last step was small.
    at_bounds
        Names of the parameters that are held at a bound.
    undetermined
        Names of those that neither an observation nor a prior touches; they were left where they were.
    mean, weight_sum : float64, shape (n_star, n_band)
        Mean standard magnitude of each star, NaN where nothing was used, and the sum of its weights.
    weight : float32, shape (n_obs,)
        As the fit ended with: those given, times what robustness and gray made of them.
    n_downweighted
        Observations whose weight is less than half of that given.
    steps
        One by one.
    find_posterior
        Computes the errors: of preliminary fits hardly any are asked for.
    absorption_exposures : int64, shape (n_absorption,)
        Exposures whose absorption was allowed an error: the last elements of ``vector``, mag.
    absorption_prior
        Width of its prior, mag.
    absorption_sigma
        As of the settings, which is less where clouds are still sought.
    seeks_clouds
        As of the settings.
    """

    parameters: FitParameters
    sed: SedCalibration
    vector: npt.NDArray[np.float64]
    chi2: float
    prior_chi2: float
    n_used: int
    n_reference: int
    n_means: int
    n_free: int
    iterations: int
    evaluations: int
    converged: bool
    at_bounds: tuple[str, ...]
    undetermined: tuple[str, ...]
    mean: npt.NDArray[np.float64]
    weight_sum: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float32]
    n_downweighted: int
    steps: tuple[Step, ...]
    find_posterior: Callable[[], Posterior | None]
    absorption_exposures: npt.NDArray[np.int64]
    absorption_prior: float
    absorption_sigma: float
    seeks_clouds: bool

    @cached_property
    def posterior(self) -> Posterior | None:
        """Errors of the parameters; None if nothing was free."""
        return self.find_posterior()

    @property
    def dof(self) -> int:
        """Degrees of freedom: measurements less means and free parameters."""
        return self.n_used + self.n_reference - self.n_means - self.n_free

    def absorption_covariance(self) -> npt.NDArray[np.float64]:
        """Return the covariance of the errors of absorption, mag^2, shape (n_absorption, n_absorption).

        Raises
        ------
        ValueError
            If nothing was free.
        """
        if self.posterior is None:
            raise ValueError("a fit without free parameters has no errors")
        rows = self.posterior.root[len(self.vector) - len(self.absorption_exposures) :]
        return rows @ rows.T
