"""Minimisers on functions whose minimum is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from zeropoint.fgcm.fit.minimize import gauss_newton, lbfgsb


class Quadratic:
    """Half of (x - center)' H (x - center), with a Hessian that may be said wrongly."""

    def __init__(self, hessian, center, lower=-np.inf, upper=np.inf, said=1.0):
        self.true, self.center, self.said = hessian, center, said
        self.lower, self.upper = np.full(len(center), lower), np.full(len(center), upper)
        self.scale, self.dof = np.full(len(center), 10.0), 10**9

    def evaluate(self, vector):
        gradient = self.true @ (vector - self.center)
        return 0.5 * gradient @ (vector - self.center), gradient

    def hessian(self, vector):
        return self.said * self.true


@pytest.fixture
def hessian(rng):
    root = rng.normal(0.0, 1.0, (5, 5))
    return root @ root.T + 0.1 * np.eye(5)


def test_a_quadratic_takes_one_step_and_one_to_see_it(hessian, rng):
    center = rng.normal(0.0, 1.0, 5)
    minimum = gauss_newton(Quadratic(hessian, center), np.zeros(5))
    np.testing.assert_allclose(minimum.vector, center, atol=1e-9)
    assert minimum.converged
    assert len(minimum.steps) == 2


@pytest.mark.parametrize("minimise", [gauss_newton, lbfgsb])
def test_bounds_hold_and_the_others_know(hessian, minimise):
    center = np.array([2.0, 0.0, -3.0, 0.5, 0.0])
    problem = Quadratic(hessian, center, -1.0, 1.0)
    minimum = minimise(problem, np.zeros(5))
    gradient = problem.evaluate(minimum.vector)[1]
    assert np.all(np.abs(minimum.vector) <= 1.0)
    assert minimum.held.any()
    inside = np.abs(minimum.vector) < 1.0
    # the conditions of Karush, Kuhn and Tucker, to the tolerance of the rougher of the two
    np.testing.assert_allclose(gradient[inside], 0.0, atol=0.05)
    assert np.all((gradient * minimum.vector)[~inside] <= 0.0)


def test_steps_that_lead_up_are_damped(hessian):
    problem = Quadratic(hessian, np.ones(5), said=0.2)
    minimum = gauss_newton(problem, np.zeros(5), max_iterations=200)
    assert not all(step.accepted for step in minimum.steps)
    values = [step.value for step in minimum.steps]
    assert all(later <= earlier for earlier, later in pairwise(values))
    assert minimum.value < 1e-3 * problem.evaluate(np.zeros(5))[0]


def test_the_best_point_is_kept_when_iterations_run_out(hessian):
    problem = Quadratic(hessian, np.full(5, 3.0))
    minimum = lbfgsb(problem, np.zeros(5), max_iterations=2)
    assert not minimum.converged
    assert minimum.value == problem.evaluate(minimum.vector)[0] < problem.evaluate(np.zeros(5))[0]
