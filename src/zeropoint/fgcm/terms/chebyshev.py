"""Chebyshev fields in flux over many detectors at once, fitted to magnitudes of stars.

A field is ``F(x, y) = sum_mn c[m, n] T_m(y') T_n(x')`` with ``x' = (x + 0.5 - width/2)/(width/2)``: the convention of
`zeropoint.datamodel.fields.ChebyshevPolynomial`. What it adds to magnitudes is ``-2.5 log10 F``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from numpy.polynomial import chebyshev

from zeropoint.datamodel.fields import chebyshev_means, chebyshev_terms
from zeropoint.fgcm.terms._kernels_fields import constant_sums, field_moments, field_sums, field_values
from zeropoint.fgcm.terms.groups import FloatArray, ratio
from zeropoint.fgcm.threads import finish, in_order, row_parts

__all__ = [
    "MIN_FLUX",
    "FluxFields",
    "center_variances",
    "constant_fields",
    "fit_flux_fields",
    "flux_field_magnitudes",
    "to_magnitude",
]

#: The least flux that a field is taken to have when it is made a magnitude.
MIN_FLUX = 0.1
#: Stars that a field needs for each of its parameters.
STARS_PER_PARAMETER = 10
_ITERATIONS = 50
#: Largest change of a field still to come, as a part, after which iterations end.
_CONVERGED = 1e-6
#: Least eigenvalue of a normal matrix with ones on its diagonal: stars in a corner or on a line do not make a field.
_SINGULAR = 1e-9

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
    n_stars : int64, shape (n_groups,), optional
        Stars of each, where fields are from stars.
    """

    coefficients: FloatArray
    has_shape: npt.NDArray[np.bool_]
    n_stars: npt.NDArray[np.int64] | None = None

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
    *,
    threads: int = 1,
) -> FloatArray:
    """Return what fields add to the magnitudes of stars.

    Parameters
    ----------
    coefficients : float64, shape (n_groups, order + 1, order + 1)
        Fields.
    group : int, shape (n,)
        Field of each star; -1: the last.
    x, y : float, shape (n,)
        Pixel positions.
    size
        Width and height of the detectors in pixels.
    threads
        Threads; the result has the same bits for any number.
    """
    out, bounds = np.empty(len(group)), row_parts(len(group))
    owner = np.ascontiguousarray(group, np.int32)
    x, y = np.ascontiguousarray(x, np.float32), np.ascontiguousarray(y, np.float32)
    fields, extent = np.ascontiguousarray(coefficients, np.float64), np.array(size, np.float64)

    def run(k: int) -> None:
        rows = slice(bounds[k], bounds[k + 1])
        field_values(owner[rows], x[rows], y[rows], extent, fields, MIN_FLUX, out[rows])

    finish(run, len(bounds) - 1, threads)
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
    threads: int = 1,
) -> FluxFields:
    """Fit a field to each group of stars.

    Parameters
    ----------
    magnitudes, variance : float, shape (n,)
        What is to be added to the magnitudes of the stars, and its variance.
    group : int, shape (n,)
        Group (a detector, in an exposure or an epoch) of each; negative: none.
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
    threads
        Threads; the result has the same bits for any number.

    Returns
    -------
    fields : FluxFields
        Groups with fewer than 10 stars per parameter, and those whose field is not positive over the whole detector, have
        the constant that is the weighted mean of their magnitudes.

    Notes
    -----
    The weighted residuals, in magnitudes, are orthogonal to every polynomial: so constants and fields have the same mean, which
    a fit to the fluxes, skewed by noise, has not. Steps from the constant, all with the normal matrix of the weights: the
    polynomials are nearly orthogonal over a detector, and each step begins from the residuals themselves, so no digits are lost.
    Stars are read in passes and nothing is stored for them.
    """
    stars = _Stars.of(magnitudes, variance, group, x, y, size, triangular, threads)
    count, total, weighted = stars.constants(n_groups).T
    total[count < min_stars] = 0.0
    constants = ratio(weighted, total)
    fields = replace(constant_fields(constants, order), n_stars=count.astype(np.int64))
    terms = chebyshev_terms(order, order, triangular=triangular)
    fit = (count >= STARS_PER_PARAMETER * len(terms)) & np.isfinite(constants)
    if shaped is not None:
        fit &= shaped
    if order == 0 or not fit.any():
        return fields
    chosen = np.flatnonzero(fit)
    number = np.full(n_groups, -1, np.int32)
    number[chosen] = np.arange(len(chosen), dtype=np.int32)
    found, solved = _solve(stars, number, constants[chosen], terms, order)
    grid = _corner_basis(order)
    flux = np.einsum("gij,ai,bj->gab", found, grid, grid)
    least = MIN_FLUX * fields.coefficients[chosen, :1, :1]
    good = solved & np.isfinite(flux).all(axis=(1, 2)) & (flux > least).all(axis=(1, 2))
    fields.coefficients[chosen[good]] = found[good]
    fields.has_shape[chosen[good]] = True
    return fields


def center_variances(
    information: npt.NDArray[np.floating],
    group: IndexArray,
    n_groups: int,
    x: npt.NDArray[np.floating],
    y: npt.NDArray[np.floating],
    size: tuple[int, int],
    *,
    order: int,
    triangular: bool = False,
    threads: int = 1,
) -> FloatArray:
    """Return how well fields are known at the centers of their detectors, beside their means, mag^2, shape (n_groups,).

    Parameters
    ----------
    information : float, shape (n,)
        What each star says of a field, mag^-2.
    group : int, shape (n,)
        Field of each; negative: none.
    n_groups, x, y, size, order, triangular, threads
        As for `fit_flux_fields`.

    Returns
    -------
    variance
        Of the field at the center minus its mean over the stars, for fields near 1; 0 where stars do not determine a field, as
        those are constant.
    """
    terms = chebyshev_terms(order, order, triangular=triangular)
    known = (np.asarray(group) >= 0) & (information > 0)
    variance = np.ones(len(group), np.float32)
    np.divide(1.0, information, out=variance, where=known, casting="same_kind")
    stars = _Stars.of(
        np.zeros(len(group), np.float32),
        variance,
        np.where(known, group, -1),
        x,
        y,
        size,
        triangular,
        threads,
    )
    everyone = np.arange(n_groups, dtype=np.int32)
    _, normal = stars.first_step(everyone, np.zeros(n_groups), terms, order)
    total = normal[:, 0, 0]
    normal[total <= 0] = np.eye(len(terms))
    inverse, _ = _inverses(normal)
    middle = chebyshev.chebvander(0.0, order).ravel()
    center = np.array([middle[j] * middle[i] for j, i in terms])
    off = center - normal[:, :, 0] / normal[:, :1, 0]
    return np.where(total > 0, np.einsum("gi,gij,gj->g", off, inverse, off), 0.0)


@dataclass(frozen=True)
class _Stars:
    """What the kernels take of the stars, and sums of it; the same for any number of threads."""

    group: npt.NDArray[np.int32]
    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.float32]
    size: FloatArray
    magnitude: npt.NDArray[np.float32]
    variance: npt.NDArray[np.float32]
    triangular: bool
    threads: int

    @classmethod
    def of(
        cls,
        magnitudes: npt.NDArray[np.floating],
        variance: npt.NDArray[np.floating],
        group: IndexArray,
        x: npt.NDArray[np.floating],
        y: npt.NDArray[np.floating],
        size: tuple[int, int],
        triangular: bool,
        threads: int,
    ) -> _Stars:
        """Return the stars in the kernels' precision."""
        return cls(
            np.ascontiguousarray(group, np.int32), np.ascontiguousarray(x, np.float32),
            np.ascontiguousarray(y, np.float32), np.array(size, np.float64),
            np.ascontiguousarray(magnitudes, np.float32), np.ascontiguousarray(variance, np.float32),
            bool(triangular), threads,
        )  # fmt: skip

    def constants(self, n_groups: int) -> FloatArray:
        """Return the sums of `constant_sums`."""

        def run(rows: slice) -> tuple[FloatArray]:
            out = np.zeros((n_groups, 3))
            constant_sums(self.group[rows], self.magnitude[rows], self.variance[rows], out)
            return (out,)

        return self._total(run)[0]

    def first_step(
        self, number: npt.NDArray[np.int32], constants: FloatArray, terms: list[tuple[int, int]], order: int
    ) -> tuple[FloatArray, FloatArray]:
        """Return the sums for the steps from constants, shape (n, n_terms), and the normal matrices."""
        n = len(constants)

        def run(rows: slice) -> tuple[FloatArray, FloatArray]:
            side, moments = np.zeros((n, order + 1, order + 1)), np.zeros((n, 2 * order + 1, 2 * order + 1))
            field_moments(
                self.group[rows], number, self.x[rows], self.y[rows], self.size, self.magnitude[rows], self.variance[rows],
                constants, self.triangular, side, moments,
            )  # fmt: skip
            return side, moments

        side, moments = self._total(run)
        j, i = np.array(terms).T
        # T_a T_b = (T_(a + b) + T_|a - b|) / 2
        products = np.zeros((n, len(terms), len(terms)))
        for y in (np.add.outer(j, j), np.abs(np.subtract.outer(j, j))):
            for x in (np.add.outer(i, i), np.abs(np.subtract.outer(i, i))):
                products += moments[:, y, x]
        return side[:, j, i], 0.25 * products

    def further_step(
        self, number: npt.NDArray[np.int32], fields: FloatArray, terms: list[tuple[int, int]]
    ) -> FloatArray:
        """Return the sums for further steps, shape (n, n_terms)."""

        def run(rows: slice) -> tuple[FloatArray]:
            side = np.zeros(fields.shape)
            field_sums(
                self.group[rows], number, self.x[rows], self.y[rows], self.size, self.magnitude[rows], self.variance[rows],
                fields, self.triangular, side,
            )  # fmt: skip
            return (side,)

        j, i = np.array(terms).T
        return self._total(run)[0][:, j, i]

    def _total[T: tuple[FloatArray, ...]](self, run: Callable[[slice], T]) -> T:
        """Return the sums over parts of the rows, added in their order."""
        bounds = row_parts(len(self.group))
        parts = in_order(lambda k: run(slice(bounds[k], bounds[k + 1])), len(bounds) - 1, self.threads)
        total = next(parts)
        for part in parts:
            for whole, each in zip(total, part, strict=True):
                whole += each
        return total


def _solve(
    stars: _Stars,
    number: npt.NDArray[np.int32],
    constants: FloatArray,
    terms: list[tuple[int, int]],
    order: int,
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return the fields (n, order + 1, order + 1) of groups with known constants, and whether stars determine each."""
    j, i = np.array(terms).T
    constant = 10.0 ** (-0.4 * constants)
    found = np.zeros((len(constants), order + 1, order + 1))
    found[:, 0, 0] = constant
    side, normal = stars.first_step(number, constants, terms, order)
    inverse, solved = _inverses(normal)
    before = np.inf
    for _ in range(_ITERATIONS):
        # the derivative of a logarithm is one over the flux, which is near the constant's
        step = constant[:, None] * (inverse @ side[:, :, None])[:, :, 0]
        found[:, j, i] -= step
        size = float(np.max(np.abs(step) / constant[:, None]))
        # each step is shorter than the one before by a factor, and so is what is left
        if size * min(size / before, 1.0) < _CONVERGED and before < np.inf:
            break
        before = size
        side = stars.further_step(number, found, terms)
    return found, solved


def _inverses(normal: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return the inverses of normal matrices (zeros if singular), and which are regular."""
    scale = 1.0 / np.sqrt(np.einsum("gii->gi", normal))
    scaled = normal * scale[:, :, None] * scale[:, None, :]
    solved = np.linalg.eigvalsh(scaled)[:, 0] > _SINGULAR
    inverse = np.zeros_like(normal)
    inverse[solved] = np.linalg.inv(scaled[solved])
    return inverse * scale[:, :, None] * scale[:, None, :], solved


def _corner_basis(order: int) -> FloatArray:
    """Return the polynomials at points from edge to edge, at which a field has to be positive: (n, order + 1)."""
    return np.asarray(chebyshev.chebvander(np.linspace(-1.0, 1.0, 4 * order + 1), order))
