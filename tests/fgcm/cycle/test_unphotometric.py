"""A survey of which no part of a night is photometric, calibrated with defaults."""

from dataclasses import replace

import numpy as np
import pytest

from fgcm.cycle.cycle_parts import cycle_settings, inputs_of, same
from zeropoint.fgcm.outputs.fit_parameters import state_from_tables, state_to_tables
from zeropoint.recipes.fgcm_cycle import FgcmCycle
from zeropoint.simulation.fgcm_fit_truth import compare_zeropoints
from zeropoint.simulation.fgcm_settings import small_survey
from zeropoint.simulation.fgcm_star_list import survey_passbands
from zeropoint.simulation.fgcm_survey import simulate_fgcm_survey

#: Scatter of the gray of all exposures, mag.
GRAY = 0.04


@pytest.fixture(scope="module")
def survey():
    """Dithered by half of the camera; flats without structure, which these few stars would not tell."""
    gray = replace(small_survey(), cloudy_fraction=0.0, gray_scatter=GRAY, flat_structure=0.0)
    return simulate_fgcm_survey(replace(gray, n_visits=48))


@pytest.fixture(scope="module")
def inputs(survey):
    return inputs_of(survey)


@pytest.fixture(scope="module")
def run(survey, inputs):
    tables = []
    results = FgcmCycle(cycle_settings()).run(
        inputs, survey_passbands(survey), on_cycle=lambda result: tables.append(state_to_tables(result.state))
    )
    return results, tables


def test_it_is_noticed_and_said(run):
    first, *others = run[0]
    # without atmospheres, nothing can be told yet
    assert first.metrics["has_photometric"]
    assert not first.metrics["joint_gray"]
    for result in others:
        assert not result.metrics["has_photometric"]
        assert result.metrics["joint_gray"]
        # atmospheres within their priors explain a part
        assert 0.6 * GRAY < result.metrics["joint_gray_sigma"] < 1.2 * GRAY
    assert others[0].metrics["converged"]
    assert others[0].metrics["n_photometric"] > 0.9 * 48


def test_zeropoints_are_as_good_as_they_say(run, survey):
    """Detectors of an exposure against each other, too: the flats have not taken what changes with the dither."""
    every = np.ones(48, bool)
    found = compare_zeropoints(survey, run[0][-1], every).values()
    assert sum(each.n for each in found) == 4 * 48
    pull = np.sqrt(np.mean([(each.rms / each.predicted) ** 2 for each in found]))
    assert 0.8 < pull < 1.2
    assert max(each.predicted for each in found) < 0.0015


def test_the_atmosphere_stays_near_what_was_assumed(run):
    last = run[0][-1]
    sigmas, exposures = last.state.parameter_sigmas, last.data.exposures
    # while the nights are observed, not hours before
    ln_pwv = last.state.parameters.ln_pwv(exposures)
    middle = np.bincount(exposures.night, ln_pwv) / np.bincount(exposures.night)
    assert (np.abs(middle - np.log(3.0)) < 3 * 0.6).all(), middle
    assert (sigmas.ln_tau_intercept > 0.05).all()


def test_a_cycle_goes_on_from_the_state_alone(run, survey, inputs):
    """One cycle for each run: the state says that the gray is joint."""
    results, tables = run
    config = cycle_settings(
        doMultipleCycles=False, isFinalCycle=True, cycleNumber=2, freezeStdAtmosphere=False
    )
    for name in ("expGrayPhotometricCutDict", "expGrayHighCutDict"):
        setattr(config, name, results[1].config_changes[name])
    (again,) = FgcmCycle(config).run(inputs, survey_passbands(survey), previous=state_from_tables(*tables[1]))
    assert same(again.state, results[2].state)
    assert again.metrics["joint_gray_sigma"] == results[2].metrics["joint_gray_sigma"]
