"""Correlations of residual ellipticities against all pairs one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from astropy.table import Table

from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.datamodel.wcs import angular_separation
from zeropoint.quality.residual_correlations import CORRELATION_STATISTICS, residual_correlations
from zeropoint.quality.summary import ComputeExposureSummaryStatsConfig

ARCMIN = np.pi / 10800.0
CONFIG = ComputeExposureSummaryStatsConfig()


def stars(rng, n=300, field_arcmin=14.0):
    """Return stars of two detectors side by side whose residuals are noise."""
    table = Table()
    x, y = rng.uniform(0, field_arcmin, (2, n))
    table["detector"] = (x > 0.5 * field_arcmin).astype(np.int32)
    table["coord_dec"] = np.deg2rad(60.0) + y * ARCMIN
    table["coord_ra"] = np.deg2rad(359.9) + x * ARCMIN / np.cos(table["coord_dec"])
    for part in ("xx", "yy", "xy"):
        table[f"slot_PsfShape_{part}"] = np.full(n, 0.1 if part == "xy" else 4.0)
        table[f"slot_Shape_{part}"] = table[f"slot_PsfShape_{part}"] + rng.normal(0, 0.1, n)
    table["calib_psf_used"] = rng.random(n) < 0.9
    return table


def residuals(table):
    def e(slot):
        xx, yy, xy = (np.asarray(table[f"slot_{slot}_{part}"]) for part in ("xx", "yy", "xy"))
        return np.stack([xx - yy, 2 * xy]) / (xx + yy)

    return e("Shape") - e("PsfShape")


def naive(table, low, high):
    """Return the mean products of the pairs in a range, one pair after the other."""
    table = table[table["calib_psf_used"]]
    e1, e2 = residuals(table)
    ra, dec = np.asarray(table["coord_ra"]), np.asarray(table["coord_dec"])
    products = []
    for i, j in itertools.permutations(range(len(table)), 2):
        if low <= angular_separation(ra[i], dec[i], ra[j], dec[j]) / ARCMIN < high:
            products.append((e1[i] * e1[j], e2[i] * e2[j], e1[i] * e2[j]))
    return np.mean(products, axis=0)


def test_every_range_is_the_mean_over_its_pairs(rng):
    table = stars(rng, 120)
    found = residual_correlations(table, CONFIG)
    assert set(found) == set(CORRELATION_STATISTICS)
    for name, low, high in (("psfTE1", 0.0, 1.0), ("psfTE2", 5.0, 100.0)):
        ours = [found[f"{name}{part}"] for part in ("e1", "e2", "ex")]
        np.testing.assert_allclose(ours, naive(table, low, high), rtol=1e-10)
    for name, low, high in (("psfTE3", 0.0, 5.0), ("psfTE4", 5.0, 20.0)):
        each = [naive(table[table["detector"] == d], low, high) for d in (0, 1)]
        ours = [found[f"{name}{part}"] for part in ("e1", "e2", "ex")]
        np.testing.assert_allclose(ours, np.median(each, axis=0), rtol=1e-10)


def test_a_common_residual_is_its_square_at_every_separation(rng):
    table = stars(rng, 700)
    for part in ("xx", "yy", "xy"):
        table[f"slot_Shape_{part}"] = table[f"slot_PsfShape_{part}"]
    table["slot_Shape_xx"], table["slot_Shape_yy"] = 4.0 * 1.01, 4.0 * 0.99
    found = residual_correlations(table, CONFIG)
    for name in ("psfTE1", "psfTE2", "psfTE3", "psfTE4"):
        assert found[f"{name}e1"] == pytest.approx(1e-4)
        assert found[f"{name}e2"] == pytest.approx(0.0, abs=1e-15)


def test_stars_without_a_shape_do_not_count_and_order_does_not_matter(rng):
    table = stars(rng, 300)
    whole = residual_correlations(table, CONFIG)
    more = stars(rng, 40)
    more["slot_Shape_xx"] = np.nan
    shuffled = Table(np.concatenate([table.as_array(), more.as_array()]))[rng.permutation(340)]
    for each in (shuffled, table_to_arrow(shuffled)):
        found = residual_correlations(each, CONFIG)
        for name, value in whole.items():
            assert found[name] == pytest.approx(value, rel=1e-10, abs=1e-16)


def test_without_pairs_there_is_nothing_and_without_columns_no_result(rng):
    table = stars(rng, 10)
    assert np.isnan(list(residual_correlations(table[:1], CONFIG).values())).all()
    assert np.isnan(list(residual_correlations(table[:0], CONFIG).values())).all()
    table.remove_column("coord_ra")
    assert residual_correlations(table, CONFIG) == {}
