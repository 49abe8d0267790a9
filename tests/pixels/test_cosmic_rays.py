"""The search for cosmic rays: rules, grouping, growth, replacement, and truth on simulated stars."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, label

from naive import cosmic_rays as naive
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.errors import TooManyCosmicRays
from zeropoint.pixels import _kernels
from zeropoint.pixels.cosmic_rays import FindCosmicRaysConfig, find_cosmic_rays, neighbor_ratios
from zeropoint.pixels.interpolation import kriging_weights, line_weights

NO_MASK = np.int32(0)


def config(**values):
    result = FindCosmicRaysConfig()
    for name, value in values.items():
        setattr(result, name, value)
    return result


def find(sim, mask=None, **values):
    mask = np.zeros(sim.image.shape, np.int32) if mask is None else mask
    return find_cosmic_rays(sim.image, sim.variance, mask, sim.psf_image, config(**values))


def painted(found, shape):
    image = np.zeros(shape, bool)
    image[found.y, found.x] = True
    return image


@pytest.mark.parametrize(("fwhm", "min_sigma"), [(3.5, 6.0), (1.3, 4.0), (3.5, -200.0), (2.0, 2.0)])
def test_scan_finds_what_the_pixel_rule_finds(fwhm, min_sigma):
    sim = naive.simulate(size=90, fwhm=fwhm, n_stars=9, n_rays=12, seed=3)
    sim.image[40, 40] = np.nan
    mask = np.zeros(sim.image.shape, np.int32)
    mask[sim.rays > 0] = np.random.default_rng(0).choice(
        [0, 1, 2, 4], (sim.rays > 0).sum(), p=[0.7, 0.1, 0.1, 0.1]
    )
    ratios = neighbor_ratios(sim.psf_image)
    args = (5.0, min_sigma, 2.0, 0.35 * ratios, ratios, 4.0)
    xs, ys = np.empty(8100, np.int32), np.empty(8100, np.int32)
    n = _kernels.scan_pixels(sim.image.copy(), sim.variance, mask, np.array([7, 4], np.int32), *args, xs, ys)
    expected = naive.scan(sim.image, sim.variance, mask, 7, 4, *args)
    assert n > 10
    assert list(zip(xs[:n].tolist(), ys[:n].tolist())) == expected
    assert (
        _kernels.scan_pixels(
            sim.image.copy(), sim.variance, mask, np.array([7, 4], np.int32), *args, xs[:5], ys[:5]
        )
        == 6
    )


@pytest.mark.parametrize("density", [0.0, 0.05, 0.3, 0.6])
def test_labels_are_the_8_connected_components(density):
    pixels = np.random.default_rng(1).random((40, 50)) < density
    ys, xs = (a.astype(np.int32) for a in np.nonzero(pixels))
    labels, n = _kernels.label_pixels(xs, ys)
    expected, n_expected = label(pixels, np.ones((3, 3)))
    assert n == n_expected
    np.testing.assert_array_equal(labels + 1, expected[ys, xs])


def predict(image, taken, xs, ys, mask=None, variance=None):
    values, variances = np.empty(len(xs), np.float32), np.empty(len(xs), np.float32)
    mask = np.zeros(image.shape, np.int32) if mask is None else mask
    variance = np.ones(image.shape, np.float32) if variance is None else variance
    _kernels.predict_pixels(
        image.astype(np.float32),
        variance,
        mask,
        taken.astype(np.uint8),
        np.int32(1),
        line_weights(5),
        np.array(xs, np.int32),
        np.array(ys, np.int32),
        values,
        variances,
    )
    return values, variances


def test_prediction_is_the_smallest_of_four_lines_with_its_bias_removed():
    rng = np.random.default_rng(0)
    image = rng.normal(100, 3, (9, 9))
    taken = np.zeros((9, 9))
    taken[4, 4] = 1
    lines, noise = [], []
    for dx, dy in naive.DIRECTIONS:
        step = np.hypot(dx, dy)
        w = kriging_weights(step * np.array([-2, -1, 1, 2]))
        lines.append(sum(wi * image[4 + k * dy, 4 + k * dx] for wi, k in zip(w, (-2, -1, 1, 2))))
        noise.append((w**2).sum())
    expected = min(lines) + 1.0293753730 * np.sqrt(np.mean(noise))
    values, variances = predict(image, taken, [4], [4])
    assert values[0] == pytest.approx(expected, rel=1e-6)
    assert variances[0] == 1.0
    # with a neighbor on two of the lines masked, the other two remain
    taken[4, 5] = taken[3, 3] = 1
    expected = min(lines[0], lines[2]) + 0.5641895835 * np.sqrt(np.mean([noise[0], noise[2]]))
    assert predict(image, taken, [4], [4])[0][0] == pytest.approx(expected, rel=1e-6)


def test_wide_gaps_are_bridged_along_the_narrowest_line():
    y, x = np.mgrid[:30, :30]
    image = 10.0 + x + 100.0 * y
    taken = np.zeros((30, 30))
    taken[10:13, :] = 1  # a band three pixels high
    values, _ = predict(image, taken, [15, 16], [11, 10])
    weights = kriging_weights([-3, -2, 2, 3])
    assert values[0] == pytest.approx(weights @ image[[8, 9, 13, 14], 15], rel=1e-6)
    weights = kriging_weights([-2, -1, 3, 4])
    assert values[1] == pytest.approx(weights @ image[[8, 9, 13, 14], 16], rel=1e-6)
    taken[:] = 1
    assert np.isnan(predict(image, taken, [15], [11])[0][0])


def test_replacements_are_unbiased_on_sky():
    sim = naive.simulate(size=300, n_stars=0, n_rays=60, seed=5)
    found = find(sim)
    pulls = (found.value - sim.scene[found.y, found.x]) / sim.noise[found.y, found.x]
    # neighbors that are slightly contaminated, or noise that favored a hit, leave a tenth of a sigma
    assert abs(np.mean(pulls)) < 0.1 + 3 / np.sqrt(len(found))
    assert 0.5 < np.std(pulls) < 1.2
    np.testing.assert_allclose(found.variance, 1036, rtol=0.25)


@pytest.mark.parametrize(("fwhm", "least"), [(4.0, 0.98), (3.5, 0.98), (1.3, 0.70)])
def test_cosmic_rays_are_found_and_stars_are_not(fwhm, least):
    hits, n_false, n_clean, ruined = [], 0, 0, 0
    for seed in range(3):
        sim = naive.simulate(fwhm=fwhm, n_stars=100, n_rays=60, seed=seed)
        found = painted(find(sim), sim.image.shape)
        significance = np.where(naive.near_stars(sim, max(1.5, fwhm), 10.0), 0.0, sim.rays / sim.noise)
        hits += [(found & (sim.label == k)).any() for k in np.unique(sim.label[significance > 8])]
        groups, n = label(found, np.ones((3, 3)))
        true = binary_dilation(sim.rays > 0, np.ones((3, 3)))
        n_false += n - len(np.setdiff1d(groups[true], 0))
        for x, y in zip(sim.x[sim.snr > 100], sim.y[sim.snr > 100]):
            wide = np.s_[int(y) - 9 : int(y) + 11, int(x) - 9 : int(x) + 11]
            core = np.s_[int(y) - 5 : int(y) + 7, int(x) - 5 : int(x) + 7]
            if not (sim.rays[wide] > 0).any():
                n_clean += 1
                ruined += found[core].any()
    assert len(hits) > 100
    assert np.mean(hits) >= least
    assert n_false <= 1
    assert n_clean > 50
    assert ruined == 0


@pytest.mark.parametrize("fwhm", [1.0, 1.15, 1.6])
def test_undersampled_stars_survive_the_right_psf(fwhm):
    for seed in range(2):
        sim = naive.simulate(fwhm=fwhm, n_stars=900, n_rays=0, seed=seed)
        assert len(find(sim)) == 0


def test_noise_alone_holds_no_cosmic_rays():
    sim = naive.simulate(size=500, n_stars=0, n_rays=0)
    assert len(find(sim)) == 0


def test_growth_stops_and_never_climbs_to_brighter_pixels():
    sim = naive.simulate(size=60, n_stars=0, n_rays=0)
    sim.image[30, 30] += 2000  # found
    sim.image[30, 31] += 130  # fainter neighbor: grown into, not found by itself
    strict = find(sim, niteration=0)
    grown = find(sim)
    assert (len(strict), strict.n_events) == (1, 1)
    assert {(30, 30), (31, 30)} <= set(zip(grown.x.tolist(), grown.y.tolist()))
    assert set(grown.label.tolist()) == {0}
    assert len(find(sim, niteration=100)) == len(grown)


def test_masked_pixels_and_faint_events_are_left_alone():
    sim = naive.simulate(size=60, n_stars=0, n_rays=0)
    sim.image[10, 10:50:8] = 1500
    mask = np.zeros(sim.image.shape, np.int32)
    for k, plane in enumerate(("BAD", "SATURATED", "NO_DATA", "INTERPOLATED", "DETECTED")):
        mask[10 + (plane == "INTERPOLATED"), 10 + 8 * k] = bitmask([plane])  # or a neighbor of it
    found = find(sim, mask)
    assert set(found.x[found.y == 10].tolist()) == {42}
    assert len(find(sim, min_DN=1e5)) == 0


def test_too_many_pixels_raise_and_inputs_stay():
    sim = naive.simulate(size=100, n_stars=0, n_rays=20)
    image = sim.image.copy()
    with pytest.raises(TooManyCosmicRays) as info:
        find(sim, nCrPixelMax=10)
    assert info.value.metadata == {"maxCosmicRays": 10}
    find(sim)
    np.testing.assert_array_equal(sim.image, image)


def test_border_images_and_nan_are_harmless():
    for shape in ((1, 1), (2, 7), (3, 3)):
        image = np.full(shape, np.nan, np.float32)
        found = find_cosmic_rays(
            image, np.ones(shape, np.float32), np.zeros(shape, np.int32), np.ones((3, 3))
        )
        assert len(found) == 0


def test_a_pixel_without_good_neighbors_gets_repeatable_noise():
    sim = naive.simulate(size=60, n_stars=0, n_rays=0)
    sim.image[20:34, 20:34] += 5000
    mask = np.ones(sim.image.shape, np.int32)
    mask[20:34, 20:34] = 0  # the corners of the block are hit, and no line through them ends on good pixels
    first, second = (find(sim, mask) for _ in range(2))
    assert len(first) >= 4
    np.testing.assert_array_equal(first.value, second.value)
    assert np.abs(first.value).max() < 5 * 33
    assert np.ptp(first.value) > 0
