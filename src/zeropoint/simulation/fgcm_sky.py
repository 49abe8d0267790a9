"""The sky of a simulated survey: its stars, galaxies and close pairs, and the reference catalogue."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table
from scipy.spatial import cKDTree

from zeropoint.datamodel.exposure import AB_FLUX_NJY
from zeropoint.datamodel.wcs import unit_vectors
from zeropoint.simulation.fgcm_physics import FloatArray, Physics
from zeropoint.simulation.fgcm_settings import FgcmSurveySettings

__all__ = ["close_pairs", "draw_references", "draw_stars"]

_ARCSEC = np.pi / 648000.0
#: Pairs closer than this, arcsec, may merge.
PAIR_RADIUS = 4.0
#: Companions lie between these distances, arcsec, and are fainter by up to the third, magnitudes.
_COMPANION = (0.3, 3.5, 2.5)


def draw_stars(
    settings: FgcmSurveySettings, physics: Physics, colors: FloatArray, rng: np.random.Generator
) -> Table:
    """Return the sources of the sky, sorted by declination.

    Parameters
    ----------
    settings
        Survey.
    physics
        Spectra and how frequent they are.
    colors : float64, shape (n_bands, n_spectra)
        Standard magnitudes of spectra whose magnitude in the middle band is 0.
    rng
        Generator.

    Returns
    -------
    stars : Table
        ``id`` (row + 1), ``ra``, ``dec`` (rad), ``spectrum`` (index), ``galaxy``, ``mag`` (of the spectrum's normalisation),
        ``mag_<band>`` (standard magnitudes, by integration over the standard passband).
    """
    n = settings.n_stars
    ra, dec = _positions(settings, n, rng)
    low, high = (
        10.0 ** (settings.magnitude_slope * m) for m in (settings.magnitude_bright, settings.magnitude_faint)
    )
    mag = np.log10(rng.uniform(low, high, n)) / settings.magnitude_slope
    companions = rng.permutation(n)[: round(settings.pair_fraction * n)]
    hosts = rng.permutation(n)[: len(companions)]
    near, far, fainter = _COMPANION
    angle, distance = rng.uniform(0.0, 2.0 * np.pi, len(hosts)), rng.uniform(near, far, len(hosts)) * _ARCSEC
    # the host's place before any moved, so that no chains arise from the order
    dec_host, ra_host = dec[hosts].copy(), ra[hosts].copy()
    dec[companions] = dec_host + distance * np.sin(angle)
    ra[companions] = ra_host + distance * np.cos(angle) / np.cos(dec_host)
    mag[companions] = np.minimum(
        mag[hosts] + rng.uniform(0.0, fainter, len(hosts)), settings.magnitude_faint + 1.0
    )
    spectrum = rng.choice(len(physics.names), n, p=physics.weights).astype(np.int16)
    galaxy = rng.uniform(0.0, 1.0, n) < settings.galaxy_fraction
    order = np.argsort(dec, kind="stable")
    stars = Table(
        {
            "id": np.arange(1, n + 1),
            "ra": Column(np.mod(ra[order], 2.0 * np.pi), unit="rad"),
            "dec": Column(dec[order], unit="rad"),
            "spectrum": spectrum[order],
            "galaxy": galaxy[order],
            "mag": mag[order],
        }
    )
    for band, color in zip(settings.bands, colors):
        stars[f"mag_{band}"] = Column(stars["mag"] + color[stars["spectrum"]], unit="mag")
    return stars


def close_pairs(stars: Table) -> npt.NDArray[np.int64]:
    """Return the rows of pairs within `PAIR_RADIUS`, shape (n, 2); a star is in one pair at most, the closest first.

    Parameters
    ----------
    stars
        Columns ``ra`` and ``dec``, radians.
    """
    vectors = unit_vectors(np.asarray(stars["ra"]), np.asarray(stars["dec"]))
    pairs = cKDTree(vectors).query_pairs(PAIR_RADIUS * _ARCSEC, output_type="ndarray")
    distance = np.linalg.norm(vectors[pairs[:, 0]] - vectors[pairs[:, 1]], axis=1)
    used, chosen = np.zeros(len(stars), bool), []
    for a, b in pairs[np.lexsort((pairs[:, 1], pairs[:, 0], distance))]:
        if not used[a] and not used[b]:
            used[[a, b]] = True
            chosen.append((a, b))
    return np.array(chosen, np.int64).reshape(-1, 2)


def draw_references(settings: FgcmSurveySettings, stars: Table, rng: np.random.Generator) -> Table:
    """Return a reference catalogue of the brightest stars, in Rubin's columns (rad, nJy).

    Parameters
    ----------
    settings
        Settings of the survey.
    stars
        Truth of the stars.
    rng
        Where chance comes from.
    """
    middle = np.asarray(stars[f"mag_{settings.bands[(len(settings.bands) - 1) // 2]}"])
    rows = np.flatnonzero(~np.asarray(stars["galaxy"]))
    n = round(settings.reference_fraction * len(rows))
    rows = np.sort(rows[np.argsort(middle[rows], kind="stable")[:n]])
    error = np.full(n, 5e-3 * _ARCSEC)
    dec = np.asarray(stars["dec"])[rows]
    references = Table(
        {
            "id": np.asarray(stars["id"])[rows],
            "coord_ra": Column(stars["ra"][rows] + rng.normal(0.0, error) / np.cos(dec), unit="rad"),
            "coord_dec": Column(dec + rng.normal(0.0, error), unit="rad"),
            "coord_raErr": Column(error, unit="rad"),
            "coord_decErr": Column(error, unit="rad"),
        }
    )
    for band in settings.bands:
        mag = np.asarray(stars[f"mag_{band}"])[rows] + rng.normal(0.0, settings.reference_error, n)
        flux = AB_FLUX_NJY * 10.0 ** (-0.4 * mag)
        references[f"{band}_flux"] = Column(flux, unit="nJy")
        references[f"{band}_fluxErr"] = Column(
            flux * settings.reference_error * np.log(10.0) / 2.5, unit="nJy"
        )
    return references


def _positions(
    settings: FgcmSurveySettings, n: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return places that are even on the sky around all visits, radians."""
    half = 0.5 * settings.camera_side + settings.dither
    # visits are turned: their corners reach further, but seldom
    width, height = (0.5 * (count - 1) * settings.field_spacing + half for count in settings.fields)
    dec = np.deg2rad(settings.dec + rng.uniform(-height, height, n))
    ra = np.deg2rad(settings.ra) + np.deg2rad(rng.uniform(-width, width, n)) / np.cos(dec)
    return ra, dec
