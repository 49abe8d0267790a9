"""The time of an exposure, however its header writes it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from astropy.time import Time

from zeropoint.errors import InvalidInputError
from zeropoint.instruments.values import ImageContext

__all__ = ["exposure_second", "mid_exposure_mjd"]

_ZONE = re.compile(r"(?<=\d)\s*(?:(Z|UTC?)|([+-])(\d{2}):?(\d{2})?)$")
#: 2000 January 1, MJD.
_YEAR_2000 = 51544
_OLD_DATE = re.compile(r"^(\d{2})/(\d{2})/(\d{2})(?=$|T)")


def mid_exposure_mjd(context: ImageContext, exposure_time: float, caveats: list[str]) -> float:
    """Return the mid-exposure MJD in TAI, or NaN with a caveat.

    Parameters
    ----------
    context
        The image; its card's ``date`` entry says where the time is.
    exposure_time
        Seconds; NaN if unknown.
    caveats
        Receives a sentence if there is no usable time.

    Notes
    -----
    The entry's ``value`` may be a list of a date and a time of day.  ``format: auto`` takes a number for a (modified)
    Julian Date, and text for an ISO date; a time zone at its end (``Z``, ``-0700``) counts.
    """
    spec = context.card.get("date") or {}
    value = spec.get("value")
    parts = [context.resolve("date", part) for part in (value if isinstance(value, list) else [value])]
    if parts[0] is None or parts[0] == "":
        caveats.append("no date: proper motions and zenith distance are not computed")
        return float("nan")
    raw = parts[0] if len(parts) == 1 else _joined(parts)
    try:
        mjd, has_time = _mjd_tai(raw, str(spec.get("format", "auto")), str(spec.get("scale", "utc")))
    except (ValueError, TypeError) as error:
        caveats.append(
            f"date {raw!r} not understood ({_first_sentence(error)}): proper motions are not applied"
        )
        return float("nan")
    if not has_time:
        caveats.append(f"date {raw!r} has no time of day: the time of the exposure is uncertain by a day")
        return mjd + 0.5
    mjd -= context.number("date.utc_offset_hours", spec.get("utc_offset_hours", 0.0)) / 24.0
    half = 0.5 * exposure_time / 86400.0 if np.isfinite(exposure_time) else 0.0
    return mjd + {"start": half, "mid": 0.0, "end": -half}[str(spec.get("at", "start"))]


def exposure_second(context: ImageContext) -> int:
    """Return the second in which an exposure began, counted from the beginning of 2000, TAI.

    Raises
    ------
    InvalidInputError
        If there is no usable time, or one before 2000.
    """
    caveats: list[str] = []
    exposure_time = context.optional_number("exposure_time", context.card.get("exposure_time"))
    middle = mid_exposure_mjd(context, exposure_time, caveats)
    half = 0.5 * exposure_time if exposure_time > 0 else 0.0
    # rounded first: the arithmetic leaves microseconds
    seconds = round((middle - _YEAR_2000) * 86400.0 - half, 3)
    if caveats or not seconds >= 0:
        raise InvalidInputError(
            f"{context.path}: camera card {context.card.source} takes the number of the exposure from its date, which "
            f"is not usable ({caveats[0] if caveats else 'before the year 2000'}); give `visit:` another key, if it is "
            "an image of this camera."
        )
    return int(seconds)


def _joined(parts: list[Any]) -> str:
    """Join a date and a time of day; the second is ignored if the first has a time already."""
    first = str(parts[0]).strip()
    rest = [str(part).strip() for part in parts[1:] if part not in (None, "")]
    return first if "T" in first or " " in first else "T".join([first, *rest[:1]])


def _mjd_tai(raw: Any, kind: str, scale: str) -> tuple[float, bool]:
    """Return the MJD in TAI and whether a time of day was given."""
    if kind in ("auto", "isot"):
        number = _number(raw)
        if number is None:
            return _from_text(str(raw).strip(), scale)
        if kind == "isot":
            raise ValueError("a number where an ISO date was expected")
        kind = "jd" if number > 2_400_000 else "mjd"
        if kind == "mjd" and not 15_000 < number < 200_000:
            raise ValueError("neither a Julian nor a modified Julian date")
    value = float(raw)
    if not np.isfinite(value):
        raise ValueError("not finite")
    if kind == "mjd-seconds":
        return float(Time(value / 86400.0, format="mjd", scale=scale).tai.mjd), True
    return float(Time(value, format=kind, scale=scale).tai.mjd), True


def _from_text(text: str, scale: str) -> tuple[float, bool]:
    text = re.sub(r"(?<=\d)\s+(?=\d)", "T", text, count=1)
    # the FITS date of the last century, dd/mm/yy
    text = _OLD_DATE.sub(lambda m: f"19{m[3]}-{m[2]}-{m[1]}", text)
    offset = 0.0
    if "T" in text:
        zone = _ZONE.search(text, text.index("T") + 1)
        if zone is not None:
            text = text[: zone.start()]
            if zone[2]:
                offset = (int(zone[3]) + int(zone[4] or 0) / 60.0) * (-1.0 if zone[2] == "-" else 1.0)
    time = Time(text, format="isot", scale=scale)
    return float(time.tai.mjd) - offset / 24.0, "T" in text


def _number(raw: Any) -> float | None:
    try:
        return float(raw)
    except (TypeError, ValueError):
        return None


def _first_sentence(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".:") if lines else type(error).__name__
