"""Exposures that a fit would not believe if it had not seen them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.fgcm.fit.leave_out import _alone, clouds_left_out

#: Noise of the gray of an exposure, and its own scatter, mag.
NOISE, SIGMA = 1e-4, 3e-4


def night(rng, cloud):
    """Return gray, covariance, design and measurements of a night with six parameters."""
    n = len(cloud)
    responses = rng.normal(size=(n, 6)) * [0.01, 0.02, 0.03, 0.01, 0.03, 0.01]
    measured = responses @ rng.normal(size=6) * 0.3 + rng.normal(size=n) * SIGMA - cloud
    design = np.hstack([responses, np.eye(n)])
    prior = np.concatenate([np.ones(6), np.full(n, SIGMA**-2)])
    covariance = np.linalg.inv(design.T @ design / NOISE**2 + np.diag(prior))
    vector = covariance @ design.T @ measured / NOISE**2
    return vector[6:], covariance[6:, 6:], design, measured


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 4))
def test_clouds_are_found_although_the_night_bends_to_them(seed, n_cloudy):
    """A fifth of the exposures under thin clouds are told from the others, and no clear one is taken for cloudy."""
    rng = np.random.default_rng(seed)
    cloud = np.zeros(30)
    cloud[:n_cloudy] = rng.uniform(0.01, 0.05, n_cloudy)
    gray, covariance, *_ = night(rng, cloud)
    found = clouds_left_out(gray, covariance, SIGMA, SIGMA, n_sigma=5.0, least=0.0025)
    assert np.array_equal(found, cloud > 0)


def test_alone_is_a_fit_without_the_exposure():
    """The gray of an exposure by itself is what a fit without it leaves of its measurement."""
    rng = np.random.default_rng(4)
    gray, covariance, design, measured = night(rng, np.zeros(12))
    size, error = _alone(gray, covariance, SIGMA, np.zeros(12, bool))
    others = np.arange(12) != 3
    rows = design[others, :6]
    weight = 1.0 / (NOISE**2 + SIGMA**2)
    without = np.linalg.inv(rows.T @ rows * weight + np.eye(6))
    predicted = design[3, :6] @ without @ rows.T @ measured[others] * weight
    expected = np.sqrt(design[3, :6] @ without @ design[3, :6] + NOISE**2 + SIGMA**2)
    assert np.allclose([size[3], error[3]], [measured[3] - predicted, expected], rtol=1e-6)


def test_what_nothing_tells_of_is_left_alone():
    """An exposure of which the others know nothing is not judged."""
    gray, covariance = np.array([-0.1, 0.0, 0.0]), np.eye(3) * SIGMA**2
    assert not clouds_left_out(gray, covariance, SIGMA, SIGMA, n_sigma=4.0, least=0.0).any()


def test_a_model_that_is_worse_than_its_errors_leaves_nothing_out():
    """Where all exposures are off by what no scatter of theirs explains, none is taken for a cloud."""
    rng = np.random.default_rng(5)
    gray, covariance, *_ = night(rng, np.zeros(30))
    # as a fit does that has been stretched: far off in directions of which it claims to know much
    wrong = gray + 60.0 * np.sqrt(np.diag(covariance)) * rng.choice([-1.0, 1.0], 30)
    assert not clouds_left_out(wrong, covariance, SIGMA, SIGMA, n_sigma=4.0, least=0.0).any()
