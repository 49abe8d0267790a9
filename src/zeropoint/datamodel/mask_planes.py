"""Mask planes: one table of names, bits and meanings, and the aliases that configs may use.

Names in memory and on disk are those of ``lsst.images``; every config field also accepts the older names
(``SAT``, ``INTRP``, ``CR``, ``EDGE``) through `canonical_name`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from zeropoint.errors import InvalidInputError

__all__ = ["ALIASES", "LEGACY_NAMES", "PLANES", "bitmask", "canonical_name", "has_any", "plane_bit"]

#: Plane name -> (bit number, meaning).  Mask arrays are int32, so at most 31 planes.
PLANES: dict[str, tuple[int, str]] = {
    "BAD": (0, "Bad pixel in the instrument, including bad amplifiers."),
    "SATURATED": (1, "Pixel was saturated or affected by saturation in a neighboring pixel."),
    "INTERPOLATED": (2, "Original pixel value was interpolated."),
    "COSMIC_RAY": (3, "A cosmic ray affected this pixel."),
    "DETECTION_EDGE": (4, "Pixel was too close to the edge to be considered for detection."),
    "DETECTED": (5, "Pixel was part of a detected source."),
    "DETECTED_NEGATIVE": (6, "Pixel was part of a detected source with negative flux."),
    "SUSPECT": (7, "Pixel was close to the saturation level."),
    "NO_DATA": (8, "No data was available for this pixel."),
    "NOT_DEBLENDED": (9, "Pixel belonged to a detection that was not deblended."),
    "SPIKE": (10, "Pixel is in the neighborhood of a diffraction spike from a bright star."),
    "STREAK": (11, "An extended streak (probably an artificial satellite) affected this pixel."),
    "VIGNETTED": (12, "Pixel was vignetted by the optics."),
    "PARTLY_VIGNETTED": (13, "Pixel was partly vignetted by the optics."),
    "CROSSTALK": (14, "Pixel was affected by crosstalk and corrected accordingly."),
    "ITL_DIP": (15, "Pixel was affected by a dark vertical trail from a bright source."),
    "UNMASKED_NAN": (16, "Pixel was found to be NaN unexpectedly."),
}

#: Older name -> name used here.
ALIASES: dict[str, str] = {
    "SAT": "SATURATED",
    "INTRP": "INTERPOLATED",
    "CR": "COSMIC_RAY",
    "EDGE": "DETECTION_EDGE",
    "UNMASKEDNAN": "UNMASKED_NAN",
}

#: Name used here -> older name (identity where there is none): the stem of metadata keys
#: such as ``sat_mask_fraction``.
LEGACY_NAMES: dict[str, str] = {name: name for name in PLANES} | {new: old for old, new in ALIASES.items()}


def canonical_name(name: str) -> str:
    """Return the plane name used here for a new or older name.

    Raises
    ------
    InvalidInputError
        If no plane has that name.
    """
    result = ALIASES.get(name, name)
    if result not in PLANES:
        known = ", ".join(sorted(PLANES) + sorted(ALIASES))
        raise InvalidInputError(f"Unknown mask plane {name!r}; known planes are {known}.")
    return result


def plane_bit(name: str) -> int:
    """Return the int32 value with only this plane's bit set."""
    return 1 << PLANES[canonical_name(name)][0]


def bitmask(names: Iterable[str]) -> int:
    """Return the OR of the bits of some planes, new or older names alike."""
    result = 0
    for name in names:
        result |= plane_bit(name)
    return result


def has_any(mask: np.ndarray, names: Iterable[str]) -> np.ndarray:
    """Return a boolean array (same shape) that is True where any of the planes is set."""
    return (mask & np.int32(bitmask(names))) != 0
