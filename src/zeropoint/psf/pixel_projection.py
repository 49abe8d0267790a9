"""Any PSF model as a pixel grid, which is the form that images store."""

from __future__ import annotations

import numpy as np

from zeropoint.datamodel.psf_model import PixelGridPsf, PsfModel
from zeropoint.psf.pixel_grid_export import PositionFrame, export_pixel_grid, triangular_exponents

__all__ = ["project_to_pixels"]

#: Positions along each axis per polynomial degree, plus 2.
_PER_DEGREE = 2
#: Sub-pixel phases at which the projection is compared with the model.
_PHASES = ((0.0, 0.0), (0.3, -0.2), (-0.45, 0.4))


def project_to_pixels(
    psf: PsfModel, shape: tuple[int, int], order: int, *, lanczos: int = 11
) -> tuple[PixelGridPsf, float]:
    """Return a PSF as a grid of detector pixels with polynomial variation, and how far that is from it.

    Parameters
    ----------
    psf
        Any model.
    shape
        (height, width) of the detector.
    order
        Degree of the polynomial in x and y.
    lanczos
        Order of the interpolant.

    Returns
    -------
    projected
        Same kernel images at pixel centres, in the least-squares sense over the detector.
    error
        Largest difference of star images, over the detector and several sub-pixel phases, in units of the peak.

    Notes
    -----
    The profile of a star centred on a pixel is the grid itself. At other phases the grid is interpolated, which is
    exact only for well-sampled profiles: hence the error.
    """
    height, width = shape
    n = _PER_DEGREE * order + 2
    axis_x, axis_y = np.linspace(0.0, width - 1.0, n), np.linspace(0.0, height - 1.0, n)
    x, y = (a.ravel() for a in np.meshgrid(axis_x, axis_y))
    centre = (0.5 * (width - 1.0), 0.5 * (height - 1.0))
    frame = PositionFrame(*centre, x_scale=0.5 * width, y_scale=0.5 * height)
    exponents = triangular_exponents(order)
    stamps = psf.kernel_stamps(x=x, y=y)
    basis = frame.monomials(exponents, x=x, y=y)
    solution = np.linalg.lstsq(basis, stamps.reshape(len(x), -1), rcond=None)[0]
    projected = export_pixel_grid(
        solution.reshape(len(exponents), psf.size, psf.size),
        exponents,
        frame,
        size=psf.size,
        lanczos=lanczos,
        average_position=psf.average_position,
    )
    error = 0.0
    columns = np.floor(np.linspace(0.0, width - 1.0, n + 1))
    rows = np.floor(np.linspace(0.0, height - 1.0, n + 1))
    x, y = (a.ravel() for a in np.meshgrid(columns, rows))
    for by_x, by_y in _PHASES:
        exact = psf.star_stamps(x=x + by_x, y=y + by_y)
        difference = np.abs(projected.star_stamps(x=x + by_x, y=y + by_y) - exact).max()
        error = max(error, float(difference / exact.max()))
    return projected, error
