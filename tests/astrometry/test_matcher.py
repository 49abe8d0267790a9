import lsst.pex.config as pexConfig
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import matched_stars as sky
from zeropoint.astrometry.matcher import MatchPessimisticB, MatchPessimisticBConfig
from zeropoint.errors import MatcherFailure

MATCHER = MatchPessimisticB()
#: Largest share of the pairs that may be of two different objects within the tolerance.
CHANCE_SHARE = 0.02


def right(result):
    return float(np.mean(result.match_ref == result.match_src))


@pytest.mark.parametrize(
    ("n_common", "n_spurious", "n_unseen"),
    [
        (5, 0, 0),
        (5, 2, 3),
        (7, 3, 5),
        (10, 4, 10),
        (20, 8, 20),
        (30, 300, 20),
        (100, 40, 100),
        (1000, 430, 1000),
    ],
)
def test_planted_shifts_and_rotations_are_found(n_common, n_spurious, n_unseen):
    rng = np.random.default_rng([n_common, n_spurious])
    for _ in range(6):
        lists = sky.two_lists(
            rng,
            n_common,
            n_spurious,
            n_unseen,
            shift=rng.uniform(-170, 170, 2),
            rotation_deg=rng.uniform(-0.9, 0.9),
        )
        result = MATCHER.run(**lists)
        assert right(result) >= 1 - CHANCE_SHARE
        assert len(result.match_src) >= 0.95 * n_common
        assert result.odds.n_pairs == len(result.match_src)


def test_crowded_fields_are_matched():
    rng = np.random.default_rng(8)
    lists = sky.two_lists(rng, 3500, 1500, 4600, shift=(140.0, -150.0), rotation_deg=0.7)
    result = MATCHER.run(**lists)
    assert right(result) >= 1 - CHANCE_SHARE
    assert len(result.match_src) >= 3400


@pytest.mark.parametrize("scale", [0.993, 1.006])
@pytest.mark.parametrize("n", [12, 200])
def test_a_wrong_pixel_scale_does_not_hurt(scale, n):
    rng = np.random.default_rng([n, int(1000 * scale)])
    result = MATCHER.run(
        **sky.two_lists(rng, n, n // 3, n, shift=(90.0, 40.0), rotation_deg=0.5, scale=scale)
    )
    assert right(result) >= 1 - CHANCE_SHARE
    assert len(result.match_src) >= 0.9 * n


@pytest.mark.parametrize("dec", [0.0, 1.5707, -1.57])
def test_poles_and_the_ra_wrap_are_ordinary(dec):
    rng = np.random.default_rng(4)
    result = MATCHER.run(
        **sky.two_lists(rng, 40, 12, 30, shift=(60.0, 80.0), rotation_deg=0.4, ra=1e-5, dec=dec)
    )
    assert right(result) == 1.0


def test_unrelated_lists_are_never_matched():
    rng = np.random.default_rng(12)
    sizes = [(5, 5), (8, 20), (20, 40), (25, 150), (80, 100)]
    for trial in range(200):
        n_src, n_ref = sizes[trial % len(sizes)]
        with pytest.raises(MatcherFailure, match=r"chance|Too few"):
            MATCHER.run(**sky.two_lists(rng, 0, n_src, n_ref))


def test_unrelated_clusters_on_each_other_are_not_matched():
    rng = np.random.default_rng(13)
    for _ in range(15):
        lists = sky.two_lists(rng, 0, 150, 200)
        for name in ("source", "ref"):
            members = rng.random(len(lists[f"{name}_ra"])) < 0.5
            lists[f"{name}_ra"][members] = 1.0 + rng.normal(0, 2e-4, members.sum())
            lists[f"{name}_dec"][members] = -0.5 + rng.normal(0, 2e-4, members.sum())
        with pytest.raises(MatcherFailure):
            MATCHER.run(**lists)


def test_a_shift_beyond_the_limit_is_refused():
    rng = np.random.default_rng(14)
    with pytest.raises(MatcherFailure, match="maxOffsetPix") as caught:
        MATCHER.run(**sky.two_lists(rng, 60, 10, 10, shift=(500.0, 0.0)))
    assert caught.value.metadata["n_sources"] == 70
    config = MatchPessimisticBConfig()
    config.maxOffsetPix = 600
    rng = np.random.default_rng(14)
    assert right(MatchPessimisticB(config).run(**sky.two_lists(rng, 60, 10, 10, shift=(500.0, 0.0)))) == 1.0


@pytest.mark.parametrize("rotation", [5.0, 90.0, 179.0])
def test_any_rotation_is_found_on_request(rotation):
    config = MatchPessimisticBConfig()
    config.search_all_rotations = True
    lists = sky.two_lists(np.random.default_rng(15), 30, 10, 30, shift=(100.0, 50.0), rotation_deg=rotation)
    result = MatchPessimisticB(config).run(**lists)
    assert right(result) == 1.0
    assert abs(result.rotation_deg) == pytest.approx(rotation, abs=0.01)
    with pytest.raises(MatcherFailure):
        MATCHER.run(**lists)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(8, 60))
def test_the_order_of_rows_does_not_matter(seed, n):
    rng = np.random.default_rng(seed)
    lists = sky.two_lists(rng, n, n // 2, n, shift=(30.0, -70.0), rotation_deg=0.3)
    src, ref = rng.permutation(len(lists["source_ra"])), rng.permutation(len(lists["ref_ra"]))
    mixed = {
        key: value[src] if key.startswith("source") else value[ref] if key.startswith("ref") else value
        for key, value in lists.items()
    }
    first, second = MATCHER.run(**lists), MATCHER.run(**mixed)
    pairs = set(zip(first.match_src.tolist(), first.match_ref.tolist()))
    assert pairs == set(zip(src[second.match_src].tolist(), ref[second.match_ref].tolist()))


def test_missing_positions_and_magnitudes_are_tolerated():
    lists = sky.two_lists(np.random.default_rng(16), 40, 10, 10, shift=(30.0, 0.0))
    lists["source_ra"][3] = lists["ref_dec"][5] = np.nan
    lists["source_mag"][7] = lists["ref_mag"][8] = np.nan
    result = MATCHER.run(**lists)
    assert right(result) == 1.0
    assert set(range(40)) - set(result.match_src.tolist()) == {3, 5}


@pytest.mark.parametrize(("n_src", "n_ref"), [(0, 10), (10, 0), (3, 10), (10, 3)])
def test_tiny_lists_are_refused(n_src, n_ref):
    with pytest.raises(MatcherFailure, match="Too few"):
        MATCHER.run(**sky.two_lists(np.random.default_rng(1), 0, n_src, n_ref))


def test_defaults_and_checks_of_the_configuration():
    config = MatchPessimisticBConfig()
    assert (config.numBrightStars, config.minMatchedPairs, config.minFracMatchedPairs) == (150, 30, 0.3)
    assert (config.maxOffsetPix, config.maxRotationDeg, config.matcherIterations) == (250, 1.0, 5)
    assert (config.numPatternConsensus, config.numRefRequireConsensus, config.maxRefObjects) == (
        3,
        1000,
        8192,
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("numPointsForShape", 2),
        ("numPointsForShapeAttempt", 5),
        ("numBrightStars", 5),
        ("maxRefObjects", 3),
        ("maxOffsetPix", -1),
        ("maxRotationDeg", 7.0),
        ("minMatchDistPixels", -0.1),
    ],
)
def test_impossible_settings_name_their_field(field, value):
    def configured():
        config = MatchPessimisticBConfig()
        setattr(config, field, value)
        config.validate()

    with pytest.raises(pexConfig.FieldValidationError, match=field):
        configured()
