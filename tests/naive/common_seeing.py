"""Slow obvious twins of the Kron, convolved and GAaP fluxes, which smooth whole images before they sum."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import convolve1d, gaussian_filter


def radii2(image: np.ndarray, x: float, y: float, moments: tuple[float, float, float]) -> np.ndarray:
    """Return ``d^T M^-1 d`` of all pixels."""
    xx, yy, xy = moments
    inverse = np.linalg.inv([[xx, xy], [xy, yy]])
    py, px = np.mgrid[: image.shape[0], : image.shape[1]]
    d = np.stack([px - x, py - y], -1)
    return np.einsum("...i,ij,...j", d, inverse, d)


def kron_radius(
    image: np.ndarray, x: float, y: float, moments: tuple[float, float, float], n_sigma: float = 6.0
) -> float:
    """Return the flux-weighted mean of the elliptical radius, as sqrt(a b), within ``n_sigma``."""
    q = radii2(image, x, y, moments)
    major, minor = np.sqrt(np.linalg.eigvalsh([[moments[0], moments[2]], [moments[2], moments[1]]])[::-1])
    py, px = np.mgrid[: image.shape[0], : image.shape[1]]
    away = np.hypot(px - x, py - y)
    radius = major * np.sqrt(q)
    # a pixel of uniform brightness about the center has a mean radius of 0.3826
    spread = 0.38259785823 * (1 + away / np.sqrt(2))
    radius = np.where(away < 0.5, np.hypot(radius, spread), radius)
    inside = q <= n_sigma**2
    return float((radius * image)[inside].sum() / image[inside].sum() * np.sqrt(minor / major))


def smoothed(image: np.ndarray, sigma: float, scale: float = 4.0) -> np.ndarray:
    """Return an image under a normalised Gaussian cut at ``scale`` sigma."""
    half = int(scale * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    taps /= taps.sum()
    return convolve1d(convolve1d(image, taps, axis=0, mode="constant"), taps, axis=1, mode="constant")


def gaap_flux(
    image: np.ndarray, x: float, y: float, psf_sigma: float, factor: float, aperture: float
) -> float:
    """Return the flux after a Gaussian PSF was widened by a factor, for a round aperture of some sigma in all."""
    target = factor * psf_sigma
    matched = gaussian_filter(image, np.sqrt(target**2 - psf_sigma**2), truncate=8, mode="constant")
    explicit = aperture**2 - target**2
    weight = np.exp(-0.5 * radii2(image, x, y, (explicit, explicit, 0.0)))
    return float((weight * matched).sum() * aperture**2 / explicit)
