"""Isolated stars of simulated visits: against all pairs, in any order, anywhere on the sky, and with odd inputs."""

import hypothesis
import hypothesis.strategies as st
import lsst.pex.config as pexConfig
import numpy as np
import pyarrow as pa
import pytest
from astropy.table import Table, vstack

from association.make import ARCSEC_DEG, association, sky_map, survey, visit_table
from naive import isolated_stars as naive
from zeropoint.association.grouping import Positions
from zeropoint.datamodel.skymap import SkyMap
from zeropoint.errors import InvalidInputError

ARCSEC = np.pi / 648000.0


def _field(n, center, half_arcsec, rng):
    """Random stars in a square around (ra, dec) in degrees."""
    x, y = rng.uniform(-half_arcsec, half_arcsec, (2, n)) * ARCSEC_DEG
    return center[0] + x / np.cos(np.deg2rad(center[1])), center[1] + y


def _assert_consistent(result, bands=("i", "z", "r", "g", "y", "u")):
    """Both tables point to each other, star by star and band by band."""
    stars, sources = result.stars, result.sources
    assert len(set(sources["sourceId"])) == len(sources)
    assert stars["nsource"].sum() == len(sources)
    assert (np.diff(sources["obj_index"]) >= 0).all()
    for k, star in enumerate(stars):
        whole = sources[star["source_cat_index"] : star["source_cat_index"] + star["nsource"]]
        assert (whole["obj_index"] == k).all()
        assert sum(star[f"nsource_{band}"] for band in bands) == star["nsource"]
        for band in bands:
            first, number = star[f"source_cat_index_{band}"], star[f"nsource_{band}"]
            part = sources[first : first + number]
            assert (part["band"] == band).all()
            assert list(zip(part["visit"], part["sourceId"], strict=True)) == sorted(
                zip(part["visit"], part["sourceId"], strict=True)
            )
        assert star[f"nsource_{star['primary_band']}"] > 0


def _same(a, b, without=()):
    assert a.colnames == b.colnames
    assert a.meta == b.meta
    for name in set(a.colnames) - set(without):
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name], b[name])


@hypothesis.given(
    seed=st.integers(0, 2**32 - 1),
    density=st.sampled_from([10.0, 60.0, 300.0, 1500.0]),
    scatter=st.sampled_from([0.02, 0.2, 0.4]),
    settings=st.sampled_from(
        [
            {},
            {"grouping": "greedy"},
            {"reject_duplicate_visits": False},
            {"grouping": "greedy", "reject_duplicate_visits": False, "isolation_radius": 1.0},
        ]
    ),
)
@hypothesis.settings(max_examples=25, deadline=None)
def test_dense_fields_agree_with_all_pairs_and_nothing_close_survives(seed, density, scatter, settings):
    rng = np.random.default_rng(seed)
    n = min(60, max(2, int(density * 0.04)))  # stars in 0.04 square arcmin
    ra, dec = _field(n, (150.0, 2.0), 6.0 * np.sqrt(n / (density * 0.04)), rng)
    bands = ["r", "i", "i", "g", "r"]
    tables = survey(ra, dec, bands, rng, scatter_arcsec=scatter, probability=0.8)
    finder = association(band_order=["i", "r", "g"], **settings)
    result = finder.run(tables, sky_map(), 0)
    _assert_consistent(result, ("i", "r", "g"))

    whole = vstack(list(tables.values()))
    xyz = Positions.from_degrees(whole["ra"].data, whole["dec"].data).xyz
    expected = naive.associate(
        xyz,
        whole["visit"].data,
        np.array([["i", "r", "g"].index(band) for band in whole["band"]]),
        3,
        match=finder.config.match_radius * ARCSEC,
        isolation=finder.config.isolation_radius * ARCSEC,
        greedy_rule=finder.config.grouping == "greedy",
        reject=finder.config.reject_duplicate_visits,
    )
    found = {}
    for k, star in enumerate(result.stars):
        ids = frozenset(result.sources["sourceId"][result.sources["obj_index"] == k])
        found[ids] = (star["primary_band"], star["ra"], star["dec"])
    assert set(found) == {frozenset(whole["sourceId"][rows]) for _, _, rows in expected}
    for band, mean, rows in expected:
        name, star_ra, star_dec = found[frozenset(whole["sourceId"][rows])]
        assert name == ["i", "r", "g"][band]
        # 1e-15 rad is the rounding of unit vectors, and their difference from the mean's own
        np.testing.assert_allclose(Positions.from_degrees([star_ra], [star_dec]).xyz[0], mean, atol=2e-15)

    positions = Positions.from_degrees(result.stars["ra"].data, result.stars["dec"].data)
    close = naive.close_pairs(positions.xyz, positions.xyz, finder.config.isolation_radius * ARCSEC)
    assert close.sum() == len(positions)
    if finder.config.reject_duplicate_visits:
        pairs = list(zip(result.sources["obj_index"], result.sources["visit"], strict=True))
        assert len(set(pairs)) == len(pairs)


@hypothesis.given(seed=st.integers(0, 2**32 - 1))
@hypothesis.settings(max_examples=5, deadline=None)
def test_order_and_form_of_the_input_change_nothing(seed):
    rng = np.random.default_rng(seed)
    ra, dec = _field(80, (150.0, 2.0), 20.0, rng)
    tables = survey(ra, dec, "irirg", rng, probability=0.8)
    finder = association()
    one = finder.run(tables, sky_map(), 0)
    shuffled = {visit: table[rng.permutation(len(table))] for visit, table in tables.items()}
    visits = rng.permutation(list(tables))
    arrow = (pa.table(dict(shuffled[visit].items())) for visit in visits)
    chunked = [pa.concat_tables([table[:3], table[3:]]) for table in arrow]
    other = finder.run(zip(visits, chunked, strict=True), sky_map(), 0)
    _same(one.stars, other.stars)
    _same(one.sources, other.sources, without=["source_row"])
    for result, given in [(one, tables), (other, shuffled)]:
        for row in result.sources:
            assert given[row["visit"]]["sourceId"][row["source_row"]] == row["sourceId"]
    finer = association(nside_split=512).run(tables, sky_map(), 0)
    _same(one.sources, finer.sources)


@pytest.mark.parametrize(
    "center", [(150.0, 2.0), (0.0, 10.0), (359.99999, -45.0), (77.0, 89.99), (12.0, -90.0)]
)
def test_stars_are_found_anywhere_on_the_sky(center, rng):
    grid = np.stack(np.meshgrid(np.arange(-3, 4), np.arange(-3, 4))).reshape(2, -1) * 8.0 * ARCSEC
    wcs = sky_map(*center)[0].wcs
    true_ra, true_dec = wcs.pixel_to_sky(
        x=wcs.x0 + grid[0] / (0.333 * ARCSEC), y=wcs.y0 + grid[1] / (0.333 * ARCSEC)
    )
    xyz = Positions(true_ra, true_dec).xyz
    tables = {}
    for visit, band in enumerate("iirr"):
        seen = Positions.from_vectors(xyz + rng.normal(scale=0.05 * ARCSEC, size=xyz.shape))
        tables[visit] = visit_table(visit, np.rad2deg(seen.ra), np.rad2deg(seen.dec), band)
    result = association().run(tables, sky_map(*center), 0)
    _assert_consistent(result)
    assert len(result.stars) == 49
    assert (result.stars["nsource"] == 4).all()
    assert ((result.stars["ra"] >= 0.0) & (result.stars["ra"] < 360.0)).all()
    found = Positions.from_degrees(result.stars["ra"].data, result.stars["dec"].data)
    nearest = found.nearest(Positions(true_ra, true_dec), ARCSEC)
    assert sorted(nearest) == list(range(49))
    # the mean of two sources has 0.05 / sqrt(2) arcsec per axis; six of these
    offset = np.linalg.norm(found.xyz - xyz[nearest], axis=1) / ARCSEC
    assert offset.max() < 6.0 * 0.05


def test_known_stars_are_counted_as_they_were_made(rng):
    """Isolated ones, a close pair, a pair within the match radius, one band only, a neighbor in another band."""
    x = np.array([0.0, 20.0, 40.0, 41.5, 60.0, 60.8, 80.0, 100.0])
    ra, dec = 150.0 + x * ARCSEC_DEG, np.full(8, 2.0)
    all_bands, r_only = np.arange(7), np.array([0, 1, 2, 3, 4, 5, 7])
    tables = {}
    for visit in range(10):
        rows = r_only if visit < 5 else all_bands
        noise = rng.normal(scale=0.03 * ARCSEC_DEG, size=(2, len(rows)))
        tables[visit] = visit_table(
            visit, ra[rows] + noise[0], dec[rows] + noise[1], "r" if visit < 5 else "i"
        )
    result = association().run(tables, sky_map(), 0)
    _assert_consistent(result)
    places = np.round((np.sort(result.stars["ra"]) - 150.0) / ARCSEC_DEG).astype(int).tolist()
    assert places == [0, 20, 80, 100]
    by_place = {round((star["ra"] - 150.0) / ARCSEC_DEG): star for star in result.stars}
    assert [by_place[p]["primary_band"] for p in places] == ["i", "i", "i", "r"]
    assert [by_place[p]["nsource_r"] for p in places] == [5, 5, 0, 5]
    assert [by_place[p]["nsource_i"] for p in places] == [5, 5, 5, 0]
    assert result.counts["n_not_isolated"] == 2
    assert result.counts["n_blended_groups"] == 2  # the pair within the match radius, in r and in i
    merged = association(reject_duplicate_visits=False).run(tables, sky_map(), 0)
    assert len(merged.stars) == 5
    assert merged.stars["nsource"].max() == 20


def test_a_star_at_the_border_is_in_one_tract_with_the_position_that_the_other_would_give(rng):
    sky = SkyMap.rings(40, pixelScale=1.0)
    tract = sky[500]
    box = sky.inner_sky_region(500)
    edge = box.getLon().getB().asDegrees()
    middle = box.getLat().getCenter().asDegrees()
    ra, dec = _field(60, (edge, middle), 100.0, rng)
    neighbor = int(sky.find_tract_ids(edge + 0.02, middle, degrees=True)[0])
    assert neighbor != tract.id
    tables = survey(ra, dec, "iirr", rng)
    results = {t: association().run(tables, sky, t) for t in (tract.id, neighbor)}
    ids = [set(result.sources["sourceId"]) for result in results.values()]
    assert ids[0]
    assert ids[1]
    assert not ids[0] & ids[1]
    whole = association().run(tables, sky_map(edge, middle), 0)
    positions = {tuple(row) for result in results.values() for row in result.stars.iterrows("ra", "dec")}
    assert positions == set(whole.stars.iterrows("ra", "dec"))
    star_ids = np.concatenate([result.stars["isolated_star_id"] for result in results.values()])
    assert len(set(star_ids)) == len(star_ids)
    for t, result in results.items():
        assert (result.stars["isolated_star_id"] % 10 ** len(str(len(sky))) == t).all()
        assert result.stars.meta == {"tract": t, "skymap_sha1": sky.sha1.hex()}


STAR_TYPES = {"isolated_star_id": "i8", "ra": "f8", "dec": "f8", "source_cat_index": "i4", "nsource": "i4"}
SOURCE_NAMES = [
    *("sourceId", "visit", "detector", "ra", "dec", "physical_filter", "band"),
    *("normCompTophatFlux_instFlux", "normCompTophatFlux_instFluxErr", "x", "y", "xErr", "yErr"),
    *("apFlux_12_0_instFlux", "apFlux_12_0_instFluxErr", "apFlux_12_0_flag"),
    *("apFlux_17_0_instFlux", "apFlux_17_0_instFluxErr", "apFlux_17_0_flag"),
    *("localBackground_instFlux", "localBackground_flag", "ixx", "iyy", "ixy", "source_row", "obj_index"),
]


@pytest.mark.parametrize("reason", ["found", "flagged", "elsewhere", "no rows", "crowded"])
def test_tables_have_all_columns_also_without_rows(reason, rng):
    ra, dec = _field(5, (150.0, 2.0), 0.5 if reason == "crowded" else 60.0, rng)
    tables = survey(ra, dec, "ir", rng)
    for visit, table in tables.items():
        if reason == "flagged":
            table["centroid_flag"] = True
        elif reason == "elsewhere":
            table["dec"] += 10.0
        elif reason == "no rows":
            tables[visit] = table[:0]
    result = association().run(tables, sky_map(), 0)
    assert (len(result.stars) > 0) == (reason == "found")
    assert len(result.sources) == result.stars["nsource"].sum()
    assert result.sources.colnames == SOURCE_NAMES
    index = [f"{kind}_{band}" for band in "izrgyu" for kind in ("source_cat_index", "nsource")]
    assert result.stars.colnames == [
        *("isolated_star_id", "ra", "dec", "primary_band", "source_cat_index", "nsource"),
        *index,
    ]
    for name, dtype in (STAR_TYPES | dict.fromkeys(index, "i4")).items():
        assert result.stars[name].dtype == np.dtype(dtype)
    types = {"sourceId": "i8", "visit": "i8", "detector": "i2", "source_row": "i4", "obj_index": "i4"}
    types |= {"ra": "f8", "dec": "f8", "x": "f4", "apFlux_12_0_flag": "?", "apFlux_12_0_instFlux": "f8"}
    for name, dtype in types.items():
        assert result.sources[name].dtype == np.dtype(dtype)
    for name in ("physical_filter", "band"):
        assert result.sources[name].dtype.kind == "U"
    for table in (result.stars, result.sources):
        assert all(column.description for column in table.itercols())
    assert str(result.sources["normCompTophatFlux_instFlux"].unit) == "ct"
    assert str(result.stars["ra"].unit) == "deg"
    if reason == "flagged":
        assert result.counts["n_selected"] == 0
        assert result.rejected["flags"] == 10


def test_units_of_the_visits_tables_are_kept(rng):
    tables = survey(*_field(5, (150.0, 2.0), 60.0, rng), "i", rng)
    tables[11]["x"].unit = "mm"
    tables[11]["x"].description = "On the focal plane"
    result = association().run(tables, sky_map(), 0)
    assert str(result.sources["x"].unit) == "mm"
    assert result.sources["x"].description == "On the focal plane"


def test_a_tract_of_one_visit_has_its_stars(rng):
    tables = survey(*_field(30, (150.0, 2.0), 60.0, rng), "r", rng)
    result = association().run(tables, sky_map(), 0)
    _assert_consistent(result)
    assert (result.stars["nsource"] == 1).all()
    np.testing.assert_allclose(result.stars["ra"], result.sources["ra"], rtol=0, atol=1e-13 * 360.0)


class _Reader:
    """A table on disk that remembers what was read."""

    def __init__(self, table):
        self.table, self.asked = table, []

    @property
    def column_names(self):
        return self.table.colnames

    def read(self, columns):
        self.asked.append(list(columns))
        return self.table[list(columns)]


def test_only_the_columns_needed_are_read_once_a_visit(rng):
    tables = survey(*_field(30, (150.0, 2.0), 60.0, rng), "ri", rng)
    for table in tables.values():
        table["psfFlux"] = 1.0
    readers = {visit: _Reader(table) for visit, table in tables.items()}
    result = association().run(readers, sky_map(), 0)
    for reader in readers.values():
        (asked,) = reader.asked
        assert "psfFlux" not in asked
        assert {*SOURCE_NAMES[:-2], "pixelFlags_bad", "detect_isPrimary", "sizeExtendedness"} <= set(asked)
    _same(result.stars, association().run(tables, sky_map(), 0).stars)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("ixx", None, "visit 12 has no column ixx"),
        ("pixelFlags_bad", None, "visit 12 has no column pixelFlags_bad"),
        ("detect_isPrimary", None, "visit 12 has no column detect_isPrimary"),
        ("ixx", np.float64, "visit 12: column ixx reads as float64, but as float32 in other visits"),
        ("sourceId", np.float64, "visit 12: column sourceId must hold integers"),
        ("band", np.int64, "visit 12: column band must hold text"),
    ],
)
def test_columns_that_cannot_be_used_are_named_with_the_visit(name, change, message, rng):
    tables = survey(*_field(5, (150.0, 2.0), 60.0, rng), "ir", rng)
    values = tables[12][name]
    tables[12].remove_column(name)
    if change is not None:
        tables[12][name] = np.zeros(len(values), change)
    with pytest.raises(InvalidInputError, match=message):
        association().run(tables, sky_map(), 0)


def test_ids_and_visits_that_occur_twice_are_refused(rng):
    tables = survey(*_field(5, (150.0, 2.0), 60.0, rng), "ir", rng)
    finder = association()
    with pytest.raises(InvalidInputError, match="Visit 11 has two source tables"):
        finder.run([(11, tables[11]), (11, tables[11])], sky_map(), 0)
    with pytest.raises(InvalidInputError, match="visit 12 holds sources of visit 11"):
        finder.run({12: tables[11]}, sky_map(), 0)
    with pytest.raises(InvalidInputError, match="no source tables"):
        finder.run({}, sky_map(), 0)
    twice = {11: tables[11], 12: tables[12].copy()}
    twice[12]["sourceId"] = tables[11]["sourceId"]
    with pytest.raises(InvalidInputError, match=r"5 source ids .* first is 110000, in visits 11, 12"):
        finder.run(twice, sky_map(), 0)
    twice[12]["sourceId"] = 120007
    with pytest.raises(InvalidInputError, match=r"visit 12: .* 1 ids more than once; the first is 120007"):
        finder.run(twice, sky_map(), 0)


def test_bands_that_are_not_listed_are_left_out_with_a_warning(rng, caplog):
    tables = survey(*_field(5, (150.0, 2.0), 60.0, rng), ["i", "N921"], rng)
    with caplog.at_level("WARNING"):
        result = association().run(tables, sky_map(), 0)
    assert result.note.startswith(
        "5 sources in bands that band_order (i, z, r, g, y, u) lacks are left out: N921 (5)"
    )
    assert result.note in caplog.text
    assert set(result.sources["band"]) == {"i"}
    assert result.counts["n_unlisted_band"] == 5
    with pytest.raises(InvalidInputError, match=r"band_order \(i, z, r, g, y, u\) lacks: N921"):
        association().run({12: tables[12]}, sky_map(), 0)
    both = association(band_order=["N921", "i"]).run(tables, sky_map(), 0)
    assert set(both.stars["primary_band"]) == {"N921"}


def test_a_band_that_is_nearly_spelt_as_one_of_band_order_is_noted(rng):
    tables = survey(*_field(5, (150.0, 2.0), 60.0, rng), "rz", rng)
    note = association(band_order=["R", "z"]).run(tables, sky_map(), 0).note
    assert note.endswith("r (5); does 'R' stand for 'r'?")
    assert association(band_order=["z", "r", "R"]).run(tables, sky_map(), 0).note == ""


def test_any_source_selector_can_be_used_and_missing_values_do_no_harm(rng):
    tables = survey(*_field(8, (150.0, 2.0), 60.0, rng), "ir", rng)
    tables[11]["ra"][0] = np.nan
    tables[11]["good"], tables[12]["good"] = np.arange(8) % 2 == 0, np.arange(8) % 2 == 0
    finder = association()
    finder.config.source_selector.name = "flagged"
    finder.config.source_selector["flagged"].field = "good"
    result = type(finder)(finder.config).run(tables, sky_map(), 0)
    assert result.counts["n_selected"] == 8
    assert len(result.sources) == 7
    assert result.stars["nsource"].tolist().count(1) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"band_order": ["i", "r", "i"]}, "band_order"),
        ({"band_order": []}, "band_order"),
        ({"isolation_radius": 0.5}, "isolation_radius"),
        ({"match_radius": -1.0}, "match_radius"),
        ({"nside_split": 33}, "nside_split"),
        ({"extra_columns": ["x", "visit"]}, "visit: these columns are kept anyway"),
        ({"grouping": "kmeans"}, "grouping"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, message):
    with pytest.raises(pexConfig.FieldValidationError, match=message):
        association(**settings)


def test_no_table_is_modified(rng):
    tables = survey(*_field(8, (150.0, 2.0), 60.0, rng), "ir", rng)
    copies = {visit: table.copy() for visit, table in tables.items()}
    association().run(tables, sky_map(), 0)
    for visit, table in tables.items():
        _same(table, copies[visit])
        assert isinstance(table, Table)


def test_further_columns_are_copied_also_text_of_any_width(rng):
    tables = survey(*_field(8, (150.0, 2.0), 60.0, rng), "ir", rng)
    tables[11]["note"], tables[12]["note"] = np.full(8, "a"), np.array([f"long note {k}" for k in range(8)])
    result = association(extra_columns=["note"]).run(tables, sky_map(), 0)
    assert result.sources.colnames[-3:] == ["note", "source_row", "obj_index"]
    for row in result.sources:
        assert row["note"] == tables[row["visit"]]["note"][row["source_row"]]
