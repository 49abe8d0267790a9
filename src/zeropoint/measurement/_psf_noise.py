"""PSF images with the noise of the exposure, the same for a source whatever else is measured."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import helper, kernel

__all__ = ["cut_noisy_psfs", "hashed_normals"]

#: Bit of the status: the stamp leaves the image.
EDGE = 1


@helper
def _mix(z):  # type: ignore[no-untyped-def]
    """The finalizer of SplitMix64 (Steele, Lea & Flood 2014): a bijection that scatters every bit."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel
def hashed_normals(seed, counter):  # type: ignore[no-untyped-def]
    """Return two standard normals that depend on ``seed`` and ``counter`` (uint64) only (Box & Muller)."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    a = _mix(_mix(seed + golden) + (counter + np.uint64(1)) * golden)
    b = _mix(a + golden)
    u = (np.float64(a >> np.uint64(11)) + 1.0) / 9007199254740992.0
    v = np.float64(b >> np.uint64(11)) / 9007199254740992.0
    r = math.sqrt(-2.0 * math.log(u))
    return r * math.cos(2.0 * math.pi * v), r * math.sin(2.0 * math.pi * v)


@kernel
def cut_noisy_psfs(stamps, variance, mask, bad_bits, ix, iy, flux, seeds, level, out, status):  # type: ignore[no-untyped-def]
    """Fill ``out`` with ``flux`` x PSF + noise, 0 where masked.

    Parameters
    ----------
    stamps : float64, shape (n, s, s)
        PSF images.
    variance, mask : float32 and int32, shape (h, w)
        Planes of the exposure.
    bad_bits : int32
        Pixels with any of these bits become zero.
    ix, iy : int64, shape (n,)
        Image pixel under the middle of each stamp.
    flux : float64, shape (n,)
        Fluxes.
    seeds : uint64, shape (n,)
        Seeds of the noise.
    level : float
        Variance of the noise; negative for that of the variance plane.
    out : float64, shape (n, m, m)
        The middle of each stamp, m odd, m <= s.
    status : int64, shape (n,)
        Becomes `EDGE` where the whole stamp leaves the image; pixels outside it get no noise.
    """
    h, w = variance.shape
    size = stamps.shape[1]
    middle, half = size // 2, out.shape[1] // 2
    for k in range(stamps.shape[0]):
        x, y = ix[k], iy[k]
        edge = x - middle < 0 or y - middle < 0 or x + middle > w - 1 or y + middle > h - 1
        status[k] = EDGE if edge else 0
        spare = 0.0
        for j in range(-half, half + 1):
            for i in range(-half, half + 1):
                # one pair of normals for two neighbors; a counter fixed by the pixel in the full stamp
                if (i + half) % 2 == 0:
                    counter = np.uint64((j + middle) * size + i + middle)
                    noise, spare = hashed_normals(seeds[k], counter)
                else:
                    noise = spare
                value = flux[k] * stamps[k, j + middle, i + middle]
                if x + i >= 0 and x + i < w and y + j >= 0 and y + j < h:
                    v = np.float64(variance[y + j, x + i]) if level < 0.0 else level
                    value += noise * math.sqrt(v) if v >= 0.0 else math.nan
                    if (mask[y + j, x + i] & bad_bits) != 0:
                        value = 0.0
                elif level >= 0.0:
                    value += noise * math.sqrt(level)
                out[k, j + half, i + half] = value
