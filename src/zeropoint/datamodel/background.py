"""Background models: binned values plus the rule that turns them into an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.interpolate import Akima1DInterpolator, CubicSpline

from zeropoint.datamodel.fields import ChebyshevPolynomial

__all__ = ["BackgroundComponent", "BackgroundList"]


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
    """

    values: np.ndarray
    errors: np.ndarray
    x_centers: np.ndarray
    y_centers: np.ndarray
    width: int
    height: int
    style: str
    polynomial: ChebyshevPolynomial | None = None

    def image(self) -> np.ndarray:
        """Return the model on every pixel, float32, shape (height, width)."""
        if self.polynomial is not None:
            return self.polynomial.image()
        return _interpolate_cells(
            self.values, self.x_centers, self.y_centers, self.width, self.height, self.style
        )

    def scaled(self, factor: float) -> BackgroundComponent:
        """Return the component with its values (not errors) multiplied, as when pixels are calibrated."""
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
            total = total + component.image()
        return total

    def scaled(self, factor: float) -> BackgroundList:
        """Return all components multiplied by a factor."""
        return BackgroundList([component.scaled(factor) for component in self.components])


def _spline(x: np.ndarray, y: np.ndarray, style: str, at: np.ndarray) -> np.ndarray:
    """Interpolate one line of cells; outside the end centres continue quadratically from the end."""
    n = len(x)
    need = {"AKIMA_SPLINE": 5, "NATURAL_SPLINE": 3, "LINEAR": 2, "CONSTANT": 1}[style]
    if n < need:  # REDUCE_INTERP_ORDER
        style = "CONSTANT" if n == 1 else "LINEAR" if n == 2 else "NATURAL_SPLINE"
    if style == "CONSTANT":
        edges = 0.5 * (x[1:] + x[:-1])
        return y[np.searchsorted(edges, at, side="right")]
    if style == "LINEAR":
        k = np.clip(np.searchsorted(x, at) - 1, 0, n - 2)
        return y[k] + (at - x[k]) * (y[k + 1] - y[k]) / (x[k + 1] - x[k])
    curve = (
        Akima1DInterpolator(x, y, method="akima")
        if style == "AKIMA_SPLINE"
        else CubicSpline(x, y, bc_type="natural")
    )
    result = curve(np.clip(at, x[0], x[-1]))
    for end, outside in ((x[0], at < x[0]), (x[-1], at > x[-1])):
        if outside.any():
            d = at[outside] - end
            result[outside] = curve(end) + d * (curve(end, 1) + 0.5 * d * curve(end, 2))
    return result


def _interpolate_cells(
    values: np.ndarray, xc: np.ndarray, yc: np.ndarray, width: int, height: int, style: str
) -> np.ndarray:
    """Interpolate along y for each column of cells, then along x for each row."""
    rows = np.arange(height, dtype=np.float64)
    columns = np.arange(width, dtype=np.float64)
    good_columns, lines = [], []
    for i in range(len(xc)):
        good = np.isfinite(values[:, i])
        if good.any():
            good_columns.append(xc[i])
            lines.append(_spline(yc[good], values[good, i], style, rows))
    if not lines:
        return np.full((height, width), np.nan, np.float32)
    x = np.array(good_columns)
    table = np.array(lines)  # (n_columns, height)
    # every style here is linear in the values for fixed x except Akima, which scipy vectorises over axis 0
    return _spline_axis0(x, table, style, columns).T.astype(np.float32)


def _spline_axis0(x: np.ndarray, table: np.ndarray, style: str, at: np.ndarray) -> np.ndarray:
    """Vectorised `_spline` for many lines: ``table`` (n, m) at ``at`` -> (len(at), m)."""
    return _spline(x, table, style, at) if style in ("CONSTANT",) else _spline_many(x, table, style, at)


def _spline_many(x: np.ndarray, table: np.ndarray, style: str, at: np.ndarray) -> np.ndarray:
    n = len(x)
    need = {"AKIMA_SPLINE": 5, "NATURAL_SPLINE": 3, "LINEAR": 2}[style]
    if n < need:
        style = "CONSTANT" if n == 1 else "LINEAR" if n == 2 else "NATURAL_SPLINE"
    if style == "CONSTANT":
        edges = 0.5 * (x[1:] + x[:-1])
        return table[np.searchsorted(edges, at, side="right")]
    if style == "LINEAR":
        k = np.clip(np.searchsorted(x, at) - 1, 0, n - 2)
        slope = (table[k + 1] - table[k]) / (x[k + 1] - x[k])[:, None]
        return table[k] + (at - x[k])[:, None] * slope
    curve = (
        Akima1DInterpolator(x, table, axis=0, method="akima")
        if style == "AKIMA_SPLINE"
        else CubicSpline(x, table, axis=0, bc_type="natural")
    )
    result = curve(np.clip(at, x[0], x[-1]))
    for end, outside in ((x[0], at < x[0]), (x[-1], at > x[-1])):
        if outside.any():
            d = (at[outside] - end)[:, None]
            result[outside] = curve(end)[None] + d * (curve(end, 1)[None] + 0.5 * d * curve(end, 2)[None])
    return result
