"""Each kernel of the deblender against its slow twin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import deblend as naive
from zeropoint.datamodel.psf_model import GaussianPsf
from zeropoint.detection.deblend._kernels_apportion import (
    divide_flux,
    remove_degenerate,
    stray_shares,
    weight_templates,
)
from zeropoint.detection.deblend._kernels_psf_fit import back_substitute, factorize, fit_point_sources
from zeropoint.detection.deblend._kernels_spans import append_runs, parent_statistics
from zeropoint.detection.deblend._kernels_templates import (
    make_monotonic,
    median_smooth,
    pad_with_ramp,
    patch_edges,
    symmetrize,
)
from zeropoint.detection.deblend._networks import MEDIAN_OF_25, median_network

SHAPES = [(1, 1), (1, 7), (5, 5), (4, 9), (13, 8), (23, 31)]


def blob(rng, shape):
    """Noise with zeros, and a footprint with holes."""
    pix = rng.normal(1.0, 2.0, shape).astype(np.float32)
    pix[rng.random(shape) < 0.1] = 0.0
    return pix, (rng.random(shape) < 0.8).astype(np.uint8)


@pytest.mark.parametrize("n", [1, 3, 5, 9, 25])
def test_network_leaves_the_median_of_zeros_and_ones_in_the_middle(n):
    # the 0-1 principle: a network right on all 0-1 inputs is right; beyond 9 wires a random sample
    if n <= 9:
        values = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).T.copy()
    else:
        values = (np.random.default_rng(n).random((n, 200_000)) < np.linspace(0.3, 0.7, 200_000)).astype(int)
    expected = np.median(values, axis=0)
    for i, j in median_network(n):
        values[i], values[j] = np.minimum(values[i], values[j]), np.maximum(values[i], values[j])
    np.testing.assert_array_equal(values[n // 2], expected)


def test_network_of_25_is_pruned():
    assert len(MEDIAN_OF_25) < 120
    assert (MEDIAN_OF_25[:, 0] < MEDIAN_OF_25[:, 1]).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_median_smooth_equals_numpy(shape):
    values = np.random.default_rng(3).exponential(1.0, shape).astype(np.float32)
    expected = naive.median_smooth(values)
    got = values.copy()
    median_smooth(got, *shape, np.empty((25, shape[1]), np.float32), np.empty(shape, np.float32))
    np.testing.assert_array_equal(got, expected if min(shape) >= 5 else values)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_symmetrize_equals_twin(shape, seed):
    rng = np.random.default_rng([seed, *shape])
    pix, inside = blob(rng, shape)
    cx, cy = int(rng.integers(shape[1])), int(rng.integers(shape[0]))
    values, member = np.full(shape, 9, np.float32), np.full(shape, 9, np.uint8)
    ex, ey = symmetrize(pix, inside, *shape, cx, cy, values, member)
    expected = naive.symmetric_template(pix, inside, cx, cy)
    if not inside[cy, cx]:
        assert (ex, ey) == (-1, -1)
        return
    assert (ex, ey) == (max(abs(x - cx) for _, x in expected), max(abs(y - cy) for y, _ in expected))
    got = {
        (y + cy - ey, x + cx - ex): values[y, x]
        for y in range(2 * ey + 1)
        for x in range(2 * ex + 1)
        if member[y, x]
    }
    assert got == {key: np.float32(value) for key, value in expected.items()}


@pytest.mark.parametrize(("cx", "cy"), [(-1, 2), (2, -1), (7, 2), (2, 5)])
def test_symmetrize_refuses_a_peak_outside(cx, cy):
    pix, inside = np.ones((5, 7), np.float32), np.ones((5, 7), np.uint8)
    assert symmetrize(pix, inside, 5, 7, cx, cy, pix.copy(), inside.copy()) == (-1, -1)


def test_patch_edges_keeps_pixels_whose_mirror_leaves_the_box():
    rng = np.random.default_rng(1)
    pix, inside = blob(rng, (9, 12))
    inside[4, 3] = 1
    values, member = np.empty((9, 12), np.float32), np.empty((9, 12), np.uint8)
    patch_edges(pix, inside, 9, 12, 3, 4, values, member)
    symmetric = naive.symmetric_template(pix, inside, 3, 4)
    for y in range(9):
        for x in range(12):
            leaves = not (0 <= 8 - y < 9 and 0 <= 6 - x < 12)
            expected = max(pix[y, x], 0) if leaves and inside[y, x] else symmetric.get((y, x), 0.0)
            assert values[y, x] == np.float32(expected)
            assert bool(member[y, x]) == ((leaves and bool(inside[y, x])) or (y, x) in symmetric)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(2))
def test_make_monotonic_equals_twin(shape, seed):
    rng = np.random.default_rng([seed, *shape])
    values = rng.exponential(1.0, shape).astype(np.float32)
    cx, cy = int(rng.integers(shape[1])), int(rng.integers(shape[0]))
    expected = naive.make_monotonic(values, cx, cy)
    make_monotonic(values, *shape, np.empty(shape, np.float32), cx, cy)
    np.testing.assert_array_equal(values, expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 10), st.integers(0, 10))
def test_make_monotonic_never_raises_a_pixel_and_commutes_with_transposition(seed, cx, cy):
    values = np.random.default_rng(seed).exponential(1.0, (11, 11)).astype(np.float32)
    once, turned = values.copy(), np.ascontiguousarray(values.T)
    make_monotonic(once, 11, 11, np.empty((11, 11), np.float32), cx, cy)
    make_monotonic(turned, 11, 11, np.empty((11, 11), np.float32), cy, cx)
    assert (once <= values).all()
    np.testing.assert_array_equal(once, turned.T)


def test_make_monotonic_keeps_a_gaussian():
    y, x = np.mgrid[:21, :21]
    values = np.exp(-((x - 10) ** 2 + (y - 10) ** 2) / 18.0).astype(np.float32)
    got = values.copy()
    make_monotonic(got, 21, 21, np.empty((21, 21), np.float32), 10, 10)
    np.testing.assert_array_equal(got, values)


def test_pad_with_ramp_equals_loops():
    rng = np.random.default_rng(5)
    image = rng.normal(5, 1, (12, 12)).astype(np.float32)
    inside = np.zeros((5, 6), np.uint8)
    inside[1:4] = 1
    inside[0, 2:4] = inside[4, 2:4] = 1
    taken = np.zeros((12, 12), np.uint8)
    taken[:5, :6] = inside
    taken[2:4, 8] = 1  # a neighbor
    footprint = naive.footprints_of([taken[:, :7] > 0], [[(2, 2)]])
    spans = np.stack([footprint.span_y, footprint.span_x0, footprint.span_x1], axis=1)
    table = np.array([0, len(spans), 0, 1, 0, 0, 5, 4])
    values, member = np.empty((5, 5), np.float32), np.empty((5, 5), np.uint8)
    ex, ey = symmetrize(image[:5, :6].copy(), inside, 5, 6, 2, 2, values, member)
    assert (ex, ey) == (2, 2)
    stamp, reach = GaussianPsf(1.5, 9).kernel_stamps(x=0.0, y=0.0)[0], 3
    pad, pad_inside = np.empty((11, 11), np.float32), np.empty((11, 11), np.uint8)
    pad_with_ramp(
        image, taken, inside, spans, table, 0, 0, 5, 5, values, member, stamp, reach, pad, pad_inside
    )
    grown = {
        (y + dy, x + dx)
        for y, x in np.argwhere(inside)
        for dy in range(-3, 4)
        for dx in range(-3, 4)
        if dy * dy + dx * dx <= 9
    }
    edges = [
        (y, x)
        for y, x in np.argwhere(member)
        if any(
            not (0 <= y + b < 5 and 0 <= x + a < 5 and member[y + b, x + a])
            for a, b in ((1, 0), (-1, 0), (0, 1), (0, -1))
        )
    ]
    for y in range(-3, 8):
        for x in range(-3, 8):
            expected = 0.0
            if (y, x) in grown:
                on_image = y >= 0 and x >= 0
                if on_image and not (taken[y, x] and not (y < 5 and x < 6 and inside[y, x])):
                    expected = image[y, x]
                else:
                    for ey_, ex_ in edges:
                        if max(abs(y - ey_), abs(x - ex_)) <= 3:
                            ramp = values[ey_, ex_] * stamp[4 + y - ey_, 4 + x - ex_] / stamp.max()
                            expected = max(expected, ramp)
            assert pad[y + 3, x + 3] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("trim", [True, False])
def test_append_runs_writes_member_pixels(trim):
    values = np.array([[0, 1, 0, -2, 3, 0, 5], [0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, -1]], np.float32)
    member = np.array([[1, 1, 1, 1, 1, 0, 1], [1, 1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 1]], np.uint8)
    spans, pixels = np.full((12, 3), -9, np.int32), np.full(21, -9, np.float32)
    n_spans, n_pixels = append_runs(values, member, 10, 20, 3, 7, trim, spans, 0, pixels, 0)
    if trim:
        assert spans[:n_spans].tolist() == [[20, 11, 14], [20, 16, 16]]
        assert pixels[:n_pixels].tolist() == [1, 0, 0, 3, 5]
    else:
        assert spans[:n_spans].tolist() == [[20, 10, 14], [20, 16, 16], [21, 10, 16], [22, 11, 16]]
        assert pixels[:n_pixels].tolist() == [0, 1, 0, -2, 3, 5] + [0] * 7 + [0, 0, 0, 0, 0, -1]


def test_parent_statistics_of_a_bar():
    region = np.zeros((8, 12), bool)
    region[3:5, 2:10] = True
    footprint = naive.footprints_of([region], [[]])
    spans = np.stack([footprint.span_y, footprint.span_x0, footprint.span_x1], axis=1)
    mask = np.zeros((8, 12), np.int32)
    mask[3, :5] = 4
    out = np.empty((1, 6))
    parent_statistics(mask, spans, np.array([[0, 2]]), np.array([4, 8], np.int32), out)
    # moments of a row of n pixels: (n^2 - 1)/12
    np.testing.assert_allclose(out[0], [16, 5.5, 3.5, np.sqrt(3 / 63), 3, 0])


def test_factorize_solves_and_drops_dependent_columns():
    rng = np.random.default_rng(0)
    design = rng.normal(size=(30, 4))
    target = rng.normal(size=30)
    twice = np.column_stack([design, design[:, 1], np.zeros(30)])
    normal = np.zeros((7, 6))
    normal[:6], normal[6] = twice.T @ twice, twice.T @ target
    factorize(normal, 6)
    solution = np.empty(6)
    explained = back_substitute(normal, 6, 6, solution)
    expected, residual = np.linalg.lstsq(design, target, rcond=None)[:2]
    np.testing.assert_allclose(solution, [*expected, 0, 0], rtol=1e-9, atol=1e-12)
    assert target @ target - explained == pytest.approx(residual[0], rel=1e-9)
    # the leading block is the smaller problem
    explained = back_substitute(normal, 2, 6, solution)
    np.testing.assert_allclose(solution[:2], np.linalg.lstsq(design[:, :2], target, rcond=None)[0], rtol=1e-9)


@pytest.mark.parametrize("bad", ["none", "nan", "variance"])
def test_fit_point_sources_equals_least_squares(bad):
    rng = np.random.default_rng(7)
    shape, sigma = (30, 40), 1.7
    image = naive.stars(shape, [14.3, 20.1, 33.0], [13.8, 16.0, 6.0], [5000.0, 3000.0, 900.0], sigma)
    variance = (image + 20).astype(np.float32)
    image = (image + rng.normal(size=shape) * np.sqrt(variance)).astype(np.float32)
    inside = np.ones(shape, bool)
    inside[:3] = inside[20:, :5] = False
    if bad == "nan":
        image[13, 15] = np.nan
    elif bad == "variance":
        variance[13, 15] = 0.0
    peaks = np.array([[14, 14], [20, 16], [33, 6]], np.int32)
    footprint = naive.footprints_of([inside], [peaks])
    spans = np.stack([footprint.span_y, footprint.span_x0, footprint.span_x1], axis=1)
    table = np.array([[0, len(spans), 0, 3, 0, 3, 39, 29]])
    psf = GaussianPsf(sigma, 15)
    stamps = psf.star_stamps(x=peaks[:, 0], y=peaks[:, 1])
    fwhm, out = np.array([2.35 * sigma]), np.empty((3, 6))
    options = np.array([2, 2])
    fit_point_sources(
        image,
        variance,
        spans,
        table,
        fwhm,
        peaks,
        stamps,
        np.arange(3),
        stamps,
        peaks.astype(np.int64),
        options,
        out,
    )
    for k in range(3):
        others = [tuple(p) for i, p in enumerate(peaks) if i != k]
        args = (image, variance, inside, tuple(peaks[k]), others, fwhm[0], stamps[0])
        q1, p1 = naive.point_source_fit(*args, False)
        q2, p2 = naive.point_source_fit(*args, True)
        expected = [0, q1, p1[0], q2, p2[-2] / p2[0], p2[-1] / p2[0]]
        np.testing.assert_allclose(out[k], expected, rtol=1e-6, atol=1e-9)


def two_templates(amplitudes):
    """Run-form templates of two shifted blobs, and the window."""
    y, x = np.mgrid[:9, :14]
    shapes = [np.exp(-((x - c) ** 2 + (y - 4) ** 2) / 4.0) for c in (4, 9)]
    spans, pixels = np.empty((60, 3), np.int32), np.empty(400, np.float32)
    where, n_spans, n_pixels = np.zeros((2, 4), np.int64), 0, 0
    for k, amplitude in enumerate(amplitudes):
        where[k, 0], where[k, 2] = n_spans, n_pixels
        n_spans, n_pixels = append_runs(
            (amplitude * shapes[k]).astype(np.float32), np.ones((9, 14), np.uint8), 0, 0, 9, 14, True,
            spans, n_spans, pixels, n_pixels,
        )  # fmt: skip
        where[k, 1], where[k, 3] = n_spans, n_pixels
    table = np.array([[0, 0, 0, 2, 0, 0, 13, 8]])
    return shapes, spans[:n_spans], pixels[:n_pixels], where, table, np.array([[0, 0, 9, 14]])


def test_weight_templates_finds_the_amplitudes():
    shapes, spans, pixels, where, table, windows = two_templates([1.0, 1.0])
    image = (3 * shapes[0] + 0.5 * shapes[1]).astype(np.float32)
    weight_templates(image, spans, pixels, where, table, windows)
    tops = [pixels[w[2] : w[3]].max() for w in where]
    np.testing.assert_allclose(tops, [3.0, 0.5], rtol=1e-5)


def test_weight_templates_removes_negative_ones():
    shapes, spans, pixels, where, table, windows = two_templates([1.0, 1.0])
    weight_templates((shapes[0] - shapes[1]).astype(np.float32), spans, pixels, where, table, windows)
    assert (where[:, 1] > where[:, 0]).tolist() == [True, False]


@pytest.mark.parametrize(
    ("tops", "amplitude", "kept"),
    [([1, 2], [0, 0], 1), ([2, 1], [0, 0], 0), ([1, 1], [0, 0], 0), ([2, 1], [5, 0], 1), ([1, 2], [5, 5], 1)],
)
def test_remove_degenerate_keeps_the_extended_or_the_higher_one(tops, amplitude, kept):
    shapes, spans, pixels, where, table, windows = two_templates(tops)
    amplitude = np.array(amplitude, np.float64)
    cosine = np.sum(shapes[0] * shapes[1]) / np.sqrt(np.sum(shapes[0] ** 2) * np.sum(shapes[1] ** 2))
    before = where.copy()
    remove_degenerate(spans, pixels, where, amplitude, cosine + 0.01, table, windows)
    np.testing.assert_array_equal(where, before)
    remove_degenerate(spans, pixels, where, amplitude, cosine - 0.01, table, windows)
    assert np.flatnonzero(where[:, 1] > where[:, 0]).tolist() == [kept]


def test_divide_flux_by_template_shares():
    shapes, spans, pixels, where, table, windows = two_templates([2.0, 5.0])
    image = np.random.default_rng(4).normal(3.0, 5.0, (9, 14)).astype(np.float32)
    image[2, 3], image[5, 5] = np.nan, 0.0
    divide_flux(image, spans, pixels, where, table, windows)
    total = 2 * shapes[0] + 5 * shapes[1]
    for k, amplitude in enumerate((2.0, 5.0)):
        # every template pixel is positive here, so the runs are whole rows
        got = pixels[where[k, 2] : where[k, 3]].reshape(9, 14)
        np.testing.assert_allclose(got, image * amplitude * shapes[k] / total, rtol=1e-5)


@pytest.mark.parametrize("rule", [1, 2, 3])
def test_stray_shares_fall_with_distance(rule):
    # three single-run footprints; the third is not eligible
    spans = np.array([[0, 0, 3], [0, 10, 12], [5, 5, 5]], np.int32)
    where = np.array([[0, 1, 0, 0], [1, 2, 0, 0], [2, 3, 0, 0]])
    peaks = np.array([[1, 0, 1, 0], [11, 0, 11, 0], [5, 5, 5, 5]])
    shares = np.empty(3)
    r2 = {1: [16 + 4, 36 + 4], 2: [4 + 4, 25 + 4], 3: [4 + 4, 25 + 4]}[rule]
    stray_shares(5, 2, peaks, spans, where, 0, np.array([1, 1, 0], np.uint8), rule, 0.001, shares)
    expected = np.array([1, 0]) if rule == 3 else 1 / (1 + np.array(r2)) / np.sum(1 / (1 + np.array(r2)))
    np.testing.assert_allclose(shares, [*expected, 0])
    # shares below the limit go to the others
    stray_shares(5, 2, peaks, spans, where, 0, np.array([1, 1, 0], np.uint8), rule, 0.4, shares)
    np.testing.assert_allclose(shares, [1, 0, 0])
