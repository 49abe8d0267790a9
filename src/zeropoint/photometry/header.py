"""What Rubin's calibration tasks say of the zero point in an exposure's metadata."""

from __future__ import annotations

import logging

import numpy as np

from zeropoint.photometry.photocal_result import PhotoCalResult

__all__ = ["magzero_metadata"]

_log = logging.getLogger(__name__)


def magzero_metadata(result: PhotoCalResult, exposure_time: float) -> dict[str, int | float]:
    """Return the keys MAGZERO, MAGZERO_RMS, MAGZERO_NOBJ and COLORTERM1-3 of a photometric calibration.

    Parameters
    ----------
    result
        The calibration.
    exposure_time
        Seconds.

    Returns
    -------
    metadata : dict
        ``MAGZERO`` is the AB magnitude of one count per second (NaN without an exposure time), ``MAGZERO_RMS`` the
        error of the zero point (not a scatter, whatever its name), ``MAGZERO_NOBJ`` the number of stars behind it.
        ``COLORTERM1`` to ``3`` are c0, c1, c2 of ``m_camera - m_catalogue = c0 + c1 C + c2 C^2`` for the colour C
        of the colour term that was applied, given or fitted; zeros without one.

    Notes
    -----
    The keys are those of CalibrateTask of the LSST Science Pipelines, whose COLORTERM1-3 are always zero.
    """
    magzero = float("nan")
    if exposure_time > 0:
        magzero = result.zp - 2.5 * float(np.log10(exposure_time))
    else:
        _log.warning(
            "The exposure time is not known: MAGZERO, the magnitude of one count per second, is NaN."
        )
    c0, c1, c2 = result.color_coefficients
    return {
        "MAGZERO": magzero,
        "MAGZERO_RMS": result.sigma,
        "MAGZERO_NOBJ": result.n_good,
        "COLORTERM1": c0,
        "COLORTERM2": c1,
        "COLORTERM3": c2,
    }
