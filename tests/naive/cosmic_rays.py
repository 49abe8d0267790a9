"""The cosmic-ray rules one pixel at a time, and a small simulation with known cosmic rays."""

import math
from types import SimpleNamespace

import numpy as np

from naive.exposures import pixel_gaussian

DIRECTIONS = ((0, 1), (1, 0), (1, -1), (1, 1))  # (dx, dy)


def means(image, variance, y, x):
    result = []
    for dx, dy in DIRECTIONS:
        a, b = (y - dy, x - dx), (y + dy, x + dx)
        result.append((0.5 * (image[a] + image[b]), 0.5 * math.sqrt(variance[a] + variance[b])))
    return result


def hit_estimate(image, variance, y, x, background, min_sigma, c, thresholds):
    """Return the estimate of a hit pixel, or None."""
    v, sigma = image[y, x], math.sqrt(variance[y, x])
    if not v >= 0:
        return None
    around = means(image, variance, y, x)
    if min_sigma >= 0:
        if not any(v >= m + min_sigma * sigma for m, _ in around):
            return None
    elif v < -min_sigma:
        return None
    for t, (m, s) in zip(thresholds, around):
        if t * (v - background - c * sigma) > m - background + c * s:
            return m
    return None


def star_excess(image, variance, y, x, background, ratios):
    around = means(image, variance, y, x)
    h, var = image[y, x] - background, variance[y, x]
    lacks = [(r * h - (m - background), s**2, r) for r, (m, s) in zip(ratios, around)]
    single = max(lack / math.sqrt(s2 + r * r * var) for lack, s2, r in lacks)
    weight = sum(r * r / s2 for _, s2, r in lacks)
    return max(0.0, single, sum(r * lack / s2 for lack, s2, r in lacks) / math.sqrt(weight + weight**2 * var))


def scan(
    image, variance, mask, bad, interpolated, background, min_sigma, c, thresholds, ratios, min_star_sigma
):
    """Return the list of (x, y) found, in raster order."""
    work = image.astype(np.float64)
    variance = variance.astype(np.float64)
    found = []
    for y in range(1, image.shape[0] - 1):
        for x in range(1, image.shape[1] - 1):
            estimate = hit_estimate(work, variance, y, x, background, min_sigma, c, thresholds)
            if (
                estimate is None
                or mask[y, x] & bad
                or (mask[y - 1 : y + 2, x - 1 : x + 2] & interpolated).any()
            ):
                continue
            if star_excess(work, variance, y, x, background, ratios) >= min_star_sigma:
                found.append((x, y))
                work[y, x] = np.float32(estimate)
    return found


def simulate(size=400, fwhm=4.0, n_stars=60, n_rays=40, seed=0, sky=1000.0, read_noise=6.0):
    """Return background-subtracted pixels of stars on a jittered grid, and tracks of known charge."""
    rng = np.random.default_rng(seed)
    sigma = fwhm / 2.3548
    half = 12
    scene = np.zeros((size + 2 * half, size + 2 * half))
    n_side = math.isqrt(n_stars)
    step = size / max(n_side, 1)
    grid = (np.arange(n_side) + 0.5) * step
    xs, ys = (g.ravel() + rng.uniform(-2, 2, n_side**2) for g in np.meshgrid(grid, grid))
    flux = 10 ** rng.uniform(3.0, 5.3, len(xs))
    for x, y, f in zip(xs, ys, flux):
        i, j = int(x + 0.5), int(y + 0.5)
        scene[j : j + 2 * half + 1, i : i + 2 * half + 1] += f * pixel_gaussian(sigma, x - i, y - j, half)
    scene = scene[half:-half, half:-half]
    rays = np.zeros((size, size))
    label = np.full((size, size), -1)
    for k in range(n_rays):
        length, angle, charge = rng.exponential(8.0) + 0.3, rng.uniform(0, 2 * np.pi), rng.lognormal(6.4, 0.9)
        s = np.arange(0, length, 0.05)
        x0, y0 = rng.uniform(3, size - 4, 2)
        px, py = (np.floor(p + 0.5).astype(int) for p in (x0 + s * np.cos(angle), y0 + s * np.sin(angle)))
        inside = (px >= 0) & (px < size) & (py >= 0) & (py < size)
        np.add.at(rays, (py[inside], px[inside]), 0.05 * charge)
        label[py[inside], px[inside]] = k
    level = scene + sky
    image = rng.poisson(level) + rng.normal(0, read_noise, level.shape) + rays
    kernel = pixel_gaussian(sigma, 0, 0, half)
    area = 4 * np.pi * sigma**2 + 1
    return SimpleNamespace(
        image=(image - sky).astype(np.float32),
        variance=(np.maximum(image, 0) + read_noise**2).astype(np.float32),
        psf_image=kernel / kernel.sum(),
        scene=scene,
        rays=rays,
        label=label,
        noise=np.sqrt(level + read_noise**2),
        x=xs,
        y=ys,
        snr=flux / np.sqrt(flux + area * (sky + read_noise**2)),
        fwhm=fwhm,
    )


def near_stars(sim, radius, min_snr):
    """Return True within a radius of stars brighter than a S/N."""
    grid_y, grid_x = np.mgrid[: sim.image.shape[0], : sim.image.shape[1]]
    result = np.zeros(sim.image.shape, bool)
    for x, y in zip(sim.x[sim.snr > min_snr], sim.y[sim.snr > min_snr]):
        result |= (grid_x - x) ** 2 + (grid_y - y) ** 2 <= radius**2
    return result
