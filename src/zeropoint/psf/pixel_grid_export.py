"""Any sum of grids times polynomials of position as the PSF model that images store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from numpy.polynomial import chebyshev

from zeropoint.datamodel.psf_model import PixelGridPsf

__all__ = ["PositionFrame", "export_pixel_grid", "triangular_exponents"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PositionFrame:
    """How positions are normalised: ``u = (x - x_ref)/x_scale``, ``v = (y - y_ref)/y_scale``.

    Parameters
    ----------
    x_ref, y_ref
        Origin, pixels.
    x_scale, y_scale
        Units, pixels; positive.
    """

    x_ref: float
    y_ref: float
    x_scale: float
    y_scale: float

    def normalized(self, *, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return (u, v) of pixel positions."""
        u = (np.asarray(x, np.float64) - self.x_ref) / self.x_scale
        v = (np.asarray(y, np.float64) - self.y_ref) / self.y_scale
        return u, v

    def monomials(self, exponents: np.ndarray, *, x: npt.ArrayLike, y: npt.ArrayLike) -> FloatArray:
        """Return ``u^i v^j`` at positions of shape (n,), shape (n, n_terms)."""
        u, v = self.normalized(x=x, y=y)
        powers = np.asarray(exponents)
        return np.asarray(u[:, None] ** powers[:, 0] * v[:, None] ** powers[:, 1])


def triangular_exponents(order: int) -> npt.NDArray[np.int64]:
    """Return the exponents (i, j) with ``i + j <= order``, i outermost, shape (n_terms, 2)."""
    return np.array([(i, j) for i in range(order + 1) for j in range(order + 1 - i)], np.int64)


def _in_monomials(exponents: np.ndarray, order: int) -> FloatArray:
    """Return C with ``T_i(u) T_j(v) = sum_t C[s, t] u^a v^b``; rows (i, j) as given, columns triangular."""
    to_power = [chebyshev.cheb2poly(np.eye(order + 1)[k][: k + 1]) for k in range(order + 1)]
    columns = {(int(a), int(b)): t for t, (a, b) in enumerate(triangular_exponents(order))}
    result = np.zeros((len(exponents), len(columns)))
    for s, (i, j) in enumerate(exponents):
        for a, in_u in enumerate(to_power[i]):
            for b, in_v in enumerate(to_power[j]):
                result[s, columns[a, b]] = in_u * in_v
    return result


def export_pixel_grid(
    coefficients: np.ndarray,
    exponents: np.ndarray,
    frame: PositionFrame,
    *,
    size: int,
    scale: float = 1.0,
    lanczos: int = 5,
    average_position: tuple[float, float] | None = None,
    basis: Literal["monomial", "chebyshev"] = "monomial",
) -> PixelGridPsf:
    """Return ``sum_k G_k P_k(u, v)`` as a pixel-grid PSF.

    Parameters
    ----------
    coefficients : float, shape (n_terms, n_grid, n_grid)
        Grids ``G_k``, indexed ``[y, x]``, centred on index ``n_grid // 2``; n_grid is odd.
    exponents : int, shape (n_terms, 2)
        Degrees (i, j) of ``P_k`` in u and v: ``u^i v^j`` or ``T_i(u) T_j(v)``.
    frame
        What u and v are.
    size
        Odd side of the stamps drawn, detector pixels.
    scale
        Grid pixel in detector pixels.
    lanczos
        Order of the interpolant between grid pixels. On grid pixels (scale 1, a star centred on a pixel) any order
        gives back the grid.
    average_position
        Mean (x, y) of the stars used; default the frame's origin.
    basis
        Kind of the polynomials.

    Returns
    -------
    psf
        Evaluated by `PixelGridPsf`; `zeropoint.psf.piff_io.to_lsst_psf` makes of it what a VisitImage stores.
    """
    grids = np.asarray(coefficients, np.float64)
    powers = np.asarray(exponents, np.int64).reshape(-1, 2)
    order = int(powers.sum(axis=1).max())
    if basis == "chebyshev":
        change = _in_monomials(powers, order)
        powers = triangular_exponents(order)
        grids = np.tensordot(change.T, grids, axes=1)
    norm = max(frame.x_scale, frame.y_scale)
    stretch = (norm / frame.x_scale) ** powers[:, 0] * (norm / frame.y_scale) ** powers[:, 1]
    return PixelGridPsf(
        grids * stretch[:, None, None],
        powers,
        x_ref=frame.x_ref,
        y_ref=frame.y_ref,
        norm=norm,
        size=size,
        scale=scale,
        lanczos=lanczos,
        average_position=average_position,
    )
