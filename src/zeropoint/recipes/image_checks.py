"""What recipes ask of the pixels of an image before they work on it, and count when they are done."""

from __future__ import annotations

import numpy as np

from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.mask_planes import LEGACY_NAMES, PLANES
from zeropoint.errors import TooManyMaskedPixelsError
from zeropoint.kernels.statistics import count_bits

__all__ = ["mask_fractions", "require_unsaturated"]


def require_unsaturated(exposure: Exposure) -> None:
    """Raise if nothing of the image is below saturation, which no later step would say as clearly.

    Raises
    ------
    TooManyMaskedPixelsError
        If every pixel is saturated, bad or without data.
    """
    if (exposure.masked("SATURATED", "NO_DATA", "BAD")).all():
        raise TooManyMaskedPixelsError(
            "Every pixel is saturated, bad or without data, so nothing can be measured. If the image is not saturated, "
            "correct the saturation level (`saturation:` in the camera card)."
        )


def mask_fractions(exposure: Exposure) -> dict[str, float]:
    """Return the fraction of pixels with each mask plane, as ``<plane>_mask_fraction`` under Rubin's names."""
    counts = np.empty(31, np.int64)
    count_bits(exposure.mask, counts)
    return {
        f"{LEGACY_NAMES[plane].lower()}_mask_fraction": float(counts[bit]) / exposure.mask.size
        for plane, (bit, _) in PLANES.items()
    }
