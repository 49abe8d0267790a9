"""What a user is told to do where no exposure is photometric."""

import numpy as np
import pytest

from zeropoint.fgcm.flags import ExposureFlag
from zeropoint.recipes.fgcm_cycle.nothing_left import first_causes, remedies


def test_a_consequence_is_no_cause():
    few = ExposureFlag.TOO_FEW_EXP_ON_NIGHT
    flags = np.array(
        [ExposureFlag.NO_STARS | few] * 5 + [few] * 2 + [ExposureFlag.EXP_GRAY_TOO_NEGATIVE | few] * 3
    )
    assert list(first_causes(flags).items()) == [
        ("NO_STARS", 5),
        ("EXP_GRAY_TOO_NEGATIVE", 3),
        ("TOO_FEW_EXP_ON_NIGHT", 2),
    ]


@pytest.mark.parametrize("flag", ExposureFlag)
def test_every_flag_has_a_remedy(flag):
    assert remedies(first_causes(np.array([int(flag)])), np.array([10]), 10, {}, {})


@pytest.mark.parametrize(
    ("n", "observations", "stars", "told"),
    [
        (0, {}, {"TOO_FEW_OBS": 5}, "no observation in them"),
        (100, {"BAD_AIRMASS": 100}, {"TOO_FEW_OBS": 5}, "100 of their 100 observations are BAD_AIRMASS. Their airmass"),
        (100, {"BAD_MAG": 3}, {"TOO_FEW_OBS": 5}, "Lower minObsPerBand"),
        (100, {}, {"BAD_COLOR": 5, "RESERVED": 9}, "Check starColorCuts"),
    ],
)  # fmt: skip
def test_exposures_without_stars_are_told_why(n, observations, stars, told):
    assert told in remedies({"NO_STARS": 4}, np.array([n // 4] * 4), n, observations, stars)


def test_too_few_stars_are_told_with_their_number():
    told = remedies({"TOO_FEW_STARS": 3}, np.array([480, 590, 500]), 1570, {}, {})
    assert told.startswith(
        "Exposures have 480 to 590 good observations, half of them less than 500. Lower minStarPerExp"
    )
