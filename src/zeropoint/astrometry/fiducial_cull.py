"""Drop references that are far brighter or fainter than the sources, given a rough zero point."""

from __future__ import annotations

import numpy as np

__all__ = ["fiducial_reference_cull"]

#: Colour shifts (mag) above which the interval is widened.
_LARGE_SHIFT = 0.3
_VERY_LARGE_SHIFT = 0.9


def fiducial_reference_cull(
    source_mag: np.ndarray,
    ref_mag: np.ndarray,
    *,
    ref_color_delta: float,
    buffer: float,
    max_ref_to_source_ratio: float,
) -> np.ndarray:
    """Select the references whose magnitudes the sources can have.

    Parameters
    ----------
    source_mag : float64, shape (n,)
        Magnitudes of the sources under a fiducial zero point and the exposure time.
    ref_mag : float64, shape (m,)
        Magnitudes of the references.
    ref_color_delta
        Typical (reference band - image band) colour.
    buffer
        Margin on both ends, mag.
    max_ref_to_source_ratio
        With more references than this for each source, the bright end is not cut.

    Returns
    -------
    keep : bool, shape (m,)
        Everything if no magnitude is finite.
    """
    finite = source_mag[np.isfinite(source_mag)]
    known = np.isfinite(ref_mag)
    if len(finite) == 0 or not known.any():
        return np.ones(len(ref_mag), bool)
    brightest = float(ref_mag[known].min())
    low, high = float(finite.min()) - buffer, float(finite.max()) + buffer
    shift = ref_color_delta
    if shift > _VERY_LARGE_SHIFT:
        low, high = brightest, high + shift
    elif shift > _LARGE_SHIFT:
        low, high = low + 0.5 * shift, high + 0.5 * shift
    elif shift < -_LARGE_SHIFT:
        low, high = brightest, high + shift
    else:
        low, high = low + shift, high + shift
    if len(ref_mag) > max_ref_to_source_ratio * len(source_mag):
        low = brightest
    with np.errstate(invalid="ignore"):
        return np.asarray((ref_mag >= low) & (ref_mag <= high))
