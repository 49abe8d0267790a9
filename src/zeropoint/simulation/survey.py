"""A simulated survey: visits in several bands of a camera with detectors of its own, across a border of two tracts."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from zeropoint.datamodel.skymap import SkyMap
from zeropoint.datamodel.wcs import inverse_gnomonic
from zeropoint.errors import InvalidInputError
from zeropoint.simulation.exposures import (
    MARGIN_PIXELS,
    draw_magnitudes,
    references_of,
    simulate_exposure,
)
from zeropoint.simulation.files import write_image
from zeropoint.simulation.psf import TruthPsf
from zeropoint.simulation.settings import FieldPlace, SimulationSettings

__all__ = [
    "CAMERA",
    "NUM_RINGS",
    "Survey",
    "SurveySettings",
    "read_survey",
    "survey_settings",
    "survey_sky_map",
    "write_survey",
]

_ARCSEC = np.pi / 648000.0
#: Name of the simulated camera.
CAMERA = "SurveyCam"
#: Rings of the survey's sky map.
NUM_RINGS = 40
#: Between detectors, pixels.
_GAP = 20
#: Largest offset of a dither per axis, arcsec, and largest turn of the camera, degrees.
_DITHER, _TURN = 40.0, 15.0
#: FWHM of successive visits of a band, arcsec.
_SEEING = (0.8, 0.72, 0.9, 0.86, 0.76, 0.94, 0.7)
#: Visits of a night, one a minute.
_PER_NIGHT = 8
#: Mean and scatter of the stars' colors, magnitudes between the first and the last band.
_COLOR = (1.2, 0.5)


@dataclass(frozen=True)
class SurveySettings:
    """What is simulated.

    Parameters
    ----------
    n_visits
        Visits in each band.
    bands
        From blue to red; of those that the ``simcam`` card knows.
    size
        Side of a detector, pixels; the camera has 2 x 2.
    n_stars
        Stars on a detector; default: 460 on 1536 x 1536 pixels, and in proportion.
    magnitude_bright, magnitude_faint, magnitude_slope
        ``N(m) ~ 10^(slope m)`` between the limits, of the mean magnitude over the bands. The default is a field of bright
        stars: most have a signal to noise of 400 to 1000, so that 250 of them tell the size of the PSF to 5e-4.
    seed
        Random seed of sky, visits and noise.
    """

    n_visits: int = 12
    bands: tuple[str, ...] = ("g", "i")
    size: int = 1536
    n_stars: int | None = None
    magnitude_bright: float = 17.2
    magnitude_faint: float = 23.0
    magnitude_slope: float = -1.0
    seed: int = 1

    @property
    def stars_per_detector(self) -> int:
        """Stars on a detector."""
        return round(460 * (self.size / 1536) ** 2) if self.n_stars is None else self.n_stars


@dataclass(frozen=True)
class Survey:
    """A survey on disk, with its truth.

    Parameters
    ----------
    images
        One FITS file for each visit and detector.
    references
        Reference catalogue in all bands.
    card
        The camera card.
    stars
        Truth: ``id``, ``ra``, ``dec`` (rad) and ``mag_<band>`` of all stars.
    settings
        Of each image, in the order of `images`.
    """

    images: tuple[Path, ...]
    references: Path
    card: Path
    stars: Table
    settings: tuple[SimulationSettings, ...]

    def truth_psf(self, visit: int, detector: int) -> TruthPsf:
        """Return the noiseless PSF of an image.

        Raises
        ------
        KeyError
            If the survey has no such image.
        """
        for s in self.settings:
            if (s.visit, s.detector) == (visit, detector):
                return TruthPsf(s)
        raise KeyError((visit, detector))


def survey_sky_map() -> SkyMap:
    """Return the map that the survey is laid out on, that of ``zeropoint make-skymap REPO NAME --rings 40``."""
    return SkyMap.rings(NUM_RINGS, projection="TAN", pixelScale=0.2, tractOverlap=1 / 60)


def survey_settings(survey: SurveySettings) -> list[SimulationSettings]:
    """Return the settings of all images: by visit, then detector; the bands take turns.

    Every visit has its own seeing, pattern of the PSF over the field, transparency, dither and rotation; the
    boresight is near the middle of the border between two tracts.
    """
    rng = np.random.default_rng([survey.seed, 0x5C4E7])
    ra0, dec0 = (np.deg2rad(value) for value in _field_center())
    first = SimulationSettings()
    area = (survey.size / 2048) ** 2
    result = []
    for i in range(survey.n_visits * len(survey.bands)):
        turn, band = divmod(i, len(survey.bands))
        east, north = rng.uniform(-_DITHER, _DITHER, 2) * _ARCSEC
        ra, dec = inverse_gnomonic(east, north, ra0, dec0)
        night, minute = divmod(i, _PER_NIGHT)
        # what is lost by color in one band and won in the other is made up for, so that all bands are equally deep
        deeper = float(_COLOR[0] * _color_share(survey.bands)[band])
        visit = replace(
            first,
            instrument=CAMERA,
            width=survey.size,
            height=survey.size,
            n_stars=survey.stars_per_detector,
            magnitude_bright=survey.magnitude_bright,
            magnitude_faint=survey.magnitude_faint,
            magnitude_slope=survey.magnitude_slope,
            n_cosmic_rays=round(first.n_cosmic_rays * area),
            fwhm_arcsec=_SEEING[turn % len(_SEEING)],
            psf_variation=0.05,
            psf_ellipticity=float(rng.uniform(-0.06, 0.06)),
            psf_pattern=_pattern(rng),
            zeropoint=first.zeropoint + deeper + float(rng.uniform(-0.1, 0.05)),
            rotation_deg=float(rng.uniform(-_TURN, _TURN)),
            ra_deg=float(np.rad2deg(ra)),
            dec_deg=float(np.rad2deg(dec)),
            band=survey.bands[band],
            visit=first.visit + i,
            mjd_tai=first.mjd_tai + night + minute / 1440.0,
        )
        result += [
            replace(visit, detector=k, field=place, seed=(survey.seed * 10_000 + i) * 10 + k)
            for k, place in enumerate(_places(survey.size))
        ]
    return result


def write_survey(
    survey: SurveySettings,
    folder: str | Path,
    *,
    only: Collection[tuple[int, int]] | None = None,
    jobs: int = 1,
) -> Survey:
    """Write a survey: images, reference catalogue, camera card, truth.

    Parameters
    ----------
    survey
        What to simulate.
    folder
        Folder, made if absent.
    only
        (visit, detector) of the images wanted; all by default.  Each is the same whatever others there are.
    jobs
        Processes.

    Returns
    -------
    survey : Survey
        The same settings give the same files; `read_survey` reads it again.

    Raises
    ------
    KeyError
        If the survey has no such image.
    """
    place = Path(folder)
    every = {(s.visit, s.detector): s for s in survey_settings(survey)}
    if absent := set(only or ()) - every.keys():
        raise KeyError(*sorted(absent))
    place.mkdir(parents=True, exist_ok=True)
    settings = [s for image, s in every.items() if only is None or image in only]
    first = next(iter(every.values()))
    stars = _draw_stars(survey, first)
    stars.write(place / "truth_stars.fits", overwrite=True)
    _references(survey, first, stars).write(place / "references.fits", overwrite=True)
    (place / "survey_camera.yaml").write_text(
        f"description: Four detectors of a simulated camera.\nextends: simcam\ninstrument: {CAMERA}\n"
        "ids: {n_visits: 268435456, n_detectors: 4}\n"
    )
    work = [(s, _of_band(stars, s.band), place / _name(s)) for s in settings]
    if jobs == 1:
        for one in work:
            _write_one(one)
    else:
        with ProcessPoolExecutor(jobs) as pool:
            list(pool.map(_write_one, work))
    # last, so that a survey that can be read is complete
    (place / "survey.json").write_text(json.dumps([asdict(s) for s in settings]))
    return read_survey(place)


def read_survey(folder: str | Path) -> Survey:
    """Read what `write_survey` has written.

    Raises
    ------
    InvalidInputError
        If it holds no complete survey.
    """
    place = Path(folder)
    if not (place / "survey.json").exists():
        raise InvalidInputError(f"{place}: no survey.json; the folder holds no complete simulated survey.")
    settings = tuple(_settings_of(record) for record in json.loads((place / "survey.json").read_text()))
    return Survey(
        tuple(place / _name(s) for s in settings),
        place / "references.fits",
        place / "survey_camera.yaml",
        Table.read(place / "truth_stars.fits"),
        settings,
    )


def _settings_of(record: dict[str, Any]) -> SimulationSettings:
    pattern = tuple(tuple(terms) for terms in record["psf_pattern"])
    return SimulationSettings(**{**record, "psf_pattern": pattern, "field": FieldPlace(**record["field"])})


def _name(s: SimulationSettings) -> str:
    return f"survey_{s.visit}_{s.detector:02d}.fits"


def _write_one(work: tuple[SimulationSettings, Table, Path]) -> Path:
    settings, sky, path = work
    return write_image(simulate_exposure(settings, sky), path)


def _field_center() -> tuple[float, float]:
    """Return the middle of a tract's Eastern border, degrees."""
    sky_map = survey_sky_map()
    tract = sky_map.find_tract(np.deg2rad(150.1), np.deg2rad(2.2))
    border = sky_map.inner_sky_region(tract.id).getLon().getB().asDegrees()
    return float(border), float(np.rad2deg(tract.ctr_coord.dec))


def _places(size: int) -> list[FieldPlace]:
    """Return where the four detectors lie, row by row from the lower left."""
    half = size + 0.5 * _GAP
    near, far = -0.5 - 0.5 * _GAP, size - 0.5 + 0.5 * _GAP
    return [FieldPlace(x, y, half) for y in (far, near) for x in (far, near)]


def _pattern(rng: np.random.Generator) -> tuple[tuple[float, ...], ...]:
    """Return a pattern of the PSF over the field: mostly gradients, some curvature."""
    values = rng.normal(0.0, [0.5, 0.5, 0.3, 0.3, 0.3], (3, 5))
    return tuple(tuple(float(v) for v in terms) for terms in values)


def _color_share(bands: Sequence[str]) -> np.ndarray:
    """Return by how much of its color a star is fainter in each band than on average."""
    return np.linspace(0.5, -0.5, len(bands)) if len(bands) > 1 else np.zeros(1)


def _draw_stars(survey: SurveySettings, s: SimulationSettings) -> Table:
    """Return the stars of the sky around all visits: their magnitudes in every band."""
    rng = np.random.default_rng([survey.seed, 0x5C7])
    ra0, dec0 = (np.deg2rad(value) for value in _field_center())
    scale = s.pixel_scale * _ARCSEC
    side = 2 * survey.size + _GAP
    reach = scale * (np.sqrt(0.5) * side + 1.5 * MARGIN_PIXELS) + np.sqrt(2.0) * _DITHER * _ARCSEC
    n = round(s.n_stars / survey.size**2 * (2 * reach / scale) ** 2)
    ra, dec = inverse_gnomonic(rng.uniform(-reach, reach, n), rng.uniform(-reach, reach, n), ra0, dec0)
    mean = draw_magnitudes(s, n, rng)
    color = np.clip(rng.normal(_COLOR[0], _COLOR[1], n), 0.0, 3.0)
    stars = Table({"id": np.arange(1, n + 1), "ra": ra, "dec": dec})
    for band, share in zip(survey.bands, _color_share(survey.bands)):
        stars[f"mag_{band}"] = mean + share * color
    return stars


def _of_band(stars: Table, band: str) -> Table:
    return Table({"ra": stars["ra"], "dec": stars["dec"], "mag": stars[f"mag_{band}"]})


def _references(survey: SurveySettings, first: SimulationSettings, stars: Table) -> Table:
    """Return one reference catalogue with the fluxes of all bands."""
    rng = np.random.default_rng([survey.seed, 0x4EF])
    mean = np.mean([stars[f"mag_{band}"] for band in survey.bands], axis=0)
    bright = stars[mean < first.reference_limit]
    result: Table | None = None
    for band in survey.bands:
        every = replace(first, band=band, reference_limit=float("inf"))
        table = references_of(every, _of_band(bright, band), rng)
        if result is None:
            result = table
        else:
            for name in (f"{band}_flux", f"{band}_fluxErr"):
                result[name] = table[name]
    assert result is not None
    return result
