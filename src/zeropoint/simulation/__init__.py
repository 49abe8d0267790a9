"""Stars and exposures with known truth: for the demo, tests, benchmarks and examples."""

from zeropoint.simulation.exposures import SimulatedExposure, simulate_exposure
from zeropoint.simulation.fgcm_settings import FgcmSurveySettings
from zeropoint.simulation.fgcm_survey import FgcmSurvey, simulate_fgcm_survey
from zeropoint.simulation.files import write_image, write_simulation
from zeropoint.simulation.night import Night, night_settings, simulate_snaps, write_night
from zeropoint.simulation.settings import SimulationSettings
from zeropoint.simulation.spoil import SPOILED_KINDS, spoil
from zeropoint.simulation.survey import Survey, SurveySettings, read_survey, write_survey

__all__ = [
    "SPOILED_KINDS",
    "FgcmSurvey",
    "FgcmSurveySettings",
    "Night",
    "SimulatedExposure",
    "SimulationSettings",
    "Survey",
    "SurveySettings",
    "night_settings",
    "read_survey",
    "simulate_exposure",
    "simulate_fgcm_survey",
    "simulate_snaps",
    "spoil",
    "write_image",
    "write_night",
    "write_simulation",
    "write_survey",
]
