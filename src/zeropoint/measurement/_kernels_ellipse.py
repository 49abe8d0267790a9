"""Kernels of elliptical apertures and of sums under weight images."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import helper, kernel
from zeropoint.kernels.spans import paste_source, restore_source
from zeropoint.measurement._kernels_aperture import _weighted_run

__all__ = ["ellipse_shares", "ellipse_sums", "footprint_moments", "kron_radii", "weighted_sums"]

#: Mean distance from its center over a square pixel of uniform brightness, (sqrt(2) + asinh(1))/6.
MEAN_PIXEL_RADIUS = (math.sqrt(2.0) + math.asinh(1.0)) / 6.0

#: Status of `kron_radii`.
EDGE = 1
BAD_SUMS = 2


@helper
def _share(dx, dy, ixx, iyy, ixy, sub):  # type: ignore[no-untyped-def]
    """Return the share of ``sub x sub`` points of the pixel about (dx, dy) inside ``i_xx x^2 + ... <= 1``."""
    if sub == 1:
        return 1.0 if ixx * dx * dx + 2.0 * ixy * dx * dy + iyy * dy * dy <= 1.0 else 0.0
    count = 0
    for j in range(sub):
        v = dy + (j + 0.5) / sub - 0.5
        for i in range(sub):
            u = dx + (i + 0.5) / sub - 0.5
            if ixx * u * u + 2.0 * ixy * u * v + iyy * v * v <= 1.0:
                count += 1
    return count / (sub * sub)


@helper
def _near_border(dx, dy, ixx, iyy, ixy, step):  # type: ignore[no-untyped-def]
    """Return -1 well outside of the ellipse, 1 well inside, 0 where the pixel may be cut.

    ``step`` is the largest change of the normalised radius over half a pixel's diagonal.
    """
    q = math.sqrt(ixx * dx * dx + 2.0 * ixy * dx * dy + iyy * dy * dy)
    if q > 1.0 + step:
        return -1
    return 1 if q < 1.0 - step else 0


@helper
def _pixel_share(dx, dy, ixx, iyy, ixy, sub, step):  # type: ignore[no-untyped-def]
    if sub > 1:
        side = _near_border(dx, dy, ixx, iyy, ixy, step)
        if side != 0:
            return 1.0 if side > 0 else 0.0
    return _share(dx, dy, ixx, iyy, ixy, sub)


@helper
def _border_step(ixx, iyy, ixy):  # type: ignore[no-untyped-def]
    """Return half a pixel's diagonal in units of the minor axis, the most that the normalised radius changes."""
    mean, half = 0.5 * (ixx + iyy), math.hypot(0.5 * (ixx - iyy), ixy)
    return math.sqrt(0.5 * (mean + half))


@kernel
def ellipse_shares(dx, dy, ellipses, sub, out):  # type: ignore[no-untyped-def]
    """Fill images with the share of each pixel inside an ellipse.

    Parameters
    ----------
    dx, dy : float64, shape (n,)
        Center relative to the pixel of offset 0.
    ellipses : float64, shape (n, 3)
        ``xx, yy, xy`` of the matrix ``E`` with the border at ``r^T E^-1 r = 1``.
    sub : int
        1: pixels whose centers are inside; more: shares from sub x sub points a pixel.
    out : float64, shape (n, m, m)
        Filled; offset 0 is at index 0, negative offsets count from the end.
    """
    size = out.shape[1]
    half = size // 2
    for n in range(out.shape[0]):
        xx, yy, xy = ellipses[n]
        det = xx * yy - xy * xy
        ixx, iyy, ixy = yy / det, xx / det, -xy / det
        step = _border_step(ixx, iyy, ixy)
        for j in range(-half, half + 1):
            for i in range(-half, half + 1):
                out[n, j % size, i % size] = _pixel_share(i - dx[n], j - dy[n], ixx, iyy, ixy, sub, step)


@kernel
def ellipse_sums(  # type: ignore[no-untyped-def]
    work, noise, variance, spans, pixel_offsets, pixels, rows, x, y, ellipses, sub, out
):
    """Sum image and variance over ellipses.

    Parameters
    ----------
    work, noise, variance : float32, shape (h, w)
        Image with sources replaced, the same again, variance.
    spans, pixel_offsets, pixels
        Every source's own pixels.
    rows : int64, shape (m,)
        Sources.
    x, y : float64, shape (m,)
        Their centers.
    ellipses, sub
        As in `ellipse_shares`.
    out : float64, shape (m, 2)
        Filled: ``sum(s I)`` and ``sum(s^2 V)`` with the shares s; pixels off the image are left out.
    """
    h, w = work.shape
    for m in range(rows.shape[0]):
        k = rows[m]
        xx, yy, xy = ellipses[m]
        det = xx * yy - xy * xy
        ixx, iyy, ixy = yy / det, xx / det, -xy / det
        step = _border_step(ixx, iyy, ixy)
        reach_x, reach_y = math.sqrt(xx) + 1.0, math.sqrt(yy) + 1.0
        paste_source(work, spans[0], spans[1], spans[2], spans[3], k, pixel_offsets, pixels)
        flux = var = 0.0
        for j in range(max(0, math.ceil(y[m] - reach_y)), min(h - 1, math.floor(y[m] + reach_y)) + 1):
            for i in range(max(0, math.ceil(x[m] - reach_x)), min(w - 1, math.floor(x[m] + reach_x)) + 1):
                share = _pixel_share(i - x[m], j - y[m], ixx, iyy, ixy, sub, step)
                if share > 0.0:
                    flux += share * float(work[j, i])
                    var += share * share * float(variance[j, i])
        restore_source(work, noise, spans[0], spans[1], spans[2], spans[3], k)
        out[m, 0], out[m, 1] = flux, var


@kernel
def weighted_sums(  # type: ignore[no-untyped-def]
    work, noise, variance, spans, pixel_offsets, pixels, rows, ix, iy, weights, out
):
    """Sum image and variance under weight images.

    Parameters
    ----------
    work, noise, variance, spans, pixel_offsets, pixels, rows
        As in `ellipse_sums`.
    ix, iy : int64, shape (m,)
        Image pixel of offset 0.
    weights : float64, shape (m, s, s)
        s odd; offset 0 is at index 0, negative offsets count from the end.
    out : float64, shape (m, 2)
        Filled: ``sum(W I)`` and ``sum(W^2 V)``: the error of a linear measurement, whatever correlations the
        weights imply. Pixels off the image are left out.
    """
    h, w = work.shape
    size = weights.shape[1]
    half = size // 2
    for m in range(rows.shape[0]):
        k = rows[m]
        paste_source(work, spans[0], spans[1], spans[2], spans[3], k, pixel_offsets, pixels)
        flux = var = 0.0
        first, last = max(-half, -ix[m]), min(half, w - 1 - ix[m])
        end, start = max(first, min(0, last + 1)), max(0, first)
        for dy in range(max(-half, -iy[m]), min(half, h - 1 - iy[m]) + 1):
            row = weights[m, dy % size]
            image, noisy = work[iy[m] + dy], variance[iy[m] + dy]
            # negative offsets, then the others: each a run of the weights
            f, v = _weighted_run(
                row[size + first : size + end], image[ix[m] + first :], noisy[ix[m] + first :]
            )
            flux += f
            var += v
            f, v = _weighted_run(row[start : last + 1], image[ix[m] + start :], noisy[ix[m] + start :])
            flux += f
            var += v
        restore_source(work, noise, spans[0], spans[1], spans[2], spans[3], k)
        out[m, 0], out[m, 1] = flux, var


@kernel
def footprint_moments(spans, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (float64, (n, 3)) with xx, yy, xy of the pixels of footprints; NaN for empty ones."""
    for n in range(out.shape[0]):
        count = sx = sy = sxx = syy = sxy = 0.0
        for s in range(spans[0][n], spans[0][n + 1]):
            y = float(spans[1][s])
            for x in range(spans[2][s], spans[3][s] + 1):
                count += 1.0
                sx += x
                sy += y
                sxx += float(x) * x
                syy += y * y
                sxy += x * y
        if count == 0.0:
            out[n, :] = math.nan
            continue
        mx, my = sx / count, sy / count
        out[n, 0], out[n, 1], out[n, 2] = sxx / count - mx * mx, syy / count - my * my, sxy / count - mx * my


@helper
def _smooth(image, x0, y0, x1, y1, taps, scratch, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with the box x0..x1, y0..y1 of an image under a separable kernel of odd length."""
    h, w = image.shape
    half = taps.shape[0] // 2
    for j in range(y0 - half, y1 + half + 1):
        for i in range(x0, x1 + 1):
            total = 0.0
            if 0 <= j < h:
                for t in range(-half, half + 1):
                    if 0 <= i + t < w:
                        total += taps[t + half] * float(image[j, i + t])
            scratch[j - y0 + half, i - x0] = total
    for j in range(y1 - y0 + 1):
        for i in range(x1 - x0 + 1):
            total = 0.0
            for t in range(2 * half + 1):
                total += taps[t] * scratch[j + t, i]
            out[j, i] = total


@helper
def _mean_radius(image, x, y, ixx, iyy, ixy, major, reach2, x0, y0, x1, y1, taps):  # type: ignore[no-untyped-def]
    """Return the flux-weighted mean of the normalised radius inside ``q <= reach2``; NaN if a sum is not positive."""
    smoothed = np.empty((1, 1))
    if taps.shape[0] > 1:
        smoothed = np.empty((y1 - y0 + 1, x1 - x0 + 1))
        scratch = np.empty((y1 - y0 + taps.shape[0], x1 - x0 + 1))
        _smooth(image, x0, y0, x1, y1, taps, scratch, smoothed)
    total = moment = 0.0
    for j in range(y0, y1 + 1):
        dy = j - y
        for i in range(x0, x1 + 1):
            dx = i - x
            q = ixx * dx * dx + 2.0 * ixy * dx * dy + iyy * dy * dy
            if q > reach2:
                continue
            d = math.hypot(dx, dy)
            if d < 0.5:  # brightness is spread over the pixel: its mean distance is not that of its center
                spread = MEAN_PIXEL_RADIUS * (1.0 + d / math.sqrt(2.0)) / major
                q += spread * spread
            value = smoothed[j - y0, i - x0] if taps.shape[0] > 1 else float(image[j, i])
            total += value
            moment += math.sqrt(q) * value
    return moment / total if total > 0.0 and moment > 0.0 else math.nan


@kernel
def kron_radii(  # type: ignore[no-untyped-def]
    work, noise, spans, pixel_offsets, pixels, x, y, shapes, n_sigma, n_iter, taps, out, status
):
    """Measure Kron radii: flux-weighted mean elliptical radii.

    Parameters
    ----------
    work, noise, spans, pixel_offsets, pixels
        As in `ellipse_sums`.
    x, y : float64, shape (n,)
        Centers.
    shapes : float64, shape (n, 3)
        xx, yy, xy of the ellipses whose form the aperture has; rows that are no ellipses are skipped.
    n_sigma : float
        The mean is over the ellipse times this.
    n_iter : int
        Times to repeat with the ellipse scaled to the radius found, while that grows.
    taps : float64, shape (odd,)
        Kernel that smooths the image along x and y; of length 1 for none.
    out : float64, shape (n, 2)
        Filled: the radius as ``sqrt(a b)``, and that of the ellipse that the mean was over; NaN where there is none.
    status : int64, shape (n,)
        Filled: `EDGE` where the ellipse leaves the image, `BAD_SUMS` where sums are not positive, else 0.
    """
    h, w = work.shape
    for n in range(x.shape[0]):
        out[n, :] = math.nan
        status[n] = 0
        xx, yy, xy = shapes[n]
        det = xx * yy - xy * xy
        if not (det > 0.0 and xx > 0.0 and det < 1e18 and abs(x[n]) < 1e9 and abs(y[n]) < 1e9):
            continue
        root = math.sqrt(det)
        major = math.sqrt(0.5 * (xx + yy) + math.hypot(0.5 * (xx - yy), xy)) / math.sqrt(root)
        # the form: an ellipse of sqrt(a b) = 1, scaled by `size`
        fxx, fyy, fxy = xx / root, yy / root, xy / root
        size = math.sqrt(root)
        paste_source(work, spans[0], spans[1], spans[2], spans[3], n, pixel_offsets, pixels)
        for k in range(n_iter):
            reach = n_sigma * size
            x0, x1 = math.ceil(x[n] - reach * math.sqrt(fxx)), math.floor(x[n] + reach * math.sqrt(fxx))
            y0, y1 = math.ceil(y[n] - reach * math.sqrt(fyy)), math.floor(y[n] + reach * math.sqrt(fyy))
            if x0 < 0 or y0 < 0 or x1 >= w or y1 >= h:
                if k == 0:
                    status[n] = EDGE
                break
            mean = _mean_radius(work, x[n], y[n], fyy, fxx, -fxy, major, reach * reach, x0, y0, x1, y1, taps)
            out[n, 1] = reach
            if not (mean > 0.0):
                status[n] = BAD_SUMS
                break
            out[n, 0] = mean
            if mean <= size:
                break
            size = mean
        restore_source(work, noise, spans[0], spans[1], spans[2], spans[3], n)
