"""PSF models: normalisation, sub-pixel placement, sizes, and the Lanczos grid against galsim."""

from __future__ import annotations

import galsim
import numpy as np
import pytest

from zeropoint.datamodel.psf_model import GaussianPsf, PixelGridPsf


def grid_psf(size: int = 25, scale: float = 1.0) -> PixelGridPsf:
    r = np.arange(25) - 12
    base = np.exp(-0.5 * ((r[:, None] / 1.8) ** 2 + (r[None, :] / 1.6) ** 2))
    tilt = 0.05 * base * (r[None, :] / 5.0) ** 2
    return PixelGridPsf(
        np.array([base, tilt, -tilt]),
        np.array([[0, 0], [1, 0], [0, 1]]),
        x_ref=500.0,
        y_ref=400.0,
        norm=500.0,
        size=size,
        scale=scale,
    )


@pytest.mark.parametrize("psf", [GaussianPsf(1.7, 21), grid_psf(), grid_psf(scale=0.7)])
def test_stamps_sum_to_one(psf, rng):
    x, y = rng.uniform(0, 1000, 40), rng.uniform(0, 800, 40)
    np.testing.assert_allclose(psf.star_stamps(x=x, y=y).sum(axis=(1, 2)), 1.0, rtol=1e-12)
    np.testing.assert_allclose(psf.kernel_stamps(x=x, y=y).sum(axis=(1, 2)), 1.0, rtol=1e-12)


def test_star_image_sits_at_the_subpixel_position(rng):
    psf = GaussianPsf(1.5, 25)
    x, y = rng.uniform(10, 20, 30), rng.uniform(10, 20, 30)
    stamps = psf.star_stamps(x=x, y=y)
    r = np.arange(25) - 12
    np.testing.assert_allclose(np.einsum("kji,i->k", stamps, r), x - np.floor(x + 0.5), atol=1e-6)
    np.testing.assert_allclose(np.einsum("kji,j->k", stamps, r), y - np.floor(y + 0.5), atol=1e-6)


def test_half_integers_round_up():
    stamp = GaussianPsf(1.0, 9).star_stamps(x=[10.5], y=[10.0])[0]
    # 10.5 belongs to pixel 11, so the light leans to the left of the middle pixel
    assert stamp[4, 3] == pytest.approx(stamp[4, 4])


def test_size_of_a_gaussian_is_its_sigma():
    assert GaussianPsf(1.7, 41).sigma() == pytest.approx(1.7, rel=1e-6)


def test_grid_draws_as_galsim_interpolates(rng):
    psf = grid_psf()
    x, y = rng.uniform(0, 1000, 5), rng.uniform(0, 800, 5)
    stamps = psf.star_stamps(x=x, y=y)
    for k in range(5):
        grid = (psf.basis(x=x[k], y=y[k]) @ psf.coefficients.reshape(3, -1)).reshape(25, 25)
        interpolated = galsim.InterpolatedImage(
            galsim.Image(grid, scale=1.0), x_interpolant="lanczos11", normalization="sb", use_true_center=True
        )
        image = galsim.Image(25, 25, dtype=float)
        interpolated.drawImage(
            image,
            scale=1.0,
            offset=(x[k] - np.floor(x[k] + 0.5), y[k] - np.floor(y[k] + 0.5)),
            method="no_pixel",
        )
        theirs = image.array / image.array.sum()
        # galsim tabulates the kernel to about 1e-5
        np.testing.assert_allclose(stamps[k], theirs, atol=2e-5 * theirs.max())


def test_bad_parameters_are_refused():
    with pytest.raises(ValueError, match="odd size"):
        GaussianPsf(1.0, 10)
    with pytest.raises(ValueError, match="positive finite"):
        GaussianPsf(float("nan"), 11)
