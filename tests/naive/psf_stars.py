"""Simulated PSF stars whose noiseless profile is known in closed form."""

from __future__ import annotations

import numpy as np

from zeropoint.datamodel.exposure import Amplifier, DetectorInfo, Exposure, VisitInfo
from zeropoint.psf.candidates import PsfCandidates

WIDTH = 4000.0


def true_stamps(x, y, side, *, fwhm=4.0, centered=True, width=WIDTH):
    """Sum of three elliptical Gaussians whose size and shape are quadratics of position; sum 1 on the plane."""
    x, y = np.atleast_1d(np.asarray(x, float)), np.atleast_1d(np.asarray(y, float))
    u, v = 2 * x / width - 1, 2 * y / width - 1
    grow = 1 + 0.03 * u - 0.02 * v + 0.04 * u * u + 0.02 * u * v + 0.015 * v * v
    e1 = 0.04 + 0.03 * u + 0.02 * v * v - 0.015 * u * v
    e2 = 0.02 - 0.03 * v + 0.02 * u * v - 0.015 * u * u
    dx = 0 * x if centered else x - np.floor(x + 0.5)
    dy = 0 * y if centered else y - np.floor(y + 0.5)
    r = np.arange(side) - side // 2
    px = r[None, None, :] - dx[:, None, None]
    py = r[None, :, None] - dy[:, None, None]
    out = np.zeros((len(x), side, side))
    for share, sigma in ((0.75, fwhm / 2.6), (0.22, fwhm / 1.8), (0.03, fwhm / 1.2)):
        area = (sigma * grow) ** 2
        xx, yy, xy = area * (1 + e1), area * (1 - e1), area * e2
        det = xx * yy - xy * xy
        xx, yy, xy = (a[:, None, None] for a in (xx, yy, xy))
        q = (yy * px * px - 2 * xy * px * py + xx * py * py) / det[:, None, None]
        out += share * np.exp(-0.5 * q) / (2 * np.pi * np.sqrt(det))[:, None, None]
    return out


def make_candidates(
    n, rng, *, side=27, fwhm=4.0, flux=(4.0, 5.5), sky=400.0, noise=True, jitter=0.02, width=WIDTH
):
    """Return ``(candidates, fluxes)`` with photon noise of gain 1; fluxes are log-uniform."""
    x, y = rng.uniform(20, width - 20, n), rng.uniform(20, width - 20, n)
    f = 10 ** rng.uniform(*flux, n)
    model = true_stamps(x, y, side, fwhm=fwhm, centered=False, width=width) * f[:, None, None]
    image = model + (rng.normal(size=model.shape) * np.sqrt(sky + model) if noise else 0.0)
    variance = sky + np.maximum(image, -0.5 * sky)
    xc, yc = x + rng.normal(size=n) * jitter, y + rng.normal(size=n) * jitter
    same = (np.floor(xc + 0.5) == np.floor(x + 0.5)) & (np.floor(yc + 0.5) == np.floor(y + 0.5))
    candidates = PsfCandidates(
        image.astype(np.float32),
        variance.astype(np.float32),
        np.zeros(image.shape, np.int32),
        xc,
        yc,
        np.arange(n),
        np.full(n, np.nan),
    )
    return candidates.take(same), f[same]


def blank_exposure(height, width, band="r"):
    """Return an exposure of zeros with variance 1."""
    shape = (height, width)
    detector = DetectorInfo("Sim", "S0", 0, width, height, (Amplifier("A", (0, 0, width - 1, height - 1)),))
    visit = VisitInfo(1, 30.0, 61000.0, band, band)
    return Exposure(
        np.zeros(shape, np.float32), np.ones(shape, np.float32), np.zeros(shape, np.int32), detector, visit
    )
