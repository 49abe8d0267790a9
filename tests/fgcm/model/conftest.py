"""The small simulated survey as the data of a fit."""

from __future__ import annotations

import numpy as np
import pytest

from fgcm.model.parts import Problem, load, random_problem
from zeropoint.fgcm.model.observations import FitData
from zeropoint.fgcm.model.passband_source import QuadraturePassbands
from zeropoint.simulation.fgcm_star_list import SimulatedStarList, star_list, survey_passbands
from zeropoint.simulation.fgcm_survey import FgcmSurvey


@pytest.fixture(scope="session")
def fit_stars(fgcm_survey: FgcmSurvey) -> SimulatedStarList:
    """The star list of the small survey. Not to be changed."""
    return star_list(fgcm_survey)


@pytest.fixture(scope="session")
def passbands(fgcm_survey: FgcmSurvey) -> QuadraturePassbands:
    """Its passbands, integrated at a few wavelengths."""
    return survey_passbands(fgcm_survey)


@pytest.fixture(scope="session")
def data(fgcm_survey: FgcmSurvey, fit_stars: SimulatedStarList, passbands: QuadraturePassbands) -> FitData:
    """Its data."""
    return load(fgcm_survey, fit_stars, passbands)


@pytest.fixture(scope="session")
def problem(data: FitData, passbands: QuadraturePassbands) -> Problem:
    """Its data with random parameters."""
    return random_problem(data, passbands, np.random.default_rng(7))
