"""Priors of the free parameters: independent ones, and a mean that nights share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from zeropoint.fgcm.model.layout import ParameterLayout

__all__ = ["NIGHTLY", "Priors"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Classes whose nights scatter about a mean of the survey that is not known better than one night.
NIGHTLY = ("o3", "ln_tau_intercept", "alpha", "ln_pwv_intercept")


@dataclass(frozen=True)
class Priors:
    """Normal priors of n parameters.

    Parameters
    ----------
    mean, sigma : float64, shape (n,)
        Of each by itself; an infinite sigma: none.
    groups
        Indices of parameters that deviate from their means together by their sigma, and each by itself by 0.7 of it: so the
        mean of many nights is not held nearer to the standard atmosphere than each night is.

    Notes
    -----
    The covariance of a group is ``sigma^2 (1 1' + 1/2)``, so its inverse is ``2 sigma^-2 (1 - 1 1' / (N + 1/2))``.
    """

    mean: FloatArray
    sigma: FloatArray
    groups: tuple[IntArray, ...] = ()

    @classmethod
    def of(cls, layout: ParameterLayout) -> Priors:
        """Return the priors of a layout.

        Parameters
        ----------
        layout
            Means and sigmas, and which parameters are of nights.
        """
        groups = []
        for name in NIGHTLY:
            index = layout.indices[name]
            columns = np.unique(index[index >= 0])
            if len(columns) and np.isfinite(layout.prior_sigma[columns]).all():
                groups.append(columns)
        return cls(layout.prior_mean, layout.prior_sigma, tuple(groups))

    def with_sigma(self, columns: IntArray, sigma: FloatArray) -> Priors:
        """Return the priors with other sigmas of some parameters.

        Parameters
        ----------
        columns : shape (m,)
            Which.
        sigma : float64, shape (m,)
            Theirs.
        """
        changed = self.sigma.copy()
        changed[columns] = sigma
        return replace(self, sigma=changed)

    def pull(self, vector: FloatArray) -> FloatArray:
        """Return the gradient of half of the priors' chi-square, shape (n,).

        Parameters
        ----------
        vector : float64, shape (n,)
            Parameters.
        """
        weighted = (vector - self.mean) * self.sigma**-2.0
        for columns in self.groups:
            shared = np.sum(vector[columns] - self.mean[columns]) / (len(columns) + 0.5)
            weighted[columns] = 2.0 * (weighted[columns] - shared * self.sigma[columns] ** -2.0)
        return np.asarray(weighted)

    def chi2(self, vector: FloatArray) -> float:
        """Return the chi-square.

        Parameters
        ----------
        vector : float64, shape (n,)
            Parameters.
        """
        return float((vector - self.mean) @ self.pull(vector))

    def hessian(self) -> FloatArray:
        """Return the inverse of the covariance, shape (n, n)."""
        out = np.diag(self.sigma**-2.0)
        for columns in self.groups:
            block = np.ix_(columns, columns)
            out[block] = 2.0 * (out[block] - self.sigma[columns] ** -2.0 / (len(columns) + 0.5))
        return out
