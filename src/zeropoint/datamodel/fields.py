"""Chebyshev polynomials over an image: aperture corrections, backgrounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev

__all__ = ["ChebyshevPolynomial", "chebyshev_means", "chebyshev_terms", "fit_chebyshev"]


def chebyshev_terms(order_x: int, order_y: int, *, triangular: bool = True) -> list[tuple[int, int]]:
    """Return the ``(j, i)`` (y order, x order) of every term; triangular keeps ``i + j <= max order``."""
    top = max(order_x, order_y)
    return [(j, i) for j in range(order_y + 1) for i in range(order_x + 1) if not triangular or i + j <= top]


def chebyshev_means(n: int) -> np.ndarray:
    """Return the means of the first ``n`` Chebyshev polynomials over [-1, 1]."""
    order = np.arange(n, dtype=np.float64)
    return np.where(order % 2 == 0, 1.0 / (1.0 - np.where(order == 1, 0.0, order) ** 2), 0.0)


@dataclass(frozen=True)
class ChebyshevPolynomial:
    """``f(x, y) = sum_ji c[j, i] T_i(x') T_j(y')`` with ``[-0.5, width - 0.5]`` mapped to ``[-1, 1]``.

    Parameters
    ----------
    width, height
        Image size in pixels.
    coefficients : float64, shape (order_y + 1, order_x + 1)
        Coefficients, ``[y order, x order]``.
    """

    width: int
    height: int
    coefficients: np.ndarray

    @classmethod
    def constant(cls, width: int, height: int, value: float) -> ChebyshevPolynomial:
        """Return a constant field."""
        return cls(width, height, np.array([[value]], np.float64))

    def __call__(self, *, x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
        """Evaluate at pixel positions (broadcast together), float64."""
        u = (2.0 * np.asarray(x, np.float64) + 1.0 - self.width) / self.width
        v = (2.0 * np.asarray(y, np.float64) + 1.0 - self.height) / self.height
        v, u = np.broadcast_arrays(v, u)
        value: Any = chebyshev.chebval2d(v, u, self.coefficients)
        return np.asarray(value, np.float64)

    def image(self, dtype: type = np.float32) -> np.ndarray:
        """Evaluate on every pixel as two small matrix products, shape (height, width)."""
        c = self.coefficients
        tx = chebyshev.chebvander(
            (2.0 * np.arange(self.width) + 1.0 - self.width) / self.width, c.shape[1] - 1
        )
        ty = chebyshev.chebvander(
            (2.0 * np.arange(self.height) + 1.0 - self.height) / self.height, c.shape[0] - 1
        )
        return (ty.astype(dtype) @ (c @ tx.T).astype(dtype)).astype(dtype, copy=False)

    def scaled(self, factor: float) -> ChebyshevPolynomial:
        """Return the field times a number."""
        return ChebyshevPolynomial(self.width, self.height, self.coefficients * factor)

    def times(self, other: ChebyshevPolynomial) -> ChebyshevPolynomial:
        """Return the product with another field over the same image; the orders add."""
        ny, nx = (a + b - 1 for a, b in zip(self.coefficients.shape, other.coefficients.shape))
        product = np.zeros((ny, nx))
        # rows are polynomials in x, and T_a T_b = (T_(a+b) + T_|a-b|) / 2 along y
        for a, first in enumerate(self.coefficients):
            for b, second in enumerate(other.coefficients):
                row = chebyshev.chebmul(first, second)
                for target in (a + b, abs(a - b)):
                    product[target, : len(row)] += 0.5 * row
        return ChebyshevPolynomial(self.width, self.height, product)

    def mean(self) -> float:
        """Return the mean over the image's area."""
        ny, nx = self.coefficients.shape
        return float(chebyshev_means(ny) @ self.coefficients @ chebyshev_means(nx))


def fit_chebyshev(
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    width: int,
    height: int,
    order_x: int,
    order_y: int,
    *,
    weights: np.ndarray | None = None,
    triangular: bool = True,
) -> ChebyshevPolynomial:
    """Fit a Chebyshev polynomial to scattered values by (weighted) least squares.

    Parameters
    ----------
    x, y, values : float, shape (n,)
        Pixel positions and finite values.
    width, height
        Image size in pixels.
    order_x, order_y
        Highest orders.
    weights : float, shape (n,), optional
        Weights of the squared residuals.
    triangular
        Keep only terms with ``i + j <= max(order_x, order_y)``.
    """
    terms = chebyshev_terms(order_x, order_y, triangular=triangular)
    u = (2.0 * np.asarray(x, np.float64) + 1.0 - width) / width
    v = (2.0 * np.asarray(y, np.float64) + 1.0 - height) / height
    tx = chebyshev.chebvander(u, order_x)
    ty = chebyshev.chebvander(v, order_y)
    design = np.stack([ty[:, j] * tx[:, i] for j, i in terms], axis=1)
    target = np.asarray(values, np.float64)
    if weights is not None:
        root = np.sqrt(weights)
        design, target = design * root[:, None], target * root
    solution = np.linalg.lstsq(design, target, rcond=None)[0]
    coefficients = np.zeros((order_y + 1, order_x + 1))
    for (j, i), c in zip(terms, solution):
        coefficients[j, i] = c
    return ChebyshevPolynomial(width, height, coefficients)
