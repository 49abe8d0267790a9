"""Slow, obvious versions of the centroid, flux and flag measurements, and stars with photon noise."""

from __future__ import annotations

import math

import numpy as np

from naive.star_field import disc_footprints, exposure_of
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.psf_model import PixelGridPsf, PsfModel
from zeropoint.measurement.single_frame import SingleFrameMeasurement, SingleFrameMeasurementConfig


def moffat_psf(fwhm: float, size: int = 25, beta: float = 3.0, stretch: float = 0.15) -> PixelGridPsf:
    """Return an elliptical, pixel-integrated Moffat on a pixel grid, slightly broader to the right."""
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    r = np.arange(size) - size // 2
    x, y = np.meshgrid(r, r)
    grids = []
    for scale in (1.0, 1.05):
        grid = np.zeros((size, size))
        for ox in (np.arange(5) - 2) / 5:
            for oy in (np.arange(5) - 2) / 5:
                q = (
                    (x + ox) ** 2 * (1 + stretch)
                    + (y + oy) ** 2 * (1 - stretch)
                    + stretch * (x + ox) * (y + oy)
                )
                grid += (1 + q / (alpha * scale) ** 2) ** -beta
        grids.append(grid / grid.sum())
    coefficients = np.stack([grids[0], grids[1] - grids[0]])
    return PixelGridPsf(
        coefficients, np.array([[0, 0], [1, 0]]), x_ref=500.0, y_ref=500.0, norm=500.0, size=size
    )


def photon_stars(
    psf: PsfModel, snr: float, sky: float, n_side: int, seed: int
) -> tuple[Exposure, FootprintSet, dict[str, np.ndarray]]:
    """Return isolated stars of one matched-filter S/N with photon noise, and the truth.

    The truth holds x, y, flux, and the photon-noise bounds x_bound and flux_bound of each star.
    """
    rng = np.random.default_rng(seed)
    step = psf.size + 4
    k = np.arange(n_side**2)
    x = step * (k % n_side + 1.0) + rng.uniform(-0.5, 0.5, len(k))
    y = step * (k // n_side + 1.0) + rng.uniform(-0.5, 0.5, len(k))
    stamps = np.maximum(psf.star_stamps(x=x, y=y), 0.0)
    flux = snr * math.sqrt(sky / np.mean(np.sum(stamps[:50] ** 2, axis=(1, 2))))
    for _ in range(50):
        model = flux * stamps[:50]
        flux *= snr / math.sqrt(np.mean(np.sum(model**2 / (sky + model), axis=(1, 2))))
    mean = np.full((step * (n_side + 1), step * (n_side + 1)), float(sky))
    half = psf.size // 2
    ix, iy = np.floor(x + 0.5).astype(int), np.floor(y + 0.5).astype(int)
    for i in k:
        mean[iy[i] - half : iy[i] + half + 1, ix[i] - half : ix[i] + half + 1] += flux * stamps[i]
    counts = rng.poisson(mean).astype(np.float64)
    exposure = exposure_of(counts - sky, 1.0, psf)
    exposure.variance[...] = np.maximum(counts, 1.0)
    eps = 1e-4
    slope = (psf.star_stamps(x=np.floor(x + 0.5) + 0.1 + eps, y=y) - psf.star_stamps(
        x=np.floor(x + 0.5) + 0.1 - eps, y=y
    )) / (2 * eps)  # fmt: skip
    weight = 1.0 / (sky + flux * stamps)
    truth = {
        "x": x,
        "y": y,
        "flux": np.full(len(k), flux),
        "x_bound": 1.0 / np.sqrt(np.sum((flux * slope) ** 2 * weight, axis=(1, 2))),
        "flux_bound": 1.0 / np.sqrt(np.sum(stamps**2 * weight, axis=(1, 2))),
    }
    return exposure, disc_footprints(x, y, 8), truth


def config_of(*names: str, shape: str | None = None) -> SingleFrameMeasurementConfig:
    """Return a config of these plugins without slots that point at others."""
    config = SingleFrameMeasurementConfig()
    config.plugins.names = list(names)
    config.slots.centroid = "base_SdssCentroid" if "base_SdssCentroid" in names else None
    config.slots.shape = shape
    for slot in ("psfShape", "apFlux", "modelFlux", "psfFlux", "gaussianFlux", "calibFlux"):
        setattr(config.slots, slot, None)
    return config


def measure(config, exposure, footprints, *, schema=None, seed=1, fill=None):
    """Run a measurement step and return the catalogue."""
    from zeropoint.datamodel.catalog import SourceCatalog

    step = SingleFrameMeasurement(config, schema=schema)
    catalog = SourceCatalog(step.schema, len(footprints), footprints=footprints)
    if fill is not None:
        fill(catalog)
    step.run(exposure, catalog, seed=seed)
    return catalog


def circle_sum(image: np.ndarray, x: float, y: float, radius: float) -> float:
    """Sum pixels whose centres are inside a circle; NaN if the circle leaves the image."""
    h, w = image.shape
    if math.ceil(x - radius) < 0 or math.ceil(y - radius) < 0:
        return math.nan
    if math.floor(x + radius) >= w or math.floor(y + radius) >= h:
        return math.nan
    yy, xx = np.mgrid[:h, :w]
    return float(image[(xx - x) ** 2 + (yy - y) ** 2 <= radius**2].astype(np.float64).sum())


def lanczos5(u: np.ndarray) -> np.ndarray:
    """Return the Lanczos-5 kernel."""
    return np.where(np.abs(u) < 5, np.sinc(u) * np.sinc(u / 5), 0.0)


def shifted(coefficients: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """Return coefficients moved by (dx, dy) with a Lanczos-5 interpolant that keeps constants."""
    k = np.arange(len(coefficients))
    nodes = np.arange(-20, 21)

    def matrix(d: float) -> np.ndarray:
        weights = lanczos5(k[:, None] - d - k[None, :])
        return weights / lanczos5(-d - nodes).sum()

    return matrix(dy) @ coefficients @ matrix(dx).T


def weighted_gaussian_sum(
    image: np.ndarray, x: float, y: float, moments: tuple[float, float, float]
) -> float:
    """Sum ``exp(-q/2) I`` over pixels with ``q <= 14``."""
    xx, yy, xy = moments
    inverse = np.linalg.inv([[xx, xy], [xy, yy]])
    py, px = np.mgrid[: image.shape[0], : image.shape[1]]
    d = np.stack([px - x, py - y], -1)
    q = np.einsum("...i,ij,...j", d, inverse, d)
    return float((np.exp(-0.5 * q) * image)[q <= 14].sum())
