"""Kernels of the rough shapelet step: raw moments of footprints, and the shapelet basis."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import kernel

__all__ = ["polar_shapelets", "raw_moments"]


@kernel
def raw_moments(  # type: ignore[no-untyped-def]
    image, variance, mask, bad_bits, rows, span_offsets, span_y, span_x0, span_x1, out
):
    """Measure unweighted moments of footprints over their good pixels.

    Parameters
    ----------
    image, variance : float32, shape (h, w)
    mask : int32, shape (h, w)
    bad_bits : int32
        A pixel with one of these bits is left out.
    rows : int64, shape (n,)
        Footprints to measure.
    span_offsets, span_y, span_x0, span_x1
        Spans, as in `FootprintSet`.
    out : float64, shape (n, 11)
        Filled: number of pixels, of bad pixels, flux, its variance, x, y, xx, yy, xy, whether the center lies
        in the footprint, squared distance of the nearest bad pixel (infinite if none).
    """
    for i in range(rows.size):
        row = rows[i]
        n, n_bad, total, noise, mx, my = 0, 0, 0.0, 0.0, 0.0, 0.0
        for s in range(span_offsets[row], span_offsets[row + 1]):
            y = span_y[s]
            for x in range(span_x0[s], span_x1[s] + 1):
                n += 1
                if mask[y, x] & bad_bits:
                    n_bad += 1
                    continue
                v = float(image[y, x])
                total += v
                noise += variance[y, x]
                mx += v * x
                my += v * y
        if total == 0.0:
            out[i] = np.nan
            continue
        mx, my = mx / total, my / total
        xx, yy, xy, nearest, inside = 0.0, 0.0, 0.0, np.inf, 0.0
        for s in range(span_offsets[row], span_offsets[row + 1]):
            y = span_y[s]
            dy = y - my
            if math.floor(my + 0.5) == y and span_x0[s] <= math.floor(mx + 0.5) <= span_x1[s]:
                inside = 1.0
            for x in range(span_x0[s], span_x1[s] + 1):
                dx = x - mx
                if mask[y, x] & bad_bits:
                    nearest = min(nearest, dx * dx + dy * dy)
                    continue
                v = float(image[y, x])
                xx += v * dx * dx
                yy += v * dy * dy
                xy += v * dx * dy
        out[i, 0], out[i, 1], out[i, 2], out[i, 3], out[i, 4], out[i, 5] = n, n_bad, total, noise, mx, my
        out[i, 6], out[i, 7], out[i, 8] = xx / total, yy / total, xy / total
        out[i, 9], out[i, 10] = inside, nearest


@kernel
def polar_shapelets(u, v, order, out):  # type: ignore[no-untyped-def]
    """Evaluate the real orthonormal polar shapelets of a unit circle.

    With ``p + q = n <= order``, ``m = p - q >= 0`` and ``r^2 = u^2 + v^2`` the functions are real and imaginary
    part (times sqrt 2) of ``(-1)^q / sqrt(pi) sqrt(q!/p!) (u + i v)^m L_q^m(r^2) exp(-r^2/2)``, ordered by n,
    then by falling m, real before imaginary (Bernstein & Jarvis 2002).

    Parameters
    ----------
    u, v : float64, shape (n,)
        Positions in units of the circle's radius.
    order : int
        Highest n.
    out : float64, shape (n, (order + 1)(order + 2)/2)
        Filled.
    """
    for i in range(u.size):
        r2 = u[i] * u[i] + v[i] * v[i]
        envelope = math.exp(-0.5 * r2) / math.sqrt(math.pi)
        re, im = 1.0, 0.0  # (u + i v)^m
        for m in range(order + 1):
            # Laguerre recurrence in q: (q+1) L_{q+1} = (2q + 1 + m - r2) L_q - (q + m) L_{q-1}
            before, now = 0.0, 1.0
            norm = 1.0  # sqrt(q! / (q + m)!)
            for k in range(1, m + 1):
                norm /= math.sqrt(k)
            for q in range((order - m) // 2 + 1):
                n = m + 2 * q
                value = envelope * now * norm * (-1.0 if q % 2 == 1 else 1.0)
                column = n * (n + 1) // 2 + n - m
                if m == 0:
                    out[i, column] = value
                else:
                    out[i, column] = math.sqrt(2.0) * value * re
                    out[i, column + 1] = math.sqrt(2.0) * value * im
                before, now = now, ((2 * q + 1 + m - r2) * now - (q + m) * before) / (q + 1)
                norm *= math.sqrt((q + 1.0) / (q + 1.0 + m))
            re, im = re * u[i] - im * v[i], re * v[i] + im * u[i]
