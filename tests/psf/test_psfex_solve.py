"""The linear algebra of the oversampled pixel basis against dense matrices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import psfex as naive
from zeropoint.psf.psfex_solve import GridPrior, draw_taps, solve_grids, stack_taps

#: Stamp side, grid side, model pixel, Lanczos order.
GEOMETRIES = [(9, 9, 1.0, 4), (9, 17, 0.5, 5), (11, 15, 0.73, 7), (15, 9, 1.3, 4)]


def _dense(taps, k):
    """Return the dense matrices (Wx, Wy) of one star."""
    n_out, n_taps = taps.taps_x.shape[1:]
    pair = []
    for start, weights in ((taps.start_x, taps.taps_x), (taps.start_y, taps.taps_y)):
        matrix = np.zeros((n_out, taps.n_in))
        for i in range(n_out):
            matrix[i, start[k, i] : start[k, i] + n_taps] = weights[k, i]
        pair.append(matrix)
    return pair


@pytest.mark.parametrize(("side", "grid", "scale", "order"), GEOMETRIES)
def test_taps_equal_their_definition(rng, side, grid, scale, order):
    dx, dy = rng.uniform(-0.5, 0.5, (2, 3))
    dx[0], dy[0], dx[1] = 0.0, 0.5, 4.2
    drawn = draw_taps(dx, dy, side=side, grid=grid, scale=scale, order=order)
    read = stack_taps(dx, dy, side=side, grid=grid, scale=scale, order=min(order, side // 2))
    for k in range(3):
        wx, wy = _dense(drawn, k)
        for matrix, d in ((wx, dx[k]), (wy, dy[k])):
            expected = naive.dense_matrix(
                (-(side // 2) - d) / scale + grid // 2, 1 / scale, side, grid, order
            )
            np.testing.assert_allclose(matrix, expected / scale, atol=1e-12)
        wx, wy = _dense(read, k)
        for matrix, d in ((wx, dx[k]), (wy, dy[k])):
            expected = naive.dense_matrix(
                side // 2 + d - (grid // 2) * scale, scale, grid, side, min(order, side // 2)
            )
            np.testing.assert_allclose(matrix, expected * scale, atol=1e-12)


@pytest.mark.parametrize(("side", "grid", "scale", "order"), GEOMETRIES)
def test_kernels_equal_dense_products(rng, side, grid, scale, order):
    dx, dy = rng.uniform(-0.5, 0.5, (2, 4))
    taps = draw_taps(dx, dy, side=side, grid=grid, scale=scale, order=order)
    grids, stamps = rng.normal(size=(4, grid, grid)), rng.normal(size=(4, side, side))
    grids[1, 0, 0] = np.nan
    drawn, back = taps.apply(grids), taps.transposed(stamps)
    for k in range(4):
        wx, wy = _dense(taps, k)
        if k != 1:  # a NaN spreads as far as the taps reach
            np.testing.assert_allclose(drawn[k], wy @ grids[k] @ wx.T, atol=1e-12)
        np.testing.assert_allclose(back[k], wy.T @ stamps[k] @ wx, atol=1e-12)
    assert np.isnan(drawn[1]).any()
    assert np.isfinite(drawn[0]).all()
    share = rng.uniform(1, 2, 4)
    gram_x, gram_y = taps.mean_grams(share)
    pairs = [_dense(taps, k) for k in range(4)]
    for gram, axis in ((gram_x, 0), (gram_y, 1)):
        expected = sum(s * pair[axis].T @ pair[axis] for s, pair in zip(share, pairs)) / share.sum()
        np.testing.assert_allclose(gram, expected, atol=1e-12)


@given(dx=st.floats(-0.5, 0.5), dy=st.floats(-0.5, 0.5), scale=st.floats(0.3, 1.0))
@settings(max_examples=25, deadline=None)
def test_a_constant_stays_a_constant_and_its_sum(dx, dy, scale):
    taps = draw_taps(np.array([dx]), np.array([dy]), side=3, grid=61, scale=scale, order=8)
    np.testing.assert_allclose(taps.apply(np.full((1, 61, 61), scale**2)), 1.0, rtol=1e-12)


def test_a_kernel_wider_than_the_stamp_is_shortened(rng):
    taps = stack_taps(np.array([0.2]), np.array([-0.3]), side=9, grid=9, scale=1.0, order=11)
    wx, wy = _dense(taps, 0)
    stamp = rng.normal(size=(1, 9, 9))
    np.testing.assert_allclose(taps.apply(stamp)[0], wy @ stamp[0] @ wx.T, atol=1e-12)
    np.testing.assert_allclose(wx, naive.dense_matrix(0.2, 1.0, 9, 9, 4), atol=1e-12)


def test_no_stars_give_no_stamps():
    taps = draw_taps(np.zeros(0), np.zeros(0), side=9, grid=9, scale=1.0, order=4)
    assert taps.apply(np.zeros((0, 9, 9))).shape == (0, 9, 9)
    assert taps.transposed(np.zeros((0, 9, 9))).shape == (0, 9, 9)


@pytest.mark.parametrize("masked", [False, True])
def test_solve_equals_dense_least_squares_with_the_prior(rng, masked):
    n, side, grid, scale = 30, 9, 11, 0.8
    basis = np.column_stack([np.ones(n), rng.uniform(-1, 1, (n, 2))])
    taps = draw_taps(*rng.uniform(-0.5, 0.5, (2, n)), side=side, grid=grid, scale=scale, order=5)
    pairs = [_dense(taps, k) for k in range(n)]
    wx, wy = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    flux, weight = rng.uniform(1, 3, n), rng.uniform(0.5, 1.5, (n, side, side))
    if masked:
        weight[rng.random(weight.shape) < 0.2] = 0
    residual = rng.normal(size=(n, side, side))
    present, centre = rng.normal(size=(2, 3, grid, grid))
    # tight at the edge, wide in the middle; the varying terms tighter
    prior = GridPrior(centre, rng.uniform(0.02, 0.5, (grid, grid)), np.array([1.0, 0.3, 0.1]))
    found, steps = solve_grids(
        basis, taps, weight, residual, flux, present=present, prior=prior, tolerance=1e-9, max_steps=300
    )
    sigma = prior.factor[:, None, None] * prior.sigma
    expected = naive.solve(basis, wx, wy, weight, residual, flux, present - centre, sigma)
    # the solver's tolerance, times the condition number of about 100, and its damping of 1e-7
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert steps < 100


def test_what_no_star_sees_is_as_expected(rng):
    n, side, grid = 12, 9, 21
    basis = np.column_stack(
        [np.ones(n), np.full(n, 0.5), rng.uniform(-1, 1, n)]
    )  # a term that nothing tells apart
    taps = draw_taps(*rng.uniform(-0.5, 0.5, (2, n)), side=side, grid=grid, scale=1.0, order=4)
    centre = rng.normal(size=(3, grid, grid))
    prior = GridPrior(centre, np.full((grid, grid), 0.5), np.array([1.0, 0.2, 0.2]))
    present = centre + rng.normal(size=centre.shape)
    shown = taps.apply((basis @ present.reshape(3, -1)).reshape(n, grid, grid))
    change, _ = solve_grids(
        basis, taps, np.ones((n, side, side)), rng.normal(size=shown.shape) - shown, np.ones(n), present=present,
        prior=prior, tolerance=1e-8, max_steps=300,
    )  # fmt: skip
    solved = present + change
    np.testing.assert_allclose(solved[:, 0, 0], centre[:, 0, 0], atol=1e-5)
    # of the two that look alike, the change goes to each in proportion to its variance times its size
    moved = solved - centre
    np.testing.assert_allclose(moved[1], 0.5 * 0.2**2 * moved[0], atol=1e-5)
