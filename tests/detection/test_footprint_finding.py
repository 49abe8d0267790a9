import numpy as np
import pytest

from naive import detection as naive
from zeropoint.detection.footprint_finding import (
    Threshold,
    find_footprints,
    footprint_flags,
    grow_footprints,
    search_peaks_again,
)


def _noise_image(seed, shape=(60, 70), smooth=True):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=shape)
    if smooth:
        image = image + np.roll(image, 1, 0) + np.roll(image, 1, 1)
    return image.astype(np.float32), rng.uniform(0.5, 1.5, shape).astype(np.float32)


def _assert_same(footprints, expected, shape):
    assert len(footprints) == len(expected)
    for k, (region, peaks) in enumerate(expected):
        np.testing.assert_array_equal(footprints.paint(shape, [k]), region)
        s = slice(footprints.peak_offsets[k], footprints.peak_offsets[k + 1])
        got = list(zip(footprints.peak_x[s], footprints.peak_y[s], footprints.peak_value[s]))
        assert got == peaks


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize(
    ("value", "multiplier", "min_pixels", "border"), [(1.5, 1.0, 1, 1), (1.0, 2.5, 1, 4), (0.7, 1.0, 6, 1)]
)
def test_footprints_and_peaks_equal_the_obvious_ones(positive, value, multiplier, min_pixels, border):
    for seed in range(3):
        image, noise = _noise_image(seed)
        image[:border], image[10, 10], noise[30, 30] = np.nan, np.nan, np.nan
        threshold = Threshold(value, multiplier, positive, min_pixels)
        found = find_footprints(image, noise, threshold, border=border)
        sign = 1 if positive else -1
        with np.errstate(invalid="ignore"):
            expected = naive.footprints(image, noise, value, multiplier, sign, min_pixels, border)
        assert len(expected) > 5
        _assert_same(found, expected, image.shape)


def test_a_plateau_has_several_peaks_and_ties_go_by_x_then_y():
    image = np.zeros((9, 9), np.float32)
    image[3:5, 3:6] = 7
    found = find_footprints(image, np.ones_like(image), Threshold(5.0))
    assert list(zip(found.peak_x, found.peak_y)) == [(3, 3), (3, 4), (4, 3), (4, 4), (5, 3), (5, 4)]


def test_a_footprint_at_the_border_has_its_largest_pixel_as_peak():
    image = np.zeros((6, 6), np.float32)
    image[0, 2:5] = 6, 8, 7
    found = find_footprints(image, np.ones_like(image), Threshold(5.0))
    assert (found.peak_x.tolist(), found.peak_y.tolist()) == ([3], [0])


def test_the_multiplier_filters_footprints_but_not_peaks():
    image = np.zeros((12, 20), np.float32)
    image[5, 3:10] = 5
    image[5, 4], image[5, 8] = 20, 6
    image[5, 15] = 8
    found = find_footprints(image, np.ones_like(image), Threshold(5.0, 2.0))
    assert len(found) == 1
    assert found.peak_value.tolist()[:2] == [20, 6]


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (2, 30)])
def test_degenerate_images(shape):
    image = np.zeros(shape, np.float32)
    assert len(find_footprints(image, np.ones_like(image), Threshold(1.0))) == 0


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("radius", [1, 3, 40])
def test_growth_merges_footprints_and_their_peaks(positive, radius):
    for seed in range(3):
        image, noise = _noise_image(seed)
        threshold = Threshold(3.2, 1.0, positive)
        found = find_footprints(image, noise, threshold)
        sign = 1 if positive else -1
        expected = naive.grown(
            naive.footprints(image, noise, 3.2, 1.0, sign, 1, 1), image.shape, radius, sign
        )
        grown = grow_footprints(found, image.shape, radius, positive=positive)
        _assert_same(grown, expected, image.shape)
        assert len(grown.peak_x) == len(found.peak_x)


def test_growth_alone_keeps_every_footprint():
    image, noise = _noise_image(5)
    found = find_footprints(image, noise, Threshold(3.0))
    grown = grow_footprints(found, image.shape, 3, combined=False, isotropic=False)
    assert len(grown) == len(found)
    np.testing.assert_array_equal(grown.n_peaks, found.n_peaks)
    for k in range(len(found)):
        expected = naive.dilate(found.paint(image.shape, [k]), 3, manhattan=True)
        np.testing.assert_array_equal(grown.paint(image.shape, [k]), expected)


def test_flags_equal_the_painted_footprints():
    image, noise = _noise_image(6)
    found = find_footprints(image, noise, Threshold(2.0))
    np.testing.assert_array_equal(footprint_flags(found, image.shape), found.paint(image.shape))


def test_peaks_are_searched_again_only_in_footprints_of_many():
    image = np.zeros((30, 60), np.float32)
    image[5:25, 5:35] = 30  # a plateau: many peaks
    image[10, 10], image[20, 28] = 60, 50
    image[15, 50] = 90
    flat = image.copy()
    flat[5:25, 5:35] -= 30
    found = find_footprints(image, np.ones_like(image), Threshold(5.0))
    again = search_peaks_again(found, flat, np.ones_like(image), Threshold(5.0))
    assert list(zip(again.peak_x, again.peak_y, again.peak_value)) == [
        (10, 10, 30.0),
        (28, 20, 20.0),
        (50, 15, 90.0),
    ]
    assert again.peak_offsets.tolist() == [0, 2, 3]


def test_the_strongest_peak_stays_when_the_search_finds_none():
    image = np.zeros((20, 20), np.float32)
    image[5, 5], image[5, 6], image[5, 7] = 9, 6, 8
    found = find_footprints(image, np.ones_like(image), Threshold(5.0))
    again = search_peaks_again(found, np.zeros_like(image), np.ones_like(image), Threshold(5.0))
    assert list(zip(again.peak_x, again.peak_y, again.peak_value)) == [(5, 5, 9.0)]
