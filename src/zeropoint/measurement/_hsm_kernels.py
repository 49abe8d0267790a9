"""Adaptive moments by the method of Bernstein & Jarvis (2002) as refined by Hirata & Seljak (2003).

Gaussian weights are never evaluated by one
``exp`` a pixel: along a row ``exp(-(a t^2 + b t + c)/2)`` obeys a two-term multiplicative recurrence, whose
relative error after n pixels is about ``n^2`` units in the last place.

Status codes: 0 good, 1 too many iterations, 2 moments not positive definite or singular, 3 moments too
large, 4 centre moved too far, 5 no flux or not finite.
"""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import helper, kernel

__all__ = ["cut_stamp", "fit_gaussian", "hsm_moments", "hsm_stack", "weighted_sums"]

#: The weight is cut where it falls below 1e-7: rho^2 = -2 ln 1e-7.
RHO2_MAX = -2.0 * math.log(1e-7)
MAX_STEP = 0.25
MAX_MOMENT = 8000.0
MAX_SHIFT = 15.0
MAX_ITER = 400
#: Largest relative step at convergence.
PRECISION = 1e-6
MIN_MOMENT = 1e-3


@helper
def cut_stamp(image, mask, bad_bits, x0, y0, x1, y1, out, good):  # type: ignore[no-untyped-def]
    """Copy the box ``[x0, x1] x [y0, y1]`` of a float32 image to ``out`` (float64, flat), 0 where masked.

    ``good`` (bool, flat) is set to False where the mask has any of the bits.
    """
    k = 0
    for j in range(y0, y1 + 1):
        for i in range(x0, x1 + 1):
            good[k] = (mask[j, i] & bad_bits) == 0
            out[k] = np.float64(image[j, i]) if good[k] else 0.0
            k += 1


@kernel
def weighted_sums(image, cx, cy, mxx, myy, mxy, rho2_max, out):  # type: ignore[no-untyped-def]
    """Fill ``out = (A, Bx, By, Cxx, Cyy, Cxy)`` under the weight ``exp(-rho^2/2)``.

    ``A = sum f``, ``B = sum f d``, ``C = sum f d d^T`` with ``f`` = weight x pixel and ``d`` = pixel - centre,
    over pixels with ``rho^2 = d^T M^-1 d <= rho2_max``.

    Parameters
    ----------
    image : float32 or float64, shape (h, w)
        Pixels.
    """
    h, w = image.shape
    ixx = myy / (mxx * myy - mxy * mxy)
    slope = mxy / myy  # the ridge of the weight in row dy is at dx = slope * dy
    reach = math.sqrt(rho2_max * myy)
    y_first = max(0, math.ceil(max(cy - reach, -1.0)))
    y_last = min(h - 1, math.floor(min(cy + reach, float(h))))
    q = math.exp(-ixx)
    amp = bx = by = cxx = cyy = cxy = 0.0
    for j in range(y_first, y_last + 1):
        dy = j - cy
        along = dy * dy / myy
        half2 = (rho2_max - along) / ixx
        if not (half2 >= 0.0):
            continue
        half = math.sqrt(half2)
        ridge = cx + slope * dy
        i_first = max(0, math.ceil(max(ridge - half, -1.0)))
        i_last = min(w - 1, math.floor(min(ridge + half, float(w))))
        if i_last < i_first:
            continue
        t = i_first - ridge
        weight = math.exp(-0.5 * (ixx * t * t + along))
        ratio = math.exp(-0.5 * ixx * (2.0 * t + 1.0))
        dx = i_first - cx
        s0 = s1 = s2 = 0.0
        for i in range(i_first, i_last + 1):
            f = weight * image[j, i]
            g = f * dx
            s0 += f
            s1 += g
            s2 += g * dx
            weight *= ratio
            ratio *= q
            dx += 1.0
        amp += s0
        bx += s1
        by += dy * s0
        cxx += s2
        cxy += dy * s1
        cyy += dy * dy * s0
    out[0], out[1], out[2], out[3], out[4], out[5] = amp, bx, by, cxx, cyy, cxy


@helper
def _clip(value, limit):  # type: ignore[no-untyped-def]
    return min(max(value, -limit), limit)


@helper
def hsm_moments(stamp, x_start, y_start, mxx, myy, mxy, round_weight, sums, out):  # type: ignore[no-untyped-def]
    """Find the elliptical Gaussian that matches its own weighted moments; return the status.

    The iteration, its step limits and its failure limits are those of ``galsim.hsm.FindAdaptiveMom``.

    Parameters
    ----------
    stamp : float64, shape (h, w)
        Pixels, 0 where masked.
    x_start, y_start, mxx, myy, mxy : float
        Starting centre in stamp pixels and moments.
    round_weight : bool
        Keep the weight circular.
    sums : float64, shape (6,)
        Scratch.
    out : float64, shape (>= 6,)
        Filled with x, y, xx, yy, xy, flux (x, y in stamp pixels).
    """
    if not (mxx + myy < 1e9 and abs(x_start) < 1e9 and abs(y_start) < 1e9):
        return 5
    cx, cy = x_start, y_start
    first_scale = 0.0
    for iteration in range(MAX_ITER):
        diff = mxx - myy
        minor = 0.5 * (mxx + myy - math.sqrt(diff * diff + 4.0 * mxy * mxy))
        if not (minor > MIN_MOMENT):
            return 2
        weighted_sums(stamp, cx, cy, mxx, myy, mxy, RHO2_MAX, sums)
        amp = sums[0]
        if not (abs(amp) > 0.0 and abs(amp) < math.inf):
            return 5
        scale = math.sqrt(minor)
        if iteration == 0:
            first_scale = scale
        dx = _clip(2.0 * sums[1] / (amp * scale), MAX_STEP)
        dy = _clip(2.0 * sums[2] / (amp * scale), MAX_STEP)
        dxx = 4.0 * (sums[3] / amp - 0.5 * mxx) / minor
        dyy = 4.0 * (sums[4] / amp - 0.5 * myy) / minor
        dxy = 4.0 * (sums[5] / amp - 0.5 * mxy) / minor
        if round_weight:
            dxx = dyy = 0.5 * (dxx + dyy)
            dxy = 0.0
        dxx, dyy, dxy = _clip(dxx, MAX_STEP), _clip(dyy, MAX_STEP), _clip(dxy, MAX_STEP)
        change = max(max(abs(dx), abs(dy)), max(abs(dxx), max(abs(dyy), abs(dxy))))
        if scale < first_scale:
            change *= first_scale / scale
        cx += dx * scale
        cy += dy * scale
        mxx += dxx * minor
        myy += dyy * minor
        mxy += dxy * minor
        if not (abs(mxx) <= MAX_MOMENT and abs(myy) <= MAX_MOMENT and abs(mxy) <= MAX_MOMENT):
            return 3
        if not (abs(cx - x_start) <= MAX_SHIFT and abs(cy - y_start) <= MAX_SHIFT):
            return 4
        if change <= PRECISION:
            if round_weight:
                # the size of the weight, the ellipticity of the moments under it
                trace = sums[3] + sums[4]
                e1, e2 = (sums[3] - sums[4]) / trace, 2.0 * sums[5] / trace
                if not (e1 * e1 + e2 * e2 < 1.0):
                    return 2
                half = mxx / math.sqrt(1.0 - e1 * e1 - e2 * e2)
                mxx, myy, mxy = half * (1.0 + e1), half * (1.0 - e1), half * e2
            out[0], out[1], out[2], out[3], out[4], out[5] = cx, cy, mxx, myy, mxy, 2.0 * amp
            return 0 if mxx * myy - mxy * mxy > 0.0 else 2
    return 1


@helper
def _gaussian_normal_equations(stamp, good, w, h, p, normal):  # type: ignore[no-untyped-def]
    """Fill the upper triangle and last column of ``normal`` (6, 7) and return the sum of squared residuals.

    The model is ``p[0] exp(-rho^2/2)`` of centre ``p[1:3]`` and covariance ``xx, yy, xy = p[3:6]``.
    """
    n = len(p)  # 6; not a literal, so that the compiler does not unroll the loops over parameters
    det = p[3] * p[4] - p[5] * p[5]
    ixx, iyy, ixy = p[4] / det, p[3] / det, -p[5] / det
    for a in range(n):
        for b in range(n + 1):
            normal[a, b] = 0.0
    grad = np.empty(n)
    cost = 0.0
    for j in range(h):
        dy = j - p[2]
        for i in range(w):
            k = j * w + i
            if not good[k]:
                continue
            dx = i - p[1]
            ux = ixx * dx + ixy * dy
            uy = ixy * dx + iyy * dy
            rho2 = ux * dx + uy * dy
            g = math.exp(-0.5 * rho2) if rho2 < 40.0 else 0.0
            model = p[0] * g
            r = stamp[k] - model
            cost += r * r
            if g == 0.0:
                continue
            grad[0] = g
            grad[1] = model * ux
            grad[2] = model * uy
            grad[3] = 0.5 * model * ux * ux
            grad[4] = 0.5 * model * uy * uy
            grad[5] = model * ux * uy
            for a in range(n):
                for b in range(a, n):
                    normal[a, b] += grad[a] * grad[b]
                normal[a, n] += grad[a] * r
    return cost


@helper
def _solve_damped(normal, damping, work, step):  # type: ignore[no-untyped-def]
    """Solve ``(N + damping diag N) step = g`` by Cholesky; return False if N is not positive definite."""
    n = len(step)
    for a in range(n):
        for b in range(a + 1):
            total = normal[b, a]
            if a == b:
                total *= 1.0 + damping
            for c in range(b):
                total -= work[a, c] * work[b, c]
            if a == b:
                if not (total > 0.0):
                    return False
                work[a, a] = math.sqrt(total)
            else:
                work[a, b] = total / work[b, b]
    for a in range(n):
        total = normal[a, n]
        for c in range(a):
            total -= work[a, c] * step[c]
        step[a] = total / work[a, a]
    for a in range(n - 1, -1, -1):
        total = step[a]
        for c in range(a + 1, n):
            total -= work[c, a] * step[c]
        step[a] = total / work[a, a]
    return True


@kernel
def fit_gaussian(stamp, good, w, h, x_start, y_start, sigma_start, out):  # type: ignore[no-untyped-def]
    """Fit a point-sampled elliptical Gaussian by damped least squares; return the status.

    In the limit of fine sampling its stationary point is the fixed point of `hsm_moments`; unlike that it
    exists, and does not depend on the sub-pixel place, when the object is smaller than a pixel.

    Parameters
    ----------
    stamp, good : float64 and bool, shape (>= h * w,)
        Pixels in row order, and which of them count.
    out : float64, shape (>= 6,)
        Filled with x, y, xx, yy, xy, flux.
    """
    p = np.empty(6)
    trial = np.empty(6)
    normal = np.zeros((6, 7))
    new_normal = np.zeros((6, 7))
    work = np.zeros((6, 6))
    step = np.zeros(6)
    peak = 0.0
    for k in range(w * h):
        if good[k] and stamp[k] > peak:
            peak = stamp[k]
    if not (peak > 0.0 and peak < math.inf):
        return 5
    p[0], p[1], p[2], p[3], p[4], p[5] = peak, x_start, y_start, sigma_start**2, sigma_start**2, 0.0
    cost = _gaussian_normal_equations(stamp, good, w, h, p, normal)
    damping = 1e-3
    for _ in range(100):
        if damping > 1e8 or not _solve_damped(normal, damping, work, step):
            return 2
        for a in range(len(p)):
            trial[a] = p[a] + step[a]
        minor = 0.5 * (trial[3] + trial[4] - math.sqrt((trial[3] - trial[4]) ** 2 + 4.0 * trial[5] ** 2))
        allowed = minor > 0.01 and trial[0] > 0.0 and trial[3] < MAX_MOMENT and trial[4] < MAX_MOMENT
        new_cost = math.inf
        if allowed:
            new_cost = _gaussian_normal_equations(stamp, good, w, h, trial, new_normal)
        if not (new_cost <= cost):
            # at the minimum a step of the size of rounding may not lower the cost
            if allowed and damping > 1.0 and new_cost <= cost * (1.0 + 1e-12):
                break
            damping *= 10.0
            continue
        size = 0.0
        for a in range(1, len(p)):
            size = max(size, abs(step[a]))
        normal, new_normal = new_normal, normal
        for a in range(len(p)):
            p[a] = trial[a]
        cost = new_cost
        damping = max(0.1 * damping, 1e-9)
        if size < 1e-7 * (1.0 + p[3] + p[4]):
            break
    else:
        return 1
    if not (abs(p[1] - x_start) <= MAX_SHIFT and abs(p[2] - y_start) <= MAX_SHIFT):
        return 4
    out[0], out[1], out[2], out[3], out[4] = p[1], p[2], p[3], p[4], p[5]
    out[5] = p[0] * 2.0 * math.pi * math.sqrt(p[3] * p[4] - p[5] * p[5])
    return 0


@helper
def _undersampled(out, limit):  # type: ignore[no-untyped-def]
    """Say whether the moments belong to an object too small for sums over pixels."""
    return (out[2] * out[3] - out[4] * out[4]) < limit**4


@kernel
def hsm_stack(stamps, x, y, sigma, round_weight, fit_below, out, status):  # type: ignore[no-untyped-def]
    """Adaptive moments of many stamps.

    Parameters
    ----------
    stamps : float64, shape (n, h, w)
        Stamps.
    x, y, sigma : float64, shape (n,)
        Starting centres in stamp pixels and widths.
    round_weight : bool
        Keep the weight circular.
    fit_below : float
        Objects whose moments fail or have a smaller determinant radius get a Gaussian fit; 0 for never.
    out : float64, shape (n, 6)
        As in `hsm_moments`; NaN where the status is not 0.
    status : int64, shape (n,)
        Status codes.
    """
    n, h, w = stamps.shape
    sums = np.empty(6)
    good = np.ones(h * w, np.bool_)
    for k in range(n):
        moment = sigma[k] * sigma[k]
        code = hsm_moments(stamps[k], x[k], y[k], moment, moment, 0.0, round_weight, sums, out[k])
        if fit_below > 0.0 and (code != 0 or _undersampled(out[k], fit_below)):
            code = fit_gaussian(stamps[k].reshape(h * w), good, w, h, x[k], y[k], min(sigma[k], 1.0), out[k])
        status[k] = code
        if code != 0:
            out[k, :] = math.nan
