"""PSF-corrected ellipticities by re-Gaussianization (Hirata & Seljak 2003, section 2.4).

A Gaussian stand-in ``f0`` of the galaxy before the PSF is convolved with what the PSF has beyond its own
Gaussian; taking that off the image leaves a galaxy seen through a Gaussian PSF, whose ellipticity has a
closed correction (Bernstein & Jarvis 2002, section 7, with the fourth-moment term of Hirata & Seljak).
"""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import helper, kernel
from zeropoint.kernels.spans import paste_source, restore_source
from zeropoint.measurement._hsm_kernels import RHO2_MAX, cut_stamp, hsm_moments

__all__ = ["regauss", "regauss_sources"]

#: Reach of the stand-in in its own sigmas, and of the PSF residual in those of the galaxy.
REACH_F0 = 3.0
REACH_RESIDUAL = 3.6
#: Smallest variance of the stand-in along any axis.
MIN_F0 = 0.25
#: Galaxies whose stand-in is wider than this get no residual: it would change ellipticities by less than
#: 1e-4, and its cost grows with the area.
MAX_F0_SIGMA = 20.0


@helper
def fourth_moment(image, shape):  # type: ignore[no-untyped-def]
    """Return ``(sum w I, sum w I rho^4/sum w I)`` under the Gaussian weight of x, y, xx, yy, xy = shape[:5]."""
    h, w = image.shape
    det = shape[2] * shape[3] - shape[4] * shape[4]
    ixx, iyy, ixy = shape[3] / det, shape[2] / det, -shape[4] / det
    rx, ry = math.sqrt(RHO2_MAX * shape[2]), math.sqrt(RHO2_MAX * shape[3])
    i_first, i_last = max(0, math.ceil(shape[0] - rx)), min(w - 1, math.floor(shape[0] + rx))
    amp = total = 0.0
    q = math.exp(-ixx)
    for j in range(max(0, math.ceil(shape[1] - ry)), min(h - 1, math.floor(shape[1] + ry)) + 1):
        dy = j - shape[1]
        dx = i_first - shape[0]
        # start the recurrence at the ridge of the row, where the weight cannot underflow
        ridge = min(max(round(shape[0] - ixy / ixx * dy), i_first), i_last)
        for side in (-1, 1):
            i = ridge if side == 1 else ridge - 1
            dx = i - shape[0]
            rho2 = ixx * dx * dx + 2.0 * ixy * dx * dy + iyy * dy * dy
            weight = math.exp(-0.5 * rho2)
            ratio = math.exp(-side * (ixx * dx + ixy * dy) - 0.5 * ixx)
            while i_first <= i <= i_last:
                dx = i - shape[0]
                rho2 = ixx * dx * dx + 2.0 * ixy * dx * dy + iyy * dy * dy
                if rho2 > RHO2_MAX:
                    break
                f = weight * image[j, i]
                amp += f
                total += f * rho2 * rho2
                weight *= ratio
                ratio *= q
                i += side
    return amp, total / amp


@helper
def _compose(e1a, e2a, e1b, e2b):  # type: ignore[no-untyped-def]
    """Return the ellipticity of a shape ``a`` sheared by ``b`` (Bernstein & Jarvis 2002, equation 2-13)."""
    dot = e1a * e1b + e2a * e2b
    factor = 1.0 / (1.0 + math.sqrt(max(1.0 - e1b * e1b - e2b * e2b, 0.0)))
    cross = e2a * e1b - e1a * e2b
    return (e1a + e1b + e2b * factor * cross) / (1.0 + dot), (e2a + e2b - e1b * factor * cross) / (1.0 + dot)


@helper
def _corrected(trace_ratio, e1p, e2p, e1o, e2o, a4o):  # type: ignore[no-untyped-def]
    """Undo the dilution by a Gaussian PSF, in the frame in which that is round."""
    size_ratio = trace_ratio * math.sqrt((1.0 - e1p * e1p - e2p * e2p) / (1.0 - e1o * e1o - e2o * e2o))
    e1, e2 = _compose(e1o, e2o, -e1p, -e2p)
    resolution = 1.0 - size_ratio * (1.0 + a4o) / (1.0 - a4o) * math.sqrt(1.0 - e1 * e1 - e2 * e2)
    return _compose(e1 / resolution, e2 / resolution, e1p, e2p)


@helper
def _stand_in(m, out):  # type: ignore[no-untyped-def]
    """Limit the axes of the 2x2 matrix ``m`` (xx, yy, xy) from below; fill ``out``."""
    mean, diff = 0.5 * (m[0] + m[1]), 0.5 * (m[0] - m[1])
    half = math.hypot(diff, m[2])
    c, s = (diff / half, m[2] / half) if half > 0.0 else (1.0, 0.0)
    major, minor = max(mean + half, MIN_F0), max(mean - half, MIN_F0)
    out[0] = 0.5 * (major + minor + (major - minor) * c)
    out[1] = 0.5 * (major + minor - (major - minor) * c)
    out[2] = 0.5 * (major - minor) * s


@helper
def _psf_residual(psf, shape, flux, box, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with the PSF's own Gaussian minus the PSF inside ``box`` (x0, y0, x1, y1)."""
    det = shape[2] * shape[3] - shape[4] * shape[4]
    ixx, iyy, ixy = shape[3] / det, shape[2] / det, -shape[4] / det
    peak = flux / (2.0 * math.pi * math.sqrt(det))
    for j in range(box[1], box[3] + 1):
        dy = j - shape[1]
        for i in range(box[0], box[2] + 1):
            dx = i - shape[0]
            rho2 = ixx * dx * dx + 2.0 * ixy * dx * dy + iyy * dy * dy
            out[j, i] = (peak * math.exp(-0.5 * rho2) if rho2 < 80.0 else 0.0) - psf[j, i]


@helper
def _gaussian_taps(variance, centre, first, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with a Gaussian at ``first, first + 1, ...`` that sums to 1."""
    total = 0.0
    for k in range(out.size):
        out[k] = math.exp(-0.5 * (first + k - centre) ** 2 / variance)
        total += out[k]
    for k in range(out.size):
        out[k] /= total


@helper
def _add_convolved_round(image, residual, box, variance, first, last, centre_x, centre_y, scale):  # type: ignore[no-untyped-def]
    """`_add_convolved` for a round Gaussian, one axis after the other.

    ``first`` and ``last`` are the smallest and the largest shift in x and y.
    """
    h, w = image.shape
    taps_x, taps_y = np.empty(last[0] - first[0] + 1), np.empty(last[1] - first[1] + 1)
    _gaussian_taps(variance, centre_x, first[0], taps_x)
    _gaussian_taps(variance, centre_y, first[1], taps_y)
    x_first, x_last = max(0, box[0] + first[0]), min(w - 1, box[2] + last[0])
    line = np.empty(max(x_last - x_first + 1, 1))
    for j in range(box[1], box[3] + 1):
        # one row of the residual, convolved along x
        line[:] = 0.0
        for k in range(taps_x.size):
            d = first[0] + k
            a, b = max(box[0] + d, x_first), min(box[2] + d, x_last)
            if b >= a:
                target, source = line[a - x_first : b - x_first + 1], residual[j, a - d : b - d + 1]
                for i in range(target.size):
                    target[i] += taps_x[k] * source[i]
        for k in range(max(0, -first[1] - j), min(taps_y.size, h - first[1] - j)):
            target = image[j + first[1] + k, x_first : x_last + 1]
            weight = scale * taps_y[k]
            for i in range(target.size):
                target[i] += weight * line[i]


@kernel
def _add_convolved(image, residual, box, f0, centre_x, centre_y, scale):  # type: ignore[no-untyped-def]
    """Add ``scale`` x (normalized Gaussian of moments ``f0``) convolved with ``residual`` to ``image``."""
    h, w = image.shape
    size_y, size_x = residual.shape
    det = f0[0] * f0[1] - f0[2] * f0[2]
    ixx, iyy, ixy = f0[1] / det, f0[0] / det, -f0[2] / det
    rx, ry = REACH_F0 * math.sqrt(max(f0[0], 1.0)), REACH_F0 * math.sqrt(max(f0[1], 1.0))
    d_first, d_last = max(1 - size_x, math.floor(centre_x - rx)), min(w - 1, math.ceil(centre_x + rx))
    e_first, e_last = max(1 - size_y, math.floor(centre_y - ry)), min(h - 1, math.ceil(centre_y + ry))
    if f0[2] == 0.0 and f0[0] == f0[1] and d_last >= d_first and e_last >= e_first:
        # the stand-in of a star is as small as allowed, hence round
        _add_convolved_round(
            image, residual, box, f0[0], (d_first, e_first), (d_last, e_last), centre_x, centre_y, scale
        )
        return
    total = 0.0
    for sweep in range(2):
        for e in range(e_first, e_last + 1):
            dy = e - centre_y
            for d in range(d_first, d_last + 1):
                dx = d - centre_x
                g = math.exp(-0.5 * (ixx * dx * dx + 2.0 * ixy * dx * dy + iyy * dy * dy))
                if sweep == 0:
                    total += g
                    continue
                g *= scale / total
                i_first, i_end = max(box[0], -d), min(box[2] + 1, w - d)
                if i_end <= i_first:
                    continue
                for j in range(max(box[1], -e), min(box[3], h - 1 - e) + 1):
                    target, source = image[j + e, i_first + d : i_end + d], residual[j, i_first:i_end]
                    for i in range(target.size):
                        target[i] += g * source[i]


@kernel
def regauss(image, psf, start, psf_start, residual, scratch, out):  # type: ignore[no-untyped-def]
    """Estimate the ellipticity of one galaxy before the PSF; return the status.

    Parameters
    ----------
    image : float64, shape (h, w)
        Pixels, 0 where masked; changed in place to the re-Gaussianized image.
    psf : float64, shape (s, s)
        PSF image.
    start : float64, shape (5,)
        Starting x, y, xx, yy, xy in pixels of ``image``.
    psf_start : float64, shape (5,)
        Starting x, y, xx, yy, xy of the PSF in pixels of ``psf``.
    residual : float64, shape (s, s)
        Scratch.
    scratch : float64, shape (24,)
        Scratch.
    out : float64, shape (4,)
        Filled with e1, e2 (Bernstein & Jarvis distortions), resolution, and width/(resolution x flux),
        to which the error is proportional.

    Returns
    -------
    status : int
        0 good; 1 to 5 moments failed (`hsm_moments`); 6 not finite; 7 smaller than the PSF.
    """
    sums, gal, point, f0 = scratch[:6], scratch[6:12], scratch[12:18], scratch[18:21]
    elliptical = np.bool_(
        False
    )  # a literal would be a type of its own, compiled beside that of other callers
    code = hsm_moments(
        psf, psf_start[0], psf_start[1], psf_start[2], psf_start[3], psf_start[4], elliptical, sums, point
    )
    if code != 0:
        return code
    code = hsm_moments(image, start[0], start[1], start[2], start[3], start[4], elliptical, sums, gal)
    if code != 0:
        return code
    amp, rho4 = fourth_moment(image, gal)
    flux = rho4 * amp
    f0[0], f0[1], f0[2] = gal[2] - point[2], gal[3] - point[3], gal[4] - point[4]
    _stand_in(f0, f0)
    sx, sy = math.sqrt(max(f0[0], 1.0)), math.sqrt(max(f0[1], 1.0))
    if max(sx, sy) < MAX_F0_SIGMA:
        size = psf.shape[0]
        psf_flux = psf.sum()
        reach_x = REACH_RESIDUAL * math.sqrt(gal[2]) + REACH_F0 * sx
        reach_y = REACH_RESIDUAL * math.sqrt(gal[3]) + REACH_F0 * sy
        box = (
            max(0, math.floor(point[0] - reach_x)),
            max(0, math.floor(point[1] - reach_y)),
            min(size - 1, math.ceil(point[0] + reach_x)),
            min(size - 1, math.ceil(point[1] + reach_y)),
        )
        _psf_residual(psf, point, psf_flux, box, residual)
        _add_convolved(image, residual, box, f0, gal[0] - point[0], gal[1] - point[1], flux / psf_flux)
        code = hsm_moments(image, gal[0], gal[1], gal[2], gal[3], gal[4], elliptical, sums, gal)
        if code != 0:
            return code
        amp, rho4 = fourth_moment(image, gal)
    trace, psf_trace = gal[2] + gal[3], point[2] + point[3]
    e1, e2 = _corrected(
        psf_trace / trace,
        (point[2] - point[3]) / psf_trace,
        2.0 * point[4] / psf_trace,
        (gal[2] - gal[3]) / trace,
        2.0 * gal[4] / trace,
        0.5 * rho4 - 1.0,
    )
    resolution = 1.0 - psf_trace / trace
    width = (gal[2] * gal[3] - gal[4] * gal[4]) ** 0.25
    out[0], out[1], out[2], out[3] = e1, e2, resolution, width / (resolution * flux)
    if not (resolution > 0.0):
        return 7
    return 0 if abs(e1) + abs(e2) + abs(out[3]) < math.inf else 6


@kernel
def regauss_sources(  # type: ignore[no-untyped-def]
    work, noise, spans, pixel_offsets, pixels, mask, bad_bits, boxes, psfs, start, psf_start, out, status
):
    """`regauss` of all sources.

    Parameters
    ----------
    work, noise, spans, pixel_offsets, pixels, mask, bad_bits, boxes
        As in `hsm_sources`.
    psfs : float64, shape (n, s, s)
        PSF images at the sources.
    start : float64, shape (n, 5)
        Starting x, y (image pixels), xx, yy, xy of each source.
    psf_start : float64, shape (n, 5)
        Starting moments of each PSF image.
    out : float64, shape (n, 4)
        As in `regauss`; NaN where the status is not 0.
    status : int64, shape (n,)
        Sources whose status is not 0 on entry are skipped.
    """
    largest = 1
    for k in range(boxes.shape[0]):
        if status[k] == 0:
            largest = max(largest, (boxes[k, 2] - boxes[k, 0] + 1) * (boxes[k, 3] - boxes[k, 1] + 1))
    stamp = np.empty(largest)
    good = np.empty(largest, np.bool_)
    residual = np.zeros((psfs.shape[1], psfs.shape[2]))
    scratch = np.empty(24)
    first = np.empty(5)
    for k in range(boxes.shape[0]):
        out[k, :] = math.nan
        if status[k] != 0:
            continue
        x0, y0, x1, y1 = boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3]
        paste_source(work, spans[0], spans[1], spans[2], spans[3], k, pixel_offsets, pixels)
        cut_stamp(work, mask, bad_bits, x0, y0, x1, y1, stamp, good)
        restore_source(work, noise, spans[0], spans[1], spans[2], spans[3], k)
        w, h = x1 - x0 + 1, y1 - y0 + 1
        for m in range(first.size):
            first[m] = start[k, m]
        first[0] -= x0
        first[1] -= y0
        status[k] = regauss(
            stamp[: w * h].reshape(h, w), psfs[k], first, psf_start[k], residual, scratch, out[k]
        )
        if status[k] != 0:
            out[k, :] = math.nan
