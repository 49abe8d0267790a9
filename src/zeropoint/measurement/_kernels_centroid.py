"""Kernels of the PSF-weighted centroid: maximum of the smoothed image, then a photon-weighted PSF fit."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import helper, kernel
from zeropoint.kernels.spans import paste_source, restore_source

__all__ = ["refine_centroids", "smoothed_peaks"]

# bits of the state that `smoothed_peaks` reports
OK, EDGE, NO_SECOND_DERIVATIVE, NOT_AT_MAXIMUM, NEAR_EDGE = 0, 1, 2, 4, 8


@helper
def _quartic(vm, v0, vp):  # type: ignore[no-untyped-def]
    """Return ``(ok, offset)`` of the maximum through three values, with the quartic term of a Gaussian."""
    sp = v0 - vp
    sm = v0 - vm
    d2 = sp + sm
    s = 0.5 * (vp - vm)
    if not (d2 > 0.0 and v0 > 0.0):
        return False, 0.0
    c = s / d2 * (1.0 + 1.33 * sp * sm / (d2 * v0))
    return abs(c) < 1.0, c


@helper
def _axis_error(sky_var, src_var, sigma2, s, d, vpk, k):  # type: ignore[no-untyped-def]
    """Return the error of the smoothed maximum along one axis (slope ``s``, curvature ``d``), in pixels."""
    if abs(vpk) < 1e-30 or abs(d) < 1e-30:
        return 1e3
    q = 1.0 / sigma2
    pi = math.pi
    s_var = sky_var / (8 * pi * sigma2) * (1 - math.exp(-q)) + src_var / (12 * pi * sigma2) * (
        math.exp(-q / 3) - math.exp(-q)
    )
    d_var = sky_var / (2 * pi * sigma2) * (3 - 4 * math.exp(-q / 4) + math.exp(-q)) + src_var / (
        3 * pi * sigma2
    ) * (2 - 3 * math.exp(-q / 3) + math.exp(-q))
    by_slope = 1 / d + k / (4 * vpk) * (1 - 12 * s * s / (d * d))
    by_curve = s / (d * d) - k / (4 * vpk) * 8 * s * s / (d * d * d)
    var = s_var * by_slope * by_slope + d_var * by_curve * by_curve
    return math.sqrt(var) if var >= 0.0 else math.nan


@helper
def _smooth_3x3(image, variance, kern, x0, y0, bx, by, binned, binned_var, out, out_var):  # type: ignore[no-untyped-def]
    """Fill 3 x 3 values of the binned image correlated with ``kern``, and their variances.

    The sub-image starts at pixel (x0, y0) and is ``kern`` plus 2 binned pixels in size.
    """
    kh, kw = kern.shape
    norm = 1.0 / (bx * by)
    for j in range(kh + 2):
        for i in range(kw + 2):
            v = 0.0
            q = 0.0
            for jj in range(by):
                for ii in range(bx):
                    value = image[y0 + j * by + jj, x0 + i * bx + ii]
                    # a lost pixel counts as empty, unless it is one of the innermost
                    if abs(value) < np.inf or (abs(j - kh // 2 - 1) <= 1 and abs(i - kw // 2 - 1) <= 1):
                        v += value
                        q += variance[y0 + j * by + jj, x0 + i * bx + ii]
            binned[j, i] = v * norm
            binned_var[j, i] = q * norm * norm
    for dj in range(3):
        # six independent sums hide the latency of addition
        v0 = v1 = v2 = q0 = q1 = q2 = 0.0
        for j in range(kh):
            row = kern[j]
            a = binned[j + dj]
            b = binned_var[j + dj]
            for i in range(kw):
                k = row[i]
                kk = k * k
                v0 += k * a[i]
                v1 += k * a[i + 1]
                v2 += k * a[i + 2]
                q0 += kk * b[i]
                q1 += kk * b[i + 1]
                q2 += kk * b[i + 2]
        out[dj, 0], out[dj, 1], out[dj, 2] = v0, v1, v2
        out_var[dj, 0], out_var[dj, 1], out_var[dj, 2] = q0, q1, q2


@helper
def _fit_3x3(m, mv, sigma2, result):  # type: ignore[no-untyped-def]
    """Fit the maximum of a smoothed 3 x 3 patch; fill ``(xc, yc, xerr, yerr, tau_x2, tau_y2)``.

    Returns the state bits.
    """
    d2x = 2 * m[1, 1] - m[1, 0] - m[1, 2]
    d2y = 2 * m[1, 1] - m[0, 1] - m[2, 1]
    sx = 0.5 * (m[1, 2] - m[1, 0])
    sy = 0.5 * (m[2, 1] - m[0, 1])
    if not (math.isfinite(d2x) and math.isfinite(d2y)) or d2x == 0.0 or d2y == 0.0:
        return NO_SECOND_DERIVATIVE
    if d2x < 0.0 or d2y < 0.0:
        return NOT_AT_MAXIMUM
    dx0 = sx / d2x
    dy0 = sy / d2y
    if abs(dx0) > 10.0 or abs(dy0) > 10.0:
        return NO_SECOND_DERIVATIVE
    vpk = m[1, 1] + 0.5 * (sx * dx0 + sy * dy0)
    ok0, m0x = _quartic(m[0, 0], m[0, 1], m[0, 2])
    ok1, m1x = _quartic(m[1, 0], m[1, 1], m[1, 2])
    ok2, m2x = _quartic(m[2, 0], m[2, 1], m[2, 2])
    ok3, m0y = _quartic(m[0, 0], m[1, 0], m[2, 0])
    ok4, m1y = _quartic(m[0, 1], m[1, 1], m[2, 1])
    ok5, m2y = _quartic(m[0, 2], m[1, 2], m[2, 2])
    sig_x2 = vpk / d2x
    sig_y2 = vpk / d2y
    xc, yc, k = dx0, dy0, 0.0
    if ok0 and ok1 and ok2 and ok3 and ok4 and ok5:
        k = 1.33
        smx = 0.5 * (m2x - m0x)
        smy = 0.5 * (m2y - m0y)
        dm2x = m1x - 0.5 * (m0x + m2x)
        dm2y = m1y - 0.5 * (m0y + m2y)
        dx = m1x + dy0 * (smx - dy0 * dm2x)
        dy = m1y + dx0 * (smy - dx0 * dm2y)
        xc = m1x + dy * (smx - dy * dm2x)
        yc = m1y + dx * (smy - dx * dm2y)
        sig_x2 -= (1 + 6 * dx0 * dx0) / 4
        sig_y2 -= (1 + 6 * dy0 * dy0) / 4
    sky_var = 0.0
    for j in range(3):
        for i in range(3):
            sky_var += mv[j, i]
    src_var = mv[1, 1] * 4 * math.pi * sigma2
    sky_var = (sky_var - mv[1, 1]) / 8 * 4 * math.pi * sigma2
    result[0] = xc
    result[1] = yc
    result[2] = _axis_error(sky_var, src_var, sigma2, sx, d2x, vpk, k)
    result[3] = _axis_error(sky_var, src_var, sigma2, sy, d2y, vpk, k)
    result[4] = max(sig_x2 - sigma2, sigma2)
    result[5] = max(sig_y2 - sigma2, sigma2)
    return OK


@helper
def _one_peak(image, variance, kern, tiny, sigma, x, y, peak_value, binmax, peak_min, wfac, scratch, result):  # type: ignore[no-untyped-def]
    """Centroid of one source at nearest pixel (x, y), binning until its size suits; return (state, bin)."""
    h, w = image.shape
    bx = by = 1
    state = OK
    m, mv, binned, binned_var = scratch
    fit = np.empty(6)
    size = 1
    bins = 1
    while size <= binmax:
        use = kern
        s2 = sigma * sigma
        half = kern.shape[0] // 2
        if (
            x - bx * (2 + half) < 0
            or y - by * (2 + half) < 0
            or (
                x - bx * (2 + half) + bx * (kern.shape[0] + 4) > w
                or y - by * (2 + half) + by * (kern.shape[0] + 4) > h
            )
        ):
            use = tiny
            s2 = 0.25
            half = 2
            state |= NEAR_EDGE
            if x - bx * 4 < 0 or y - by * 4 < 0 or x + bx * 5 > w or y + by * 5 > h:
                return EDGE, bins
        # central 3 x 3 of the correlated sub-image: binned pixels 1 .. kw + 2 of kw + 4
        x0 = x - bx * (2 + half) + bx
        y0 = y - by * (2 + half) + by
        _smooth_3x3(image, variance, use, x0, y0, bx, by, binned, binned_var, m, mv)
        found = _fit_3x3(m, mv, s2, fit)
        if found != OK:
            return state | found, bins
        xc = (fit[0] + 0.5) * bx - 0.5
        yc = (fit[1] + 0.5) * by - 0.5
        result[0] = x + xc
        result[1] = y + yc
        result[2] = fit[2] * bx
        result[3] = fit[3] * by
        bins = bx * by
        if state & NEAR_EDGE:
            return state, bins
        fac = wfac * (1 + s2)
        fac_x = fac * bx * bx
        fac_y = fac * by * by
        good_x = fit[4] * bx * bx < fac_x and xc * xc < fac_x
        good_y = fit[5] * by * by < fac_y and yc * yc < fac_y
        if good_x and good_y:
            if not (peak_min >= 0.0 and size == 1 and peak_value < peak_min):
                return state, bins
            good_x = good_y = False
        if not good_x:
            bx *= 2
        if not good_y:
            by *= 2
        size *= 2
    return state, bins


@kernel
def smoothed_peaks(  # type: ignore[no-untyped-def]
    work, noise, variance, spans, pixel_offsets, pixels, start, kernels, node, sigma, limits, state, result
):
    """Find the maximum of the PSF-smoothed image near each source.

    The nearest pixel's 3 x 3 smoothed values are interpolated by a quadratic with a quartic correction; sources
    broader than the PSF are binned by 2, 4, ... first (the algorithm of the SDSS photometric pipeline).

    Parameters
    ----------
    work, noise, variance : float32, shape (h, w)
        Image with sources replaced, the same again, variance.
    spans, pixel_offsets, pixels
        Every source's own pixels.
    start : float64, shape (n, 2)
        Starting x, y.
    kernels : float64, shape (n_nodes, k, k)
        PSF kernel images.
    node : int64, shape (n,)
        Which kernel each source uses.
    sigma : float64, shape (n_nodes,)
        PSF determinant radius of each kernel, pixels.
    limits : tuple of int, float, float
        Largest bin, faintest peak that need not be binned (negative: none), factor of the size limit.
    state : int64, shape (n, 2)
        Filled: state bits, pixels per bin at the end.
    result : float64, shape (n, 4)
        Filled: x, y and their errors; x, y are the start and the errors NaN where nothing was found.
    """
    h, w = work.shape
    span_offsets, span_y, span_x0, span_x1 = spans
    k = kernels.shape[1]
    tiny = np.empty((5, 5))
    total = 0.0
    for j in range(5):
        for i in range(5):
            tiny[j, i] = math.exp(-2.0 * ((i - 2) ** 2 + (j - 2) ** 2))
            total += tiny[j, i]
    for j in range(5):
        for i in range(5):
            tiny[j, i] /= total
    side = max(k, 5) + 2
    scratch = (np.empty((3, 3)), np.empty((3, 3)), np.empty((side, side)), np.empty((side, side)))
    for n in range(start.shape[0]):
        result[n, 0] = start[n, 0]
        result[n, 1] = start[n, 1]
        result[n, 2] = math.nan
        result[n, 3] = math.nan
        state[n, 0] = EDGE
        state[n, 1] = 1
        if not (math.isfinite(start[n, 0]) and math.isfinite(start[n, 1])):
            continue
        x = math.floor(start[n, 0] + 0.5)
        y = math.floor(start[n, 1] + 0.5)
        if x < 0 or y < 0 or x >= w or y >= h:
            continue
        paste_source(work, span_offsets, span_y, span_x0, span_x1, n, pixel_offsets, pixels)
        state[n, 0], state[n, 1] = _one_peak(
            work, variance, kernels[node[n]], tiny, sigma[node[n]], x, y, work[y, x],
            limits[0], limits[1], limits[2], scratch, result[n],
        )  # fmt: skip
        restore_source(work, noise, span_offsets, span_y, span_x0, span_x1, n)


@helper
def _d1(a, b, c, d, e, f):  # type: ignore[no-untyped-def]
    """Seven-point first derivative from values at -3, -2, -1, 1, 2, 3."""
    return (f - a) / 60.0 - 0.15 * (e - b) + 0.75 * (d - c)


@helper
def _d2(a, b, c, m, d, e, f):  # type: ignore[no-untyped-def]
    """Seven-point second derivative."""
    return (f + a) / 90.0 - 0.15 * (e + b) + 1.5 * (d + c) - 49.0 / 18.0 * m


@helper
def _variance_model(variance, ok, p, x0, y0):  # type: ignore[no-untyped-def]
    """Return ``(sky, slope)`` of the least-squares line ``variance = sky + slope * PSF`` over good pixels."""
    n = sp = spp = sv = spv = 0.0
    for j in range(ok.shape[0]):
        for i in range(ok.shape[1]):
            if ok[j, i]:
                v = variance[y0 + j, x0 + i]
                q = p[j + 3, i + 3]
                n += 1.0
                sp += q
                spp += q * q
                sv += v
                spv += q * v
    det = n * spp - sp * sp
    mean = sv / n
    slope = (n * spv - sp * sv) / det if det > 0.0 else 0.0
    sky = mean - slope * sp / n
    if slope < 0.0 or sky < 1e-3 * mean:
        slope = max(slope, 0.0)
        sky = max(mean - slope * sp / n, 1e-3 * mean)
    return sky, slope


@helper
def _enough_good(image, variance, mask, bad_bits, p, x0, y0, ok):  # type: ignore[no-untyped-def]
    """Fill ``ok`` with the pixels that can be used; say whether they hold enough of the PSF."""
    nj, ni = ok.shape
    pp_all = pp_good = 0.0
    n_good = 0
    for j in range(nj):
        for i in range(ni):
            q = p[j + 3, i + 3]
            v = variance[y0 + j, x0 + i]
            good = (
                (mask[y0 + j, x0 + i] & bad_bits) == 0
                and math.isfinite(image[y0 + j, x0 + i])
                and math.isfinite(v)
                and v > 0.0
            )
            ok[j, i] = good
            pp_all += q * q
            if good:
                pp_good += q * q
                n_good += 1
    return n_good >= 6 and pp_good > 0.5 * pp_all


@kernel
def _step(image, variance, mask, bad_bits, p, x0, y0, derivs, ok, out):  # type: ignore[no-untyped-def]
    """One Gauss-Newton step of a PSF fit; ``p`` has a margin of 3 pixels around the fit region.

    With ``g = -grad P`` made orthogonal to P under weights w, the step is ``(F kappa M)^-1 sum w g I`` with
    ``M = sum w g g``; kappa compares the observed curvature with a point source's.  Errors are those of the
    estimator with the pixel variances as given, so the weights need not be right.

    ``out`` receives ``(dx, dy, err x, err y, kappa, error of kappa, flux)``.  Returns False if it cannot be done.
    """
    if not _enough_good(image, variance, mask, bad_bits, p, x0, y0, ok):
        return False
    nj, ni = ok.shape
    sky, slope = _variance_model(variance, ok, p, x0, y0)
    a00 = a01 = a02 = b0 = 0.0
    for j in range(nj):
        for i in range(ni):
            c, r = j + 3, i + 3
            gx = -_d1(p[c, r - 3], p[c, r - 2], p[c, r - 1], p[c, r + 1], p[c, r + 2], p[c, r + 3])
            gy = -_d1(p[c - 3, r], p[c - 2, r], p[c - 1, r], p[c + 1, r], p[c + 2, r], p[c + 3, r])
            q = p[c, r]
            lap = _d2(p[c, r - 3], p[c, r - 2], p[c, r - 1], q, p[c, r + 1], p[c, r + 2], p[c, r + 3]) + _d2(
                p[c - 3, r], p[c - 2, r], p[c - 1, r], q, p[c + 1, r], p[c + 2, r], p[c + 3, r]
            )
            wgt = 1.0 / (sky + slope * max(q, 0.0)) if ok[j, i] else 0.0
            derivs[0, j, i] = gx
            derivs[1, j, i] = gy
            derivs[2, j, i] = lap
            derivs[3, j, i] = wgt
            if wgt > 0.0:
                a00 += wgt * q * q
                a01 += wgt * q * gx
                a02 += wgt * q * gy
                b0 += wgt * q * image[y0 + j, x0 + i]
    flux = b0 / a00
    if not (flux > 0.0):
        return False
    cx, cy = a01 / a00, a02 / a00
    mxx = myy = mxy = rx = ry = vxx = vyy = vxy = res = vres = 0.0
    for j in range(nj):
        for i in range(ni):
            wgt = derivs[3, j, i]
            if wgt > 0.0:
                q = p[j + 3, i + 3]
                gx = derivs[0, j, i] - cx * q
                gy = derivs[1, j, i] - cy * q
                lap = derivs[2, j, i]
                d = image[y0 + j, x0 + i] - flux * q
                var = variance[y0 + j, x0 + i]
                mxx += wgt * gx * gx
                myy += wgt * gy * gy
                mxy += wgt * gx * gy
                rx += wgt * gx * d
                ry += wgt * gy * d
                wv = wgt * wgt * var
                vxx += wv * gx * gx
                vyy += wv * gy * gy
                vxy += wv * gx * gy
                res += wgt * lap * d
                vres += wv * lap * lap
    det = mxx * myy - mxy * mxy
    trace = mxx + myy
    if not (det > 1e-6 * trace * trace):
        return False
    kappa = 1.0 - res / (flux * trace)
    kappa_err = math.sqrt(vres) / (flux * trace)
    scale = flux
    if abs(kappa - 1.0) > 3.0 * kappa_err:
        scale = flux * min(max(kappa, 0.2), 1.5)
    ixx, iyy, ixy = myy / det, mxx / det, -mxy / det
    out[0] = (ixx * rx + ixy * ry) / scale
    out[1] = (ixy * rx + iyy * ry) / scale
    out[2] = math.sqrt(ixx * ixx * vxx + 2 * ixx * ixy * vxy + ixy * ixy * vyy) / scale
    out[3] = math.sqrt(ixy * ixy * vxx + 2 * ixy * iyy * vxy + iyy * iyy * vyy) / scale
    out[4] = kappa
    out[5] = kappa_err
    out[6] = flux
    return True


@kernel
def refine_centroids(  # type: ignore[no-untyped-def]
    work, noise, variance, mask, bad_bits, spans, pixel_offsets, pixels, rows, stamps, x, y, half, done, out
):
    """Make one photon-weighted PSF-fit step for some sources.

    Parameters
    ----------
    work, noise, variance, mask
        Images (float32, float32, float32, int32), shape (h, w).
    bad_bits : int
        Mask bits of pixels left out of the fit.
    spans, pixel_offsets, pixels
        Every source's own pixels.
    rows : int64, shape (m,)
        Sources to do.
    stamps : float64, shape (m, s, s)
        Star images of the PSF at (x, y).
    x, y : float64, shape (m,)
        Positions to improve.
    half : int64, shape (m,)
        Half side of the fit region, at most ``s // 2 - 3``.
    done : bool, shape (m,)
        Filled: True where a step was found.
    out : float64, shape (m, 7)
        Filled: step in x and y, errors in x and y, curvature ratio and its error, flux.
    """
    h, w = work.shape
    span_offsets, span_y, span_x0, span_x1 = spans
    centre = stamps.shape[1] // 2
    for k in range(rows.shape[0]):
        n = rows[k]
        done[k] = False
        ix = math.floor(x[k] + 0.5)
        iy = math.floor(y[k] + 0.5)
        xa, xb = max(ix - half[k], 0), min(ix + half[k], w - 1)
        ya, yb = max(iy - half[k], 0), min(iy + half[k], h - 1)
        if xb - xa < 2 or yb - ya < 2:
            continue
        nj, ni = yb - ya + 1, xb - xa + 1
        top, left = centre + ya - iy - 3, centre + xa - ix - 3
        p = stamps[k, top : top + nj + 6, left : left + ni + 6]
        paste_source(work, span_offsets, span_y, span_x0, span_x1, n, pixel_offsets, pixels)
        derivs = np.empty((4, nj, ni))
        ok = np.empty((nj, ni), np.bool_)
        done[k] = _step(work, variance, mask, bad_bits, p, xa, ya, derivs, ok, out[k])
        restore_source(work, noise, span_offsets, span_y, span_x0, span_x1, n)
