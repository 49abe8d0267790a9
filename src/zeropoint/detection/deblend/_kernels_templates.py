"""Kernels that make the template of one peak: symmetry, edges, smoothing, monotony.

A template is a window of the image with corner ``(x0, y0)`` and size ``(h, w)`` in the first rows and columns of
the scratch arrays ``values`` (float32) and ``member`` (uint8, non-zero inside the template's footprint).
"""

from __future__ import annotations

import math

import numpy as np

from zeropoint.detection.deblend._networks import MEDIAN_OF_25
from zeropoint.kernels._compile import helper, kernel

__all__ = [
    "crop_template",
    "make_monotonic",
    "median_smooth",
    "pad_with_ramp",
    "patch_edges",
    "reaches_edge",
    "symmetrize",
]


@kernel
def symmetrize(pix, inside, h, w, cx, cy, values, member):  # type: ignore[no-untyped-def]
    """Make the symmetric template about pixel ``(cx, cy)`` of a window.

    Parameters
    ----------
    pix : float32, at least (h, w)
        Finite pixels.
    inside : uint8, at least (h, w)
        Non-zero inside the footprint.
    h, w : int
        Size of the window.
    cx, cy : int
        Centre in window pixels.
    values, member : float32, uint8
        Filled in the tight box ``(2 ey + 1, 2 ex + 1)``: ``max(0, min(I(c + d), I(c - d)))`` where both pixels are
        inside.

    Returns
    -------
    ex, ey : int
        Half-sizes of the box; -1 if the centre is not inside.
    """
    if cx < 0 or cy < 0 or cx >= w or cy >= h or inside[cy, cx] == 0:
        return -1, -1
    hx, hy = min(cx, w - 1 - cx), min(cy, h - 1 - cy)
    ex, ey = 0, 0
    for dy in range(hy + 1):
        for dx in range(-hx, hx + 1):
            if inside[cy + dy, cx + dx] != 0 and inside[cy - dy, cx - dx] != 0:
                ey = dy
                ex = max(ex, abs(dx))
    for dy in range(ey + 1):
        for dx in range(-ex, ex + 1):
            value, belongs = np.float32(0.0), np.uint8(0)
            if inside[cy + dy, cx + dx] != 0 and inside[cy - dy, cx - dx] != 0:
                belongs = np.uint8(1)
                value = max(min(pix[cy + dy, cx + dx], pix[cy - dy, cx - dx]), np.float32(0.0))
            values[ey + dy, ex + dx] = value
            values[ey - dy, ex - dx] = value
            member[ey + dy, ex + dx] = belongs
            member[ey - dy, ex - dx] = belongs
    return ex, ey


@kernel
def patch_edges(pix, inside, h, w, cx, cy, values, member):  # type: ignore[no-untyped-def]
    """Fill the symmetric template of the whole window, and keep the pixels whose mirror image leaves it.

    Parameters are as in `symmetrize`, but the template filled has the size ``(h, w)`` of the window.
    """
    for y in range(h):
        for x in range(w):
            mx, my = 2 * cx - x, 2 * cy - y
            value, belongs = np.float32(0.0), np.uint8(0)
            if inside[y, x] != 0:
                if mx < 0 or my < 0 or mx >= w or my >= h:
                    value, belongs = max(pix[y, x], value), np.uint8(1)
                elif inside[my, mx] != 0:
                    value, belongs = max(min(pix[y, x], pix[my, mx]), value), np.uint8(1)
            values[y, x] = value
            member[y, x] = belongs


@helper
def on_edge(member, h, w, y, x):  # type: ignore[no-untyped-def]
    """Say whether a member pixel has one of its four neighbors outside the footprint."""
    if y == 0 or x == 0 or y == h - 1 or x == w - 1:
        return True
    return member[y - 1, x] == 0 or member[y + 1, x] == 0 or member[y, x - 1] == 0 or member[y, x + 1] == 0


@helper
def reaches_edge(values, member, h, w, level):  # type: ignore[no-untyped-def]
    """Say whether an edge pixel of the template is at least ``level``."""
    for y in range(h):
        for x in range(w):
            if member[y, x] != 0 and values[y, x] >= level and on_edge(member, h, w, y, x):
                return True
    return False


@kernel
def pad_with_ramp(  # type: ignore[no-untyped-def]
    image, taken, inside, spans, table, x0, y0, h, w, values, member, stamp, reach, pad_pix, pad_inside
):
    """Continue a parent beyond its footprint, so that a source cut by an edge can be mirrored.

    Inside the footprint dilated by a disc of radius ``reach`` the padded window holds the image; where that is
    exactly 0 (off the image, or on another footprint) it holds the largest of the PSFs that sit on the
    template's edge pixels and peak at the template's value there.

    Parameters
    ----------
    image : float32, shape (height, width)
        Pixels.
    taken : uint8, shape (height, width)
        Non-zero on any footprint of the catalogue.
    inside : uint8
        The parent's footprint in its box.
    spans : int32, shape (n, 3)
        Runs.
    table : int64, shape (8,)
        The parent, as in `fit_point_sources`.
    x0, y0, h, w : int
        Corner and size of the template.
    values, member : float32, uint8
        The template.
    stamp : float64, shape (s, s)
        PSF.
    reach : int
        Padding, pixels.
    pad_pix, pad_inside : float32, uint8, at least (h + 2 reach, w + 2 reach)
        Filled; ``pad_inside`` is 2 on ramp pixels.
    """
    gh, gw = h + 2 * reach, w + 2 * reach
    gx0, gy0 = x0 - reach, y0 - reach
    for y in range(gh):
        for x in range(gw):
            pad_inside[y, x] = 0
            pad_pix[y, x] = 0.0
    for s in range(table[0], table[1]):
        for dy in range(-reach, reach + 1):
            row = spans[s, 0] + dy - gy0
            if row < 0 or row >= gh:
                continue
            wide = np.int64(math.sqrt(reach * reach - dy * dy))
            for x in range(max(spans[s, 1] - wide - gx0, 0), min(spans[s, 2] + wide - gx0, gw - 1) + 1):
                pad_inside[row, x] = 1
    for y in range(gh):
        iy = gy0 + y
        for x in range(gw):
            ix = gx0 + x
            if pad_inside[y, x] == 0:
                continue
            if is_free(taken, inside, table, ix, iy) and math.isfinite(image[iy, ix]):
                pad_pix[y, x] = image[iy, ix]
            if pad_pix[y, x] == 0.0:
                pad_inside[y, x] = 2
    half = stamp.shape[0] // 2
    r = min(reach, half)
    top = 0.0
    for y in range(stamp.shape[0]):
        for x in range(stamp.shape[0]):
            top = max(top, stamp[y, x])
    for y in range(h):
        for x in range(w):
            if not (member[y, x] != 0 and values[y, x] > 0.0 and on_edge(member, h, w, y, x)):
                continue
            scale = values[y, x] / top
            for dy in range(-r, r + 1):
                for dx in range(-r, r + 1):
                    gy, gx = y + reach + dy, x + reach + dx
                    if pad_inside[gy, gx] == 2:
                        pad_pix[gy, gx] = max(
                            pad_pix[gy, gx], np.float32(scale * stamp[half + dy, half + dx])
                        )


@helper
def is_free(taken, inside, table, x, y):  # type: ignore[no-untyped-def]
    """Say whether an image pixel exists and belongs to the parent or to nobody."""
    if x < 0 or y < 0 or y >= taken.shape[0] or x >= taken.shape[1]:
        return False
    if taken[y, x] == 0:
        return True
    if x < table[4] or x > table[6] or y < table[5] or y > table[7]:
        return False
    return inside[y - table[5], x - table[4]] != 0


@helper
def crop_template(taken, inside, table, x0, y0, h, w, values, member):  # type: ignore[no-untyped-def]
    """Cut a template to the image and off other footprints; return its new ``(x0, y0, h, w)``."""
    nx0, ny0 = max(x0, 0), max(y0, 0)
    nw, nh = min(x0 + w, taken.shape[1]) - nx0, min(y0 + h, taken.shape[0]) - ny0
    for y in range(nh):
        for x in range(nw):
            # moving towards the front, so no value is overwritten before it is read
            free = is_free(taken, inside, table, nx0 + x, ny0 + y)
            values[y, x] = values[y + ny0 - y0, x + nx0 - x0] if free else np.float32(0.0)
            member[y, x] = member[y + ny0 - y0, x + nx0 - x0] if free else np.uint8(0)
    return nx0, ny0, nh, nw


@kernel
def median_smooth(values, h, w, rows, out):  # type: ignore[no-untyped-def]
    """Replace a template by its 5 x 5 median, two border pixels left as they are; nothing if a side is below 5.

    The median comes from a fixed network of compare-exchanges on whole image rows.

    Parameters
    ----------
    values : float32, at least (h, w)
        Finite; replaced.
    h, w : int
        Size of the template.
    rows : float32, shape (25, >= w)
        Scratch.
    out : float32, at least (h, w)
        Scratch.
    """
    if h < 5 or w < 5:
        return
    n = w - 4
    for y in range(2, h - 2):
        for k in range(25):
            for x in range(n):
                rows[k, x] = values[y + k // 5 - 2, x + k % 5]
        for c in range(MEDIAN_OF_25.shape[0]):
            i, j = MEDIAN_OF_25[c, 0], MEDIAN_OF_25[c, 1]
            for x in range(n):
                a, b = rows[i, x], rows[j, x]
                rows[i, x] = b if b < a else a
                rows[j, x] = a if b < a else b
        for x in range(n):
            out[y, x + 2] = rows[12, x]
    for y in range(2, h - 2):
        for x in range(2, w - 2):
            values[y, x] = out[y, x]


@helper
def cast_shadow(values, h, w, x, y, dx, dy, shade, along_x):  # type: ignore[no-untyped-def]
    """Cap the pixels behind ``(x, y)``, at ``(dx, dy)`` from the centre, at ``shade``: 5 steps, slope +-0.3."""
    major, minor = (dx, dy) if along_x else (dy, dx)
    sign = 1 if major > 0 else -1
    slope = minor / major
    for step in range(1, 6):
        first = np.int64(math.floor(step * (slope - 0.3) + 0.5))
        last = np.int64(math.floor(step * (slope + 0.3) + 0.5))
        for side in range(first, last + 1):
            px = x + sign * (step if along_x else side)
            py = y + sign * (side if along_x else step)
            if px >= 0 and py >= 0 and px < w and py < h and values[py, px] > shade:
                values[py, px] = shade


@kernel
def make_monotonic(values, h, w, shadow, cx, cy):  # type: ignore[no-untyped-def]
    """Make a template fall outwards from ``(cx, cy)``, in place.

    Square rings cast shadows outwards; the values that cast them are renewed every 5 rings (``shadow`` is
    scratch, float32, at least (h, w)).  Pixels on a diagonal cast both ways.
    """
    rings = max(max(cx, w - 1 - cx), max(cy, h - 1 - cy))
    for ring in range(1, rings + 1):
        if (ring - 1) % 5 == 0:
            for y in range(max(cy - ring - 4, 0), min(cy + ring + 4, h - 1) + 1):
                for x in range(max(cx - ring - 4, 0), min(cx + ring + 4, w - 1) + 1):
                    shadow[y, x] = values[y, x]
        for dy in range(max(-ring, -cy), min(ring, h - 1 - cy) + 1):
            full = abs(dy) == ring
            y = cy + dy
            for dx in range(-ring, ring + 1, 1 if full else 2 * ring):
                x = cx + dx
                if x < 0 or x >= w:
                    continue
                for turn in range(2):
                    if (turn == 0 and abs(dx) == ring) or (turn == 1 and full):
                        cast_shadow(values, h, w, x, y, dx, dy, shadow[y, x], turn == 0)
