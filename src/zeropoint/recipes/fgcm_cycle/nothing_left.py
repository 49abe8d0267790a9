"""What to do where no exposure of a band is photometric: the first cause in each of them, and its remedy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.flags import ExposureFlag

__all__ = ["first_causes", "remedies"]

#: Flags in the order in which one entails the next.
_CAUSES = (
    ExposureFlag.BAND_NOT_IN_LUT,
    ExposureFlag.NO_STARS,
    ExposureFlag.TOO_FEW_STARS,
    ExposureFlag.BAD_FWHM,
    ExposureFlag.BAD_ZPFLAG,
    ExposureFlag.EXP_GRAY_TOO_NEGATIVE,
    ExposureFlag.EXP_GRAY_TOO_POSITIVE,
    ExposureFlag.VAR_GRAY_TOO_LARGE,
    ExposureFlag.TEMPORARY_BAD_EXPOSURE,
    ExposureFlag.TOO_FEW_EXP_ON_NIGHT,
)
#: Flag -> what to do.
_REMEDIES: Mapping[str, str] = {
    "BAND_NOT_IN_LUT": "Add their filters to physicalFilterMap and to the look-up table.",
    "TOO_FEW_STARS": "Lower minStarPerExp, or minStarPerCcd and maxCcdGrayErr for small fields.",
    "BAD_FWHM": "Raise expFwhmCutDict.",
    "BAD_ZPFLAG": "Look at the earlier cycle that flagged them.",
    "EXP_GRAY_TOO_NEGATIVE": "Was the whole band taken through clouds? Else lower expGrayInitialCut or expGrayPhotometricCutDict.",
    "EXP_GRAY_TOO_POSITIVE": "Raise expGrayHighCutDict.",
    "VAR_GRAY_TOO_LARGE": "Raise expVarGrayPhotometricCutDict.",
    "TEMPORARY_BAD_EXPOSURE": "Look at the step that flagged them.",
    "TOO_FEW_EXP_ON_NIGHT": "Lower minExpPerNight.",
}
#: Flag of observations -> what to do.
_OF_OBSERVATIONS: Mapping[str, str] = {
    "BAD_AIRMASS": "Their airmass is beyond the passbands: check the site, and hour angle and time of the visits.",
    "BAD_MAG": "Their magnitudes are no numbers: look at instMag of the star list.",
    "BAD_ERROR": "Their errors are not positive: look at instMagErr of the star list.",
}
#: Flag of stars -> what to do.
_OF_STARS: Mapping[str, str] = {
    "TOO_FEW_OBS": "Lower minObsPerBand, or shorten requiredBands.",
    "BAD_COLOR": "Check starColorCuts.",
    "VARIABLE": "Begin again with cycle 0: they were flagged as variable before.",
}


def first_causes(flags: npt.NDArray[np.integer]) -> dict[str, int]:
    """Return how many exposures each flag is the first cause of, the most frequent first.

    Parameters
    ----------
    flags
        `ExposureFlag` of exposures.
    """
    left = np.asarray(flags).astype(np.int64)
    counts: dict[str, int] = {}
    for flag in _CAUSES:
        has = (left & int(flag)) != 0
        if has.any():
            counts[str(flag.name)] = int(has.sum())
            left = left[~has]
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def remedies(
    causes: Mapping[str, int],
    n_good: npt.NDArray[np.integer],
    n_observations: int,
    observation_flags: Mapping[str, int],
    star_flags: Mapping[str, int],
) -> str:
    """Return what to do, in sentences: that of the first cause of most exposures comes first.

    Parameters
    ----------
    causes
        From `first_causes`.
    n_good
        Number of good observations of each exposure.
    n_observations
        Number of observations of the exposures.
    observation_flags, star_flags
        Flag -> how many of these observations, and of all stars, have it.
    """
    sentences = []
    for name in causes:
        if name == "NO_STARS":
            sentences.append(_without_stars(n_observations, observation_flags, star_flags))
        else:
            if name == "TOO_FEW_STARS":
                sentences.append(
                    f"Exposures have {n_good.min()} to {n_good.max()} good observations, half of them less than {np.median(n_good):.0f}."
                )
            sentences.append(_REMEDIES[name])
    return " ".join(sentences)


def _without_stars(
    n_observations: int, observation_flags: Mapping[str, int], star_flags: Mapping[str, int]
) -> str:
    """Return what to do about exposures without stars."""
    if n_observations == 0:
        return "The star list has no observation in them: is it of this survey?"
    flagged = max(observation_flags, key=lambda name: observation_flags[name], default="")
    if flagged and 2 * observation_flags[flagged] >= n_observations:
        remedy = _OF_OBSERVATIONS.get(flagged, "Look at what flagged them.")
        return f"{observation_flags[flagged]} of their {n_observations} observations are {flagged}. {remedy}"
    worst = max(_OF_STARS, key=lambda name: star_flags.get(name, 0))
    number = star_flags.get(worst, 0)
    return (
        f"None of their {n_observations} observations is of a star that can be used ({worst} {number} stars). {_OF_STARS[worst]}"
        if number
        else f"None of their {n_observations} observations can be used."
    )
