"""What a repository must know of one image: numbers, filter, times and outline on the sky."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zeropoint.datamodel.exposure import PointingUncertainty
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard
from zeropoint.instruments.observation_file import Observation, read_observation

if TYPE_CHECKING:
    from astro_metadata_translator import ObservationInfo

__all__ = ["UNKNOWN_DAY", "ImageFacts", "is_archive", "read_facts"]

#: Number of the night of images without a date.
UNKNOWN_DAY = 0
#: Pixels around an image within which reference objects are loaded, unless its WCS is less certain.
_MARGIN = 250
#: Pixels beyond that margin, for the curvature of its edges.
_SPARE = 10
_MJD_EPOCH = datetime.date(1858, 11, 17)


@dataclass(frozen=True)
class ImageFacts:
    """The facts of one image file.

    Parameters
    ----------
    path
        Absolute.
    instrument, detector, detector_name, exposure, visit, physical_filter, band, target
        As in the registry.
    day_obs
        Night, YYYYMMDD of the evening; `UNKNOWN_DAY` without a date.
    begin, end
        MJD in TAI; NaN if unknown.
    exposure_time
        Seconds; NaN if unknown.
    tracking_ra, tracking_dec, sky_angle
        Boresight and its position angle, degrees; NaN if unknown.
    outline
        Unit vectors of points whose convex hull holds the image and the margin around it in which reference
        objects are looked for.
    identity
        Header keywords that tell cameras apart.
    caveats
        What is missing.
    observation
        Of a camera's own file; None for a visit image of lsst-images.
    """

    path: Path
    instrument: str
    detector: int
    detector_name: str
    exposure: int
    visit: int
    physical_filter: str
    band: str
    target: str
    day_obs: int
    begin: float
    end: float
    exposure_time: float
    tracking_ra: float
    tracking_dec: float
    sky_angle: float
    outline: tuple[tuple[float, float, float], ...]
    identity: dict[str, str]
    caveats: tuple[str, ...]
    observation: Observation | None


def is_archive(path: Path) -> bool:
    """Say whether a file is an image that lsst-images wrote."""
    try:
        with open(path, "rb") as file:
            return b"DATAMODL=" in file.read(4 * 2880)
    except OSError:
        return False


def read_facts(path: Path, card: CameraCard) -> ImageFacts:
    """Read the facts of an image, its pixels only where the card gives no visit number.

    Parameters
    ----------
    path
        A camera's own FITS file, or a post-ISR visit image that lsst-images wrote.
    card
        The camera card; of a visit image, it only says which camera is expected.

    Raises
    ------
    InvalidInputError
        If the file cannot be used; the message names it.
    """
    path = path.absolute()
    facts = _from_archive(path, card) if is_archive(path) else _from_card(path, card)
    if facts.instrument != card.get("instrument"):
        raise InvalidInputError(
            f"{path}: is an image of {facts.instrument}, not of {card.get('instrument')}; give the right --camera."
        )
    if facts.exposure != facts.visit and (card.get("visit_system") or "one-to-one") == "one-to-one":
        raise InvalidInputError(
            f"{path}: exposure {facts.exposure} belongs to visit {facts.visit}: camera card {card.source} needs "
            "`visit_system: by-group` where a visit can have several exposures."
        )
    for name, text in (
        ("filter", facts.physical_filter),
        ("band", facts.band),
        ("detector", facts.detector_name),
    ):
        if not 0 < len(text) <= 32:
            raise InvalidInputError(f"{path}: {name} {text!r} must have 1 to 32 characters in a repository.")
    return facts


def _from_card(path: Path, card: CameraCard) -> ImageFacts:
    observation = read_observation(path, card)
    info, detector = observation.visit_info, observation.detector
    half = 0.5 * float(np.nan_to_num(info.exposure_time)) / 86400.0
    begin, end = info.mjd_tai - half, info.mjd_tai + half
    return ImageFacts(
        path,
        detector.instrument,
        detector.id,
        detector.name,
        info.exposure,
        info.visit,
        info.physical_filter,
        info.band,
        info.object_name,
        _night(begin, info.longitude_deg),
        begin,
        end,
        info.exposure_time,
        info.boresight_ra_deg,
        info.boresight_dec_deg,
        info.boresight_rotation_deg,
        _outline(observation.wcs, observation.shape, observation.pointing, card),
        observation.identity,
        (*observation.caveats, *_undated(begin)),
        observation,
    )


def _from_archive(path: Path, card: CameraCard) -> ImageFacts:
    """Read the facts of a visit image from its JSON tree."""
    from lsst.images import VisitImage
    from lsst.images.serialization import open_archive

    try:
        with open_archive(str(path), cls=VisitImage, partial=True) as reader:
            info = reader.get_component("obs_info")
            detector = reader.get_component("detector")
            projection = reader.get_component("sky_projection")
            box = reader.get_component("bbox")
            unit = reader.get_component("unit")
            band = str(reader.get_tree().band)  # type: ignore[attr-defined]
    except Exception as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise InvalidInputError(f"{path}: cannot be read as a visit image ({text[0].rstrip('.')}).") from None
    if str(unit) not in ("electron", "adu"):
        raise InvalidInputError(f"{path}: its unit is {unit}: a post-ISR image has electron or adu.")
    exposure = info.exposure_id if info.exposure_id is not None else info.visit_id
    if exposure is None or info.physical_filter is None:
        raise InvalidInputError(f"{path}: its obs_info has no exposure_id or no physical_filter.")
    begin, end, night = _archive_times(info)
    tracking = (np.nan, np.nan)
    if info.tracking_radec is not None:
        tracking = (float(info.tracking_radec.icrs.ra.deg), float(info.tracking_radec.icrs.dec.deg))
    angle = info.boresight_rotation_angle if info.boresight_rotation_coord == "sky" else None
    x, y = _border(box.x.start, box.y.start, box.x.size, box.y.size, _margin(card))
    sky = projection.pixel_to_sky(x=x, y=y)
    exposure_time = np.nan if info.exposure_time is None else float(info.exposure_time.to_value("s"))
    return ImageFacts(
        path,
        str(detector.instrument),
        int(detector.id),
        str(detector.name),
        int(exposure),
        int(exposure if info.visit_id is None else info.visit_id),
        str(info.physical_filter),
        band,
        info.object or "",
        night,
        begin,
        end,
        exposure_time,
        *tracking,
        np.nan if angle is None else float(angle.deg),
        _vectors(sky.ra.rad, sky.dec.rad),
        {},
        _undated(begin),
        None,
    )


def _undated(begin: float) -> tuple[str, ...]:
    """Return what the registry says of an image without a date, which cannot say that it has none."""
    if np.isfinite(begin):
        return ()
    return (
        f"no date: no timespan in the registry, and day_obs {UNKNOWN_DAY}; queries by time do not find them",
    )


def _archive_times(info: ObservationInfo) -> tuple[float, float, int]:
    """Return begin and end (MJD in TAI) and the night."""
    if info.datetime_begin is None or info.datetime_end is None:
        return np.nan, np.nan, UNKNOWN_DAY if info.observing_day is None else int(info.observing_day)
    begin, end = float(info.datetime_begin.tai.mjd), float(info.datetime_end.tai.mjd)
    if info.observing_day is not None:
        return begin, end, int(info.observing_day)
    longitude = np.nan if info.location is None else float(info.location.to_geodetic().lon.deg)
    return begin, end, _night(begin, longitude)


def _night(mjd: float, longitude_deg: float) -> int:
    """Return the local date of the evening as YYYYMMDD; a night ends at local noon, in Greenwich if need be."""
    if not np.isfinite(mjd):
        return UNKNOWN_DAY
    longitude = (np.nan_to_num(longitude_deg) + 180.0) % 360.0 - 180.0
    day = _MJD_EPOCH + datetime.timedelta(days=int(np.floor(mjd + longitude / 360.0 - 0.5)))
    return day.year * 10000 + day.month * 100 + day.day


def _margin(card: CameraCard) -> float:
    """Return the pixels around an image in which the pipeline looks for reference objects."""
    stated = [
        float(value) for name, value in card.overrides.items() if name.endswith("ref_loader.pixelMargin")
    ]
    return max([_MARGIN, *stated]) + _SPARE


def _outline(
    wcs: SkyWcs, shape: tuple[int, int], pointing: PointingUncertainty | None, card: CameraCard
) -> tuple[tuple[float, float, float], ...]:
    margin = _margin(card)
    if pointing is not None:
        scale = float(wcs.pixel_scale(x=0.5 * shape[1], y=0.5 * shape[0]))
        # the recipe looks 50 pixels farther than a star may be off
        margin = max(margin, pointing.reach(scale, shape) + 50 + _SPARE)
    x, y = _border(0, 0, shape[1], shape[0], margin)
    return _vectors(*wcs.pixel_to_sky(x=x, y=y))


def _border(x0: float, y0: float, width: int, height: int, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Return points along the border of a box grown by a margin."""
    step = np.linspace(0.0, 1.0, 5)
    fx = np.concatenate([step, np.ones(3), step, np.zeros(3)])
    fy = np.concatenate([np.zeros(5), step[1:-1], np.ones(5), step[1:-1]])
    return (
        x0 - 0.5 - margin + fx * (width + 2 * margin),
        y0 - 0.5 - margin + fy * (height + 2 * margin),
    )


def _vectors(ra: np.ndarray, dec: np.ndarray) -> tuple[tuple[float, float, float], ...]:
    columns = (np.cos(ra) * np.cos(dec), np.sin(ra) * np.cos(dec), np.sin(dec))
    return tuple((float(a), float(b), float(c)) for a, b, c in zip(*columns))
