"""A filter's integrals at a few well-chosen wavelengths.

Transmissions of an atmosphere are many numbers but few degrees of freedom: over all water, ozone, aerosols and airmasses
those in one filter span, to a hundred thousandth, a space of some tens of dimensions.  At as many wavelengths the whole
curve is known, so its integrals are weighted sums of its values there.  The weights are found once for a filter, for all
detectors together; the integrals and their derivatives then cost a tenth, and the derivatives are those of the sums.

References
----------
Golub, G. 1965, Numer. Math. 7, 206 (orthogonalization with pivots, which chooses the wavelengths).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.atmosphere import MAX_AIRMASS, Atmosphere, AtmosphereParameters
from zeropoint.fgcm.magnitudes import MAG_PER_LN
from zeropoint.fgcm.quadrature import PassbandIntegrals, PassbandMoments, integrate_moments

__all__ = ["ReducedPassband", "reduce_passband"]

FloatArray = npt.NDArray[np.float64]

#: Atmospheres from which wavelengths are chosen, and others on which they are tried.
_N_SAMPLES, _N_TRIALS = 128, 192
#: Fewest wavelengths of a filter.
_LEAST = 8


@dataclass(frozen=True)
class ReducedPassband:
    """A filter at the wavelengths that stand for all.

    Parameters
    ----------
    atmosphere
        At these wavelengths.
    moments
        Their weights for each moment and detector.
    error
        Largest error of 2.5 log10 I0 that was seen, magnitudes.
    """

    atmosphere: Atmosphere
    moments: PassbandMoments
    error: float

    def integrate(self, parameters: AtmosphereParameters, names: Sequence[str]) -> PassbandIntegrals:
        """Return the integrals of n exposures.

        Parameters
        ----------
        parameters
            Of n exposures.
        names
            Parameters by which derivatives are wanted.
        """
        return integrate_moments(self.atmosphere, parameters, self.moments, names)


def reduce_passband(
    atmosphere: Atmosphere,
    throughput: FloatArray,
    lambda_std: float,
    ranges: Mapping[str, tuple[float, float]],
    pmb: float,
    max_error: float,
) -> ReducedPassband:
    """Choose wavelengths and weights for a filter.

    Parameters
    ----------
    atmosphere
        At the wavelengths of the throughput.
    throughput
        Of the detectors, shape (n_det, wavelengths).
    lambda_std
        About which the moments are, Angstrom.
    ranges
        Between which values the atmosphere is; keys pwv, o3, tau, alpha, airmass.
    pmb
        Pressure around which the atmosphere is, mb; tried are pressures to 5 % beside it.
    max_error
        Of 2.5 log10 I0 and of the colour that I1 stands for, magnitudes, for the worst atmosphere and detector tried.
    """
    full = PassbandMoments.of(atmosphere.wavelength, throughput, lambda_std)
    in_band = atmosphere.at(atmosphere.wavelength[full.support])
    curves = in_band.transmission(_atmospheres(_N_SAMPLES, ranges, pmb))
    others = _atmospheres(_N_SAMPLES + _N_TRIALS, ranges, pmb).rows(slice(_N_SAMPLES, None))
    trials = in_band.transmission(others)
    exact = full.integrate(trials)
    # what has no light needs no accuracy
    light = np.abs(full.matrix[:, : full.n_detectors]).max(axis=1)
    integrals = curves @ full.matrix

    def reduced(order: list[int]) -> ReducedPassband | None:
        nodes = np.sort(order)
        weights = np.linalg.lstsq(curves[:, nodes], integrals)[0]
        moments = PassbandMoments(slice(0, len(nodes)), weights, full.n_moments, full.n_detectors)
        error = _error(moments.integrate(trials[:, nodes]), exact)
        if error > max_error:
            return None
        return ReducedPassband(in_band.at(in_band.wavelength[nodes]), moments, error)

    order: list[int] = []
    for column in _by_importance(curves * (light / light.max()), max_error):
        order.append(column)
        if len(order) >= _LEAST and (found := reduced(order)) is not None:
            return found
    if len(order) < _LEAST and (found := reduced(order)) is not None:
        return found
    return ReducedPassband(in_band, full, 0.0)


def _by_importance(curves: FloatArray, least: float) -> Iterator[int]:
    """Yield columns in the order in which they tell most that those before do not; `least`: of what the first tells."""
    left, strongest = curves.copy(), 0.0
    for _ in range(min(curves.shape)):
        strengths = np.einsum("ij,ij->j", left, left)
        best = int(np.argmax(strengths))
        strongest = max(strongest, float(strengths[best]))
        # what is left of the last few is noise of rounding
        if strengths[best] <= (1e-2 * least) ** 2 * strongest:
            return
        yield best
        direction = left[:, best] / np.sqrt(strengths[best])
        left -= np.outer(direction, direction @ left)


def _error(found: FloatArray, exact: FloatArray) -> float:
    """Return the largest error of the magnitude, and of what I10 does to a star of slope 1e-4 per Angstrom."""
    if not (found[0] > 0).all():
        return float("inf")
    magnitude = MAG_PER_LN * np.abs(np.log(found[0] / exact[0])).max()
    color = MAG_PER_LN * 1e-4 * np.abs(found[1] / found[0] - exact[1] / exact[0]).max()
    return float(max(magnitude, color))


def _atmospheres(n: int, ranges: Mapping[str, tuple[float, float]], pmb: float) -> AtmosphereParameters:
    """Return n atmospheres spread evenly over the ranges: the additive sequence of Roberts (2018)."""
    root = 1.0
    for _ in range(50):
        root = (1.0 + root) ** (1.0 / 7)
    unit = (0.5 + np.arange(1, n + 1)[:, None] * root ** -np.arange(1.0, 7.0)) % 1.0

    def between(column: int, low: float, high: float) -> FloatArray:
        # beyond the ends, so that they are within what was tried
        return low + (1.06 * unit[:, column] - 0.03) * (high - low)

    return AtmosphereParameters(
        pmb=between(0, 0.95 * pmb, 1.05 * pmb),
        pwv=np.exp(between(1, *np.log(ranges["pwv"]))),
        o3=np.maximum(between(2, *ranges["o3"]), 0.0),
        tau=np.exp(between(3, *np.log(ranges["tau"]))),
        alpha=between(4, *ranges["alpha"]),
        airmass=np.clip(between(5, *ranges["airmass"]), 1.0, MAX_AIRMASS),
    )
