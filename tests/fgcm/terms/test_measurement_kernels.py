"""Compiled measurements beside plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from zeropoint.fgcm.terms._kernels_errors import choose_rows, weighted_normal
from zeropoint.fgcm.terms._kernels_normal import quartiles_and_mad
from zeropoint.fgcm.terms._kernels_stars import segment_chi2, slope_sums
from zeropoint.fgcm.terms.chebyshev import fit_flux_fields, flux_field_magnitudes


@pytest.mark.parametrize("n", [1, 2, 24, 25, 1000])
def test_quartiles_are_those_of_numpy(n: int, rng: np.random.Generator) -> None:
    # a third of the values are alike
    values = np.where(np.arange(n) % 3, rng.normal(size=n), 0.25)
    found = quartiles_and_mad(values, np.empty(n))
    expected = np.percentile(values, [25.0, 50.0, 75.0])
    np.testing.assert_allclose(found[:3], expected, rtol=1e-14, atol=1e-15)
    assert found[3] == np.median(np.abs(values - found[1]))


def test_chi_square_of_means_by_band(rng: np.random.Generator) -> None:
    n_star, n_band, n = 7, 2, 100
    segment = np.sort(rng.integers(0, n_star * n_band, n))
    start = np.searchsorted(segment, np.arange(n_star * n_band + 1))
    residual, err = rng.normal(size=n).astype("f4"), rng.uniform(0.5, 2.0, n).astype("f4")
    member, good = rng.random(n) < 0.7, np.arange(n_star) % 3 > 0
    chi2, dof = np.zeros((2, n_band))
    segment_chi2(residual, err, member, start, good, chi2, dof)
    used = member & good[segment // n_band]
    for b in range(n_band):
        rows = used & (segment % n_band == b)
        assert chi2[b] == pytest.approx(np.sum((residual[rows] / err[rows]).astype(float) ** 2), rel=1e-12)
        assert dof[b] == rows.sum() - len(np.unique(segment[rows]))


def test_sums_for_slopes_are_about_the_mean_times_of_stars(rng: np.random.Generator) -> None:
    n, n_exp = 300, 20
    segment = np.sort(rng.integers(0, 12, n)).astype("i4")
    exposure = rng.integers(0, n_exp, n).astype("i4")
    wash, time = np.arange(n_exp) // 10, rng.uniform(0.0, 50.0, n_exp)
    standard, err = rng.normal(size=n).astype("f4"), rng.uniform(0.5, 2.0, n).astype("f4")
    use, applied = rng.random(n) < 0.8, np.array([[0.1, 0.2], [0.3, 0.4]])
    stt, stm, count = np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 2), np.int64)
    slope_sums(
        standard, err, segment, exposure, use, np.float32(1.8), wash, time, applied, 20.0, stt, stm, count
    )
    expected = np.zeros((3, 2, 2))
    for s in range(12):
        for k in range(2):
            rows = use & (err < np.float32(1.8)) & (segment == s) & (wash[exposure] == k)
            t, w = time[exposure[rows]], err[rows].astype(float) ** -2
            if rows.any() and np.ptp(t) > 20.0:
                dt, m = t - np.sum(w * t) / np.sum(w), standard[rows] - applied[s % 2, k] * t
                expected[:, s % 2, k] += np.sum(w * dt * dt), np.sum(w * dt * m), rows.sum()
    np.testing.assert_allclose(stt, expected[0], rtol=1e-10)
    np.testing.assert_allclose(stm, expected[1], rtol=1e-10, atol=1e-9)
    assert count.tolist() == expected[2].tolist()


def test_every_kth_row_of_a_band_is_taken(rng: np.random.Generator) -> None:
    use, band = rng.random(200) < 0.7, rng.integers(0, 3, 200).astype("i1")
    step, seen = np.array([1, 3, 4]), np.zeros(3, np.int64)
    expected = [np.flatnonzero(use & (band == b))[:: step[b]] for b in range(3)]
    begin = np.cumsum([0, *(len(rows) for rows in expected)])
    rows = np.empty(begin[-1], np.int64)
    choose_rows(use, band, step, seen, begin[:-1], rows)
    assert rows.tolist() == np.concatenate(expected).tolist()
    assert seen.tolist() == [np.sum(use & (band == b)) for b in range(3)]


def test_sums_in_any_order_keep_their_digits(rng: np.random.Generator) -> None:
    basis, target, solution = rng.normal(size=(3, 5000)), rng.normal(size=5000), rng.normal(size=3)
    normal, side = np.empty((3, 3)), np.empty(3)
    weighted_normal(basis, target, solution, 0.01, normal, side)
    weight = 1.0 / np.maximum(np.abs(target - solution @ basis), 0.01)
    np.testing.assert_allclose(normal, basis * weight @ basis.T, rtol=1e-11, atol=1e-10)
    np.testing.assert_allclose(side, basis * weight @ target, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("triangular", [False, True])
def test_residuals_of_fields_are_orthogonal_to_their_polynomials(
    triangular: bool, rng: np.random.Generator
) -> None:
    n, size, order = 4001, (200, 100), 3
    group = rng.integers(-1, 3, n)
    x, y = (rng.uniform(0.0, extent - 1.0, n).astype("f4") for extent in size)
    variance = rng.uniform(0.5, 2.0, n).astype("f4") * np.float32(1e-4)
    magnitudes = (0.1 * np.sin(x / 50.0) * (y / 100.0) + 0.01 * rng.normal(size=n)).astype("f4")
    fields = fit_flux_fields(magnitudes, variance, group, 3, x, y, size, order=order, triangular=triangular)
    assert fields.has_shape.all()
    assert np.asarray(fields.n_stars).tolist() == [np.sum(group == g) for g in range(3)]
    added = flux_field_magnitudes(fields.coefficients, np.maximum(group, 0), x, y, size)
    weighted = np.where(group >= 0, (magnitudes - added) / variance, 0.0)
    u, v = (
        np.polynomial.chebyshev.chebvander((2.0 * each + 1.0 - extent) / extent, order)
        for each, extent in zip((x, y), size, strict=True)
    )
    for j in range(order + 1):
        for i in range(order + 1 - j if triangular else order + 1):
            for g in range(3):
                rows = group == g
                # iterations end where a millionth of the flux is still to come
                off = np.sum((weighted * v[:, j] * u[:, i])[rows])
                assert abs(off) < 1e-6 * np.sum(1.0 / variance[rows])
