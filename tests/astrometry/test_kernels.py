import numpy as np
import pytest

from naive import pattern_match as naive
from zeropoint.astrometry import _kernels as kernels
from zeropoint.astrometry.plane import Grid


def box(grid):
    low = grid.geometry[:2]
    return low, low + grid.geometry[3:] / grid.geometry[2]


@pytest.mark.parametrize("n", [1, 2, 17, 300])
def test_nearest_agrees_with_a_full_scan(n):
    rng = np.random.default_rng(n)
    grid = Grid.build(rng.uniform(-50, 80, (n, 2)))
    for x, y, radius in rng.uniform([-70, -70, 0], [100, 100, 40], (200, 3)):
        got = kernels.nearest(x, y, radius, grid.points, grid.starts, grid.geometry)
        assert got == naive.nearest(x, y, radius, grid.points)


def test_the_grid_keeps_every_point_once():
    points = np.random.default_rng(2).uniform(0, 10, (100, 2))
    grid = Grid.build(points)
    assert grid.starts[0] == 0
    assert grid.starts[-1] == 100
    assert sorted(map(tuple, grid.points)) == sorted(map(tuple, points))


def test_nan_finds_nothing():
    grid = Grid.build(np.zeros((3, 2)))
    assert kernels.nearest(np.nan, 0.0, 1.0, grid.points, grid.starts, grid.geometry) == -1


def planted(seed, n=14, shift=(7.0, -4.0), angle=0.01):
    rng = np.random.default_rng(seed)
    lead = rng.uniform(0, 300, (n, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    targets = lead @ turn.T + shift + rng.normal(0, 0.1, (n, 2))
    targets = np.concatenate([targets[: n - 3], rng.uniform(0, 300, (8, 2))])
    return lead, Grid.build(targets)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n_match", [5, 6])
def test_best_pattern_agrees_with_the_naive_search(seed, n_match):
    lead, grid = planted(seed)
    members = np.arange(6)
    spokes = np.hypot(*(lead[1:6] - lead[0]).T)
    members[1:] = members[1:][np.argsort(-spokes)]
    limits = np.array([1.0, n_match, 20.0, 0.03, 14.0, 0.0])
    best = np.empty(5)
    kernels.best_pattern(lead, members, limits, grid.points, grid.starts, grid.geometry, best)
    hits, a, b = naive.best_pattern(lead, members, 1.0, n_match, 20.0, 0.03, 14, grid.points, *box(grid))
    assert best[4] == hits >= 9
    np.testing.assert_allclose(best[:2], [a, b], atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_best_pair_agrees_with_the_naive_search(seed):
    lead, grid = planted(seed, n=9)
    limits = np.array([1.0, 6.0, 20.0, 0.03, 9.0, 0.0, 0.01, 30.0, np.inf])
    best = np.empty(5)
    kernels.best_pair(lead, limits, grid.points, grid.starts, grid.geometry, best)
    hits, _, _ = naive.best_pair(lead, 6, 1.0, 20.0, 0.03, 0.01, 30.0, 9, grid.points, *box(grid))
    assert best[4] == hits >= 5


def test_counting_gives_up_when_too_few_hit():
    grid = Grid.build(np.array([[0.0, 0.0], [1000.0, 1000.0]]))
    lead = np.random.default_rng(1).uniform(100, 900, (50, 2))
    _, tested = kernels.count_hits(
        lead, 50, 1.0, 0.0, 0.0, 0.0, 1.0, 0.2, grid.points, grid.starts, grid.geometry
    )
    assert tested == 12
