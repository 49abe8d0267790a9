import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from naive import detection as naive
from zeropoint.kernels.labels import find_runs, label_mask, mark_above


def _painted(offsets, y, x0, x1, k, shape):
    image = np.zeros(shape, bool)
    for i in range(offsets[k], offsets[k + 1]):
        image[y[i], x0[i] : x1[i] + 1] = True
    return image


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 20))))
def test_regions_equal_those_of_scipy_in_raster_order(mask):
    offsets, y, x0, x1 = label_mask(mask)
    expected = naive.regions(mask)
    assert len(offsets) - 1 == len(expected)
    for k, region in enumerate(expected):
        np.testing.assert_array_equal(_painted(offsets, y, x0, x1, k, mask.shape), region)
        spans = list(zip(y[offsets[k] : offsets[k + 1]], x0[offsets[k] : offsets[k + 1]]))
        assert spans == sorted(spans)


@pytest.mark.parametrize("density", [0.02, 0.5, 0.97])
def test_regions_of_a_large_random_image(density):
    mask = np.random.default_rng(3).random((120, 133)) < density
    offsets, y, x0, x1 = label_mask(mask)
    for k, region in enumerate(naive.regions(mask)):
        np.testing.assert_array_equal(_painted(offsets, y, x0, x1, k, mask.shape), region)


def test_runs_are_maximal_and_cover_the_mask():
    mask = np.random.default_rng(4).random((40, 77)) < 0.4
    row_offsets, x0, x1 = find_runs(mask.view(np.uint8))
    painted = np.zeros_like(mask)
    for y in range(40):
        for i in range(row_offsets[y], row_offsets[y + 1]):
            assert x0[i] == 0 or not mask[y, x0[i] - 1]
            assert x1[i] == 76 or not mask[y, x1[i] + 1]
            painted[y, x0[i] : x1[i] + 1] = True
    np.testing.assert_array_equal(painted, mask)


def test_marks_are_false_where_value_or_noise_is_nan():
    values = np.array([[5, 4.9, np.nan, -6, np.inf]], np.float32)
    noise = np.array([[1, 1, 1, 1, np.nan]], np.float32)
    out = np.empty(values.shape, np.uint8)
    mark_above(values, noise, np.float32(5), np.float32(1), out)
    assert out.tolist() == [[1, 0, 0, 0, 0]]
    mark_above(values, noise, np.float32(5), np.float32(-1), out)
    assert out.tolist() == [[0, 0, 0, 1, 0]]
