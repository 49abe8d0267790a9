"""What holds of every source selector: the kind of table and the order of rows do not matter, limits only tighten."""

from __future__ import annotations

import functools

import lsst.pex.config as pexConfig
import numpy as np
import pyarrow as pa
import pytest
from astropy.table import MaskedColumn, Table
from hypothesis import given, settings
from hypothesis import strategies as st

from naive.star_field import exposure_of
from zeropoint.catalogs.selectors import ColorLimit, Cuts, MatchedReferences, sourceSelectorRegistry
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.errors import CalibrationFailure, InvalidInputError
from zeropoint.recipes.overrides import apply_override

SIDE = 64
NAMES = sorted(sourceSelectorRegistry)
SEEDS = st.integers(0, 2**32 - 1)
FLAGS = (
    "base_PixelFlags_flag_edge", "base_PixelFlags_flag_nodata", "base_PixelFlags_flag_saturated",
    "base_PixelFlags_flag_interpolatedCenter", "base_PsfFlux_flag", "slot_CalibFlux_flag", "slot_ApFlux_flag",
    "flux_flag", "slot_Centroid_flag", "sky_source", "wanted", "resolved", "photometric",
)  # fmt: skip


def random_table(seed: int, n: int = 40) -> Table:
    """Return rows with every column that a selector looks at; 4 % of the numbers are NaN, 4 % of the flags set."""
    rng = np.random.default_rng(seed)

    def number(low: float, high: float) -> np.ndarray:
        values = rng.uniform(low, high, n)
        values[rng.random(n) < 0.04] = np.nan
        return values

    table = Table({name: rng.random(n) < 0.04 for name in FLAGS})
    for name in ("wanted", "photometric", "detect_isPrimary"):
        table[name] = rng.random(n) < 0.9
    for name in (
        "base_PsfFlux_instFlux",
        "slot_PsfFlux_instFlux",
        "slot_CalibFlux_instFlux",
        "slot_ApFlux_instFlux",
    ):
        table[name], table[name + "Err"] = number(-100, 1e5), number(1, 500)
    for name in ("flux", "g_flux", "r_flux"):
        table[name], table[name + "_err"] = number(-100, 1e6), number(1, 500)
    table["mag_err"], table["base_ClassificationSizeExtendedness_value"] = number(0, 0.3), number(0, 1)
    for stem in ("centroid", "slot_Centroid"):
        for axis in "xy":
            table[f"{stem}_{axis}"] = number(-5, SIDE + 5)
    table["slot_Centroid_xErr"], table["slot_Centroid_yErr"] = number(0, 4), number(0, 4)
    table["coord_ra"], table["coord_dec"] = number(0, 6), number(-1, 1)
    table["parent"], table["deblend_nChild"] = rng.integers(0, 40, (2, n)) // 36
    size = np.where(rng.random(n) < 0.6, rng.normal(2.0, 0.03, n), number(1.0, 6.0))
    table["slot_Shape_xx"] = table["slot_Shape_yy"] = size**2
    table["slot_Shape_xy"] = number(-0.1, 0.1)
    return table


def strict_config(name: str) -> pexConfig.Config:
    """Return the configuration of a selector with all of its criteria on."""
    config = sourceSelectorRegistry[name].ConfigClass()
    for field in config:
        if field.startswith("do"):
            setattr(config, field, True)
    if name == "flagged":
        config.field = "wanted"
    if name == "science":
        config.fluxLimit.minimum, config.signalToNoise.minimum, config.flags.good = 10.0, 3.0, ["wanted"]
        config.doSkySources = False
    if name == "references":
        config.magLimit.maximum, config.signalToNoise.minimum, config.magError.maximum = 24.0, 3.0, 0.25
        config.flags.bad, config.unresolved.maximum = ["flux_flag"], 0.9
        config.colorLimits["g-r"] = ColorLimit(
            primary="g_flux", secondary="r_flux", minimum=-2.0, maximum=4.0
        )
    if name == "objectSize":
        config.fluxMin = 100.0
    return config


@functools.cache
def image():
    exposure = exposure_of(np.zeros((SIDE, SIDE)), 1.0, None)
    exposure.set_mask(np.random.default_rng(1).random((SIDE, SIDE)) < 0.1, "NO_DATA")
    return exposure


def matches(seed: int, n: int) -> MatchedReferences:
    rng = np.random.default_rng(seed)
    return MatchedReferences(random_table(seed + 1, 30), rng.integers(0, 30, 60), rng.integers(0, n, 60))


def selected(config: pexConfig.Config, name: str, table, matched: MatchedReferences) -> np.ndarray:
    """Return the selection; nothing where the selector says that nothing is left."""
    try:
        result = sourceSelectorRegistry[name](config).run(table, exposure=image(), matches=matched)
    except CalibrationFailure:
        return np.zeros(len(table), np.bool_)
    # every row that is not selected was dropped by one criterion
    assert result.n_selected + sum(result.dropped.values()) == len(table)
    assert all(result.rejected[criterion] > 0 for criterion in result.dropped)
    return result.selected


def as_catalog(table: Table) -> SourceCatalog:
    schema = Schema()
    for name in table.colnames:
        schema.add(ColumnSpec(name, {"f": "f8", "b": "bool", "i": "i8"}[table[name].dtype.kind]))
    return SourceCatalog(schema, columns={name: np.asarray(table[name]) for name in table.colnames})


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10)
@given(seed=SEEDS)
def test_every_kind_of_table_gives_the_same_rows(name, seed):
    table, config = random_table(seed), strict_config(name)
    matched = matches(seed, len(table))
    expected = selected(config, name, table, matched)
    columns = {column: np.asarray(table[column]) for column in table.colnames}
    # a number that is not known is NaN, null or masked
    arrow = pa.table(
        {key: pa.array(values, from_pandas=values.dtype.kind == "f") for key, values in columns.items()}
    )
    masked = Table(
        {
            key: MaskedColumn(np.nan_to_num(values), mask=np.isnan(values))
            if values.dtype.kind == "f"
            else values
            for key, values in columns.items()
        }
    )
    pieces = pa.concat_tables([arrow.slice(0, 7), arrow.slice(7)])
    for other in (as_catalog(table), arrow, pieces, masked):
        np.testing.assert_array_equal(selected(config, name, other, matched), expected)


@pytest.mark.parametrize("name", NAMES)
def test_strict_criteria_select_some_rows_and_not_all(name):
    counts = [
        np.mean(selected(strict_config(name), name, random_table(seed), matches(seed, 40)))
        for seed in range(20)
    ]
    assert np.mean(counts) > 0.0
    assert np.mean(counts) == 1.0 if name == "null" else np.mean(counts) < 1.0


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10)
@given(seed=SEEDS, n=st.integers(1, 60))
def test_no_selector_depends_on_the_order_of_rows(name, seed, n):
    table, config, matched = random_table(seed, n), strict_config(name), matches(seed, n)
    order = np.random.default_rng(seed).permutation(n)
    again = np.random.default_rng(seed + 1).permutation(len(matched.match_src))
    place = np.argsort(order)  # where each row has gone
    shuffled = MatchedReferences(
        matched.references, matched.match_ref[again], place[matched.match_src[again]]
    )
    expected = selected(config, name, table, matched)[order]
    np.testing.assert_array_equal(selected(config, name, table[order], shuffled), expected)


#: Selector, limit, range of values to try, and whether a larger value is the stricter one.
LIMITS = [
    ("science", "fluxLimit.minimum", 0, 1e5, True),
    ("science", "fluxLimit.maximum", 10, 1e5, False),
    ("science", "unresolved.minimum", 0, 0.09, True),
    ("science", "unresolved.maximum", 0, 1, False),
    ("science", "signalToNoise.minimum", 0, 1000, True),
    ("science", "signalToNoise.maximum", 3, 1000, False),
    ("science", "centroidErrorLimit.minimum", 0, 3, True),
    ("science", "centroidErrorLimit.maximum", 0, 4, False),
    ("references", "magLimit.minimum", 15, 23, True),
    ("references", "magLimit.maximum", 15, 24, False),
    ("references", "unresolved.maximum", 0, 1, False),
    ("references", "signalToNoise.minimum", 0, 1000, True),
    ("references", "signalToNoise.maximum", 3, 1000, False),
    ("references", "magError.minimum", 0, 0.2, True),
    ("references", "magError.maximum", 0, 0.3, False),
    ("references", 'colorLimits["g-r"].minimum', -3, 3, True),
    ("references", 'colorLimits["g-r"].maximum', -3, 3, False),
    ("astrometry", "minSnr", -1, 1000, True),
    ("matcher", "minSnr", -1, 1000, True),
    ("diaCatalog", "fluxLim", -100, 1e5, True),
    ("diaCatalog", "fluxMax", 1, 1e5, False),
    ("diaCatalog", "grMin", -3, 3, True),
    ("diaCatalog", "grMax", -3, 3, False),
]


@pytest.mark.parametrize(("name", "path", "low", "high", "larger_is_stricter"), LIMITS)
@settings(max_examples=7)
@given(seed=SEEDS, a=st.floats(0, 1), b=st.floats(0, 1))
def test_a_stricter_limit_selects_a_subset(name, path, low, high, larger_is_stricter, seed, a, b):
    table, matched = random_table(seed), matches(seed, 40)
    a, b = sorted((a, b))
    loose, strict = (a, b) if larger_is_stricter else (b, a)
    result = []
    for fraction in (loose, strict):
        config = strict_config(name)
        apply_override(config, path, float(low + fraction * (high - low)))
        result.append(selected(config, name, table, matched))
    assert not np.any(result[1] & ~result[0])


@pytest.mark.parametrize(
    ("path", "low", "high", "larger_is_stricter"),
    [
        ("fluxMin", 0, 1e5, True),
        ("fluxMax", 1, 1e5, False),
        ("signalToNoiseMin", 0, 1000, True),
        ("signalToNoiseMax", 1, 1000, False),
        ("widthMin", 0, 6, True),
        ("widthMax", 0, 6, False),
    ],
)
@settings(max_examples=7)
@given(seed=SEEDS, a=st.floats(0, 1), b=st.floats(0, 1))
def test_stricter_cuts_before_clustering_reject_more(path, low, high, larger_is_stricter, seed, a, b):
    # which cluster is the smallest may change with the candidates; who is a candidate must not
    table, (a, b) = random_table(seed), sorted((a, b))
    width = np.sqrt(table["slot_Shape_xx"].data)
    passed = []
    for fraction in (a, b) if larger_is_stricter else (b, a):
        config = strict_config("objectSize")
        setattr(config, path, float(low + fraction * (high - low)))
        cuts = Cuts(len(table))
        try:
            sourceSelectorRegistry["objectSize"](config).cut(cuts, table, width)
        except CalibrationFailure:
            assert not cuts.selected.any()
        passed.append(cuts.selected)
    assert not np.any(passed[1] & ~passed[0])


@pytest.mark.parametrize("name", ["science", "references"])
@settings(max_examples=10)
@given(seed=SEEDS, wanted=st.sets(st.sampled_from(FLAGS[:4])), unwanted=st.sets(st.sampled_from(FLAGS[4:8])))
def test_more_flags_select_a_subset(name, seed, wanted, unwanted):
    table, config, more = random_table(seed), strict_config(name), strict_config(name)
    more.flags.good = [*more.flags.good, *sorted(wanted - set(more.flags.bad))]
    more.flags.bad = [*more.flags.bad, *sorted(unwanted)]
    more.validate()
    matched = matches(seed, len(table))
    assert not np.any(selected(more, name, table, matched) & ~selected(config, name, table, matched))


@pytest.mark.parametrize("name", NAMES)
def test_a_table_without_any_column_names_the_selector(name):
    table = Table({"id": [1, 2, 3]})
    selector = sourceSelectorRegistry[name](strict_config(name))
    if name == "null":
        assert selector.run(table).n_selected == 3
        return
    with pytest.raises(InvalidInputError, match="has no column"):
        selector.run(table, exposure=image(), matches=matches(1, 3))


CONTRADICTIONS = [
    ("science", {"fluxLimit.minimum": 5.0, "fluxLimit.maximum": 5.0}, "fluxLimit.minimum"),
    ("science", {"signalToNoise.minimum": 50.0, "signalToNoise.maximum": 10.0}, "signalToNoise.minimum"),
    ("science", {"unresolved.minimum": 0.5}, "unresolved.minimum"),
    ("science", {"centroidErrorLimit.minimum": float("nan")}, "centroidErrorLimit.minimum"),
    ("science", {"flags.good": ["base_PsfFlux_flag"]}, "flags.bad"),
    ("references", {"magLimit.minimum": 22.0, "magLimit.maximum": 15.0}, "magLimit.minimum"),
    ("references", {"magError.maximum": float("nan")}, "magError.maximum"),
    ("references", {'colorLimits["g-r"].maximum': -3.0}, "colorLimits['g-r'].minimum"),
    ("objectSize", {"fluxMax": 1.0}, "fluxMin"),
    ("objectSize", {"signalToNoiseMax": 10.0}, "signalToNoiseMin"),
    ("objectSize", {"signalToNoiseMin": float("nan")}, "signalToNoiseMin"),
    ("objectSize", {"fluxMax": float("nan")}, "fluxMax"),
    ("objectSize", {"widthMin": 11.0}, "widthMin"),
    ("diaCatalog", {"fluxLim": 5.0, "fluxMax": 1.0}, "fluxLim"),
    ("diaCatalog", {"grMin": 1.0, "grMax": 0.5}, "grMin"),
    ("diaCatalog", {"selectStar": False}, "selectStar"),
]


@pytest.mark.parametrize(("name", "settings_", "field"), CONTRADICTIONS)
def test_limits_that_nothing_satisfies_are_refused_by_their_field(name, settings_, field):
    config = strict_config(name)
    config.validate()
    for path, value in settings_.items():
        apply_override(config, path, value)
    with pytest.raises(pexConfig.FieldValidationError) as caught:
        config.validate()
    assert caught.value.fullname == field


def test_limits_without_room_on_one_side_only_are_fine():
    config = sourceSelectorRegistry["objectSize"].ConfigClass(
        fluxMin=50.0, fluxMax=50.0, signalToNoiseMax=0.0
    )
    config.validate()


def test_an_empty_selection_says_which_setting_rejects_how_many():
    table, config = random_table(3), strict_config("science")
    config.signalToNoise.minimum = 1e9
    config.flags.good = []
    selector = sourceSelectorRegistry["science"](config)
    result = selector.run(table)
    assert result.n_selected == 0
    flagged = np.any([table[name] for name in config.flags.bad], axis=0).sum()
    text = selector.why_none(result)
    assert "selects none of 40 rows (rejected by signalToNoise 40" in text
    assert f"flags {flagged}" in text
    assert "empty table" in selector.why_none(selector.run(table[:0]))
