"""Candidate stamps and their masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import psf_candidates as naive
from naive.psf_stars import blank_exposure
from naive.star_field import disc_footprints
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.mask_planes import plane_bit
from zeropoint.psf._kernels_candidates import mask_faint_neighbors, mask_neighbors, mask_other_peaks
from zeropoint.psf.candidates import (
    MakePsfCandidates,
    MakePsfCandidatesConfig,
    PsfCandidates,
    mask_other_sources,
)

DETECTED, IGNORE = np.int32(plane_bit("DETECTED")), np.int32(plane_bit("INTERPOLATED"))


def _catalog(x, y, footprints=None):
    schema = Schema()
    schema.add(ColumnSpec("c_x", "f8"), ColumnSpec("c_y", "f8"), ColumnSpec("psf_max_value", "f4"))
    schema.alias("slot_Centroid", "c")
    catalog = SourceCatalog(schema, len(x), footprints=footprints)
    catalog["c_x"], catalog["c_y"] = x, y
    return catalog


def _maker(side):
    config = MakePsfCandidatesConfig()
    config.kernelSize = side
    return MakePsfCandidates(config)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 0.6))
def test_neighbor_mask_equals_labelling(seed, density):
    rng = np.random.default_rng(seed)
    mask = np.where(rng.random((3, 13, 13)) < density, DETECTED, 0).astype(np.int32)
    twin = mask.copy()
    mask_neighbors(mask, 2, DETECTED, IGNORE)
    naive.mask_neighbors(twin, 2, DETECTED, IGNORE)
    assert np.array_equal(mask, twin)


def test_faint_neighbor_mask_equals_labelling(rng):
    image = rng.normal(size=(5, 11, 11)).astype(np.float32)
    image[0, 3, 3] = np.nan
    variance = np.ones_like(image)
    variance[1, :2] = 0
    mask = np.full(image.shape, DETECTED, np.int32)
    twin = mask.copy()
    mask_faint_neighbors(mask, image, variance, 0.5, DETECTED, IGNORE)
    with np.errstate(invalid="ignore"):
        naive.mask_faint_neighbors(twin, image, variance, 0.5, DETECTED, IGNORE)
    assert np.array_equal(mask, twin)


def test_blend_mask_equals_its_twin(rng):
    mask = np.full((2, 9, 9), DETECTED, np.int32)
    x, y = np.array([20.2, 40.0]), np.array([20.1, 41.0])
    x0, y0 = np.array([16, 36]), np.array([16, 37])
    span_y = np.r_[15:26, 37:46].astype(np.int32)
    span_x0 = np.r_[np.full(11, 14), np.full(9, 38)].astype(np.int32)
    span_x1 = np.r_[np.full(11, 27), np.full(9, 43)].astype(np.int32)
    peak_x, peak_y = np.array([25, 20, 18, 40, 42], np.int32), np.array([20, 20, 24, 41, 44], np.int32)
    footprints = FootprintSet.build(
        np.array([0, 11, 20]), span_y, span_x0, span_x1, np.array([0, 3, 5]), peak_x, peak_y
    )
    twin = mask.copy()
    mask_other_peaks(
        mask, x, y, x0, y0, footprints.span_offsets, footprints.span_y, footprints.span_x0, footprints.span_x1,
        footprints.peak_offsets, footprints.peak_x, footprints.peak_y, DETECTED, IGNORE,
    )  # fmt: skip
    pixels = [[(i, j) for j, a, b in zip(*footprints.spans_of(k)) for i in range(a, b + 1)] for k in range(2)]
    peaks = [list(zip(peak_x[:3], peak_y[:3])), list(zip(peak_x[3:], peak_y[3:]))]
    naive.mask_other_peaks(twin, x, y, x0, y0, pixels, peaks, DETECTED, IGNORE)
    assert np.array_equal(mask, twin)
    assert (mask[0] == IGNORE).any()


def test_stamps_are_centred_on_the_pixel_that_holds_the_position():
    exposure = blank_exposure(60, 70)
    exposure.image[:] = np.arange(60)[:, None] * 100 + np.arange(70)
    catalog = _catalog([30.49, 30.5, 30.0], [20.0, 19.51, 20.0])
    candidates = _maker(5).run(exposure, catalog)
    assert candidates.image[:, 2, 2].tolist() == [2030.0, 2031.0, 2030.0]
    assert catalog["psf_max_value"].tolist() == [2232.0, 2233.0, 2232.0]


def test_stars_at_the_edge_or_without_position_or_maximum_are_dropped():
    exposure = blank_exposure(40, 40)
    exposure.image[30, 30] = np.nan
    catalog = _catalog([2.0, 20.0, 37.4, 37.6, np.nan, 29.0], [20.0, 20.0, 20.0, 20.0, 20.0, 29.0])
    candidates = _maker(5).run(exposure, catalog)
    assert candidates.rows.tolist() == [0, 1, 2]
    assert np.isnan(catalog["psf_max_value"][3:]).all()


def test_only_selected_rows_become_candidates():
    catalog = _catalog([10.0, 20.0, 30.0], [10.0, 20.0, 30.0])
    candidates = _maker(5).run(blank_exposure(40, 40), catalog, np.array([False, True, True]))
    assert candidates.rows.tolist() == [1, 2]


@pytest.mark.parametrize("selected", [np.zeros(1, bool), np.ones(1, bool)])
def test_no_candidates_give_empty_stamps(selected):
    candidates = _maker(27).run(blank_exposure(20, 20), _catalog([10.0], [10.0]), selected)
    assert len(candidates) == 0
    assert candidates.image.shape == (0, 27, 27)


def test_the_exposure_is_not_modified():
    exposure = blank_exposure(40, 40)
    exposure.mask[:] = DETECTED
    exposure.mask[18, :] = 0
    _maker(9).run(exposure, _catalog([20.0], [20.0]))
    assert (exposure.mask[:18] == DETECTED).all()


def test_touching_footprints_of_other_sources_are_masked():
    """Deblended children: one peak each, one region of detected pixels."""
    x, y = np.array([20.0, 27.0, 60.0]), np.array([20.0, 20.0, 20.0])
    footprints = disc_footprints(x, y, 4)
    mask = np.zeros((40, 80), np.int32)
    for row, first, last in zip(footprints.span_y, footprints.span_x0, footprints.span_x1):
        mask[row, first : last + 1] |= DETECTED
    stamps = np.stack([mask[10:31, 10:31], mask[10:31, 50:71]])
    zero = np.zeros((2, 21, 21), np.float32)
    candidates = PsfCandidates(
        zero, zero + 1, stamps.copy(), x[[0, 2]], y[[0, 2]], np.array([0, 1]), np.full(2, np.nan)
    )
    mask_other_sources(candidates, np.array([0, 2]), footprints)
    row, column = np.mgrid[:21, :21] + 10
    of_neighbor = (stamps[0] & DETECTED != 0) & ((column - 27) ** 2 < (column - 20) ** 2)
    assert (candidates.mask[0][of_neighbor] & IGNORE != 0).all()
    assert not (candidates.mask[0][of_neighbor] & DETECTED).any()
    # the rest of the neighbor is grown, as everything that does not belong to the star
    far = np.hypot(column - 20, row - 20) < 1.5
    assert (candidates.mask[0][far] == DETECTED).all()
    np.testing.assert_array_equal(candidates.mask[1], stamps[1])
