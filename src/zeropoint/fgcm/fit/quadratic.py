"""The quadratic function that stands for what is minimised around a point, and steps to its minimum between bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError
from scipy.linalg.lapack import dpotrf, dpotrs, dtrtri

__all__ = ["Quadratic", "Trial", "inverse_root", "less_damped", "more_damped", "pushed_out", "with_secants"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IndexArray = npt.NDArray[np.intp]

#: Damping that a step beyond the radius starts with, in squares of one over the scale, and by which it grows.
_FIRST_DAMPING, _GROW = 1.0, 4.0
#: Rows of a triangle that LAPACK inverts as fast as anything does.
_SMALL = 96
#: Part of the expected curvature below which a step tells nothing.
_LEAST_CURVATURE = 0.05


def pushed_out(x: FloatArray, gradient: FloatArray, lower: FloatArray, upper: FloatArray) -> BoolArray:
    """Return the parameters at a bound beyond which the function falls, and those whose bounds are one.

    Parameters
    ----------
    x, gradient, lower, upper : float64, shape (n,)
        Where, derivatives there, and bounds.
    """
    low, high = x <= lower, x >= upper
    return np.asarray((low & (gradient >= 0)) | (high & (gradient <= 0)) | (lower >= upper))


def with_secants(hessian: FloatArray, pairs: list[tuple[FloatArray, FloatArray]]) -> FloatArray:
    """Return the Hessian with what steps and changes of the gradient tell of it (BFGS), the latest last.

    Parameters
    ----------
    hessian : float64, shape (n, n)
        Symmetric and positive definite.
    pairs
        Steps and changes, each of shape (n,).
    """
    # of each correction the two vectors whose squares are subtracted and added
    less: list[FloatArray] = []
    more: list[FloatArray] = []
    for step, change in pairs:
        along = hessian @ step
        for old, new in zip(less, more, strict=True):
            along += new * (new @ step) - old * (old @ step)
        curvature, expected = float(step @ change), float(step @ along)
        if curvature > _LEAST_CURVATURE * expected:
            less.append(along / np.sqrt(expected))
            more.append(change / np.sqrt(curvature))
    if not less:
        return hessian
    added, taken = np.array(more), np.array(less)
    return np.asarray(hessian + np.vstack([added, -taken]).T @ np.vstack([added, taken]))


def less_damped(damping: float) -> float:
    """Return the next smaller damping.

    Parameters
    ----------
    damping
        One of 0, 1, 4, 16 and so on.
    """
    return damping / _GROW if damping > _FIRST_DAMPING else 0.0


def more_damped(damping: float) -> float:
    """Return the next larger damping.

    Parameters
    ----------
    damping
        One of 0, 1, 4, 16 and so on.
    """
    return max(damping * _GROW, _FIRST_DAMPING)


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
    matrix, unit = _scaled(hessian, index)
    root = np.zeros((len(hessian), len(index)))
    root[index] = unit[:, None] * _inverse(_factored(matrix)).T
    return root


@dataclass(frozen=True)
class Trial:
    """A step to the minimum of a damped quadratic function.

    Parameters
    ----------
    step : float64, shape (n,)
        The step.
    damping
        What was added to the Hessian, in squares of one over the scales.
    size
        Largest part of the step in scales.
    root : float64, shape (m, m)
        Lower root of the Hessian of the parameters that were not held.
    """

    step: FloatArray
    damping: float
    size: float
    root: FloatArray


class Quadratic:
    """A function of n parameters that is quadratic around a point, and bounds between which its minimum is sought.

    Parameters
    ----------
    hessian : float64, shape (n, n)
        Symmetric.
    x, gradient : float64, shape (n,)
        The point, and derivatives there.
    lower, upper : float64, shape (n,)
        Bounds.
    scale : float64, shape (n,)
        Units of the radius; see `zeropoint.fgcm.fit.minimize.Problem`.

    Notes
    -----
    Parameters at a bound with the gradient pointing out are held; a step that would cross bounds is solved again with the
    parameters that cross held there, so the others know of it.
    """

    def __init__(
        self,
        hessian: FloatArray,
        x: FloatArray,
        gradient: FloatArray,
        lower: FloatArray,
        upper: FloatArray,
        scale: FloatArray,
    ) -> None:
        self._free = np.flatnonzero(~pushed_out(x, gradient, lower, upper))
        self._x, self._lower, self._upper = (each[self._free] for each in (x, lower, upper))
        self._n, self._scale = len(x), scale[self._free]
        self._matrix, self._unit = _scaled(hessian, self._free)
        self._pull = -self._unit * gradient[self._free]
        self._metric = (self._unit / self._scale) ** 2

    def step_within(self, radius: float, begin: float = 0.0, beyond: float = -1.0) -> Trial:
        """Return the least damped step within a radius.

        Parameters
        ----------
        radius
            Most that a parameter changes, in scales.
        begin
            Damping that is tried first: the step does not depend on it, but is found sooner if that is near.
        beyond
            Damping that is known to lead beyond the radius, -1: none.

        Raises
        ------
        LinAlgError
            If the Hessian is not positive definite.
        """
        damping, found = begin, None
        while True:
            trial = self._damped(damping)
            if trial.size <= radius:
                found = trial
                if damping == 0.0 or less_damped(damping) <= beyond:
                    return found
                damping = less_damped(damping)
            elif found is not None:
                return found
            else:
                # steps become shorter by no more than their damping grows
                beyond, least = damping, damping * trial.size / radius
                damping = more_damped(damping)
                while damping * _GROW < least:
                    damping *= _GROW

    def largest(self, trial: Trial) -> float:
        """Return the largest change of a parameter over its error, NaN for a damped step.

        Parameters
        ----------
        trial
            The step.
        """
        if trial.damping > 0.0:
            return float("nan")
        step, root = trial.step[self._free] / self._unit, trial.root
        moved = np.flatnonzero(step)
        if not len(moved):
            return 0.0
        if len(moved) < len(step):
            root = _factored(_block(self._matrix, moved))
        inverse = _inverse(root)
        return float(np.max(np.abs(step[moved]) / np.sqrt(np.einsum("ij,ij->j", inverse, inverse))))

    def _damped(self, damping: float) -> Trial:
        """Return the step to the minimum within the bounds with a damping."""
        step, whole = np.zeros(self._n), self._with(damping, np.arange(len(self._free)))
        own, root, inside = np.zeros(len(self._free)), whole, np.arange(len(self._free))
        while len(inside):
            fixed = np.flatnonzero(np.isin(np.arange(len(own)), inside, invert=True))
            if len(fixed):
                root = self._with(damping, inside)
            target = self._pull[inside] - self._matrix[np.ix_(inside, fixed)] @ (
                own[fixed] / self._unit[fixed]
            )
            own[inside] = self._unit[inside] * dpotrs(root, target, lower=1)[0]
            place = self._x[inside] + own[inside]
            crosses = (place < self._lower[inside]) | (place > self._upper[inside])
            if not crosses.any():
                break
            out = inside[crosses]
            own[out] = np.clip(place[crosses], self._lower[out], self._upper[out]) - self._x[out]
            inside = inside[~crosses]
        step[self._free] = np.clip(self._x + own, self._lower, self._upper) - self._x
        size = float(np.max(np.abs(step[self._free]) / self._scale, initial=0.0))
        return Trial(step, damping, size, whole)

    def _with(self, damping: float, index: IndexArray) -> FloatArray:
        """Return the root of the damped Hessian of some of the parameters that are not held."""
        matrix = _block(self._matrix, index)
        matrix[np.diag_indices_from(matrix)] += damping * self._metric[index]
        return _factored(matrix)


def _block(matrix: FloatArray, index: IndexArray) -> FloatArray:
    """Return a copy of some rows and the same columns of a matrix."""
    return matrix.copy() if len(index) == len(matrix) else np.asarray(matrix[np.ix_(index, index)])


def _scaled(matrix: FloatArray, index: IndexArray) -> tuple[FloatArray, FloatArray]:
    """Return some rows and the same columns of a matrix in units in which its diagonal is 1, and these units."""
    diagonal = np.diag(matrix)[index]
    if not (diagonal > 0).all():
        raise LinAlgError("a diagonal element is not positive")
    unit = 1.0 / np.sqrt(diagonal)
    block = _block(matrix, index)
    block *= unit
    block *= unit[:, None]
    return block, unit


def _factored(matrix: FloatArray) -> FloatArray:
    """Return the lower root of a symmetric matrix, which is overwritten; what is above its diagonal is not set."""
    # symmetric: its transpose is the same matrix in the order of LAPACK
    root, info = dpotrf(matrix.T, lower=1, clean=0, overwrite_a=1)
    if info != 0:
        raise LinAlgError("a matrix is not positive definite")
    return np.asarray(root)


def _inverse(root: FloatArray) -> FloatArray:
    """Return the inverse of a lower root; what is above its diagonal is not read."""
    n = len(root)
    if n <= _SMALL:
        return np.tril(dtrtri(root, lower=1)[0])
    # by halves: products of matrices are quicker than LAPACK's loop over columns
    half, out = n // 2, np.zeros((n, n))
    out[:half, :half], out[half:, half:] = _inverse(root[:half, :half]), _inverse(root[half:, half:])
    out[half:, :half] = -out[half:, half:] @ (root[half:, :half] @ out[:half, :half])
    return out
