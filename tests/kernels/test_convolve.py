import numpy as np
import pytest

from naive import detection as naive
from zeropoint.kernels.convolve import correlate_separable, gaussian_taps, smooth_with_variance

#: Single-precision sums of about 100 terms of order 1.
ATOL = 2e-6


@pytest.mark.parametrize("shape", [(20, 31), (5, 5), (1, 1), (4, 40), (40, 4), (9, 8)])
def test_correlation_equals_the_double_loop(shape):
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    taps = gaussian_taps(1.1, 5)
    out = np.empty(shape, np.float32)
    correlate_separable(image, taps.astype(np.float32), out)
    np.testing.assert_allclose(out, naive.correlate(image, taps), atol=ATOL)


def test_nan_spreads_over_the_kernel_only():
    image = np.zeros((21, 21), np.float32)
    image[10, 10] = np.nan
    out = np.empty_like(image)
    correlate_separable(image, gaussian_taps(1.0, 5).astype(np.float32), out)
    bad = np.isnan(out)
    assert bad[8:13, 8:13].all()
    bad[8:13, 8:13] = False
    assert not bad[2:-2, 2:-2].any()
    assert bad[:2].all()


def test_variance_is_that_of_smoothed_noise():
    rng = np.random.default_rng(2)
    image = rng.normal(scale=3.0, size=(400, 400)).astype(np.float32)
    smoothed, variance = smooth_with_variance(image, np.full_like(image, 9.0), 1.7, 13)
    inner = smoothed[6:-6, 6:-6]
    # correlated samples: about one independent value per 4 pi sigma^2 pixels
    n = inner.size / (4 * np.pi * 1.7**2)
    assert inner.var() == pytest.approx(variance[50, 50], rel=5 * np.sqrt(2 / n))


def test_smoothing_conserves_a_constant():
    smoothed, variance = smooth_with_variance(
        np.full((30, 30), 500, np.float32), np.full((30, 30), 4, np.float32), 1.7, 13
    )
    np.testing.assert_allclose(smoothed[6:-6, 6:-6], 500.0, rtol=1e-6)
    taps = gaussian_taps(1.7, 13)
    np.testing.assert_allclose(variance[6:-6, 6:-6], 4 * (taps**2).sum() ** 2, rtol=1e-5)


def test_even_kernels_are_refused():
    with pytest.raises(ValueError, match="odd"):
        gaussian_taps(1.0, 4)
