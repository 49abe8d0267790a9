"""Noise of an image whose camera says little about it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

__all__ = ["estimate_gain", "pixel_noise", "variance_from_counts"]

#: A few hundred thousand pixels fix sky and noise to a part in a thousand.
_SAMPLE = 400_000


def pixel_noise(image: npt.NDArray[np.float32], good: npt.NDArray[np.bool_]) -> float:
    """Return the pixel noise (one sigma) from differences of neighbours, which cancel sky and most star light.

    Parameters
    ----------
    image : float32, shape (h, w)
        Image.
    good : bool, same shape
        Pixels to use.

    Returns
    -------
    noise
        NaN with fewer than 100 usable pairs.
    """
    step = max(image.shape[0] * image.shape[1] // _SAMPLE, 1)
    rows, keep = image[::step], good[::step]
    both = keep[:, 2:] & keep[:, :-2]
    values = rows[:, 2:][both] - rows[:, :-2][both]
    values = values[np.isfinite(values)]
    if values.size < 100:
        return float("nan")
    low, high = _quantiles(values, (0.25, 0.75))
    sigma = 0.741301109252802 * (high - low)
    # the edges of bins of whole numbers know nothing of the spread inside a bin
    return float(np.sqrt(0.5 * (sigma**2 + _bin_width(values) ** 2 / 12.0)))


def estimate_gain(adu: npt.NDArray[np.float32], good: npt.NDArray[np.bool_]) -> float | None:
    """Estimate the gain as sky level over sky variance (photon noise only), e-/ADU; None if impossible.

    Parameters
    ----------
    adu : float32, shape (h, w)
        Image above the pedestal.
    good : bool, same shape
        Pixels to use.
    """
    step = max(adu.shape[0] * adu.shape[1] // _SAMPLE, 1)
    values = adu[::step][good[::step]]
    values = values[np.isfinite(values)]
    if values.size < 100:
        return None
    sky, sigma = _quantiles(values, (0.5,))[0], pixel_noise(adu, good)
    if not (sky > 0 and sigma > 0):
        return None
    return float(sky / sigma**2)


def variance_from_counts(
    electrons: npt.NDArray[np.float32],
    read_noise: float | npt.NDArray[np.float32],
    *,
    subtracted_sky: float = 0.0,
) -> npt.NDArray[np.float32]:
    """Return the variance in e-^2: photons plus read noise, never below a quarter of the median's.

    Parameters
    ----------
    electrons : float32, shape (h, w)
        Image.
    read_noise : float or shape (h, w)
        Electrons.
    subtracted_sky
        Photons of a sky that is no longer in the image.
    """
    photons = electrons + np.float32(subtracted_sky)
    finite = photons[np.isfinite(photons)]
    floor = max(0.25 * float(np.median(finite)), 0.0) if finite.size else 0.0
    variance = np.maximum(photons, np.float32(floor)) + np.square(read_noise, dtype=np.float32)
    # an image with neither sky nor read noise still has some noise: never divide by zero later
    return np.maximum(variance, np.float32(1e-6), dtype=np.float32)


def _quantiles(values: npt.NDArray[np.float32], fractions: tuple[float, ...]) -> list[float]:
    """Return quantiles of values that may be whole numbers, each standing for a bin around it.

    The plain percentile of integer counts is an integer, an error of up to half a count.  The cumulative
    distribution is known exactly at the edges between bins; between them it is interpolated as a Gaussian's, which
    is a straight line of the normal deviate.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) < 4:
        return [float(v) for v in np.percentile(values, [100.0 * f for f in fractions])]
    edges = 0.5 * (distinct[1:].astype(np.float64) + distinct[:-1])
    deviate = ndtri(np.cumsum(counts)[:-1] / len(values))
    return [float(np.interp(ndtri(f), deviate, edges)) for f in fractions]


def _bin_width(values: npt.NDArray[np.float32]) -> float:
    """Return the step between whole-number values; 0 where values are not repeated."""
    distinct = np.unique(values)
    return float(np.median(np.diff(distinct))) if 1 < len(distinct) < len(values) // 10 else 0.0
