"""The linear algebra of the oversampled pixel-basis PSF.

Star s shows ``f_s Wy_s P_s Wx_s^T`` where ``P_s = sum_m K_sm Q_m`` is the model grid at its place and Wy, Wx the banded
Lanczos matrices of its sub-pixel phase. `solve_grids` finds all ``Q_m`` at once by conjugate gradients, with a product
of one-dimensional eigen-systems as the preconditioner: nothing of the size (grid^2)^2 is ever formed, so that grids of
a hundred model pixels a side are as affordable as small ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.psf._kernels_psfex import axis_taps, mean_gram, resample, resample_transposed

__all__ = ["GridPrior", "Resampler", "draw_taps", "solve_grids", "stack_taps"]

FloatArray = npt.NDArray[np.float64]

#: Damping relative to a fully observed model pixel: holds what neither stars nor prior constrain.
DAMPING = 1e-7
#: Least eigenvalue, relative to a fully observed model pixel, that the preconditioner inverts.
FLOOR = 1e-2
#: Eigenvalue of the terms' weights at the stars, relative to the largest, below which stars say nothing.
UNSEEN = 1e-12


@dataclass(frozen=True)
class Resampler:
    """Banded Lanczos matrices of some stars, along both axes.

    Parameters
    ----------
    start_x, start_y : int64, shape (n, m)
        First input sample of each output.
    taps_x, taps_y : float64, shape (n, m, n_taps)
        Weights.
    n_in
        Side of the input grids.
    """

    start_x: npt.NDArray[np.int64]
    taps_x: FloatArray
    start_y: npt.NDArray[np.int64]
    taps_y: FloatArray
    n_in: int

    @classmethod
    def make(
        cls,
        first_x: FloatArray,
        first_y: FloatArray,
        step: float,
        n_out: int,
        n_in: int,
        order: int,
        gain: float,
    ) -> Resampler:
        """Return the matrices that read grids from ``first + step * i``, times ``gain`` along each axis.

        The order is lowered where the kernel is wider than the grid.
        """
        n, order = len(first_x), min(order, n_in // 2)  # a kernel fits into the line
        starts = np.empty((2, n, n_out), np.int64)
        taps = np.empty((2, n, n_out, 2 * order))
        for axis, first in enumerate((first_x, first_y)):
            axis_taps(np.ascontiguousarray(first, np.float64), step, order, n_in, starts[axis], taps[axis])
        taps *= gain
        return cls(starts[0], taps[0], starts[1], taps[1], n_in)

    def __len__(self) -> int:
        return len(self.start_x)

    def take(self, rows: np.ndarray) -> Resampler:
        """Return the matrices of some stars."""
        return Resampler(
            self.start_x[rows], self.taps_x[rows], self.start_y[rows], self.taps_y[rows], self.n_in
        )

    def apply(self, grids: FloatArray) -> FloatArray:
        """Return ``Wy G Wx^T`` of each grid, shape (n, m, m)."""
        m = self.start_x.shape[1]
        out = np.empty((len(self), m, m))
        resample(np.ascontiguousarray(grids), self.start_x, self.taps_x, self.start_y, self.taps_y, out)
        return out

    def transposed(self, stamps: FloatArray) -> FloatArray:
        """Return ``Wy^T S Wx`` of each stamp, shape (n, n_in, n_in)."""
        out = np.empty((len(self), self.n_in, self.n_in))
        resample_transposed(
            np.ascontiguousarray(stamps), self.start_x, self.taps_x, self.start_y, self.taps_y, out
        )
        return out

    def mean_grams(self, star_weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the star-weighted means of ``Wx^T Wx`` and ``Wy^T Wy``, each of shape (n_in, n_in)."""
        share = star_weight / star_weight.sum()
        gram_x, gram_y = np.empty((2, self.n_in, self.n_in))
        mean_gram(self.start_x, self.taps_x, share, gram_x)
        mean_gram(self.start_y, self.taps_y, share, gram_y)
        return gram_x, gram_y


def draw_taps(dx: FloatArray, dy: FloatArray, *, side: int, grid: int, scale: float, order: int) -> Resampler:
    """Return the matrices that draw model grids on the stamps of stars.

    Parameters
    ----------
    dx, dy : float64, shape (n,)
        Centres from the stamps' middle pixel, detector pixels.
    side, grid
        Odd sides of stamps and model grids.
    scale
        Model pixel in detector pixels.
    order
        Lanczos order.

    Returns
    -------
    resampler
        A grid of sum 1 becomes a stamp of sum 1.
    """
    first_x = (-(side // 2) - dx) / scale + grid // 2
    first_y = (-(side // 2) - dy) / scale + grid // 2
    return Resampler.make(first_x, first_y, 1.0 / scale, side, grid, order, 1.0 / scale)


def stack_taps(
    dx: FloatArray, dy: FloatArray, *, side: int, grid: int, scale: float, order: int
) -> Resampler:
    """Return the matrices that read stamps at the places of the model pixels; arguments as for `draw_taps`."""
    first_x = side // 2 + dx - (grid // 2) * scale
    first_y = side // 2 + dy - (grid // 2) * scale
    return Resampler.make(first_x, first_y, scale, grid, side, order, scale)


@dataclass(frozen=True)
class GridPrior:
    """Normal prior of the model's grids, independent for each model pixel.

    Parameters
    ----------
    centre : float64, shape (m, grid, grid)
        Mean of each term's grid.
    sigma : float64, shape (grid, grid)
        Standard deviation of a model pixel, for a term of factor 1.
    factor : float64, shape (m,)
        What the standard deviation is multiplied with in each term.
    """

    centre: FloatArray
    sigma: FloatArray
    factor: FloatArray


class _Normal:
    """The normal equations in a basis of positions that is orthonormal over the stars.

    Of such bases it is the one in which the prior does not mix terms either.
    """

    def __init__(self, basis: FloatArray, drawn: Resampler, gain: FloatArray, prior: GridPrior) -> None:
        self.drawn, self.gain = drawn, gain
        weight = gain.mean(axis=(1, 2))
        scaled = basis * prior.factor
        values, turn = np.linalg.eigh(scaled.T @ (weight[:, None] * scaled))
        size = 1.0 / np.sqrt(np.maximum(values, UNSEEN * values.max()))
        self.k = np.ascontiguousarray(scaled @ (turn * size))
        self.to_terms = prior.factor[:, None] * turn * size
        self.from_terms = (turn / size).T / prior.factor
        self.ridge = (size * size)[:, None, None] / prior.sigma**2
        gram_x, gram_y = drawn.mean_grams(weight)
        # the diagonal is exact, and what couples pixels that of the mean star
        square = Resampler(drawn.start_x, drawn.taps_x**2, drawn.start_y, drawn.taps_y**2, drawn.n_in)
        seen = (self.k**2).T @ square.transposed(gain).reshape(len(basis), -1)
        mean = np.outer(np.diag(gram_y), np.diag(gram_x))
        # where no star has a good pixel, the prior alone speaks
        seen = np.where(mean > FLOOR**2, seen.reshape(self.ridge.shape) / np.maximum(mean, FLOOR**2), 0.0)
        self.root = np.sqrt(seen + self.ridge + DAMPING)
        values_x, self.vectors_x = np.linalg.eigh(gram_x)
        values_y, self.vectors_y = np.linalg.eigh(gram_y)
        product = np.maximum(values_y, 0.0)[:, None] * np.maximum(values_x, 0.0)
        self.inverse = 1.0 / np.maximum(product, FLOOR)

    def gather(self, stamps: FloatArray) -> FloatArray:
        """Return the gradient that weighted stamps give the coefficients, shape (m, grid, grid)."""
        back = self.drawn.transposed(stamps)
        grid = self.drawn.n_in
        return np.asarray((self.k.T @ back.reshape(len(self.k), -1)).reshape(-1, grid, grid))

    def product(self, q: FloatArray) -> FloatArray:
        """Return the normal matrix times coefficients."""
        grid = self.drawn.n_in
        shown = self.drawn.apply((self.k @ q.reshape(len(q), -1)).reshape(-1, grid, grid))
        shown *= self.gain
        return self.gather(shown) + (self.ridge + DAMPING) * q

    def precondition(self, q: FloatArray) -> FloatArray:
        """Return nearly the inverse of the normal matrix times coefficients."""
        inner = self.vectors_y.T @ (q / self.root) @ self.vectors_x * self.inverse
        return np.asarray(self.vectors_y @ inner @ self.vectors_x.T / self.root)


def solve_grids(
    basis: FloatArray,
    drawn: Resampler,
    pixel_weight: FloatArray,
    residual: FloatArray,
    flux: FloatArray,
    *,
    present: FloatArray,
    prior: GridPrior,
    tolerance: float = 1e-3,
    max_steps: int = 30,
) -> tuple[FloatArray, int]:
    """Solve for the change of the model that best explains the residuals.

    Parameters
    ----------
    basis : float64, shape (n, m)
        Monomials at the stars.
    drawn
        Matrices of `draw_taps`.
    pixel_weight, residual : float64, shape (n, side, side)
        Weights (0 where masked) and data minus model.
    flux : float64, shape (n,)
        Fluxes.
    present : float64, shape (m, grid, grid)
        Grids that the residuals are of.
    prior
        Where grids are expected.
    tolerance
        Stop when the preconditioned residual has fallen by this factor.
    max_steps
        At most so many steps.

    Returns
    -------
    increment : float64, shape (m, grid, grid)
        Change of the grids.
    n_steps
        Steps taken.
    """
    grid, m = drawn.n_in, basis.shape[1]
    normal = _Normal(basis, drawn, pixel_weight * (flux * flux)[:, None, None], prior)
    remaining = normal.gather(residual * pixel_weight * flux[:, None, None])
    offset = (normal.from_terms @ (present - prior.centre).reshape(m, -1)).reshape(m, grid, grid)
    remaining -= normal.ridge * offset
    q = np.zeros_like(remaining)
    z = normal.precondition(remaining)
    direction = z.copy()
    rz = start = float(np.vdot(remaining, z))
    steps = 0
    while steps < max_steps and rz > tolerance * tolerance * start and rz > 0.0:
        product = normal.product(direction)
        alpha = rz / float(np.vdot(direction, product))
        q += alpha * direction
        remaining -= alpha * product
        z = normal.precondition(remaining)
        rz, before = float(np.vdot(remaining, z)), rz
        direction *= rz / before
        direction += z
        steps += 1
    return (normal.to_terms @ q.reshape(m, -1)).reshape(m, grid, grid), steps
