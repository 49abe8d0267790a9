"""Circular apertures, sinc apertures, compensated tophats."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from naive import measurement as naive
from naive.measurement import config_of, measure
from naive.star_field import disc_footprints, exposure_of, grid_of_stars
from zeropoint.datamodel.psf_model import GaussianPsf
from zeropoint.measurement.aperture_flux import sinc_coefficients

APERTURE, TOPHAT = "base_CircularApertureFlux", "base_CompensatedTophatFlux"


def random_case(seed: int = 0):
    rng = np.random.default_rng(seed)
    image = rng.normal(5.0, 3.0, (90, 110))
    x, y = rng.uniform(0, 109, 60), rng.uniform(0, 89, 60)
    x, y = np.clip(x, 2, 106), np.clip(y, 2, 86)
    exposure = exposure_of(image, 9.0, GaussianPsf(1.5, 15))
    exposure.variance += rng.uniform(0, 1, (90, 110)).astype(np.float32)
    return exposure, disc_footprints(x, y, 2), x, y


def measured_at(config, exposure, footprints, x, y):
    """Measure at given sub-pixel positions: the safe centroids are replaced before the first plugin."""
    from zeropoint.datamodel.catalog import SourceCatalog
    from zeropoint.measurement.single_frame import SingleFrameMeasurement

    config.doReplaceWithNoise = False
    step = SingleFrameMeasurement(config)
    first = step.plugins[0]
    inner = first.measure

    def moved(context):
        context.x, context.y = x, y
        context.centroid_flagged = np.zeros(len(x), np.bool_)
        inner(context)

    first.measure = moved
    catalog = SourceCatalog(step.schema, len(x), footprints=footprints)
    step.run(exposure, catalog, seed=1)
    return catalog


def test_plain_sums_match_the_obvious_ones_for_all_radii():
    exposure, footprints, x, y = random_case()
    radii = [17.0, 3.0, 12.0, 5.5, 0.3, 25.0]
    config = config_of(APERTURE)
    config.plugins[APERTURE].radii, config.plugins[APERTURE].maxSincRadius = radii, 0.0
    cat = measured_at(config, exposure, footprints, x, y)
    truncated = 0
    for radius in radii:
        prefix = f"{APERTURE}_" + f"{radius:.1f}".replace(".", "_")
        flux = np.array([naive.circle_sum(exposure.image, *p, radius) for p in zip(x, y)])
        var = np.array([naive.circle_sum(exposure.variance, *p, radius) for p in zip(x, y)])
        np.testing.assert_allclose(cat[f"{prefix}_instFlux"], flux, rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(cat[f"{prefix}_instFluxErr"], np.sqrt(var), rtol=1e-9)
        np.testing.assert_array_equal(cat[f"{prefix}_flag_apertureTruncated"], np.isnan(flux))
        np.testing.assert_array_equal(cat[f"{prefix}_flag"], np.isnan(flux))
        assert f"{prefix}_flag_sincCoeffsTruncated" not in cat
        truncated += np.isnan(flux).sum()
    assert 0 < truncated < len(radii) * len(x)


def test_sinc_sums_match_explicitly_shifted_coefficients():
    exposure, footprints, x, y = random_case(1)
    config = config_of(APERTURE)
    config.plugins[APERTURE].radii = [3.0, 6.0]
    cat = measured_at(config, exposure, footprints, x, y)
    clipped = 0
    for radius in (3.0, 6.0):
        table = sinc_coefficients(radius)
        half = len(table) // 2
        prefix = f"{APERTURE}_{radius:.1f}".replace(".", "_")
        for i, (px, py) in enumerate(zip(x, y)):
            ix, iy = int(np.floor(px + 0.5)), int(np.floor(py + 0.5))
            if np.isnan(naive.circle_sum(exposure.image, px, py, radius)):
                assert cat[f"{prefix}_flag_apertureTruncated"][i]
                assert np.isnan(cat[f"{prefix}_instFlux"][i])
                continue
            weights = naive.shifted(table, px - ix, py - iy)
            padded = np.pad(exposure.image.astype(float), half)
            cut = padded[iy : iy + 2 * half + 1, ix : ix + 2 * half + 1]
            var = np.pad(exposure.variance.astype(float), half)[
                iy : iy + 2 * half + 1, ix : ix + 2 * half + 1
            ]
            np.testing.assert_allclose(cat[f"{prefix}_instFlux"][i], (weights * cut).sum(), rtol=1e-8)
            err = np.sqrt((weights**2 * var).sum())
            np.testing.assert_allclose(cat[f"{prefix}_instFluxErr"][i], err, rtol=1e-8)
            leaves = ix < half or iy < half or ix + half > 109 or iy + half > 89
            assert cat[f"{prefix}_flag_sincCoeffsTruncated"][i] == leaves
            clipped += leaves
    assert clipped > 0


@pytest.mark.parametrize("radius", [1.5, 3.0, 9.0, 12.0])
def test_sinc_coefficients_are_a_symmetric_disc_of_the_right_area(radius):
    table = sinc_coefficients(radius)
    np.testing.assert_allclose(table.sum(), np.pi * radius**2, rtol=1e-10)
    np.testing.assert_allclose(table, table[::-1, :], atol=1e-12)
    np.testing.assert_allclose(table, table.T, atol=1e-12)


def test_sinc_flux_of_a_gaussian_is_that_of_the_continuous_disc():
    # well sampled: aliasing of a Gaussian of sigma 2 is below 1e-8, Lanczos-5 errs by some 1e-4
    sigma, radius = 2.0, 4.5
    exposure, footprints, x, y = grid_of_stars(
        GaussianPsf(sigma, 41), np.full(16, 1e6), noise=1e-3, spacing=60
    )
    config = config_of(APERTURE)
    config.plugins[APERTURE].radii = [radius]
    cat = measured_at(config, exposure, footprints, x, y)
    expected = 1e6 * (1 - np.exp(-0.5 * (radius / sigma) ** 2))
    np.testing.assert_allclose(cat[f"{APERTURE}_4_5_instFlux"], expected, rtol=1e-3)


def test_apertures_cut_pixels_exactly_where_the_psf_is_undersampled():
    # sinc apertures of 12 pixels read such stars 10 mmag low, by an amount that depends on their sub-pixel places
    sigma, radii = 0.4, [3.0, 6.0, 12.0]
    rng = np.random.default_rng(5)
    x, y = 30 + rng.uniform(-0.5, 0.5, 20), 30 + rng.uniform(-0.5, 0.5, 20)
    edges = np.arange(62) - 0.5
    config = config_of(APERTURE, TOPHAT)
    config.plugins[APERTURE].radii, config.plugins[APERTURE].maxSincRadius = radii, 12.0
    config.plugins[TOPHAT].apertures = [6]
    for px, py in zip(x, y):
        along = (np.diff(ndtr((edges - centre) / sigma)) for centre in (py, px))
        exposure = exposure_of(1e6 * np.outer(*along), 1.0, GaussianPsf(sigma, 15))
        one = np.array([px]), np.array([py])
        cat = measured_at(config, exposure, disc_footprints(*one, 2), *one)
        for name in (f"{APERTURE}_3_0", f"{APERTURE}_6_0", f"{APERTURE}_12_0", f"{TOPHAT}_6"):
            np.testing.assert_allclose(cat[f"{name}_instFlux"], 1e6, rtol=1e-5)


def test_exact_apertures_match_finely_divided_pixels():
    exposure, footprints, x, y = random_case(2)
    exposure.psf = GaussianPsf(0.5, 15)
    config = config_of(APERTURE)
    config.plugins[APERTURE].radii = [3.0, 0.4]
    cat = measured_at(config, exposure, footprints, x, y)
    image, variance = (np.pad(plane.astype(float), 5) for plane in (exposure.image, exposure.variance))
    fine, grid = 40, np.arange(-4, 5)
    offsets = (np.arange(fine) + 0.5) / fine - 0.5
    for radius, name in ((3.0, f"{APERTURE}_3_0"), (0.4, f"{APERTURE}_0_4")):
        whole = np.isfinite(cat[f"{name}_instFlux"])
        clipped = cat[f"{name}_flag_sincCoeffsTruncated"]
        for i, (px, py) in enumerate(zip(x, y)):
            ix, iy = int(np.floor(px + 0.5)), int(np.floor(py + 0.5))
            u = (grid[:, None] + offsets + ix - px).ravel() ** 2
            v = (grid[:, None] + offsets + iy - py).ravel() ** 2
            inside = v[:, None] + u <= radius**2
            share = inside.reshape(9, fine, 9, fine).mean(axis=(1, 3))
            box = np.s_[iy + 1 : iy + 10, ix + 1 : ix + 10]
            assert whole[i] == np.isfinite(naive.circle_sum(exposure.image, px, py, radius))
            assert clipped[i] == (min(px, py) - radius < -0.5 or px + radius > 109.5 or py + radius > 89.5)
            if whole[i]:
                # a fine pixel more or less on the edge
                atol = 20.0 * 2 * np.pi * radius / fine**1.5
                np.testing.assert_allclose(cat[f"{name}_instFlux"][i], (share * image[box]).sum(), atol=atol)
                err = np.sqrt((share**2 * variance[box]).sum())
                np.testing.assert_allclose(cat[f"{name}_instFluxErr"][i], err, rtol=0.02)
        assert (whole & clipped).any() or radius < 1


def test_nan_pixel_flags_the_flux_that_contains_it():
    exposure, footprints, x, y = grid_of_stars(GaussianPsf(1.5, 25), np.full(4, 5e3))
    exposure.image[int(y[0]), int(x[0]) + 8] = np.nan
    config = config_of("base_SdssCentroid", APERTURE)
    config.plugins[APERTURE].radii = [6.0, 12.0]
    config.plugins[APERTURE].maxSincRadius = 0.0
    cat = measure(config, exposure, footprints)
    assert cat[f"{APERTURE}_12_0_flag"].tolist() == [True, False, False, False]
    assert not cat[f"{APERTURE}_6_0_flag"].any()


@pytest.mark.parametrize("radius", [4, 12])
def test_tophat_matches_its_definition_and_ignores_a_constant(radius):
    exposure, footprints, x, y = random_case(2)
    exposure.mask[40:50, 40:60] = 4
    config = config_of(TOPHAT)
    config.plugins[TOPHAT].apertures = [radius]
    cat = measured_at(config, exposure, footprints, x, y)
    half = int(np.ceil(1.7 * radius))
    prefix = f"{TOPHAT}_{radius}"
    for i, (px, py) in enumerate(zip(x, y)):
        fx, fy = int(np.floor(px)), int(np.floor(py))
        outside = fx < half or fy < half or fx + half >= 110 or fy + half >= 90
        assert cat[f"{prefix}_flag_bounds"][i] == cat[f"{prefix}_flag"][i] == outside
        if outside:
            assert np.isnan(cat[f"{prefix}_instFlux"][i])
            continue
        box = exposure.mask[fy - half : fy + half + 1, fx - half : fx + half + 1]
        assert cat[f"{prefix}_mask_bits"][i] == np.bitwise_or.reduce(box, axis=None)
        if radius > 10:
            a0, a2 = (naive.circle_sum(exposure.image, px, py, r) for r in (12.0, 20.4))
            v0, v2 = (naive.circle_sum(exposure.variance, px, py, r) for r in (12.0, 20.4))
            share = 1 / (1.7**2 - 1)
            np.testing.assert_allclose(cat[f"{prefix}_instFlux"][i], a0 - share * (a2 - a0), rtol=1e-8)
            expected = np.sqrt(v0 + share**2 * (v2 - v0))
            np.testing.assert_allclose(cat[f"{prefix}_instFluxErr"][i], expected, rtol=1e-8)
    exposure.image[...] = 7.0
    flat = measured_at(config, exposure, footprints, x, y)[f"{prefix}_instFlux"]
    # nominal and counted areas differ by a few per cent of the area
    assert np.nanmax(np.abs(flat)) < 7.0 * 0.05 * np.pi * radius**2


def test_missing_position_is_flagged_and_unset():
    exposure, footprints, x, y = random_case(3)
    x = x.copy()
    x[0] = np.nan
    config = config_of(APERTURE, TOPHAT)
    cat = measured_at(config, exposure, footprints, x, y)
    for prefix in (f"{APERTURE}_12_0", f"{APERTURE}_3_0", f"{TOPHAT}_12"):
        assert cat[f"{prefix}_flag"][0]
        assert np.isnan(cat[f"{prefix}_instFlux"][0])


def test_annulus_must_lie_outside_the_aperture():
    config = config_of(TOPHAT)
    config.plugins[TOPHAT].outer_scale = 0.9
    with pytest.raises(ValueError, match="outer_scale"):
        config.validate()
