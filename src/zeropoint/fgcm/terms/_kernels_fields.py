"""Compiled sums for fields in flux over detectors, and what fields add to magnitudes.

Groups are int32, -1: left out. Sums are in double precision, of so many stars of a field at a time, in the order of the stars.
"""

from __future__ import annotations

import numpy as np

from zeropoint.kernels._compile import helper, kernel

__all__ = ["constant_sums", "field_moments", "field_sums", "field_values"]

#: ln of the factor in flux that a magnitude is.
_LN = 0.4 * np.log(10.0)
#: Where a field's flux would be less on the way to the solution, it counts as this.
_LEAST_FLUX = 1e-3
#: Stars of a field that are added up together.
_TOGETHER = 32


@kernel
def constant_sums(group, magnitude, variance, out):  # type: ignore[no-untyped-def]
    """Add up, by group, what constants are made of.

    Parameters
    ----------
    group : int32, shape (n,)
        Group of each star; negative: left out.
    magnitude, variance : float32, shape (n,)
        What is to be added to the magnitude of the star, and its variance.
    out : float64, shape (n_groups, 3)
        Zeros; gets the number, and the sums of w and w m.
    """
    for i in range(group.shape[0]):
        g = group[i]
        if g >= 0:
            w = 1.0 / np.float64(variance[i])
            out[g, 0] += 1.0
            out[g, 1] += w
            out[g, 2] += w * magnitude[i]


@helper
def _polynomials(waiting, g, size, tx, ty):  # type: ignore[no-untyped-def]
    """Fill in the Chebyshev polynomials of stars that wait: as many as there is room for, two at least."""
    for i in range(_TOGETHER):
        tx[1, i] = (2.0 * waiting[g, 0, i] + 1.0 - size[0]) / size[0]
        ty[1, i] = (2.0 * waiting[g, 1, i] + 1.0 - size[1]) / size[1]
    for k in range(2, tx.shape[0]):
        for i in range(_TOGETHER):
            tx[k, i] = 2.0 * tx[1, i] * tx[k - 1, i] - tx[k - 2, i]
            ty[k, i] = 2.0 * ty[1, i] * ty[k - 1, i] - ty[k - 2, i]


# added up in any order, as many as the processor takes at once: the sum of so few loses no digits by it
@helper(fastmath={"reassoc"})
def _add(weight, tx, ty, triangular, g, out):  # type: ignore[no-untyped-def]
    """Add the sums of weights times polynomials to those of a field."""
    n_terms, n = out.shape[1], weight.shape[0]
    for j in range(n_terms):
        for k in range(n_terms - j if triangular else n_terms):
            total = 0.0
            for i in range(n):
                total += weight[i] * ty[j, i] * tx[k, i]
            out[g, j, k] += total


@helper
def _wait(i, g, x, y, magnitude, variance, waiting, number):  # type: ignore[no-untyped-def]
    """Put a star to those of its field that wait, and return whether they are as many as are added up together."""
    k = number[g]
    waiting[g, 0, k], waiting[g, 1, k] = x[i], y[i]
    waiting[g, 2, k], waiting[g, 3, k] = magnitude[i], variance[i]
    number[g] = k + 1
    return k + 1 == _TOGETHER


@helper
def _fill(waiting, number, g):  # type: ignore[no-untyped-def]
    """Fill up the stars of a field that wait with ones without weight."""
    for k in range(number[g], _TOGETHER):
        waiting[g, 3, k] = np.float32(np.inf)


@helper
def _first(waiting, g, size, constant, triangular, tx, ty, weight, side, moments):  # type: ignore[no-untyped-def]
    """Add up the stars of a field that wait, for a step from a constant."""
    _polynomials(waiting, g, size, tx, ty)
    for i in range(_TOGETHER):
        weight[i] = 1.0 / np.float64(waiting[g, 3, i])
    _add(weight, tx, ty, triangular, g, moments)
    for i in range(_TOGETHER):
        weight[i] *= _LN * (waiting[g, 2, i] - constant[g])
    _add(weight, tx, ty, triangular, g, side)


@helper
def _further(waiting, g, size, fields, triangular, tx, ty, weight, side):  # type: ignore[no-untyped-def]
    """Add up the stars of a field that wait, for a further step."""
    n_terms = fields.shape[1]
    _polynomials(waiting, g, size, tx, ty)
    n = weight.shape[0]
    for i in range(n):
        weight[i] = 0.0
    for j in range(n_terms):
        for k in range(n_terms - j if triangular else n_terms):
            for i in range(n):
                weight[i] += fields[g, j, k] * ty[j, i] * tx[k, i]
    for i in range(n):
        residual = _LN * waiting[g, 2, i] + np.log(max(weight[i], _LEAST_FLUX))
        weight[i] = residual / np.float64(waiting[g, 3, i])
    _add(weight, tx, ty, triangular, g, side)


@kernel
def field_moments(group, field, x, y, size, magnitude, variance, constant, triangular, side, moments):  # type: ignore[no-untyped-def]
    """Add up, by field, what the first step from a constant is solved from.

    Parameters
    ----------
    group : int32, shape (n,)
        Group of each star; negative: left out.
    field : int32, shape (n_groups,)
        Field of each group; negative: none.
    x, y : float32, shape (n,)
        Pixel positions.
    size : float64, shape (2,)
        Width and height of the detectors in pixels.
    magnitude, variance : float32, shape (n,)
        What is to be added to the magnitude of the star, and its variance.
    constant : float64, shape (n_fields,)
        Constants, magnitudes.
    triangular : bool
        Whether only terms are wanted whose orders add up to the highest.
    side : float64, shape (n_fields, order + 1, order + 1)
        Zeros; gets the sums of w r T_j(y) T_i(x) with the residuals r = 0.4 ln(10) (magnitude - constant).
    moments : float64, shape (n_fields, 2 order + 1, 2 order + 1)
        Zeros; gets the sums of w T_j(y) T_i(x): products of polynomials are sums of those of other orders.
    """
    n_moments = max(moments.shape[1], 2)
    tx, ty, weight = np.ones((n_moments, _TOGETHER)), np.ones((n_moments, _TOGETHER)), np.empty(_TOGETHER)
    waiting, number = np.zeros((len(constant), 4, _TOGETHER), np.float32), np.zeros(len(constant), np.int64)
    for i in range(group.shape[0]):
        if group[i] < 0 or field[group[i]] < 0:
            continue
        g = np.int64(field[group[i]])
        if _wait(i, g, x, y, magnitude, variance, waiting, number):
            _first(waiting, g, size, constant, triangular, tx, ty, weight, side, moments)
            number[g] = 0
    for f in range(len(constant)):
        if number[f] > 0:
            _fill(waiting, number, f)
            _first(waiting, f, size, constant, triangular, tx, ty, weight, side, moments)


@kernel
def field_sums(group, field, x, y, size, magnitude, variance, fields, triangular, side):  # type: ignore[no-untyped-def]
    """Add up, by field, what a further step is solved from.

    Parameters
    ----------
    group, field, x, y, size, magnitude, variance, triangular
        As of `field_moments`.
    fields : float64, shape (n_fields, order + 1, order + 1)
        Coefficients so far, ``[y, x]``.
    side : float64, shape (n_fields, order + 1, order + 1)
        Zeros; gets the sums of w r T_j(y) T_i(x) with the residuals r = 0.4 ln(10) magnitude + ln(flux).
    """
    n_fields, n_terms = fields.shape[0], max(fields.shape[1], 2)
    tx, ty, weight = np.ones((n_terms, _TOGETHER)), np.ones((n_terms, _TOGETHER)), np.empty(_TOGETHER)
    waiting, number = np.zeros((n_fields, 4, _TOGETHER), np.float32), np.zeros(n_fields, np.int64)
    for i in range(group.shape[0]):
        if group[i] < 0 or field[group[i]] < 0:
            continue
        g = np.int64(field[group[i]])
        if _wait(i, g, x, y, magnitude, variance, waiting, number):
            _further(waiting, g, size, fields, triangular, tx, ty, weight, side)
            number[g] = 0
    for f in range(n_fields):
        if number[f] > 0:
            _fill(waiting, number, f)
            _further(waiting, f, size, fields, triangular, tx, ty, weight, side)


@kernel
def field_values(group, x, y, size, fields, least, out):  # type: ignore[no-untyped-def]
    """Compute what fields in flux add to magnitudes.

    Parameters
    ----------
    group : int32, shape (n,)
        Field of each star; -1: the last.
    x, y : float32, shape (n,)
        Pixel positions.
    size : float64, shape (2,)
        Width and height of the detectors in pixels.
    fields : float64, shape (n_groups, order + 1, order + 1)
        Coefficients ``[y, x]``.
    least
        The least flux, float64.
    out : float64, shape (n,)
        Gets the magnitudes.
    """
    n_terms = fields.shape[1]
    tx, ty = np.ones(max(n_terms, 2)), np.ones(max(n_terms, 2))
    for i in range(group.shape[0]):
        g = np.uint64(group[i] if group[i] >= 0 else fields.shape[0] - 1)
        tx[1] = (2.0 * x[i] + 1.0 - size[0]) / size[0]
        ty[1] = (2.0 * y[i] + 1.0 - size[1]) / size[1]
        for k in range(2, n_terms):
            tx[k] = 2.0 * tx[1] * tx[k - 1] - tx[k - 2]
            ty[k] = 2.0 * ty[1] * ty[k - 1] - ty[k - 2]
        flux = 0.0
        for j in range(n_terms):
            row = 0.0
            for k in range(n_terms):
                row += fields[g, j, k] * tx[k]
            flux += row * ty[j]
        out[i] = -np.log(max(flux, least)) / _LN
