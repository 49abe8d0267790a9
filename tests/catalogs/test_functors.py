"""Functors: one output column as a function of input columns."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Column, MaskedColumn, Table

from zeropoint.catalogs.functors import FUNCTORS, make_functor
from zeropoint.errors import InvalidInputError

CALIBRATED = [
    "slot_PsfFlux_instFlux",
    "slot_PsfFlux_instFluxErr",
    "base_LocalPhotoCalib",
    "base_LocalPhotoCalibErr",
]


@pytest.fixture
def table() -> Table:
    return Table(
        {
            "id": Column([7, 2**62 + 1], description="unique row id"),
            "coord_ra": Column([0.0, np.pi / 2], unit="rad", description="right ascension"),
            "coord_dec": Column([-np.pi / 6, np.pi / 4], unit="rad"),
            "coord_raErr": Column(np.array([1e-7, np.nan], "f4"), unit="rad"),
            "coord_decErr": Column(np.array([2e-7, 3e-7], "f4"), unit="rad"),
            "coord_ra_dec_Cov": Column(np.array([1e-15, -1e-15], "f4"), unit="rad2"),
            "slot_PsfFlux_instFlux": Column([1000.0, -5.0], unit="count"),
            "slot_PsfFlux_instFluxErr": Column([10.0, 5.0], unit="count"),
            "base_LocalPhotoCalib": Column([36.3, 36.4], unit="nJy/count"),
            # so large that it would dominate every error it entered
            "base_LocalPhotoCalibErr": Column([30.0, 30.0], unit="nJy/count"),
        }
    )


def evaluate(table: Table, functor: str, args: object = ()) -> Column:
    made = make_functor({"functor": functor, "args": args}, "out")
    return made(table[list(made.inputs)])


def test_column_copies_integers_exactly_with_description(table: Table) -> None:
    out = evaluate(table, "Column", "id")
    assert out.tolist() == [7, 2**62 + 1]
    assert out.description == "unique row id"
    assert evaluate(table, "Index").tolist() == out.tolist()


@pytest.mark.parametrize(
    ("functor", "args", "degrees"),
    [("CoordColumn", "coord_dec", [-30, 45]), ("RAColumn", (), [0, 90]), ("DecColumn", (), [-30, 45])],
)
def test_coordinates_are_degrees_in_double_precision(table: Table, functor, args, degrees) -> None:
    out = evaluate(table, functor, args)
    np.testing.assert_allclose(out, degrees, rtol=1e-15)
    assert (out.dtype, out.unit) == ("f8", "deg")


@pytest.mark.parametrize(
    ("functor", "column", "power"),
    [
        ("RAErrColumn", "coord_raErr", 1),
        ("DecErrColumn", "coord_decErr", 1),
        ("RADecCovColumn", "coord_ra_dec_Cov", 2),
    ],
)
def test_errors_are_degrees_in_the_precision_of_the_input(table: Table, functor, column, power) -> None:
    out = evaluate(table, functor)
    # the factor and the product are rounded once each
    np.testing.assert_allclose(
        out, np.asarray(table[column], "f8") * (180 / np.pi) ** power, rtol=2 * np.finfo("f4").eps
    )
    assert out.dtype == "f4"
    assert out.unit == ("deg", "deg2")[power - 1]


def test_a_coordinate_in_degrees_is_refused(table: Table) -> None:
    table["coord_ra"].unit = "deg"
    with pytest.raises(InvalidInputError, match=r"'coord_ra' is in deg, not in rad"):
        evaluate(table, "RAColumn")


def test_local_calibration_gives_single_precision_nanojansky_without_its_own_error(table: Table) -> None:
    flux, error = (evaluate(table, name, CALIBRATED) for name in ("LocalNanojansky", "LocalNanojanskyErr"))
    np.testing.assert_array_equal(flux, np.array([36300.0, -182.0], "f4"))
    np.testing.assert_array_equal(error, np.array([363.0, 182.0], "f4"))
    assert flux.dtype == error.dtype == np.float32
    assert flux.unit == error.unit == "nJy"
    assert flux.description == "calibrated flux"


def test_magnitude_error_is_that_of_the_flux_ratio(table: Table) -> None:
    magnitude, error = (evaluate(table, name, CALIBRATED) for name in ("LocalMagnitude", "LocalMagnitudeErr"))
    assert magnitude[0] == pytest.approx(31.4 - 2.5 * np.log10(36300.0), abs=1e-4)  # 3631 Jy is 31.40002
    # 1 % of the flux; an error divided by another error or by an instrumental flux would not be this
    assert error[0] == pytest.approx(1.0857362 * 0.01, rel=1e-7)
    assert np.isnan([magnitude[1], error[1]]).all()


def test_single_precision_keeps_unit_and_mask() -> None:
    values = MaskedColumn(
        [1.0 + 1e-12, 2.0, 1e60], mask=[False, True, False], unit="pix2", description="moment"
    )
    out = evaluate(Table({"a": values}), "SinglePrecisionFloatColumn", "a")
    assert out.dtype == np.float32
    assert out.mask.tolist() == [False, True, False]
    assert (out[0], out[2]) == (1.0, np.inf)
    assert (str(out.unit), out.description) == ("pix2", "moment")


@pytest.mark.parametrize("name", sorted(FUNCTORS))
def test_every_functor_reads_nothing_but_its_inputs(table: Table, name: str) -> None:
    n_args = FUNCTORS[name].n_args
    args = CALIBRATED if n_args == 4 else () if FUNCTORS[name].defaults else "coord_dec"
    assert len(evaluate(table, name, args)) == 2  # evaluate() passes the inputs only


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (
            {"functor": "DeconvolvedMoments", "args": "a"},
            "out: the functor 'DeconvolvedMoments' is not known; known are Column",
        ),
        ({"functor": "Column"}, r"out: the functor Column takes 1 column\(s\), not 0"),
        ({"functor": "LocalNanojansky", "args": ["a", "b"]}, "LocalNanojansky takes 4"),
        ({"functor": "Column", "args": 5}, "args must be a column name"),
        ({"functor": "Column", "args": "a", "factor": 2}, "factor cannot be used with Column"),
        ("Column", "needs a key 'functor'"),
    ],
)
def test_a_wrong_definition_is_named(definition, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make_functor(definition, "out")


def test_keywords_of_object_tables_change_nothing(table: Table) -> None:
    made = make_functor({"functor": "Column", "args": ["id"], "dataset": "meas", "noDup": True}, "out")
    assert made(table).tolist() == table["id"].tolist()
