"""The deblender's outer loop: one template for every peak of every parent (stages B to F)."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.detection.deblend._kernels_spans import (
    append_runs,
    paint_window,
    room_for_pixels,
    room_for_spans,
)
from zeropoint.detection.deblend._kernels_templates import (
    crop_template,
    make_monotonic,
    median_smooth,
    pad_with_ramp,
    patch_edges,
    reaches_edge,
    symmetrize,
)
from zeropoint.kernels._compile import helper, kernel

__all__ = ["CLIP", "FLAG_PATCHED", "FLAG_RAMPED", "FLAG_STRAY", "NOCLIP", "RAMP", "make_templates"]

# values of the option ``edge mode``
CLIP, RAMP, NOCLIP = 0, 1, 2
# bits of the flags of a peak
FLAG_RAMPED, FLAG_PATCHED, FLAG_STRAY = 1, 2, 4


@helper
def load_window(image, mask, table, edge_bit, h, w, inside, pix):  # type: ignore[no-untyped-def]
    """Copy the parent's box (pixels not finite become 0); say whether its footprint has ``edge_bit`` set."""
    found = False
    for y in range(h):
        for x in range(w):
            value = image[table[5] + y, table[4] + x]
            pix[y, x] = value if math.isfinite(value) else np.float32(0.0)
            if inside[y, x] != 0 and (mask[table[5] + y, table[4] + x] & edge_bit) != 0:
                found = True
    return found


@helper
def psf_template(inside, table, peak, amplitude, stamp, values, member):  # type: ignore[no-untyped-def]
    """Fill a template with a scaled PSF stamp restricted to the parent; return its ``(x0, y0, h, w)``."""
    half = stamp.shape[0] // 2
    x0, y0 = max(peak[2] - half, table[4]), max(peak[3] - half, table[5])
    w = max(min(peak[2] + half, table[6]) - x0 + 1, 0)
    h = max(min(peak[3] + half, table[7]) - y0 + 1, 0)
    for y in range(h):
        for x in range(w):
            member[y, x] = inside[y0 + y - table[5], x0 + x - table[4]]
            values[y, x] = amplitude * stamp[y0 + y - peak[3] + half, x0 + x - peak[2] + half]
    return x0, y0, h, w


@helper
def ramped_template(  # type: ignore[no-untyped-def]
    image, taken, inside, spans, table, peak, ex, ey, stamp, reach, values, member, pad, pad_member
):
    """Make the symmetric template of half-size ``(ex, ey)`` again from the parent continued beyond its edges.

    ``pad`` and ``pad_member`` are scratch.  Returns the template's ``(x0, y0, h, w)``.
    """
    px, py = peak[0], peak[1]
    h, w = 2 * ey + 1, 2 * ex + 1
    pad_with_ramp(
        image,
        taken,
        inside,
        spans,
        table,
        px - ex,
        py - ey,
        h,
        w,
        values,
        member,
        stamp,
        reach,
        pad,
        pad_member,
    )
    ex, ey = symmetrize(pad, pad_member, h + 2 * reach, w + 2 * reach, ex + reach, ey + reach, values, member)
    return crop_template(taken, inside, table, px - ex, py - ey, 2 * ey + 1, 2 * ex + 1, values, member)


@kernel
def make_templates(  # type: ignore[no-untyped-def]
    image, mask, taken, spans, table, reach, peaks, amplitude, stamps, options, sigma, where, flags
):
    """Make the template of every peak.

    Parameters
    ----------
    image : float32, shape (height, width)
        Pixels.
    mask : int32, shape (height, width)
        Mask planes.
    taken : uint8, shape (height, width)
        Non-zero on any footprint of the catalogue.
    spans : int32, shape (n_spans, 3)
        Runs ``(y, x0, x1)`` of the parents.
    table : int64, shape (n_parents, 8)
        First and last run, first and last peak (one past), box x0, y0, x1, y1 (inclusive).
    reach : int64, shape (n_parents,)
        How far templates may be continued beyond an edge, pixels (0 unless the edge mode is RAMP).
    peaks : int64, shape (n_peaks, 4)
        Peak pixel (x, y), and image pixel (x, y) under the middle of its PSF stamp.
    amplitude : float64, shape (n_peaks,)
        Flux of a point source, 0 for other peaks, NaN for peaks to skip.
    stamps : float64, shape (n_peaks, s, s)
        PSF at each peak.
    options : int64, shape (3,)
        Edge mode, whether to smooth, bit of the mask plane of image edges.
    sigma : float
        Noise of a pixel.
    where : int64, shape (n_peaks, 4)
        Filled: first and past last run, first and past last value of each peak's template; no runs if none.
    flags : uint8, shape (n_peaks,)
        Filled: ``FLAG_*`` bits.

    Returns
    -------
    spans, n_spans, pixels, n_pixels
        Buffers (int32, shape (m, 3), and float32) and how much of them is used.
    """
    out_spans, n_spans = np.empty((4096, 3), np.int32), np.int64(0)
    out_pixels, n_pixels = np.empty(65536, np.float32), np.int64(0)
    for p in range(table.shape[0]):
        row = table[p]
        x0, y0 = row[4], row[5]
        h, w = row[7] - y0 + 1, row[6] - x0 + 1
        inside, pix = np.empty((h, w), np.uint8), np.empty((h, w), np.float32)
        paint_window(spans, row[0], row[1], x0, y0, h, w, inside)
        has_edge = load_window(image, mask, row, options[2], h, w, inside, pix)
        size = (h + 2 * reach[p], w + 2 * reach[p])
        values, member = np.empty(size, np.float32), np.empty(size, np.uint8)
        other, other_member = np.empty(size, np.float32), np.empty(size, np.uint8)
        rows = np.empty((25, size[1]), np.float32)
        for k in range(row[2], row[3]):
            peak, flag = peaks[k], 0
            tx, ty, th, tw = peak[0], peak[1], 0, 0
            if amplitude[k] > 0.0:
                tx, ty, th, tw = psf_template(inside, row, peak, amplitude[k], stamps[k], values, member)
            elif amplitude[k] == 0.0:
                ex, ey = symmetrize(pix, inside, h, w, peak[0] - x0, peak[1] - y0, values, member)
                if ex >= 0:
                    tx, ty, th, tw = peak[0] - ex, peak[1] - ey, 2 * ey + 1, 2 * ex + 1
                    if options[0] == NOCLIP and has_edge:
                        patch_edges(pix, inside, h, w, peak[0] - x0, peak[1] - y0, values, member)
                        tx, ty, th, tw, flag = x0, y0, h, w, FLAG_PATCHED
                    elif options[0] == RAMP and reaches_edge(values, member, th, tw, 3.0 * sigma):
                        tx, ty, th, tw = ramped_template(
                            image, taken, inside, spans, row, peak, ex, ey, stamps[k], reach[p],
                            values, member, other, other_member,
                        )  # fmt: skip
                        flag = FLAG_RAMPED
                    if options[1] != 0:
                        median_smooth(values, th, tw, rows, other)
                    make_monotonic(values, th, tw, other, peak[0] - tx, peak[1] - ty)
            flags[k] = flag
            out_spans = room_for_spans(out_spans, n_spans, th * (tw // 2 + 1))
            out_pixels = room_for_pixels(out_pixels, n_pixels, th * tw)
            where[k, 0], where[k, 2] = n_spans, n_pixels
            n_spans, n_pixels = append_runs(
                values, member, tx, ty, th, tw, np.bool_(True), out_spans, n_spans, out_pixels, n_pixels
            )
            where[k, 1], where[k, 3] = n_spans, n_pixels
    return out_spans, n_spans, out_pixels, n_pixels
