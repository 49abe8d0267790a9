"""Adaptive moments: exact for sampled Gaussians of any width and phase, GalSim's for well-sampled profiles."""

from __future__ import annotations

import galsim
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from zeropoint.kernels.moments import adaptive_moments, adaptive_moments_stack


def gaussian(sigma: float, ratio: float, tilt: float, dx: float, dy: float, size: int = 41) -> tuple:
    cov = sigma**2 * np.array([[1.0, tilt], [tilt, ratio]])
    inverse = np.linalg.inv(cov)
    r = np.arange(size) - size // 2
    x, y = np.meshgrid(r - dx, r - dy)
    q = inverse[0, 0] * x * x + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y * y
    return np.exp(-0.5 * q), cov


@given(
    sigma=st.floats(0.45, 4.0),
    ratio=st.floats(0.8, 1.25),
    tilt=st.floats(-0.2, 0.2),
    dx=st.floats(-0.5, 0.5),
    dy=st.floats(-0.5, 0.5),
)
@settings(deadline=None, max_examples=80)
def test_a_sampled_gaussian_has_its_own_covariance(sigma, ratio, tilt, dx, dy):
    image, cov = gaussian(sigma, ratio, tilt, dx, dy)
    # below 0.41 pixels along the narrow axis one pixel holds nearly all light, and the iteration may not end
    assume(np.linalg.eigvalsh(cov)[0] > 0.42**2)
    flag, xx, yy, xy = adaptive_moments(image, 20 + dx, 20 + dy, 1.5, 200, 1e-8)
    assert flag == 0
    np.testing.assert_allclose([xx, yy, xy], [cov[0, 0], cov[1, 1], cov[0, 1]], atol=2e-4 * sigma**2)


def test_a_moffat_has_galsims_moments():
    profile = galsim.Moffat(beta=3.5, fwhm=4.0).shear(e1=0.05, e2=0.02)
    image = profile.drawImage(nx=61, ny=61, scale=1.0, method="no_pixel")
    theirs = image.FindAdaptiveMom()
    _, xx, yy, xy = adaptive_moments(image.array.astype(float), 30.0, 30.0, 1.5, 200, 1e-10)
    # GalSim stops at 1e-6 and cuts its weight
    assert (xx * yy - xy**2) ** 0.25 == pytest.approx(theirs.moments_sigma, rel=1e-5)
    assert (xx - yy) / (xx + yy) == pytest.approx(theirs.observed_e1, abs=1e-5)


@pytest.mark.parametrize("image", [np.zeros((15, 15)), -np.ones((15, 15)), np.full((15, 15), np.nan)])
def test_nothing_to_measure_is_flagged(image):
    assert adaptive_moments(image, 7.0, 7.0, 1.5, 100, 1e-6)[0] == 2


def test_a_single_bright_pixel_is_not_a_star():
    image = np.zeros((15, 15))
    image[7, 7] = 100.0
    flag = adaptive_moments(image, 7.0, 7.0, 1.5, 200, 1e-6)[0]
    assert flag == 2


def test_stack_repeats_the_single_call():
    images = np.array([gaussian(1.2, 1.1, 0.1, 0.2, -0.3)[0], gaussian(2.0, 0.9, 0.0, 0.0, 0.1)[0]])
    xc, yc = np.array([20.2, 20.0]), np.array([19.7, 20.1])
    out = np.empty((2, 4))
    adaptive_moments_stack(images, xc, yc, 1.5, 100, 1e-8, out)
    for k in range(2):
        np.testing.assert_array_equal(out[k], adaptive_moments(images[k], xc[k], yc[k], 1.5, 100, 1e-8))
