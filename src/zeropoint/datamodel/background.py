"""Background models: binned values plus the rule that turns them into an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.interpolate import Akima1DInterpolator, CubicSpline

from zeropoint.datamodel.fields import ChebyshevPolynomial

__all__ = ["MIN_POINTS", "BackgroundComponent", "BackgroundList", "reduced_style"]


@dataclass(frozen=True)
class BackgroundComponent:
    """One subtracted background.

    Parameters
    ----------
    values, errors : float64, shape (ny, nx)
        Statistic of each cell and its standard error, counts; NaN where a cell had no pixel.
    x_centers, y_centers : float64
        Cell centres, pixels.
    width, height
        Image size, pixels.
    style
        ``CHEBYSHEV``, or the interpolation style: ``CONSTANT LINEAR NATURAL_SPLINE AKIMA_SPLINE``.
    polynomial
        The fitted surface for ``CHEBYSHEV``, else None.
    factor
        Field that multiplies the interpolated cells, as where the photometric calibration varies; None: one.
    """

    values: np.ndarray
    errors: np.ndarray
    x_centers: np.ndarray
    y_centers: np.ndarray
    width: int
    height: int
    style: str
    polynomial: ChebyshevPolynomial | None = None
    factor: ChebyshevPolynomial | None = None

    def image(self) -> np.ndarray:
        """Return the model on every pixel, float32, shape (height, width)."""
        if self.polynomial is not None:
            return self.polynomial.image()
        cells = _interpolate_cells(
            self.values, self.x_centers, self.y_centers, self.width, self.height, self.style
        )
        if self.factor is not None:
            cells *= self.factor.image()
        return cells

    def scaled(self, factor: float | ChebyshevPolynomial) -> BackgroundComponent:
        """Return the component with its values (not errors) multiplied, as when pixels are calibrated.

        A field multiplies the interpolated image, so that the product is exact between the cells too.
        """
        if isinstance(factor, ChebyshevPolynomial):
            if self.polynomial is not None:
                return replace(self, polynomial=self.polynomial.times(factor))
            return replace(self, factor=factor if self.factor is None else self.factor.times(factor))
        return replace(
            self,
            values=self.values * factor,
            polynomial=None if self.polynomial is None else self.polynomial.scaled(factor),
        )


@dataclass
class BackgroundList:
    """The backgrounds subtracted from an image, in order; the model is their sum."""

    components: list[BackgroundComponent] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.components)

    def __iter__(self) -> Iterator[BackgroundComponent]:
        return iter(self.components)

    def append(self, component: BackgroundComponent) -> None:
        """Add a component."""
        self.components.append(component)

    def image(self) -> np.ndarray:
        """Return the sum of all components, float32, shape (height, width)."""
        if not self.components:
            raise ValueError("An empty background list has no image.")
        total = self.components[0].image()
        for component in self.components[1:]:
            total += component.image()
        return total

    def scaled(self, factor: float | ChebyshevPolynomial) -> BackgroundList:
        """Return all components multiplied by a number or a field."""
        return BackgroundList([component.scaled(factor) for component in self.components])


#: Fewest points each interpolation needs, from the highest order to the lowest.
MIN_POINTS = {"AKIMA_SPLINE": 5, "NATURAL_SPLINE": 3, "LINEAR": 2, "CONSTANT": 1}


def reduced_style(style: str, n: int) -> str:
    """Return the interpolation style that ``n`` points allow, the wanted one if they suffice."""
    if n >= MIN_POINTS[style]:
        return style
    return next(name for name, needed in MIN_POINTS.items() if n >= needed)


def _basis(x: np.ndarray, at: np.ndarray, style: str) -> np.ndarray:
    """Return the matrix, shape (len(at), 2 n), that maps values and slopes at ``x`` to values at ``at``.

    Between centers the splines are cubic Hermite polynomials; beyond the end centers they go on as the
    parabola with the value, slope and second derivative of the end.
    """
    n = len(x)
    rows = np.arange(len(at))
    matrix = np.zeros((len(at), 2 * n))
    if style == "CONSTANT":
        matrix[rows, np.searchsorted(0.5 * (x[1:] + x[:-1]), at, side="right")] = 1.0
        return matrix
    k = np.clip(np.searchsorted(x, at, side="right") - 1, 0, n - 2)
    step = x[k + 1] - x[k]
    t = (at - x[k]) / step
    if style == "LINEAR":
        matrix[rows, k], matrix[rows, k + 1] = 1.0 - t, t
        return matrix
    u = np.clip(t, 0.0, 1.0)
    d = t - u  # beyond the ends; 0 inside
    before, after = np.minimum(d, 0.0), np.maximum(d, 0.0)
    square = 3.0 * (before**2 - after**2)  # half the second derivative's part in the values
    right = u * u * (3.0 - 2.0 * u) + square
    matrix[rows, k], matrix[rows, k + 1] = 1.0 - right, right
    matrix[rows, n + k] = step * (u * (1.0 - u) ** 2 + before - 2.0 * before**2 + after**2)
    matrix[rows, n + k + 1] = step * (u * u * (u - 1.0) + after - before**2 + 2.0 * after**2)
    return matrix


def _slopes(x: np.ndarray, table: np.ndarray, style: str) -> np.ndarray:
    """Return the derivative along axis 0 at the points themselves; zeros where the style needs none."""
    if style == "AKIMA_SPLINE":
        return Akima1DInterpolator(x, table, axis=0, method="akima")(x, 1)
    if style == "NATURAL_SPLINE":
        return CubicSpline(x, table, axis=0, bc_type="natural")(x, 1)
    return np.zeros_like(table)


def _interpolate_cells(
    values: np.ndarray, xc: np.ndarray, yc: np.ndarray, width: int, height: int, style: str
) -> np.ndarray:
    """Interpolate along y for each column of cells, then along x for each row; cells of NaN are left out."""
    good = np.isfinite(values)
    columns = np.flatnonzero(good.any(axis=0))
    if len(columns) == 0:
        return np.full((height, width), np.nan, np.float32)
    rows = np.arange(height, dtype=np.float64)
    table = np.empty((len(columns), height))
    patterns, pattern_of = np.unique(good[:, columns], axis=1, return_inverse=True)
    for k, pattern in enumerate(patterns.T):  # columns with the same good cells at once
        lines = np.flatnonzero(pattern_of == k)
        y, v = yc[pattern], values[np.ix_(pattern, columns[lines])]
        line_style = reduced_style(style, len(y))
        table[lines] = (_basis(y, rows, line_style) @ np.concatenate([v, _slopes(y, v, line_style)])).T
    x = xc[columns]
    line_style = reduced_style(style, len(x))
    # single precision is exact enough for the departures from a typical level
    level = float(np.median(table))
    nodes = np.concatenate([table - level, _slopes(x, table, line_style)]).astype(np.float32)
    basis = _basis(x, np.arange(width, dtype=np.float64), line_style).astype(np.float32)
    image = nodes.T @ basis.T
    image += np.float32(level)
    return image
