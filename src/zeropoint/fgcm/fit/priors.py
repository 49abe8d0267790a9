"""Priors of the free parameters: independent ones, a mean that nights share, and what holds in the middle of a night."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

if TYPE_CHECKING:
    from zeropoint.fgcm.model.layout import ParameterLayout

__all__ = ["NIGHTLY", "Priors"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Classes whose nights scatter about a mean of the survey that is not known better than one night.
NIGHTLY = ("o3", "ln_tau_intercept", "alpha", "ln_pwv_intercept")
#: Class -> classes of the same nights with which it changes in time: power of the time, and factor in front of it.
_IN_TIME: Mapping[str, tuple[tuple[str, int, float], ...]] = {
    "ln_tau_intercept": (("ln_tau_slope", 1, 1.0),),
    "ln_pwv_intercept": (("ln_pwv_slope", 1, 1.0), ("ln_pwv_quadratic", 2, 1.0)),
    "ln_pwv_slope": (("ln_pwv_quadratic", 1, 2.0),),
}


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
    shift
        Sparse, shape (n, n): deviations that the priors are of, by those of the parameters; None: they are the same. A night's
        intercept is what the parameter would be hours before the first exposure; the prior is of the middle of its exposures.

    Notes
    -----
    The covariance of a group is ``sigma^2 (1 1' + 1/2)``, so its inverse is ``2 sigma^-2 (1 - 1 1' / (N + 1/2))``.
    """

    mean: FloatArray
    sigma: FloatArray
    groups: tuple[IntArray, ...] = ()
    shift: Any = None

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
        return cls(layout.prior_mean, layout.prior_sigma, tuple(groups), _to_the_middle(layout))

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
        deviation = vector - self.mean
        return self._back(self._weighted(deviation if self.shift is None else self.shift @ deviation))

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
        return self._back(self._back(out).T)

    def _weighted(self, deviation: FloatArray) -> FloatArray:
        """Return the product of the inverse covariance with deviations that the priors are of."""
        weighted = deviation * self.sigma**-2.0
        for columns in self.groups:
            shared = np.sum(deviation[columns]) / (len(columns) + 0.5)
            weighted[columns] = 2.0 * (weighted[columns] - shared * self.sigma[columns] ** -2.0)
        return np.asarray(weighted)

    def _back(self, values: FloatArray) -> FloatArray:
        """Return gradients by the parameters, from those by what the priors are of, down the columns."""
        return values if self.shift is None else np.asarray(self.shift.T @ values)


def _to_the_middle(layout: ParameterLayout) -> Any:
    """Return how deviations in the middle of each night follow from those of the parameters, sparse, shape (n, n)."""
    rows, columns, values = [], [], []
    for name, others in _IN_TIME.items():
        for other, power, factor in others:
            own, its = layout.indices[name], layout.indices[other]
            both = (own >= 0) & (its >= 0)
            rows.append(own[both])
            columns.append(its[both])
            values.append(factor * layout.night_middle[both] ** power)
    place = (np.concatenate(rows), np.concatenate(columns))
    shape = (layout.n_free, layout.n_free)
    return sparse.identity(layout.n_free, format="csr") + sparse.csr_matrix(
        (np.concatenate(values), place), shape
    )
