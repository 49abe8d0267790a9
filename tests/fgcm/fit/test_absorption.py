"""The likely size of errors of absorption, on linear problems whose likelihood is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from zeropoint.fgcm.fit.absorption import likely_absorption

PRIOR, NOISE, N, M = 1e-4, 3e-4, 120, 25


@dataclass(frozen=True)
class Free:
    """The vector: parameters, then errors."""

    n_errors: int
    n_named: int = M

    def __len__(self):
        return M + self.n_errors


@dataclass(frozen=True)
class Widths:
    """Priors about 0."""

    sigma: np.ndarray


class Linear:
    """Magnitudes of N exposures that follow M parameters, each with an error of its own and noise."""

    def __init__(self, scatter, n=N, seed=1):
        rng = np.random.default_rng(seed)
        self.design = np.hstack([rng.normal(0.0, 1.0, (n, M)), np.eye(n)])
        self.data = (
            rng.normal(0.0, NOISE, n) + rng.normal(0.0, scatter, n) + self.design[:, :M] @ rng.normal(size=M)
        )
        self.free, self.priors = Free(n), Widths(np.concatenate([np.full(M, 1e3), np.full(n, PRIOR)]))
        self.undetermined = np.zeros(M + n, bool)

    def hessian(self, vector):
        return self.design.T @ self.design / NOISE**2 + np.diag(self.priors.sigma**-2.0)

    def evaluate(self, vector):
        pull = self.design.T @ (self.design @ vector - self.data) / NOISE**2
        return 0.0, pull + vector * self.priors.sigma**-2.0

    def likely(self):
        """Of the residuals from the parameters, which have normal errors alone."""
        q = np.linalg.qr(self.design[:, :M], mode="complete")[0][:, M:]
        own = q.T @ self.data

        def cost(log_width):
            variance = NOISE**2 + np.exp(2.0 * log_width)
            return len(own) * np.log(variance) + own @ own / variance

        return np.exp(minimize_scalar(cost, bounds=(np.log(1e-6), 0.0), method="bounded").x)


def found(problem, least=PRIOR):
    size = len(problem.free)
    return likely_absorption(problem, np.zeros(size), np.zeros(size, bool), least)


@pytest.mark.parametrize("scatter", [5e-4, 5e-3])
def test_the_width_is_that_of_the_largest_likelihood(scatter):
    problem = Linear(scatter)
    assert found(problem) == pytest.approx(problem.likely(), rel=0.05)
    assert found(problem) == pytest.approx(scatter, rel=0.35)


def test_it_is_no_less_than_is_said_and_not_guessed_from_nothing():
    assert found(Linear(0.0), least=PRIOR) == PRIOR
    assert found(Linear(5e-3, n=M), least=PRIOR) == PRIOR
