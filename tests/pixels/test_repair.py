"""Repair of an exposure in place."""

import numpy as np
import pytest

from naive import cosmic_rays as naive
from naive.exposures import FixedPsf, exposure
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.errors import TooManyCosmicRays
from zeropoint.pixels.repair import Repair, RepairConfig

CR, INTERPOLATED = bitmask(["COSMIC_RAY"]), bitmask(["INTERPOLATED"])


def make(**values):
    sim = naive.simulate(size=200, n_stars=9, n_rays=20, **values)
    return sim, exposure(sim.image, sim.variance, psf=FixedPsf(sim.psf_image))


def test_keeping_marks_without_touching_pixels():
    sim, exp = make()
    exp.mask[0, :] = CR | 32  # stale
    result = Repair().run(exp, keepCRs=True)
    np.testing.assert_array_equal(exp.image, sim.image)
    np.testing.assert_array_equal(exp.variance, sim.variance)
    assert (exp.mask & CR != 0).sum() == result.n_pixels > 20
    assert result.cosmic_ray_count > 10
    assert not (exp.mask & INTERPOLATED).any()
    np.testing.assert_array_equal(exp.mask[0], 32)


def test_removing_replaces_the_marked_pixels_only():
    sim, exp = make()
    Repair().run(exp)
    changed = exp.image != sim.image
    marked = exp.mask & CR != 0
    np.testing.assert_array_equal(changed, marked)
    np.testing.assert_array_equal(exp.mask & INTERPOLATED != 0, marked)
    bright = (sim.rays > 8 * sim.noise) & ~naive.near_stars(sim, 5.0, 10.0)
    assert np.abs(((exp.image - sim.scene) / sim.noise)[bright & marked]).max() < 6


def test_config_decides_on_keeping_and_searching():
    sim, exp = make()
    config = RepairConfig()
    config.cosmicray.keepCRs = True
    Repair(config).run(exp)
    np.testing.assert_array_equal(exp.image, sim.image)
    config.doCosmicRay = False
    exp.psf = None
    assert Repair(config).run(exp).n_pixels == 0


def test_background_bins_smaller_than_the_image_follow_a_gradient():
    sim, exp = make()
    gradient = np.linspace(0, 3000, 200, dtype=np.float32)
    exp.image += gradient
    config = RepairConfig()
    flat = Repair(config).run(exp.copy(), keepCRs=True)
    config.cosmicray.background.binSize = 20
    config.cosmicray.background.algorithm = "LINEAR"
    marked = exp.copy()
    result = Repair(config).run(marked)
    assert result.cosmic_ray_count > 1.3 * flat.cosmic_ray_count
    kept = marked.mask & CR == 0
    np.testing.assert_array_equal(marked.image[kept], exp.image[kept])
    residual = (marked.image - sim.scene - gradient)[~kept] / sim.noise[~kept]
    assert abs(np.median(residual)) < 0.5


def test_level_of_a_small_image_is_its_median():
    _, exp = make()
    expected = Repair().run(exp.copy(), keepCRs=True)
    exp.image += 1000
    shifted = Repair().run(exp, keepCRs=True)
    assert abs(shifted.cosmic_ray_count - expected.cosmic_ray_count) <= 1


def test_failure_leaves_the_pixels():
    sim, exp = make()
    config = RepairConfig()
    config.cosmicray.nCrPixelMax = 5
    with pytest.raises(TooManyCosmicRays):
        Repair(config).run(exp)
    np.testing.assert_array_equal(exp.image, sim.image)
    exp.psf = None
    with pytest.raises(ValueError, match="PSF"):
        Repair().run(exp)


def test_defects_are_interpolated_with_the_clipped_mean_at_edges():
    _, exp = make()
    exp.image[:, :20] = np.nan
    config = RepairConfig()
    config.doCosmicRay = False
    Repair(config).run(exp, defects=[(0, 0, 19, 199)])
    assert np.isfinite(exp.image).all()
    assert len(np.unique(exp.image[:, :14])) == 1
    assert (exp.mask[:, :20] == INTERPOLATED).all()
    config.doInterpolate = False
    before = exp.image.copy()
    Repair(config).run(exp, defects=[(50, 50, 60, 60)])
    np.testing.assert_array_equal(exp.image, before)
