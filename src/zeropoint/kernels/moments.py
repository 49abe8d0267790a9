"""Adaptive (Gaussian-weighted) second moments of one stamp."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import kernel

__all__ = ["adaptive_moments", "adaptive_moments_stack"]


@kernel
def adaptive_moments(image, xc, yc, sigma0, max_iter, tol):  # type: ignore[no-untyped-def]
    """Return ``(flag, xx, yy, xy)``: the Gaussian that matches its own weighted second moments.

    The centre is fixed.  Each iteration measures moments O under the weight W and sets
    ``W <- (O^-1 - W^-1)^-1``, whose fixed point is the covariance of the object when it is Gaussian
    (Bernstein & Jarvis 2002; the SDSS "adaptive moments").

    Parameters
    ----------
    image : float64, shape (h, w)
        Background-free stamp.
    xc, yc : float
        Centre in stamp pixels.
    sigma0 : float
        Starting width, pixels.
    max_iter : int
        Iterations.
    tol : float
        Relative change of the moments at convergence.

    Returns
    -------
    flag : int
        0 converged, 1 not converged, 2 moments not positive.
    """
    h, w = image.shape
    wxx = sigma0 * sigma0
    wyy = wxx
    wxy = 0.0
    for _ in range(max_iter):
        det = wxx * wyy - wxy * wxy
        if not (det > 0.0):
            return 2, math.nan, math.nan, math.nan
        ixx, iyy, ixy = wyy / det, wxx / det, -wxy / det
        s = sxx = syy = sxy = 0.0
        for j in range(h):
            dy = j - yc
            for i in range(w):
                dx = i - xc
                q = dx * dx * ixx + 2.0 * dx * dy * ixy + dy * dy * iyy
                if q < 40.0:
                    f = image[j, i] * math.exp(-0.5 * q)
                    s += f
                    sxx += f * dx * dx
                    syy += f * dy * dy
                    sxy += f * dx * dy
        if not (s > 0.0 and sxx > 0.0 and syy > 0.0):
            return 2, math.nan, math.nan, math.nan
        oxx, oyy, oxy = sxx / s, syy / s, sxy / s
        odet = oxx * oyy - oxy * oxy
        if not (odet > 0.0):
            return 2, math.nan, math.nan, math.nan
        nxx = oyy / odet - ixx
        nyy = oxx / odet - iyy
        nxy = -oxy / odet - ixy
        ndet = nxx * nyy - nxy * nxy
        if not (ndet > 0.0 and nxx > 0.0):
            return 2, math.nan, math.nan, math.nan
        vxx, vyy, vxy = nyy / ndet, nxx / ndet, -nxy / ndet
        change = max(abs(vxx - wxx), abs(vyy - wyy), abs(vxy - wxy)) / (vxx + vyy)
        wxx, wyy, wxy = vxx, vyy, vxy
        if change < tol:
            return 0, wxx, wyy, wxy
    return 1, wxx, wyy, wxy


@kernel
def adaptive_moments_stack(images, xc, yc, sigma0, max_iter, tol, out):  # type: ignore[no-untyped-def]
    """Fill ``out[k] = (flag, xx, yy, xy)`` for stamps ``images[k]`` (float64, shape (n, h, w))."""
    for k in range(images.shape[0]):
        flag, xx, yy, xy = adaptive_moments(images[k], xc[k], yc[k], sigma0, max_iter, tol)
        out[k, 0] = np.float64(flag)
        out[k, 1] = xx
        out[k, 2] = yy
        out[k, 3] = xy
