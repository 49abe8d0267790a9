"""PSF models as the pipeline evaluates them: many positions at once, plain arrays.

Conventions: a *kernel image* is centred on its middle pixel; a *star image* is the PSF at its true sub-pixel
place on the stamp whose middle pixel contains the position (``floor(p + 0.5)``).  Both have side `size` (odd)
and sum 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from zeropoint.kernels.lanczos import pixel_grid_stamps
from zeropoint.kernels.moments import adaptive_moments_stack

__all__ = ["GaussianPsf", "PixelGridPsf", "PsfModel", "PsfShapes", "shapes_of_stamps"]


class PsfShapes:
    """Second moments of the PSF at some positions, pixel^2; arrays of shape (n,)."""

    def __init__(self, xx: np.ndarray, yy: np.ndarray, xy: np.ndarray) -> None:
        self.xx, self.yy, self.xy = xx, yy, xy

    @property
    def determinant_radius(self) -> np.ndarray:
        """``(Ixx Iyy - Ixy^2)^(1/4)``, pixels."""
        return np.maximum(self.xx * self.yy - self.xy**2, 0.0) ** 0.25

    @property
    def trace_radius(self) -> np.ndarray:
        """``sqrt((Ixx + Iyy)/2)``, pixels."""
        return np.sqrt(0.5 * (self.xx + self.yy))


def shapes_of_stamps(stamps: np.ndarray) -> PsfShapes:
    """Return adaptive second moments of kernel images (float64, shape (n, size, size), C-contiguous).

    They are NaN where the iteration does not converge.
    """
    n, size, _ = stamps.shape
    centre = np.full(n, float(size // 2))
    out = np.empty((n, 4))
    adaptive_moments_stack(stamps, centre, centre, 1.5, 200, 1e-7, out)
    out[out[:, 0] > 1, 1:] = np.nan
    return PsfShapes(out[:, 1], out[:, 2], out[:, 3])


class PsfModel(ABC):
    """A PSF that can be drawn anywhere on one detector."""

    #: Odd side of the stamps, pixels.
    size: int
    #: Mean position (x, y) of the stars that made the model.
    average_position: tuple[float, float]

    @abstractmethod
    def star_stamps(self, *, x: Any, y: Any) -> np.ndarray:
        """Return star images at positions of shape (n,): float64, shape (n, size, size), each of sum 1."""

    def kernel_stamps(self, *, x: Any, y: Any) -> np.ndarray:
        """Return kernel images (centred on a pixel) at positions (n,): float64, shape (n, size, size)."""
        raise NotImplementedError

    def kernel_image(self, *, x: float | None = None, y: float | None = None) -> np.ndarray:
        """Return the kernel image at a position (default: the average position), shape (size, size)."""
        ax, ay = self.average_position
        return self.kernel_stamps(x=np.array([ax if x is None else x]), y=np.array([ay if y is None else y]))[
            0
        ]

    def shapes(self, *, x: Any, y: Any) -> PsfShapes:
        """Return adaptive second moments of the kernel images; NaN where they do not converge."""
        return shapes_of_stamps(np.ascontiguousarray(self.kernel_stamps(x=x, y=y), np.float64))

    def sigma(self, *, x: float | None = None, y: float | None = None) -> float:
        """Return the determinant radius at a position (default: the average position), pixels."""
        ax, ay = self.average_position
        shapes = self.shapes(x=np.array([ax if x is None else x]), y=np.array([ay if y is None else y]))
        return float(shapes.determinant_radius[0])


class GaussianPsf(PsfModel):
    """A round Gaussian sampled at pixel centres.

    Parameters
    ----------
    sigma
        Width, pixels.
    size
        Odd stamp side, pixels.
    average_position
        Where the PSF counts as measured; any.
    """

    def __init__(self, sigma: float, size: int, average_position: tuple[float, float] = (0.0, 0.0)) -> None:
        if not (np.isfinite(sigma) and sigma > 0):
            raise ValueError(f"A Gaussian PSF needs a positive finite sigma, not {sigma}.")
        if size % 2 == 0:
            raise ValueError(f"A PSF stamp needs an odd size, not {size}.")
        self.sigma_pix = float(sigma)
        self.size = int(size)
        self.average_position = average_position

    def _stamps(self, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        r = np.arange(self.size) - self.size // 2
        gx = np.exp(-0.5 * ((r[None, :] - dx[:, None]) / self.sigma_pix) ** 2)
        gy = np.exp(-0.5 * ((r[None, :] - dy[:, None]) / self.sigma_pix) ** 2)
        stamps = gy[:, :, None] * gx[:, None, :]
        return stamps / stamps.sum(axis=(1, 2), keepdims=True)

    def star_stamps(self, *, x: Any, y: Any) -> np.ndarray:
        """See `PsfModel.star_stamps`."""
        x, y = np.atleast_1d(np.asarray(x, np.float64)), np.atleast_1d(np.asarray(y, np.float64))
        return self._stamps(x - np.floor(x + 0.5), y - np.floor(y + 0.5))

    def kernel_stamps(self, *, x: Any, y: Any) -> np.ndarray:
        """See `PsfModel.kernel_stamps`."""
        zero = np.zeros(len(np.atleast_1d(np.asarray(x))))
        return self._stamps(zero, zero)


class PixelGridPsf(PsfModel):
    """A grid of model pixels, Lanczos-interpolated, whose values are polynomials of position.

    ``PSF(x, y) = sum_m K_m(u, v) G_m`` with monomials ``K_m = u^i v^j`` of normalised position: Piff's
    ``PixelGrid`` with ``BasisPolynomial``.

    Parameters
    ----------
    coefficients : float64, shape (n_terms, n_grid, n_grid)
        Model pixels ``[y, x]`` of each term.
    exponents : int, shape (n_terms, 2)
        ``(i, j)``, powers of u and v.
    x_ref, y_ref, norm
        ``u = (x - x_ref)/norm``, ``v = (y - y_ref)/norm``.
    size
        Odd stamp side, pixels.
    scale
        Model pixel in detector pixels.
    lanczos
        Order of the interpolant.
    average_position
        Mean (x, y) of the stars used.
    """

    def __init__(
        self,
        coefficients: np.ndarray,
        exponents: np.ndarray,
        *,
        x_ref: float,
        y_ref: float,
        norm: float,
        size: int,
        scale: float = 1.0,
        lanczos: int = 11,
        average_position: tuple[float, float] | None = None,
    ) -> None:
        self.coefficients = np.ascontiguousarray(coefficients, np.float64)
        self.exponents = np.ascontiguousarray(exponents, np.int64)
        self.x_ref, self.y_ref, self.norm = float(x_ref), float(y_ref), float(norm)
        self.size, self.scale, self.lanczos = int(size), float(scale), int(lanczos)
        self.average_position = average_position or (self.x_ref, self.y_ref)

    def basis(self, *, x: Any, y: Any) -> np.ndarray:
        """Return the monomials at positions, shape (n, n_terms)."""
        u = (np.atleast_1d(np.asarray(x, np.float64)) - self.x_ref) / self.norm
        v = (np.atleast_1d(np.asarray(y, np.float64)) - self.y_ref) / self.norm
        return u[:, None] ** self.exponents[:, 0] * v[:, None] ** self.exponents[:, 1]

    def _draw(self, x: np.ndarray, y: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        n_terms, n_grid, _ = self.coefficients.shape
        stamps = np.empty((len(x), self.size, self.size))
        # in blocks, so that the grids of ten thousand positions never exist at once
        for start in range(0, len(x), 512):
            block = slice(start, start + 512)
            grids = self.basis(x=x[block], y=y[block]) @ self.coefficients.reshape(n_terms, -1)
            pixel_grid_stamps(
                grids.reshape(-1, n_grid, n_grid),
                dx[block],
                dy[block],
                self.scale,
                self.lanczos,
                stamps[block],
            )
        return stamps

    def star_stamps(self, *, x: Any, y: Any) -> np.ndarray:
        """See `PsfModel.star_stamps`."""
        x, y = np.atleast_1d(np.asarray(x, np.float64)), np.atleast_1d(np.asarray(y, np.float64))
        return self._draw(x, y, x - np.floor(x + 0.5), y - np.floor(y + 0.5))

    def kernel_stamps(self, *, x: Any, y: Any) -> np.ndarray:
        """See `PsfModel.kernel_stamps`."""
        x, y = np.atleast_1d(np.asarray(x, np.float64)), np.atleast_1d(np.asarray(y, np.float64))
        zero = np.zeros(len(x))
        return self._draw(x, y, zero, zero)
