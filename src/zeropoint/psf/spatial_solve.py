"""The joint linear solve for the pixels of a PSF model and their variation over the detector.

Star s shows ``f_s Wy_s P_s Wx_s^T`` where ``P_s = sum_m K_sm Q_m`` is the model grid at its place and Wy, Wx
the interpolation matrices of its sub-pixel phase. The least-squares solution for all ``Q_m`` at once has
normal equations of ``(grid^2 n_terms)^2`` elements; these are never formed. Conjugate gradients need only
products with them, which are four small matrix products a star, and masked pixels cost nothing extra.
In a basis K made orthonormal over the stars the normal matrix is close to ``1 (x) D M D`` with M the mean over
the stars of ``Wy^T Wy (x) Wx^T Wx`` and D^2 their mean weight in each pixel; the inverse of that is the
preconditioner, and a dozen steps suffice. A prior of independent terms turns K so that it does not mix them; D then
differs between terms, and M is taken as a product of one-dimensional parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack, solve_triangular

__all__ = ["SolveRecord", "diagonal_preconditioner", "orthonormal_basis", "solve_increment"]

FloatArray = npt.NDArray[np.float64]

#: Damping relative to a fully observed model pixel. It keeps pixels that no star constrains where they are,
#: slows the others by this fraction of a step, and does not bias what the outer iterations converge to.
DAMPING = 1e-4
#: Least eigenvalue, relative to a fully observed model pixel, that the separable preconditioner inverts.
FLOOR = 1e-2
#: Eigenvalue of the terms' weights at the stars, relative to the largest, below which stars say nothing.
UNSEEN = 1e-12


@dataclass(frozen=True)
class SolveRecord:
    """How a solve went: steps taken, final residual relative to the right-hand side, preconditioner if reusable."""

    n_steps: int
    relative_residual: float
    inverse: FloatArray | None


@dataclass(frozen=True)
class _Terms:
    """The basis ``k`` in which a solve is done, and how coefficients get there (``inward``) and back (``outward``).

    ``ridge``, shape (m, grid * grid), is the inverse of the prior variance of the coefficients of ``k``.
    """

    k: FloatArray
    inward: FloatArray
    outward: FloatArray
    ridge: FloatArray

    @property
    def damping(self) -> FloatArray:
        """What is added to the diagonal of the normal matrix, shape (m, grid * grid)."""
        return DAMPING + self.ridge


def orthonormal_basis(basis: FloatArray, star_weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return ``(K, R)`` with ``basis = K R`` and ``sum_s star_weight_s K_sa K_sb = delta_ab``.

    Parameters
    ----------
    basis : float64, shape (n, m)
        Monomials at the stars.
    star_weight : float64, shape (n,)
        Positive weights.
    """
    root = np.sqrt(star_weight)[:, None]
    r = np.linalg.qr(root * basis, mode="r")
    k = solve_triangular(r, basis.T, trans="T", lower=False).T
    return np.ascontiguousarray(k), r


def _mean_gram(wx: FloatArray, wy: FloatArray, star_weight: FloatArray) -> FloatArray:
    """Return the star-weighted mean of ``Wy^T Wy (x) Wx^T Wx``, shape (grid^2, grid^2)."""
    n, _, grid = wx.shape
    gx = np.matmul(wx.transpose(0, 2, 1), wx).reshape(n, -1)
    gy = np.matmul(wy.transpose(0, 2, 1), wy).reshape(n, -1)
    mean = (gy * (star_weight / star_weight.sum())[:, None]).T @ gx
    return mean.reshape(grid, grid, grid, grid).transpose(0, 2, 1, 3).reshape(grid * grid, grid * grid)


def _mean_weight_on_grid(gain: FloatArray, grid: int, scale: float) -> FloatArray:
    """Return the mean weight of the stamp pixel nearest to each model pixel, shape (grid * grid,)."""
    side = gain.shape[1]
    mean = gain.mean(axis=0) / gain.mean()
    axis = (np.arange(grid) - grid // 2) * scale
    nearest = np.clip(np.floor(axis + 0.5).astype(np.int64) + side // 2, 0, side - 1)
    return np.asarray(mean[np.ix_(nearest, nearest)].ravel())


def _preconditioner(
    wx: FloatArray,
    wy: FloatArray,
    gain: FloatArray,
    star_weight: FloatArray,
    scale: float,
    damping: FloatArray,
) -> FloatArray:
    """Return the inverse of the approximate normal matrix of one orthonormal term."""
    weight = np.maximum(_mean_weight_on_grid(gain, wx.shape[2], scale), 1e-6)
    root = np.sqrt(weight)
    approximate = _mean_gram(wx, wy, star_weight) * root[:, None] * root[None, :]
    approximate[np.diag_indices_from(approximate)] += damping
    factor, _ = lapack.dpotrf(approximate, lower=1, overwrite_a=1)
    inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    lower = np.tril(inverse)
    return np.ascontiguousarray(lower + np.tril(lower, -1).T)


def _independent_terms(
    basis: FloatArray, star_weight: FloatArray, sigma: FloatArray, factor: FloatArray
) -> _Terms:
    """Return that orthonormal basis in which a prior of independent terms does not mix them either."""
    scaled = basis * factor
    values, turn = np.linalg.eigh(scaled.T @ (star_weight[:, None] * scaled))
    size = 1.0 / np.sqrt(np.maximum(values, UNSEEN * values.max()))
    return _Terms(
        np.ascontiguousarray(scaled @ (turn * size)),
        (turn / size).T / factor,
        factor[:, None] * turn * size,
        (size * size)[:, None] / sigma.reshape(1, -1) ** 2,
    )


def _orthonormal_terms(basis: FloatArray, star_weight: FloatArray, sigma: float, n_pixels: int) -> _Terms:
    """Return an orthonormal basis with the same prior for each of its terms, or with none where sigma is 0."""
    k, r = orthonormal_basis(basis, star_weight)
    # K_s ~ 1/sqrt(sum of weights), so a variance of model pixels is that of Q over the sum of weights
    ridge = 1.0 / (sigma**2 * star_weight.sum()) if sigma > 0 else 0.0
    return _Terms(k, r, solve_triangular(r, np.eye(len(r)), lower=False), np.full((len(r), n_pixels), ridge))


def _separable_preconditioner(
    k: FloatArray,
    wx: FloatArray,
    wy: FloatArray,
    gain: FloatArray,
    star_weight: FloatArray,
    damping: FloatArray,
) -> Callable[[FloatArray], FloatArray]:
    """Return nearly the inverse of the normal matrix, as a function of coefficients of shape (m, grid * grid).

    The diagonal is exact, and what couples pixels is that of the mean star, a product of one-dimensional parts.
    """
    share = (star_weight / star_weight.sum())[:, None, None]
    gram_x, gram_y = ((w.transpose(0, 2, 1) @ (w * share)).sum(axis=0) for w in (wx, wy))
    seen = np.matmul(np.matmul((wy * wy).transpose(0, 2, 1), gain), wx * wx).reshape(len(k), -1)
    mean = np.outer(np.diag(gram_y), np.diag(gram_x)).ravel()
    # where no star has a good pixel, the prior alone speaks
    diagonal = np.where(mean > FLOOR**2, (k * k).T @ seen / np.maximum(mean, FLOOR**2), 0.0)
    root = np.sqrt(diagonal + damping)
    (values_x, vectors_x), (values_y, vectors_y) = np.linalg.eigh(gram_x), np.linalg.eigh(gram_y)
    inverse = 1.0 / np.maximum(np.outer(np.maximum(values_y, 0.0), np.maximum(values_x, 0.0)), FLOOR)

    def precondition(q: FloatArray) -> FloatArray:
        inner = vectors_y.T @ (q / root).reshape(-1, *inverse.shape) @ vectors_x * inverse
        return np.asarray((vectors_y @ inner @ vectors_x.T).reshape(q.shape) / root)

    return precondition


def diagonal_preconditioner(gain: FloatArray) -> FloatArray:
    """Return the preconditioner of model pixels as large as the detector's, where the mean gram matrix is about 1.

    Parameters
    ----------
    gain : float64, shape (n, side, side)
        Weight of each pixel times the square of the star's flux.

    Returns
    -------
    inverse : float64, shape (side * side,)
        Its diagonal; it costs nothing, however large the grid.
    """
    mean = gain.mean(axis=0) / gain.mean()
    return np.asarray(1.0 / (np.maximum(mean, 1e-6) + DAMPING)).ravel()


def _times(vectors: FloatArray, inverse: FloatArray) -> FloatArray:
    """Apply a full or a diagonal preconditioner to row vectors."""
    return vectors * inverse if inverse.ndim == 1 else vectors @ inverse


def solve_increment(
    basis: FloatArray,
    wx: FloatArray,
    wy: FloatArray,
    pixel_weight: FloatArray,
    residual: FloatArray,
    flux: FloatArray,
    *,
    scale: float = 1.0,
    prior_offset: FloatArray | None = None,
    prior_sigma: float | FloatArray = 0.0,
    prior_factor: FloatArray | None = None,
    inverse: FloatArray | None = None,
    tolerance: float = 1e-4,
    max_steps: int = 200,
) -> tuple[FloatArray, SolveRecord]:
    """Solve for the change of the model that best explains the residuals.

    Parameters
    ----------
    basis : float64, shape (n, m)
        Monomials at the stars.
    wx, wy : float64, shape (n, side, grid)
        Interpolation matrices.
    pixel_weight : float64, shape (n, side, side)
        Weights; 0 where masked.
    residual : float64, shape (n, side, side)
        Data minus model.
    flux : float64, shape (n,)
        Fluxes.
    scale
        Model pixel in detector pixels.
    prior_offset : float64, shape (m, grid, grid)
        Present coefficients minus those of a prior model, to which the solution is drawn.
    prior_sigma : float, or float64, shape (grid, grid)
        How far model pixels may be from the prior, one sigma: a number, the same for each term made orthonormal over
        the stars, 0 for no prior; or, with ``prior_factor``, that of each pixel for a term of factor 1.
    prior_factor : float64, shape (m,)
        What ``prior_sigma`` is multiplied with in each term of ``basis``.
    inverse : float64, shape (grid^2, grid^2) or (grid^2,)
        Without ``prior_factor``: preconditioner of an earlier solve with nearly the same stars and weights, to save
        its computation; or its diagonal (`diagonal_preconditioner`), if that is enough.
    tolerance
        Stop when the residual of the normal equations has fallen by this factor.
    max_steps
        At most so many steps.

    Returns
    -------
    increment : float64, shape (m, grid, grid)
        Change of the coefficients.
    record
        `SolveRecord`.
    """
    grid = wx.shape[2]
    m = basis.shape[1]
    gain = pixel_weight * (flux * flux)[:, None, None]
    star_weight = gain.mean(axis=(1, 2))
    wxt = np.ascontiguousarray(wx.transpose(0, 2, 1))
    wyt = np.ascontiguousarray(wy.transpose(0, 2, 1))
    precondition: Callable[[FloatArray], FloatArray]
    if prior_factor is None:
        terms = _orthonormal_terms(basis, star_weight, float(prior_sigma), grid * grid)
        if inverse is None:
            inverse = _preconditioner(wx, wy, gain, star_weight, scale, terms.damping.min(axis=0))
        precondition = partial(_times, inverse=inverse)
    else:
        terms = _independent_terms(basis, star_weight, np.asarray(prior_sigma), prior_factor)
        inverse = None
        precondition = _separable_preconditioner(terms.k, wx, wy, gain, star_weight, terms.damping)
    k, damping = terms.k, terms.damping

    def normal_product(q: FloatArray) -> FloatArray:
        p = (k @ q).reshape(-1, grid, grid)
        shown = np.matmul(np.matmul(wy, p), wxt)
        shown *= gain
        back = np.matmul(np.matmul(wyt, shown), wx)
        return k.T @ back.reshape(len(k), -1) + damping * q

    weighted = residual * pixel_weight * flux[:, None, None]
    right = k.T @ np.matmul(np.matmul(wyt, weighted), wx).reshape(len(k), -1)
    if prior_offset is not None and terms.ridge.any():
        right -= terms.ridge * (terms.inward @ prior_offset.reshape(m, -1))
    q, steps, fallen = _conjugate_gradients(normal_product, precondition, right, tolerance, max_steps)
    return (terms.outward @ q).reshape(m, grid, grid), SolveRecord(steps, fallen, inverse)


def _conjugate_gradients(
    product: Callable[[FloatArray], FloatArray],
    precondition: Callable[[FloatArray], FloatArray],
    right: FloatArray,
    tolerance: float,
    max_steps: int,
) -> tuple[FloatArray, int, float]:
    """Solve ``product(q) = right``; return q, the steps taken and by what factor the residual has fallen."""
    q = np.zeros_like(right)
    remaining = right.copy()
    z = precondition(remaining)
    direction = z.copy()
    rz = start = float(np.vdot(remaining, z))
    steps = 0
    while steps < max_steps and rz > tolerance * tolerance * start and rz > 0.0:
        moved = product(direction)
        alpha = rz / float(np.vdot(direction, moved))
        q += alpha * direction
        remaining -= alpha * moved
        z = precondition(remaining)
        rz_new = float(np.vdot(remaining, z))
        direction *= rz_new / rz
        direction += z
        rz = rz_new
        steps += 1
    return q, steps, float(np.sqrt(rz / start)) if start > 0 else 0.0
