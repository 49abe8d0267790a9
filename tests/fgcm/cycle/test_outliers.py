"""Outliers among the observations of a cycle."""

from types import SimpleNamespace

import numpy as np

from zeropoint.fgcm.flags import ObservationFlag
from zeropoint.fgcm.terms.gray import gray_residuals
from zeropoint.fgcm.terms.robust import Groups
from zeropoint.recipes.fgcm_cycle.photometric import flag_outliers
from zeropoint.recipes.fgcm_cycle.selection import Selection, drop_stars, good_observations

ERR = 0.005
N_STARS, N_EXP = 80, 4


def _survey(segment, exposure, n_star):
    count = np.bincount(segment, minlength=n_star)
    exposures = SimpleNamespace(
        has_passband=np.ones(N_EXP, bool), epoch=np.zeros(N_EXP, int), filter=np.zeros(N_EXP, int), bands=("r",),
        n_filter=1, n_det=1, n_epoch=1,
    )  # fmt: skip
    return SimpleNamespace(
        data=SimpleNamespace(exposures=exposures, observations=SimpleNamespace(segment=segment, ec=exposure)),
        fit_band=np.ones(1, bool),
        threads=1,
        detectors=Groups.of(exposure.astype(np.int32), N_EXP),
        of_exposure=lambda values: values[exposure],
        of_segment=lambda values: np.repeat(values.ravel(), count),
        chosen=lambda flag, segments, exposures: (
            (flag == 0) & segments.ravel()[segment] & exposures[exposure]
        ),
        per_segment=lambda chosen: np.bincount(segment, chosen, n_star).astype(np.int32)[:, None],
    )


def _solution(survey, selection, standard, n_star):
    """A model that leaves these magnitudes, with the means of the good observations."""
    segment = survey.data.observations.segment
    member = good_observations(survey, selection)
    n = np.bincount(segment, member, n_star)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.bincount(segment, np.where(member, standard, 0.0), n_star) / n
        err = np.where(n > 0, ERR / np.sqrt(n), np.nan)
    errors = np.full(len(segment), ERR, "f4")
    gray = gray_residuals(standard, errors, segment, mean[:, None], err[:, None], member)
    return SimpleNamespace(
        selection=selection,
        parameters=SimpleNamespace(exposure_gray=np.zeros(N_EXP)),
        means=SimpleNamespace(err=err, member=member),
        residuals=SimpleNamespace(gray=gray, standard=standard, photometry=SimpleNamespace(error=errors)),
    )


def test_two_observations_that_contradict_each_other_stay_outliers(rng):
    segment, exposure = (each.ravel() for each in np.mgrid[:N_STARS, :N_EXP])
    # one more star, seen twice, half a magnitude apart
    segment = np.concatenate([segment, [N_STARS] * 2])
    exposure = np.concatenate([exposure, [0, 1]])
    standard = (17.0 + rng.normal(0.0, ERR, len(segment))).astype("f4")
    standard[-1] += 0.5
    n_star = N_STARS + 1
    survey = _survey(segment, exposure, n_star)
    config = SimpleNamespace(
        minObsPerBand=2, requiredBands=[], superStarSigmaClip=5.0, focalPlaneSigmaClip=4.0
    )
    none = Selection(
        exposure=np.zeros(N_EXP, np.int32), observation=np.zeros(len(segment), np.uint16),
        star=np.zeros(n_star, np.int32), star_band=np.ones((n_star, 1), bool),
    )  # fmt: skip
    flagged, selection = [], none
    for _ in range(3):
        solution = _solution(survey, selection, standard, n_star)
        selection = drop_stars(survey, flag_outliers(survey, config, solution), config)
        flagged.append(np.flatnonzero(selection.observation & ObservationFlag.FOCALPLANE_OUTLIER).tolist())
    assert flagged[0][-2:] == [len(segment) - 2, len(segment) - 1]
    assert flagged == [flagged[0]] * 3
    assert not selection.good_star[-1]
