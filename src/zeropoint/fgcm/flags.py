"""Why observations, stars and exposures are not used, and what zeropoints are worth: the bits of the flags.

The bits are those of the fgcm package, so that its programs read our tables.
"""

from __future__ import annotations

from enum import IntFlag

__all__ = ["PERSISTENT_STAR_FLAGS", "ExposureFlag", "ObservationFlag", "StarFlag", "ZeropointFlag"]


class ObservationFlag(IntFlag):
    """Why an observation is not used (``obsFlag``)."""

    NO_EXPOSURE = 1 << 0
    """Its visit is not in the catalogue of visits."""
    BAD_ERROR = 1 << 1
    """Its error is not positive or not finite."""
    SUPERSTAR_OUTLIER = 1 << 2
    """Far from the others of its epoch, filter and detector."""
    NO_ZEROPOINT = 1 << 4
    """Its exposure and detector have no zeropoint."""
    BAD_MAG = 1 << 5
    """Its magnitude is not finite."""
    BAD_AIRMASS = 1 << 6
    """Its airmass is out of the range of the atmosphere, and clipped."""
    FOCALPLANE_OUTLIER = 1 << 7
    """Far from the others of its exposure."""
    FOCALPLANE_OUTLIER_REF = 1 << 8
    """The same, measured against reference magnitudes."""


class StarFlag(IntFlag):
    """Why a star is not used, or not for the fit (``objFlag``)."""

    TOO_FEW_OBS = 1 << 0
    """Too few good observations in a band that is needed."""
    BAD_COLOR = 1 << 1
    """Its colours fail a cut."""
    VARIABLE = 1 << 2
    """It varies."""
    TEMPORARY_BAD_STAR = 1 << 3
    """Not used in this step."""
    RESERVED = 1 << 4
    """Kept out of the fit, for tests of it."""
    REFSTAR_OUTLIER = 1 << 5
    """Its reference magnitude is far from its own."""
    BAD_QUANTITY = 1 << 6
    """A quantity that is needed is not there."""
    REFSTAR_BAD_COLOR = 1 << 7
    """Its reference colours fail a cut."""
    REFSTAR_RESERVED = 1 << 8
    """Its reference magnitude is kept out of the fit."""


#: What one cycle hands to the next.
PERSISTENT_STAR_FLAGS = (
    StarFlag.VARIABLE | StarFlag.RESERVED | StarFlag.REFSTAR_OUTLIER | StarFlag.REFSTAR_RESERVED
)


class ExposureFlag(IntFlag):
    """Why an exposure is not used in the fit (``expFlag``)."""

    TOO_FEW_STARS = 1 << 0
    """It has stars, but too few."""
    EXP_GRAY_TOO_NEGATIVE = 1 << 1
    """Clouds."""
    VAR_GRAY_TOO_LARGE = 1 << 2
    """Its gray varies over the focal plane."""
    TOO_FEW_EXP_ON_NIGHT = 1 << 3
    """Its night has too few exposures that can be used."""
    NO_STARS = 1 << 4
    """It has no star."""
    BAND_NOT_IN_LUT = 1 << 5
    """Its filter has no band, or no passband is known of it."""
    TEMPORARY_BAD_EXPOSURE = 1 << 6
    """Not used in this step."""
    EXP_GRAY_TOO_POSITIVE = 1 << 7
    """Brighter than the model."""
    BAD_ZPFLAG = 1 << 8
    """Its zeropoint is flagged."""
    BAD_FWHM = 1 << 9
    """Its seeing is bad."""


class ZeropointFlag(IntFlag):
    """Where a zeropoint comes from (``fgcmFlag``)."""

    PHOTOMETRIC_FIT_EXPOSURE = 1
    """A photometric exposure that was used in the fit."""
    PHOTOMETRIC_NOTFIT_EXPOSURE = 2
    """A photometric exposure in a band that is not fitted."""
    NON_PHOTOMETRIC_FIT_NIGHT = 4
    """A non-photometric exposure on a night with a fit."""
    NOFIT_NIGHT = 8
    """A night without a fit: standard atmosphere, and the detector's gray."""
    CANNOT_COMPUTE_ZEROPOINT = 16
    """There is no zeropoint."""
    TOO_FEW_STARS_ON_CCD = 32
    """Too few stars on the detector, and the exposure has no gray that could stand in."""
