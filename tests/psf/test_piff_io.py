"""Models to and from Piff and lsst.images."""

import numpy as np
import pytest
from lsst.images import Box
from lsst.images.fits import write
from lsst.images.serialization import read_archive

from zeropoint.datamodel.psf_model import GaussianPsf, PixelGridPsf
from zeropoint.psf.piff_io import from_lsst_psf, from_piff, is_convertible, to_lsst_psf, to_piff
from zeropoint.psf.pixel_grid_fit import polynomial_exponents

POSITIONS = np.array([[3.2, 4090.4], [2000.49, 1000.51], [4000.7, 3.3]])


def _model(rng, order=2, scale=1.0, grid=15, lanczos=11):
    r = (np.arange(grid) - grid // 2) * scale
    core = np.exp(-0.5 * (r[:, None] ** 2 + r[None, :] ** 2) / 1.8**2)
    coefficients = 0.02 * core * rng.normal(size=(len(polynomial_exponents(order)), grid, grid))
    coefficients[0] += core
    return PixelGridPsf(
        coefficients / coefficients[0].sum(), polynomial_exponents(order), x_ref=2047.5, y_ref=1999.5,
        norm=2048.0, size=19, scale=scale, lanczos=lanczos, average_position=(2010.0, 1990.0),
    )  # fmt: skip


def _box():
    return Box.factory[0:4000, 0:4096]


@pytest.mark.parametrize(
    ("order", "scale", "lanczos"), [(2, 1.0, 11), (4, 1.0, 7), (1, 0.5, 11), (0, 1.0, 5)]
)
def test_piff_wrapper_draws_what_the_model_draws(rng, order, scale, lanczos):
    model = _model(rng, order, scale, lanczos=lanczos)
    wrapper = to_lsst_psf(model, _box(), pixel_scale=0.2)
    for x, y in POSITIONS:
        star = model.star_stamps(x=x, y=y)[0]
        kernel = model.kernel_stamps(x=x, y=y)[0]
        # 1e-5 of the peak is asked for; rounding alone leaves 1e-12
        assert np.abs(wrapper.compute_stellar_image(x=x, y=y).array - star).max() < 1e-10 * star.max()
        assert np.abs(wrapper.compute_kernel_image(x=x, y=y).array - kernel).max() < 1e-10 * kernel.max()


def test_round_trip_through_an_archive_keeps_the_model(rng, tmp_path):
    model = _model(rng)
    wrapper = to_lsst_psf(model, _box(), pixel_scale=0.2, star_x=[2000.0, 2020.0], star_y=[1980.0, 2000.0])
    path = tmp_path / "psf.fits"
    write(wrapper, path)
    back = from_lsst_psf(read_archive(str(path), type(wrapper)))
    assert isinstance(back, PixelGridPsf)
    assert back.average_position == (2010.0, 1990.0)
    for x, y in POSITIONS:
        expected = model.star_stamps(x=x, y=y)[0]
        assert np.abs(back.star_stamps(x=x, y=y)[0] - expected).max() < 1e-9 * expected.max()


def test_round_trip_through_piffs_own_file(rng, tmp_path):
    import piff

    model = _model(rng)
    to_piff(model, pixel_scale=0.26).write(str(tmp_path / "psf.piff"))
    back = from_piff(piff.read(str(tmp_path / "psf.piff")), size=19, x_ref=2047.5, y_ref=1999.5, norm=2048.0)
    np.testing.assert_allclose(back.coefficients, model.coefficients, atol=1e-12)
    assert back.scale == pytest.approx(1.0)
    assert back.lanczos == 11


def test_a_gaussian_becomes_lssts_gaussian():
    model = GaussianPsf(1.7, 21, (2047.5, 1999.5))
    back = from_lsst_psf(to_lsst_psf(model, _box()))
    assert isinstance(back, GaussianPsf)
    assert (back.sigma_pix, back.size) == (1.7, 21)


def test_other_piff_models_have_no_pixel_grid_form(rng):
    import piff

    psf = to_piff(_model(rng))
    psf.model = piff.Gaussian()
    assert not is_convertible(psf)
    with pytest.raises(ValueError, match="Lanczos PixelGrid"):
        from_piff(psf, size=19)


def test_an_unknown_model_is_an_error():
    with pytest.raises(TypeError, match="no form"):
        to_lsst_psf(object(), _box())
