"""Kernels that make the template of one peak: symmetry, edges, smoothing, monotony.

A template is a window (``values`` float32, ``member`` uint8, one-dimensional scratch of at least its area) with
the pixel ``(x0, y0)`` as its corner.
"""

from __future__ import annotations

import math

import numpy as np

from zeropoint.detection.deblend._networks import MEDIAN_OF_25
from zeropoint.kernels._compile import kernel

__all__ = ["crop_template", "make_monotonic", "median_smooth", "pad_with_ramp", "patch_edges", "symmetrize"]


@kernel
def symmetrize(pix, inside, cx, cy, values, member):  # type: ignore[no-untyped-def]
    """Make the symmetric template about pixel ``(cx, cy)`` of a window.

    Parameters
    ----------
    pix : float32, shape (h, w)
        Finite pixels.
    inside : uint8, shape (h, w)
        Non-zero inside the footprint.
    cx, cy : int
        Centre in window pixels.
    values, member : float32, uint8, one-dimensional
        Filled for the tight box ``(2 ey + 1, 2 ex + 1)``: ``max(0, min(I(c + d), I(c - d)))`` where both pixels are
        inside.

    Returns
    -------
    ex, ey : int
        Half-sizes of the box; -1 if the centre is not inside.
    """
    h, w = pix.shape
    if cx < 0 or cy < 0 or cx >= w or cy >= h or inside[cy, cx] == 0:
        return -1, -1
    hx, hy = min(cx, w - 1 - cx), min(cy, h - 1 - cy)
    ex, ey = 0, 0
    for dy in range(hy + 1):
        for dx in range(-hx, hx + 1):
            if inside[cy + dy, cx + dx] != 0 and inside[cy - dy, cx - dx] != 0:
                ey = dy
                ex = max(ex, abs(dx))
    width = 2 * ex + 1
    for dy in range(ey + 1):
        for dx in range(-ex, ex + 1):
            a = (ey + dy) * width + ex + dx
            b = (ey - dy) * width + ex - dx
            value, belongs = np.float32(0.0), np.uint8(0)
            if inside[cy + dy, cx + dx] != 0 and inside[cy - dy, cx - dx] != 0:
                belongs = np.uint8(1)
                value = max(min(pix[cy + dy, cx + dx], pix[cy - dy, cx - dx]), np.float32(0.0))
            values[a] = value
            values[b] = value
            member[a] = belongs
            member[b] = belongs
    return ex, ey


@kernel
def patch_edges(pix, inside, cx, cy, ex, ey, values, member):  # type: ignore[no-untyped-def]
    """Widen a symmetric template to the whole window and keep the pixels whose mirror image leaves it.

    ``values`` and ``member`` hold the box of `symmetrize` on entry and the window ``(h, w)`` on return.
    """
    h, w = pix.shape
    width = 2 * ex + 1
    old_values, old_member = values[: width * (2 * ey + 1)].copy(), member[: width * (2 * ey + 1)].copy()
    for y in range(h):
        for x in range(w):
            i = y * w + x
            values[i] = 0.0
            member[i] = 0
            if abs(y - cy) <= ey and abs(x - cx) <= ex:
                j = (y - cy + ey) * width + x - cx + ex
                values[i] = old_values[j]
                member[i] = old_member[j]
            mx, my = 2 * cx - x, 2 * cy - y
            if inside[y, x] != 0 and (mx < 0 or my < 0 or mx >= w or my >= h):
                member[i] = 1
                values[i] = max(pix[y, x], np.float32(0.0))


@kernel
def on_edge(member, y, x):  # type: ignore[no-untyped-def]
    """Say whether a member pixel (2-d ``member``) has one of its four neighbors outside the footprint."""
    h, w = member.shape
    if y == 0 or x == 0 or y == h - 1 or x == w - 1:
        return True
    return not (member[y - 1, x] and member[y + 1, x] and member[y, x - 1] and member[y, x + 1])


@kernel
def reaches_edge(values, member, level):  # type: ignore[no-untyped-def]
    """Say whether an edge pixel of the template (2-d) is at least ``level``."""
    h, w = member.shape
    for y in range(h):
        for x in range(w):
            if member[y, x] != 0 and values[y, x] >= level and on_edge(member, y, x):
                return True
    return False


@kernel
def pad_with_ramp(  # type: ignore[no-untyped-def]
    image, taken, inside, spans, table, x0, y0, values, member, stamp, reach, pad_pix, pad_inside
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
    x0, y0 : int
        Corner of the template in the image.
    values, member : float32, uint8, shape (h, w)
        The template.
    stamp : float64, shape (s, s)
        PSF.
    reach : int
        Padding, pixels.
    pad_pix, pad_inside : float32, uint8, shape (h + 2 reach, w + 2 reach)
        Filled.
    """
    h, w = values.shape
    gh, gw = pad_pix.shape
    gx0, gy0 = x0 - reach, y0 - reach
    pad_inside[:, :] = 0
    pad_pix[:, :] = 0.0
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
    top = stamp.max()
    for y in range(h):
        for x in range(w):
            if not (member[y, x] != 0 and values[y, x] > 0.0 and on_edge(member, y, x)):
                continue
            scale = values[y, x] / top
            for dy in range(-r, r + 1):
                for dx in range(-r, r + 1):
                    gy, gx = y + reach + dy, x + reach + dx
                    if pad_inside[gy, gx] == 2:
                        pad_pix[gy, gx] = max(
                            pad_pix[gy, gx], np.float32(scale * stamp[half + dy, half + dx])
                        )


@kernel
def is_free(taken, inside, table, x, y):  # type: ignore[no-untyped-def]
    """Say whether an image pixel exists and belongs to the parent or to nobody."""
    if x < 0 or y < 0 or y >= taken.shape[0] or x >= taken.shape[1]:
        return False
    if taken[y, x] == 0:
        return True
    if x < table[4] or x > table[6] or y < table[5] or y > table[7]:
        return False
    return inside[y - table[5], x - table[4]] != 0


@kernel
def crop_template(taken, inside, table, x0, y0, w, h, values, member):  # type: ignore[no-untyped-def]
    """Cut a template (one-dimensional scratch) to the image and off other footprints.

    Returns the new corner and size ``(x0, y0, w, h)``.
    """
    nx0, ny0 = max(x0, 0), max(y0, 0)
    nx1, ny1 = min(x0 + w, taken.shape[1]), min(y0 + h, taken.shape[0])
    nw, nh = nx1 - nx0, ny1 - ny0
    for y in range(nh):
        for x in range(nw):
            # moving towards the front, so no value is overwritten before it is read
            i = y * nw + x
            j = (y + ny0 - y0) * w + x + nx0 - x0
            free = is_free(taken, inside, table, nx0 + x, ny0 + y)
            values[i] = values[j] if free else np.float32(0.0)
            member[i] = member[j] if free else np.uint8(0)
    return nx0, ny0, nw, nh


@kernel
def median_smooth(values, rows, out):  # type: ignore[no-untyped-def]
    """Replace a template (float32, shape (h, w)) by its 5 x 5 median, two border pixels left as they are.

    The median comes from a fixed network of compare-exchanges on whole image rows.

    Parameters
    ----------
    values : float32, shape (h, w)
        Finite; replaced.
    rows : float32, shape (25, >= w)
        Scratch.
    out : float32, shape (h, w)
        Scratch.
    """
    h, w = values.shape
    if h < 5 or w < 5:
        return
    n = w - 4
    for y in range(2, h - 2):
        for j in range(5):
            for i in range(5):
                for x in range(n):
                    rows[5 * j + i, x] = values[y + j - 2, x + i]
        for c in range(MEDIAN_OF_25.shape[0]):
            first, second = rows[MEDIAN_OF_25[c, 0]], rows[MEDIAN_OF_25[c, 1]]
            for x in range(n):
                a, b = first[x], second[x]
                first[x] = b if b < a else a
                second[x] = a if b < a else b
        for x in range(n):
            out[y, x + 2] = rows[12, x]
    values[2 : h - 2, 2 : w - 2] = out[2 : h - 2, 2 : w - 2]


@kernel
def cast_shadow(values, x, y, cx, cy, shade, along_x):  # type: ignore[no-untyped-def]
    """Cap the pixels behind ``(x, y)``, seen from the centre, at ``shade``: 5 steps, slope +-0.3."""
    h, w = values.shape
    dx, dy = x - cx, y - cy
    if along_x:
        sign = 1 if dx > 0 else -1
        slope = dy / dx
    else:
        sign = 1 if dy > 0 else -1
        slope = dx / dy
    for step in range(1, 6):
        first = np.int64(math.floor(step * (slope - 0.3) + 0.5))
        last = np.int64(math.floor(step * (slope + 0.3) + 0.5))
        for side in range(first, last + 1):
            if along_x:
                px, py = x + sign * step, y + sign * side
            else:
                px, py = x + sign * side, y + sign * step
            if px >= 0 and py >= 0 and px < w and py < h and values[py, px] > shade:
                values[py, px] = shade


@kernel
def make_monotonic(values, shadow, cx, cy):  # type: ignore[no-untyped-def]
    """Make a template (float32, shape (h, w)) fall outwards from ``(cx, cy)``, in place.

    Square rings cast shadows outwards; the values that cast them are renewed every 5 rings (``shadow``,
    float32, shape (h, w), is scratch).  Pixels on a diagonal cast both ways.
    """
    h, w = values.shape
    rings = max(max(cx, w - 1 - cx), max(cy, h - 1 - cy))
    for ring in range(1, rings + 1):
        if (ring - 1) % 5 == 0:
            y0, y1 = max(cy - ring - 4, 0), min(cy + ring + 4, h - 1)
            x0, x1 = max(cx - ring - 4, 0), min(cx + ring + 4, w - 1)
            shadow[y0 : y1 + 1, x0 : x1 + 1] = values[y0 : y1 + 1, x0 : x1 + 1]
        for y in range(max(cy - ring, 0), min(cy + ring, h - 1) + 1):
            full = abs(y - cy) == ring
            step = 1 if full else 2 * ring
            for dx in range(-ring, ring + 1, step):
                x = cx + dx
                if x < 0 or x >= w:
                    continue
                if abs(dx) == ring:
                    cast_shadow(values, x, y, cx, cy, shadow[y, x], True)
                if full:
                    cast_shadow(values, x, y, cx, cy, shadow[y, x], False)
