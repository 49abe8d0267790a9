"""Compiled passes over observations for the model of their errors."""

from __future__ import annotations

import numpy as np

from zeropoint.kernels._compile import kernel

__all__ = ["choose_rows", "log_variances", "weighted_normal"]


@kernel
def choose_rows(use, band, step, seen, begin, rows):  # type: ignore[no-untyped-def]
    """Take every k-th row of each band.

    Parameters
    ----------
    use : bool, shape (n,)
        Rows that count.
    band : int8, shape (n,)
        Band of each.
    step : int64, shape (n_band,)
        Of how many one is taken; 0: none, they are only counted.
    seen : int64, shape (n_band,)
        Zeros; gets the numbers of rows.
    begin : int64, shape (n_band,)
        Where bands begin among the rows that are taken.
    rows : int64, shape (n_taken,)
        Gets these.
    """
    for i in range(use.shape[0]):
        if use[i]:
            b = band[i]
            if step[b] > 0 and seen[b] % step[b] == 0:
                rows[begin[b] + seen[b] // step[b]] = i
            seen[b] += 1


@kernel
def log_variances(expected, band, exposure, constant, linear, square, middle, out):  # type: ignore[no-untyped-def]
    """Compute a square function of the magnitude for each exposure and band.

    Parameters
    ----------
    expected : float32, shape (n,)
        Magnitudes.
    band : int8, shape (n,)
        Band of each.
    exposure : int32, shape (n,)
        Exposure of each.
    constant, linear, square : float32, shape (n_exp, n_band)
        Coefficients.
    middle : float32
        Magnitude that it is counted from.
    out : float32, shape (n,)
        Gets the values.
    """
    for i in range(expected.shape[0]):
        e, b = exposure[i], band[i]
        x = expected[i] - middle
        out[i] = (square[e, b] * x + linear[e, b]) * x + constant[e, b]


# added up in any order, as many as the processor takes at once: a million ones would lose six of sixteen digits at worst
@kernel(fastmath={"reassoc"})
def weighted_normal(basis, target, solution, core, normal, side):  # type: ignore[no-untyped-def]
    """Add up what a step toward the least sum of absolute residuals is solved from.

    Parameters
    ----------
    basis : float64, shape (n_terms, n)
        Columns, one after the other.
    target : float64, shape (n,)
        What they are to add up to.
    solution : float64, shape (n_terms,)
        Coefficients so far.
    core : float64
        Residuals below weigh as this does.
    normal : float64, shape (n_terms, n_terms)
        Gets the matrix of products with weights of one over the residual.
    side : float64, shape (n_terms,)
        Gets the products with the target.
    """
    n_terms, n = basis.shape
    weight = np.empty(n)
    for i in range(n):
        weight[i] = target[i]
    for k in range(n_terms):
        for i in range(n):
            weight[i] -= solution[k] * basis[k, i]
    for i in range(n):
        weight[i] = 1.0 / max(abs(weight[i]), core)
    for k in range(n_terms):
        for m in range(k + 1):
            total = 0.0
            for i in range(n):
                total += weight[i] * basis[k, i] * basis[m, i]
            normal[k, m] = normal[m, k] = total
        total = 0.0
        for i in range(n):
            total += weight[i] * basis[k, i] * target[i]
        side[k] = total
