from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.instruments.noise import estimate_gain, pixel_noise, variance_from_counts


def sky(sigma: float, *, whole: bool = False, seed: int = 2) -> np.ndarray:
    image = np.random.default_rng(seed).normal(300.0, sigma, (400, 400))
    return (np.rint(image) if whole else image).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.3, 1.7, 2.4, 10.0])
@pytest.mark.parametrize("whole", [False, True])
def test_noise_of_a_sky_also_in_whole_numbers(sigma: float, whole: bool) -> None:
    image = sky(sigma, whole=whole)
    expected = np.sqrt(sigma**2 + (1.0 / 12.0 if whole else 0.0))
    # 160,000 differences: the interquartile range is good to half a per cent
    assert pixel_noise(image, np.ones(image.shape, bool)) == pytest.approx(expected, rel=0.02)


def test_noise_ignores_gradient_stars_and_bad_pixels() -> None:
    image = sky(5.0) + np.linspace(0, 400, 400, dtype=np.float32)
    good = np.ones(image.shape, bool)
    image[:40], good[:40] = 1e6 * (np.arange(400) % 3), False
    image[60:400:20, ::20] += 5000.0
    image[200, 200] = np.nan
    assert pixel_noise(image, good) == pytest.approx(5.0, rel=0.03)


def test_noise_of_too_few_pixels() -> None:
    assert np.isnan(pixel_noise(sky(5.0), np.zeros((400, 400), bool)))
    assert pixel_noise(np.ones((400, 400), np.float32), np.ones((400, 400), bool)) == 0.0


def test_gain_of_a_poisson_sky() -> None:
    image = (np.random.default_rng(3).poisson(900.0, (300, 300)) / 3.0).astype(np.float32)
    good = np.ones(image.shape, bool)
    assert estimate_gain(image, good) == pytest.approx(3.0, rel=0.03)
    assert estimate_gain(image - 400.0, good) is None
    assert estimate_gain(np.ones_like(image), good) is None
    assert estimate_gain(image, np.zeros(image.shape, bool)) is None


@settings(max_examples=30, deadline=None)
@given(st.floats(-1000, 1000), st.floats(0, 50), st.floats(0, 1000))
def test_variance_is_positive_and_grows_with_light(
    level: float, read_noise: float, subtracted: float
) -> None:
    image = (level + np.arange(100.0).reshape(10, 10)).astype(np.float32)
    variance = variance_from_counts(image, read_noise, subtracted_sky=subtracted)
    assert variance.dtype == np.float32
    assert (variance > 0).all()
    assert (np.diff(variance.ravel()) >= 0).all()
    assert (variance >= 0.999 * read_noise**2).all()


def test_variance_formula() -> None:
    image = np.array([[100.0, 400.0], [1.0, 100.0]], np.float32)
    np.testing.assert_allclose(variance_from_counts(image, 3.0), [[109.0, 409.0], [34.0, 109.0]])
