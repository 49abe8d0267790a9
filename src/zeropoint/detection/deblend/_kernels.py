"""The deblender's outer loop: parents to children, stages B to G."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.detection.deblend._kernels_apportion import (
    add_stray_flux,
    apportion,
    join_children,
    remove_degenerate,
    weight_templates,
)
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
from zeropoint.kernels._compile import kernel

__all__ = [
    "CLIP_FRACTION",
    "EDGE_BIT",
    "EDGE_MODE",
    "FLAG_PATCHED",
    "FLAG_RAMPED",
    "FLAG_STRAY",
    "MAX_DOT",
    "MEDIAN",
    "REMOVE_DEGENERATE",
    "SIGMA",
    "STRAY_RULE",
    "STRAY_TO_PSF",
    "WEIGHT",
    "deblend_parents",
]

# places in the option vectors of `deblend_parents`: integers, then floats
EDGE_MODE, MEDIAN, WEIGHT, REMOVE_DEGENERATE, STRAY_RULE, STRAY_TO_PSF, EDGE_BIT = range(7)
SIGMA, CLIP_FRACTION, MAX_DOT = range(3)
# bits of the flags of a peak
FLAG_RAMPED, FLAG_PATCHED, FLAG_STRAY = 1, 2, 4


@kernel
def odd_reach(fwhm):  # type: ignore[no-untyped-def]
    """Return the odd integer nearest to 1.5 FWHM: how far a template is padded at an edge."""
    return 2 * np.int64(math.floor(0.75 * fwhm)) + 1


@kernel
def load_window(image, mask, table, edge_bit, inside, pix):  # type: ignore[no-untyped-def]
    """Copy the parent's box (pixels not finite become 0); say whether its footprint has ``edge_bit`` set."""
    h, w = pix.shape
    found = False
    for y in range(h):
        for x in range(w):
            value = image[table[5] + y, table[4] + x]
            pix[y, x] = value if math.isfinite(value) else np.float32(0.0)
            if inside[y, x] != 0 and (mask[table[5] + y, table[4] + x] & edge_bit) != 0:
                found = True
    return found


@kernel
def psf_template(inside, table, peak, amplitude, stamp, values, member):  # type: ignore[no-untyped-def]
    """Fill a template with a scaled PSF stamp restricted to the parent; return its corner and size."""
    half = stamp.shape[0] // 2
    x0, y0 = max(peak[2] - half, table[4]), max(peak[3] - half, table[5])
    w = min(peak[2] + half, table[6]) - x0 + 1
    h = min(peak[3] + half, table[7]) - y0 + 1
    if w <= 0 or h <= 0:
        return x0, y0, 0, 0
    for y in range(h):
        for x in range(w):
            i = y * w + x
            member[i] = inside[y0 + y - table[5], x0 + x - table[4]]
            values[i] = amplitude * stamp[y0 + y - peak[3] + half, x0 + x - peak[2] + half]
    return x0, y0, w, h


@kernel
def extended_template(  # type: ignore[no-untyped-def]
    image, taken, inside, pix, spans, table, peak, stamp, reach, has_edge, options, levels, values, member,
    extra_values, extra_member, rows,
):  # fmt: skip
    """Fill the template of a peak that is not a point source; return its corner, size and flags.

    ``extra_values``, ``extra_member`` and ``rows`` are scratch; a size of 0 means that there is no template.
    """
    flags = 0
    px, py = peak[0], peak[1]
    cx, cy = px - table[4], py - table[5]
    ex, ey = symmetrize(pix, inside, cx, cy, values, member)
    if ex < 0:
        return px, py, 0, 0, flags
    x0, y0, w, h = px - ex, py - ey, 2 * ex + 1, 2 * ey + 1
    if options[EDGE_MODE] == 2 and has_edge:
        patch_edges(pix, inside, cx, cy, ex, ey, values, member)
        x0, y0, h, w = table[4], table[5], pix.shape[0], pix.shape[1]
        flags |= FLAG_PATCHED
    if options[EDGE_MODE] == 1:
        box_values, box_member = values[: w * h].reshape((h, w)), member[: w * h].reshape((h, w))
        if reaches_edge(box_values, box_member, 3.0 * levels[SIGMA]):
            gh, gw = h + 2 * reach, w + 2 * reach
            pad = extra_values[: gw * gh].reshape((gh, gw))
            pad_member = extra_member[: gw * gh].reshape((gh, gw))
            pad_with_ramp(
                image,
                taken,
                inside,
                spans,
                table,
                x0,
                y0,
                box_values,
                box_member,
                stamp,
                reach,
                pad,
                pad_member,
            )
            ex, ey = symmetrize(pad, pad_member, px - x0 + reach, py - y0 + reach, values, member)
            x0, y0, w, h = crop_template(
                taken, inside, table, px - ex, py - ey, 2 * ex + 1, 2 * ey + 1, values, member
            )
            flags |= FLAG_RAMPED
    box = values[: w * h].reshape((h, w))
    other = extra_values[: w * h].reshape((h, w))
    if options[MEDIAN] != 0:
        median_smooth(box, rows, other)
    make_monotonic(box, other, px - x0, py - y0)
    return x0, y0, w, h, flags


@kernel
def deblend_parents(  # type: ignore[no-untyped-def]
    image, mask, taken, spans, table, fwhm, peaks, amplitude, stamps, options, levels, where, flags
):
    """Divide parents among their peaks.

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
    fwhm : float64, shape (n_parents,)
        PSF width, pixels.
    peaks : int64, shape (n_peaks, 4)
        Peak pixel (x, y), and image pixel (x, y) under the middle of its PSF stamp.
    amplitude : float64, shape (n_peaks,)
        Flux of a point source, 0 for other peaks, NaN for peaks to skip.
    stamps : float64, shape (n_peaks, s, s)
        PSF at each peak.
    options, levels : int64, float64
        Settings, at the places named at the top of this module.
    where : int64, shape (n_peaks, 4)
        Filled: runs and pixels of each peak's child in the returned buffers; no runs if it has none.
    flags : uint8, shape (n_peaks,)
        Filled: ``FLAG_*`` bits.

    Returns
    -------
    child_spans : int32, shape (m, 3)
        Runs.
    child_pixels : float32, shape (k,)
        Pixel values.
    union_spans : int32, shape (u, 3)
        Runs of the parents' new footprints.
    union_offsets : int64, shape (n_parents + 1,)
        Parent ``i`` owns runs ``union_offsets[i]:union_offsets[i + 1]``; none if it has no child.
    """
    n_parents = table.shape[0]
    largest, widest = stamps.shape[1] * stamps.shape[1], 1
    start = 1024
    for p in range(n_parents):
        pad = 2 * odd_reach(fwhm[p]) if options[EDGE_MODE] == 1 else 0
        w, h = table[p, 6] - table[p, 4] + 1 + pad, table[p, 7] - table[p, 5] + 1 + pad
        largest, widest = max(largest, w * h), max(widest, w)
        start += min(w * h, 4096) * (table[p, 3] - table[p, 2])
    inside_all, pix_all = np.empty(largest, np.uint8), np.empty(largest, np.float32)
    values, member = np.empty(largest, np.float32), np.empty(largest, np.uint8)
    extra_values, extra_member = np.empty(largest, np.float32), np.empty(largest, np.uint8)
    total_all, rows = np.empty(largest, np.float64), np.empty((25, widest), np.float32)
    out_pixels, n_pixels = np.empty(start // 2, np.float32), 0
    out_spans, n_spans = np.empty((start // 16, 3), np.int32), 0
    union, n_union = np.empty((start // 32, 3), np.int32), 0
    union_offsets = np.zeros(n_parents + 1, np.int64)
    is_psf = amplitude > 0.0
    for p in range(n_parents):
        row = table[p]
        first, last = row[2], row[3]
        w, h = row[6] - row[4] + 1, row[7] - row[5] + 1
        inside, pix = inside_all[: w * h].reshape((h, w)), pix_all[: w * h].reshape((h, w))
        paint_window(spans, row[0], row[1], row[4], row[5], inside)
        has_edge = load_window(image, mask, row, options[EDGE_BIT], inside, pix)
        reach = odd_reach(fwhm[p]) if options[EDGE_MODE] == 1 else 0
        for k in range(first, last):
            tw = th = tx = ty = 0
            if amplitude[k] > 0.0:
                tx, ty, tw, th = psf_template(inside, row, peaks[k], amplitude[k], stamps[k], values, member)
            elif amplitude[k] == 0.0:
                tx, ty, tw, th, flag = extended_template(
                    image, taken, inside, pix, spans, row, peaks[k], stamps[k], reach, has_edge, options, levels,
                    values, member, extra_values, extra_member, rows,
                )  # fmt: skip
                flags[k] = flag
            out_spans = room_for_spans(out_spans, n_spans, th * (tw // 2 + 1))
            out_pixels = room_for_pixels(out_pixels, n_pixels, th * tw)
            where[k, 0], where[k, 2] = n_spans, n_pixels
            n_spans, n_pixels = append_runs(
                values[: tw * th].reshape((th, tw)), member[: tw * th].reshape((th, tw)), tx, ty, True,
                out_spans, n_spans, out_pixels, n_pixels,
            )  # fmt: skip
            where[k, 1], where[k, 3] = n_spans, n_pixels
        mine = where[first:last]
        # the window in which children can lie: the box, grown where edges are ramped
        wx, wy = max(row[4] - reach, 0), max(row[5] - reach, 0)
        ww = min(row[6] + reach, image.shape[1] - 1) - wx + 1
        wh = min(row[7] + reach, image.shape[0] - 1) - wy + 1
        total = total_all[: ww * wh].reshape((wh, ww))
        if options[WEIGHT] != 0:
            weight_templates(image, out_spans, out_pixels, mine, wx, wy, total)
        if options[REMOVE_DEGENERATE] != 0:
            remove_degenerate(out_spans, out_pixels, mine, is_psf[first:last], levels[MAX_DOT], wx, wy, total)
        apportion(image, out_spans, out_pixels, mine, wx, wy, total)
        if options[STRAY_RULE] > 0:
            out_spans, n_spans, out_pixels, n_pixels = add_stray_flux(
                image, inside, row, peaks[first:last], is_psf[first:last], out_spans, n_spans, out_pixels, n_pixels,
                mine, flags[first:last], options[STRAY_RULE], options[STRAY_TO_PSF], levels[CLIP_FRACTION],
                wx, wy, total, values[: ww * wh].reshape((wh, ww)), member[: ww * wh].reshape((wh, ww)),
            )  # fmt: skip
        alive = 0
        for k in range(first, last):
            if where[k, 1] > where[k, 0]:
                alive += 1
        if alive > 0:
            union = room_for_spans(union, n_union, wh * (ww // 2 + 1))
            n_union = join_children(
                out_spans, mine, spans, row, options[STRAY_RULE] >= 0, wx, wy,
                extra_member[: ww * wh].reshape((wh, ww)), union, n_union,
            )  # fmt: skip
        union_offsets[p + 1] = n_union
    return out_spans[:n_spans], out_pixels[:n_pixels], union[:n_union], union_offsets
