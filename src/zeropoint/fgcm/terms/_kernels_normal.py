"""Compiled fits of normal curves to histograms, the choice of the values that they are of, and medians of chi-square."""

from __future__ import annotations

import numpy as np

from zeropoint.fgcm.terms._kernels import _median, _select
from zeropoint.kernels._compile import helper, kernel

__all__ = ["count_cells", "every_kth", "fit_curve", "median_chi2", "quartiles_and_mad"]

_ITERATIONS = 50
_CONVERGED = 1e-8


@helper
def _quantile(values, n, part):  # type: ignore[no-untyped-def]
    """Return a quantile of the first n values, with a line between neighbors; reorders them."""
    place = part * (n - 1)
    k = int(place)
    low = _select(values, np.int64(0), n, k)
    if k + 1 == n:
        return low
    high = values[k + 1]
    for i in range(k + 2, n):
        high = min(high, values[i])
    return low + (high - low) * (place - k)


@kernel
def quartiles_and_mad(values, work):  # type: ignore[no-untyped-def]
    """Return the quartiles of values and their median absolute deviation from the middle one.

    Parameters
    ----------
    values : float64, shape (n,)
        Finite values, at least one.
    work : float64, shape (n,)
        Working space.
    """
    n = np.int64(values.shape[0])
    for i in range(n):
        work[i] = values[i]
    middle = _quantile(work, n, 0.5)
    first, third = _quantile(work, n, 0.25), _quantile(work, n, 0.75)
    for i in range(n):
        work[i] = abs(values[i] - middle)
    return first, middle, third, _median(work, np.int64(0), n)


@helper
def _squares(t, counts, height, mean, sigma):  # type: ignore[no-untyped-def]
    """Return the sum of the squares of what a curve leaves."""
    total = 0.0
    for i in range(t.shape[0]):
        z = (t[i] - mean) / sigma
        left = counts[i] - height * np.exp(-0.5 * z * z)
        total += left * left
    return total


@kernel
def fit_curve(values, edges, middle, unit):  # type: ignore[no-untyped-def]
    """Fit a normal curve to the histogram of values by Gauss-Newton steps, halved until they help.

    Parameters
    ----------
    values : float64, shape (n,)
        Values.
    edges : float64, shape (n_bins + 1,)
        Between the bins, which are of equal width.
    middle, unit : float64
        First guess of mean and standard deviation.

    Returns
    -------
    mean, sigma
        NaN without convergence.
    """
    n_bins = edges.shape[0] - 1
    counts, t = np.zeros(n_bins), np.empty(n_bins)
    per_value = n_bins / (edges[n_bins] - edges[0])
    for i in range(values.shape[0]):
        if values[i] < edges[0] or values[i] > edges[n_bins]:
            continue
        k = min(int((values[i] - edges[0]) * per_value), n_bins - 1)
        # where rounding has put it on the other side of an edge
        if values[i] < edges[k]:
            k -= 1
        elif k < n_bins - 1 and values[i] >= edges[k + 1]:
            k += 1
        counts[k] += 1.0
    height, mean, sigma = 0.0, 0.0, 1.0
    for k in range(n_bins):
        # in units of the first guess, so that all three are of order one
        t[k] = (0.5 * (edges[k] + edges[k + 1]) - middle) / unit
        height = max(height, counts[k])
    squares = _squares(t, counts, height, mean, sigma)
    for _ in range(_ITERATIONS):
        a, b, c, d, e, f = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        x, y, z = 0.0, 0.0, 0.0
        for k in range(n_bins):
            pull = (t[k] - mean) / sigma
            by_height = np.exp(-0.5 * pull * pull)
            left = counts[k] - height * by_height
            by_mean = height * by_height * pull / sigma
            by_sigma = by_mean * pull
            a += by_height * by_height
            b += by_height * by_mean
            c += by_height * by_sigma
            d += by_mean * by_mean
            e += by_mean * by_sigma
            f += by_sigma * by_sigma
            x += by_height * left
            y += by_mean * left
            z += by_sigma * left
        # the inverse of the symmetric matrix of three
        p, q, r = d * f - e * e, c * e - b * f, b * e - c * d
        determinant = a * p + b * q + c * r
        if not determinant > 0.0:
            return np.nan, np.nan
        step_height = (p * x + q * y + r * z) / determinant
        step_mean = (q * x + (a * f - c * c) * y + (b * c - a * e) * z) / determinant
        step_sigma = (r * x + (b * c - a * e) * y + (a * d - b * b) * z) / determinant
        factor = 1.0
        while factor > _CONVERGED:
            trial = height + factor * step_height, mean + factor * step_mean, sigma + factor * step_sigma
            if trial[0] > 0.0 and trial[2] > 0.0:
                better = _squares(t, counts, trial[0], trial[1], trial[2])
                if better <= squares:
                    height, mean, sigma = trial
                    squares = better
                    break
            factor *= 0.5
        if factor <= _CONVERGED:
            return np.nan, np.nan
        if abs(step_mean) < 1e-4 and abs(step_sigma) < 1e-4 and factor == 1.0:
            return middle + unit * mean, unit * sigma
    return np.nan, np.nan


@kernel
def count_cells(values, variance, use, band, part, limit, most, cell, count):  # type: ignore[no-untyped-def]
    """Count the values of each band and part that a scatter is measured of.

    Parameters
    ----------
    values, variance : float32, shape (n,)
        Residuals, and their variances.
    use : bool, shape (n,)
        Which count.
    band : int8, shape (n,)
        Band of each.
    part : int8, shape (n,)
        Part of each beside the first, which all belong to; 0: none.
    limit : float32, shape (n_band,)
        Larger residuals do not count.
    most : float32
        Nor do larger variances, and ones that are not positive.
    cell : int8, shape (n,)
        Gets 4 band + part, -1 for those that do not count.
    count : int64, shape (4 n_band,)
        Zeros; gets the numbers.
    """
    for i in range(values.shape[0]):
        # the only observation of a star has no residual, and tells nothing
        good = use[i] and variance[i] > 0.0 and variance[i] < most and values[i] != 0.0
        if good and abs(values[i]) < limit[band[i]]:
            first = 4 * np.int64(band[i])
            cell[i] = first + part[i]
            count[first] += 1
            if part[i] > 0:
                count[first + part[i]] += 1
        else:
            cell[i] = -1


@kernel
def every_kth(values, variance, cell, step, first, some, of_some):  # type: ignore[no-untyped-def]
    """Take every k-th value of each cell.

    Parameters
    ----------
    values, variance : float32, shape (n,)
        Residuals, and their variances.
    cell : int8, shape (n,)
        From `count_cells`.
    step : int64, shape (n_cells,)
        Of how many one is taken.
    first : int64, shape (n_cells + 1,)
        Where the cells begin among those that are.
    some, of_some : float64, float32, shape (n_some,)
        Get the values, and their variances.
    """
    seen = np.zeros(step.shape[0], np.int64)
    for i in range(cell.shape[0]):
        own = np.int64(cell[i])
        if own < 0:
            continue
        for part in range(2):
            # all are of the first part of their band, too
            c = own - own % 4 if part == 0 else own
            if part == 1 and own % 4 == 0:
                break
            if seen[c] % step[c] == 0:
                k = first[c] + seen[c] // step[c]
                some[k], of_some[k] = values[i], variance[i]
            seen[c] += 1


@kernel
def median_chi2(square, variance, star, expected, band, tried, chi2):  # type: ignore[no-untyped-def]
    """Compute the median chi-square of the stars of each band, over that expected, for some variances that all have besides.

    Parameters
    ----------
    square, variance : float64, shape (n,)
        Squares of residuals, and their variances.
    star : int64, shape (n,)
        Star, in one band, of each.
    expected : float64, shape (n_stars,)
        Chi-square that is expected of it.
    band : int64, shape (n_stars,)
        Its band.
    tried : float64, shape (n_steps,)
        Standard deviations to add.
    chi2 : float64, shape (n_band, n_steps)
        Gets the medians; untouched in bands without stars.
    """
    n_stars = expected.shape[0]
    total, work = np.empty(n_stars), np.empty(n_stars)
    for k in range(tried.shape[0]):
        for s in range(n_stars):
            total[s] = 0.0
        for i in range(star.shape[0]):
            total[star[i]] += square[i] / (variance[i] + tried[k] ** 2)
        for b in range(chi2.shape[0]):
            n = np.int64(0)
            for s in range(n_stars):
                if band[s] == b:
                    work[n] = total[s] / expected[s]
                    n += 1
            if n > 0:
                chi2[b, k] = _median(work, np.int64(0), n)
