"""A small simulated survey that the tests of the global calibration share."""

from __future__ import annotations

import pytest
from astropy.table import Table

from zeropoint.simulation.fgcm_settings import small_survey
from zeropoint.simulation.fgcm_survey import FgcmSurvey, simulate_fgcm_survey


@pytest.fixture(scope="session")
def fgcm_survey() -> FgcmSurvey:
    """A survey of 32 visits in g, r, i and z with four detectors, with its truth; needs no data. Not to be changed."""
    return simulate_fgcm_survey(small_survey())


@pytest.fixture(scope="session")
def _fgcm_observations(fgcm_survey: FgcmSurvey) -> Table:
    return fgcm_survey.observations()


@pytest.fixture
def fgcm_observations(_fgcm_observations: Table) -> Table:
    """The small survey's star observations with their true ``star``: a copy."""
    return _fgcm_observations.copy()
