import numpy as np
import pytest

from naive import detection as naive
from naive import scenes
from zeropoint.detection.significance import (
    detection_sigma,
    kernel_width,
    reach_of_planes,
    smooth_for_detection,
)
from zeropoint.errors import PsfGenerationError
from zeropoint.kernels.convolve import gaussian_taps


@pytest.mark.parametrize(("sigma", "expected"), [(1.6986, 13), (1.0, 7), (0.3, 3), (3.0, 21)])
def test_kernel_width_is_odd_and_seven_sigma(sigma, expected):
    assert kernel_width(sigma) == expected


def test_sigma_is_given_or_the_psf_size():
    exposure = scenes.exposure_of(np.zeros((5, 5)), 1.0, sigma=1.7)
    assert detection_sigma(exposure, 2.5) == 2.5
    assert detection_sigma(exposure) == pytest.approx(1.7, rel=1e-3)


@pytest.mark.parametrize("sigma", [0.0, -1.0, np.nan, np.inf])
def test_an_unusable_size_is_an_error(sigma):
    exposure = scenes.exposure_of(np.zeros((5, 5)), 1.0)
    with pytest.raises(PsfGenerationError, match="size"):
        detection_sigma(exposure, sigma)


def test_no_psf_is_an_error():
    exposure = scenes.exposure_of(np.zeros((5, 5)), 1.0)
    exposure.psf = None
    with pytest.raises(PsfGenerationError, match="no PSF"):
        detection_sigma(exposure)


def test_planes_reach_as_far_as_the_kernel():
    mask = np.zeros((20, 20), np.int32)
    mask[10, 4] = 1
    reach = reach_of_planes(mask, ("BAD",), 5)
    expected = np.zeros((20, 20), bool)
    expected[8:13, 2:7] = True
    np.testing.assert_array_equal(reach, expected)


def test_noise_by_threshold_type():
    rng = np.random.default_rng(1)
    image = rng.normal(0, 3, (200, 200)).astype(np.float32)
    variance = np.full(image.shape, 9, np.float32)
    mask = np.zeros(image.shape, np.int32)
    made = {
        kind: smooth_for_detection(image, variance, mask, sigma=1.7, threshold_type=kind)
        for kind in ("pixel_stdev", "stdev", "variance", "value")
    }
    taps = gaussian_taps(1.7, 13)
    assert made["pixel_stdev"].noise[50, 50] == pytest.approx(3 * (taps**2).sum(), rel=1e-5)
    assert made["stdev"].noise[0, 0] == pytest.approx(made["pixel_stdev"].noise[50, 50], rel=0.05)
    assert made["value"].noise.min() == made["value"].noise.max() == 1
    assert made["variance"].multiple(25.0) == 5.0
    assert made["stdev"].multiple(25.0) == 25.0
    np.testing.assert_allclose(made["value"].smoothed, naive.correlate(image, taps), atol=2e-5)


def test_excluded_planes_are_zero_where_the_kernel_touches_them():
    image = np.full((40, 40), 100, np.float32)
    mask = np.zeros(image.shape, np.int32)
    mask[20, 20] = 1
    made = smooth_for_detection(image, image, mask, sigma=1.0, exclude_planes=("BAD",))
    assert (made.smoothed[17:24, 17:24] == 0).all()
    assert made.smoothed[16, 20] == pytest.approx(100)
    assert np.isnan(made.smoothed[0, 0])
