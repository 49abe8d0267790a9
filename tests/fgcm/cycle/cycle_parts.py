"""Settings and inputs of cycles on small simulated surveys."""

from dataclasses import fields, is_dataclass

import numpy as np

from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.recipes.fgcm_cycle import CycleInputs
from zeropoint.simulation.fgcm_settings import small_survey
from zeropoint.simulation.fgcm_star_list import star_list

BANDS = ["g", "r", "i", "z"]


def cycle_settings(**values):
    """Return the settings of three cycles, with some fields changed."""
    config = FgcmFitCycleConfigBase()
    site = small_survey().site
    config.latitude, config.utBoundary = site.latitude, site.ut_boundary
    config.complete(BANDS)
    config.doMultipleCycles, config.multipleCyclesFinalCycleNumber = True, 2
    config.freezeStdAtmosphere = True
    # a detector of this camera has 40 stars
    config.minStarPerExp, config.minExpPerNight, config.minCcdPerExp = 50, 4, 1
    config.modelMagErrors = False
    for name, value in values.items():
        setattr(config, name, value)
    return config


def inputs_of(survey):
    """Return the star list of a survey."""
    stars = star_list(survey)
    return CycleInputs(stars.visits, stars.observations, stars.ids, stars.indices, stars.references)


def same(first, second):
    """Whether two states have the same bits."""
    if is_dataclass(first):
        return all(same(getattr(first, each.name), getattr(second, each.name)) for each in fields(first))
    if isinstance(first, np.ndarray):
        return first.tobytes() == second.tobytes()
    return first == second
