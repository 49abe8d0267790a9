"""Passbands that are narrow for the steps of the wavelengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.atmosphere import Atmosphere, AtmosphereParameters
from zeropoint.fgcm.passbands import StandardPassbands
from zeropoint.fgcm.quadrature import passband_integrals

__all__ = ["sampling_errors"]

FloatArray = npt.NDArray[np.float64]

#: Passbands with fewer wavelengths of at least half of their greatest throughput are narrow.
_FEW = 20
#: Steps of the finer wavelengths in one of the others.
_FINER = 20


def sampling_errors(
    passbands: StandardPassbands,
    atmosphere: Atmosphere,
    pmb: float,
    places: Mapping[str, FloatArray],
    mean_throughput: Callable[[str, FloatArray], FloatArray],
) -> dict[str, tuple[int, float]]:
    """Return how wrong the integrals of narrow passbands are, for the mean over the focal plane.

    Parameters
    ----------
    passbands, atmosphere, pmb
        As of `zeropoint.fgcm.lut_interpolation.interpolation_error`.
    places
        Atmospheres: as of `zeropoint.fgcm.lut_interpolation.places_within`.
    mean_throughput
        Returns the mean throughput of a filter at wavelengths.

    Returns
    -------
    errors
        Narrow filter -> number of wavelengths in its passband, and the largest error of 2.5 log10 I0 over the places, their
        median removed, in mmag: against an integral in twenty times finer steps, between which the atmosphere is linear.
    """
    parameters = AtmosphereParameters(
        pmb=np.full(len(places["o3"]), pmb),
        pwv=np.exp(places["ln_pwv"]),
        o3=places["o3"],
        tau=np.exp(places["ln_tau"]),
        alpha=places["alpha"],
        airmass=places["secant"],
    )
    wavelength, found = atmosphere.wavelength, {}
    for each in passbands.passbands:
        throughput = each.detector_throughput[-1]
        n = int(np.count_nonzero(throughput >= 0.5 * throughput.max()))
        if n >= _FEW:
            continue
        i0 = passband_integrals(atmosphere, parameters, throughput, each.lambda_std, derivatives=False).i0
        bright = np.flatnonzero(throughput > 0)
        near = wavelength[max(bright[0] - 1, 0) : bright[-1] + 2]
        fine = np.linspace(near[0], near[-1], _FINER * (len(near) - 1) + 1)
        weights = mean_throughput(each.physical_filter, fine) / fine * np.gradient(fine)
        transmission = atmosphere.transmission(parameters)
        direct = np.array([weights @ np.interp(fine, wavelength, row) for row in transmission])
        difference = 2500.0 * np.log10(i0[:, 0] / direct)
        found[each.physical_filter] = (n, float(np.abs(difference - np.median(difference)).max()))
    return found
