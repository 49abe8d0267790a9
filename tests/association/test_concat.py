"""Isolated stars of several tracts: what is kept, where indices point, and that reserved stars are the same always."""

import numpy as np
import pyarrow as pa
import pytest
from astropy.table import Table

from zeropoint.association import ReserveIsolatedStars, ReserveIsolatedStarsConfig, concat_isolated_star_cats
from zeropoint.errors import InvalidInputError

BANDS = ("r", "i")
VISITS = {"r": (100, 101), "i": (200, 201)}
DETECTORS = (5, 6)


def _tract(tract, n=40, sky_map="a"):
    """Stars with a source in every visit; every third star in r only, and every fourth in i only."""
    stars, rows = [], []
    for k in range(n):
        seen = {"r": k % 4 != 0 or k % 3 == 0, "i": k % 3 != 0}
        first, counts, begin = {}, {}, len(rows)
        for band in BANDS:
            first[band], counts[band] = len(rows), 2 * seen[band]
            visits = VISITS[band] if seen[band] else ()
            rows += [(1000 * visit + 100 * (tract % 10) + k, k, visit, DETECTORS[k % 2]) for visit in visits]
        star = {"isolated_star_id": (k + 1) * 100 + tract, "ra": 10.0 + 0.01 * k, "dec": -5.0 + tract}
        star |= {"source_cat_index": begin, "nsource": len(rows) - begin}
        for band in BANDS:
            star |= {f"source_cat_index_{band}": first[band], f"nsource_{band}": counts[band]}
        stars.append(star)
    ids = ("sourceId", "obj_index", "visit", "detector")
    sources = Table(dict(zip(ids, np.array(rows).T, strict=True)))
    meta = {"tract": tract, "skymap_sha1": sky_map}
    table = Table(stars, meta=meta)
    return table, sources


def _tables(*tracts):
    pairs = {tract: _tract(tract) for tract in tracts}
    return {t: pair[0] for t, pair in pairs.items()}, {t: pair[1] for t, pair in pairs.items()}


def _concat(band, stars, sources, *, method="per_tract", **cut):
    config = ReserveIsolatedStarsConfig()
    config.update(method=method, reserve_fraction=0.3)
    return concat_isolated_star_cats(band, stars, sources, reserve=ReserveIsolatedStars(config), **cut)


def _reserved(result):
    """Star id -> whether it is reserved, of stars with sources; the sources' own mark must be the stars'."""
    marks = {}
    for obj_index, reserved in result.sources.iterrows("obj_index", "reserved"):
        assert result.stars["reserved"][obj_index] == reserved
        marks[int(result.stars["isolated_star_id"][obj_index])] = bool(reserved)
    return marks


def test_all_sources_of_a_bands_stars_are_kept_without_a_visit():
    result = _concat("i", *_tables(3, 8))
    assert result.tracts == (3, 8)
    assert result.n_tracts == 2
    assert (np.asarray(result.stars["nsource_i"]) == 2).all()
    assert len(result.stars) == 2 * sum(k % 3 != 0 for k in range(40))
    assert len(result.sources) == result.stars["nsource"].sum()
    for k, star in enumerate(result.stars):
        for kind in ("", "_r", "_i"):
            first, number = star[f"source_cat_index{kind}"], star[f"nsource{kind}"]
            if number == 0:
                assert first == -1
                continue
            part = result.sources[first : first + number]
            assert (part["obj_index"] == k).all()
            visits = set(part["sourceId"] // 1000)
            assert visits <= set(VISITS[kind[1:]] if kind else VISITS["r"] + VISITS["i"])
            assert len(visits) == number


@pytest.mark.parametrize("method", ["per_tract", "per_star"])
def test_a_star_is_reserved_in_every_visit_and_detector_or_in_none(method):
    stars, sources = _tables(3, 8)
    whole = _concat("r", stars, sources, method=method)
    marks = _reserved(whole)
    assert 0 < sum(marks.values()) < len(marks)
    for visit in VISITS["r"]:
        one = _concat("r", stars, sources, method=method, visit=visit)
        assert _reserved(one) == marks
        parts = {}
        for detector in DETECTORS:
            cut = _concat("r", stars, sources, method=method, visit=visit, detector=detector)
            assert set(cut.sources["detector"]) == {detector}
            assert len(cut.stars) == len(whole.stars)
            parts |= _reserved(cut)
        assert parts == marks


def test_a_visits_sources_are_those_of_the_whole_cut_to_it():
    stars, sources = _tables(3, 8)
    whole = _concat("r", stars, sources).sources
    cut = _concat("r", stars, sources, visit=101, detector=6)
    expected = whole[
        (whole["sourceId"] // 1000 == 101) & (whole["sourceId"] % 2 == 1)
    ]  # star 1, 3, ... on detector 6
    for name in ("sourceId", "obj_index", "reserved"):
        np.testing.assert_array_equal(cut.sources[name], expected[name])
    index = np.asarray(cut.stars["source_cat_index_r"])
    np.testing.assert_array_equal(index, cut.stars["source_cat_index"])
    assert (cut.stars["source_cat_index_i"] == -1).all()
    assert (cut.sources["obj_index"][index[index >= 0]] == np.flatnonzero(index >= 0)).all()
    assert np.count_nonzero(index >= 0) == len(cut.sources)


def test_tracts_come_in_order_and_as_arrow_tables_too():
    stars, sources = _tables(8, 3)
    arrow = [{t: pa.table(dict(table.items())) for t, table in tables.items()} for tables in (stars, sources)]
    one, other = _concat("r", stars, sources, visit=100), _concat("r", *arrow, visit=100)
    assert one.tracts == (3, 8)
    for a, b in [(one.stars, other.stars), (one.sources, other.sources)]:
        assert a.colnames == b.colnames
        for name in a.colnames:
            np.testing.assert_array_equal(a[name], b[name])


def test_tracts_without_the_visit_are_left_out_and_said():
    stars, sources = _tables(3, 8)
    sources[8]["visit"] += 7000
    result = _concat("r", stars, sources, visit=100)
    assert result.tracts == (3,)
    assert result.skipped == {8: "no sources of visit 100"}
    assert _concat("r", stars, sources, visit=99) is None
    assert _concat("i", stars, sources, visit=100, detector=99) is None


def test_tables_that_do_not_belong_together_are_refused():
    stars, sources = _tables(3, 8)
    with pytest.raises(InvalidInputError, match="missing for tract 8"):
        _concat("r", stars, {3: sources[3]})
    with pytest.raises(InvalidInputError, match=r"tract 3 .* not from the same association"):
        _concat("r", stars, {3: sources[3][:-1], 8: sources[8]})
    broken = stars[8].copy()
    broken.remove_column("nsource")
    with pytest.raises(InvalidInputError, match="tract 8 has no column nsource"):
        _concat("r", {3: stars[3], 8: broken}, sources)
    with pytest.raises(InvalidInputError, match="tract 3 has no column objectId"):
        _concat("r", stars, sources, id_column="objectId")
    with pytest.raises(ValueError, match="detector is one of a visit"):
        _concat("r", stars, sources, detector=1)


@pytest.mark.parametrize("lost", [["nsource_r"], ["source_cat_index_r"], ["nsource_r", "source_cat_index_r"]])
@pytest.mark.parametrize("cut", [{}, {"visit": 100}])
def test_columns_of_a_band_that_were_lost_are_an_error(lost, cut):
    stars, sources = _tables(3, 8)
    stars[8].remove_columns(lost)
    with pytest.raises(InvalidInputError, match=f"tract 8 has no column {lost[0]}"):
        _concat("r", stars, sources, **cut)


def test_tracts_associated_without_the_band_are_left_out_and_an_error_if_all_are(caplog):
    stars, sources = _tables(3, 8)
    for name in ("source_cat_index_g", "nsource_g"):
        stars[3][name] = np.zeros_like(stars[3]["nsource"])
    stars[3]["nsource_g"][1] = stars[3]["nsource_r"][1]
    stars[3]["nsource_r"][1] = 0
    result = _concat("g", stars, sources)
    assert result.tracts == (3,)
    assert result.skipped == {8: "it was associated without the band g (band_order)"}
    assert "tract 8 has no column nsource_g" in caplog.text
    with pytest.raises(InvalidInputError, match="tract 3, 8 has no column nsource_y: band_order"):
        _concat("y", stars, sources, visit=100)


def test_tables_of_other_sky_maps_and_tracts_are_refused():
    stars, sources = _tables(3, 8)
    other, other_sources = _tract(8, sky_map="b")
    with pytest.raises(InvalidInputError, match=r"tracts 3 and 8 .* different sky maps"):
        _concat("r", {3: stars[3], 8: other}, {3: sources[3], 8: other_sources})
    with pytest.raises(InvalidInputError, match="tract 4 is that of another tract"):
        _concat("r", {4: stars[3]}, {4: sources[3]})
    unsaid = stars[3].copy()
    unsaid.meta.clear()
    with pytest.raises(InvalidInputError, match="tract 4 is that of another tract"):
        _concat("r", {3: stars[3], 4: unsaid}, {3: sources[3], 4: sources[3]})
    unsaid["isolated_star_id"] = (
        np.arange(1, 41) * 100 + 43
    )  # as tract 3 would have it in a map of fewer tracts
    with pytest.raises(InvalidInputError, match="occur twice"):
        _concat("r", {3: unsaid, 43: unsaid}, {3: sources[3], 43: sources[3]})
