"""Neighbors on the sphere against all pairs: anywhere, at the poles, where right ascension begins anew."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from naive import isolated_stars as naive
from zeropoint.association import grouping
from zeropoint.association.grouping import Positions, friends, greedy_groups
from zeropoint.datamodel.wcs import unit_vectors

ARCSEC = np.pi / 648000.0
#: Places where a grid on the sphere could fail: (ra, dec) in degrees.
PLACES = [
    (150.0, 2.0),
    (0.0, 0.0),
    (0.0, -60.0),
    (10.0, 90.0),
    (200.0, -90.0),
    (33.0, 89.999),
    (359.9999, 45.0),
]


def _field(place, n, size_arcsec, rng):
    """Random positions in a disk around a place, as unit vectors turned there."""
    ra, dec = np.deg2rad(place)
    center = unit_vectors(ra, dec)
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    north = np.cross(center, east)
    shift = rng.uniform(-size_arcsec, size_arcsec, (n, 2)) * ARCSEC
    return Positions.from_vectors(center + shift[:, :1] * east + shift[:, 1:] * north)


def _sets(groups):
    return sorted(
        tuple(groups.members[a:b].tolist())
        for a, b in zip(groups.starts[:-1], groups.starts[1:], strict=True)
    )


@hypothesis.given(
    seed=st.integers(0, 2**32 - 1),
    place=st.sampled_from(PLACES),
    n=st.integers(0, 60),
    radius=st.sampled_from([0.3, 1.0, 7.0]),
)
@hypothesis.settings(max_examples=60, deadline=None)
def test_groups_and_neighbors_are_those_of_all_pairs(seed, place, n, radius):
    field = _field(place, n, 8.0, np.random.default_rng(seed))
    close = naive.close_pairs(field.xyz, field.xyz, radius * ARCSEC)
    assert _sets(friends(field, radius * ARCSEC)) == naive.components(close)
    assert _sets(greedy_groups(field, radius * ARCSEC)) == naive.greedy(close)
    np.testing.assert_array_equal(field.count_within(field, radius * ARCSEC), close.sum(axis=1))
    half = field[np.arange(0, n, 2)]
    np.testing.assert_array_equal(
        field.nearest(half, radius * ARCSEC), naive.nearest(field.xyz, half.xyz, radius * ARCSEC)
    )


@pytest.mark.parametrize("radius_deg", [0.5, 20.0, 100.0])
def test_wide_radii_on_the_whole_sphere(radius_deg, rng):
    field = Positions.from_vectors(rng.normal(size=(80, 3)))
    radius = np.deg2rad(radius_deg)
    close = naive.close_pairs(field.xyz, field.xyz, radius)
    assert _sets(friends(field, radius)) == naive.components(close)
    np.testing.assert_array_equal(field.count_within(field, radius), close.sum(axis=1))


def test_a_chain_is_one_group_of_friends_and_several_greedy_ones():
    chain = Positions.from_degrees(10.0 + np.arange(7) * 0.9 / 3600.0, np.zeros(7))
    assert _sets(friends(chain, ARCSEC)) == [tuple(range(7))]
    # of five with two neighbors each the first, then the first that is left
    assert _sets(greedy_groups(chain, ARCSEC)) == [(0, 1, 2), (2, 3, 4), (4, 5, 6)]


def test_means_are_directions_of_sums_and_repeated_visits_are_marked():
    ra = np.array([359.9999, 0.0001, 10.0, 10.0001])
    field = Positions.from_degrees(ra, np.zeros(4))
    groups = friends(field, 2.0 * ARCSEC)
    visits = np.array([1, 2, 7, 7])
    centers, repeated = groups.centers(field), groups.with_repeats(visits)
    rows = np.argsort(groups.members[groups.starts[:-1]])
    east = np.mod(np.rad2deg(centers.ra[rows]) + 180.0, 360.0) - 180.0
    np.testing.assert_allclose(east, [0.0, 10.00005], atol=1e-12)
    assert repeated[rows].tolist() == [False, True]


def test_positions_searched_for_in_portions_have_the_same_neighbors(monkeypatch, rng):
    field, others = _field((0.0, 0.0), 50, 8.0, rng), _field((0.0, 0.0), 40, 8.0, rng)
    counts, nearest = field.count_within(others, ARCSEC), field.nearest(others, ARCSEC)
    assert (nearest >= 0).any()
    monkeypatch.setattr(grouping, "_CHUNK", 7)
    np.testing.assert_array_equal(field.count_within(others, ARCSEC), counts)
    np.testing.assert_array_equal(field.nearest(others, ARCSEC), nearest)
