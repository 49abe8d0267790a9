"""Kernels of circular apertures that cut pixels exactly, for images too coarse for sinc apertures."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import helper, kernel
from zeropoint.kernels.spans import paste_source, restore_source

__all__ = ["circle_covers", "exact_apertures"]

#: Half the diagonal of a pixel.
_HALF_DIAGONAL = math.sqrt(0.5)


@helper
def _quarter(x, y, r):  # type: ignore[no-untyped-def]
    """Return the area that a disc about the origin shares with the box between the origin and (x, y), signed."""
    sign = 1.0
    if x < 0.0:
        sign, x = -sign, -x
    if y < 0.0:
        sign, y = -sign, -y
    x, y = min(x, r), min(y, r)
    # left of u0 the box's upper edge bounds the area, right of it the circle
    u0 = min(math.sqrt(r * r - y * y), x)
    arc = x * math.sqrt(r * r - x * x) - u0 * math.sqrt(r * r - u0 * u0)
    arc += r * r * (math.asin(x / r) - math.asin(u0 / r))
    return sign * (u0 * y + 0.5 * arc)


@helper
def _cover(dx, dy, r):  # type: ignore[no-untyped-def]
    """Return the share of the pixel about (dx, dy) that lies in a circle about the origin."""
    distance = math.hypot(dx, dy)
    if distance <= r - _HALF_DIAGONAL:
        return 1.0
    if distance >= r + _HALF_DIAGONAL:
        return 0.0
    x0, x1, y0, y1 = dx - 0.5, dx + 0.5, dy - 0.5, dy + 0.5
    return _quarter(x1, y1, r) - _quarter(x0, y1, r) - _quarter(x1, y0, r) + _quarter(x0, y0, r)


@helper
def circle_covers(dx, dy, r, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (n) with the shares of pixels about (dx, dy) (float64, n) that lie in a circle of radius r."""
    for k in range(out.shape[0]):
        out[k] = _cover(dx[k], dy[k], r)


@kernel
def exact_apertures(  # type: ignore[no-untyped-def]
    work, noise, variance, spans, pixel_offsets, pixels, x, y, radii, flux, var, clipped
):
    """Sum image and variance over circles, each pixel by the share of its area inside (squared for the variance).

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
    flux, var : float64, shape (n, m)
        Filled; NaN where a circle holds centres of pixels off the image.
    clipped : bool, shape (n, m)
        Filled: True where a circle leaves the image, if only by a part of a pixel.
    """
    h, w = work.shape
    span_offsets, span_y, span_x0, span_x1 = spans
    for n in range(x.shape[0]):
        flux[n, :] = math.nan
        var[n, :] = math.nan
        clipped[n, :] = True
        xc, yc = x[n], y[n]
        if not (abs(xc) < 1e9 and abs(yc) < 1e9):
            continue
        paste_source(work, span_offsets, span_y, span_x0, span_x1, n, pixel_offsets, pixels)
        for k in range(radii.shape[0]):
            r = radii[k]
            clipped[n, k] = xc - r < -0.5 or yc - r < -0.5 or xc + r > w - 0.5 or yc + r > h - 0.5
            first, last = math.ceil(xc - r), math.floor(xc + r)
            bottom, top = math.ceil(yc - r), math.floor(yc + r)
            if first < 0 or bottom < 0 or last >= w or top >= h:
                continue
            f = v = 0.0
            # one more pixel on each side: those that are cut, but whose centres are outside
            for j in range(max(0, bottom - 1), min(h, top + 2)):
                for i in range(max(0, first - 1), min(w, last + 2)):
                    share = _cover(i - xc, j - yc, r)
                    if share > 0.0:
                        f += share * np.float64(work[j, i])
                        v += share * share * np.float64(variance[j, i])
            flux[n, k], var[n, k] = f, v
        restore_source(work, noise, span_offsets, span_y, span_x0, span_x1, n)
