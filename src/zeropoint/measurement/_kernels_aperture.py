"""Kernels of circular apertures: nested plain sums in one pass, and band-limited (sinc) apertures."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import helper, kernel
from zeropoint.kernels.lanczos import lanczos_weights
from zeropoint.kernels.spans import paste_source, restore_source

__all__ = ["LANCZOS_ORDER", "box_mask_bits", "plain_apertures", "sinc_apertures"]

#: Order of the interpolant that moves sinc coefficients to the sub-pixel centre.
LANCZOS_ORDER = 5


# reassociation lets sums of float32 runs be vectorised; they stay within a few double roundings of exact
@helper(fastmath={"reassoc"})
def _run_sums(image, variance, y, first, last):  # type: ignore[no-untyped-def]
    """Return the sums of image and variance over columns first..last (inclusive) of row y."""
    a = image[y, first : last + 1]
    b = variance[y, first : last + 1]
    s = 0.0
    v = 0.0
    for k in range(a.size):
        s += float(a[k])
        v += float(b[k])
    return s, v


@helper
def _inside(xc, yc, radius, h, w):  # type: ignore[no-untyped-def]
    """Return True if all pixels whose centres lie in the circle are on the image."""
    return (
        abs(xc) < 1e9
        and abs(yc) < 1e9
        and math.ceil(xc - radius) >= 0
        and math.ceil(yc - radius) >= 0
        and math.floor(xc + radius) < w
        and math.floor(yc + radius) < h
    )


@kernel
def plain_apertures(work, noise, variance, spans, pixel_offsets, pixels, x, y, radii, flux, var):  # type: ignore[no-untyped-def]
    """Sum image and variance over pixels whose centres lie inside circles.

    Parameters
    ----------
    work, noise, variance : float32, shape (h, w)
        Image with sources replaced, the same again, variance.
    spans, pixel_offsets, pixels
        Every source's own pixels.
    x, y : float64, shape (n,)
        Centres.
    radii : float64, shape (m,)
        Radii in increasing order, pixels.
    flux, var : float64, shape (n, m)
        Filled; NaN where a circle leaves the image.
    """
    h, w = work.shape
    span_offsets, span_y, span_x0, span_x1 = spans
    n_radii = radii.shape[0]
    for n in range(x.shape[0]):
        flux[n, :] = math.nan
        var[n, :] = math.nan
        xc, yc = x[n], y[n]
        fitting = 0
        while fitting < n_radii and _inside(xc, yc, radii[fitting], h, w):
            fitting += 1
        if fitting == 0:
            continue
        flux[n, :fitting] = 0.0
        var[n, :fitting] = 0.0
        paste_source(work, span_offsets, span_y, span_x0, span_x1, n, pixel_offsets, pixels)
        largest = radii[fitting - 1]
        for row in range(math.ceil(yc - largest), math.floor(yc + largest) + 1):
            dy2 = (row - yc) * (row - yc)
            # columns already counted for smaller circles
            left, right = 0, -1
            for k in range(fitting):
                reach2 = radii[k] * radii[k] - dy2
                if reach2 < 0.0:
                    continue
                reach = math.sqrt(reach2)
                a, b = math.ceil(xc - reach), math.floor(xc + reach)
                if b < a:
                    continue
                if right < left:
                    s, v = _run_sums(work, variance, row, a, b)
                else:
                    s, v = _run_sums(work, variance, row, a, left - 1)
                    s2, v2 = _run_sums(work, variance, row, right + 1, b)
                    s += s2
                    v += v2
                flux[n, k] += s
                var[n, k] += v
                left, right = a, b
        restore_source(work, noise, span_offsets, span_y, span_x0, span_x1, n)
        for k in range(1, fitting):
            flux[n, k] += flux[n, k - 1]
            var[n, k] += var[n, k - 1]


# reassociation as in `_run_sums`
@helper(fastmath={"reassoc"})
def _weighted_run(c, image, variance):  # type: ignore[no-untyped-def]
    """Return ``sum(c I)`` and ``sum(c^2 V)`` along one row."""
    f = 0.0
    v = 0.0
    for k in range(c.size):
        f += c[k] * float(image[k])
        v += c[k] * c[k] * float(variance[k])
    return f, v


@helper
def _eleven(t, n, a, b, c, d, e, f, g, h, i, j, k, out):  # type: ignore[no-untyped-def]
    """Fill ``out[:n]`` with the sum of eleven rows times eleven taps: one pass instead of eleven."""
    # taps in scalars: memory that `out` might alias would be read again for every element
    t0, t1, t2, t3, t4, t5 = t[0], t[1], t[2], t[3], t[4], t[5]
    t6, t7, t8, t9, t10 = t[6], t[7], t[8], t[9], t[10]
    for m in range(n):
        left = t0 * a[m] + t1 * b[m] + t2 * c[m] + t3 * d[m] + t4 * e[m] + t5 * f[m]
        out[m] = left + t6 * g[m] + t7 * h[m] + t8 * i[m] + t9 * j[m] + t10 * k[m]


@helper
def _shifted_sum(work, variance, padded, size, wx, wy, x0, y0, rows, line):  # type: ignore[no-untyped-def]
    """Return sums of ``c I`` and ``c^2 V`` for coefficients shifted by the taps, clipped to the image."""
    h, w = work.shape
    taps = wx.shape[1]
    for j in range(size + taps - 1):
        if j < taps // 2 or j >= size + taps // 2:
            rows[j, :size] = 0.0
        else:
            p = padded[j]
            _eleven(
                wx[0], size, p, p[1:], p[2:], p[3:], p[4:], p[5:], p[6:], p[7:], p[8:], p[9:], p[10:], rows[j]
            )
    first, last = max(0, -x0), min(size, w - x0)
    flux = var = 0.0
    for j in range(max(0, -y0), min(size, h - y0)):
        r = rows[j : j + taps]
        _eleven(wy[0], size, r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], line)
        f, v = _weighted_run(line[first:last], work[y0 + j, x0 + first :], variance[y0 + j, x0 + first :])
        flux += f
        var += v
    return flux, var


@kernel
def sinc_apertures(  # type: ignore[no-untyped-def]
    work,
    noise,
    variance,
    spans,
    pixel_offsets,
    pixels,
    x,
    y,
    radii,
    sizes,
    starts,
    padded,
    flux,
    var,
    clipped,
):
    """Sum band-limited circular apertures.

    Parameters
    ----------
    work, noise, variance : float32, shape (h, w)
        Image with sources replaced, the same again, variance.
    spans, pixel_offsets, pixels
        Every source's own pixels.
    x, y : float64, shape (n,)
        Centres.
    radii : float64, shape (m,)
        Radii, pixels.
    sizes, starts : int64, shape (m,)
        Odd side of each coefficient image, and where it starts in ``padded``.
    padded : float64
        Coefficient images, each with a border of `LANCZOS_ORDER` zeros, one after another.
    flux, var : float64, shape (n, m)
        Filled; NaN where a circle leaves the image.
    clipped : bool, shape (n, m)
        Filled: True where the coefficient image leaves the image.
    """
    h, w = work.shape
    span_offsets, span_y, span_x0, span_x1 = spans
    taps = 2 * LANCZOS_ORDER + 1
    wx = np.empty((1, taps))
    wy = np.empty((1, taps))
    largest = 1
    for k in range(sizes.shape[0]):
        largest = max(largest, sizes[k])
    rows = np.empty((largest + taps - 1, largest))
    line = np.empty(largest)
    for n in range(x.shape[0]):
        flux[n, :] = math.nan
        var[n, :] = math.nan
        clipped[n, :] = True
        if not (abs(x[n]) < 1e9 and abs(y[n]) < 1e9):
            continue
        ix, iy = math.floor(x[n] + 0.5), math.floor(y[n] + 0.5)
        lanczos_weights(LANCZOS_ORDER - (x[n] - ix), 1.0, 1, taps, LANCZOS_ORDER, wx)
        lanczos_weights(LANCZOS_ORDER - (y[n] - iy), 1.0, 1, taps, LANCZOS_ORDER, wy)
        paste_source(work, span_offsets, span_y, span_x0, span_x1, n, pixel_offsets, pixels)
        for k in range(radii.shape[0]):
            size = sizes[k]
            x0, y0 = ix - size // 2, iy - size // 2
            clipped[n, k] = x0 < 0 or y0 < 0 or x0 + size > w or y0 + size > h
            if _inside(x[n], y[n], radii[k], h, w):
                side = size + taps - 1
                coefficients = padded[starts[k] : starts[k] + side * side].reshape((side, side))
                flux[n, k], var[n, k] = _shifted_sum(
                    work, variance, coefficients, size, wx, wy, x0, y0, rows, line
                )
        restore_source(work, noise, span_offsets, span_y, span_x0, span_x1, n)


@kernel
def box_mask_bits(mask, x, y, half, bits, inside):  # type: ignore[no-untyped-def]
    """OR a mask over square boxes.

    Parameters
    ----------
    mask : int32, shape (h, w)
        Bit planes.
    x, y : float64, shape (n,)
        Centres; their pixel is ``floor``.
    half : int
        Half side; boxes have side ``2 half + 1``.
    bits : int32, shape (n,)
        Filled; 0 for boxes that leave the image.
    inside : bool, shape (n,)
        Filled: True where the box lies on the image.
    """
    h, w = mask.shape
    for n in range(x.shape[0]):
        bits[n] = 0
        inside[n] = False
        if not (abs(x[n]) < 1e9 and abs(y[n]) < 1e9):
            continue
        ix, iy = math.floor(x[n]), math.floor(y[n])
        if ix < half or iy < half or ix + half >= w or iy + half >= h:
            continue
        inside[n] = True
        found = np.int32(0)
        for j in range(iy - half, iy + half + 1):
            for i in range(ix - half, ix + half + 1):
                found |= mask[j, i]
        bits[n] = found
