"""Which stars, observations and exposures take part: flags, and the weights that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntFlag

import numpy as np
import numpy.typing as npt

from zeropoint.errors import NoFitStarsError, NoPhotometricExposuresError
from zeropoint.fgcm.fit_cycle_config import ColorCut, FgcmFitCycleConfigBase
from zeropoint.fgcm.flags import ExposureFlag, ObservationFlag, StarFlag
from zeropoint.fgcm.terms.selection import calibratable_nights
from zeropoint.recipes.fgcm_cycle.nothing_left import first_causes, remedies
from zeropoint.recipes.fgcm_cycle.survey import BoolArray, FloatArray, SingleArray, Survey

__all__ = [
    "FlagArray",
    "Selection",
    "bad_colors",
    "drop_nights",
    "drop_stars",
    "flag_counts",
    "flag_words",
    "good_observations",
    "require",
    "weights",
]

FlagArray = npt.NDArray[np.int32]

#: Stars with one of these take no part, in the fit or as reserve.
_BAD_STAR = int(StarFlag.TOO_FEW_OBS | StarFlag.BAD_COLOR | StarFlag.VARIABLE | StarFlag.TEMPORARY_BAD_STAR)
_RESERVED = int(StarFlag.RESERVED)


@dataclass(frozen=True)
class Selection:
    """Flags; 0 is good.

    Parameters
    ----------
    star
        `StarFlag`, shape (n_star,).
    exposure
        `ExposureFlag`, shape (n_exp,).
    observation
        `ObservationFlag`, shape (n_obs,), uint16.
    star_band
        Whether a star has enough good observations in a band, shape (n_star, n_band).
    """

    star: FlagArray
    exposure: FlagArray
    observation: npt.NDArray[np.uint16]
    star_band: BoolArray

    @property
    def photometric(self) -> BoolArray:
        """Exposures without a flag."""
        return np.asarray(self.exposure == 0)

    @property
    def good_star(self) -> BoolArray:
        """Stars of the fit."""
        return np.asarray((self.star & (_BAD_STAR | _RESERVED)) == 0)

    @property
    def reserve_star(self) -> BoolArray:
        """Good stars kept out of the fit."""
        return np.asarray(((self.star & _BAD_STAR) == 0) & ((self.star & _RESERVED) != 0))

    def with_observation_flag(self, flag: ObservationFlag, chosen: BoolArray) -> Selection:
        """Return the selection with a flag on exactly these observations."""
        cleared = self.observation & ~np.uint16(flag)
        return replace(self, observation=cleared | (chosen * np.uint16(flag)))

    def with_star_flag(self, flag: StarFlag, chosen: BoolArray) -> Selection:
        """Return the selection with a flag on exactly these stars."""
        return replace(self, star=(self.star & ~np.int32(flag)) | (chosen * np.int32(flag)))


def good_observations(
    survey: Survey,
    selection: Selection,
    *,
    reserve: bool = False,
    stars: BoolArray | None = None,
    all_exposures: bool = False,
) -> BoolArray:
    """Return the good observations: of good stars, without flags, in photometric exposures.

    Parameters
    ----------
    survey, selection
        Data and flags.
    reserve
        Whether reserve stars count as good.
    stars
        Stars that count instead of these.
    all_exposures
        Whether exposures that are not photometric count.
    """
    if stars is None:
        stars = selection.good_star | (selection.reserve_star & reserve)
    exposures = survey.data.exposures.has_passband & (selection.photometric | all_exposures)
    return survey.chosen(selection.observation, selection.star_band & stars[:, None], exposures)


def weights(survey: Survey, inverse_variance: SingleArray, good: BoolArray) -> SingleArray:
    """Return the weights of observations in a fit, 0 where they do not count, float32.

    Parameters
    ----------
    survey
        Data.
    inverse_variance
        Of the observations.
    good
        Those that count, if they are in bands of the fit.
    """
    if not survey.fit_band.all():
        good = good & survey.of_exposure(survey.in_fit_band)
    return np.where(good, inverse_variance, np.float32(0.0))


def drop_stars(survey: Survey, selection: Selection, config: FgcmFitCycleConfigBase) -> Selection:
    """Return the selection with stars flagged that have too few good observations in photometric exposures.

    With required bands a star needs ``minObsPerBand`` in each of them, else in one band at least.

    Parameters
    ----------
    survey, selection, config
        Data, flags and settings.
    """
    exposures = survey.data.exposures.has_passband & selection.photometric
    good = survey.chosen(selection.observation, np.ones_like(selection.star_band), exposures)
    enough = survey.per_segment(good) >= config.minObsPerBand
    required = [survey.data.exposures.bands.index(band) for band in config.requiredBands]
    few = ~enough[:, required].all(axis=1) if required else ~(enough & survey.fit_band).any(axis=1)
    return replace(selection.with_star_flag(StarFlag.TOO_FEW_OBS, few), star_band=enough)


def drop_nights(survey: Survey, selection: Selection, config: FgcmFitCycleConfigBase) -> Selection:
    """Return the selection with exposures flagged whose night has too few that are photometric.

    Parameters
    ----------
    survey, selection, config
        Data, flags and settings.
    """
    e = survey.data.exposures
    flags, _ = calibratable_nights(
        selection.exposure, e.night, e.n_nights, survey.in_fit_band, min_exp_per_night=config.minExpPerNight
    )
    return replace(selection, exposure=flags)


def bad_colors(mean: FloatArray, bands: tuple[str, ...], cuts: tuple[ColorCut, ...]) -> BoolArray:
    """Return the stars whose colors fail a cut; an unknown color fails none.

    Parameters
    ----------
    mean
        Magnitudes, shape (n_star, n_band), NaN where unknown.
    bands
        Their names.
    cuts
        Colors that are kept.
    """
    bad = np.zeros(len(mean), bool)
    for cut in cuts:
        color = mean[:, bands.index(cut.first)] - mean[:, bands.index(cut.second)]
        bad |= (color <= cut.low) | (color >= cut.high)
    return bad


def require(survey: Survey, selection: Selection, cycle: int) -> None:
    """Check that there is something to fit.

    Raises
    ------
    NoPhotometricExposuresError
        If a band of the fit with exposures has lost them all.
    NoFitStarsError
        If no star is left.
    """
    e = survey.data.exposures
    for band in np.flatnonzero(survey.fit_band):
        of_band = e.band == band
        if of_band.any() and not (of_band & selection.photometric).any():
            counts = flag_counts(selection.exposure[of_band], ExposureFlag)
            observed = selection.observation[survey.of_exposure(of_band)]
            advice = remedies(
                first_causes(selection.exposure[of_band]),
                np.bincount(survey.exposure[selection.observation == 0], minlength=survey.n_exp)[of_band],
                len(observed),
                flag_counts(observed, ObservationFlag),
                flag_counts(selection.star, StarFlag),
            )
            raise NoPhotometricExposuresError(
                f"Cycle {cycle}: none of the {int(of_band.sum())} exposures of band {e.bands[band]} is photometric "
                f"({_told(counts)}). {advice}",
                cycle=cycle,
                band=e.bands[band],
                n_exposures=int(of_band.sum()),
                **{f"n_{name}": number for name, number in counts.items()},
            )
    if not selection.good_star.any():
        counts = flag_counts(selection.star, StarFlag)
        raise NoFitStarsError(
            f"Cycle {cycle}: none of the {survey.n_star} stars can be used ({_told(counts)}). Check requiredBands, "
            "minObsPerBand and the color cuts.",
            cycle=cycle,
            n_stars=survey.n_star,
            **{f"n_{name}": number for name, number in counts.items()},
        )


def flag_counts(flags: npt.NDArray[np.integer], names: type[IntFlag]) -> dict[str, int]:
    """Return how many of some flag words have each bit, of the bits that any has.

    Parameters
    ----------
    flags
        Words.
    names
        The bits.
    """
    words, numbers = flag_words(flags)
    counts = {str(bit.name): int(numbers[(words & bit.value) != 0].sum()) for bit in names}
    return {name: number for name, number in counts.items() if number}


def flag_words(flags: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the flag words that occur, and how often each does.

    Parameters
    ----------
    flags
        Words, not negative.
    """
    numbers = np.bincount(flags.ravel())
    words = np.flatnonzero(numbers)
    return words, numbers[words]


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.items()) or "no flags"
