"""Slow obvious twins of the HSM, SDSS-shape and aperture-correction code."""

from __future__ import annotations

import numpy as np


def weights(shape: tuple[int, int], cx: float, cy: float, moments: np.ndarray, rho2_max: float) -> tuple:
    """Return ``(weight, dx, dy)`` images of an elliptical Gaussian cut at ``rho2_max``."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    dx, dy = x - cx, y - cy
    inverse = np.linalg.inv(moments)
    rho2 = inverse[0, 0] * dx**2 + 2 * inverse[0, 1] * dx * dy + inverse[1, 1] * dy**2
    return np.where(rho2 <= rho2_max, np.exp(-0.5 * rho2), 0.0), dx, dy


def weighted_sums(
    image: np.ndarray, cx: float, cy: float, moments: np.ndarray, rho2_max: float
) -> np.ndarray:
    """Return A, Bx, By, Cxx, Cyy, Cxy."""
    w, dx, dy = weights(image.shape, cx, cy, moments, rho2_max)
    f = w * image
    return np.array(
        [f.sum(), (f * dx).sum(), (f * dy).sum(), (f * dx**2).sum(), (f * dy**2).sum(), (f * dx * dy).sum()]
    )


def higher_moment(
    image: np.ndarray, good: np.ndarray, shape: np.ndarray, p: int, q: int, fill: bool
) -> float:
    """Return one standardised moment."""
    cx, cy, xx, yy, xy = shape
    matrix = np.array([[xx, xy], [xy, yy]])
    values, vectors = np.linalg.eigh(matrix)
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(float)
    u = root[0, 0] * (x - cx) + root[0, 1] * (y - cy)
    v = root[1, 0] * (x - cx) + root[1, 1] * (y - cy)
    w = np.exp(-0.5 * (u**2 + v**2))
    f = np.where(good, w * image, 0.0)
    if fill and not good.all():
        scale = image[good].sum() / w[good].sum()
        f = np.where(good, f, w**2 * scale)
    return float((f * u**p * v**q).sum() / f.sum())


def sdss_moments(image: np.ndarray, cx: float, cy: float) -> np.ndarray:
    """Iterate ``W <- (O^-1 - W^-1)^-1`` to convergence, without a sub-pixel case; return W."""
    w = 1.5 * np.eye(2)
    for _ in range(200):
        s = weighted_sums(image, cx, cy, w, 14.0)
        o = np.array([[s[3], s[5]], [s[5], s[4]]]) / s[0]
        w = np.linalg.inv(np.linalg.inv(o) - np.linalg.inv(w))
    return w


def subsampled_sums(
    image: np.ndarray, cx: float, cy: float, w: np.ndarray, rho2: float, n: int
) -> np.ndarray:
    """Return `weighted_sums` of an image whose pixels are spread over n x n points, in units of pixels."""
    fine = np.repeat(np.repeat(image, n, axis=0), n, axis=1)
    s = weighted_sums(fine, (cx + 0.5) * n - 0.5, (cy + 0.5) * n - 0.5, w * n**2, rho2)
    return np.asarray(s) / n ** np.array([2, 3, 3, 4, 4, 4])
