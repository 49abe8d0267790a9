"""Cycles of the calibration on a small simulated survey, whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from fgcm.cycle.cycle_parts import BANDS, cycle_settings, inputs_of, same
from zeropoint.errors import InvalidInputError, NoFitStarsError, NoPhotometricExposuresError
from zeropoint.fgcm.flags import ExposureFlag
from zeropoint.fgcm.outputs.fit_parameters import state_from_tables, state_to_tables
from zeropoint.recipes.fgcm_cycle import FgcmCycle
from zeropoint.simulation.fgcm_settings import small_survey
from zeropoint.simulation.fgcm_star_list import survey_passbands
from zeropoint.simulation.fgcm_survey import simulate_fgcm_survey

#: Clouds that have to be found, mag.
CLOUD = 0.03


def settings(**values):
    return cycle_settings(
        superStarSubCcdDict=dict.fromkeys(BANDS, True), superStarSubCcdChebyshevOrder=2, **values
    )


@pytest.fixture(scope="module")
def survey():
    return simulate_fgcm_survey(replace(small_survey(), n_visits=64))


@pytest.fixture(scope="module")
def passbands(survey):
    return survey_passbands(survey)


@pytest.fixture(scope="module")
def inputs(survey):
    return inputs_of(survey)


@pytest.fixture(scope="module")
def run(inputs, passbands):
    """Results of all cycles, and the tables of their states as they were when each was done."""
    tables = []
    results = FgcmCycle(settings()).run(
        inputs, passbands, threads=2, on_cycle=lambda result: tables.append(state_to_tables(result.state))
    )
    return results, tables


def test_each_cycle_is_what_its_place_says(run):
    results, _ = run
    assert [each.cycle for each in results] == [0, 1, 2]
    assert [each.is_final for each in results] == [False, False, True]
    assert [each.zeropoints is not None for each in results] == [False, False, True]
    # only the last keeps the observations, and it fits nothing
    assert [each.observations is not None for each in results] == [False, False, True]
    assert results[2].metrics["iterations"] == 0
    before, after = results[1].state.parameters, results[2].state.parameters
    assert np.array_equal(before.ln_tau_intercept, after.ln_tau_intercept)


def test_clouds_are_found_and_clear_sky_is_kept(run, survey):
    results, _ = run
    photometric = results[-1].state.exposures.flag == 0
    cloud, clear = np.asarray(survey.visits["cloud"]), np.asarray(survey.visits["photometric"])
    assert not (photometric & (cloud > CLOUD)).any()
    # the water of the simple physics is not that of the fit, by some mmag in z and up to 50 where it is humid
    assert np.count_nonzero(clear & ~photometric) <= 0.1 * np.count_nonzero(clear)


def test_the_model_leaves_little_more_than_noise(run, survey):
    metrics = run[0][-1].metrics
    # the atmosphere of the simulation is another one than that of the fit
    assert metrics["chi2_dof_measured"] < 2.0
    for band in BANDS:
        numbers = metrics["bands"][band]
        assert numbers["n_photometric"] <= numbers["n_exposures"]
        assert numbers["repeatability_after"] < 2.0 * numbers["repeatability_expected"]


def test_zeropoints_sum_up_the_model(run):
    """An instrumental magnitude with the zeropoint of its detector is the standard magnitude, but for the star's color."""
    result = run[0][-1]
    table, data = result.zeropoints, result.data
    assert len(table) == len(data.exposures) * data.exposures.n_det
    zero = np.asarray(table["fgcmZpt"]) - 2.5 * np.log10(np.asarray(table["exptime"]))
    observations = data.observations
    calibrated = observations.mag + zero[observations.ec]
    direct = result.observations.standard_magnitude + result.observations.gray
    use = result.observations.good
    within = calibrated[use] - direct[use]
    # flats within detectors (3 mmag) and second-order extinction over a detector's stars
    assert np.median(np.abs(within - np.median(within))) < 0.01
    assert np.isfinite(zero[np.asarray(table["fgcmFlag"]) < 16]).all()
    assert (np.asarray(table["fgcmZptErr"])[np.asarray(table["fgcmFlag"]) == 1] > 0).all()


def test_accounting_adds_up(run):
    for result in run[0]:
        result.accounting.check()
        assert result.accounting["exposures_of_fit"].kept == result.metrics["n_photometric"]


def test_a_killed_run_goes_on_to_the_same_bits(run, inputs, passbands):
    """From the tables of the cycle before, with one thread instead of two."""
    results, tables = run
    again = FgcmCycle(settings()).run(inputs, passbands, previous=state_from_tables(*tables[1]), threads=1)
    assert [each.cycle for each in again] == [2]
    assert same(again[-1].state, results[-1].state)
    for name in ("zeropoints", "atmosphere", "standard_stars"):
        first, second = getattr(results[-1], name), getattr(again[-1], name)
        assert all(
            np.asarray(first[c]).tobytes() == np.asarray(second[c]).tobytes() for c in first.colnames
        ), name


def test_a_state_of_another_survey_is_refused(run, inputs, passbands):
    state = state_from_tables(*run[1][0])
    fewer = replace(inputs, visits=inputs.visits[:-1])
    with pytest.raises(InvalidInputError, match="has 64 visits, the star list 63"):
        FgcmCycle(settings()).run(fewer, passbands, previous=state)


@pytest.mark.parametrize(
    ("values", "error", "told"),
    [
        ({"minStarPerExp": 10_000}, NoPhotometricExposuresError, "Lower minStarPerExp"),
        ({"minExpPerNight": 1000}, NoPhotometricExposuresError, "Lower minExpPerNight"),
        ({"minObsPerBand": 1000}, NoPhotometricExposuresError, "none of the 16 exposures of band g"),
        ({"starColorCuts": ["g,r,30.0,40.0"], "requiredBands": ["g", "r"]}, NoFitStarsError, "BAD_COLOR"),
    ],
)
def test_failures_have_names_and_numbers(inputs, passbands, values, error, told):
    with pytest.raises(error, match=told) as raised:
        FgcmCycle(settings(**values)).run(inputs, passbands)
    assert raised.value.metadata["cycle"] == 0
    assert any(name.startswith("n_") for name in raised.value.metadata)
    assert raised.value.record == ()


def test_visits_of_an_unknown_filter_are_flagged(inputs, passbands):
    """They have no zeropoint, and disturb nothing."""
    visits = inputs.visits.copy()
    visits["physicalFilter"][3] = "other"
    config = settings(doMultipleCycles=False, outputZeropointsBeforeFinalCycle=True)
    (result,) = FgcmCycle(config).run(replace(inputs, visits=visits), passbands)
    assert result.state.exposures.flag[3] & ExposureFlag.BAND_NOT_IN_LUT
    of_visit = result.zeropoints[result.zeropoints["visit"] == visits["visit"][3]]
    assert (np.asarray(of_visit["fgcmFlag"]) & 16).all()
    assert np.isnan(of_visit["fgcmZpt"]).all()
    assert np.isfinite(result.zeropoints["fgcmZpt"][np.asarray(result.zeropoints["fgcmFlag"]) < 16]).all()
