"""Kernel of the PSF flux."""

from __future__ import annotations

import math

from zeropoint.kernels._compile import kernel
from zeropoint.kernels.spans import paste_source, restore_source

__all__ = ["psf_fluxes"]


@kernel
def psf_fluxes(work, noise, variance, mask, bad_bits, spans, pixel_offsets, pixels, stamps, x, y, out):  # type: ignore[no-untyped-def]
    """Fit the PSF at fixed positions with equal weights.

    Parameters
    ----------
    work, noise, variance, mask
        Images (float32, float32, float32, int32), shape (h, w).
    bad_bits : int32
        Mask bits of pixels left out.
    spans, pixel_offsets, pixels
        Every source's own pixels.
    stamps : float64, shape (n, s, s)
        Star images at (x, y).
    x, y : float64, shape (n,)
        Positions.
    out : float64, shape (n, 6)
        Filled: flux ``sum(P I)/sum(P^2)``, its error ``sqrt(sum(P^2 v))/sum(P^2)``, effective area
        ``(sum P)^2/sum(P^2)``, chi-square, number of pixels, 1 where the stamp was clipped by the image.
    """
    h, w = work.shape
    span_offsets, span_y, span_x0, span_x1 = spans
    half = stamps.shape[1] // 2
    for n in range(x.shape[0]):
        for k in range(6):
            out[n, k] = math.nan
        out[n, 4] = 0.0
        out[n, 5] = 1.0
        if not (abs(x[n]) < 1e9 and abs(y[n]) < 1e9):
            continue
        ix = math.floor(x[n] + 0.5)
        iy = math.floor(y[n] + 0.5)
        xa, xb = max(ix - half, 0), min(ix + half, w - 1)
        ya, yb = max(iy - half, 0), min(iy + half, h - 1)
        if xb - xa == 2 * half and yb - ya == 2 * half:
            out[n, 5] = 0.0
        if xb < xa or yb < ya:
            continue
        paste_source(work, span_offsets, span_y, span_x0, span_x1, n, pixel_offsets, pixels)
        sp = spp = spi = sppv = sii = sip = spw = 0.0
        count = 0
        for j in range(ya, yb + 1):
            row = stamps[n, j - iy + half]
            for i in range(xa, xb + 1):
                if mask[j, i] & bad_bits == 0:
                    p = row[i - ix + half]
                    v = float(variance[j, i])
                    d = float(work[j, i])
                    count += 1
                    sp += p
                    spp += p * p
                    spi += p * d
                    sppv += p * p * v
                    if v > 0.0:
                        q = 1.0 / v
                        sii += d * d * q
                        sip += d * p * q
                        spw += p * p * q
        restore_source(work, noise, span_offsets, span_y, span_x0, span_x1, n)
        out[n, 4] = count
        if count == 0 or spp == 0.0:
            continue
        flux = spi / spp
        out[n, 2] = sp * sp / spp
        out[n, 0] = flux
        out[n, 1] = math.sqrt(sppv) / spp if sppv >= 0.0 else math.nan
        out[n, 3] = sii - 2.0 * flux * sip + flux * flux * spw
