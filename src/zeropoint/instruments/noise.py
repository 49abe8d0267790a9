"""Noise of an image whose camera says little about it."""

from __future__ import annotations

import numpy as np

__all__ = ["estimate_gain", "pixel_noise", "variance_from_counts"]


def pixel_noise(adu: np.ndarray, good: np.ndarray) -> float:
    """Return the pixel noise (one sigma) from differences of neighbours, which cancel sky and most star light.

    Parameters
    ----------
    adu : float32, shape (h, w)
        Image.
    good : bool, same shape
        Pixels to use.
    """
    difference = adu[:, 2:] - adu[:, :-2]
    both = good[:, 2:] & good[:, :-2] & np.isfinite(difference)
    values = difference[both]
    if values.size < 100:
        return float("nan")
    low, high = np.percentile(values, [25.0, 75.0])
    return float(0.741301109252802 * (high - low) / np.sqrt(2.0))


def estimate_gain(adu: np.ndarray, good: np.ndarray) -> float | None:
    """Estimate the gain as sky level over sky variance (photon noise only), e-/ADU; None if impossible."""
    values = adu[good & np.isfinite(adu)]
    if values.size < 100:
        return None
    sky, sigma = float(np.median(values)), pixel_noise(adu, good)
    if not (sky > 0 and sigma > 0):
        return None
    return sky / sigma**2


def variance_from_counts(adu: np.ndarray, gain: float, read_noise: float) -> np.ndarray:
    """Return the variance in e-^2: photons plus read noise, never below a quarter of the median sky's.

    Parameters
    ----------
    adu : float32, shape (h, w)
        Image above the pedestal.
    gain
        e-/ADU.
    read_noise
        Electrons.
    """
    electrons = adu * np.float32(gain)
    finite = electrons[np.isfinite(electrons)]
    floor = max(0.25 * float(np.median(finite)), 0.0)
    variance = np.maximum(electrons, np.float32(floor)) + np.float32(read_noise**2)
    # an image with neither sky nor read noise still has some noise: never divide by zero later
    return np.maximum(variance, np.float32(1e-6 + pixel_noise(electrons, np.isfinite(electrons)) ** 2 * 0.01))
