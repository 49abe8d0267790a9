"""Detector and visit of an image, as its camera card and headers describe them."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.exposure import Amplifier, DetectorInfo, VisitInfo
from zeropoint.datamodel.ids import hash_visit
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.times import exposure_second, mid_exposure_mjd
from zeropoint.instruments.values import ImageContext

_WITHOUT = {"visit": " to hash the pixels", "exposure": " to use the visit's number"}

__all__ = ["amplifier_map", "detector_info", "id_limits", "id_number", "visit_info"]


def id_limits(context: ImageContext) -> tuple[int, int]:
    """Return the upper limits (exclusive) of visit and detector numbers in catalogue ids."""
    return context.card.id_limits


def amplifier_map(
    context: ImageContext, name: str, default: float | None, shape: tuple[int, ...]
) -> npt.NDArray[np.float32] | None:
    """Return gain or read noise as an image where amplifiers have values of their own, else None.

    Parameters
    ----------
    context
        The image.
    name
        ``gain`` or ``read_noise``.
    default
        Value of amplifiers without one, and of pixels outside of all.
    shape
        (height, width).

    Raises
    ------
    InvalidInputError
        If an amplifier lies outside the image, or its value is impossible.
    """
    amplifiers = (context.card.get("detector") or {}).get("amplifiers") or ()
    if not any(name in amplifier for amplifier in amplifiers):
        return None
    image = np.full(shape, np.nan if default is None else default, np.float32)
    for amplifier in amplifiers:
        x0, y0, x1, y1 = amplifier["box"]
        if not (0 <= x0 <= x1 < shape[1] and 0 <= y0 <= y1 < shape[0]):
            raise InvalidInputError(
                f"{context.path}: amplifier {amplifier['name']} [{x0}, {y0}, {x1}, {y1}] does not lie in the image of "
                f"{shape[1]} x {shape[0]} pixels; correct detector.amplifiers in {context.card.source}."
            )
        if name in amplifier:
            label = f"{name} of amplifier {amplifier['name']}"
            value = context.number(label, context.resolve(label, amplifier[name]))
            if not (np.isfinite(value) and (value > 0 or (value == 0 and name == "read_noise"))):
                raise InvalidInputError(
                    f"{context.path}: {label} is {value:g}; correct detector.amplifiers in {context.card.source}."
                )
            image[y0 : y1 + 1, x0 : x1 + 1] = value
    if not np.isfinite(image).all():
        raise InvalidInputError(
            f"{context.path}: some pixels have no {name}: the amplifiers do not cover the image, and camera card "
            f"{context.card.source} gives no `{name}:` for the rest."
        )
    return image


def detector_info(
    context: ImageContext,
    gain: float | npt.NDArray[np.float32],
    read_noise: float | npt.NDArray[np.float32],
    shape: tuple[int, ...],
) -> DetectorInfo:
    """Return what is known of the detector.

    Raises
    ------
    InvalidInputError
        If its number does not fit into catalogue ids.
    """
    spec = context.card.get("detector") or {}
    number = _detector_number(context.resolve("detector.id", spec.get("id", 0)))
    limit = id_limits(context)[1]
    if not 0 <= number < limit:
        raise InvalidInputError(
            f"{context.path}: detector {number} is not below {limit}; raise ids.n_detectors in {context.card.source}."
        )
    instrument = context.resolve("instrument", context.card.get("instrument")) or context.card.name
    boxes = [(str(a["name"]), tuple(a["box"])) for a in spec.get("amplifiers") or ()]
    boxes = boxes or [("all", (0, 0, shape[1] - 1, shape[0] - 1))]
    center = [
        context.number("detector.center_mm", context.resolve("detector.center_mm", value))
        for value in spec.get("center_mm", (0.0, 0.0))
    ]
    return DetectorInfo(
        str(instrument),
        str(context.resolve("detector.name", spec.get("name")) or f"detector {number}"),
        number,
        shape[1],
        shape[0],
        tuple(Amplifier(name, box, _at(gain, box), _at(read_noise, box)) for name, box in boxes),
        float(spec.get("pixel_size_mm", np.nan)),
        (center[0], center[1]),
        float(spec.get("rotation_deg", 0.0)),
    )


def _at(value: float | npt.NDArray[np.float32], box: tuple[int, ...]) -> float:
    return float(value[box[1], box[0]]) if isinstance(value, np.ndarray) else float(value)


def _detector_number(raw: Any) -> int:
    """Return a detector number; of a name such as ``CCD12`` its digits, else 0."""
    try:
        return int(float(raw))
    except (TypeError, ValueError, OverflowError):
        digits = re.findall(r"\d+", str(raw))
        return int(digits[-1]) if digits else 0


def visit_info(
    context: ImageContext, adu: npt.NDArray[np.float32], pointing: tuple[float, float], caveats: list[str]
) -> VisitInfo:
    """Return what is known of the visit.

    Parameters
    ----------
    context
        The image.
    adu
        Its pixels, hashed where there is no visit number.
    pointing
        Boresight RA and Dec, degrees; NaN if unknown.
    caveats
        Receives a sentence for each thing missing.
    """
    card = context.card
    raw_time = context.resolve("exposure_time", card.get("exposure_time"))
    exposure_time = float("nan") if raw_time is None else context.number("exposure_time", raw_time)
    if not exposure_time > 0:
        exposure_time = float("nan")
        caveats.append("no exposure time: depth and effective time are not computed")
    filter_name = str(context.resolve("filter", card.get("filter", "unknown")) or "unknown").strip()
    bands = {str(key): str(band) for key, band in (card.get("bands") or {}).items()}
    site = card.get("observatory") or {}
    visit, exposure = id_number(context, "visit"), id_number(context, "exposure")
    if visit is None:
        visit = hash_visit(adu, id_limits(context)[0])
    return VisitInfo(
        visit,
        exposure_time,
        mid_exposure_mjd(context, exposure_time, caveats),
        filter_name,
        bands.get(filter_name, filter_name),
        pointing[0],
        pointing[1],
        context.optional_number("airmass", card.get("airmass")),
        context.degrees("observatory.longitude_deg", site.get("longitude_deg")),
        context.degrees("observatory.latitude_deg", site.get("latitude_deg")),
        context.optional_number("observatory.elevation_m", site.get("elevation_m")),
        str(context.resolve("object", card.get("object")) or ""),
        exposure=visit if exposure is None else exposure,
    )


def id_number(context: ImageContext, name: str) -> int | None:
    """Return the visit's or exposure's number: a whole number, or the hash of a name; None if absent."""
    limit = id_limits(context)[0]
    spec = context.card.get(name)
    by_date = isinstance(spec, dict) and "date" in spec
    raw = exposure_second(context) if by_date else context.resolve(name, spec)
    if raw is None or raw == "":
        return None
    try:
        number = int(raw) if not isinstance(raw, float) else round(raw)
    except (TypeError, ValueError, OverflowError):
        return int.from_bytes(hashlib.sha256(str(raw).encode()).digest()[:8], "big") % limit
    if not 0 <= number < limit:
        raise InvalidInputError(
            f"{context.path}: {name} {number} is not in the range 0 to {limit - 1}; raise ids.n_visits in "
            f"{context.card.source}, or leave `{name}:` out{_WITHOUT[name]}."
        )
    return number
