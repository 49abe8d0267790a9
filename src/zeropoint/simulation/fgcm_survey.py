"""A simulated survey for the global calibration: truth, and what the visits measured of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table

from zeropoint.errors import InvalidInputError
from zeropoint.simulation.fgcm_camera import SurveyCamera, draw_flats, draw_throughputs
from zeropoint.simulation.fgcm_conditions import draw_nights, draw_visits
from zeropoint.simulation.fgcm_photometry import (
    PhotometryTables,
    integrate,
    photon_constant,
    standard_colors,
    standard_passbands,
)
from zeropoint.simulation.fgcm_physics import FloatArray, Physics, simple_physics
from zeropoint.simulation.fgcm_settings import FgcmSurveySettings
from zeropoint.simulation.fgcm_sky import close_pairs, draw_references, draw_stars
from zeropoint.simulation.fgcm_sources import VisitSources, measure_visit

__all__ = ["FgcmSurvey", "simulate_fgcm_survey"]


@dataclass(frozen=True)
class FgcmSurvey:
    """Everything that is true of a survey; what was measured is drawn visit by visit.

    Parameters
    ----------
    settings
        What was asked for.
    physics
        Spectra and atmosphere.
    camera
        Geometry.
    throughput : float64, shape (n_bands, n_detectors, n_lam)
        On ``physics.wavelength``.
    flats : float64, shape (n_bands, n_detectors, 3, 3)
        Errors of the flat fields (`zeropoint.simulation.fgcm_camera.flat_field`).
    nights, visits, stars
        Tables of `draw_nights`, `draw_visits` and `draw_stars`.
    photometry
        Magnitudes of all spectra in all visits.
    colors : float64, shape (n_bands, n_spectra)
        Standard magnitudes of spectra whose magnitude in the middle band is 0.
    references
        Reference catalogue.
    """

    settings: FgcmSurveySettings
    physics: Physics
    camera: SurveyCamera
    throughput: FloatArray
    flats: FloatArray
    nights: Table
    visits: Table
    stars: Table
    photometry: PhotometryTables
    colors: FloatArray
    references: Table

    @cached_property
    def pairs(self) -> npt.NDArray[np.int64]:
        """Rows of stars that may merge, shape (n, 2)."""
        return close_pairs(self.stars)

    @cached_property
    def passband_sums(self) -> FloatArray:
        """Integral of each standard passband over ln(wavelength), with the unknown throughput factor."""
        passbands = standard_passbands(self.settings, self.physics, self.throughput)
        wavelength = self.physics.wavelength
        return np.asarray(passbands / wavelength @ np.gradient(wavelength) * self.settings.throughput)

    def physical_filter(self, band: str) -> str:
        """Return the name of a band's filter."""
        return f"{band}_fgcm"

    def cloud(self, row: int, u: FloatArray, v: FloatArray) -> FloatArray:
        """Return by how many magnitudes clouds dim a visit at focal-plane positions (pixels).

        Parameters
        ----------
        row
            Row of the visit.
        u, v : float64, shape (n,)
            Pixels from the boresight.
        """
        visit = self.visits[row]
        a, b = u / self.camera.half, v / self.camera.half
        pattern = np.asarray(visit["cloud_pattern"]) @ np.stack([a, b, a**2, a * b, b**2])
        cloud = float(visit["cloud"]) * (1.0 + pattern)
        # a thin cloud may have gaps, but never makes light
        return np.asarray(cloud if visit["photometric"] else np.maximum(cloud, 0.0))

    def gray(self, row: int, u: FloatArray, v: FloatArray) -> FloatArray:
        """Return by how many magnitudes clouds and the dusty mirror dim a visit at focal-plane positions (pixels).

        Parameters
        ----------
        row
            Row of the visit.
        u, v : float64, shape (n,)
            Pixels from the boresight.
        """
        return np.asarray(self.cloud(row, u, v) + float(self.visits["wash_loss"][row]))

    def sky_electrons(self, row: int) -> float:
        """Return the sky of a visit, electrons per pixel.

        Parameters
        ----------
        row
            Row of the visit.
        """
        s, visit = self.settings, self.visits[row]
        rate = photon_constant(s) * self.passband_sums[visit["band"]] * 10.0 ** (-0.4 * float(visit["sky"]))
        return float(rate * s.exposure_time * s.pixel_scale**2)

    def sources(self, row: int) -> VisitSources:
        """Return what a visit (a row of ``visits``) measured; the same at every call."""
        return measure_visit(self, row)

    def all_sources(self) -> Iterator[VisitSources]:
        """Return what the visits measured, in the order of ``visits``."""
        return (self.sources(row) for row in range(len(self.visits)))

    def observations(self, *, on_progress: Callable[[str, int, int], None] | None = None) -> Table:
        """Return the star observations that the default selection keeps, with the truth.

        Parameters
        ----------
        on_progress
            Called with title, visits done and visits in all.

        Returns
        -------
        observations : Table
            The columns of ``fgcmStarObservations`` (ra, dec in radians; pixel area applied), and ``star`` (row of
            ``stars``, -1: none) and ``merged`` (row of the fainter star in the source, -1: none). 73 bytes each.
        """
        parts: dict[str, list[npt.NDArray[np.generic]]] = {}
        for row, sources in enumerate(self.all_sources()):
            for name, values in _observation_columns(self, sources).items():
                parts.setdefault(name, []).append(values)
            if on_progress is not None:
                on_progress("simulating visits", row + 1, len(self.visits))
        table = Table()
        for name in list(parts):
            # each list goes as soon as its column is there
            table.add_column(Column(np.concatenate(parts.pop(name)), name=name), copy=False)
        return table


def simulate_fgcm_survey(settings: FgcmSurveySettings, data: str | Path | None = None) -> FgcmSurvey:
    """Return a survey; the same settings give the same survey.

    Parameters
    ----------
    settings
        What is simulated.
    data
        Folder of test data, for measured physics; default: the variable ``ZEROPOINT_TESTDATA``.

    Raises
    ------
    InvalidInputError
        If there is no such physics, or no data for it.
    """
    physics = _physics(settings, data)
    rngs = [np.random.default_rng([settings.seed, 0xF6C, k]) for k in range(3)]
    camera = SurveyCamera.of(settings)
    throughput = draw_throughputs(settings, physics, rngs[0])
    flats = draw_flats(settings, rngs[0])
    colors, spectra = standard_colors(settings, physics, throughput)
    nights = draw_nights(settings, rngs[1])
    visits = draw_visits(settings, nights, rngs[1])
    stars = draw_stars(settings, physics, colors, rngs[2])
    references = draw_references(settings, stars, rngs[2])
    photometry = integrate(settings, physics, throughput, spectra, visits)
    return FgcmSurvey(
        settings, physics, camera, throughput, flats, nights, visits, stars, photometry, colors, references
    )


def _physics(settings: FgcmSurveySettings, data: str | Path | None) -> Physics:
    if settings.physics == "simple":
        return simple_physics()
    if settings.physics == "measured":
        from zeropoint.simulation.fgcm_measured import measured_physics

        return measured_physics(data, settings.water_720)
    raise InvalidInputError(
        f"simulated survey: there is no physics {settings.physics!r}; there are 'measured' and 'simple'."
    )


def _observation_columns(survey: FgcmSurvey, sources: VisitSources) -> dict[str, npt.NDArray[np.generic]]:
    """Return the observations of a visit's clean sources."""
    s = sources.clean
    n = int(s.sum())
    jacobian = sources.jacobian[s]
    return {
        "ra": sources.ra[s],
        "dec": sources.dec[s],
        "x": sources.x[s],
        "y": sources.y[s],
        "psf_candidate": sources.magnitude_err[s] < 0.02,
        "visit": np.full(n, survey.visits["visit"][sources.row], np.int64),
        "ccd": sources.detector[s],
        "instMag": (sources.magnitude[s] - 2.5 * np.log10(jacobian)).astype(np.float32),
        "instMagErr": sources.magnitude_err[s].astype(np.float32),
        "jacobian": jacobian.astype(np.float32),
        "deltaMagBkg": np.zeros(n, np.float32),
        "deltaMagAper": sources.delta_aperture[s].astype(np.float32),
        "star": sources.star[s],
        "merged": sources.merged[s],
    }
