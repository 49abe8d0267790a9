"""Sums over weights against numpy."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from zeropoint.fgcm.fit.weight_sums import WeightSums

N_EXP, N_DET, N_SEGMENT, N_OBS = 5, 3, 40, 400


def test_one_pass_gives_what_many_would(rng):
    segment = np.sort(rng.integers(0, N_SEGMENT - 1, N_OBS))
    ec = rng.integers(0, (N_EXP - 1) * N_DET, N_OBS).astype(np.int32)
    weight = np.where(rng.random(N_OBS) < 0.3, 0.0, rng.uniform(0.5, 2.0, N_OBS)).astype(np.float32)
    t, mag = rng.random((2, N_OBS)).astype(np.float32)
    used = np.flatnonzero(weight > 0)
    mag[used[:2]], mag[weight == 0] = np.nan, np.inf
    wrong = used[2:5]
    weight[wrong] = np.nan, -1.0, np.inf
    start = np.searchsorted(segment, np.arange(N_SEGMENT + 1))
    found = WeightSums.of(SimpleNamespace(start=start, ec=ec, t=t, mag=mag, n_det=N_DET), weight, N_EXP)
    weight[wrong] = 0.0
    used = np.flatnonzero(weight > 0)
    total, upper = (np.bincount(ec, w, minlength=N_EXP * N_DET) for w in (weight, weight * t))
    np.testing.assert_array_equal(found.by_detector.ravel(), total)
    np.testing.assert_array_equal(found.upper.ravel(), upper)
    np.testing.assert_array_equal(found.by_segment, np.bincount(segment, weight, minlength=N_SEGMENT))
    assert (found.n_used, found.n_segments) == (len(used), len(np.unique(segment[used])))
    assert (found.n_wrong, found.n_wrong_mag) == (3, 2)
    np.testing.assert_array_equal(found.used_exposures, np.arange(N_EXP) < N_EXP - 1)
    np.testing.assert_allclose(found.shares.sum(axis=(1, 2)), 1.0)
    np.testing.assert_allclose(found.shares[-1], 0.5 / N_DET)
    np.testing.assert_allclose(
        found.shares[0, 1], [total[1] - upper[1], upper[1]] / total[:N_DET].sum(), rtol=1e-12
    )
