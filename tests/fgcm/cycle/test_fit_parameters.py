"""What a cycle hands to the next, as tables and back."""

from dataclasses import fields, is_dataclass

import numpy as np
import pytest

from zeropoint.datamodel.arrow import arrow_to_table, table_to_arrow
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.cycle_state import (
    BandState,
    CycleState,
    EpsilonMaps,
    ExposureState,
    FlaggedStars,
    InstrumentState,
)
from zeropoint.fgcm.model.parameters import FitParameters
from zeropoint.fgcm.outputs.fit_parameters import state_from_tables, state_to_tables

N = {"night": 3, "band": 2, "filter": 3, "det": 4, "exp": 5, "wash": 2, "epoch": 2, "coating": 1}


def numbers(rng, *axes):
    return rng.normal(size=tuple(N.get(axis, axis) for axis in axes))


def parameters(rng, retrieved):
    nightly = (
        "alpha",
        "o3",
        "ln_tau_intercept",
        "ln_tau_slope",
        "ln_pwv_intercept",
        "ln_pwv_slope",
        "ln_pwv_quadratic",
    )
    return FitParameters(
        **{name: numbers(rng, "night") for name in (*nightly, "retrieved_night_offset")},
        **{name: numbers(rng) for name in ("retrieved_scale", "retrieved_offset")},
        **{name: numbers(rng, "band", "wash") for name in ("qe_intercept", "qe_slope")},
        **{name: numbers(rng, "band") for name in ("abs_offset", "aper_slope", "aper_pivot", "airmass_residual", "water_residual")},
        filter_offset=numbers(rng, "filter"),
        superstar=numbers(rng, "epoch", "filter", "det"),
        aper_range=numbers(rng, "band", 2),
        exposure_gray=numbers(rng, "exp"),
        retrieved_ln_pwv=numbers(rng, "exp") if retrieved else None,
    )  # fmt: skip


def state(retrieved=False, sigmas=True):
    rng = np.random.default_rng(1)
    exposures = {each.name: numbers(rng, "exp") for each in fields(ExposureState)}
    for name in ("flag", "n_star", "retrieved_ln_pwv_flag"):
        exposures[name] = np.arange(5, dtype=np.int32)
    exposures["visit"] = 2**40 + np.arange(5)
    exposures["gray"][2] = np.nan
    bands = {each.name: numbers(rng, "band") for each in fields(BandState)}
    return CycleState(
        cycle=3,
        bands=("g", "r"),
        physical_filters=("g1", "r1", "r2"),
        detectors=(0, 1, 5, 7),
        filter_bands=(0, 1, 1),
        fit_bands=("g",),
        night_numbers=np.array([59000, 59001, 59007], np.int32),
        wash_mjds=np.array([59000.0, 59003.5]),
        epoch_mjds=np.array([59000.0, 59002.5]),
        coating_mjds=np.array([59000.0]),
        parameters=parameters(rng, retrieved),
        parameter_sigmas=parameters(rng, False).replace(aper_pivot=np.zeros(2), aper_range=np.zeros((2, 2)))
        if sigmas
        else None,
        exposures=ExposureState(**exposures),
        instrument=InstrumentState(
            superstar_shape=numbers(rng, "epoch", "filter", "det", 2, 2),
            mirror_chromaticity=numbers(rng, "filter", 2),
            mirror_chromaticity_pivot=numbers(rng, "coating"),
            ccd_chromaticity=numbers(rng, "det", "filter"),
            aper_slope_err=numbers(rng, "band"),
        ),
        band=BandState(
            **bands | {"error_pivot": numbers(rng, "band", 3), "error_model": numbers(rng, "band", 7)}
        ),
        epsilon_maps=EpsilonMaps(
            np.zeros((2, 0)),
            np.zeros((2, 0), np.int32),
            np.zeros((3, 4, 0, 0)),
            np.zeros((3, 4, 0, 0), np.int32),
        ),
        flagged_stars=FlaggedStars(np.array([2**35, 2**35 + 4]), np.array([4, 16], np.int32)),
    )


def assert_same(first, second, path=""):
    if is_dataclass(first):
        for each in fields(first):
            assert_same(getattr(first, each.name), getattr(second, each.name), f"{path}.{each.name}")
    elif isinstance(first, np.ndarray):
        assert (second.dtype, second.shape) == (first.dtype, first.shape), path
        assert second.tobytes() == first.tobytes(), path
    else:
        assert first == second, path


@pytest.mark.parametrize(("retrieved", "sigmas"), [(False, True), (True, False)])
def test_a_state_comes_back_from_its_tables_on_disk(retrieved, sigmas):
    """Bit by bit, through Arrow: a run that was killed goes on exactly where it was."""
    before = state(retrieved, sigmas)
    tables = [arrow_to_table(table_to_arrow(table)) for table in state_to_tables(before)]
    after = state_from_tables(*tables)
    if sigmas:
        # pivot and range have no errors: there, they are the values
        assert np.array_equal(after.parameter_sigmas.aper_pivot, before.parameters.aper_pivot)
        same = {
            name: getattr(before.parameters, name)
            for name in ("aper_pivot", "aper_range", "retrieved_ln_pwv")
        }
        object.__setattr__(before, "parameter_sigmas", before.parameter_sigmas.replace(**same))
    assert_same(before, after)


def test_the_columns_that_readers_of_fgcm_expect():
    before = state()
    table, flagged = state_to_tables(before)
    assert len(table) == 1
    assert (table["lutFilterNames"][0], table["fitBands"][0]) == ("g1,r1,r2", "g")
    assert table["superstarSize"][0].tolist() == [2, 3, 4, 4]
    # a superstar flat in flux, its constant in the first coefficient
    flat = table["superstar"][0].reshape(2, 3, 4, 4)
    shape, constant = before.instrument.superstar_shape, before.parameters.superstar
    assert flat[1, 2, 3, 1] == np.float32(shape[1, 2, 3, 0, 1] * 10 ** (-0.4 * constant[1, 2, 3]))
    assert table["compAbsThroughput"][0] == pytest.approx(10 ** (0.4 * before.parameters.abs_offset))
    # bands run fastest in the error model's coefficients
    assert table["compModelErrPars"][0].reshape(7, 2)[4, 1] == before.band.error_model[1, 4]
    for k, name in enumerate(("Exptime", "Fwhm", "Sky")):
        assert table[f"compModelErr{name}Pivot"][0].tolist() == before.band.error_pivot[:, k].tolist()
    assert table["compRetrievedTauNight"].shape == (1, 3)
    assert flagged["objFlag"].dtype == np.int32


def test_tables_of_two_cycles_are_refused():
    table, flagged = state_to_tables(state())
    flagged.meta["CYCLE"] = 2
    with pytest.raises(InvalidInputError, match="cycle 3 and FlaggedStars of cycle 2"):
        state_from_tables(table, flagged)
    table.remove_column("parO3")
    with pytest.raises(InvalidInputError, match="no parO3"):
        state_from_tables(table, flagged)
