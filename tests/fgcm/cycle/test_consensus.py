"""What most exposures of a night agree on."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.recipes.fgcm_cycle.consensus import _agree

#: Noise of the gray of an exposure, mag: so the change is known to about this over the responses.
NOISE = 0.0003


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 5), st.integers(14, 40))
def test_clouds_do_not_bend_a_night(seed, n_cloudy, n):
    """With fewer than a third under clouds, these are told from the others, however the start has been bent."""
    rng = np.random.default_rng(seed)
    responses = rng.normal(size=(n, 6)) * [1e-4, 0.02, 0.03, 0.01, 0.03, 0.01]
    truth = rng.normal(size=6) * [10.0, 0.2, 0.3, 0.5, 0.3, 0.5]
    cloud = np.zeros(n)
    cloud[:n_cloudy] = rng.uniform(0.03, 0.3, n_cloudy)
    gray = responses @ truth - cloud + rng.normal(size=n) * NOISE
    weight = np.array([15.0, 0.25, 0.6, 1.0, 0.6, 1.0]) ** -2.0
    _, residual = _agree(responses, gray, np.zeros(6), weight, np.random.default_rng(1))
    assert np.array_equal(residual < -0.006, cloud > 0)
