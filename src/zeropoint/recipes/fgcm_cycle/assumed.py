"""Errors of zeropoints on nights whose atmosphere is assumed, not fitted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.atmosphere import AtmosphereParameters
from zeropoint.fgcm.flags import ZeropointFlag
from zeropoint.fgcm.model.layout import DEFAULT_PRIORS
from zeropoint.fgcm.terms.detector_integrals import detector_integrals
from zeropoint.fgcm.terms.zeropoints import chromatic_offset
from zeropoint.recipes.fgcm_cycle.solution import Solution
from zeropoint.recipes.fgcm_cycle.survey import FloatArray, Survey

__all__ = ["assumed_variance"]

#: Part of the atmosphere -> how far that of a night may be from the standard one: in ln for water and aerosols.
_SPREAD = {
    "pwv": DEFAULT_PRIORS["ln_pwv_intercept"],
    "tau": DEFAULT_PRIORS["ln_tau_intercept"],
    "o3": DEFAULT_PRIORS["o3"],
    "alpha": DEFAULT_PRIORS["alpha"],
}
_IN_LN = ("pwv", "tau")


def assumed_variance(survey: Survey, solution: Solution, flags: npt.NDArray[np.int32]) -> FloatArray:
    """Return what zeropoints lack in precision because the atmosphere of their night is assumed.

    Parameters
    ----------
    survey, solution
        Data and model.
    flags
        Of the exposures, from `zeropoint.fgcm.terms.zeropoints.zeropoint_flags`.

    Returns
    -------
    variance : float64, shape (n_exp, n_det)
        mag^2; 0 for all but NOFIT_NIGHT, and where no atmosphere is fitted at all.

    Notes
    -----
    The light that such a night's atmosphere takes is in the gray, which is measured from stars that other nights have
    calibrated: whatever the atmosphere, zeropoint plus gray give these stars their magnitudes.  What the gray does not
    know is the color term.  The zeropoint is that of a spectrum of slope 0; stars differ from it by F', and their
    chromatic corrections change with the atmosphere.  The variance is the square of that change for a star of the
    band's median slope, added over the parts of the atmosphere, each changed by the spread that the fit takes nights to
    have.
    """
    e, source = survey.data.exposures, survey.passbands
    variance = np.zeros((len(e), e.n_det))
    rows = np.flatnonzero((flags == ZeropointFlag.NOFIT_NIGHT) & (e.filter >= 0))
    if len(rows) == 0 or not source.fitted:
        return variance
    air = solution.parameters.at(e, source.ranges).rows(rows)
    filters, secant = e.filter[rows], survey.secants[rows]
    slope = solution.slopes.median_value[e.band[rows]][:, None]
    i10_std = source.i10_std[filters][:, None]

    def offset(each: AtmosphereParameters) -> FloatArray:
        return chromatic_offset(slope, detector_integrals(source, filters, each, secant).i10, i10_std)

    center = offset(air)
    for name, spread in _SPREAD.items():
        # one of the two may be cut off by the end of the range
        changes = [
            np.abs(offset(_changed(air, name, sign * spread, source.ranges[name])) - center)
            for sign in (-1, 1)
        ]
        variance[rows] += np.square(np.maximum(*changes))
    return variance


def _changed(
    air: AtmosphereParameters, name: str, change: float, limits: tuple[float, float]
) -> AtmosphereParameters:
    """Return an atmosphere with another amount of something."""
    old = getattr(air, name)
    values = vars(air) | {name: np.clip(old * np.exp(change) if name in _IN_LN else old + change, *limits)}
    return AtmosphereParameters(**values)
