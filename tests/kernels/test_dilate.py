import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from naive import detection as naive
from zeropoint.kernels import dilate as module
from zeropoint.kernels.dilate import dilate, half_widths


def _two_passes(mask, radius, manhattan):
    distance = np.empty(mask.shape, np.uint8 if radius < 255 else np.uint16)
    module._column_distance(mask.view(np.uint8), radius + 1, distance)
    out = np.empty(mask.shape, np.uint8)
    module._row_reach(distance, half_widths(radius, manhattan), out)
    return out.astype(bool)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 18))), st.integers(0, 14), st.booleans())
def test_both_ways_equal_the_union_of_stencils(mask, radius, manhattan):
    expected = naive.dilate(mask, radius, manhattan)
    np.testing.assert_array_equal(dilate(mask, radius, manhattan), expected)
    if radius:
        np.testing.assert_array_equal(_two_passes(mask, radius, manhattan), expected)


@pytest.mark.parametrize("radius", [30, 254, 255, 300])
def test_large_discs_are_exact(radius):
    mask = np.zeros((340, 350), bool)
    mask[5, 7] = mask[300, 20] = True
    y, x = np.mgrid[:340, :350]
    expected = ((y - 5) ** 2 + (x - 7) ** 2 <= radius**2) | ((y - 300) ** 2 + (x - 20) ** 2 <= radius**2)
    np.testing.assert_array_equal(dilate(mask, radius), expected)
    np.testing.assert_array_equal(_two_passes(mask, radius, False), expected)


def test_input_is_not_modified_and_nothing_grows_from_nothing():
    mask = np.zeros((10, 10), bool)
    assert not dilate(mask, 3).any()
    mask[4, 4] = True
    dilate(mask, 3)
    assert mask.sum() == 1


def test_negative_radius_is_refused():
    with pytest.raises(ValueError, match="radius"):
        dilate(np.zeros((3, 3), bool), -1)
