from __future__ import annotations

import numpy as np
import pytest

from zeropoint.datamodel.exposure import Amplifier, DetectorInfo, Exposure, VisitInfo
from zeropoint.instruments.first_look import (
    FirstLook,
    bright_stars,
    first_look,
    fit_round_gaussians,
    settings_from_first_look,
)

FWHM = 2.354820045


def exposure(image: np.ndarray) -> Exposure:
    height, width = image.shape
    amplifier = Amplifier("all", (0, 0, width - 1, height - 1), 1.0, 0.0)
    detector = DetectorInfo("toy", "toy", 0, width, height, (amplifier,))
    return Exposure(
        image.astype(np.float32),
        np.full(image.shape, 400.0, np.float32),
        np.zeros(image.shape, np.int32),
        detector,
        VisitInfo(1, 30.0, 60000.0, "r", "r"),
    )


def field(sigma: float, *, n_stars: int = 60, n_hits: int = 0, seed: int = 1, size: int = 500) -> np.ndarray:
    """A sloping sky with round Gaussian stars and single-pixel or straight cosmic-ray hits."""
    rng = np.random.default_rng(seed)
    image = rng.normal(400.0, 20.0, (size, size)) + np.linspace(0, 100, size)
    y, x = np.mgrid[:size, :size]
    for _ in range(n_stars):
        x0, y0, peak = rng.uniform(20, size - 20), rng.uniform(20, size - 20), 10.0 ** rng.uniform(3.0, 4.0)
        near = (slice(int(y0) - 20, int(y0) + 21), slice(int(x0) - 20, int(x0) + 21))
        image[near] += peak * np.exp(-0.5 * ((x[near] - x0) ** 2 + (y[near] - y0) ** 2) / sigma**2)
    for _ in range(n_hits):
        x0, y0, length = rng.integers(20, size - 20), rng.integers(20, size - 20), rng.integers(1, 8)
        image[y0, x0 : x0 + length] += 10.0 ** rng.uniform(3.3, 4.3)
    return image


@pytest.mark.parametrize("sigma", [0.5, 0.65, 0.8, 1.2, 2.0, 3.5])
def test_star_size(sigma: float) -> None:
    look = first_look(exposure(field(sigma)))
    assert look.fwhm_pix == pytest.approx(FWHM * sigma, rel=0.03)
    assert look.n_stars >= 40


@pytest.mark.parametrize("sigma", [0.65, 1.5])
def test_cosmic_rays_do_not_count(sigma: float) -> None:
    look = first_look(exposure(field(sigma, n_hits=120)))
    assert look.fwhm_pix == pytest.approx(FWHM * sigma, rel=0.03)


@pytest.mark.parametrize("sigma", [1.2, 1.8, 3.0])
def test_more_cosmic_rays_than_stars_do_not_count(sigma: float) -> None:
    image = field(sigma, n_stars=25)
    # hits spread over a pixel or so pass for round, narrow stars
    image += field(0.5, n_stars=20, seed=2) + field(0.6, n_stars=15, seed=3) - 800.0
    look = first_look(exposure(image))
    assert look.fwhm_pix == pytest.approx(FWHM * sigma, rel=0.03)
    assert look.n_stars <= 27


def test_narrow_stars_among_wide_galaxies_stay() -> None:
    image = field(0.5, n_stars=30)
    for seed, sigma in enumerate(np.geomspace(1.0, 4.5, 14)):
        image += field(sigma, n_stars=1, seed=10 + seed) - 450.0
    assert first_look(exposure(image)).fwhm_pix == pytest.approx(FWHM * 0.5, rel=0.03)


def test_masked_stars_do_not_count() -> None:
    image = field(1.5, n_stars=30)
    image[250:] = field(4.0, n_stars=150)[250:]
    masked = exposure(image)
    masked.set_mask(np.arange(500)[:, None] >= np.full((500, 500), 240), "BAD")
    assert first_look(masked).fwhm_pix == pytest.approx(FWHM * 1.5, rel=0.04)


def test_too_few_stars() -> None:
    assert np.isnan(first_look(exposure(field(1.5, n_stars=0))).fwhm_pix)
    assert np.isnan(first_look(exposure(field(1.5, n_stars=0, n_hits=50))).fwhm_pix)
    everything = exposure(field(1.5))
    everything.set_mask(np.ones((500, 500), bool), "SATURATED")
    assert np.isnan(first_look(everything).fwhm_pix)


def test_fit_recovers_width_at_any_subpixel_place() -> None:
    rng = np.random.default_rng(4)
    n, grid = 80, np.arange(-12, 13)
    sigma = rng.uniform(0.45, 4.5, n)
    x, y = rng.uniform(-0.5, 0.5, (2, n))
    dx, dy = grid[None, None, :] - x[:, None, None], grid[None, :, None] - y[:, None, None]
    stamps = 700.0 * np.exp(-0.5 * (dx**2 + dy**2) / sigma[:, None, None] ** 2)
    fitted, misfit = fit_round_gaussians(stamps)
    np.testing.assert_allclose(fitted, sigma, rtol=1e-6)
    assert misfit.max() < 1e-6


def test_settings_of_lsst_like_images_stay() -> None:
    assert set(settings_from_first_look(FirstLook(4.0, 50), 0.2)) == {"install_simple_psf.fwhm"}
    assert settings_from_first_look(FirstLook(float("nan"), 0), 0.2) == {}


def test_settings_of_small_and_large_stars() -> None:
    small = settings_from_first_look(FirstLook(1.5, 50), 1.0)
    sigma = 1.5 / FWHM
    assert small['psf_measure_psf.starSelector["objectSize"].widthMin'] < sigma
    assert small["compute_shapelet_decomposition.radius_mode_min"] < sigma
    assert small["photometry.match.matchRadius"] == 0.6
    assert "astrometry.maxMeanDistanceArcsec" not in small
    wide = settings_from_first_look(FirstLook(9.0, 50), 5.0)
    size = wide['psf_measure_psf.psfDeterminer["piff"].stampSize']
    assert size % 2 == 1
    assert size > 4 * 9.0
    assert wide["install_simple_psf.width"] % 2 == 1
    assert wide["astrometry.maxMeanDistanceArcsec"] == 1.5


def test_bright_stars_include_saturated_ones_once() -> None:
    image = field(1.5, n_stars=0)
    y, x = np.mgrid[:500, :500]
    for x0, y0, peak in ((100, 120, 5e4), (300, 80, 1e4), (220, 400, 3e3)):
        image += peak * np.exp(-0.5 * ((x - x0) ** 2 + (y - y0) ** 2) / 1.5**2)
    image[250, 250] += 4e4  # a hot pixel, which the mask knows
    toy = exposure(np.minimum(image, 3e4))
    toy.set_mask(image > 3e4, "SATURATED")
    hot = np.zeros(image.shape, bool)
    hot[250, 250] = True
    toy.set_mask(hot, "BAD")
    found = np.column_stack(bright_stars(toy, max_stars=3))
    np.testing.assert_array_equal(found, [(100, 120), (300, 80), (220, 400)])
