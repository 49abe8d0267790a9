"""Damped steps between bounds against the equations that they solve."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import LinAlgError

from zeropoint.fgcm.fit.quadratic import Quadratic, inverse_root, with_secants

N = 6


@pytest.fixture
def hessian(rng):
    root = rng.normal(0.0, 1.0, (N, N))
    return root @ root.T + 0.1 * np.eye(N)


@pytest.fixture
def gradient(rng):
    return rng.normal(0.0, 30.0, N)


def around_zero(hessian, gradient, lower=-np.inf, upper=np.inf, scale=1.0):
    bounds = (np.full(N, lower), np.full(N, upper))
    return Quadratic(hessian, np.zeros(N), gradient, *bounds, np.full(N, scale))


@pytest.mark.parametrize("radius", [1e-3, 0.1, 1.0, 1e9])
def test_the_step_is_the_least_damped_one_wherever_the_search_begins(hessian, gradient, radius):
    scale = np.array([1.0, 2.0, 0.5, 1.0, 3.0, np.inf])
    dampings = [0.0, *4.0 ** np.arange(20)]
    steps = [-np.linalg.solve(hessian + np.diag(each * scale**-2.0), gradient) for each in dampings]
    first = next(k for k, step in enumerate(steps) if np.max(np.abs(step) / scale) <= radius)
    quadratic = around_zero(hessian, gradient, scale=scale)
    for begin in (0.0, 1.0, 64.0, 4.0**15):
        trial = quadratic.step_within(radius, begin)
        assert trial.damping == dampings[first]
        np.testing.assert_allclose(trial.step, steps[first], rtol=1e-9, atol=1e-15)


def test_a_damping_known_to_lead_too_far_is_not_tried_again(hessian, gradient):
    quadratic = around_zero(hessian, gradient)
    assert quadratic.step_within(1e9, begin=16.0, beyond=4.0).damping == 16.0


def test_the_largest_change_is_in_errors(hessian, gradient):
    quadratic = around_zero(hessian, gradient)
    trial = quadratic.step_within(1e9)
    covariance = np.linalg.inv(hessian)
    expected = np.max(np.abs(covariance @ gradient) / np.sqrt(np.diag(covariance)))
    assert quadratic.largest(trial) == pytest.approx(expected)
    assert np.isnan(quadratic.largest(quadratic.step_within(1e-3)))


def test_no_step_leaves_the_bounds_and_the_others_know(hessian, gradient):
    trial = around_zero(hessian, gradient, -0.5, 0.5).step_within(1e9)
    at_bound = np.abs(trial.step) == 0.5
    assert at_bound.any()
    assert np.all(np.abs(trial.step) <= 0.5)
    np.testing.assert_allclose((hessian @ trial.step + gradient)[~at_bound], 0.0, atol=1e-9)


def test_secants_are_those_of_bfgs(hessian, rng):
    pairs = [(step, 1.3 * hessian @ step + 0.1 * step) for step in rng.normal(0.0, 1.0, (3, N))]
    expected = hessian
    for step, change in pairs:
        along = expected @ step
        expected = (
            expected - np.outer(along, along) / (step @ along) + np.outer(change, change) / (step @ change)
        )
    # of a step along which the function is not convex nothing is learned
    pairs.insert(1, (np.ones(N), -np.ones(N)))
    np.testing.assert_allclose(with_secants(hessian, pairs), expected, rtol=1e-10, atol=1e-10)


def test_a_hessian_that_is_not_positive_has_no_step(hessian, gradient):
    with pytest.raises(LinAlgError):
        around_zero(hessian - 2.0 * hessian[0, 0] * np.eye(N), gradient)
    hessian[0, 1] = hessian[1, 0] = 2.0 * np.sqrt(hessian[0, 0] * hessian[1, 1])
    with pytest.raises(LinAlgError):
        around_zero(hessian, gradient).step_within(1.0)


@pytest.mark.parametrize("n", [N, 211])
def test_root_of_the_covariance(rng, n):
    square = rng.normal(0.0, 1.0, (n, n))
    hessian, free = square @ square.T + 0.1 * np.eye(n), np.arange(n) != 2
    root = inverse_root(hessian, free)
    index = np.flatnonzero(free)
    np.testing.assert_allclose(
        (root @ root.T)[np.ix_(index, index)] @ hessian[np.ix_(index, index)], np.eye(n - 1), atol=1e-8
    )
    assert not root[2].any()
