"""From a FITS file and a camera card to a working exposure in electrons."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.time import Time

from zeropoint.datamodel.exposure import Amplifier, DetectorInfo, Exposure, VisitInfo
from zeropoint.datamodel.ids import hash_visit
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard
from zeropoint.instruments.masks import read_mask
from zeropoint.instruments.noise import estimate_gain, variance_from_counts
from zeropoint.instruments.pointing import initial_wcs, search_uncertainty
from zeropoint.instruments.values import ImageContext

__all__ = ["LoadedImage", "load_image", "open_image"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedImage:
    """One image, ready to calibrate.

    Parameters
    ----------
    exposure
        Working exposure in electrons.
    stem
        Name under which outputs are written.
    path
        The file.
    card
        The card used.
    caveats
        Sentences on what was estimated or assumed.
    overrides
        Configuration overrides that follow from the card's pointing uncertainty (dotted field -> value).
    ids
        ``n_visits`` and ``n_detectors`` for catalogue ids.
    """

    exposure: Exposure
    stem: str
    path: Path
    card: CameraCard
    caveats: tuple[str, ...] = ()
    overrides: dict[str, Any] = field(default_factory=dict)
    ids: tuple[int, int] = (1 << 28, 1 << 8)


def open_image(path: str | Path, card: CameraCard) -> tuple[ImageContext, np.ndarray]:
    """Open a FITS file and return its headers and the image array (ADU, float32, as stored).

    Raises
    ------
    InvalidInputError
        If the file is missing, is not FITS, is truncated, or has no 2-d image where the card says.
    """
    path = Path(path)
    if not path.exists():
        raise InvalidInputError(f"{path}: no such file.")
    if path.is_dir():
        raise InvalidInputError(f"{path}: is a directory; name the FITS files in it.")
    wanted = (card.get("image") or {}).get("hdu")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", category=fits.verify.VerifyWarning)
            warnings.filterwarnings("error", message=".*truncated.*")
            warnings.filterwarnings("ignore", message=".*Header block contains null.*")
            with fits.open(path, memmap=False) as hdus:
                headers = [hdu.header.copy() for hdu in hdus]
                index = _image_hdu(path, card, hdus, wanted)
                data = np.array(hdus[index].data, np.float32)
                # the image's own header first: keys there win over the primary's
                headers.insert(0, headers.pop(index))
    except InvalidInputError:
        raise
    except Exception as error:
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InvalidInputError(f"{path}: cannot be read as FITS ({text}); is the file complete?") from None
    return ImageContext(path, card, headers), data


def _image_hdu(path: Path, card: CameraCard, hdus: fits.HDUList, wanted: Any) -> int:
    if wanted is None:
        for i, hdu in enumerate(hdus):
            if getattr(hdu, "is_image", False) and hdu.header.get("NAXIS", 0) == 2:
                return i
        raise InvalidInputError(f"{path}: has no 2-d image in any of its {len(hdus)} HDUs.")
    try:
        index = hdus.index_of(wanted)
    except KeyError:
        index = -1
    if not (isinstance(index, int) and 0 <= index < len(hdus)):
        names = ", ".join(f"{i}:{hdu.name or 'PRIMARY'}" for i, hdu in enumerate(hdus))
        raise InvalidInputError(
            f"{path}: has no HDU {wanted!r} (it has {names}); correct image.hdu in {card.source}."
        )
    hdu = hdus[index]
    if not getattr(hdu, "is_image", False) or hdu.header.get("NAXIS", 0) != 2:
        raise InvalidInputError(
            f"{path}: HDU {wanted!r} is not a 2-d image; correct image.hdu in {card.source}."
        )
    return index


def load_image(path: str | Path, card: CameraCard) -> LoadedImage:
    """Read one image with its mask, variance, times and initial WCS.

    Parameters
    ----------
    path
        FITS file, plain or compressed.
    card
        The camera card.

    Returns
    -------
    loaded : LoadedImage

    Raises
    ------
    InvalidInputError
        If anything that the pipeline cannot do without is missing or unusable; the message names the file and
        the remedy.
    """
    context, adu = open_image(path, card)
    _check_pixels(context, adu)
    caveats: list[str] = []
    pedestal = context.resolve("pedestal", card.get("pedestal"))
    if pedestal is not None:
        adu = adu - np.float32(context.number("pedestal", pedestal))
    mask = read_mask(context, adu.shape)
    finite = np.isfinite(adu)
    gain = _gain(context, adu, finite & (mask == 0), caveats)
    read_noise = _read_noise(context, gain)
    variance = _variance(context, adu, gain, read_noise, mask)
    image = adu * np.float32(gain)
    bad = ~finite | ~np.isfinite(variance)
    if bad.any():
        from zeropoint.datamodel.mask_planes import bitmask

        mask[bad] |= np.int32(bitmask(["NO_DATA"]))
        fill = np.float32(np.median(image[~bad])) if (~bad).any() else np.float32(0)
        image[~finite] = fill
        variance[bad] = np.float32(np.median(variance[~bad])) if (~bad).any() else np.float32(1)
    _mark_saturation(context, adu, mask, pedestal, caveats)
    _check_usable(context, mask)
    detector = _detector(context, adu.shape, gain, read_noise)
    visit_info = _visit_info(context, adu, caveats)
    wcs = initial_wcs(context, adu.shape)
    exposure = Exposure(image, variance, mask, detector, visit_info, wcs=wcs)
    ids = card.get("ids") or {}
    overrides = search_uncertainty(context, wcs, adu.shape)
    return LoadedImage(
        exposure,
        context.stem,
        Path(path),
        card,
        tuple(caveats),
        overrides,
        (int(ids.get("n_visits", 1 << 28)), int(ids.get("n_detectors", 1 << 8))),
    )


def _check_pixels(context: ImageContext, adu: np.ndarray) -> None:
    if min(adu.shape) < 64:
        raise InvalidInputError(
            f"{context.path}: image of {adu.shape[1]} x {adu.shape[0]} pixels is too small (64 at least)."
        )
    finite = adu[np.isfinite(adu)]
    if finite.size == 0:
        raise InvalidInputError(
            f"{context.path}: no pixel is finite; the image holds only NaN. Check image.hdu in {context.card.source}."
        )
    if finite.min() == finite.max():
        raise InvalidInputError(
            f"{context.path}: every pixel has the value {finite[0]:g}; there is nothing to calibrate."
        )


def _check_usable(context: ImageContext, mask: np.ndarray) -> None:
    from zeropoint.datamodel.mask_planes import bitmask

    usable = (mask & np.int32(bitmask(["BAD", "NO_DATA"]))) == 0
    if not usable.any():
        raise InvalidInputError(
            f"{context.path}: every pixel is masked or has no weight; check mask.planes and variance in {context.card.source}."
        )


def _gain(context: ImageContext, adu: np.ndarray, good: np.ndarray, caveats: list[str]) -> float:
    raw = context.resolve("gain", context.card.get("gain", "estimate"))
    if raw is None:
        raise InvalidInputError(
            f"{context.path}: no gain: the header lacks the key that camera card {context.card.source} names. "
            "Give `gain:` a number (e-/ADU), another key, or `estimate`."
        )
    if raw == "estimate":
        gain = estimate_gain(adu, good)
        if gain is None:
            raise InvalidInputError(
                f"{context.path}: the gain cannot be estimated (sky level not above zero, or no noise); give `gain:` in the camera card."
            )
        caveats.append(f"gain estimated from sky level against noise: {gain:.3g} e-/ADU")
        return gain
    gain = context.number("gain", raw)
    if not (np.isfinite(gain) and gain > 0):
        raise InvalidInputError(
            f"{context.path}: gain is {gain:g} e-/ADU; it must be positive. Correct `gain:` in {context.card.source}."
        )
    return gain


def _read_noise(context: ImageContext, gain: float) -> float:
    spec = context.card.get("read_noise", 0.0)
    raw = context.resolve("read_noise", spec)
    value = 0.0 if raw is None else context.number("read_noise", raw)
    unit = spec.get("unit", "electron") if isinstance(spec, dict) else "electron"
    if unit == "adu":
        value *= gain
    elif unit == "adu_variance":
        value = gain * float(np.sqrt(max(value, 0.0)))
    elif unit != "electron":
        raise InvalidInputError(
            f"Camera card {context.card.source}: read_noise.unit is {unit!r}; use electron, adu or adu_variance."
        )
    if not (np.isfinite(value) and value >= 0):
        raise InvalidInputError(f"{context.path}: read noise is {value:g}; it must not be negative.")
    return value


def _variance(
    context: ImageContext, adu: np.ndarray, gain: float, read_noise: float, mask: np.ndarray
) -> np.ndarray:
    """Return the variance plane in electrons squared; NaN where there is no data."""
    spec = context.card.get("variance")
    if spec is None:
        return variance_from_counts(adu, gain, read_noise)
    plane = _side_plane(context, spec, adu.shape, "variance")
    if plane is None:
        return variance_from_counts(adu, gain, read_noise)
    kind = spec.get("kind", "variance")
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == "weight":
            variance = np.where(plane > 0, 1.0 / plane, np.nan)
        elif kind == "sigma":
            variance = np.where(plane > 0, plane**2, np.nan)
        elif kind == "variance":
            variance = np.where(plane > 0, plane, np.nan)
        else:
            raise InvalidInputError(
                f"Camera card {context.card.source}: variance.kind is {kind!r}; use variance, weight or sigma."
            )
    if not np.isfinite(variance).any():
        raise InvalidInputError(
            f"{context.path}: the {kind} plane is zero (or not finite) everywhere; check `variance:` in {context.card.source}."
        )
    return (variance * gain**2).astype(np.float32)


def _side_plane(
    context: ImageContext, spec: dict[str, Any], shape: tuple[int, ...], name: str
) -> np.ndarray | None:
    path = Path(context.expand(str(spec["file"]))) if "file" in spec else context.path
    if not path.exists():
        if spec.get("optional"):
            return None
        raise InvalidInputError(f"{context.path}: the {name} file {path} does not exist.")
    try:
        with fits.open(path, memmap=False) as hdus:
            plane = np.array(hdus[spec.get("hdu", 0)].data, np.float32)
    except (KeyError, IndexError):
        if spec.get("optional"):
            return None
        raise InvalidInputError(f"{path}: has no HDU {spec.get('hdu', 0)!r} for the {name}.") from None
    except Exception as error:
        raise InvalidInputError(f"{path}: cannot be read as FITS ({error}).") from None
    if plane.shape != shape:
        raise InvalidInputError(f"{path}: {name} has shape {plane.shape}, the image {shape}.")
    return plane


def _mark_saturation(
    context: ImageContext, adu: np.ndarray, mask: np.ndarray, pedestal: Any, caveats: list[str]
) -> None:
    """Set SATURATED (grown by one pixel) in place from the saturation level; note it when there is none."""
    from scipy.ndimage import binary_dilation

    from zeropoint.datamodel.mask_planes import bitmask

    raw = context.resolve("saturation", context.card.get("saturation"))
    if raw is None:
        if not (mask & np.int32(bitmask(["SATURATED"]))).any():
            caveats.append("no saturation level known: saturated stars may be used as good ones")
        return
    level = context.number("saturation", raw) - (0.0 if pedestal is None else float(pedestal))
    with np.errstate(invalid="ignore"):
        saturated = adu >= 0.995 * level
    if saturated.any():
        mask[binary_dilation(saturated, np.ones((3, 3)))] |= np.int32(bitmask(["SATURATED"]))


def _detector(context: ImageContext, shape: tuple[int, ...], gain: float, read_noise: float) -> DetectorInfo:
    spec = context.card.get("detector") or {}
    raw = context.resolve("detector.id", spec.get("id", 0))
    try:
        number = int(float(raw))
    except (TypeError, ValueError):
        number = 0
    instrument = str(
        context.resolve("instrument", context.card.get("instrument", context.card.name)) or "unknown"
    )
    amplifiers = tuple(
        Amplifier(
            str(a["name"]),
            tuple(a["box"]),
            float(a.get("gain", gain)),
            float(a.get("read_noise", read_noise)),
        )
        for a in spec.get("amplifiers") or ()
    ) or (Amplifier("all", (0, 0, shape[1] - 1, shape[0] - 1), gain, read_noise),)
    center = spec.get("center_mm", (0.0, 0.0))
    return DetectorInfo(
        instrument,
        str(context.resolve("detector.name", spec.get("name")) or f"detector {number}"),
        number,
        shape[1],
        shape[0],
        amplifiers,
        float(spec.get("pixel_size_mm", np.nan)),
        (float(center[0]), float(center[1])),
        float(spec.get("rotation_deg", 0.0)),
    )


def _visit_info(context: ImageContext, adu: np.ndarray, caveats: list[str]) -> VisitInfo:
    card = context.card
    raw_time = context.resolve("exposure_time", card.get("exposure_time"))
    exposure_time = float("nan") if raw_time is None else context.number("exposure_time", raw_time)
    if not exposure_time > 0:
        caveats.append("no exposure time: depth and effective time are not computed")
    filter_name = str(context.resolve("filter", card.get("filter", "unknown")) or "unknown").strip()
    bands = card.get("bands")
    band = str((bands or {}).get(filter_name, filter_name))
    observatory = card.get("observatory") or {}

    def number(name: str, spec: Any) -> float:
        value = context.resolve(name, spec)
        try:
            return float(value)
        except (TypeError, ValueError):
            return float("nan")

    raw_visit = context.resolve("visit", card.get("visit"))
    n_visits = int((card.get("ids") or {}).get("n_visits", 1 << 28))
    visit = hash_visit(adu, n_visits) if raw_visit is None else int(float(raw_visit))
    pointing = card.get("wcs") if isinstance(card.get("wcs"), dict) else {}
    return VisitInfo(
        visit,
        exposure_time,
        _mid_time(context, exposure_time, caveats),
        filter_name,
        band,
        number("wcs.ra", (pointing or {}).get("ra")),
        number("wcs.dec", (pointing or {}).get("dec")),
        number("airmass", card.get("airmass")),
        number("longitude", observatory.get("longitude_deg")),
        number("latitude", observatory.get("latitude_deg")),
        number("elevation", observatory.get("elevation_m")),
        str(context.resolve("object", card.get("object")) or ""),
    )


def _mid_time(context: ImageContext, exposure_time: float, caveats: list[str]) -> float:
    """Return the mid-exposure MJD in TAI, or NaN with a caveat."""
    spec = context.card.get("date")
    raw = context.resolve("date", spec.get("value")) if isinstance(spec, dict) else None
    if raw is None or not isinstance(spec, dict):
        caveats.append("no date: proper motions and zenith distance are not computed")
        return float("nan")
    kind, scale = str(spec.get("format", "isot")), str(spec.get("scale", "utc"))
    try:
        if kind == "mjd-seconds":
            time = Time(float(raw) / 86400.0, format="mjd", scale=scale)
        elif kind in ("mjd", "jd"):
            time = Time(float(raw), format=kind, scale=scale)
        else:
            time = Time(str(raw).strip().replace(" ", "T"), format="isot", scale=scale)
    except ValueError as error:
        caveats.append(f"date {raw!r} not understood ({error}): proper motions are not applied")
        return float("nan")
    mjd = float(time.tai.mjd) - float(spec.get("utc_offset_hours", 0.0)) / 24.0
    half = 0.5 * exposure_time / 86400.0 if np.isfinite(exposure_time) else 0.0
    return mjd + {"start": half, "mid": 0.0, "end": -half}.get(str(spec.get("at", "start")), half)
