"""How large the errors of absorption of the exposures are: what their likelihood says, all other parameters integrated out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotrs
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
    is_free = ~held & ~problem.undetermined
    is_free[columns] = False
    pull, reduced = _without(np.flatnonzero(is_free), columns, gradient, hessian)
    errors, diagonal = vector[columns], np.diag_indices(len(columns))

    def cost(log_width: float) -> float:
        more = np.exp(-2.0 * log_width) - prior**-2.0
        changed, changed_pull = reduced.copy(), pull + more * errors
        changed[diagonal] += more
        # symmetric: its transpose is the same matrix in the order of LAPACK
        root, info = dpotrf(changed.T, lower=1, overwrite_a=1)
        if info != 0:
            raise LinAlgError("the Hessian of the errors of absorption is not positive definite")
        determinant = 2.0 * np.sum(np.log(np.diag(root))) + 2.0 * len(columns) * log_width
        least_chi2 = more * errors @ errors - changed_pull @ dpotrs(root, changed_pull, lower=1)[0]
        return float(determinant + least_chi2)

    low = float(np.log(least))
    at_least = cost(low)
    if cost(low + float(np.log(_NEXT))) >= at_least:
        return least
    found = minimize_scalar(
        cost, bounds=(low, np.log(_MOST)), method="bounded", options={"xatol": _PRECISION}
    )
    return float(np.exp(found.x)) if at_least - found.fun > _SIGNIFICANT else least


def _without(
    others: npt.NDArray[np.intp], own: npt.NDArray[np.intp], gradient: FloatArray, hessian: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return gradient and Hessian of some parameters when others follow them to where the function is least."""
    # these do not change with the width, so that each width costs a matrix of the errors alone
    scale = np.diag(hessian)[others] ** -0.5
    mixed = scale[:, None] * hessian[np.ix_(others, own)]
    factor = cho_factor(
        hessian[np.ix_(others, others)] * scale * scale[:, None], lower=True, check_finite=False
    )
    half = solve_triangular(factor[0], np.column_stack([mixed, scale * gradient[others]]), lower=True)
    response = half[:, :-1].T @ half
    return gradient[own] - response[:, -1], hessian[np.ix_(own, own)] - response[:, :-1]
