import lsst.pex.config as pexConfig
import numpy as np
import pytest
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from zeropoint.catalogs.selectors import (
    AstrometrySourceSelector,
    ColorLimit,
    DiaCatalogSourceSelector,
    FlaggedSourceSelector,
    MatchedReferences,
    MatcherSourceSelector,
    NullSourceSelector,
    ReferenceSourceSelector,
    ScienceSourceSelector,
    sourceSelectorRegistry,
)
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.footprints import FootprintSet


def star_table(n=6):
    return Table(
        {
            "base_PsfFlux_instFlux": np.full(n, 100.0),
            "base_PsfFlux_instFluxErr": np.ones(n),
            "base_PsfFlux_flag": np.zeros(n, bool),
            "base_PixelFlags_flag_edge": np.zeros(n, bool),
            "base_PixelFlags_flag_nodata": np.zeros(n, bool),
            "base_PixelFlags_flag_saturated": np.zeros(n, bool),
            "base_ClassificationSizeExtendedness_value": np.zeros(n),
            "sky_source": np.zeros(n, bool),
            "slot_Centroid_x": np.arange(n, dtype=float),
            "slot_Centroid_y": np.arange(n, dtype=float),
            "slot_Centroid_xErr": np.full(n, 0.1),
            "slot_Centroid_yErr": np.full(n, 0.1),
            "slot_Centroid_flag": np.zeros(n, bool),
            "slot_ApFlux_instFlux": np.full(n, 100.0),
            "slot_ApFlux_instFluxErr": np.ones(n),
            "slot_ApFlux_flag": np.zeros(n, bool),
            "slot_PsfFlux_instFlux": np.full(n, 100.0),
            "parent": np.zeros(n, np.int64),
            "deblend_nChild": np.zeros(n, np.int32),
        }
    )


def science(**settings):
    config = ScienceSourceSelector.ConfigClass()
    for name, value in settings.items():
        setattr(config, name, value)
    return config


def test_registry_has_every_selector_under_its_name():
    assert set(sourceSelectorRegistry) == {
        "astrometry", "diaCatalog", "flagged", "matcher", "null", "objectSize", "references", "science",
    }  # fmt: skip


def test_a_registry_field_builds_the_selector_with_its_config():
    class Config(pexConfig.Config):
        selector = sourceSelectorRegistry.makeField(doc="selector", default="science")

    config = Config()
    config.selector["science"].doSignalToNoise = True
    selector = config.selector.apply(schema=None)
    assert isinstance(selector, ScienceSourceSelector)
    assert selector.config.doSignalToNoise


def test_null_selects_everything():
    assert NullSourceSelector().run(star_table(3)).selected.all()


def test_flagged_selects_its_column():
    config = FlaggedSourceSelector.ConfigClass()
    config.field = "sky_source"
    table = star_table(3)
    table["sky_source"][1] = True
    assert FlaggedSourceSelector(config).run(table).selected.tolist() == [False, True, False]


def test_science_without_criteria_selects_everything():
    assert ScienceSourceSelector().run(star_table(4)).n_selected == 4


def test_science_defaults_use_the_psf_flux():
    table = star_table(6)
    table["base_PsfFlux_instFlux"][1] = 3.0
    table["base_PsfFlux_flag"][2] = True
    table["base_PixelFlags_flag_saturated"][3] = True
    table["base_ClassificationSizeExtendedness_value"][4] = 1.0
    config = science(doFlags=True, doSignalToNoise=True, doUnresolved=True)
    config.signalToNoise.minimum = 10.0
    assert ScienceSourceSelector(config).run(table).selected.tolist() == [
        True,
        False,
        False,
        False,
        False,
        True,
    ]


def test_sky_sources_are_added_whatever_their_centroid_error():
    table = star_table(3)
    table["sky_source"][1] = True
    table["slot_Centroid_xErr"][1:] = np.nan
    config = science(doSkySources=True, doCentroidErrorLimit=True)
    assert ScienceSourceSelector(config).run(table).selected.tolist() == [True, True, False]


def test_science_isolated_finite_and_primary():
    table = star_table(4)
    table["parent"][1] = 5
    table["coord_ra"] = [1.0, 1.0, np.nan, 1.0]
    table["coord_dec"] = 0.5
    table["detect_isPrimary"] = [True, True, True, False]
    config = science(doIsolated=True, doRequireFiniteRaDec=True, doRequirePrimary=True)
    assert ScienceSourceSelector(config).run(table).selected.tolist() == [True, False, False, False]


@given(st.permutations(range(6)))
def test_science_does_not_depend_on_row_order(order):
    table = star_table(6)
    table["base_PsfFlux_instFlux"] = [1.0, 5.0, 20.0, 50.0, np.nan, 100.0]
    config = science(doSignalToNoise=True, doFlags=True)
    config.signalToNoise.minimum = 10.0
    selector = ScienceSourceSelector(config)
    direct = selector.run(table).selected
    assert np.array_equal(selector.run(table[list(order)]).selected, direct[list(order)])


def test_references_need_a_finite_position_by_default():
    table = Table({"coord_ra": [0.1, np.nan], "coord_dec": [0.1, 0.1]})
    assert ReferenceSourceSelector().run(table).selected.tolist() == [True, False]


def test_reference_color_limits_are_all_applied():
    table = Table({"coord_ra": np.zeros(3), "coord_dec": np.zeros(3)})
    table["g_flux"], table["r_flux"], table["i_flux"] = [1.0, 1.0, 3.0], [2.0, 2.0, 2.0], [3.0, 9.0, 3.0]
    config = ReferenceSourceSelector.ConfigClass()
    config.colorLimits["g-r"] = ColorLimit(primary="g_flux", secondary="r_flux", minimum=0.0)
    config.colorLimits["r-i"] = ColorLimit(primary="r_flux", secondary="i_flux", maximum=0.5)
    assert ReferenceSourceSelector(config).run(table).selected.tolist() == [True, False, False]


def catalog_with_peaks(table, counts):
    schema = Schema()
    for name in table.colnames:
        kind = {"f": "f8", "b": "bool", "i": "i8"}[table[name].dtype.kind]
        schema.add(ColumnSpec(name, kind))
    n, total = len(counts), sum(counts)
    none, ints = np.zeros(n + 1, np.int64), np.zeros(0, np.int32)
    footprints = FootprintSet(
        none, ints, ints, ints, np.concatenate([[0], np.cumsum(counts)]),
        np.zeros(total, np.int32), np.zeros(total, np.int32),
        np.zeros(total, np.float32), np.zeros(total, np.float32), none, np.zeros(0, np.float32),
    )  # fmt: skip
    columns = {name: np.asarray(table[name]) for name in table.colnames}
    return SourceCatalog(schema, columns=columns, footprints=footprints)


def test_astrometry_selector_wants_single_unflagged_sources():
    table = star_table(7)
    table["slot_ApFlux_instFlux"][1] = 9.0
    table["slot_Centroid_x"][2] = np.nan
    table["parent"][3] = 4
    table["base_PixelFlags_flag_saturated"][4] = True
    selected = AstrometrySourceSelector().run(catalog_with_peaks(table, [1, 1, 1, 1, 1, 2, 1])).selected
    assert selected.tolist() == [True, False, False, False, False, False, True]
    table["detect_isPrimary"] = [False] * 6 + [True]
    assert np.flatnonzero(AstrometrySourceSelector().run(table).selected).tolist() == [6]


def test_matcher_selector_keeps_parents_and_can_ignore_pixel_flags():
    table = star_table(5)
    table["deblend_nChild"][1] = 2
    table["parent"][2] = 1
    table["base_PixelFlags_flag_edge"][3] = True
    table["slot_ApFlux_instFlux"][4] = 30.0
    assert MatcherSourceSelector().run(table).selected.tolist() == [True, True, False, False, False]
    config = MatcherSourceSelector.ConfigClass()
    config.excludePixelFlags = False
    config.minSnr = 0.0
    assert MatcherSourceSelector(config).run(table).selected.tolist() == [True, True, False, True, True]


def dia_matches(match_src):
    references = Table(
        {
            "resolved": [False, True, False, False],
            "photometric": [True, True, False, True],
            "g_flux": [1.0, 1.0, 1.0, 9.0],
            "r_flux": [2.0, 2.0, 2.0, 1.0],
        }
    )
    return MatchedReferences(references, np.arange(4), np.asarray(match_src))


def test_dia_catalog_selects_source_rows_not_match_numbers():
    selector = DiaCatalogSourceSelector()
    selected = selector.run(star_table(6), matches=dia_matches([5, 4, 3, 2])).selected
    assert np.flatnonzero(selected).tolist() == [5]
    selector.config.selectGalaxy = selector.config.includeVariable = True
    selected = selector.run(star_table(6), matches=dia_matches([5, 4, 3, 2])).selected
    assert np.flatnonzero(selected).tolist() == [3, 4, 5]


def test_dia_catalog_flux_and_flags_of_the_source_count():
    table = star_table(6)
    selector = DiaCatalogSourceSelector()
    selector.config.fluxLim = 200.0
    assert selector.run(table, matches=dia_matches([0, 1, 2, 3])).n_selected == 0
    selector.config.fluxLim, selector.config.fluxMax = 50.0, 150.0
    assert selector.run(table, matches=dia_matches([0, 1, 2, 3])).n_selected == 1
    table["slot_Centroid_flag"][0] = True
    assert selector.run(table, matches=dia_matches([0, 1, 2, 3])).n_selected == 0


def test_dia_catalog_needs_matches():
    with pytest.raises(ValueError, match="needs matches"):
        DiaCatalogSourceSelector().run(star_table(2))
