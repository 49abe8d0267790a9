"""Two ways to a minimum between bounds: damped Newton steps, and L-BFGS-B on the same function.

The function is half a chi-square (priors included), so that its Hessian is the inverse of the parameters' covariance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError
from scipy.optimize import minimize as scipy_minimize

from zeropoint.fgcm.fit.quadratic import Quadratic, less_damped, more_damped, pushed_out, with_secants

__all__ = ["Minimum", "Problem", "Step", "gauss_newton", "lbfgsb"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: A step changes no parameter by more than this many times its scale at first, and never by more than the second.
_FIRST_RADIUS, _MOST_RADIUS = 1.0, 4.0
#: Radius, in scales, below which no step is tried: what is left is rounding.
_LEAST_RADIUS = 1e-6
#: So many steps that together lower the function by less than the second end a minimisation.
_STALL, _FLAT = 5, 0.02
#: What rounding may change the function by, as a part of it.
_ROUNDING = 1e-13
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
    pairs: list[tuple[FloatArray, FloatArray]] = []
    steps: list[Step] = []
    radius, converged, evaluations, values = _FIRST_RADIUS, False, 1, [value]
    quadratic, begin, beyond = _Corrected(problem, x, gradient, problem.hessian(x), pairs), 0.0, -1.0
    while len(steps) < max_iterations and not converged and radius > _LEAST_RADIUS:
        step, largest, damping = quadratic.step_within(radius, begin, beyond)
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
                quadratic = _Corrected(problem, x, gradient, problem.hessian(x), pairs)
                begin, beyond = less_damped(damping), -1.0
        else:
            radius = 0.25 * float(np.max(np.abs(step) / problem.scale, initial=0.0))
            # a step that was not damped enough is not tried again
            begin, beyond = more_damped(damping), damping
        values.append(value)
        # with kinks in the function, as tables of a look-up table have, steps never become small
        converged = converged or (len(values) > _STALL and values[-1 - _STALL] - value < _FLAT * inflation**2)
        steps.append(Step(value, largest, damping, accepted))
        if on_step is not None:
            on_step(steps[-1])
    held = pushed_out(x, gradient, problem.lower, problem.upper)
    return Minimum(x, value, tuple(steps), evaluations, bool(converged), held)


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
        vector,
        value,
        tuple(steps),
        count + 1,
        bool(answer.success),
        pushed_out(vector, gradient, problem.lower, problem.upper),
    )


class _Corrected:
    """The quadratic function around a point whose Hessian is corrected by the steps before, where that can be.

    Parameters
    ----------
    problem, x, gradient, hessian
        The function, the point, and derivatives there.
    pairs
        Steps before, and how the gradient changed over each.
    """

    def __init__(
        self,
        problem: Problem,
        x: FloatArray,
        gradient: FloatArray,
        hessian: FloatArray,
        pairs: list[tuple[FloatArray, FloatArray]],
    ) -> None:
        self._around = (x, gradient, problem.lower, problem.upper, problem.scale)
        self._hessian, self._is_corrected = hessian, bool(pairs)
        self._quadratic = Quadratic(with_secants(hessian, pairs), *self._around)

    def step_within(self, radius: float, begin: float, beyond: float) -> tuple[FloatArray, float, float]:
        """Return the least damped step, its largest part in errors, and the damping; see `Quadratic.step_within`."""
        try:
            trial = self._quadratic.step_within(radius, begin, beyond)
        except LinAlgError:
            if not self._is_corrected:
                raise
            # rounding may leave parameters that hardly any data touch without curvature
            self._quadratic, self._is_corrected = Quadratic(self._hessian, *self._around), False
            trial = self._quadratic.step_within(radius)
        return trial.step, self._quadratic.largest(trial), trial.damping
