"""Chebyshev fields in flux over many detectors at once, fitted to magnitudes of stars.

A field is ``F(x, y) = sum_mn c[m, n] T_m(y') T_n(x')`` with ``x' = (x + 0.5 - width/2)/(width/2)``: the convention of
`zeropoint.datamodel.fields.ChebyshevPolynomial`. What it adds to magnitudes is ``-2.5 log10 F``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.polynomial import chebyshev

from zeropoint.datamodel.fields import chebyshev_means, chebyshev_terms
from zeropoint.fgcm.terms.groups import FloatArray, group_sums, ratio

__all__ = [
    "MIN_FLUX",
    "FluxFields",
    "constant_fields",
    "fit_flux_fields",
    "flux_field_magnitudes",
    "to_magnitude",
]

#: The least flux that a field is taken to have when it is made a magnitude.
MIN_FLUX = 0.1
#: Stars that a field needs for each of its parameters.
STARS_PER_PARAMETER = 10
_ITERATIONS = 30
#: Largest change of a field, in flux, after which iterations end.
_CONVERGED = 1e-6
#: Rows of padded least squares that are solved in one call, and stars whose fields are computed in one.
_ROWS_AT_ONCE = 60_000
_MAGNITUDE = 2.5 / np.log(10.0)

IndexArray = npt.NDArray[np.integer]


@dataclass(frozen=True)
class FluxFields:
    """Fields over detectors.

    Parameters
    ----------
    coefficients : float64, shape (n_groups, order + 1, order + 1)
        Coefficients ``[y order, x order]``; NaN for groups without enough stars for a constant.
    has_shape : bool, shape (n_groups,)
        Whether a field was fitted; where False it is constant.
    """

    coefficients: FloatArray
    has_shape: npt.NDArray[np.bool_]

    @property
    def mean_flux(self) -> FloatArray:
        """Mean of each field over its detector's area, shape (n_groups,)."""
        m = chebyshev_means(self.coefficients.shape[1])
        return np.asarray(np.einsum("gij,i,j->g", self.coefficients, m, m))

    @property
    def center_flux(self) -> FloatArray:
        """Value of each field at the center of its detector, shape (n_groups,)."""
        t = chebyshev.chebvander(0.0, self.coefficients.shape[1] - 1).ravel()
        return np.asarray(np.einsum("gij,i,j->g", self.coefficients, t, t))


def to_magnitude(flux: npt.ArrayLike) -> FloatArray:
    """Return what a factor in flux adds to magnitudes: ``-2.5 log10`` of it, or of 0.1 where it is less."""
    return np.asarray(-2.5 * np.log10(np.maximum(np.asarray(flux, np.float64), MIN_FLUX)))


def constant_fields(magnitudes: FloatArray, order: int) -> FluxFields:
    """Return fields that add a constant.

    Parameters
    ----------
    magnitudes : float64, shape (n_groups,)
        What each adds to magnitudes; NaN where unknown.
    order
        Order of the fields that they stand among.
    """
    coefficients = np.zeros((len(magnitudes), order + 1, order + 1))
    coefficients[:, 0, 0] = 10.0 ** (-0.4 * np.asarray(magnitudes))
    coefficients[np.isnan(magnitudes)] = np.nan
    return FluxFields(coefficients, np.zeros(len(magnitudes), bool))


def flux_field_magnitudes(
    coefficients: FloatArray,
    group: IndexArray,
    x: npt.NDArray[np.floating],
    y: npt.NDArray[np.floating],
    size: tuple[int, int],
) -> FloatArray:
    """Return what fields add to the magnitudes of stars.

    Parameters
    ----------
    coefficients : float64, shape (n_groups, order + 1, order + 1)
        Fields.
    group : int, shape (n,)
        Field of each star.
    x, y : float, shape (n,)
        Pixel positions.
    size
        Width and height of the detectors in pixels.
    """
    tables = {
        (j, i): np.ascontiguousarray(coefficients[:, j, i])
        for j in range(coefficients.shape[1])
        for i in range(coefficients.shape[2])
        if coefficients[:, j, i].any()
    }
    out = np.empty(len(group))
    # a piece at a time stays in the processor's cache
    for start in range(0, len(group), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        tx, ty = _basis(x[part], y[part], size, coefficients.shape[1] - 1)
        flux = np.zeros(len(tx[0]))
        for (j, i), table in tables.items():
            flux += table[group[part]] * (ty[j] * tx[i])
        out[part] = to_magnitude(flux)
    return out


def fit_flux_fields(
    magnitudes: npt.NDArray[np.floating],
    variance: npt.NDArray[np.floating],
    group: IndexArray,
    n_groups: int,
    x: npt.NDArray[np.floating],
    y: npt.NDArray[np.floating],
    size: tuple[int, int],
    *,
    order: int,
    triangular: bool = False,
    min_stars: int = 3,
    shaped: npt.NDArray[np.bool_] | None = None,
) -> FluxFields:
    """Fit a field to each group of stars.

    Parameters
    ----------
    magnitudes, variance : float, shape (n,)
        What is to be added to the magnitudes of the stars, and its variance.
    group : int, shape (n,)
        Group (a detector, in an exposure or an epoch) of each.
    n_groups
        Number of groups.
    x, y : float, shape (n,)
        Pixel positions.
    size
        Width and height of the detectors in pixels.
    order
        Highest order in each direction.
    triangular
        Keep the terms whose orders add up to ``order`` at most.
    min_stars
        Stars that a constant needs; without them the group has no field.
    shaped : bool, shape (n_groups,), optional
        Groups that may have more than a constant; all if not given.

    Returns
    -------
    fields : FluxFields
        Groups with fewer than 10 stars per parameter, and those whose field is not positive over the whole detector, have
        the constant that is the weighted mean of their magnitudes.

    Notes
    -----
    The weighted residuals, in magnitudes, are orthogonal to every polynomial: so constants and fields have the same mean, which
    a fit to the fluxes, skewed by noise, has not. Solved by steps from the constant with one QR factorisation of the design's
    rows, multiplied by the roots of the weights, of many groups at once (rows of zeros fill up the smaller ones): memory grows
    as the number of stars.
    """
    weight = 1.0 / np.asarray(variance, np.float64)
    count = np.bincount(group, minlength=n_groups)
    total = group_sums(weight, group, n_groups)
    total[count < min_stars] = 0.0
    constants = ratio(group_sums(weight * magnitudes, group, n_groups), total)
    fields = constant_fields(constants, order)
    terms = chebyshev_terms(order, order, triangular=triangular)
    fit = (count >= STARS_PER_PARAMETER * len(terms)) & np.isfinite(constants)
    if shaped is not None:
        fit &= shaped
    if order == 0 or not fit.any():
        return fields
    # one sort of 64-bit integers orders by group and then by row, ten times quicker than a stable argsort
    key = (np.asarray(group, np.uint64) << np.uint64(32)) | np.arange(len(group), dtype=np.uint64)
    key.sort()
    by_group = (key & np.uint64(0xFFFFFFFF)).astype(np.int64)
    first = np.cumsum(count) - count
    grid = _corner_basis(order)
    for chosen in _batches(np.flatnonzero(fit), count):
        rows, filled = _padded_rows(by_group, first, count, chosen)
        tx, ty = _basis(x[rows].ravel(), y[rows].ravel(), size, order)
        design = np.stack([ty[j] * tx[i] for j, i in terms], axis=-1).reshape(*rows.shape, len(terms))
        root = np.where(filled, np.sqrt(weight[rows]), 0.0)
        solution = _solve(design, root, np.asarray(magnitudes[rows], np.float64), constants[chosen])
        found = np.zeros((len(chosen), order + 1, order + 1))
        for k, (j, i) in enumerate(terms):
            found[:, j, i] = solution[:, k]
        flux = np.einsum("gij,ai,bj->gab", found, grid, grid)
        good = np.isfinite(flux).all(axis=(1, 2)) & (
            flux > MIN_FLUX * fields.coefficients[chosen, :1, :1]
        ).all(axis=(1, 2))
        fields.coefficients[chosen[good]] = found[good]
        fields.has_shape[chosen[good]] = True
    return fields


def _solve(design: FloatArray, root: FloatArray, magnitudes: FloatArray, constants: FloatArray) -> FloatArray:
    """Solve a batch: design (g, n, k), roots of weights and magnitudes (g, n), start (g,) in magnitudes -> (g, k)."""
    # the field divided by the constant is solved for, so that all groups are alike
    solution = np.zeros((design.shape[0], design.shape[2]))
    solution[:, 0] = 1.0
    target = (magnitudes - constants[:, None]) / _MAGNITUDE
    r = np.linalg.qr(design * root[:, :, None], mode="r")
    weighted = design * np.square(root)[:, :, None]
    for _ in range(_ITERATIONS):
        flux = np.maximum((design @ solution[:, :, None])[:, :, 0], MIN_FLUX)
        left = target + np.log(flux)
        side = left[:, None, :] @ weighted
        step = np.linalg.solve(r, np.linalg.solve(r.transpose(0, 2, 1), side.transpose(0, 2, 1)))[:, :, 0]
        solution -= step
        if np.max(np.abs(step)) < _CONVERGED:
            break
    return np.asarray(solution * 10.0 ** (-0.4 * constants[:, None]))


def _basis(
    x: npt.NDArray[np.floating], y: npt.NDArray[np.floating], size: tuple[int, int], order: int
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Return ``T_n(x')`` and ``T_n(y')`` for n from 0 to ``order``."""
    both = []
    for values, width in zip((x, y), size):
        u = (2.0 * np.asarray(values, np.float64) + 1.0 - width) / width
        terms = [np.ones_like(u), u]
        for _ in range(order - 1):
            terms.append(2.0 * u * terms[-1] - terms[-2])
        both.append(terms[: order + 1])
    return both[0], both[1]


def _corner_basis(order: int) -> FloatArray:
    """Return the polynomials at points from edge to edge, at which a field has to be positive: (n, order + 1)."""
    return np.asarray(chebyshev.chebvander(np.linspace(-1.0, 1.0, 4 * order + 1), order))


def _batches(groups: IndexArray, count: IndexArray) -> Iterator[IndexArray]:
    """Return groups of similar size together, so that little is filled up with zeros."""
    ordered = groups[np.argsort(count[groups], kind="stable")]
    start = 0
    while start < len(ordered):
        smallest = count[ordered[start]]
        end = start + 1
        while (
            end < len(ordered)
            and count[ordered[end]] <= 1.3 * smallest
            and (end + 1 - start) * count[ordered[end]] <= _ROWS_AT_ONCE
        ):
            end += 1
        yield ordered[start:end]
        start = end


def _padded_rows(
    by_group: IndexArray, first: IndexArray, count: IndexArray, chosen: IndexArray
) -> tuple[IndexArray, npt.NDArray[np.bool_]]:
    """Return the rows of each group, (n_chosen, longest), and which are not filled up (with the group's last row)."""
    place = np.arange(count[chosen].max())
    filled = place < count[chosen][:, None]
    rows = by_group[first[chosen][:, None] + np.minimum(place, count[chosen][:, None] - 1)]
    return rows, filled
