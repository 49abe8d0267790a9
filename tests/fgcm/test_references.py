import logging

import lsst.pex.config as pexConfig
import numpy as np
import pytest
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.catalogs.reference_shards import ReferenceShards
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.catalogs.selectors import limits
from zeropoint.errors import ColortermNotFoundError, InvalidInputError
from zeropoint.fgcm.references import (
    FgcmLoadReferenceCatalog,
    FgcmLoadReferenceCatalogConfig,
    match_references,
    reference_filters,
)
from zeropoint.photometry.color_terms import Colorterm, ColortermDict

ARCSEC = 1.0 / 3600.0
#: Magnitudes are float32, near 20.
FLOAT32 = 2e-6


class Settings:
    matchRadius = 1.0
    coarseNside = 8


def catalog(ra, dec, mags=None, err=0.01, **more):
    """A catalogue with bands g and r, of magnitude 18 and 17 unless given."""
    n = len(ra)
    mags = {"g": np.full(n, 18.0), "r": np.full(n, 17.0)} if mags is None else mags
    columns = {"id": np.arange(n), "coord_ra": np.deg2rad(np.mod(ra, 360.0)), "coord_dec": np.deg2rad(dec)}
    units = {"coord_ra": "rad", "coord_dec": "rad"}
    for band, mag in mags.items():
        flux = 10.0 ** (-0.4 * (np.asarray(mag, float) - 31.4))
        columns |= {f"{band}_flux": flux, f"{band}_fluxErr": flux * err * np.log(10.0) / 2.5}
        units |= {f"{band}_flux": "nJy", f"{band}_fluxErr": "nJy"}
    table = Table(columns | more, units=units)
    table.meta["REFCAT_FORMAT_VERSION"] = 2
    return table


def config(terms=None, **settings):
    made = FgcmLoadReferenceCatalogConfig()
    made.filterMap = {"CAM-G": "g", "CAM-R": "r"}
    made.applyColorTerms = terms is not None
    if terms is not None:
        made.colorterms.data = {"cat*": ColortermDict(data=terms)}
    made.update(**settings)
    return made


def step(table, wanted=None, mjd_tai=float("nan")):
    loader = ReferenceObjectLoader(ReferenceShards("cat_of_stars", [lambda: table]))
    return FgcmLoadReferenceCatalog(loader, "cat_of_stars", config=wanted or config(), mjd_tai=mjd_tai)


def circle(table, wanted=None, filters=("CAM-G", "CAM-R"), radius=0.1):
    return step(table, wanted).getFgcmReferenceStarsSkyCircle(30.0, 20.0, radius, filters)


def stars(ra, dec):
    return Table({"fgcm_id": np.arange(len(ra)) * 10 + 7, "ra": np.mod(ra, 360.0), "dec": dec})


def test_magnitudes_of_several_filters_come_with_99_for_none():
    table = catalog([30.0, 30.01, 30.02], [20.0] * 3, {"g": [18.0, np.nan, 18.2], "r": [17.0, 17.1, 17.2]})
    table["r_flux"][2] = -5.0
    found = circle(table, filters=["CAM-R", "CAM-G", "CAM-Z"])
    assert found.dtype.names == ("ra", "dec", "refMag", "refMagErr")
    assert found.dtype["refMag"].base == found.dtype["refMagErr"].base == np.dtype("f4")
    assert found["ra"].tolist() == pytest.approx([30.0, 30.01, 30.02], abs=1e-12)
    expected = np.array([[17.0, 18.0, 99.0], [17.1, 99.0, 99.0], [99.0, 18.2, 99.0]])
    np.testing.assert_allclose(found["refMag"], expected, atol=FLOAT32)
    np.testing.assert_allclose(found["refMagErr"], np.where(expected < 90, 0.01, 99.0), atol=FLOAT32)


def test_a_colour_term_gives_magnitude_and_error_by_its_formula():
    terms = {
        "CAM-G": Colorterm(primary="g", secondary="r", c0=0.02, c1=-0.1, c2=0.05),
        "CAM-R": Colorterm(primary="r", secondary="g", c0=-0.01, c1=0.03, c2=0.0),
    }
    table = catalog([30.0], [20.0], {"g": [18.5], "r": [17.3]})
    table["r_fluxErr"] *= 2.0
    found = circle(table, config(terms))[0]
    color = 1.2
    g = 18.5 + 0.02 + color * (-0.1 + 0.05 * color)
    r = 17.3 - 0.01 - color * 0.03
    assert found["refMag"] == pytest.approx([g, r], abs=FLOAT32)
    slope = -0.1 + 2 * 0.05 * color  # dg/dg0 = 1 + slope, dg/dr0 = -slope
    errors = [np.hypot((1 + slope) * 0.01, slope * 0.02), np.hypot(1.03 * 0.02, 0.03 * 0.01)]
    assert found["refMagErr"] == pytest.approx(errors, abs=FLOAT32)


def test_what_a_colour_term_lacks_is_an_error_that_names_it():
    table = catalog([30.0], [20.0])
    with pytest.raises(ColortermNotFoundError, match="CAM-R"):
        circle(table, config({"CAM-G": Colorterm(primary="g", secondary="r")}))
    with pytest.raises(
        InvalidInputError, match=r"no band 'i', which the colour term of filter CAM-G.*colorterms"
    ):
        circle(table, config({"CAM-G": Colorterm(primary="g", secondary="i")}), ["CAM-G"])


def test_a_filter_without_magnitudes_is_said_and_none_at_all_is_an_error(caplog):
    table = catalog([30.0], [20.0])
    table.remove_column("g_fluxErr")
    with caplog.at_level(logging.WARNING, logger="zeropoint"):
        found = circle(table, filters=["CAM-G", "CAM-R", "CAM-Y"])
    assert found["refMag"][0].tolist() == [99.0, pytest.approx(17.0, abs=FLOAT32), 99.0]
    assert "no flux errors in band 'g': filter CAM-G" in caplog.text
    assert "does not name filter CAM-Y" in caplog.text
    with pytest.raises(InvalidInputError, match=r"None of the filters CAM-G, CAM-Y.*bands g, r"):
        circle(table, filters=["CAM-G", "CAM-Y"])


def test_a_configuration_that_is_not_complete_is_refused_where_it_is_used():
    empty = FgcmLoadReferenceCatalogConfig()
    empty.validate()
    with pytest.raises(pexConfig.FieldValidationError, match="filterMap"):
        empty.check_complete()
    empty.filterMap = {"CAM-R": "r"}
    with pytest.raises(pexConfig.FieldValidationError, match="colorterms"):
        step(catalog([30.0], [20.0]), empty)


def test_the_selector_sees_the_magnitudes_of_the_catalogue():
    terms = {name: Colorterm(primary=b, secondary=b, c0=5.0) for name, b in (("CAM-G", "g"), ("CAM-R", "r"))}
    wanted = config(terms)
    wanted.referenceSelector.doMagLimit = True
    wanted.referenceSelector.magLimit.fluxField = "r_flux"
    wanted.referenceSelector.magLimit.maximum = 18.0
    table = catalog([30.0, 30.01], [20.0, 20.0], {"g": [18.0, 20.0], "r": [17.5, 18.5]})
    assert circle(table, wanted)["refMag"].tolist() == [[23.0, 22.5]]


@pytest.mark.parametrize(("ratio", "kept"), [(0.0, [3]), (0.1, [0, 3]), (0.0001, [3])])
def test_references_with_neighbors_that_count_are_left_out(ratio, kept):
    # 1 is 5 mag fainter than 0 and 3 arcsec away; 2 is beside 1, and has no flux to say how bright it is
    ra = 30.0 + np.array([0.0, 3.0, 5.0, 60.0]) * ARCSEC / np.cos(np.deg2rad(20.0))
    table = catalog(ra, [20.0] * 4, {"r": [15.0, 20.0, np.nan, 15.0]})
    wanted = config(isolation_radius=4.0, neighbor_flux_ratio=ratio)
    loaded = step(table, wanted).load_circle(30.0, 20.0, 0.1, ["CAM-R"])
    assert np.flatnonzero(loaded.good).tolist() == kept


def test_a_neighbor_beyond_the_circle_counts():
    ra = 30.0 + np.array([0.0, 3.0]) * ARCSEC / np.cos(np.deg2rad(20.0))
    wanted = config(isolation_radius=4.0)
    assert len(circle(catalog(ra, [20.0] * 2), wanted, radius=1.0 * ARCSEC)) == 0
    assert len(circle(catalog(ra, [20.0] * 2), radius=1.0 * ARCSEC)) == 1


def test_pixels_divide_the_sky_without_gap_and_overlap():
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 360, 400), np.rad2deg(np.arcsin(rng.uniform(-1, 1, 400)))
    loader = step(catalog(ra, dec))
    found = [loader.getFgcmReferenceStarsHealpix(2, pixel, ["CAM-R"]) for pixel in range(48)]
    assert sorted(np.concatenate(found)["dec"]) == pytest.approx(sorted(dec), abs=1e-12)
    nested = loader.getFgcmReferenceStarsHealpix(2, 7, ["CAM-R"], nest=True)
    assert len(nested) > 0


def test_reference_filters_are_the_different_standard_ones_by_wavelength():
    standard = {
        "CAM-R": "CAM-R",
        "CAM-R2": "CAM-R2",
        "CAM-Z": "CAM-Z",
        "CAM-G": "CAM-G",
        "CAM-ROLD": "CAM-R2",
    }
    wavelengths = {"CAM-R": 6220.0, "CAM-R2": 6200.0, "CAM-Z": 8900.0, "CAM-G": 4700.0}
    assert reference_filters(["CAM-Z", "CAM-ROLD", "CAM-R2", "CAM-G"], standard, wavelengths) == [
        "CAM-G",
        "CAM-R2",
        "CAM-Z",
    ]
    with pytest.raises(InvalidInputError, match="no filter CAM-X"):
        reference_filters(["CAM-Z", "CAM-X"], standard, wavelengths)


def match(star_table, table, wanted=None, nside=8, filters=("CAM-G", "CAM-R"), **more):
    class Here(Settings):
        coarseNside = nside

    return match_references(star_table, step(table, wanted), list(filters), Here(), **more)


def test_the_table_of_matches_has_the_columns_and_metadata_of_the_reference():
    result = match(stars([30.0, 30.01], [20.0, 20.0]), catalog([30.01], [20.0]))
    table = result.table
    assert table.colnames == ["fgcm_id", "refMag", "refMagErr"]
    assert [table[name].dtype for name in table.colnames] == [np.int32, np.float32, np.float32]
    assert table["refMag"].shape == (1, 2)
    assert [str(table[name].unit) for name in ("refMag", "refMagErr")] == ["mag", "mag"]
    assert table["fgcm_id"].tolist() == [17]
    assert (table.meta["REFSTARS_FORMAT_VERSION"], table.meta["FILTERNAMES"]) == (1, ["CAM-G", "CAM-R"])
    assert table.meta["ACCOUNTING"]["references"] == {"read": 1, "kept": 1, "rejected": {}}
    wide = match(stars([30.0], [20.0]), catalog([30.0], [20.0]), id_dtype=np.int64)
    assert wide.table["fgcm_id"].dtype == np.int64


def test_every_reference_is_counted_once_and_has_one_reason():
    wanted = config(isolation_radius=0.5)
    wanted.referenceSelector.doMagLimit = True
    wanted.referenceSelector.magLimit.fluxField = "r_flux"
    wanted.referenceSelector.magLimit.maximum = 20.0
    offsets = np.array([0.0, 0.9, 100.0, 200.0, 200.2, 300.0, 400.0, 500.0])
    mags = np.array([17.0, 17.0, 25.0, 17.0, 17.0, 17.0, np.nan, 17.0])
    table = catalog(30.0 + offsets * ARCSEC / np.cos(np.deg2rad(20.0)), np.full(8, 20.0), {"r": mags})
    star_table = stars(30.0 + offsets[[0, 2, 3, 6, 7]] * ARCSEC / np.cos(np.deg2rad(20.0)), np.full(5, 20.0))
    result = match(star_table, table, wanted, filters=["CAM-R"])
    assert result.table["fgcm_id"].tolist() == [7, 47]
    stage = result.accounting["references"]
    assert (stage.read, stage.kept) == (8, 2)
    assert dict(stage.rejected) == {
        "referenceSelector": 2,  # the faint one, and that without a flux
        "neighbor": 2,
        "no_star": 1,
        "farther_than_another": 1,
    }


def test_a_star_whose_reference_has_no_magnitude_does_not_take_the_next_one():
    step_of_sky = ARCSEC / np.cos(np.deg2rad(20.0))
    table = catalog([30.0, 30.0 + 0.5 * step_of_sky], [20.0] * 2, {"r": [np.nan, 17.0]})
    result = match(stars([30.0], [20.0]), table, filters=["CAM-R"])
    assert len(result.table) == 0
    assert dict(result.accounting["references"].rejected) == {"no_magnitude": 1, "farther_than_another": 1}


def test_no_match_gives_a_table_without_rows(caplog):
    with caplog.at_level(logging.WARNING, logger="zeropoint"):
        result = match(stars([10.0], [5.0]), catalog([30.0], [20.0]))
    assert len(result.table) == 0
    assert result.table["refMag"].shape == (0, 2)
    assert "None of 1 stars" in caplog.text


def test_proper_motions_bring_references_to_the_stars():
    motion = np.deg2rad(3.0 * ARCSEC) / 10.0  # three arcsec in ten years
    more = {"pm_ra": np.zeros(1), "pm_dec": np.full(1, motion), "epoch": np.full(1, 57388.5)}
    table = catalog([30.0], [20.0], **more)
    for name, unit in (("pm_ra", "rad / yr"), ("pm_dec", "rad / yr"), ("epoch", "d")):
        table[name].unit = unit
    star_table = stars([30.0], [20.0 + 3.0 * ARCSEC])
    moved = step(table, mjd_tai=57388.5 + 3652.5)
    assert len(match_references(star_table, moved, ["CAM-R"], Settings()).table) == 1
    at_rest = step(table, mjd_tai=57388.5)
    assert len(match_references(star_table, at_rest, ["CAM-R"], Settings()).table) == 0


def naive_match(star_table, ra, dec, radius):
    """Star -> reference, from all distances: each reference to its nearest star, of these the nearest."""
    best = {}
    for k in range(len(ra)):
        d = [
            separation(ra[k], dec[k], star_table["ra"][j], star_table["dec"][j])
            for j in range(len(star_table))
        ]
        j = int(np.argmin(d))
        if d[j] <= radius and d[j] < best.get(j, (np.inf,))[0]:
            best[j] = (d[j], k)
    return {int(star_table["fgcm_id"][j]): k for j, (_, k) in best.items()}


def separation(ra1, dec1, ra2, dec2):
    ra1, dec1, ra2, dec2 = np.deg2rad([ra1, dec1, ra2, dec2])
    half = np.sin(0.5 * (dec1 - dec2)) ** 2 + np.cos(dec1) * np.cos(dec2) * np.sin(0.5 * (ra1 - ra2)) ** 2
    return np.rad2deg(2 * np.arcsin(np.sqrt(half)))


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    center=st.sampled_from(
        [(0.0, 0.0), (359.9999, 41.8), (120.0, 89.9999), (45.0, -89.9998), (90.0, 41.8103)]
    ),
    nside=st.sampled_from([1, 8, 1 << 12, 1 << 17]),
)
def test_matches_are_those_of_all_distances_whatever_the_pixels(seed, center, nside):
    # at nside 2^17 a pixel is 1.6 arcsec wide: most matches lie across an edge
    rng = np.random.default_rng(seed)
    dec = np.clip(center[1] + rng.uniform(-8, 8, 30) * ARCSEC, -90, 90)
    ra = center[0] + rng.uniform(-8, 8, 30) * ARCSEC / np.cos(np.deg2rad(center[1]))
    star_table = stars(ra[:10], dec[:10])
    table = catalog(ra[10:], dec[10:], {"r": 15.0 + np.arange(20) * 0.1})
    result = match(star_table, table, nside=nside, filters=["CAM-R"])
    found = {
        int(star): int(np.rint((mag[0] - 15.0) * 10))
        for star, mag in zip(result.table["fgcm_id"], result.table["refMag"])
    }
    assert found == naive_match(star_table, np.mod(ra[10:], 360), dec[10:], ARCSEC)
    assert result.table["fgcm_id"].tolist() == sorted(found)
    assert len(found) <= result.accounting["references"].read <= 20  # none counts twice


def test_a_survey_without_stars_has_no_references():
    done = []
    none = Table({"fgcm_id": np.zeros(0, int), "ra": np.zeros(0), "dec": np.zeros(0)})
    result = match(none, catalog([30.0], [20.0]), on_progress=lambda *args: done.append(args))
    assert (len(result.table), result.accounting["references"].read, done) == (0, 0, [])
    match(
        stars([30.0, 210.0], [20.0, -20.0]),
        catalog([30.0], [20.0]),
        on_progress=lambda *args: done.append(args),
    )
    assert done == [("reference stars", 1, 2), ("reference stars", 2, 2)]


def test_the_selector_can_cut_in_colour():
    wanted = config()
    cut = limits.ColorLimit()
    cut.primary, cut.secondary, cut.minimum, cut.maximum = "g_flux", "r_flux", 0.2, 1.2
    wanted.referenceSelector.colorLimits = {"g-r": cut}
    table = catalog([30.0, 30.01, 30.02], [20.0] * 3, {"g": [17.1, 17.8, 18.5], "r": [17.0] * 3})
    loaded = step(table, wanted).load_circle(30.0, 20.0, 0.1, ["CAM-R"])
    assert loaded.selected.tolist() == [False, True, False]
    assert loaded.rejected["colorLimits['g-r']"] == 2
