"""Compiled parts of the pixel-grid PSF fit: the matrices that draw a model grid on each star's stamp."""

from __future__ import annotations

from zeropoint.kernels._compile import kernel
from zeropoint.kernels.lanczos import lanczos_weights

__all__ = ["interpolation_matrices"]


@kernel
def interpolation_matrices(offset, scale, order, out):  # type: ignore[no-untyped-def]
    """Fill ``out[s, i, k]``: weight of model pixel k in stamp pixel i of star s, along one axis.

    Parameters
    ----------
    offset : float64, shape (n,)
        Centre of each star from its stamp's middle pixel, detector pixels.
    scale : float
        Model pixel in detector pixels.
    order : int
        Lanczos order.
    out : float64, shape (n, side, grid)
        Filled; a constant model of value p becomes p / scale (so that fluxes, not surface brightnesses, are
        the model's values).
    """
    n, side, grid = out.shape
    half = side // 2
    for s in range(n):
        first = (-half - offset[s]) / scale + grid // 2
        lanczos_weights(first, 1.0 / scale, side, grid, order, out[s])
        if scale != 1.0:
            for i in range(side):
                for k in range(grid):
                    out[s, i, k] /= scale
