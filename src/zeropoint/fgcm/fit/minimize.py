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
from scipy.linalg.lapack import dtrtri
from scipy.optimize import minimize as scipy_minimize

__all__ = ["Minimum", "Problem", "Step", "gauss_newton", "inverse_root", "lbfgsb"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: A step changes no parameter by more than this many times its scale at first, and never by more than the second.
_FIRST_RADIUS, _MOST_RADIUS = 1.0, 4.0
#: Radius, in scales, below which no step is tried: what is left is rounding.
_LEAST_RADIUS = 1e-6
#: Damping that a step beyond the radius starts with, in squares of one over the scale, and by which it grows.
_FIRST_DAMPING, _GROW = 1.0, 4.0
#: So many steps that together lower the function by less than the second end a minimisation.
_STALL, _FLAT = 5, 0.02
#: What rounding may change the function by, as a part of it.
_ROUNDING = 1e-13
#: Part of the expected curvature below which a step tells nothing.
_LEAST_CURVATURE = 0.05
#: Largest change in errors of a step that tells of the curvature at the minimum.
_NEAR = 2.0
#: Steps that correct the Hessian, or are kept by L-BFGS-B.
_MEMORY = 20


class Problem(Protocol):
    """What is minimised: half a chi-square of n parameters, with bounds.

    ``scale`` is how far each parameter may move in one step without leaving what is known of the function: the widths of
    physical priors; infinite where the function is quadratic in it.
    """

    @property
    def lower(self) -> FloatArray:
        """Lower bounds, shape (n,)."""
        ...

    @property
    def upper(self) -> FloatArray:
        """Upper bounds, shape (n,)."""
        ...

    @property
    def scale(self) -> FloatArray:
        """How far each may move in one step, shape (n,)."""
        ...

    @property
    def dof(self) -> int:
        """Degrees of freedom of the chi-square."""
        ...

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
        Largest change of a parameter over its error; NaN where errors were not computed, as for damped steps.
    damping
        Added to the Hessian in squares of one over the scales; 0 for a full step.
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
    arrive: Callable[[FloatArray, FloatArray], FloatArray] | None = None,
) -> Minimum:
    """Minimise by Newton steps, damped (Levenberg) as far as they would lead too far or do not lead down.

    Parameters
    ----------
    problem
        Function, gradient, Hessian and bounds.
    start : float64, shape (n,)
        Where to begin; brought within the bounds.
    tolerance
        Ends when the full step changes every parameter by less than this part of its error, which is taken to be larger by
        the root of chi-square per degree of freedom where that is above 1; or when five steps lead nowhere.
    max_iterations
        Most steps, rejected ones included.
    on_step
        Called after every step.
    arrive
        Returns where a step from a vector leads, to first order their sum; None: that.

    Returns
    -------
    minimum : Minimum

    Notes
    -----
    Parameters at a bound with the gradient pointing out are held; a step that would cross bounds is solved again with the
    parameters that cross held there, so the others know of it. Every step that raises the function is rejected. How the
    gradient changed over the steps before corrects the Hessian (BFGS), which leaves out second derivatives.
    """
    x = np.clip(start, problem.lower, problem.upper)
    value, gradient = problem.evaluate(x)
    hessian = problem.hessian(x)
    pairs: list[tuple[FloatArray, FloatArray]] = []
    steps: list[Step] = []
    radius, converged, evaluations, values = _FIRST_RADIUS, False, 1, [value]
    while len(steps) < max_iterations and not converged and radius > _LEAST_RADIUS:
        step, largest, damping = _step_within(problem, x, gradient, hessian, radius)
        trial = x + step if arrive is None else arrive(x, step)
        new_value, new_gradient = problem.evaluate(trial)
        evaluations += 1
        accepted = bool(new_value <= value + _ROUNDING * abs(value))
        # where the model does not reach chi-square, errors are larger than those of the weights
        inflation = np.sqrt(max(2.0 * value / max(problem.dof, 1), 1.0))
        # a step as small that does not lead down ends at the minimum to the precision of the function, too
        converged = damping == 0.0 and largest < tolerance * inflation
        if accepted:
            # far from the minimum, steps tell of curvature that is not there anymore
            is_near = damping == 0.0 and largest < _NEAR
            pairs = [*pairs[1 - _MEMORY :], (trial - x, new_gradient - gradient)] if is_near else []
            x, value, gradient = trial, new_value, new_gradient
            radius = min(2.0 * radius, _MOST_RADIUS)
            if not converged:
                hessian = _with_secants(problem.hessian(x), pairs)
        else:
            radius = 0.25 * float(np.max(np.abs(step) / problem.scale, initial=0.0))
        values.append(value)
        # with kinks in the function, as tables of a look-up table have, steps never become small
        converged = converged or (len(values) > _STALL and values[-1 - _STALL] - value < _FLAT * inflation**2)
        steps.append(Step(value, largest, damping, accepted))
        if on_step is not None:
            on_step(steps[-1])
    return Minimum(x, value, tuple(steps), evaluations, bool(converged), _pushed_out(x, gradient, problem))


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
    root = np.zeros((len(hessian), len(index)))
    root[index] = _Factor.of(hessian[np.ix_(index, index)]).inverse_root()
    return root


def _pushed_out(x: FloatArray, gradient: FloatArray, problem: Problem) -> BoolArray:
    """Return the parameters at a bound beyond which the function falls, and those whose bounds are one."""
    low, high = x <= problem.lower, x >= problem.upper
    return np.asarray((low & (gradient >= 0)) | (high & (gradient <= 0)) | (problem.lower >= problem.upper))


def _with_secants(hessian: FloatArray, pairs: list[tuple[FloatArray, FloatArray]]) -> FloatArray:
    """Return the Hessian with what steps and changes of the gradient tell of it, the latest last."""
    out = hessian
    if not pairs:
        return hessian
    for step, change in pairs:
        along, curvature = out @ step, float(step @ change)
        expected = float(step @ along)
        if not curvature > _LEAST_CURVATURE * expected:
            continue
        out = out - np.outer(along, along) / expected + np.outer(change, change) / curvature
    try:
        _Factor.of(out)
    except LinAlgError:
        # rounding may leave parameters that hardly any data touch without curvature
        return hessian
    return out


@dataclass(frozen=True)
class _Factor:
    """A symmetric matrix as its root in units in which its diagonal is 1.

    Parameters
    ----------
    scale : float64, shape (n,)
        These units.
    lower : float64, shape (n, n)
        Lower triangle; what is above is not used.
    """

    scale: FloatArray
    lower: FloatArray

    @classmethod
    def of(cls, matrix: FloatArray) -> _Factor:
        """Factor a matrix; raises LinAlgError where it is not positive definite."""
        diagonal = np.diag(matrix)
        if not (diagonal > 0).all():
            raise LinAlgError("a diagonal element is not positive")
        scale = 1.0 / np.sqrt(diagonal)
        scaled = matrix * scale
        scaled *= scale[:, None]
        return cls(scale, cho_factor(scaled, lower=True, overwrite_a=True, check_finite=False)[0])

    def solve(self, vector: FloatArray) -> FloatArray:
        """Return the inverse times a vector."""
        return np.asarray(self.scale * cho_solve((self.lower, True), self.scale * vector, check_finite=False))

    def inverse_root(self) -> FloatArray:
        """Return S with S S' the inverse of the matrix."""
        inverse, _ = dtrtri(self.lower, lower=1)
        return np.asarray(self.scale[:, None] * np.tril(inverse).T)

    def errors(self) -> FloatArray:
        """Return the roots of the diagonal of the inverse."""
        inverse, _ = dtrtri(self.lower, lower=1)
        inverse = np.tril(inverse)
        return np.asarray(self.scale * np.sqrt(np.einsum("ij,ij->j", inverse, inverse)))


def _step_within(
    problem: Problem, x: FloatArray, gradient: FloatArray, hessian: FloatArray, radius: float
) -> tuple[FloatArray, float, float]:
    """Return the least damped step within bounds and radius, its largest part in errors, and the damping."""
    held = _pushed_out(x, gradient, problem)
    metric = problem.scale**-2.0
    damping = 0.0
    while True:
        damped = hessian.copy()
        damped[np.diag_indices_from(damped)] += damping * metric
        step, free, factor = _bounded_step(problem, x, gradient, damped, held)
        if np.max(np.abs(step) / problem.scale, initial=0.0) <= radius:
            break
        damping = max(damping * _GROW, _FIRST_DAMPING)
    if damping > 0.0:
        return step, float("nan"), damping
    moved = np.flatnonzero((step != 0.0) & ~held)
    if not len(moved):
        return step, 0.0, damping
    if factor is None or len(moved) != len(free):
        factor = _Factor.of(hessian[np.ix_(moved, moved)])
    return step, float(np.max(np.abs(step[moved]) / factor.errors())), damping


def _bounded_step(
    problem: Problem, x: FloatArray, gradient: FloatArray, hessian: FloatArray, held: BoolArray
) -> tuple[FloatArray, npt.NDArray[np.intp], _Factor | None]:
    """Return the step to the minimum of the quadratic function within the bounds, what is free in it, and its Hessian."""
    step, fixed = np.zeros(len(x)), held.copy()
    free, factor = np.zeros(0, np.intp), None
    while not fixed.all():
        free = np.flatnonzero(~fixed)
        target = -gradient[free] - hessian[np.ix_(free, np.flatnonzero(fixed))] @ step[fixed]
        factor = _Factor.of(hessian[np.ix_(free, free)])
        step[free] = factor.solve(target)
        beyond = ~fixed & ((x + step < problem.lower) | (x + step > problem.upper))
        if not beyond.any():
            break
        step[beyond] = np.clip(x + step, problem.lower, problem.upper)[beyond] - x[beyond]
        fixed |= beyond
    return np.asarray(np.clip(x + step, problem.lower, problem.upper) - x), free, factor
