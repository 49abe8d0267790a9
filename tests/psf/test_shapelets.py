"""Raw moments, star selection and the joint shapelet fit."""

import dataclasses

import numpy as np
import pytest
from scipy.special import genlaguerre

from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.exposure import Amplifier, DetectorInfo, Exposure, VisitInfo
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.errors import NoStarsForShapeletsError
from zeropoint.psf._kernels_shapelets import polar_shapelets
from zeropoint.psf.shapelets import (
    ComputeRoughPsfShapelets,
    ComputeRoughPsfShapeletsConfig,
    first_mode,
    robust_distances,
)

HALF = 14  # of the square footprints


def make_exposure(image, variance=100.0):
    height, width = image.shape
    detector = DetectorInfo("test", "d", 0, width, height, (Amplifier("a", (0, 0, width - 1, height - 1)),))
    return Exposure(
        image.astype(np.float32),
        np.full(image.shape, variance, np.float32),
        np.zeros(image.shape, np.int32),
        detector,
        VisitInfo(1, 30.0, 60000.0, "r", "r"),
    )


def square_footprints(centers, half=HALF):
    size = 2 * half + 1
    y = np.concatenate([np.arange(cy - half, cy + half + 1) for _, cy in centers])
    x0 = np.repeat([cx - half for cx, _ in centers], size)
    return FootprintSet.build(np.arange(len(centers) + 1) * size, y, x0, x0 + size - 1)


def scene(profile, n_side=5, flux=1e5, noise=10.0, seed=1):
    """Return exposure, catalogue and step for stars of a profile(dx, dy) of unit sum on a jittered grid."""
    rng = np.random.default_rng(seed)
    spacing = 2 * HALF + 12
    n = n_side * spacing
    image = rng.normal(0.0, noise, (n, n))
    centers = [
        (spacing // 2 + i * spacing, spacing // 2 + j * spacing) for j in range(n_side) for i in range(n_side)
    ]
    grid_y, grid_x = np.mgrid[:n, :n]
    for cx, cy in centers:
        dx, dy = rng.uniform(-0.5, 0.5, 2)
        box = np.s_[cy - HALF : cy + HALF + 1, cx - HALF : cx + HALF + 1]
        image[box] += flux * profile(grid_x[box] - cx - dx, grid_y[box] - cy - dy)
    schema = Schema()
    schema.add(ColumnSpec("parent", "i8"), ColumnSpec("c_x", "f8"), ColumnSpec("c_y", "f8"))
    schema.alias("slot_Centroid", "c")
    step = ComputeRoughPsfShapelets(schema=schema)
    catalog = SourceCatalog(schema, len(centers), footprints=square_footprints(centers))
    return make_exposure(image, noise**2), catalog, step


def gaussian(dx, dy, sigma=2.5):
    return np.exp(-0.5 * (dx**2 + dy**2) / sigma**2) / (2 * np.pi * sigma**2)


def coma(dx, dy):
    return gaussian(dx, dy, 2.5) * 0.6 + gaussian(dx - 4.0, dy, 3.5) * 0.4


def test_polar_basis_equals_its_formula_and_is_orthonormal():
    grid = np.linspace(-9, 9, 181)
    u, v = (a.ravel() for a in np.meshgrid(grid, grid))
    basis = np.empty((u.size, 28))
    polar_shapelets(u, v, 6, basis)
    gram = basis.T @ basis * (grid[1] - grid[0]) ** 2
    np.testing.assert_allclose(gram, np.eye(28), atol=1e-9)
    factorial = np.cumprod([1, *range(1, 7)])
    r, phase, column = np.hypot(u, v), np.arctan2(v, u), 0
    for n in range(7):
        for m in range(n, -1, -2):
            q, p = (n - m) // 2, (n + m) // 2
            radial = (-1) ** q * np.sqrt(factorial[q] / factorial[p] / np.pi) * r**m * np.exp(-(r**2) / 2)
            radial *= genlaguerre(q, m)(r**2)
            parts = [radial] if m == 0 else [2**0.5 * radial * f(m * phase) for f in (np.cos, np.sin)]
            for part in parts:
                np.testing.assert_allclose(basis[:, column], part, atol=1e-10)
                column += 1


def test_round_gaussian_stars_are_one_coefficient():
    exposure, catalog, step = scene(gaussian)
    result = step.run(exposure, catalog)
    c = np.array(result.shapeletsCoeffs)
    # flux x Gaussian = c0 / (sqrt(pi) r^2) exp(..): c0 = 1 / (2 sqrt(pi)); the raw radius is good to a few per cent
    assert c[0] == pytest.approx(0.5 / np.sqrt(np.pi), rel=0.05)
    assert result.shapeletsOnlyIqScore < 1e-3
    assert 10 <= result.nShapeletsStar <= 20
    assert result.shapeletsStarEMedian < 0.05
    assert np.isnan(result.shapeletsIqScore)
    np.testing.assert_allclose(catalog["RoughPsfShapelets_flux"], 1e5, rtol=0.02)
    np.testing.assert_allclose(catalog["RoughPsfShapelets_xx"], 6.25, rtol=0.1)


def test_coma_raises_the_score():
    good = scene(gaussian)
    bad = scene(coma)
    scores = [step.run(exposure, catalog).shapeletsOnlyIqScore for exposure, catalog, step in (good, bad)]
    assert scores[1] > 10 * scores[0]


def test_score_with_centroids_adds_the_scaled_offset():
    exposure, catalog, step = scene(gaussian)
    result = step.run(exposure, catalog)
    assert step.update_iq_score(result, catalog) == result  # no centroid yet
    catalog["slot_Centroid_x"] = catalog["RoughPsfShapelets_x"] + 3.0
    catalog["slot_Centroid_y"] = catalog["RoughPsfShapelets_y"] - 4.0
    updated = step.update_iq_score(result, catalog)
    assert updated.centroidDiffShapeletsVsSlotMedian == pytest.approx(5.0)
    power = (np.array(result.shapeletsCoeffs) ** 2).sum()
    expected = (result.shapeletsOnlyIqScore * power + 0.01) / (power + 0.01)
    assert updated.shapeletsIqScore == pytest.approx(expected)
    assert dataclasses.replace(
        updated, shapeletsIqScore=0, centroidDiffShapeletsVsSlotMedian=0
    ) == dataclasses.replace(result, shapeletsIqScore=0, centroidDiffShapeletsVsSlotMedian=0)


def test_bad_pixels_children_and_large_footprints_have_no_moments():
    exposure, catalog, step = scene(gaussian)
    boxes = catalog.footprints.boxes()
    x, y = boxes[0, 0] + HALF, boxes[0, 1] + HALF
    exposure.mask[y, x + 1] |= 1 << 1  # saturated pixel at the center of source 0
    exposure.mask[boxes[1, 1] : boxes[1, 1] + 9, boxes[1, 0] : boxes[1, 2] + 1] |= 1 << 1  # 31% of source 1
    catalog["parent"][2] = 5
    step.run(exposure, catalog)
    assert catalog["RoughPsfShapelets_flag"].tolist() == [True] * 3 + [False] * 22
    assert np.isnan(catalog["RoughPsfShapelets_x"][:3]).all()
    assert not catalog["RoughPsfShapelets_used"][:3].any()
    step.config.max_footprint_area = 100
    with pytest.raises(NoStarsForShapeletsError):
        step.run(exposure, catalog)


def test_too_few_sources_raise():
    exposure, catalog, step = scene(gaussian, n_side=3)
    with pytest.raises(NoStarsForShapeletsError) as info:
        step.run(exposure, catalog)
    assert info.value.metadata == {"n_sources": 9, "n_good": 9}
    assert not catalog["RoughPsfShapelets_flag"].any()


def test_first_mode_is_the_star_locus_not_the_galaxies():
    rng = np.random.default_rng(3)
    radii = np.concatenate([rng.normal(2.5, 0.1, 30), rng.normal(8.0, 0.5, 200), np.full(50, 0.3)])
    assert first_mode(radii, 1.0, 1.0) == pytest.approx(2.5, abs=0.3)
    assert np.isnan(first_mode(np.array([0.5]), 1.0, 1.0))
    assert first_mode(np.array([2.0]), 1.0, 1.0) == 2.0


def test_the_same_input_gives_the_same_result():
    config = ComputeRoughPsfShapeletsConfig()
    config.shapelet_circular_basis = False
    config.logarithmic_shapes = True
    results = []
    for _ in range(2):
        exposure, catalog, step = scene(coma)
        step.config = config
        results.append(step.run(exposure, catalog))
    assert repr(results[0]) == repr(results[1])


def test_robust_distances_see_outliers_that_hide_from_the_covariance():
    rng = np.random.default_rng(4)
    good = rng.normal(size=(150, 3)) @ np.diag([1.0, 2.0, 0.5])
    points = np.concatenate([good, rng.normal(size=(40, 3)) * 0.3 + [8.0, -15.0, 4.0]])
    distance = robust_distances(points)
    # the 97.5 % point of chi-square with three degrees of freedom is 9.35
    assert (distance[150:] > 50).all()
    assert np.median(distance[:150]) == pytest.approx(2.37, rel=0.25)


def test_robust_distances_of_equal_points_are_zero():
    assert (robust_distances(np.ones((12, 3))) == 0).all()
