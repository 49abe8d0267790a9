"""The pass over observations on random lists, empty segments and all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.fgcm.model.model import ModelTables
from zeropoint.fgcm.model.observations import FitObservations
from zeropoint.fgcm.model.sweep import References, RelativeSlopes, star_means, sweep

N_BAND, N_DET, N_EXP = 2, 3, 8
_MAGNITUDE = 2.5 / np.log(10.0)


def random_list(
    counts: list[int], seed: int
) -> tuple[FitObservations, np.ndarray, np.ndarray, References, ModelTables]:
    """Observations with so many in each star and band, a third of them without weight."""
    rng = np.random.default_rng(seed)
    n_star = len(counts) // N_BAND
    start = np.concatenate([[0], np.cumsum(counts)])
    n = int(start[-1])
    none = np.zeros(n, np.float32)
    observations = FitObservations(
        start=start, ec=rng.integers(0, N_EXP * N_DET, n).astype(np.int32), secant=none,
        t=rng.random(n, dtype=np.float32), mag=rng.normal(-10.0, 0.1, n).astype(np.float32), err=none, x=none, y=none,
        delta_aper=none, flag=np.zeros(n, np.uint16), n_det=N_DET, n_band=N_BAND, n_star=n_star,
    )  # fmt: skip
    weight = np.where(rng.random(n) < 1 / 3, 0.0, rng.uniform(10.0, 1e4, n)).astype(np.float32)
    values = rng.normal([25.0, 0.0, 0.0, 0.0], [0.1, 0.02, 40.0, 5.0], (N_EXP * N_DET, 4))
    tables = ModelTables(
        values,
        np.zeros(len(values)),
        np.zeros(N_BAND),
        np.tile([-300.0, 300.0], (N_BAND, 1)),
        {},
        None,
        N_DET,  # type: ignore[arg-type]
    )
    mag = rng.normal(15.0, 0.1, (n_star, N_BAND))
    references = References.of(mag, np.where(rng.random(mag.shape) < 0.5, 0.02, np.nan))
    return observations, weight, rng.normal(0.0, 3e-4, (n_star, N_BAND)), references, tables


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 7), min_size=2, max_size=16).filter(lambda c: len(c) % 2 == 0), st.integers(0, 99)
)
def test_a_pass_is_the_sum_over_stars(counts: list[int], seed: int) -> None:
    o, weight, slopes, references, tables = random_list(counts, seed)
    found = sweep(o, weight, slopes, references, tables)
    v, t, w, s = tables.values[o.ec], o.t.astype(float), weight.astype(float), o.segment
    factor = 1.0 + slopes.ravel()[s] * (v[:, 2] + t * v[:, 3])
    m = o.mag + v[:, 0] + t * v[:, 1] + 2.5 * np.log10(factor)
    total = np.bincount(s, w, o.n_segment) + references.weight
    with np.errstate(invalid="ignore"):
        mean = (np.bincount(s, w * m, o.n_segment) + references.weight * references.mag) / total
    np.testing.assert_allclose(found.mean.ravel(), mean, rtol=1e-12)
    np.testing.assert_allclose(found.weight_sum.ravel(), total, rtol=1e-12)
    residual = np.where(w > 0, m - mean[s], 0.0)
    away = np.nan_to_num(mean) - references.mag
    expected = np.sum(w * residual**2) + np.sum(references.weight * away**2)
    np.testing.assert_allclose(found.chi2, expected, rtol=1e-9, atol=1e-9)
    assert found.n_used == np.count_nonzero(w)
    assert found.gradient is not None
    by_a = 2.0 * w * residual
    by_b = by_a * _MAGNITUDE * slopes.ravel()[s] / factor
    for column, each in enumerate((by_a, by_a * t, by_b, by_b * t)):
        sums = np.bincount(o.ec, each, len(tables.values))
        np.testing.assert_allclose(
            found.gradient[:, column], sums, rtol=1e-6, atol=1e-6 * np.abs(by_a).sum() + 1e-12
        )


@settings(max_examples=20)
@given(st.lists(st.integers(0, 5), min_size=8, max_size=8), st.integers(0, 99), st.integers(1, 2))
def test_means_of_stars_are_those_of_a_pass(counts: list[int], seed: int, threads: int) -> None:
    o, weight, slopes, references, tables = random_list(counts, seed)
    member = weight > 0
    # what takes no part may be no number
    mag = np.where(member, o.mag, np.float32(np.nan))
    relative = RelativeSlopes.of(slopes, tables.band_i10_std)
    found = sweep(o, weight, relative, references, tables)
    mean, weight_sum = star_means(
        replace(o, mag=mag),
        np.maximum(weight, np.float32(7.0)),
        member,
        relative,
        references,
        tables,
        threads=threads,
    )
    np.testing.assert_allclose(mean, found.mean, rtol=1e-14)
    np.testing.assert_allclose(weight_sum, found.weight_sum, rtol=1e-14)


@settings(max_examples=20)
@given(st.lists(st.booleans(), min_size=12, max_size=12), st.integers(0, 99))
def test_a_selection_is_a_pass_without_the_others(chosen: list[bool], seed: int) -> None:
    o, weight, slopes, _, tables = random_list([3, 0, 5, 4], seed)
    keep = np.array(chosen)
    few = o.select(keep)
    assert few.count.sum() == keep.sum()
    np.testing.assert_array_equal(few.segment, o.segment[keep])
    there = sweep(o, np.where(keep, weight, 0.0).astype(np.float32), slopes, None, tables)
    here = sweep(few, weight[keep], slopes, None, tables)
    assert here.chi2 == there.chi2
    assert here.n_used == there.n_used
