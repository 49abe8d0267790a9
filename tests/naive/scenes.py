"""Small exposures of Gaussian or Moffat stars on noise, with known truth."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from zeropoint.datamodel.exposure import Amplifier, DetectorInfo, Exposure, VisitInfo
from zeropoint.datamodel.psf_model import GaussianPsf


def exposure_of(image, variance, sigma=1.7, amplifiers=1):
    """Wrap pixels with a Gaussian PSF; amplifiers are vertical stripes."""
    h, w = image.shape
    edges = np.arange(amplifiers + 1) * w // amplifiers
    stripes = tuple(
        Amplifier(f"A{i}", (int(a), 0, int(b) - 1, h - 1)) for i, (a, b) in enumerate(pairwise(edges))
    )
    return Exposure(
        np.asarray(image, np.float32),
        np.asarray(np.broadcast_to(variance, image.shape), np.float32),
        np.zeros(image.shape, np.int32),
        DetectorInfo("Test", "0", 0, w, h, stripes),
        VisitInfo(1, 30.0, 61000.0, "r", "r"),
        psf=GaussianPsf(sigma, 25),
    )


def add_stars(image, x, y, flux, sigma=1.7, beta=None):
    """Add stars in place: Gaussians, or Moffats of the same core width with wings ``beta``."""
    h, w = image.shape
    for xs, ys, f in zip(x, y, flux):
        half = 15 if beta is None else 60
        x0, x1 = max(0, int(xs) - half), min(w, int(xs) + half + 1)
        y0, y1 = max(0, int(ys) - half), min(h, int(ys) + half + 1)
        yy, xx = np.mgrid[y0:y1, x0:x1]
        r2 = (xx - xs) ** 2 + (yy - ys) ** 2
        if beta is None:
            profile = np.exp(-0.5 * r2 / sigma**2) / (2 * np.pi * sigma**2)
        else:
            alpha = 2.3548 * sigma / (2 * np.sqrt(2 ** (1 / beta) - 1))
            profile = (beta - 1) / (np.pi * alpha**2) * (1 + r2 / alpha**2) ** -beta
        image[y0:y1, x0:x1] += f * profile


def star_exposure(seed, shape=(300, 320), n=40, snr=(10, 300), noise=5.0, sigma=1.7, **options):
    """Return (exposure, x, y, flux): Gaussian stars, kept apart, of log-uniform S/N on white noise."""
    rng = np.random.default_rng(seed)
    h, w = shape
    places = []
    while len(places) < n:
        place = rng.uniform([20, 20], [w - 21, h - 21])
        if all(np.hypot(*(place - other)) > 25 for other in places):
            places.append(place)
    x, y = np.array(places).T
    flux = np.exp(rng.uniform(*np.log(snr), n)) * noise * np.sqrt(4 * np.pi) * sigma
    image = rng.normal(0.0, noise, shape)
    add_stars(image, x, y, flux, sigma)
    return exposure_of(image, noise**2, sigma, **options), x, y, flux
