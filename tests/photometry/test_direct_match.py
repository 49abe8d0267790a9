import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.datamodel.wcs import angular_separation
from zeropoint.photometry.direct_match import match_positions

ARCSEC = np.pi / 648000.0


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 9999),
    n=st.integers(0, 40),
    m=st.integers(0, 40),
    dec=st.sampled_from([0.0, 1.0, 1.57]),
)
def test_matches_agree_with_a_full_table_of_separations(seed, n, m, dec):
    rng = np.random.default_rng(seed)
    radius = 5 * ARCSEC
    ra1, ra2 = rng.uniform(0, 60 * ARCSEC, n), rng.uniform(0, 60 * ARCSEC, m)
    dec1, dec2 = dec + rng.uniform(0, 60 * ARCSEC, n), dec + rng.uniform(0, 60 * ARCSEC, m)
    rows1, rows2, distance = match_positions(ra1, dec1, ra2, dec2, radius)
    table = angular_separation(ra1[:, None], dec1[:, None], ra2[None, :], dec2[None, :])
    expected = [
        (i, int(table[i].argmin()))
        for i in range(n)
        if m and table[i].min() < radius and int(table[:, table[i].argmin()].argmin()) == i
    ]
    assert list(zip(rows1.tolist(), rows2.tolist())) == expected
    np.testing.assert_allclose(distance, table[rows1, rows2], atol=1e-6 * ARCSEC)


def test_one_source_serves_only_its_closest_reference():
    ra1 = np.array([0.0])
    ra2 = np.array([0.2, 0.1]) * ARCSEC
    rows1, rows2, _ = match_positions(ra1, np.zeros(1), ra2, np.zeros(2), ARCSEC)
    assert (rows1.tolist(), rows2.tolist()) == ([0], [1])


def test_missing_positions_never_match():
    nan = np.array([np.nan, 0.0])
    rows1, rows2, distance = match_positions(nan, np.zeros(2), nan, np.zeros(2), ARCSEC)
    assert (rows1.tolist(), rows2.tolist()) == ([1], [1])
    assert distance == pytest.approx(0.0, abs=1e-12)
