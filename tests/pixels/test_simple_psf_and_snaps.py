"""The first PSF, and the sum of two snaps."""

import lsst.pex.config as pexConfig
import numpy as np
import pytest

from naive.exposures import FixedPsf, exposure
from zeropoint.datamodel.psf_model import GaussianPsf
from zeropoint.errors import PsfGenerationError
from zeropoint.pixels.simple_psf import InstallGaussianPsf, InstallGaussianPsfConfig
from zeropoint.pixels.snaps import SnapCombine, SnapCombineConfig


def test_without_a_psf_the_configured_gaussian_is_installed():
    exp = exposure(np.zeros((20, 20)))
    exp.psf = None
    InstallGaussianPsf().run(exp)
    kernel = exp.psf.kernel_image()
    assert kernel.shape == (11, 11)
    assert kernel.sum() == pytest.approx(1)
    assert kernel[5, 6] / kernel[5, 5] == pytest.approx(np.exp(-0.5 / 1.5**2))


def test_with_a_psf_its_size_is_kept():
    exp = exposure(np.zeros((20, 20)), psf=GaussianPsf(2.0, 25, (3.0, 4.0)))
    psf = InstallGaussianPsf().run(exp)
    assert (psf.size, psf.average_position) == (25, (3.0, 4.0))
    assert psf.sigma_pix == pytest.approx(2.0, rel=1e-4)


def test_unusable_psf_and_stamp_are_refused():
    with pytest.raises(PsfGenerationError):
        InstallGaussianPsf().run(exposure(np.zeros((9, 9)), psf=FixedPsf(np.zeros((11, 11)))))
    config = InstallGaussianPsfConfig()
    config.width = 10
    with pytest.raises(pexConfig.FieldValidationError):
        config.validate()


def test_one_snap_is_returned_as_it_is():
    exp = exposure(np.ones((3, 3)))
    assert SnapCombine().run([exp]) is exp
    assert SnapCombine().run(exp) is exp


def test_two_snaps_are_added_pixel_by_good_pixel():
    first = exposure([[1.0, 2.0, 3.0]], [[1.0, 1.0, 1.0]], [[0, 1, 1]], mjd=60000.0)
    second = exposure([[10.0, 20.0, 30.0]], [[2.0, 2.0, 2.0]], [[32, 0, 1]], mjd=60001.0)
    config = SnapCombineConfig()
    config.bad_mask_planes = ["BAD"]
    total = SnapCombine(config).run([first, second])
    np.testing.assert_array_equal(total.image, [[11.0, 40.0, np.nan]])
    np.testing.assert_array_equal(total.variance, [[3.0, 8.0, np.nan]])
    np.testing.assert_array_equal(total.mask, [[32, 0, 1 << 8]])
    assert (total.visit_info.exposure_time, total.visit_info.mjd_tai) == (30.0, 60000.5)
    np.testing.assert_array_equal(first.image, [[1.0, 2.0, 3.0]])


def test_wrong_snaps_are_refused():
    exp = exposure(np.ones((3, 3)))
    for snaps in ([], [exp] * 3, [exp, exposure(np.ones((3, 4)))]):
        with pytest.raises(ValueError, match="snaps"):
            SnapCombine().run(snaps)
