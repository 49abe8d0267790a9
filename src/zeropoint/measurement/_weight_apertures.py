"""Elliptical apertures on images as they are or smoothed, as sums of pixels under weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy.special import j1

from zeropoint.measurement._kernels_ellipse import ellipse_shares, ellipse_sums, weighted_sums
from zeropoint.measurement.aperture_flux import undersampled
from zeropoint.measurement.context import MeasurementContext

__all__ = ["EllipseFluxes", "blocks", "ellipse_fluxes", "odd_fast_size", "sum_under_weights"]

#: Points along a side of a pixel that an ellipse cuts.
SUB_PIXELS = 10
#: Values of weight images that exist at once.
_BLOCK_VALUES = 1 << 21


@dataclass(frozen=True)
class EllipseFluxes:
    """Sums over ellipses; arrays of shape (m,).

    ``flux`` and ``err`` are NaN where ``inside`` is False; ``clipped`` is True where only the weights of a
    band-limited ellipse leave the image.
    """

    flux: np.ndarray
    err: np.ndarray
    inside: np.ndarray
    clipped: np.ndarray


def odd_fast_size(least: int) -> int:
    """Return the smallest odd number, not below ``least``, that is a product of 3, 5, 7 and 11."""
    size = max(int(least), 1) | 1
    while True:
        rest = size
        for factor in (3, 5, 7, 11):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 2


def blocks(keys: np.ndarray) -> Iterator[tuple[list[int], np.ndarray]]:
    """Yield (key, indices) of rows of the same key, few enough for their weight images to exist at once.

    Parameters
    ----------
    keys : int64, shape (m, k)
        The first number is the side of the weight images.
    """
    unique, which = np.unique(keys, axis=0, return_inverse=True)
    for k, key in enumerate(unique.tolist()):
        rows = np.flatnonzero(which == k)
        step = max(1, _BLOCK_VALUES // key[0] ** 2)
        for start in range(0, len(rows), step):
            yield key, rows[start : start + step]


def sum_under_weights(
    context: MeasurementContext, rows: np.ndarray, ix: np.ndarray, iy: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return ``sum(W I)`` and ``sum(W^2 V)`` of sources, float64, shape (m, 2) (`weighted_sums`)."""
    out = np.empty((len(rows), 2))
    weighted_sums(
        context.work,
        context.noise,
        context.exposure.variance,
        context.spans,
        context.pixel_offsets,
        context.pixels,
        rows,
        ix,
        iy,
        weights,
        out,
    )
    return out


def ellipse_fluxes(
    context: MeasurementContext,
    rows: np.ndarray,
    ellipses: np.ndarray,
    *,
    max_sinc_radius: float,
    smoothing: np.ndarray | None = None,
    kernel_scale: float = 4.0,
) -> EllipseFluxes:
    """Sum images over ellipses about the safe centroids.

    Parameters
    ----------
    context
        Pixels.
    rows : int64, shape (m,)
        Sources, with positions that are finite.
    ellipses : float64, shape (m, 3)
        ``xx, yy, xy`` of the matrix ``E`` with the border at ``r^T E^-1 r = 1``, pixel^2.
    max_sinc_radius
        Ellipses with a minor half axis up to this are band-limited (on undersampled images: pixels cut by the
        border count in part); larger ones take the pixels whose centers are inside.
    smoothing : float64, shape (m,), optional
        Sigma of a Gaussian that the image is convolved with before, pixels.
    kernel_scale
        Half side of that kernel in units of its sigma.

    Returns
    -------
    fluxes : EllipseFluxes
        Errors are those of independent pixels of the image before smoothing.
    """
    x, y = context.x[rows], context.y[rows]
    height, width = context.exposure.shape
    radius = np.zeros(len(rows), np.int64)
    if smoothing is not None:
        radius = np.floor(kernel_scale * smoothing + 0.5).astype(np.int64)
    half_x, half_y = np.sqrt(ellipses[:, 0]), np.sqrt(ellipses[:, 1])
    inside = (np.ceil(x - half_x) - radius >= 0) & (np.floor(x + half_x) + radius < width)
    inside &= (np.ceil(y - half_y) - radius >= 0) & (np.floor(y + half_y) + radius < height)
    mean, half = 0.5 * (ellipses[:, 0] + ellipses[:, 1]), 0.5 * (ellipses[:, 0] - ellipses[:, 1])
    excess = np.hypot(half, ellipses[:, 2])
    major, minor = np.sqrt(mean + excess), np.sqrt(np.maximum(mean - excess, 0.0))
    band_limited = minor <= max_sinc_radius
    coarse = undersampled(context)
    sums, clipped = np.full((len(rows), 2), np.nan), np.zeros(len(rows), np.bool_)
    for sinc in (True, False):
        chosen = np.flatnonzero(inside & (band_limited == sinc))
        if not len(chosen):
            continue
        sub = SUB_PIXELS if sinc and coarse else 1
        if sub > 1 or not sinc:
            sums[chosen] = _pixel_sums(context, rows, x, y, ellipses, sub, chosen, smoothing, radius)
        else:
            reach = np.ceil(2.0 * major[chosen]).astype(np.int64) + 3 + radius[chosen]
            sizes = np.array([odd_fast_size(2 * r + 1) for r in reach])
            for (size,), part in blocks(sizes[:, None]):
                block = chosen[part]
                transform = _disc_transform(size, x[block], y[block], ellipses[block])
                if smoothing is not None:
                    transform *= _gaussian_transform(size, smoothing[block], radius[block])
                sums[block] = _sum_transform(context, rows[block], x[block], y[block], size, transform)
                low, high = size // 2 - 0.5, size // 2 + 0.5
                clipped[block] = (x[block] < low) | (x[block] >= width - high)
                clipped[block] |= (y[block] < low) | (y[block] >= height - high)
    with np.errstate(invalid="ignore"):
        err = np.sqrt(np.where(sums[:, 1] >= 0, sums[:, 1], np.nan))
    return EllipseFluxes(sums[:, 0], err, inside, clipped)


def _pixel_sums(
    context: MeasurementContext,
    rows: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    ellipses: np.ndarray,
    sub: int,
    chosen: np.ndarray,
    smoothing: np.ndarray | None,
    radius: np.ndarray,
) -> np.ndarray:
    """Return sums over whole pixels, or pixels cut at ``sub`` x ``sub`` points, shape (len(chosen), 2)."""
    out = np.empty((len(chosen), 2))
    if smoothing is None:
        ellipse_sums(
            context.work,
            context.noise,
            context.exposure.variance,
            context.spans,
            context.pixel_offsets,
            context.pixels,
            rows[chosen],
            x[chosen],
            y[chosen],
            np.ascontiguousarray(ellipses[chosen]),
            sub,
            out,
        )
        return out
    reach = np.ceil(np.sqrt(ellipses[chosen, :2].max(axis=1))).astype(np.int64) + 2 + radius[chosen]
    sizes = np.array([odd_fast_size(2 * r + 1) for r in reach])
    for (size,), part in blocks(sizes[:, None]):
        block = chosen[part]
        shares = np.empty((len(block), size, size))
        dx, dy = x[block] - np.floor(x[block] + 0.5), y[block] - np.floor(y[block] + 0.5)
        ellipse_shares(dx, dy, np.ascontiguousarray(ellipses[block]), sub, shares)
        transform = scipy.fft.rfft2(shares) * _gaussian_transform(size, smoothing[block], radius[block])
        out[part] = _sum_transform(context, rows[block], x[block], y[block], size, transform)
    return out


def _sum_transform(
    context: MeasurementContext,
    rows: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    size: int,
    transform: np.ndarray,
) -> np.ndarray:
    weights = scipy.fft.irfft2(transform, s=(size, size))
    ix, iy = np.floor(x + 0.5).astype(np.int64), np.floor(y + 0.5).astype(np.int64)
    return sum_under_weights(context, rows, ix, iy, weights)


def _disc_transform(size: int, x: np.ndarray, y: np.ndarray, ellipses: np.ndarray) -> np.ndarray:
    """Return transforms of ellipses at the sub-pixel places of positions, complex, shape (m, size, size//2 + 1).

    The transform of a continuous disc, ``R J1(2 pi R f)/f``, on the frequencies of the pixels, for an ellipse with
    ``(R f)^2`` replaced by ``f^T E f`` (Bickerton & Lupton 2013).
    """
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    # circles of one radius share the costly part
    distinct = ellipses[:1] if (ellipses == ellipses[0]).all() else ellipses
    xx, yy, xy = (distinct[:, k, None, None] for k in range(3))
    rho = np.sqrt(xx * fx**2 + 2.0 * xy * fx * fy + yy * fy**2)
    rho[:, 0, 0] = 1.0
    area = np.sqrt(distinct[:, 0] * distinct[:, 1] - distinct[:, 2] ** 2)
    disc = area[:, None, None] * j1(2.0 * np.pi * rho) / rho
    disc[:, 0, 0] = np.pi * area
    dx, dy = x - np.floor(x + 0.5), y - np.floor(y + 0.5)
    phase_x = np.exp(-2j * np.pi * fx * dx[:, None])
    phase_y = np.exp(-2j * np.pi * fy[:, 0] * dy[:, None])
    return np.asarray(disc * phase_y[:, :, None] * phase_x[:, None, :])


def _gaussian_transform(size: int, sigma: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Return transforms of sampled, cut, normalised Gaussian kernels, real, shape (m, size, size//2 + 1)."""
    offset = np.arange(size // 2 + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        taps = np.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    taps[:, 0] = 1.0
    taps[offset > radius[:, None]] = 0.0
    taps[:, 1:] *= 2.0  # both sides
    taps /= taps.sum(axis=1, keepdims=True)
    # not a matrix product: its rounding may depend on the number of rows
    line = np.einsum("mt,tf->mf", taps, np.cos(2.0 * np.pi * np.outer(offset, np.fft.rfftfreq(size))))
    both = np.concatenate([line, line[:, :0:-1]], axis=1)
    return np.asarray(both[:, :, None] * line[:, None, :])
