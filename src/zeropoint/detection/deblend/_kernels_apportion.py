"""Kernels over all templates of one parent: weights, degeneracy, division of the flux, stray flux.

Templates are runs and values in shared buffers; ``where[k] = (first run, past last run, first value, past last
value)`` of peak ``k``, with no runs for a peak that has no child.
"""

from __future__ import annotations

import math

import numpy as np

from zeropoint.detection.deblend._kernels_psf_fit import back_substitute, factorize
from zeropoint.detection.deblend._kernels_spans import append_runs, room_for_pixels, room_for_spans
from zeropoint.kernels._compile import kernel

__all__ = ["add_stray_flux", "apportion", "join_children", "remove_degenerate", "weight_templates"]


@kernel
def add_template(spans, pixels, where, factor, x0, y0, total):  # type: ignore[no-untyped-def]
    """Add ``factor`` times one template to the window ``total`` (float64) with corner ``(x0, y0)``."""
    i = where[2]
    for s in range(where[0], where[1]):
        y = spans[s, 0] - y0
        for x in range(spans[s, 1] - x0, spans[s, 2] - x0 + 1):
            total[y, x] += factor * pixels[i]
            i += 1


@kernel
def template_dot(spans, pixels, where, x0, y0, window):  # type: ignore[no-untyped-def]
    """Return the sum of template times ``window`` (float64), leaving out pixels that are not finite."""
    total = 0.0
    i = where[2]
    for s in range(where[0], where[1]):
        y = spans[s, 0] - y0
        for x in range(spans[s, 1] - x0, spans[s, 2] - x0 + 1):
            if math.isfinite(window[y, x]):
                total += window[y, x] * pixels[i]
            i += 1
    return total


@kernel
def gram_matrix(spans, pixels, where, x0, y0, window):  # type: ignore[no-untyped-def]
    """Return the lower triangle of all dot products of templates, float64, shape (n + 1, n); last row zero."""
    n = where.shape[0]
    gram = np.zeros((n + 1, n))
    for i in range(n):
        if where[i, 1] == where[i, 0]:
            continue
        window[:, :] = 0.0
        add_template(spans, pixels, where[i], 1.0, x0, y0, window)
        for j in range(i + 1):
            gram[i, j] = template_dot(spans, pixels, where[j], x0, y0, window)
    return gram


@kernel
def weight_templates(image, spans, pixels, where, x0, y0, window):  # type: ignore[no-untyped-def]
    """Scale the templates of a parent to the least-squares fit of their sum to the image, in place.

    Templates whose weight is not positive are removed.
    """
    n = where.shape[0]
    gram = gram_matrix(spans, pixels, where, x0, y0, window)
    h, w = window.shape
    for y in range(h):
        for x in range(w):
            window[y, x] = image[y0 + y, x0 + x]
    for i in range(n):
        gram[n, i] = template_dot(spans, pixels, where[i], x0, y0, window)
    factorize(gram, n)
    weights = np.empty(n)
    back_substitute(gram, n, n, weights)
    for i in range(n):
        if weights[i] > 0.0:
            for k in range(where[i, 2], where[i, 3]):
                pixels[k] *= weights[i]
        else:
            where[i, 1] = where[i, 0]


@kernel
def remove_degenerate(spans, pixels, where, is_psf, limit, x0, y0, window):  # type: ignore[no-untyped-def]
    """Remove templates until no two have a normalised dot product above ``limit``.

    The worst pair goes first.  Of a pair the point source is removed; of two alike, the one with the lower
    maximum (the later peak on equality).
    """
    n = where.shape[0]
    gram = gram_matrix(spans, pixels, where, x0, y0, window)
    tops = np.zeros(n)
    for i in range(n):
        for k in range(where[i, 2], where[i, 3]):
            tops[i] = max(tops[i], pixels[k])
    while True:
        worst, first, second = limit, -1, -1
        for i in range(n):
            for j in range(i):
                if where[i, 1] > where[i, 0] and where[j, 1] > where[j, 0]:
                    value = gram[i, j] / math.sqrt(gram[i, i] * gram[j, j])
                    if value > worst:
                        worst, first, second = value, j, i
        if first < 0:
            return
        gone = second
        if is_psf[first] != is_psf[second]:
            gone = first if is_psf[first] else second
        elif tops[first] < tops[second]:
            gone = first
        where[gone, 1] = where[gone, 0]


@kernel
def apportion(image, spans, pixels, where, x0, y0, total):  # type: ignore[no-untyped-def]
    """Replace template values by ``I T_i / sum_j T_j``; ``total`` (float64 window) holds the sum on return."""
    total[:, :] = 0.0
    for i in range(where.shape[0]):
        add_template(spans, pixels, where[i], 1.0, x0, y0, total)
    for i in range(where.shape[0]):
        k = where[i, 2]
        for s in range(where[i, 0], where[i, 1]):
            y = spans[s, 0]
            for x in range(spans[s, 1], spans[s, 2] + 1):
                if pixels[k] > 0.0:
                    pixels[k] = image[y, x] * (pixels[k] / total[y - y0, x - x0])
                k += 1


@kernel
def distance2(spans, where, x, y):  # type: ignore[no-untyped-def]
    """Return the squared distance from a pixel to the nearest pixel of a footprint."""
    best = np.inf
    for s in range(where[0], where[1]):
        dy = np.float64(spans[s, 0] - y)
        dx = np.float64(max(spans[s, 1] - x, x - spans[s, 2], 0))
        best = min(best, dx * dx + dy * dy)
    return best


@kernel
def stray_shares(x, y, peaks, spans, where, eligible, rule, clip, shares):  # type: ignore[no-untyped-def]
    """Fill the shares of one stray pixel: ``rule`` 1 distance to peak, 2 to footprint, 3 nearest footprint."""
    n = where.shape[0]
    total, nearest, smallest = 0.0, -1, np.inf
    for i in range(n):
        shares[i] = 0.0
        if not eligible[i]:
            continue
        if rule == 1:
            r2 = np.float64((peaks[i, 0] - x) ** 2 + (peaks[i, 1] - y) ** 2)
        else:
            r2 = distance2(spans, where[i], x, y)
        if r2 < smallest:
            smallest, nearest = r2, i
        shares[i] = 1.0 / (1.0 + r2)
        total += shares[i]
    if rule == 3:
        shares[:] = 0.0
        if nearest >= 0:
            shares[nearest] = 1.0
        return
    kept = 0.0
    for i in range(n):
        if shares[i] < clip * total:
            shares[i] = 0.0
        kept += shares[i]
    for i in range(n):
        if shares[i] > 0.0:
            shares[i] /= kept


@kernel
def add_stray_flux(  # type: ignore[no-untyped-def]
    image, inside, table, peaks, is_psf, spans, n_spans, pixels, n_pixels, where, flags, rule, use_psf, clip,
    x0, y0, total, values, member,
):  # fmt: skip
    """Share the positive pixels of the parent that no template covers among its children.

    Parameters are as in `apportion`; ``rule`` and ``clip`` as in `stray_shares`; ``use_psf`` 0 never gives to
    point sources, 1 only if there is no other child, 2 always.  ``values`` and ``member`` are scratch of the
    window's size.  Children that gain are written again behind the buffers' end and flagged 4.

    Returns
    -------
    spans, n_spans, pixels, n_pixels
        The buffers, perhaps grown.
    """
    n = where.shape[0]
    h, w = inside.shape
    eligible = np.zeros(n, np.bool_)
    n_eligible = 0
    for attempt in range(2):
        if attempt == 1 and (n_eligible > 0 or use_psf != 1):
            break
        for i in range(n):
            if where[i, 1] > where[i, 0] and (not is_psf[i] or use_psf == 2 or attempt == 1):
                eligible[i] = True
                n_eligible += 1
    stray = np.empty((h * w, 2), np.int64)
    n_stray = 0
    for y in range(h):
        for x in range(w):
            ix, iy = table[4] + x, table[5] + y
            value = image[iy, ix]
            if inside[y, x] != 0 and total[iy - y0, ix - x0] == 0.0 and value > 0.0 and math.isfinite(value):
                stray[n_stray, 0], stray[n_stray, 1] = ix, iy
                n_stray += 1
    shares = np.empty((n_stray, n))
    for s in range(n_stray):
        stray_shares(stray[s, 0], stray[s, 1], peaks, spans, where, eligible, rule, clip, shares[s])
    wh, ww = total.shape
    for i in range(n):
        if not eligible[i] or not (shares[:, i] > 0.0).any():
            continue
        k = where[i, 2]
        member[:, :] = 0
        for s in range(where[i, 0], where[i, 1]):
            y = spans[s, 0] - y0
            for x in range(spans[s, 1] - x0, spans[s, 2] - x0 + 1):
                member[y, x] = 1
                values[y, x] = pixels[k]
                k += 1
        for s in range(n_stray):
            if shares[s, i] > 0.0:
                x, y = stray[s, 0], stray[s, 1]
                member[y - y0, x - x0] = 1
                values[y - y0, x - x0] = image[y, x] * shares[s, i]
        spans = room_for_spans(spans, n_spans, wh * (ww // 2 + 1))
        pixels = room_for_pixels(pixels, n_pixels, wh * ww)
        where[i, 0], where[i, 2] = n_spans, n_pixels
        n_spans, n_pixels = append_runs(values, member, x0, y0, False, spans, n_spans, pixels, n_pixels)
        where[i, 1], where[i, 3] = n_spans, n_pixels
        flags[i] |= 4
    return spans, n_spans, pixels, n_pixels


@kernel
def join_children(spans, where, parent_spans, table, keep_parent, x0, y0, member, out, n_out):  # type: ignore[no-untyped-def]
    """Write the union of the children's footprints (and of the parent's if asked) as runs to ``out``.

    ``member`` is a scratch window (uint8) with corner ``(x0, y0)``.  Returns the new number of runs.
    """
    member[:, :] = 0
    if keep_parent:
        for s in range(table[0], table[1]):
            for x in range(parent_spans[s, 1] - x0, parent_spans[s, 2] - x0 + 1):
                member[parent_spans[s, 0] - y0, x] = 1
    for i in range(where.shape[0]):
        for s in range(where[i, 0], where[i, 1]):
            for x in range(spans[s, 1] - x0, spans[s, 2] - x0 + 1):
                member[spans[s, 0] - y0, x] = 1
    h, w = member.shape
    for y in range(h):
        x = 0
        while x < w:
            if member[y, x] == 0:
                x += 1
                continue
            first = x
            while x < w and member[y, x] != 0:
                x += 1
            out[n_out, 0], out[n_out, 1], out[n_out, 2] = y0 + y, x0 + first, x0 + x - 1
            n_out += 1
    return n_out
