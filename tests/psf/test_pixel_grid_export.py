"""Grids times polynomials become the PSF that images store, whatever the polynomials."""

import numpy as np
import pytest
from lsst.images import Box
from numpy.polynomial import chebyshev

from zeropoint.psf.piff_io import from_lsst_psf, to_lsst_psf
from zeropoint.psf.pixel_grid_export import PositionFrame, export_pixel_grid, triangular_exponents

FRAME = PositionFrame(x_ref=900.0, y_ref=450.0, x_scale=1100.0, y_scale=500.0)


@pytest.fixture
def grids(rng):
    """A Gaussian and five small perturbations of it, on 15 x 15 model pixels."""
    r = (np.arange(15) - 7) / 2.6
    gauss = np.exp(-0.5 * (r[:, None] ** 2 + r**2))
    result = 0.05 * rng.normal(size=(6, 15, 15)) * gauss
    result[0] = gauss
    return result


@pytest.mark.parametrize("basis", ["monomial", "chebyshev"])
def test_the_psf_is_the_sum_of_the_terms(rng, grids, basis):
    exponents = triangular_exponents(2)
    psf = export_pixel_grid(grids, exponents, FRAME, size=15, basis=basis)
    x, y = rng.uniform(0, 1900, 6), rng.uniform(0, 950, 6)
    u, v = FRAME.normalized(x=x, y=y)
    for k in range(6):
        expected = np.zeros((15, 15))
        for grid, (i, j) in zip(grids, exponents):
            if basis == "monomial":
                expected += grid * u[k] ** i * v[k] ** j
            else:
                expected += (
                    grid * chebyshev.chebval(u[k], np.eye(3)[i]) * chebyshev.chebval(v[k], np.eye(3)[j])
                )
        drawn = psf.kernel_stamps(x=x[k : k + 1], y=y[k : k + 1])[0]
        np.testing.assert_allclose(drawn, expected / expected.sum(), atol=1e-12)


@pytest.mark.parametrize(("order", "scale"), [(0, 1.0), (2, 1.0), (2, 0.5)])
def test_stock_lsst_images_draws_the_same(rng, grids, order, scale):
    exponents = triangular_exponents(order)
    psf = export_pixel_grid(grids[: len(exponents)], exponents, FRAME, size=13, scale=scale)
    stored = to_lsst_psf(psf, Box.factory[0:900, 0:1800])
    for x, y in rng.uniform(20, 880, (3, 2)):
        kernel = stored.compute_kernel_image(x=x, y=y).array
        np.testing.assert_allclose(psf.kernel_image(x=x, y=y), kernel, atol=1e-6 * kernel.max())
    back = from_lsst_psf(stored)
    np.testing.assert_allclose(
        back.kernel_image(x=300.0, y=90.0), psf.kernel_image(x=300.0, y=90.0), atol=1e-9
    )
