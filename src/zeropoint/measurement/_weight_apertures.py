"""Elliptical apertures on images as they are or smoothed, as sums of pixels under weights."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy.special import j1

from zeropoint.measurement._kernels_ellipse import ellipse_shares, ellipse_sums, weighted_sums
from zeropoint.measurement.aperture_flux import undersampled
from zeropoint.measurement.context import MeasurementContext

__all__ = ["MAX_REACH", "EllipseFluxes", "blocks", "ellipse_fluxes", "odd_fast_size", "sum_under_weights"]

#: Points along a side of a pixel that an ellipse cuts.
SUB_PIXELS = 10
#: Sigma of a smoothing, pixels, that takes frequencies beyond those of the pixels below 1e-4.
QUENCHING = 1.4
#: Longest half axis of band-limited ellipses, pixels.
LONGEST_BAND_LIMITED = 100.0
#: Farthest pixels with weights; larger apertures that need weight images are not measured.
MAX_REACH = 600
#: Values of weight images that exist at once.
_BLOCK_VALUES = 1 << 20


@dataclass(frozen=True)
class EllipseFluxes:
    """Sums over ellipses; arrays of shape (m,).

    ``flux`` and ``err`` are NaN where ``inside`` is False: off the image, or larger than `MAX_REACH`; ``clipped`` is True where only the weights of a
    band-limited ellipse leave the image.
    """

    flux: np.ndarray
    err: np.ndarray
    inside: np.ndarray
    clipped: np.ndarray


@functools.lru_cache(maxsize=4096)
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
        Ellipses with a minor half axis up to this are band-limited, unless they are longer than
        `LONGEST_BAND_LIMITED` (on undersampled images: pixels cut by the
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
    target = _Targets(context, rows, x, y, ellipses, smoothing, radius)
    major, minor = target.half_axes()
    if smoothing is not None:
        inside &= major + radius < MAX_REACH
    band_limited = (minor <= max_sinc_radius) & (major <= LONGEST_BAND_LIMITED)
    sums, clipped = np.full((len(rows), 2), np.nan), np.zeros(len(rows), np.bool_)
    large = np.flatnonzero(inside & ~band_limited)
    sums[large] = target.pixel_sums(large, 1)
    small = np.flatnonzero(inside & band_limited)
    if undersampled(context):
        sums[small] = target.pixel_sums(small, SUB_PIXELS)
    else:
        sums[small], clipped[small] = target.band_limited_sums(small)
    with np.errstate(invalid="ignore"):
        err = np.sqrt(np.where(sums[:, 1] >= 0, sums[:, 1], np.nan))
    return EllipseFluxes(sums[:, 0], err, inside, clipped)


@dataclass(frozen=True)
class _Targets:
    """Ellipses and where they are: the arguments of `ellipse_fluxes`, with half sides of smoothing kernels."""

    context: MeasurementContext
    rows: np.ndarray
    x: np.ndarray
    y: np.ndarray
    ellipses: np.ndarray
    smoothing: np.ndarray | None
    radius: np.ndarray

    def half_axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return major and minor half axes, pixels."""
        mean = 0.5 * (self.ellipses[:, 0] + self.ellipses[:, 1])
        excess = np.hypot(0.5 * (self.ellipses[:, 0] - self.ellipses[:, 1]), self.ellipses[:, 2])
        return np.sqrt(mean + excess), np.sqrt(np.maximum(mean - excess, 0.0))

    def band_limited_sums(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sums over some band-limited ellipses, (m, 2), and where their weights leave the image."""
        height, width = self.context.exposure.shape
        # the ringing of a sharp border, which smoothing quenches
        tails = np.full(len(chosen), 2.0)
        if self.smoothing is not None:
            tails[self.smoothing[chosen] > QUENCHING] = 1.0
        reach = np.ceil(tails * self.half_axes()[0][chosen]).astype(np.int64) + 3 + self.radius[chosen]
        sizes = np.array([odd_fast_size(2 * r + 1) for r in reach.tolist()], np.int64)
        out = np.empty((len(chosen), 2))
        for (size,), part in blocks(sizes[:, None]):
            block = chosen[part]
            transform = _disc_transform(size, self.ellipses[block])
            if self.smoothing is not None:
                transform = transform * _gaussian_transform(size, self.smoothing[block], self.radius[block])
            out[part] = self._sums(block, size, transform * _phases(size, self.x[block], self.y[block]))
        low, high = sizes // 2 - 0.5, sizes // 2 + 0.5
        x, y = self.x[chosen], self.y[chosen]
        return out, (x < low) | (x >= width - high) | (y < low) | (y >= height - high)

    def pixel_sums(self, chosen: np.ndarray, sub: int) -> np.ndarray:
        """Return sums over whole pixels, or pixels cut at ``sub`` x ``sub`` points, shape (m, 2)."""
        out = np.empty((len(chosen), 2))
        context = self.context
        if self.smoothing is None:
            ellipse_sums(
                context.work,
                context.noise,
                context.exposure.variance,
                context.spans,
                context.pixel_offsets,
                context.pixels,
                self.rows[chosen],
                self.x[chosen],
                self.y[chosen],
                np.ascontiguousarray(self.ellipses[chosen]),
                sub,
                out,
            )
            return out
        largest = np.sqrt(self.ellipses[chosen, :2].max(axis=1, initial=0.0))
        reach = np.ceil(largest).astype(np.int64) + 2 + self.radius[chosen]
        sizes = np.array([odd_fast_size(2 * r + 1) for r in reach.tolist()], np.int64)
        for (size,), part in blocks(sizes[:, None]):
            block = chosen[part]
            shares = np.empty((len(block), size, size))
            dx, dy = (v[block] - np.floor(v[block] + 0.5) for v in (self.x, self.y))
            ellipse_shares(dx, dy, np.ascontiguousarray(self.ellipses[block]), sub, shares)
            kernel = _gaussian_transform(size, self.smoothing[block], self.radius[block])
            out[part] = self._sums(block, size, scipy.fft.rfft2(shares) * kernel)
        return out

    def _sums(self, block: np.ndarray, size: int, transform: np.ndarray) -> np.ndarray:
        weights = scipy.fft.irfft2(transform, s=(size, size))
        ix, iy = (np.floor(v[block] + 0.5).astype(np.int64) for v in (self.x, self.y))
        return sum_under_weights(self.context, self.rows[block], ix, iy, weights)


def _disc_transform(size: int, ellipses: np.ndarray) -> np.ndarray:
    """Return transforms of ellipses about offset 0, real, shape (m, size, size//2 + 1), or (1, ...) for equal ones.

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
    return np.asarray(disc)


def _phases(size: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the factors that move transforms to the sub-pixel places of positions, complex, (m, size, size//2 + 1)."""
    dx, dy = x - np.floor(x + 0.5), y - np.floor(y + 0.5)
    along_x = np.exp(-2j * np.pi * np.fft.rfftfreq(size) * dx[:, None])
    along_y = np.exp(-2j * np.pi * np.fft.fftfreq(size) * dy[:, None])
    return np.asarray(along_y[:, :, None] * along_x[:, None, :])


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
