"""Eigen-images of a PSF, how much of each a star shows, and how these amounts vary over the detector.

The PSF at a place is ``E_0 + sum_k a_k(x, y) E_k`` with polynomials ``a_k``. Eigen-images are the principal
components of the stars' images after these were smoothed over the detector, so that they are of what varies from
place to place and not of the noise of single stars. The amplitude of the core is the same in all images: the varying
ones have none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Amounts", "eigen_images", "first_of_cells", "fit_amounts", "fit_field", "terms_of_field"]

FloatArray = npt.NDArray[np.float64]

#: Eigenvalues below this share of the first are rounding errors.
SMALLEST_EIGENVALUE = 1e-12
#: The non-linear spatial fit takes at most so many steps.
MAX_STEPS = 50


@dataclass(frozen=True)
class Amounts:
    """How much of each eigen-image each star shows.

    Parameters
    ----------
    amplitude : float64, shape (n,)
        Factor of the first eigen-image.
    ratio, error : float64, shape (n, n_images - 1)
        Factors of the others relative to it, and their standard errors.
    value : float64, shape (n, n_images)
        All factors.
    normal : float64, shape (n, n_images, n_images)
        Normal matrix of each star's fit: inverse covariance of ``value``.
    """

    amplitude: FloatArray
    ratio: FloatArray
    error: FloatArray
    value: FloatArray
    normal: FloatArray


def first_of_cells(
    x: FloatArray, y: FloatArray, brightness: FloatArray, cell: tuple[int, int], limit: int
) -> npt.NDArray[np.bool_]:
    """Return True for the brightest stars of each cell of a grid.

    Parameters
    ----------
    x, y, brightness : float64, shape (n,)
        Positions, pixels, and what stars are ranked by.
    cell
        Sides of a cell along x and y, pixels.
    limit
        At most so many stars in each; 0 for all.
    """
    n = len(x)
    if limit == 0 or n == 0:
        return np.ones(n, np.bool_)
    column, row = np.floor(x / cell[0]).astype(np.int64), np.floor(y / cell[1]).astype(np.int64)
    order = np.lexsort((-brightness, column, row))
    new = np.ones(n, np.bool_)
    new[1:] = (np.diff(column[order]) != 0) | (np.diff(row[order]) != 0)
    start = np.maximum.accumulate(np.where(new, np.arange(n), 0))
    first = np.zeros(n, np.bool_)
    first[order[np.arange(n) - start < limit]] = True
    return first


def eigen_images(terms: FloatArray, basis: FloatArray, weight: FloatArray, limit: int) -> FloatArray:
    """Return the principal components of the smoothed images of some stars.

    Parameters
    ----------
    terms : float64, shape (n_terms, grid, grid)
        Images that multiply each polynomial term: the smoothed field.
    basis : float64, shape (n, n_terms)
        Polynomial terms at the stars.
    weight : float64, shape (n,)
        Weights of the stars.
    limit
        At most so many components.

    Returns
    -------
    images : float64, shape (n_images, grid, grid)
        By falling eigenvalue of ``R_st = sqrt(w_s w_t) <I_s, I_t>``; there are no more than terms, or stars. The first
        has sum 1; the others no core, that is, no product with the first times its absolute value, and norm that of
        the first.
    """
    n_terms, grid, _ = terms.shape
    # with sqrt(w) K = Q C, eigen-vectors of R are Q times those of the few products C <I, I> C^T
    small = np.linalg.qr(np.sqrt(weight)[:, None] * basis, mode="r")
    shown = small @ terms.reshape(n_terms, -1)
    eigenvalue, vector = np.linalg.eigh(shown @ shown.T)
    order = np.argsort(-eigenvalue, kind="stable")[:limit]
    order = order[eigenvalue[order] > SMALLEST_EIGENVALUE * eigenvalue[order[0]]]
    images = vector[:, order].T @ shown
    images[0] /= images[0].sum()
    core = images[0] * np.abs(images[0])
    images[1:] -= ((images[1:] @ core) / (images[0] @ core))[:, None] * images[0]
    length = np.sqrt((images * images).sum(axis=1))
    kept = length > 0
    images = images[kept] * (length[0] / length[kept])[:, None]
    # a sign of its own for each, whatever the library of linear algebra makes of it
    extreme = np.take_along_axis(images, np.abs(images).argmax(axis=1)[:, None], axis=1)
    return np.ascontiguousarray((images * np.sign(extreme)).reshape(-1, grid, grid))


def fit_amounts(
    images: FloatArray, wx: FloatArray, wy: FloatArray, data: FloatArray, weight: FloatArray
) -> Amounts:
    """Fit the eigen-images to each star's pixels, with free factors.

    Parameters
    ----------
    images : float64, shape (n_images, grid, grid)
        Eigen-images.
    wx, wy : float64, shape (n, side, grid)
        Matrices that draw them at each star's sub-pixel place.
    data, weight : float64, shape (n, side, side)
        Stamps and inverse variances.

    Returns
    -------
    amounts
        `Amounts`; NaN for stars that leave some factor undetermined.
    """
    n, k = len(data), len(images)
    wxt = np.ascontiguousarray(wx.transpose(0, 2, 1))
    design = np.stack([np.matmul(np.matmul(wy, image), wxt) for image in images], axis=1).reshape(n, k, -1)
    weighted = design * weight.reshape(n, 1, -1)
    normal = weighted @ design.transpose(0, 2, 1)
    right = weighted @ data.reshape(n, -1, 1)
    value, covariance = np.full((n, k), np.nan), np.full((n, k, k), np.nan)
    with np.errstate(invalid="ignore"):
        solvable = np.isfinite(normal).all(axis=(1, 2)) & (np.linalg.cond(np.nan_to_num(normal)) < 1e12)
    value[solvable] = np.linalg.solve(normal[solvable], right[solvable])[:, :, 0]
    covariance[solvable] = np.linalg.inv(normal[solvable])
    amplitude = np.where(value[:, 0] > 0, value[:, 0], np.nan)
    variance = np.diagonal(covariance, axis1=1, axis2=2)[:, 1:]
    return Amounts(
        amplitude, value[:, 1:] / amplitude[:, None], np.sqrt(variance) / amplitude[:, None], value, normal
    )


def fit_field(
    amounts: Amounts, basis: FloatArray, chosen: npt.NDArray[np.bool_], *, nonlinear: bool, tolerance: float
) -> tuple[FloatArray, int]:
    """Fit polynomials to the factors of the eigen-images.

    Parameters
    ----------
    amounts
        From `fit_amounts`.
    basis : float64, shape (n, n_terms)
        Polynomial terms at the stars.
    chosen : bool, shape (n,)
        Stars to use.
    nonlinear
        Minimise the total chi-square over polynomials and amplitudes together, instead of keeping each star's own
        amplitude.
    tolerance
        Steps end when chi-square falls by less than this fraction.

    Returns
    -------
    coefficients : float64, shape (n_images - 1, n_terms)
        ``a_k = sum_t coefficients[k, t] K_t``.
    n_steps
        Linear solves done.

    Notes
    -----
    With factors c_s and normal matrix N_s of a star, its chi-square for factors ``A (1, a)`` is that of its own fit
    plus ``(A (1, a) - c_s)^T N_s (A (1, a) - c_s)``: the pixels are not needed again. It is quadratic in the
    polynomials for given amplitudes, and in the amplitudes for given polynomials.
    """
    rows = np.flatnonzero(chosen & np.isfinite(amounts.amplitude))
    n_ratios, n_terms = amounts.ratio.shape[1], basis.shape[1]
    coefficients = np.zeros((n_ratios, n_terms))
    if n_ratios == 0 or len(rows) == 0:
        return coefficients, 0
    k, value, normal = basis[rows], amounts.value[rows], amounts.normal[rows]
    amplitude = amounts.amplitude[rows]
    old, steps = np.inf, 0
    while steps < MAX_STEPS:
        outer = np.einsum("s,sij,st,su->itju", amplitude**2, normal[:, 1:, 1:], k, k, optimize=True)
        wanted = np.einsum("sij,sj->si", normal[:, 1:, :], value) - amplitude[:, None] * normal[:, 1:, 0]
        right = np.einsum("s,si,st->it", amplitude, wanted, k)
        size = n_ratios * n_terms
        solution = np.linalg.lstsq(outer.reshape(size, size), right.ravel(), rcond=None)[0]
        coefficients = solution.reshape(n_ratios, n_terms)
        steps += 1
        if not nonlinear:
            break
        factors = np.concatenate([np.ones((len(rows), 1)), k @ coefficients.T], axis=1)
        shown = np.einsum("sij,sj->si", normal, factors)
        amplitude = (shown * value).sum(axis=1) / (shown * factors).sum(axis=1)
        excess = amplitude[:, None] * factors - value
        chi2 = float(np.einsum("si,sij,sj->", excess, normal, excess))
        if not old - chi2 > tolerance * chi2:
            break
        old = chi2
    return coefficients, steps


def terms_of_field(images: FloatArray, coefficients: FloatArray) -> FloatArray:
    """Return the image that multiplies each polynomial term, shape (n_terms, grid, grid); the first is constant."""
    terms = np.tensordot(coefficients.T, images[1:], axes=1)
    terms[0] += images[0]
    return np.asarray(terms)
