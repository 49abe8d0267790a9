"""How large the errors of absorption of the exposures are: what their likelihood says, all other parameters integrated out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize_scalar

if TYPE_CHECKING:
    from zeropoint.fgcm.fit.problem import SurveyProblem

__all__ = ["likely_absorption"]

FloatArray = npt.NDArray[np.float64]

#: Largest width, mag, and the part to which it is found.
_MOST, _PRECISION = 0.02, 0.05
#: Where widths are compared with the least one, and by how much twice the logarithm of the likelihood must grow for another.
_NEXT, _SIGNIFICANT = 1.1, 4.0


def likely_absorption(
    problem: SurveyProblem, vector: FloatArray, held: npt.NDArray[np.bool_], least: float
) -> float:
    """Return the width of the prior of the errors of absorption that makes the observations most likely, mag.

    Parameters
    ----------
    problem
        With errors of absorption among what is free.
    vector : float64, shape (n,)
        Near the minimum: chi-square is taken for quadratic, so that nothing is fitted again.
    held : bool, shape (n,)
        Parameters at their bounds.
    least
        Least width, mag; it is also that where the observations do not tell.

    Notes
    -----
    Twice the negative logarithm of the likelihood is the least chi-square, priors included, and the logarithms of the
    determinant of the Hessian and of the prior's covariance.
    """
    columns = np.arange(problem.free.n_named, len(problem.free))
    gradient, hessian = problem.evaluate(vector)[1], problem.hessian(vector)
    prior = float(problem.priors.sigma[columns[0]])
    free = np.flatnonzero(~held & ~problem.undetermined)
    own = np.searchsorted(free, columns)
    scale = np.diag(hessian)[free] ** -0.5
    scaled = hessian[np.ix_(free, free)] * scale * scale[:, None]

    def cost(log_width: float) -> float:
        more = np.exp(-2.0 * log_width) - prior**-2.0
        changed, pull = scaled.copy(), gradient[free]
        changed[own, own] += more * scale[own] ** 2
        pull[own] += more * vector[columns]
        factor = cho_factor(changed, lower=True, overwrite_a=True, check_finite=False)
        determinant = 2.0 * np.sum(np.log(np.diag(factor[0]))) + 2.0 * len(columns) * log_width
        least_chi2 = more * vector[columns] @ vector[columns] - scale * pull @ cho_solve(factor, scale * pull)
        return float(determinant + least_chi2)

    low = float(np.log(least))
    at_least = cost(low)
    if cost(low + float(np.log(_NEXT))) >= at_least:
        return least
    found = minimize_scalar(
        cost, bounds=(low, np.log(_MOST)), method="bounded", options={"xatol": _PRECISION}
    )
    return float(np.exp(found.x)) if at_least - found.fun > _SIGNIFICANT else least
