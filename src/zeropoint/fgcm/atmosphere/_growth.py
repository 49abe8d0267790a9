"""Curves of growth: ln(depth) as a cubic spline of ln(amount), straight beyond its ends."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["N_COEFFICIENTS", "WATER_RANGE_MM", "growth_basis", "growth_coefficients"]

FloatArray = npt.NDArray[np.float64]

#: Amounts of water (PWV times secant, mm) between which the curves were fitted.
WATER_RANGE_MM = (0.1, 43.0)
_N_INTERVALS = 6
#: Coefficients of one curve.
N_COEFFICIENTS = _N_INTERVALS + 3
_LOW, _HIGH = np.log(WATER_RANGE_MM)
KNOT_STEP = float(_HIGH - _LOW) / _N_INTERVALS
#: Coefficient that stays where slopes are held: near 4 mm.
_ANCHOR = 5
#: Slopes d ln(depth) / d ln(amount) allowed beyond the fitted range: isolated saturated lines, and weak ones.
_STRONG, _WEAK = 0.5, 1.0


def growth_basis(log_amount: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Evaluate the basis in which every curve is a linear combination.

    Parameters
    ----------
    log_amount
        ln(amount / mm), shape (n,).

    Returns
    -------
    value, slope
        Basis functions and their derivatives with respect to ln(amount), shape (n, N_COEFFICIENTS + 2).  The last two
        columns carry the distances beyond the lower and the upper end.

    Notes
    -----
    Uniform cubic B-splines: where the coefficients rise, the curve rises, and the slope of the curve lies between
    the smallest and the largest slope of its coefficients.
    """
    log_amount = np.asarray(log_amount, dtype=np.float64)
    inside = np.clip(log_amount, _LOW, _HIGH)
    position = (inside - _LOW) / KNOT_STEP
    first = np.clip(position.astype(np.int64), 0, _N_INTERVALS - 1)
    t = position - first
    s, t2, t3 = 1.0 - t, t * t, t * t * t
    weights = (s * s * s, 3 * t3 - 6 * t2 + 4, -3 * t3 + 3 * t2 + 3 * t + 1, t3)
    slopes = (-s * s, 3 * t2 - 4 * t, -3 * t2 + 2 * t + 1, t2)
    within = (log_amount == inside) / (2 * KNOT_STEP)
    value, slope = np.zeros((2, log_amount.size, N_COEFFICIENTS + 2))
    place = np.arange(log_amount.size) * value.shape[1] + first
    for k in range(4):
        value.ravel()[place + k] = weights[k] / 6
        slope.ravel()[place + k] = slopes[k] * within
    value[:, -2] = np.minimum(log_amount - _LOW, 0.0)
    value[:, -1] = np.maximum(log_amount - _HIGH, 0.0)
    slope[:, -2] = log_amount < _LOW
    slope[:, -1] = log_amount > _HIGH
    return value, slope


def growth_coefficients(coefficients: FloatArray) -> FloatArray:
    """Hold curves to slopes that can be, and append the slopes beyond both ends.

    Parameters
    ----------
    coefficients
        Shape (N_COEFFICIENTS, n_wavelength).

    Returns
    -------
    extended
        Shape (N_COEFFICIENTS + 2, n_wavelength): no curve grows faster than weak lines do (the law in pressure alone
        would let some, by 8 % at sea level), and beyond the fitted range the slope lies between 1/2 (isolated
        saturated lines) and 1 (weak lines).
    """
    slopes = np.minimum(np.diff(coefficients, axis=0) / KNOT_STEP, _WEAK)
    rising = np.vstack([np.zeros_like(coefficients[:1]), np.cumsum(slopes * KNOT_STEP, axis=0)])
    held = rising + coefficients[_ANCHOR] - rising[_ANCHOR]
    ends = (slopes[:2].mean(axis=0), slopes[-2:].mean(axis=0))
    return np.vstack([held, np.clip(ends, _STRONG, _WEAK)])
