"""The reduced Hessian against the elimination of the stars from the dense normal equations."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from zeropoint.fgcm.fit.node_derivatives import Derivatives
from zeropoint.fgcm.fit.nodes import Nodes
from zeropoint.fgcm.fit.reduced import band_curvatures, mean_responses, parameter_hessian

N_EXP, N_DET, N_BAND, N_STAR, N_FREE = 6, 2, 2, 30, 9


@pytest.fixture
def problem(rng):
    """Random observations of a band structure, weights (some 0), colors, references, derivatives and flats."""
    band = np.arange(N_EXP) % N_BAND
    seen = rng.random((N_STAR, N_BAND, N_EXP)) < 0.8
    star, of_band, exposure = np.nonzero(seen & (band == np.arange(N_BAND)[:, None]))
    segment, ec = star * N_BAND + of_band, exposure * N_DET + rng.integers(N_DET, size=len(star))
    start = np.searchsorted(segment, np.arange(N_STAR * N_BAND + 1))
    weight = np.where(rng.random(len(ec)) < 0.2, 0.0, rng.uniform(0.5, 2.0, len(ec))).astype(np.float32)
    observations = SimpleNamespace(
        start=start.astype(np.int64), ec=ec.astype(np.int32), n_band=N_BAND, n_det=N_DET
    )
    color = rng.normal(0.0, 0.3, N_STAR * N_BAND)
    reference = np.where(rng.random(N_STAR * N_BAND) < 0.3, 1.5, 0.0)
    gray, chromatic = rng.normal(0.0, 1.0, (2, N_EXP, N_FREE))
    gray[:, 5:], chromatic[:, 5:] = 0.0, 0.0
    flat = np.full((N_EXP, N_DET), -1)
    flat[band == 0] = [5, 6]
    flat[band == 1] = [7, -1]
    return SimpleNamespace(**locals())


def dense_design(p):
    """Return the derivatives of every observation by the free parameters, shape (n_obs, n_free)."""
    exposure = p.ec // N_DET
    design = p.gray[exposure] + p.color[p.segment, None] * p.chromatic[exposure]
    flat = p.flat.ravel()[p.ec]
    design[flat >= 0, flat[flat >= 0]] += 1.0
    return design


def all_nodes(p):
    """Return the nodes of both bands."""
    return [Nodes.of(b, p.band, p.flat) for b in range(N_BAND)]


def test_hessian_is_that_of_the_eliminated_normal_equations(problem):
    p = problem
    design, stars = dense_design(p), np.eye(N_STAR * N_BAND)[p.segment]
    w = p.weight.astype(np.float64)
    cross, total = (design.T * w) @ stars, w @ stars + p.reference
    expected = (design.T * w) @ design - cross / np.where(total > 0, total, 1.0) @ cross.T
    curvatures = band_curvatures(p.observations, p.weight, p.color, p.reference, all_nodes(p))
    found = parameter_hessian(curvatures, Derivatives.of(p.gray, p.chromatic), N_FREE)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-11)


def test_threads_do_not_change_a_bit(problem):
    p = problem
    several = [
        band_curvatures(p.observations, p.weight, p.color, p.reference, all_nodes(p), threads=n)
        for n in (1, 2)
    ]
    for one, two in zip(*several):
        np.testing.assert_array_equal(one.blocks, two.blocks)


def test_without_references_a_constant_of_a_band_costs_nothing(problem):
    p = problem
    for each in band_curvatures(p.observations, p.weight, p.color, 0.0 * p.reference, all_nodes(p)):
        shift = np.zeros(len(each.nodes))
        shift[: len(each.nodes.exposures)] = 1.0
        assert abs(shift @ each.blocks[0] @ shift) < 1e-9 * np.abs(each.blocks[0]).sum()


def test_means_of_stars_follow_their_nodes(problem, rng):
    p = problem
    sample = rng.uniform(0.5, 1.0, len(p.ec)).astype(np.float32)
    rows = np.full(N_EXP * N_DET, -1, np.int32)
    for b in range(N_BAND):
        own = np.flatnonzero(np.repeat(p.band == b, N_DET))
        rows[own] = np.arange(len(own))
    w, design = p.weight.astype(np.float64), dense_design(p)
    stars = np.eye(N_STAR * N_BAND)[p.segment]
    total = w @ stars + p.reference
    mean = (stars.T * w) @ design / np.where(total > 0, total, 1.0)[:, None]
    for nodes, response, weights in mean_responses(
        p.observations, p.weight, sample, p.color, p.reference, all_nodes(p), rows
    ):
        flats = np.zeros((len(nodes.flats), N_FREE))
        flats[np.arange(len(flats)), nodes.flats] = 1.0
        gray = np.vstack([p.gray[nodes.exposures], flats])
        chromatic = np.vstack([p.chromatic[nodes.exposures], 0.0 * flats])
        found = response[..., 0] @ gray + response[..., 1] @ chromatic
        for ec in np.flatnonzero((rows >= 0) & np.repeat(p.band == nodes.band, N_DET)):
            chosen = (p.ec == ec) & (w @ stars > 0)[p.segment]
            expected = np.average(mean[p.segment[chosen]], axis=0, weights=sample[chosen])
            np.testing.assert_allclose(found[rows[ec]], expected, atol=1e-12)
            assert weights[rows[ec]] == pytest.approx(sample[chosen].sum(), rel=1e-6)
