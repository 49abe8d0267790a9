"""A simulated night: dithered exposures of one field under changing seeing, and its reference catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.table import Table

from zeropoint.datamodel.wcs import inverse_gnomonic
from zeropoint.simulation.exposures import (
    MARGIN_PIXELS,
    SimulatedExposure,
    draw_magnitudes,
    references_of,
    simulate_exposure,
)
from zeropoint.simulation.files import write_image
from zeropoint.simulation.settings import SimulationSettings

__all__ = ["Night", "draw_sky", "night_settings", "simulate_snaps", "write_night"]

_ARCSEC = np.pi / 648000.0
#: Seconds from one visit to the next.
_CADENCE = 40.0
#: FWHM of successive visits, arcsec.
_SEEING = (0.8, 0.7, 0.95, 1.1, 0.75, 0.9, 1.25)
#: Largest offset of a dither per axis, arcsec.
_DITHER = 60.0


@dataclass(frozen=True)
class Night:
    """The files of a simulated night.

    Parameters
    ----------
    images
        One path for each exposure, in the order of time.
    references
        Reference catalogue that covers them all.
    settings
        The settings of each exposure.
    """

    images: tuple[Path, ...]
    references: Path
    settings: tuple[SimulationSettings, ...]


def night_settings(n: int = 40, *, size: int = 1024, seed: int = 1) -> list[SimulationSettings]:
    """Return the settings of ``n`` visits: dithered, with changing seeing, numbers and times of their own.

    Parameters
    ----------
    n
        Visits.
    size
        Image side, pixels.
    seed
        Random seed of the night.
    """
    rng = np.random.default_rng([seed, 0xD17])
    first = SimulationSettings()
    area = (size / 2048) ** 2
    result = []
    for i in range(n):
        east, north = rng.uniform(-_DITHER, _DITHER, 2) * _ARCSEC
        ra, dec = inverse_gnomonic(east, north, np.deg2rad(first.ra_deg), np.deg2rad(first.dec_deg))
        result.append(
            replace(
                first,
                width=size,
                height=size,
                n_stars=round(first.n_stars * area),
                n_cosmic_rays=round(first.n_cosmic_rays * area),
                fwhm_arcsec=_SEEING[i % len(_SEEING)],
                ra_deg=float(np.rad2deg(ra)),
                dec_deg=float(np.rad2deg(dec)),
                visit=first.visit + i,
                seed=seed * 10_000 + i,
                mjd_tai=first.mjd_tai + i * _CADENCE / 86400.0,
            )
        )
    return result


def draw_sky(settings: Sequence[SimulationSettings], seed: int) -> Table:
    """Return stars (``ra``, ``dec`` in radians, ``mag``) around all the exposures, as dense as the first asks for."""
    s = settings[0]
    scale = s.pixel_scale * _ARCSEC
    ra0, dec0 = np.deg2rad(s.ra_deg), np.deg2rad(s.dec_deg)
    reach = max(
        np.hypot((np.deg2rad(t.ra_deg) - ra0) * np.cos(dec0), np.deg2rad(t.dec_deg) - dec0)
        + scale * (0.5 * np.hypot(t.width, t.height) + 1.5 * MARGIN_PIXELS)
        for t in settings
    )
    rng = np.random.default_rng([seed, 0x5C7])
    n = round(s.n_stars / (s.width * s.height) * (2 * reach / scale) ** 2)
    ra, dec = inverse_gnomonic(rng.uniform(-reach, reach, n), rng.uniform(-reach, reach, n), ra0, dec0)
    return Table({"ra": ra, "dec": dec, "mag": draw_magnitudes(s, n, rng)})


def simulate_snaps(
    settings: SimulationSettings, n: int = 2, sky: Table | None = None
) -> list[SimulatedExposure]:
    """Simulate the snaps of one visit: one scene, each with its part of the light and noise of its own.

    Parameters
    ----------
    settings
        The visit as a whole.
    n
        Snaps.
    sky
        As for `simulate_exposure`.
    """
    part = replace(
        settings,
        exposure_time=settings.exposure_time / n,
        zeropoint=settings.zeropoint - 2.5 * float(np.log10(n)),
        sky_electrons=settings.sky_electrons / n,
        n_cosmic_rays=round(settings.n_cosmic_rays / n),
    )
    step = part.exposure_time / 86400.0
    return [
        simulate_exposure(
            replace(
                part,
                exposure=settings.visit * n + i,
                snap=i + 1,
                mjd_tai=settings.mjd_tai + (i - 0.5 * (n - 1)) * step,
            ),
            sky,
        )
        for i in range(n)
    ]


def write_night(
    settings: int | Sequence[SimulationSettings], folder: str | Path, seed: int = 1, *, snaps: int = 1
) -> Night:
    """Write a night of exposures of one field, and one reference catalogue, for the ``simcam`` card.

    Parameters
    ----------
    settings
        Settings of each visit (same band), or how many to make with `night_settings`.
    folder
        Folder, made if absent.
    seed
        Random seed of the sky, and of settings made here.
    snaps
        Exposures per visit.  With several the card needs ``visit_system: by-group``.

    Returns
    -------
    night : Night
        The same arguments give the same files.
    """
    visits = night_settings(settings, seed=seed) if isinstance(settings, int) else list(settings)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    sky = draw_sky(visits, seed)
    references = place / "references.fits"
    references_of(visits[0], sky, np.random.default_rng([seed, 0x4EF])).write(references, overwrite=True)
    images, done = [], []
    for visit in visits:
        parts = [simulate_exposure(visit, sky)] if snaps == 1 else simulate_snaps(visit, snaps, sky)
        for part in parts:
            name = f"night_{part.exposure.visit_info.exposure}_{visit.detector:02d}.fits"
            images.append(write_image(part, place / name))
            done.append(part.settings)
    return Night(tuple(images), references, tuple(done))
