"""Passband integrals at the center of every detector, each with its own secant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.atmosphere import AtmosphereParameters

if TYPE_CHECKING:
    from zeropoint.fgcm.model.passband_source import PassbandSource

__all__ = ["DetectorIntegrals", "detector_integrals", "with_airmass", "with_pwv"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DetectorIntegrals:
    """Integrals, shape (n_exp, n_det); NaN for exposures without passband.

    Parameters
    ----------
    i0
        INT S(lam)/lam dlam.
    i10
        I1/I0, Angstrom.
    """

    i0: FloatArray
    i10: FloatArray


def with_airmass(parameters: AtmosphereParameters, airmass: npt.ArrayLike) -> AtmosphereParameters:
    """Return parameters with another secant.

    Parameters
    ----------
    parameters
        Of n exposures.
    airmass : shape (n,)
        Secants.
    """
    p = parameters
    return AtmosphereParameters(p.pmb, p.pwv, p.o3, p.tau, p.alpha, airmass)


def with_pwv(parameters: AtmosphereParameters, pwv: npt.ArrayLike) -> AtmosphereParameters:
    """Return parameters with another water vapor.

    Parameters
    ----------
    parameters
        Of n exposures.
    pwv : shape (n,)
        Water vapor, mm.
    """
    p = parameters
    return AtmosphereParameters(p.pmb, pwv, p.o3, p.tau, p.alpha, p.airmass)


def detector_integrals(
    source: PassbandSource,
    filter_index: npt.NDArray[np.integer],
    parameters: AtmosphereParameters,
    secant: FloatArray,
) -> DetectorIntegrals:
    """Integrate the passbands at the detectors' centers.

    Parameters
    ----------
    source
        Of the passbands.
    filter_index : shape (n_exp,)
        Filter of each exposure, -1 for none.
    parameters
        Of the n_exp exposures; their secants are not used.
    secant : shape (n_exp, n_det)
        At the detectors' centers; clipped to what the source covers.

    Returns
    -------
    integrals : DetectorIntegrals

    Notes
    -----
    2.5 log10 I0 and I10 are linear between the smallest and the largest secant of an exposure's detectors, as they are between
    those of its stars in the fit: over a field of 3 degrees at 60 degrees from the zenith that is right to 0.1 mmag.
    """
    limits = source.ranges["airmass"]
    x = np.clip(secant, *limits)
    low, high = x.min(axis=1), x.max(axis=1)
    # a node of its own where all detectors are at one secant
    high = np.where(high - low < 1e-6, low + 1e-6, high)
    i0, i10 = np.full(x.shape, np.nan), np.full(x.shape, np.nan)
    for index in np.unique(filter_index[filter_index >= 0]).tolist():
        rows = np.flatnonzero(filter_index == index)
        part = parameters.rows(rows)
        both = np.concatenate([np.arange(len(rows))] * 2)
        nodes = with_airmass(part.rows(both), np.concatenate([low[rows], high[rows]]))
        found = source.evaluate(index, nodes, derivatives=False)
        t = (x[rows] - low[rows, None]) / (high - low)[rows, None]
        log, moment = np.log(found.i0), found.i10
        n = len(rows)
        i0[rows] = np.exp(log[:n] + t * (log[n:] - log[:n]))
        i10[rows] = moment[:n] + t * (moment[n:] - moment[:n])
    return DetectorIntegrals(i0, i10)
