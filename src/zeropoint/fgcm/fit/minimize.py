"""Two ways to a minimum between bounds: damped Newton steps, and L-BFGS-B on the same function.

The function is half a chi-square (priors included), so that its Hessian is the inverse of the parameters' covariance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize as scipy_minimize

__all__ = ["Minimum", "Problem", "Step", "gauss_newton", "inverse_root", "lbfgsb"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Damping that the first rejected step starts with; factors by which it grows and shrinks; below the last it is none.
_FIRST_DAMPING, _GROW, _SHRINK, _LEAST_DAMPING = 1e-3, 10.0, 0.1, 1e-5
#: Damping beyond which no step is tried: what is left is rounding.
_MOST_DAMPING = 1e8
#: What rounding may change the function by, as a part of it.
_ROUNDING = 1e-13
#: Corrections that L-BFGS-B keeps.
_MEMORY = 20


class Problem(Protocol):
    """What is minimised: half a chi-square of n parameters."""

    lower: FloatArray
    upper: FloatArray

    def evaluate(self, vector: FloatArray) -> tuple[float, FloatArray]:
        """Return the value and its exact gradient, shape (n,)."""
        ...

    def hessian(self, vector: FloatArray) -> FloatArray:
        """Return the Hessian, or what stands for it, shape (n, n): symmetric and positive definite."""
        ...


@dataclass(frozen=True)
class Step:
    """One step of a minimisation.

    Parameters
    ----------
    value
        Of the function after the step (before it, where the step was rejected).
    largest
        Largest change of a parameter over its error; NaN where errors were not computed.
    damping
        0 for a full step.
    accepted
        False: the function would have risen.
    """

    value: float
    largest: float
    damping: float
    accepted: bool


@dataclass(frozen=True)
class Minimum:
    """Where a minimisation ended.

    Parameters
    ----------
    vector : float64, shape (n,)
        The best parameters that were met.
    value
        Of the function there.
    steps
        What was tried.
    evaluations
        How often the function was computed.
    converged
        Whether the next step would have been small.
    held : bool, shape (n,)
        Parameters that are at a bound with the function still falling beyond it.
    """

    vector: FloatArray
    value: float
    steps: tuple[Step, ...]
    evaluations: int
    converged: bool
    held: BoolArray


def gauss_newton(
    problem: Problem,
    start: FloatArray,
    *,
    tolerance: float = 0.01,
    max_iterations: int = 25,
    on_step: Callable[[Step], None] | None = None,
) -> Minimum:
    """Minimise by Newton steps, which are damped (Levenberg) while they do not lead down.

    Parameters
    ----------
    problem
        Function, gradient, Hessian and bounds.
    start : float64, shape (n,)
        Where to begin; brought within the bounds.
    tolerance
        Ends when the full step changes every parameter by less than this part of its error.
    max_iterations
        Most steps, rejected ones included.
    on_step
        Called after every step.

    Returns
    -------
    minimum : Minimum

    Notes
    -----
    Parameters at a bound with the gradient pointing out are held; a step that would cross bounds is solved again with the
    parameters that cross held there, so the others know of it. Every step that raises the function is rejected.
    """
    x = np.clip(start, problem.lower, problem.upper)
    value, gradient = problem.evaluate(x)
    hessian = problem.hessian(x)
    held = _pushed_out(x, gradient, problem)
    steps: list[Step] = []
    damping, converged, evaluations = 0.0, False, 1
    while len(steps) < max_iterations and not converged and damping <= _MOST_DAMPING:
        held = _pushed_out(x, gradient, problem)
        step, sigma = _bounded_step(problem, x, gradient, hessian, held, damping)
        largest = float(np.max(np.abs(step) / sigma, initial=0.0))
        trial = x + step
        new_value, new_gradient = problem.evaluate(trial)
        evaluations += 1
        accepted = bool(new_value <= value + _ROUNDING * abs(value))
        if accepted:
            x, value, gradient = trial, new_value, new_gradient
            converged = damping == 0.0 and largest < tolerance
            damping = damping * _SHRINK if damping * _SHRINK > _LEAST_DAMPING else 0.0
            if not converged:
                hessian = problem.hessian(x)
        else:
            # a step this small that does not lead down: the minimum to the precision of the function
            converged = damping == 0.0 and largest < tolerance
            damping = max(damping * _GROW, _FIRST_DAMPING)
        steps.append(Step(value, largest, damping if not accepted else 0.0, accepted))
        if on_step is not None:
            on_step(steps[-1])
    return Minimum(x, value, tuple(steps), evaluations, converged, _pushed_out(x, gradient, problem))


def lbfgsb(
    problem: Problem,
    start: FloatArray,
    *,
    max_iterations: int = 500,
    on_step: Callable[[Step], None] | None = None,
) -> Minimum:
    """Minimise with scipy's L-BFGS-B in units of the parameters' errors at the start; keeps the best point met.

    Parameters
    ----------
    problem
        Function, gradient, Hessian (for the units only) and bounds.
    start : float64, shape (n,)
        Where to begin; brought within the bounds.
    max_iterations
        Most iterations.
    on_step
        Called after every iteration.

    Returns
    -------
    minimum : Minimum
    """
    x = np.clip(start, problem.lower, problem.upper)
    unit = 1.0 / np.sqrt(np.diag(problem.hessian(x)))
    best: list[tuple[float, FloatArray]] = []
    count = 0

    def function(scaled: FloatArray) -> tuple[float, FloatArray]:
        nonlocal count
        count += 1
        vector = np.clip(scaled * unit, problem.lower, problem.upper)
        value, gradient = problem.evaluate(vector)
        if not best or value < best[0][0]:
            best[:] = [(value, vector)]
        return value, gradient * unit

    steps: list[Step] = []

    def after(_: FloatArray) -> None:
        steps.append(Step(best[0][0], float("nan"), 0.0, True))
        if on_step is not None:
            on_step(steps[-1])

    answer = scipy_minimize(
        function,
        x / unit,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(problem.lower / unit, problem.upper / unit, strict=True)),
        callback=after,
        # units are errors: a gradient of 0.01 is a parameter 0.01 errors off, as far as it does not lean on others
        options={"maxcor": _MEMORY, "maxiter": max_iterations, "maxfun": 4 * max_iterations, "gtol": 1e-2, "ftol": 1e-14},
    )  # fmt: skip
    value, vector = best[0]
    gradient = problem.evaluate(vector)[1]
    return Minimum(
        vector, value, tuple(steps), count + 1, bool(answer.success), _pushed_out(vector, gradient, problem)
    )


def inverse_root(hessian: FloatArray, free: BoolArray) -> FloatArray:
    """Return a matrix S with S S' = H^-1 among the free parameters, and zeros for the others; shape (n, n_free).

    Parameters
    ----------
    hessian : float64, shape (n, n)
        Symmetric and positive definite.
    free : bool, shape (n,)
        Parameters that may move.
    """
    index = np.flatnonzero(free)
    block = hessian[np.ix_(index, index)]
    scale = 1.0 / np.sqrt(np.diag(block))
    factor = np.linalg.cholesky(block * np.outer(scale, scale))
    root = np.zeros((len(hessian), len(index)))
    root[index] = scale[:, None] * np.linalg.inv(factor).T
    return root


def _pushed_out(x: FloatArray, gradient: FloatArray, problem: Problem) -> BoolArray:
    """Return the parameters at a bound beyond which the function falls, and those whose bounds are one."""
    low, high = x <= problem.lower, x >= problem.upper
    return np.asarray((low & (gradient >= 0)) | (high & (gradient <= 0)) | (problem.lower >= problem.upper))


def _bounded_step(
    problem: Problem,
    x: FloatArray,
    gradient: FloatArray,
    hessian: FloatArray,
    held: BoolArray,
    damping: float,
) -> tuple[FloatArray, FloatArray]:
    """Return the step within the bounds, and the errors of the parameters (infinite where held)."""
    n = len(x)
    step, sigma = np.zeros(n), np.full(n, np.inf)
    fixed = held.copy()
    for _ in range(n):
        free = np.flatnonzero(~fixed)
        if len(free) == 0:
            break
        target = -gradient[free] - hessian[np.ix_(free, np.flatnonzero(fixed))] @ step[fixed]
        solution, errors = _solve(hessian[np.ix_(free, free)], target, damping)
        step[free] = solution
        if not np.isfinite(sigma).any():
            sigma[free] = errors
        over = (x + step < problem.lower) | (x + step > problem.upper)
        over &= ~fixed
        if not over.any():
            break
        step[over] = np.clip(x[over] + step[over], problem.lower[over], problem.upper[over]) - x[over]
        fixed |= over
    return np.clip(x + step, problem.lower, problem.upper) - x, sigma


def _solve(hessian: FloatArray, target: FloatArray, damping: float) -> tuple[FloatArray, FloatArray]:
    """Return the solution of the damped equations, and the errors of the undamped ones."""
    scale = 1.0 / np.sqrt(np.diag(hessian))
    unit = hessian * np.outer(scale, scale)
    unit[np.diag_indices_from(unit)] += damping
    factor = cho_factor(unit, lower=True)
    inverse = np.diag(cho_solve(factor, np.eye(len(unit))))
    return scale * cho_solve(factor, scale * target), scale * np.sqrt(inverse)
