"""SDSS adaptive moments about a fixed centre, with sub-pixel sums for objects smaller than a pixel.

Gaussian weights follow the recurrence explained in `_hsm_kernels`.
"""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import helper, kernel
from zeropoint.kernels.spans import paste_source, restore_source
from zeropoint.measurement._hsm_kernels import weighted_sums

__all__ = ["sdss_shape", "sdss_shape_sources", "sdss_shape_stack", "smeared_sums", "subsampled_sums"]

#: Bits of the status.
UNWEIGHTED_BAD = 1
UNWEIGHTED = 2
SHIFT = 4
MAX_ITER = 8

RHO2_MAX = 14.0
START_MOMENT = 1.5
MAX_RADIUS = 1000.0
N_SUB = 4
#: Variance of the points of a pixel along each axis.
SUB_VARIANCE = (1.0 - 1.0 / N_SUB**2) / 12.0
#: Least variance of a weight, along its minor axis, from which a pixel needs no points (sums over noise err by 5e-4 there).
WIDE = 16.0
DAMP_AFTER = 20


@kernel
def subsampled_sums(image, cx, cy, mxx, myy, mxy, out):  # type: ignore[no-untyped-def]
    """`weighted_sums` with each pixel spread evenly over 4 x 4 points (weights averaged, not added)."""
    h, w = image.shape
    ixx = myy / (mxx * myy - mxy * mxy)
    slope = mxy / myy  # the ridge of the weight in row dy is at dx = slope * dy
    reach = math.sqrt(RHO2_MAX * myy)
    step, start = 1.0 / N_SUB, 0.5 / N_SUB - 0.5
    q = math.exp(-ixx * step * step)
    amp = bx = by = cxx = cyy = cxy = 0.0
    # points are numbered across pixels: m = N_SUB * pixel + number within the pixel
    m_top = min(N_SUB * h - 1, math.floor((cy + reach - start) / step))
    for n in range(max(0, math.ceil((cy - reach - start) / step)), m_top + 1):
        row = image[n // N_SUB]
        dy = start + n * step - cy
        along = dy * dy / myy
        half2 = (RHO2_MAX - along) / ixx
        if not (half2 >= 0.0):
            continue
        half = math.sqrt(half2)
        ridge = cx + slope * dy
        m_first = max(0, math.ceil((max(ridge - half, -1.0) - start) / step))
        m_last = min(N_SUB * w - 1, math.floor((min(ridge + half, float(w)) - start) / step))
        if m_last < m_first:
            continue
        t = start + m_first * step - ridge
        weight = math.exp(-0.5 * (ixx * t * t + along))
        ratio = math.exp(-0.5 * ixx * step * (2.0 * t + step))
        dx = start + m_first * step - cx
        s0 = s1 = s2 = 0.0
        for m in range(m_first, m_last + 1):
            f = weight * row[m // N_SUB]
            g = f * dx
            s0 += f
            s1 += g
            s2 += g * dx
            weight *= ratio
            ratio *= q
            dx += step
        amp += s0
        bx += s1
        by += dy * s0
        cxx += s2
        cxy += dy * s1
        cyy += dy * dy * s0
    scale = step * step
    out[0], out[1], out[2] = scale * amp, scale * bx, scale * by
    out[3], out[4], out[5] = scale * cxx, scale * cyy, scale * cxy


@kernel
def smeared_sums(image, cx, cy, mxx, myy, mxy, out):  # type: ignore[no-untyped-def]
    """What `subsampled_sums` approaches for weights wide against a pixel, by one weight a pixel.

    The mean over a pixel's points is nearly a convolution with a round Gaussian of their variance ``v``.  Convolved,
    the weight ``W`` becomes one of ``W + v``; ``A = W (W + v)^-1`` leads from a pixel's offset to the mean offset of
    the points that it stands for, and ``v A`` is their covariance.
    """
    vxx, vyy = mxx + SUB_VARIANCE, myy + SUB_VARIANCE
    weighted_sums(image, cx, cy, vxx, vyy, mxy, RHO2_MAX, out)
    det = vxx * vyy - mxy * mxy
    peak = math.sqrt((mxx * myy - mxy * mxy) / det)
    axx = (mxx * vyy - mxy * mxy) / det
    ayy = (myy * vxx - mxy * mxy) / det
    axy = SUB_VARIANCE * mxy / det
    amp, bx, by, cxx, cyy, cxy = out[0], out[1], out[2], out[3], out[4], out[5]
    out[0] = peak * amp
    out[1], out[2] = peak * (axx * bx + axy * by), peak * (axy * bx + ayy * by)
    out[3] = axx * axx * cxx + 2.0 * axx * axy * cxy + axy * axy * cyy + amp * SUB_VARIANCE * axx
    out[4] = axy * axy * cxx + 2.0 * axy * ayy * cxy + ayy * ayy * cyy + amp * SUB_VARIANCE * ayy
    out[5] = axx * axy * cxx + (axx * ayy + axy * axy) * cxy + axy * ayy * cyy + amp * SUB_VARIANCE * axy
    out[3], out[4], out[5] = peak * out[3], peak * out[4], peak * out[5]


@helper
def _unweighted(image, cx, cy, mxx, myy, out):  # type: ignore[no-untyped-def]
    """Fill ``out[:6]`` with the unweighted moments in the box of the last weight; return the extra status."""
    h, w = image.shape
    half = min(4.0 * math.sqrt(max(mxx, myy)), MAX_RADIUS)
    s = sx = sy = sxx = syy = sxy = 0.0
    for j in range(max(0, math.ceil(cy - half)), min(h - 1, math.floor(cy + half)) + 1):
        for i in range(max(0, math.ceil(cx - half)), min(w - 1, math.floor(cx + half)) + 1):
            dx, dy, f = i - cx, j - cy, np.float64(image[j, i])
            s += f
            sx += f * dx
            sy += f * dy
            sxx += f * dx * dx
            syy += f * dy * dy
            sxy += f * dx * dy
    out[0], out[1] = cx, cy
    if s > 0.0 and sxx > 0.0 and syy > 0.0 and sxx * syy > sxy * sxy:
        out[0], out[1] = cx + sx / s, cy + sy / s
        out[2], out[3], out[4] = sxx / s, syy / s, sxy / s
        return 0
    if s > 0.0:
        out[0], out[1] = cx + sx / s, cy + sy / s
        out[2], out[3], out[4] = 1.0 / 12.0, 1.0 / 12.0, 0.0
    else:
        out[2], out[3], out[4] = math.nan, math.nan, math.nan
    return UNWEIGHTED_BAD


@helper
def _weigh(image, cx, cy, wxx, wyy, wxy, fine, background, sums):  # type: ignore[no-untyped-def]
    """Fill ``sums`` with amplitude and moments under a weight; ``fine`` spreads pixels over points."""
    if fine and 0.5 * (wxx + wyy) - math.hypot(0.5 * (wxx - wyy), wxy) > WIDE:
        # noise upon a residual background grows without bound
        smeared_sums(image, cx, cy, wxx, wyy, wxy, sums)
    elif fine:
        subsampled_sums(image, cx, cy, wxx, wyy, wxy, sums)
    else:
        weighted_sums(image, cx, cy, wxx, wyy, wxy, RHO2_MAX, sums)
    if background != 0.0:
        # moments of a constant under the full weight
        level = background * 2.0 * math.pi * math.sqrt(wxx * wyy - wxy * wxy)
        sums[0] -= level
        sums[3] -= level * wxx
        sums[4] -= level * wyy
        sums[5] -= level * wxy


@helper
def _deconvolved(oxx, oyy, oxy, wxx, wyy, wxy):  # type: ignore[no-untyped-def]
    """Return ``(O^-1 - W^-1)^-1`` of moments O measured under the weight W, as xx, yy, xy; zeros if there is none."""
    odet, det = oxx * oyy - oxy * oxy, wxx * wyy - wxy * wxy
    if not (odet > 0.0):
        return 0.0, 0.0, 0.0
    nxx, nyy, nxy = oyy / odet - wyy / det, oxx / odet - wxx / det, -oxy / odet + wxy / det
    ndet = nxx * nyy - nxy * nxy
    if not (ndet > 0.0 and nxx > 0.0):
        return 0.0, 0.0, 0.0
    return nyy / ndet, nxx / ndet, -nxy / ndet


@helper
def sdss_shape(image, cx, cy, max_shift, max_iter, background, tol_e, tol_size, sums, out):  # type: ignore[no-untyped-def]
    """Measure adaptive moments about a fixed centre; return the status bits.

    Each pass measures moments ``O`` under the weight ``W`` and sets ``W <- (O^-1 - W^-1)^-1``, whose fixed
    point is the covariance of a Gaussian object (Bernstein & Jarvis 2002).

    Parameters
    ----------
    image : float32 or float64, shape (h, w)
        Pixels.
    cx, cy : float
        Centre in pixels of ``image``.
    max_shift : float
        Weighted centroids farther than this set `SHIFT`.
    max_iter : int
        Passes.
    background : float
        Level to subtract.
    tol_e, tol_size : float
        Change of ellipticity and relative change of size at convergence.
    sums : float64, shape (6,)
        Scratch.
    out : float64, shape (6,)
        Filled with x, y, xx, yy, xy and the peak of the Gaussian (NaN if unweighted).
    """
    out[:] = math.nan
    wxx = wyy = START_MOMENT
    wxy = 0.0
    fine = False
    e1_old = e2_old = oxx_old = 0.0
    status = UNWEIGHTED | MAX_ITER
    lxx = lyy = START_MOMENT
    for iteration in range(max_iter):
        lxx, lyy = wxx, wyy
        fine = fine or wxx < 0.25 or wyy < 0.25 or wxx * wyy - wxy * wxy < 0.0625
        _weigh(image, cx, cy, wxx, wyy, wxy, fine, background, sums)
        amp = sums[0]
        if not (amp > 0.0 and sums[3] > 0.0 and sums[4] > 0.0):
            status = UNWEIGHTED
            break
        oxx, oyy, oxy = sums[3] / amp, sums[4] / amp, sums[5] / amp
        e1, e2 = (oxx - oyy) / (oxx + oyy), 2.0 * oxy / (oxx + oyy)
        vxx, vyy, vxy = _deconvolved(oxx, oyy, oxy, wxx, wyy, wxy)
        if not (vxx > 0.0):
            status = UNWEIGHTED
            break
        converged = (
            iteration > 0
            and abs(e1 - e1_old) < tol_e
            and abs(e2 - e2_old) < tol_e
            and abs(oxx / oxx_old - 1.0) < tol_size
        )
        if iteration >= DAMP_AFTER:
            # objects near the corner of a pixel can make the plain iteration swing between two shapes
            vxx, vyy, vxy = 0.5 * (vxx + wxx), 0.5 * (vyy + wyy), 0.5 * (vxy + wxy)
        wxx, wyy, wxy = vxx, vyy, vxy
        if not (max(wxx, wyy) < MAX_RADIUS * MAX_RADIUS):
            status = UNWEIGHTED
            break
        e1_old, e2_old, oxx_old = e1, e2, oxx
        if converged:
            status = 0
            out[0], out[1] = cx + sums[1] / amp, cy + sums[2] / amp
            out[2], out[3], out[4] = wxx, wyy, wxy
            out[5] = amp / (math.pi * math.sqrt(wxx * wyy - wxy * wxy))
            break
    if (status & UNWEIGHTED) != 0:
        status |= _unweighted(image, cx, cy, lxx, lyy, out)
    if math.hypot(out[0] - cx, out[1] - cy) > max_shift:
        status |= SHIFT
    return status


@kernel
def sdss_shape_sources(  # type: ignore[no-untyped-def]
    work,
    noise,
    spans,
    pixel_offsets,
    pixels,
    x,
    y,
    max_shift,
    max_iter,
    background,
    tol_e,
    tol_size,
    out,
    status,
):
    """`sdss_shape` of all sources, each pasted into ``work`` in turn.

    Parameters
    ----------
    work, noise : float32, shape (H, W)
        Image that sources are pasted into, and what to restore.
    spans, pixel_offsets, pixels
        Sources' runs and pixels (`MeasurementContext`).
    x, y : float64, shape (n,)
        Centres; sources off the image or without position become `UNWEIGHTED | UNWEIGHTED_BAD`.
    out : float64, shape (n, 6)
        See `sdss_shape`.
    status : int64, shape (n,)
        Status bits.
    """
    h, w = work.shape
    sums = np.empty(6)
    for k in range(len(x)):
        if not (x[k] > -0.5 and x[k] < w - 0.5 and y[k] > -0.5 and y[k] < h - 0.5):
            out[k, :] = math.nan
            status[k] = UNWEIGHTED | UNWEIGHTED_BAD
            continue
        paste_source(work, spans[0], spans[1], spans[2], spans[3], k, pixel_offsets, pixels)
        status[k] = sdss_shape(
            work, x[k], y[k], max_shift, max_iter, background, tol_e, tol_size, sums, out[k]
        )
        restore_source(work, noise, spans[0], spans[1], spans[2], spans[3], k)


@kernel
def sdss_shape_stack(stamps, x, y, max_shift, max_iter, out, status):  # type: ignore[no-untyped-def]
    """`sdss_shape` of float64 stamps (n, h, w) with centres in stamp pixels."""
    sums = np.empty(6)
    for k in range(len(x)):
        status[k] = sdss_shape(stamps[k], x[k], y[k], max_shift, max_iter, 0.0, 1e-5, 1e-4, sums, out[k])
