"""Reserved stars: exact share and golden values, and a choice per star that added data leave as it was."""

import hypothesis
import hypothesis.strategies as st
import lsst.pex.config as pexConfig
import numpy as np
import pytest

from zeropoint.association import ReserveIsolatedStars, ReserveIsolatedStarsConfig
from zeropoint.errors import InvalidInputError


def _reserve(**settings):
    config = ReserveIsolatedStarsConfig()
    config.update(**settings)
    return ReserveIsolatedStars(config)


def _sky(n, rng):
    """Positions on 10 square degrees."""
    return 200.0 + rng.uniform(0.0, 4.0, n), rng.uniform(-1.25, 1.25, n)


@pytest.mark.parametrize(
    ("extra", "n", "rows"),
    [
        ("r_100", 1000, [12, 28, 35, 46, 48, 64, 82, 102, 112, 113, 115, 145]),
        ("i_9813", 10, [6]),
        ("g_0", 57, [1, 35, 42, 44, 47]),
        ("r_100", 3, []),
    ],
)
def test_the_choice_per_tract_is_rubins(extra, n, rows):
    reserved = _reserve().run(n, extra)
    assert reserved.shape == (n,)
    assert np.count_nonzero(reserved) == int(n * 0.1)
    assert np.flatnonzero(reserved)[: len(rows)].tolist() == rows


@pytest.mark.parametrize("method", ["per_tract", "per_star"])
def test_other_bands_tracts_and_names_have_other_stars(method, rng):
    ra, dec = _sky(4000, rng)
    choices = [
        _reserve(method=method, reserve_name=name).run(4000, extra, ra=ra, dec=dec)
        for name, extra in [("reserved", "r_1"), ("reserved", "i_1"), ("reserved", "r_2"), ("fgcmcal", "r_1")]
    ]
    for k, one in enumerate(choices):
        for other in choices[:k]:
            # independent choices share 40 +- 6 of 400
            assert np.count_nonzero(one & other) < 40 + 6 * 6


@pytest.mark.parametrize("method", ["per_tract", "per_star"])
@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 0), (1.0, 50)])
def test_none_and_all_can_be_reserved(method, fraction, expected, rng):
    ra, dec = _sky(50, rng)
    reserved = _reserve(method=method, reserve_fraction=fraction).run(50, "r_1", ra=ra, dec=dec)
    assert np.count_nonzero(reserved) == expected


def test_the_choice_per_star_has_golden_values():
    ra, dec = np.meshgrid(np.linspace(0.0, 350.0, 36), [-89.9, -30.0, 0.0, 60.0])
    reserved = _reserve(method="per_star").run(ra.size, "r_9813", ra=ra.ravel(), dec=dec.ravel())
    rows = [9, 25, 28, 64, 67, 74, 75, 80, 90, 102, 105, 123, 125, 126, 134]
    assert np.flatnonzero(reserved).tolist() == rows


@hypothesis.given(seed=st.integers(0, 2**32 - 1), keep=st.floats(0.0, 1.0))
@hypothesis.settings(max_examples=20, deadline=None)
def test_stars_that_come_and_go_leave_the_choice_per_star_as_it_was(seed, keep):
    rng = np.random.default_rng(seed)
    ra, dec = _sky(300, rng)
    reserve = _reserve(method="per_star", reserve_fraction=0.3)
    everything = reserve.run(300, "r_1", ra=ra, dec=dec)
    rows = rng.permutation(np.flatnonzero(rng.uniform(size=300) < keep))
    np.testing.assert_array_equal(reserve.run(len(rows), "r_1", ra=ra[rows], dec=dec[rows]), everything[rows])


def test_the_choice_per_star_has_its_share_and_survives_small_shifts(rng):
    n, shift = 200_000, 5e-3 / 3600.0
    ra, dec = _sky(n, rng)
    angle = rng.uniform(0.0, 2.0 * np.pi, n)
    reserve = _reserve(method="per_star")
    before = reserve.run(n, "r_1", ra=ra, dec=dec)
    after = reserve.run(
        n, "r_1", ra=ra + shift * np.cos(angle) / np.cos(np.deg2rad(dec)), dec=dec + shift * np.sin(angle)
    )
    assert np.count_nonzero(before) == pytest.approx(0.1 * n, abs=5.0 * np.sqrt(0.09 * n))
    # 2 f (1 - f) 4 d / (pi side) of the stars change sides; the side of a cell is 3.22 arcsec
    expected = 0.18 * 4.0 * 5e-3 / (np.pi * 3.22) * n
    assert np.count_nonzero(before != after) == pytest.approx(expected, abs=5.0 * np.sqrt(expected))


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match="-1 stars"):
        _reserve().run(-1)
    with pytest.raises(ValueError, match="positions of all 3 stars"):
        _reserve(method="per_star").run(3, "r_1")
    with pytest.raises(InvalidInputError, match="finite position"):
        _reserve(method="per_star").run(1, "r_1", ra=[np.nan], dec=[0.0])
    with pytest.raises(pexConfig.FieldValidationError, match="reserve_fraction"):
        _reserve(reserve_fraction=1.5)
