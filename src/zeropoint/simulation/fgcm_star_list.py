"""The star list and the passbands of a simulated survey in memory: what a fit takes, without tables of sources."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from zeropoint.datamodel.wcs import unit_vectors
from zeropoint.fgcm.atmosphere import Atmosphere, AtmosphereParameters
from zeropoint.fgcm.lut_grid import StandardAtmosphere
from zeropoint.fgcm.magnitudes import MAG_PER_LN
from zeropoint.fgcm.match_config import StarMatchingConfig
from zeropoint.fgcm.model.passband_source import QuadraturePassbands
from zeropoint.fgcm.passbands import filter_throughputs, standard_passbands
from zeropoint.fgcm.stars import match_stars
from zeropoint.fgcm.terms.groups import group_medians
from zeropoint.fgcm.visits import describe_visits
from zeropoint.simulation.fgcm_survey import FgcmSurvey
from zeropoint.simulation.fgcm_tables import throughput_curves

__all__ = ["SimulatedStarList", "star_list", "survey_atmosphere", "survey_passbands"]

_ARCSEC = np.pi / 180.0 / 3600.0
#: Step of the wavelengths of the fit's passbands, Angstrom.
_STEP = 5.0
#: Largest distance of a reference star, radians.
_REFERENCE_RADIUS = 1.0 * _ARCSEC
#: Errors of the magnitudes from which the seeing of a visit is told, mag.
_BRIGHT = 0.02


@dataclass(frozen=True)
class SimulatedStarList:
    """Tables as ``fgcmBuildStarsTable`` makes them.

    Parameters
    ----------
    visits, observations, ids, indices, references
        ``fgcmVisitCatalog``, ``fgcmStarObservations`` (with the true ``star`` and ``merged``), ``fgcmStarIds``,
        ``fgcmStarIndices`` and ``fgcmReferenceStars``.
    """

    visits: Table
    observations: Table
    ids: Table
    indices: Table
    references: Table


def survey_atmosphere(survey: FgcmSurvey) -> StandardAtmosphere:
    """Return the standard atmosphere of a survey's site.

    Parameters
    ----------
    survey
        Survey.
    """
    site = survey.settings.site
    return StandardAtmosphere(site.pressure, site.pwv, site.ozone, site.tau, site.alpha, site.airmass)


def survey_passbands(survey: FgcmSurvey) -> QuadraturePassbands:
    """Return the integrals that a user of a survey's throughput curves computes: with the package's atmosphere.

    Parameters
    ----------
    survey
        Survey; its throughput is known but for the gray factor of its settings.
    """
    s = survey.settings
    wavelength = np.arange(np.ceil(survey.physics.wavelength[0] / _STEP) * _STEP, 11000.0 + 1.0, _STEP)
    wavelength = wavelength[wavelength <= survey.physics.wavelength[-1]]
    atmosphere = Atmosphere.for_site(s.site.elevation, wavelength=wavelength)
    curves = throughput_curves(survey)
    throughputs = filter_throughputs(
        list(curves), range(s.n_detectors), wavelength, optics=None, sensors=None,
        filter_curve=lambda name, detector: curves[name][detector],
    )  # fmt: skip
    standard = survey_atmosphere(survey)
    parameters = {k: getattr(standard, k) for k in ("pmb", "pwv", "o3", "tau", "alpha", "airmass")}
    transmission = atmosphere.transmission(AtmosphereParameters(**parameters))[0]
    return QuadraturePassbands(
        atmosphere, standard_passbands(throughputs, transmission, list(curves)), standard
    )


def star_list(survey: FgcmSurvey) -> SimulatedStarList:
    """Return the star list of a survey.

    Parameters
    ----------
    survey
        Survey; every visit is measured.
    """
    observations = survey.observations()
    row = np.searchsorted(np.asarray(survey.visits["visit"]), np.asarray(observations["visit"]))
    config = StarMatchingConfig()
    bands = list(survey.settings.bands)
    config.primaryBands = bands[::-1]
    stars = match_stars(
        np.asarray(observations["ra"]), np.asarray(observations["dec"]),
        np.asarray(survey.visits["band"])[row].astype(np.int16), np.asarray(observations["visit"]),
        bands=bands, config=config,
    )  # fmt: skip
    visits = _visits(survey, observations, row)
    return SimulatedStarList(visits, observations, stars.ids, stars.indices, _references(survey, stars.ids))


def _visits(survey: FgcmSurvey, observations: Table, row: np.ndarray) -> Table:
    """Return ``fgcmVisitCatalog``."""
    v, s = survey.visits, survey.settings
    n, n_det = len(v), s.n_detectors
    bright = np.asarray(observations["instMagErr"]) < _BRIGHT
    ec = row[bright] * n_det + np.asarray(observations["ccd"])[bright]
    by_detector = _medians(np.asarray(observations["deltaMagAper"])[bright], ec, n * n_det).reshape(n, n_det)
    by_visit = _medians(np.asarray(observations["deltaMagAper"])[bright], row[bright], n)
    names = np.array([survey.physical_filter(s.bands[b]) for b in v["band"]])
    fwhm = np.asarray(v["fwhm"], np.float32)
    table = describe_visits(
        {
            "visit": np.asarray(v["visit"], np.int64),
            "physicalFilter": names.astype("U64"),
            "telra": np.asarray(v["ra"]),
            "teldec": np.asarray(v["dec"]),
            "telha": np.asarray(v["hour_angle"]),
            "telrot": np.asarray(v["rotation"]),
            "mjd": np.asarray(v["mjd"]),
            "exptime": np.full(n, s.exposure_time, np.float32),
            "pmb": np.asarray(v["pressure"], np.float32),
            "psfSigma": (fwhm / 2.3548 / s.pixel_scale).astype(np.float32),
            "psfFwhm": fwhm,
            "psfFwhmDetector": np.repeat(fwhm[:, None], n_det, axis=1),
            "deltaAper": by_visit.astype(np.float32),
            "deltaAperDetector": by_detector.astype(np.float32),
            "skyBackground": np.array([survey.sky_electrons(k) for k in range(n)], np.float32),
            "deepFlag": np.zeros(n, np.int32),
            "scaling": np.ones((n, n_det)),
            "used": np.ones(n, np.int32),
            "sources_read": np.ones(n, np.bool_),
            "airmass": np.asarray(v["airmass"], np.float32),
        }
    )
    table.meta |= {
        "BANDS": {survey.physical_filter(band): band for band in s.bands},
        "DETECTORS": list(range(n_det)),
    }
    return table


def _medians(values: np.ndarray, group: np.ndarray, n: int) -> np.ndarray:
    """Return the median of each group, -9999 where it is empty."""
    median, count = group_medians(values, group, n)
    return np.where(count > 0, median, -9999.0)


def _references(survey: FgcmSurvey, ids: Table) -> Table:
    """Return ``fgcmReferenceStars``: 99 where a star has no reference."""
    from scipy.spatial import cKDTree

    tree = cKDTree(
        unit_vectors(np.asarray(survey.references["coord_ra"]), np.asarray(survey.references["coord_dec"]))
    )
    distance, nearest = tree.query(unit_vectors(np.deg2rad(ids["ra"]), np.deg2rad(ids["dec"])))
    found = distance < _REFERENCE_RADIUS
    chosen = survey.references[nearest[found]]
    flux = np.stack([np.asarray(chosen[f"{band}_flux"]) for band in survey.settings.bands], axis=1)
    error = np.stack([np.asarray(chosen[f"{band}_fluxErr"]) for band in survey.settings.bands], axis=1)
    return Table(
        {
            "fgcm_id": np.asarray(ids["fgcm_id"])[found],
            "refMag": (31.4 - 2.5 * np.log10(flux)).astype(np.float32),
            "refMagErr": (MAG_PER_LN * error / flux).astype(np.float32),
        }
    )
