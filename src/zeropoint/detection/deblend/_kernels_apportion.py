"""Kernels over all templates of each parent: weights, degeneracy, division of the flux, stray flux, union.

Templates are runs and values in shared buffers; ``where[k] = (first run, past last run, first value, past last
value)`` of peak ``k``, with no runs for a peak that has no child.  ``windows[p] = (x0, y0, h, w)`` is the part of
the image in which the children of parent ``p`` lie.
"""

from __future__ import annotations

import math

import numpy as np

from zeropoint.detection.deblend._kernels_psf_fit import back_substitute, factorize
from zeropoint.detection.deblend._kernels_spans import (
    append_runs,
    paint_window,
    room_for_pixels,
    room_for_spans,
)
from zeropoint.kernels._compile import helper, kernel

__all__ = ["divide_flux", "join_children", "remove_degenerate", "share_stray_flux", "weight_templates"]


@helper
def add_template(spans, pixels, where, x0, y0, total):  # type: ignore[no-untyped-def]
    """Add one template to the window ``total`` (float64) with corner ``(x0, y0)``."""
    i = where[2]
    for s in range(where[0], where[1]):
        y = spans[s, 0] - y0
        for x in range(spans[s, 1] - x0, spans[s, 2] - x0 + 1):
            total[y, x] += pixels[i]
            i += 1


@helper
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


@helper
def gram_matrix(spans, pixels, where, first, last, x0, y0, window):  # type: ignore[no-untyped-def]
    """Return the lower triangle of all dot products of a parent's templates; one more row, of zeros.

    ``first`` and ``last`` limit the parent's peaks, ``window`` (float64) is scratch.
    """
    n = last - first
    gram = np.zeros((n + 1, n))
    for i in range(n):
        for y in range(window.shape[0]):
            for x in range(window.shape[1]):
                window[y, x] = 0.0
        add_template(spans, pixels, where[first + i], x0, y0, window)
        for j in range(i + 1):
            gram[i, j] = template_dot(spans, pixels, where[first + j], x0, y0, window)
    return gram


@kernel
def weight_templates(image, spans, pixels, where, table, windows):  # type: ignore[no-untyped-def]
    """Scale the templates of each parent to the least-squares fit of their sum to the image, in place.

    Templates whose weight is not positive lose their runs.

    Parameters
    ----------
    image : float32, shape (height, width)
        Pixels.
    spans, pixels, where
        The templates.
    table, windows : int64, shapes (n_parents, 8) and (n_parents, 4)
        The parents, as in `make_templates`, and their windows.
    """
    for p in range(table.shape[0]):
        first, last = table[p, 2], table[p, 3]
        x0, y0, h, w = windows[p]
        n = last - first
        window = np.empty((h, w))
        gram = gram_matrix(spans, pixels, where, first, last, x0, y0, window)
        for y in range(h):
            for x in range(w):
                window[y, x] = image[y0 + y, x0 + x]
        for i in range(n):
            gram[n, i] = template_dot(spans, pixels, where[first + i], x0, y0, window)
        factorize(gram, n)
        weights = np.empty(n)
        back_substitute(gram, n, n, weights)
        for i in range(n):
            if weights[i] > 0.0:
                for k in range(where[first + i, 2], where[first + i, 3]):
                    pixels[k] *= weights[i]
            else:
                where[first + i, 1] = where[first + i, 0]


@kernel
def remove_degenerate(spans, pixels, where, amplitude, limit, table, windows):  # type: ignore[no-untyped-def]
    """Remove templates until no two of a parent have a normalised dot product above ``limit``, in place.

    The worst pair goes first.  Of a pair the point source (positive ``amplitude``) is removed; of two alike, the
    one with the lower maximum (the later peak on equality).  Other parameters are as in `weight_templates`.
    """
    for p in range(table.shape[0]):
        start, stop = table[p, 2], table[p, 3]
        window = np.empty((windows[p, 2], windows[p, 3]))
        gram = gram_matrix(spans, pixels, where, start, stop, windows[p, 0], windows[p, 1], window)
        while True:
            worst, first, second = limit, -1, -1
            for i in range(stop - start):
                for j in range(i):
                    if gram[i, i] > 0.0 and gram[j, j] > 0.0:
                        value = gram[i, j] / math.sqrt(gram[i, i] * gram[j, j])
                        if value > worst:
                            worst, first, second = value, j, i
            if first < 0:
                break
            gone = second
            first_is_psf, second_is_psf = amplitude[start + first] > 0.0, amplitude[start + second] > 0.0
            if first_is_psf != second_is_psf:
                gone = first if first_is_psf else second
            elif top_value(pixels, where[start + first]) < top_value(pixels, where[start + second]):
                gone = first
            gram[gone, gone] = 0.0
            where[start + gone, 1] = where[start + gone, 0]


@helper
def top_value(pixels, where):  # type: ignore[no-untyped-def]
    """Return the largest value of a template."""
    top = 0.0
    for k in range(where[2], where[3]):
        top = max(top, pixels[k])
    return top


@kernel
def divide_flux(image, spans, pixels, where, table, windows):  # type: ignore[no-untyped-def]
    """Replace the templates' values by ``I T_i / sum_j T_j``; parameters are as in `weight_templates`."""
    for p in range(table.shape[0]):
        x0, y0, h, w = windows[p]
        total = np.zeros((h, w))
        for i in range(table[p, 2], table[p, 3]):
            add_template(spans, pixels, where[i], x0, y0, total)
        for i in range(table[p, 2], table[p, 3]):
            k = where[i, 2]
            for s in range(where[i, 0], where[i, 1]):
                y = spans[s, 0]
                for x in range(spans[s, 1], spans[s, 2] + 1):
                    if pixels[k] > 0.0:
                        pixels[k] = image[y, x] * (pixels[k] / total[y - y0, x - x0])
                    k += 1


@helper
def distance2(spans, where, x, y):  # type: ignore[no-untyped-def]
    """Return the squared distance from a pixel to the nearest pixel of a footprint."""
    best = np.inf
    for s in range(where[0], where[1]):
        dy = np.float64(spans[s, 0] - y)
        dx = np.float64(max(spans[s, 1] - x, x - spans[s, 2], 0))
        best = min(best, dx * dx + dy * dy)
    return best


@kernel
def stray_shares(x, y, peaks, spans, where, first, eligible, rule, clip, shares):  # type: ignore[no-untyped-def]
    """Fill the shares of one stray pixel: ``rule`` 1 distance to peak, 2 to footprint, 3 nearest footprint."""
    n = len(shares)
    total, nearest, smallest = 0.0, -1, np.inf
    for i in range(n):
        shares[i] = 0.0
        if eligible[i] == 0:
            continue
        if rule == 1:
            r2 = np.float64((peaks[first + i, 0] - x) ** 2 + (peaks[first + i, 1] - y) ** 2)
        else:
            r2 = distance2(spans, where[first + i], x, y)
        if r2 < smallest:
            smallest, nearest = r2, i
        shares[i] = 1.0 / (1.0 + r2)
        total += shares[i]
    kept = 0.0
    for i in range(n):
        if rule == 3:
            shares[i] = 1.0 if i == nearest else 0.0
        elif shares[i] < clip * total:
            shares[i] = 0.0
        kept += shares[i]
    for i in range(n):
        if shares[i] > 0.0:
            shares[i] /= kept


@helper
def find_eligible(amplitude, where, first, use_psf, eligible):  # type: ignore[no-untyped-def]
    """Mark the children that may get stray flux; ``use_psf`` is 0 never, 1 if necessary, 2 always."""
    n_extended, n_psf = 0, 0
    for i in range(len(eligible)):
        if where[first + i, 1] > where[first + i, 0]:
            if amplitude[first + i] > 0.0:
                n_psf += 1
            else:
                n_extended += 1
    with_psf = use_psf == 2 or (use_psf == 1 and n_extended == 0)
    for i in range(len(eligible)):
        alive = where[first + i, 1] > where[first + i, 0]
        eligible[i] = 1 if alive and (with_psf or not amplitude[first + i] > 0.0) else 0


@helper
def find_stray(image, spans, pixels, where, row, parent_spans, window, stray):  # type: ignore[no-untyped-def]
    """List the positive pixels of a parent that no child has flux in; return how many."""
    x0, y0, h, w = window
    total = np.zeros((h, w))
    for i in range(row[2], row[3]):
        add_template(spans, pixels, where[i], x0, y0, total)
    n = 0
    for s in range(row[0], row[1]):
        y = parent_spans[s, 0]
        for x in range(parent_spans[s, 1], parent_spans[s, 2] + 1):
            if total[y - y0, x - x0] == 0.0 and image[y, x] > 0.0 and math.isfinite(image[y, x]):
                stray[n, 0], stray[n, 1] = x, y
                n += 1
    return n


@kernel
def share_stray_flux(  # type: ignore[no-untyped-def]
    image,
    parent_spans,
    table,
    windows,
    peaks,
    amplitude,
    spans,
    pixels,
    where,
    flags,
    rule,
    use_psf,
    clip,
    gained,
):
    """Share the positive pixels of each parent that no template covers among its children.

    Parameters
    ----------
    image : float32, shape (height, width)
        Pixels.
    parent_spans : int32, shape (n_spans, 3)
        Runs of the parents.
    table, windows : int64, shapes (n_parents, 8) and (n_parents, 4)
        The parents, as in `make_templates`, and their windows.
    peaks : int64, shape (n_peaks, 4)
        Peak pixel (x, y) first.
    amplitude : float64, shape (n_peaks,)
        Positive for point sources.
    spans, pixels, where
        The children; those that gain are written again behind the buffers' end.
    flags : uint8, shape (n_peaks,)
        ``gained`` is set for those.
    rule, clip
        As in `stray_shares`.
    use_psf
        As in `find_eligible`.

    Returns
    -------
    spans, n_spans, pixels, n_pixels
        The buffers, perhaps grown, and how much of them is used.
    """
    n_spans, n_pixels = spans.shape[0], pixels.shape[0]
    for p in range(table.shape[0]):
        first, n = table[p, 2], table[p, 3] - table[p, 2]
        x0, y0, h, w = windows[p]
        eligible = np.empty(n, np.uint8)
        find_eligible(amplitude, where, first, use_psf, eligible)
        stray = np.empty((h * w, 2), np.int64)
        n_stray = find_stray(image, spans, pixels, where, table[p], parent_spans, windows[p], stray)
        shares = np.empty((n_stray, n))
        for s in range(n_stray):
            stray_shares(
                stray[s, 0], stray[s, 1], peaks, spans, where, first, eligible, rule, clip, shares[s]
            )
        values, member = np.empty((h, w), np.float32), np.empty((h, w), np.uint8)
        for i in range(n):
            gains = False
            for s in range(n_stray):
                gains = gains or shares[s, i] > 0.0
            if not gains:
                continue
            place = where[first + i]
            paint_window(spans, place[0], place[1], x0, y0, h, w, member)
            k = place[2]
            for s in range(place[0], place[1]):
                for x in range(spans[s, 1] - x0, spans[s, 2] - x0 + 1):
                    values[spans[s, 0] - y0, x] = pixels[k]
                    k += 1
            for s in range(n_stray):
                if shares[s, i] > 0.0:
                    x, y = stray[s, 0], stray[s, 1]
                    member[y - y0, x - x0] = 1
                    values[y - y0, x - x0] = image[y, x] * shares[s, i]
            spans = room_for_spans(spans, n_spans, h * (w // 2 + 1))
            pixels = room_for_pixels(pixels, n_pixels, h * w)
            place[0], place[2] = n_spans, n_pixels
            n_spans, n_pixels = append_runs(
                values, member, x0, y0, h, w, np.bool_(False), spans, n_spans, pixels, n_pixels
            )
            place[1], place[3] = n_spans, n_pixels
            flags[first + i] |= gained
    return spans, n_spans, pixels, n_pixels


@kernel
def join_children(spans, where, parent_spans, table, windows, keep_parent, offsets):  # type: ignore[no-untyped-def]
    """Return the runs of each parent's new footprint: its children's union (with itself if asked).

    Parameters
    ----------
    spans, where
        The children.
    parent_spans : int32, shape (n_spans, 3)
        Runs of the parents.
    table, windows : int64, shapes (n_parents, 8) and (n_parents, 4)
        The parents and their windows.
    keep_parent : bool
        Keep the old footprint's pixels.
    offsets : int64, shape (n_parents + 1,)
        Filled: parent ``p`` owns runs ``offsets[p]:offsets[p + 1]``; none if it has no child.
    """
    out, n_out = np.empty((1024, 3), np.int32), 0
    for p in range(table.shape[0]):
        x0, y0, h, w = windows[p]
        offsets[p] = n_out
        member = np.zeros((h, w), np.uint8)
        n_alive = 0
        for i in range(table[p, 2], table[p, 3]):
            if where[i, 1] > where[i, 0]:
                n_alive += 1
            for s in range(where[i, 0], where[i, 1]):
                for x in range(spans[s, 1] - x0, spans[s, 2] - x0 + 1):
                    member[spans[s, 0] - y0, x] = 1
        if n_alive == 0:
            continue
        if keep_parent:
            for s in range(table[p, 0], table[p, 1]):
                for x in range(parent_spans[s, 1] - x0, parent_spans[s, 2] - x0 + 1):
                    member[parent_spans[s, 0] - y0, x] = 1
        out = room_for_spans(out, n_out, h * (w // 2 + 1))
        for y in range(h):
            last = -2
            for x in range(w):
                if member[y, x] == 0:
                    continue
                if last == x - 1:
                    out[n_out - 1, 2] = x0 + x
                else:
                    out[n_out, 0], out[n_out, 1], out[n_out, 2] = y0 + y, x0 + x, x0 + x
                    n_out += 1
                last = x
    offsets[table.shape[0]] = n_out
    return out, n_out
