"""Magnitudes of every spectrum in every visit and detector: spectra integrated through throughput and air.

Nothing is expanded about a wavelength: for each visit, detector and spectrum the product of spectrum, throughput and
atmosphere is summed over the wavelengths, at three secants across the field; stars in between are interpolated (the
error of that is below 1e-3 mmag).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zeropoint.simulation.fgcm_conditions import secant
from zeropoint.simulation.fgcm_physics import FloatArray, Physics
from zeropoint.simulation.fgcm_settings import FgcmSurveySettings

__all__ = ["PhotometryTables", "integrate", "photon_constant", "standard_colors"]

#: Planck's constant, erg s, and the AB system's zero.
_PLANCK, _AB_ZERO = 6.62607015e-27, 48.6
#: Visits whose atmospheres are held at once.
_CHUNK = 200


@dataclass(frozen=True)
class PhotometryTables:
    """Instrumental magnitudes of spectra whose magnitude in the middle band is 0.

    Parameters
    ----------
    secants : float64, shape (n_visits, 3)
        Nodes: the smallest secant in the field, the middle, the largest.
    magnitudes : float64, shape (n_visits, n_detectors, 3, n_spectra)
        ``-2.5 log10`` of electrons per second, of light that nothing but throughput and clear air has dimmed.
    """

    secants: FloatArray
    magnitudes: FloatArray

    def of(
        self, visit: int, detector: npt.NDArray[np.integer], spectrum: npt.NDArray[np.integer], x: FloatArray
    ) -> FloatArray:
        """Return the instrumental magnitudes of stars of one visit (a row), each with its own secant.

        Parameters
        ----------
        visit
            Row of the visit.
        detector, spectrum : shape (n,)
            Detector and row of the spectrum of each star.
        x : float64, shape (n,)
            Secant of each star.

        Returns
        -------
        magnitudes : float64, shape (n,)
        """
        _, middle, high = self.secants[visit]
        t = (x - middle) / (high - middle)
        nodes = self.magnitudes[visit][detector, :, spectrum]
        square = 0.5 * (nodes[:, 0] + nodes[:, 2]) - nodes[:, 1]
        return np.asarray(nodes[:, 1] + t * (0.5 * (nodes[:, 2] - nodes[:, 0]) + t * square))


def photon_constant(settings: FgcmSurveySettings) -> float:
    """Return the electrons per second of magnitude 0 for a passband whose integral over ln(wavelength) is 1.

    Parameters
    ----------
    settings
        Settings of the survey.
    """
    return settings.aperture_area / _PLANCK * 10.0 ** (-0.4 * _AB_ZERO)


def standard_passbands(settings: FgcmSurveySettings, physics: Physics, throughput: FloatArray) -> FloatArray:
    """Return the passbands of standard magnitudes, shape (n_bands, n_lam).

    The mean throughput of the detectors, through the standard atmosphere of the site.

    Parameters
    ----------
    settings
        Settings of the survey.
    physics
        Air and spectra.
    throughput : float64, shape (n_bands, n_detectors, n_lam)
        From `zeropoint.simulation.fgcm_camera.draw_throughputs`.
    """
    site = settings.site
    standard = (site.pressure, site.pwv, site.ozone, site.tau, site.alpha, site.airmass)
    air = physics.transmission(*(np.array([value]) for value in standard))[0]
    return np.asarray(throughput.mean(axis=1) * air)


def standard_colors(
    settings: FgcmSurveySettings, physics: Physics, throughput: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the standard magnitudes of spectra, and the spectra scaled so that those of the middle band are 0.

    Parameters
    ----------
    settings
        Settings of the survey.
    physics
        Air and spectra.
    throughput : float64, shape (n_bands, n_detectors, n_lam)
        From `zeropoint.simulation.fgcm_camera.draw_throughputs`.

    Returns
    -------
    colors : float64, shape (n_bands, n_spectra)
        Standard magnitudes of the scaled spectra.
    spectra : float64, shape (n_spectra, n_lam)
        Flux per unit of frequency over that of magnitude 0.
    """
    weights = standard_passbands(settings, physics, throughput) / physics.wavelength
    mean = weights @ physics.spectra.T / weights.sum(axis=1)[:, None]
    middle = (len(settings.bands) - 1) // 2
    spectra = physics.spectra / mean[middle][:, None]
    return -2.5 * np.log10(mean / mean[middle]), spectra


def integrate(
    settings: FgcmSurveySettings, physics: Physics, throughput: FloatArray, spectra: FloatArray, visits: Table
) -> PhotometryTables:
    """Return the magnitudes of all spectra in all visits.

    Parameters
    ----------
    settings, physics
        Survey and its physics.
    throughput : float64, shape (n_bands, n_detectors, n_lam)
        Of `~zeropoint.simulation.fgcm_camera.draw_throughputs`.
    spectra : float64, shape (n_spectra, n_lam)
        Scaled, of `standard_colors`.
    visits
        Of `~zeropoint.simulation.fgcm_conditions.draw_visits`.
    """
    secants = _secants(settings, visits)
    n = len(visits)
    magnitudes = np.empty((n, settings.n_detectors, 3, len(spectra)))
    step = physics.wavelength[1] - physics.wavelength[0]
    factor = photon_constant(settings) * settings.throughput * step
    band = np.asarray(visits["band"])
    air = [np.asarray(visits[name], np.float64) for name in ("pressure", "pwv", "ozone", "tau", "alpha")]
    for b in range(len(settings.bands)):
        # sums over all wavelengths where any detector sees anything; the ends of the grid are dark
        seen = np.any(throughput[b] > 0.0, axis=0)
        kernels = throughput[b][:, None, seen] * (spectra[:, seen] / physics.wavelength[seen])
        rows = np.flatnonzero(band == b)
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            x = secants[chunk].ravel()
            p, w, o, tau, alpha = (np.repeat(value[chunk], 3) for value in air)
            transmission = physics.transmission(p, w, o, tau, alpha, x)[:, seen]
            for d in range(settings.n_detectors):
                rates = factor * (transmission @ kernels[d].T)
                magnitudes[chunk, d] = -2.5 * np.log10(rates).reshape(len(chunk), 3, -1)
    return PhotometryTables(secants, magnitudes)


def _secants(settings: FgcmSurveySettings, visits: Table) -> FloatArray:
    """Return the nodes of the secant: what the field reaches, whatever its rotation."""
    latitude = np.deg2rad(settings.site.latitude)
    reach = np.deg2rad(0.75 * settings.camera_side)  # half the diagonal, and something for the distortion
    angle = np.arange(12) * (np.pi / 6.0)
    nodes = np.empty((len(visits), 3))
    for k, (ra, dec, hour_angle) in enumerate(
        zip(*(np.deg2rad(visits[name]) for name in ("ra", "dec", "hour_angle")))
    ):
        around = secant(
            ra + reach * np.cos(angle) / np.cos(dec), dec + reach * np.sin(angle), hour_angle, ra, latitude
        )
        nodes[k, 0], nodes[k, 2] = around.min(), around.max()
    nodes[:, 1] = 0.5 * (nodes[:, 0] + nodes[:, 2])
    return nodes
