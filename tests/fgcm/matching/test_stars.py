"""Unique stars against all pairs, in any order of the observations and anywhere on the sky."""

from dataclasses import dataclass

import astropy.units as u
import hpgeom
import hypothesis
import hypothesis.strategies as st
import lsst.pex.config as pexConfig
import numpy as np
import pytest
from astropy.table import Table

from naive import fgcm_stars as naive
from zeropoint.association.grouping import Positions
from zeropoint.datamodel.wcs import unit_vectors
from zeropoint.errors import InvalidInputError, NoUniqueStarsError
from zeropoint.fgcm.density import too_dense
from zeropoint.fgcm.match_config import StarMatchingConfig
from zeropoint.fgcm.stars import band_codes, match_stars

ARCSEC = np.pi / 648000.0
BANDS = ["g", "r", "i"]


@dataclass(frozen=True)
class Survey:
    """Observations, and the star that each is of."""

    ra: np.ndarray
    dec: np.ndarray
    band: np.ndarray
    visit: np.ndarray
    truth: np.ndarray

    @property
    def xyz(self):
        return unit_vectors(self.ra, self.dec)

    def __getitem__(self, rows):
        return Survey(*(value[rows] for value in vars(self).values()))

    def match(self, config, **changes):
        values = {**vars(self), **changes}
        del values["truth"]
        return match_stars(**values, bands=BANDS, config=config)


def config_of(**fields):
    config = StarMatchingConfig()
    config.update(**{"primaryBands": ["i", "r"], **fields})
    return config


def at(place, shift_arcsec):
    """Positions beside a place (degrees), whatever its declination."""
    ra, dec = np.deg2rad(place)
    center, east = unit_vectors(ra, dec), np.array([-np.sin(ra), np.cos(ra), 0.0])
    shift = np.asarray(shift_arcsec) * ARCSEC
    return Positions.from_vectors(center + shift[:, :1] * east + shift[:, 1:] * np.cross(center, east))


def survey(stars_arcsec, rng, *, place=(150.0, 2.0), n_visits=9, scatter=0.1, share=1.0):
    """Each visit, one band after another, sees a share of the stars, with noise of position (arcsec)."""
    stars, parts = np.asarray(stars_arcsec, float), []
    for visit in range(n_visits):
        seen = np.flatnonzero(rng.uniform(size=len(stars)) < share)
        sky = at(place, stars[seen] + rng.normal(scale=scatter, size=(len(seen), 2)))
        same = np.ones(len(seen), int)
        parts.append(Survey(sky.ra, sky.dec, visit % 3 * same, (100 + visit) * same, seen))
    return Survey(
        *(np.concatenate(values) for values in zip(*(vars(p).values() for p in parts), strict=True))
    )


def crowded(seed, n=40, size=9.0, place=(150.0, 2.0)):
    """A field in which stars stand alone, in pairs and in chains."""
    rng = np.random.default_rng(seed)
    return survey(rng.uniform(-size, size, (n, 2)), rng, place=place, scatter=0.15, share=0.7)


def stars_of(result):
    """Rows of each star, whatever the order of the stars."""
    index = np.asarray(result.indices["obsIndex"])
    return {
        tuple(sorted(index[first : first + n].tolist()))
        for first, n in zip(result.ids["obsArrIndex"], result.ids["nObs"], strict=True)
    }


@pytest.mark.parametrize("matcher", ["components", "fgcm"])
@hypothesis.given(seed=st.integers(0, 2**32 - 1), isolation=st.sampled_from([1.0, 2.0]))
@hypothesis.settings(max_examples=10)
def test_stars_are_those_of_all_pairs(matcher, seed, isolation):
    field = crowded(seed, size=16.0)
    config = config_of(
        matcher=matcher, isolationRadius=isolation, requiredBands=["g"], max_duplicate_fraction=0.25
    )
    ours = field.match(config)
    is_ours = matcher == "components"
    arrays = (field.ra, field.dec, field.xyz, field.band, [2, 1])
    stars = naive.candidates(*arrays, radius=ARCSEC, least=2, coarse_nside=None if is_ours else 8)
    expected = naive.match(
        field.xyz,
        field.band,
        field.visit,
        stars,
        radius=ARCSEC,
        isolation=isolation * ARCSEC,
        least=2,
        required=[0],
        max_duplicates=0.25,
        one_per_visit=is_ours,
    )
    assert stars_of(ours) == {rows for _, rows in expected}
    means = Positions.from_degrees(ours.ids["ra"], ours.ids["dec"]).xyz
    places = np.array([star for star, _ in expected])
    # rounding of sums and angles: 1e-13 radian is 0.02 micro-arcsec
    assert np.abs(means[:, None] - places[None]).max(axis=2).min(axis=0).max() < 1e-12


@hypothesis.given(seed=st.integers(0, 2**32 - 1))
@hypothesis.settings(max_examples=15)
def test_the_order_of_observations_changes_only_the_numbers_of_their_rows(seed):
    field, config = crowded(seed), config_of()
    order = np.random.default_rng(seed).permutation(len(field.ra))
    straight, shuffled = field.match(config), field[order].match(config)
    for name in straight.ids.colnames:
        np.testing.assert_array_equal(straight.ids[name], shuffled.ids[name])
    np.testing.assert_array_equal(order[shuffled.indices["obsIndex"]], straight.indices["obsIndex"])
    assert straight.ids.meta == shuffled.ids.meta


@pytest.mark.parametrize("place", [(0.0, 0.0), (359.9999, -45.0), (77.0, 90.0), (10.0, -89.999)])
def test_stars_are_the_same_wherever_on_the_sky(place):
    assert stars_of(crowded(5, place=place).match(config_of())) == stars_of(crowded(5).match(config_of()))


def test_a_chain_of_stars_is_taken_apart(rng):
    # linked within 0.8 arcsec, 3 arcsec long; linked within 0.4 they are 7 sigma of a distance apart
    chain = survey([(0.75 * k, 0.0) for k in range(5)], rng, n_visits=12, scatter=0.035)
    with pytest.raises(NoUniqueStarsError, match=r"stars: 5 read, 0 kept, 5 rejected .not_isolated 5"):
        chain.match(config_of(matchRadius=0.8, isolationRadius=0.8))


def test_the_rule_of_fgcm_splits_stars_at_the_edges_of_its_pixels(rng):
    edge_ra, edge_dec = hpgeom.boundaries(8, 300, step=2, nest=False)
    field = survey([(0.0, 0.0)], rng, place=(edge_ra[1], edge_dec[1]), n_visits=30)
    pixels = hpgeom.angle_to_pixel(8, field.ra, field.dec, nest=False, degrees=False)
    assert len(set(pixels)) == 2
    assert field.match(config_of()).ids["nObs"].tolist() == [30]
    with pytest.raises(NoUniqueStarsError, match="not_isolated 2"):
        field.match(config_of(matcher="fgcm"))


def test_tables_have_the_columns_of_fgcm(rng):
    result = survey([(0.0, 0.0), (20.0, 0.0)], rng).match(config_of())
    columns = {name: (result.ids[name].dtype.str[1:], result.ids[name].unit) for name in result.ids.colnames}
    assert columns == {
        "fgcm_id": ("i4", None),
        "ra": ("f8", u.deg),
        "dec": ("f8", u.deg),
        "obsArrIndex": ("i4", None),
        "nObs": ("i4", None),
    }
    assert [(c.name, c.dtype.str[1:]) for c in result.indices.itercols()] == [("obsIndex", "i4")]
    assert result.ids["fgcm_id"].tolist() == [1, 2]
    assert result.ids.meta["ACCOUNTING"] == result.accounting.to_meta()


def test_a_star_has_its_observations_by_band_and_visit(rng):
    field = survey([(0.0, 0.0)], rng)
    rows = np.asarray(field[np.arange(len(field.ra))[::-1]].match(config_of()).indices["obsIndex"])
    there = field[np.arange(len(field.ra))[::-1]][rows]
    np.testing.assert_array_equal(np.lexsort((there.visit, there.band)), np.arange(9))


def test_a_spurious_second_detection_does_not_count_and_a_blend_is_dropped(rng):
    blend = survey([(0.0, 0.0), (0.6, 0.0), (30.0, 0.0)], rng, n_visits=30, scatter=0.05)
    ghost = survey([(30.5, 0.0)], rng, n_visits=1)
    field = Survey(
        *(np.append(a, b) for a, b in zip(vars(blend).values(), vars(ghost).values(), strict=True))
    )
    result = field.match(config_of())
    assert result.ids["nObs"].tolist() == [30]
    assert len(blend.ra) not in result.indices["obsIndex"]
    rejected = result.accounting["observations_of_stars"].rejected
    assert rejected == {"star_blended": 30, "second_in_visit": 31}
    assert len(field.match(config_of(max_duplicate_fraction=1.0)).ids) == 2


def test_every_observation_is_accounted_for(rng):
    field = survey(rng.uniform(-60, 60, (60, 2)), rng, share=0.4)
    n = len(field.ra)
    ra, band = field.ra.copy(), field.band.copy()
    ra[:7], band[5:12] = np.nan, -1
    result = field.match(config_of(requiredBands=["g", "r"]), ra=ra, band=band)
    stage = result.accounting["observations_of_stars"]
    assert (stage.read, stage.kept) == (n, len(result.indices))
    assert (stage.rejected["no_position"], stage.rejected["no_band"]) == (7, 5)
    assert stage.rejected["star_too_few_in_required_band"] > 0
    assert stage.adds_up
    assert result.accounting["stars"].kept == len(result.ids)
    assert np.isfinite(ra[result.indices["obsIndex"]]).all()


def test_where_no_star_is_left_the_error_says_why(rng):
    field = survey([(0.0, 0.0), (20.0, 0.0)], rng)
    only_i = field[field.band == 2]
    with pytest.raises(NoUniqueStarsError, match=r"too_few_in_required_band 2.*g 0, r 0, i 6") as caught:
        only_i.match(config_of(requiredBands=["g"]))
    assert caught.value.metadata == {"n_observations": 6, "n_groups": 2, "n_candidates": 2}
    with pytest.raises(NoUniqueStarsError, match="0 read"):
        field[:0].match(config_of())
    with pytest.raises(InvalidInputError, match="requiredBands names z"):
        field.match(config_of(requiredBands=["z"]))


def test_configurations_that_cannot_be_used_name_the_field():
    for fields, name in (
        ({"primaryBands": []}, "primaryBands"),
        ({"requiredBands": ["g", "g"]}, "requiredBands"),
        ({"isolationRadius": 0.5}, "isolationRadius"),
    ):
        with pytest.raises(pexConfig.FieldValidationError, match=f"Field '{name}'"):
            config_of(**fields).validate()


def test_bands_come_from_the_visits_filters():
    catalog = Table({"visit": [7, 3, 5], "physicalFilter": ["i2", "g", "odd"]})
    codes, names = band_codes(np.array([3, 5, 7, 8]), catalog, {"g": "g", "i": "i", "i2": "i"})
    assert (codes.tolist(), names) == ([0, -1, 1, -1], ["g", "i"])
    assert band_codes(np.array([3]), catalog[:0], {"g": "g"})[0].tolist() == [-1]


@hypothesis.given(seed=st.integers(0, 2**32 - 1), most=st.integers(1, 40))
@hypothesis.settings(max_examples=20)
def test_a_pixel_keeps_the_same_stars_whatever_their_order_and_the_rest_of_the_sky(seed, most):
    rng = np.random.default_rng(seed)
    stars = Positions(rng.uniform(0.0, 0.04, 300), rng.uniform(0.0, 0.04, 300))  # some 25 pixels of nside 128
    drop = too_dense(stars, nside=128, max_per_pixel=most, seed=1)
    order = rng.permutation(300)
    np.testing.assert_array_equal(too_dense(stars[order], nside=128, max_per_pixel=most, seed=1), drop[order])
    pixel = hpgeom.angle_to_pixel(128, stars.ra, stars.dec, nest=False, degrees=False)
    before, after = np.bincount(pixel), np.bincount(pixel[~drop], minlength=pixel.max() + 1)
    np.testing.assert_array_equal(after, np.minimum(before, most))
    here = pixel == pixel[0]
    np.testing.assert_array_equal(too_dense(stars[here], nside=128, max_per_pixel=most, seed=1), drop[here])


def test_another_seed_keeps_other_stars():
    rng = np.random.default_rng(0)
    ra, dec = hpgeom.pixel_to_angle(8, 300, nest=False, degrees=False)
    stars = Positions(ra + rng.uniform(0.0, 0.002, 200), dec + rng.uniform(0.0, 0.002, 200))
    kept = [~too_dense(stars, nside=8, max_per_pixel=100, seed=seed) for seed in (1, 2)]
    # of 100 kept of 200 by chance, half are kept twice: 50 +- 3.5
    assert 35 < np.count_nonzero(kept[0] & kept[1]) < 65
