"""Standardised source tables: their columns, dtypes, units and values."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from astropy import units as u
from astropy.table import Column, Table
from hypothesis import given, settings
from hypothesis import strategies as st

from catalogs.source_columns import COLUMNS, CONSUMERS, LOCAL, NOT_IN_OLDER_PAIR
from zeropoint.catalogs.functor_file import FunctorFile
from zeropoint.catalogs.source_table import flat_source_table, transform_source_table
from zeropoint.errors import InvalidInputError
from zeropoint.recipes.calibrate import Calibrate, CalibrateConfig
from zeropoint.recipes.calibrate_image import CalibrateImage, CalibrateImageConfig
from zeropoint.recipes.characterize_image import CharacterizeImage, CharacterizeImageConfig
from zeropoint.tasks._outputs import table_schema

DATA_ID = {"instrument": "Cam", "visit": 2**40, "detector": 188, "band": "r", "physical_filter": "r_57"}
COLUMNS_FROM_DATA_ID = ["visit", "detector", "band", "physical_filter"]
ALL_COLUMNS = {name: source for name, (_, source) in COLUMNS.items()} | LOCAL


def table_of(schema: pa.Schema, n: int = 5) -> Table:
    """Return random sources with the columns, units and dtypes of a task's output."""
    rng = np.random.default_rng(1)
    table = Table()
    for field in schema:
        dtype = np.dtype(field.type.to_pandas_dtype())
        values = rng.integers(0, 2 if dtype.kind == "b" else 2**30, n).astype(dtype)
        if dtype.kind == "f":
            values = rng.normal(size=n).astype(dtype)
        about = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        table[field.name] = Column(values, unit=about.get("unit"), description=about.get("description"))
    return table


@pytest.fixture(scope="module")
def single_visit_star() -> Table:
    """What single-frame calibration writes in the shipped pipelines."""
    config = CalibrateImageConfig()
    config.load(str(Path(str(resources.files("zeropoint.recipes"))) / "configs/production.py"))
    return table_of(table_schema(CalibrateImage(config).star_schema))


@pytest.fixture(scope="module")
def src() -> Table:
    """What the older pair writes by default."""
    first = CharacterizeImage(CharacterizeImageConfig())
    return table_of(table_schema(Calibrate(CalibrateConfig(), first.schema).schema))


@cache
def functors(name: str) -> FunctorFile:
    return FunctorFile.read(f"resource://zeropoint.catalogs/schemas/{name}.yaml")


def standardised(table: Table, name: str) -> Table:
    return transform_source_table(
        table,
        functors(name),
        data_id=DATA_ID,
        columns_from_data_id=COLUMNS_FROM_DATA_ID,
        primary_key="sourceId",
    ).table


@pytest.fixture(scope="module")
def pre_source(single_visit_star: Table) -> Table:
    return standardised(single_visit_star, "PreSource")


def kinds(table: Table) -> dict[str, str]:
    return {
        name: "U" if table[name].dtype.kind == "U" else table[name].dtype.str[1:] for name in table.colnames
    }


def test_pre_source_has_exactly_the_columns_and_dtypes_of_single_visit_star(pre_source: Table) -> None:
    assert kinds(pre_source) == {name: pre for name, (pre, _) in COLUMNS.items()}
    assert pre_source.colnames[0] == "sourceId"
    assert pre_source.colnames[-4:] == COLUMNS_FROM_DATA_ID


def test_source_has_exactly_the_columns_and_dtypes_of_recalibrated_star(
    single_visit_star: Table, src: Table
) -> None:
    recalibrated = single_visit_star.copy(copy_data=False)
    for name in src.colnames:
        if name.startswith("base_Local"):
            recalibrated[name] = src[name]
    assert kinds(standardised(recalibrated, "Source")) == ALL_COLUMNS


def test_source_of_the_older_pair_lacks_only_what_it_does_not_measure(src: Table) -> None:
    result = transform_source_table(
        src, functors("Source"), data_id=DATA_ID, columns_from_data_id=COLUMNS_FROM_DATA_ID
    )
    assert set(result.left_out) == set(NOT_IN_OLDER_PAIR)
    assert kinds(result.table) == {
        name: kind for name, kind in ALL_COLUMNS.items() if name not in NOT_IN_OLDER_PAIR
    }


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_every_consumer_finds_its_columns(pre_source: Table, src: Table, consumer: str) -> None:
    assert set(CONSUMERS[consumer]) <= set(pre_source.colnames)
    assert set(CONSUMERS[consumer]) <= set(standardised(src, "Source").colnames)


def test_the_narrow_variant_is_a_part_of_pre_source(single_visit_star: Table, pre_source: Table) -> None:
    narrow = standardised(single_visit_star, "initial_stars_detector_standardized")
    assert {name: kind for name, kind in kinds(pre_source).items() if name in narrow.colnames} == kinds(
        narrow
    )
    needed = (
        CONSUMERS["association of isolated stars, kept"]
        + CONSUMERS["association of isolated stars, selection"]
    )
    assert set(needed) <= set(narrow.colnames)
    assert not [
        name for name in narrow.colnames if name.startswith(("ap25", "ap35", "ap50", "ap70", "apFlux_35"))
    ]


def published_columns() -> dict[str, dict[str, str]]:
    """Return the columns of the source table in the package of published schemas."""
    text = (resources.files("lsst.sdm.schemas") / "drp_base.yaml").read_text()
    (table,) = (table for table in yaml.load(text, yaml.CSafeLoader)["tables"] if table["name"] == "Source")
    return {column["name"]: column for column in table["columns"]}


def test_pre_source_is_the_published_source_table(pre_source: Table) -> None:
    published = published_columns()
    numbers = {
        "long": "i8",
        "int": "i4",
        "short": "i2",
        "double": "f8",
        "float": "f4",
        "boolean": "b1",
        "char": "U",
    }
    assert kinds(pre_source) == {name: numbers[column["datatype"]] for name, column in published.items()}
    for name, column in published.items():
        if "ivoa:unit" in column:
            assert u.Unit(pre_source[name].unit) == u.Unit(column["ivoa:unit"]), name


def test_values_are_those_of_the_columns_they_are_made_of(
    single_visit_star: Table, pre_source: Table
) -> None:
    for output, column in {
        "sourceId": "id",
        "psfFlux": "slot_PsfFlux_flux",
        "calibFluxErr": "slot_CalibFlux_fluxErr",
        "ap70Flux": "base_CircularApertureFlux_70_0_flux",
        "sky": "base_LocalBackground_flux",
        "ixxPSF": "slot_PsfShape_xx",
        "apFlux_12_0_instFlux": "base_CircularApertureFlux_12_0_instFlux",
        "invalidPsfFlag": "base_InvalidPsf_flag",
        "iDebiasedPSF_flag_edge": "ext_shapeHSM_HsmPsfMomentsDebiased_flag_edge",
        "blendedness_abs": "base_Blendedness_abs",
    }.items():
        np.testing.assert_array_equal(pre_source[output], single_visit_star[column], err_msg=output)
        assert pre_source[output].description == single_visit_star[column].description
    np.testing.assert_array_equal(pre_source["ra"], np.rad2deg(single_visit_star["coord_ra"]))
    np.testing.assert_array_equal(pre_source["coord_dec"], pre_source["dec"])


@settings(max_examples=10)
@given(st.lists(st.integers(0, 4), max_size=8))
def test_a_row_depends_on_no_other_row(src: Table, rows: list[int]) -> None:
    index = np.array(rows, int)
    picked, whole = standardised(src[index], "Source"), standardised(src, "Source")
    for name in whole.colnames:
        np.testing.assert_array_equal(picked[name], whole[name][index], err_msg=name)


def test_values_of_source_are_calibrated_locally(src: Table) -> None:
    source = standardised(src, "Source")
    expected = (np.asarray(src["slot_PsfFlux_instFlux"]) * np.asarray(src["base_LocalPhotoCalib"])).astype(
        "f4"
    )
    np.testing.assert_array_equal(source["psfFlux"], expected)
    np.testing.assert_array_equal(source["localPhotoCalib"], src["base_LocalPhotoCalib"])


def test_data_id_columns_are_constant_and_detector_is_a_signed_short(pre_source: Table) -> None:
    for name in COLUMNS_FROM_DATA_ID:
        assert (pre_source[name] == DATA_ID[name]).all()
    assert pre_source["detector"].dtype == np.int16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns_from_data_id": ["skymap"]}, "columnsFromDataId: the data id has no skymap"),
        ({"primary_key": "objectId"}, "primaryKey: .*PreSource.yaml makes no column 'objectId'"),
        ({"columns_from_data_id": ["x"], "data_id": {"x": 1}}, "makes x, too"),
    ],
)
def test_options_that_cannot_be_met_are_named(single_visit_star: Table, options, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        transform_source_table(single_visit_star, functors("PreSource"), **{"data_id": DATA_ID} | options)


def test_no_sources_give_an_empty_table_of_the_same_columns(
    single_visit_star: Table, pre_source: Table
) -> None:
    empty = standardised(single_visit_star[:0], "PreSource")
    assert len(empty) == 0
    assert kinds(empty) == kinds(pre_source)


def test_a_flat_table_says_where_its_sources_were_seen(src: Table) -> None:
    flat = flat_source_table(src, visit=2**40, detector=5)
    assert flat.colnames == [*src.colnames, "visit", "detector"]
    assert (flat["visit"].dtype, flat["detector"].dtype) == (np.int64, np.int16)
    assert "visit" not in src.colnames
    again = flat_source_table(flat, visit=7, detector=6)
    assert set(again["visit"]) == {7}
    assert set(flat["visit"]) == {2**40}


def test_a_detector_number_beyond_its_column_is_refused(src: Table) -> None:
    with pytest.raises(InvalidInputError, match="detector 40000 does not fit"):
        flat_source_table(src, visit=1, detector=40_000)
