"""Compiled sums and medians of observations by group, and sums for fields over detectors.

Groups are int32, -1: left out. Sums are added in the order of the observations, in double precision.
"""

from __future__ import annotations

import numpy as np

from zeropoint.kernels._compile import helper, kernel

__all__ = ["field_sums", "field_values", "residuals", "weighted_sums"]


#: ln of the factor in flux that a magnitude is.
_LN = 0.4 * np.log(10.0)
#: Where a field's flux would be less on the way to the solution, it counts as this.
_LEAST_FLUX = 1e-3
#: So many values, or fewer, are sorted rather than divided again.
_FEW = 24


@kernel
def weighted_sums(group, gray, variance, first, second, out):  # type: ignore[no-untyped-def]
    """Add up, by group, what weighted means and scatters are made of.

    Parameters
    ----------
    group : int32, shape (n,)
        Group of each; negative: left out.
    gray, variance : float32, shape (n,)
        Values, and their variances: the weights are the inverse of these.
    first, second : float32, shape (n,)
        Values that are averaged with these weights, and without any.
    out : float64, shape (n_groups, 7)
        Zeros; gets the number, an origin (the group's first gray value), and the sums of w, w d, w d^2, w first, second, where
        d is the gray from the origin: so that the scatter of values far from zero keeps its digits.
    """
    for i in range(group.shape[0]):
        g = group[i]
        if g < 0:
            continue
        if out[g, 0] == 0.0:
            out[g, 1] = gray[i]
        w = 1.0 / np.float64(variance[i])
        d = gray[i] - out[g, 1]
        out[g, 0] += 1.0
        out[g, 2] += w
        out[g, 3] += w * d
        out[g, 4] += w * d * d
        out[g, 5] += w * first[i]
        out[g, 6] += second[i]


@helper
def _select(values, start, end, k):  # type: ignore[no-untyped-def]
    """Return the k-th smallest of values[start:end], k counted from start; reorders them so that no smaller one follows it.

    Every value is swapped, whether it is small or not: no branch has to be foreseen.
    """
    low = start
    high = end
    while high - low > _FEW:
        # the median of three as pivot: values that are in order already cost no more
        a, b, c = values[low], values[(low + high) // 2], values[high - 1]
        pivot = max(min(a, b), min(max(a, b), c))
        below = low
        for i in range(low, high):
            value = values[i]
            values[i] = values[below]
            values[below] = value
            below += value < pivot
        if k < below:
            high = below
            continue
        equal = below
        for i in range(below, high):
            value = values[i]
            values[i] = values[equal]
            values[equal] = value
            equal += value <= pivot
        if k < equal:
            return pivot
        low = equal
    for i in range(low + 1, high):
        value = values[i]
        j = i
        while j > low and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value
    return values[k]


@helper
def _median(values, start, end):  # type: ignore[no-untyped-def]
    """Return the median of values[start:end], at least one; reorders them."""
    n = end - start
    upper = _select(values, start, end, start + n // 2)
    if n % 2 == 1:
        return np.float64(upper)
    # the lower of the two middle values is the largest of those that are now below
    lower = values[start]
    for i in range(start, start + n // 2):
        lower = max(lower, values[i])
    return 0.5 * (np.float64(lower) + np.float64(upper))


@kernel
def field_sums(group, x, y, size, magnitude, variance, fields, terms, side, normal):  # type: ignore[no-untyped-def]
    """Add up, by group, what a step toward a field in flux is solved from.

    Parameters
    ----------
    group : int32, shape (n,)
        Group of each star; negative: left out.
    x, y : float32, shape (n,)
        Pixel positions.
    size : float64, shape (2,)
        Width and height of the detectors in pixels.
    magnitude, variance : float32, shape (n,)
        What is to be added to the magnitude of the star, and its variance.
    fields : float64, shape (n_groups, n_terms)
        Coefficients so far.
    terms : int64, shape (n_terms, 2)
        Order in y and in x of each.
    side : float64, shape (n_groups, n_terms)
        Zeros; gets the sums of w b r with the polynomials b and the residual r = 0.4 ln(10) magnitude + ln(flux).
    normal : float64, shape (n_groups, n_terms, n_terms), or (0, n_terms, n_terms)
        Zeros; gets the sums of w b b' below and on the diagonal; if it is empty they are not wanted.
    """
    n_terms = terms.shape[0]
    order = np.int64(0)
    for k in range(n_terms):
        order = max(order, terms[k, 0], terms[k, 1])
    tx, ty, b = np.ones(order + 2), np.ones(order + 2), np.empty(n_terms)
    wants_normal = normal.shape[0] > 0
    for i in range(group.shape[0]):
        g = group[i]
        if g < 0:
            continue
        tx[1] = (2.0 * x[i] + 1.0 - size[0]) / size[0]
        ty[1] = (2.0 * y[i] + 1.0 - size[1]) / size[1]
        for k in range(2, order + 1):
            tx[k] = 2.0 * tx[1] * tx[k - 1] - tx[k - 2]
            ty[k] = 2.0 * ty[1] * ty[k - 1] - ty[k - 2]
        flux = 0.0
        for k in range(n_terms):
            b[k] = ty[terms[k, 0]] * tx[terms[k, 1]]
            flux += fields[g, k] * b[k]
        w = 1.0 / np.float64(variance[i])
        r = w * (_LN * magnitude[i] + np.log(max(flux, _LEAST_FLUX)))
        for k in range(n_terms):
            side[g, k] += r * b[k]
        if wants_normal:
            for k in range(n_terms):
                wb = w * b[k]
                for m in range(k + 1):
                    normal[g, k, m] += wb * b[m]


@kernel
def field_values(group, x, y, size, fields, least, out):  # type: ignore[no-untyped-def]
    """Compute what fields in flux add to magnitudes.

    Parameters
    ----------
    group : int32, shape (n,)
        Field of each star.
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
    tx, ty = np.ones(n_terms + 1), np.ones(n_terms + 1)
    for i in range(group.shape[0]):
        g = group[i]
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


@kernel
def residuals(mstd, err, segment, mean, mean_variance, member, gray, variance):  # type: ignore[no-untyped-def]
    """Compare observations with the means of their stars.

    Parameters
    ----------
    mstd, err : float32, shape (n,)
        Magnitudes and errors.
    segment : int32, shape (n,)
        Star-band of each.
    mean, mean_variance : float64, shape (n_segments,)
        Means and their variances; NaN: none.
    member : bool, shape (n,)
        Whether an observation is part of its mean.
    gray, variance : float32, shape (n,)
        Get mean minus magnitude, and ``err^2 - mean_variance`` of members, ``err^2 + mean_variance`` of others.
    """
    for i in range(mstd.shape[0]):
        s = segment[i]
        gray[i] = mean[s] - mstd[i]
        own = np.float64(err[i]) * err[i]
        variance[i] = own - mean_variance[s] if member[i] else own + mean_variance[s]
