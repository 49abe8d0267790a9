"""What a camera card may hold; every card is checked against it when it is read.

An unknown key is an error that suggests the right one, and so is a value of the wrong kind: a misspelt
``saturation`` that were silently ignored would spoil every image.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from zeropoint.datamodel.mask_planes import canonical_name
from zeropoint.errors import InvalidInputError

__all__ = ["CARD_KEYS", "MASK_KINDS", "READ_NOISE_UNITS", "VARIANCE_KINDS", "CardKey", "check_card_data"]

MASK_KINDS = ("bits", "values", "nonzero", "sdss", "zeropoint")
VARIANCE_KINDS = ("variance", "weight", "sigma")
READ_NOISE_UNITS = ("electron", "adu", "adu_variance")

#: Keys of a value that is not a plain number or string (see `zeropoint.instruments.values`).
_VALUE_KEYS = (
    "key",
    "hdu",
    "default",
    "scale",
    "offset",
    "table",
    "where",
    "column",
    "index",
    "order",
    "join",
    "value",
    "unit",
)


@dataclass(frozen=True)
class CardKey:
    """One top-level key of a card.

    Parameters
    ----------
    meaning
        A few words.
    kind
        ``value``: number, string or value mapping; ``mapping``: fixed inner keys; ``table``: a mapping with
        keys of the user's own; ``text``, ``flag``: plain.
    inner
        Keys allowed in a ``mapping``.
    values
        Those among the inner keys that are values themselves.
    """

    meaning: str
    kind: str = "value"
    inner: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


_WCS_KEYS = (
    "from",
    "table",
    "where",
    "ra",
    "dec",
    "x",
    "y",
    "pixel_scale",
    "index_files",
    "rotation_deg",
    "flip",
    "uncertainty",
)
_WCS_VALUES = ("ra", "dec", "x", "y", "pixel_scale", "rotation_deg")
_DETECTOR_KEYS = ("id", "name", "pixel_size_mm", "center_mm", "rotation_deg", "amplifiers")
_SITE_KEYS = ("longitude_deg", "latitude_deg", "elevation_m")
_AMPLIFIER_KEYS = ("name", "box", "gain", "read_noise")
_UNCERTAINTY_KEYS = ("offset_arcsec", "rotation_deg", "scale_percent")

CARD_KEYS: dict[str, CardKey] = {
    "extends": CardKey("another card whose keys this one inherits", "text"),
    "description": CardKey("one sentence", "text"),
    "instrument": CardKey("instrument name"),
    "filename": CardKey("regular expression on the file name; its groups can be used as {group}", "text"),
    "image": CardKey("where the pixels are", "mapping", ("hdu",)),
    "mask": CardKey(
        "mask plane, with bit numbers per plane", "mapping", ("file", "hdu", "kind", "planes", "optional")
    ),
    "variance": CardKey("variance, weight or sigma plane", "mapping", ("file", "hdu", "kind", "optional")),
    "gain": CardKey("electrons per ADU, or estimate"),
    "read_noise": CardKey("electrons"),
    "saturation": CardKey("ADU above which a pixel is saturated, pedestal included"),
    "pedestal": CardKey("ADU to subtract"),
    "exposure_time": CardKey("seconds"),
    "date": CardKey("when", "mapping", ("value", "format", "scale", "at", "utc_offset_hours"), ("value",)),
    "filter": CardKey("physical filter"),
    "bands": CardKey("physical filter -> band of the reference catalogue", "table"),
    "passbands": CardKey(
        "physical filter -> [first, last] wavelength in Angstrom, and perhaps throughput, where no curves are known",
        "table",
    ),
    "airmass": CardKey("airmass"),
    "object": CardKey("object name"),
    "visit": CardKey("visit number, or {date: seconds}; default: a hash of the pixels"),
    "exposure": CardKey(
        "exposure number, of the snap where a visit has several; default: the visit's number"
    ),
    "visit_system": CardKey("one-to-one or by-group", "text"),
    "ids": CardKey("how many visits and detectors ids must hold", "mapping", ("n_visits", "n_detectors")),
    "detector": CardKey("detector geometry", "mapping", _DETECTOR_KEYS, ("id", "name", "center_mm")),
    "observatory": CardKey("where", "mapping", _SITE_KEYS, _SITE_KEYS),
    "wcs": CardKey(
        "header (ra, dec: boresight), or a table row, or a pointing, or index_files of astrometry.net",
        "mapping",
        _WCS_KEYS,
        _WCS_VALUES,
    ),
    "first_look": CardKey("derive size-dependent settings from a first look at the image", "flag"),
    "references": CardKey("column map for the reference table", "table"),
    "config": CardKey("overrides of configuration fields, FIELD or LABEL:FIELD", "table"),
}


def check_card_data(data: dict[str, Any], source: str) -> None:
    """Check a card's content against `CARD_KEYS`.

    Parameters
    ----------
    data
        The card as read from YAML.
    source
        Its name, for messages.

    Raises
    ------
    InvalidInputError
        If it holds an unknown key or a value of the wrong kind.
    """
    for name, content in data.items():
        _require_known(str(name), CARD_KEYS, source)
        if content is None:
            continue
        if name == "wcs" and isinstance(content, str):
            _choice("wcs", content, ("header",), source)
            continue
        _check_entry(name, CARD_KEYS[name], content, source)
    _check_details(data, source)


def _check_entry(name: str, key: CardKey, content: Any, source: str) -> None:
    if key.kind == "mapping":
        if not isinstance(content, dict):
            _fail(source, f"{name} must be a mapping of {', '.join(key.inner)}, not {content!r}")
        for inner, value in content.items():
            _require_known(str(inner), key.inner, source, f"{name}.")
            if inner in key.values:
                for part in value if isinstance(value, list) else [value]:
                    _check_value(f"{name}.{inner}", part, source)
    elif key.kind == "value":
        _check_value(name, content, source)
    elif key.kind == "table" and not isinstance(content, dict) and name != "references":
        _fail(source, f"{name} must be a mapping, not {content!r}")
    elif key.kind == "text" and not isinstance(content, str):
        _fail(source, f"{name} must be text, not {content!r}")
    elif key.kind == "flag" and not isinstance(content, bool):
        _fail(source, f"{name} must be true or false, not {content!r}")


def _check_value(name: str, content: Any, source: str) -> None:
    if name in ("visit", "exposure") and isinstance(content, dict) and "date" in content:
        if content != {"date": "seconds"}:
            _fail(source, f"{name} is {content!r}; a number made from the date is {{date: seconds}}")
        return
    if isinstance(content, list):
        _fail(source, f"{name} is a list; give a number, text, or {{key: KEYWORD}}")
    if isinstance(content, dict):
        for inner in content:
            _require_known(str(inner), _VALUE_KEYS, source, f"{name}.")
        for inner in ("join", "order"):
            if inner in content and not isinstance(content[inner], list):
                _fail(source, f"{name}.{inner} must be a list, not {content[inner]!r}")
        for part in content.get("join", ()):
            _check_value(f"{name}.join", part, source)


def _check_details(data: dict[str, Any], source: str) -> None:
    """Check the words and numbers inside the entries that have a fixed choice."""
    mask, variance, date, wcs = (_mapping(data, name) for name in ("mask", "variance", "date", "wcs"))
    _choice("mask.kind", mask.get("kind", "bits"), MASK_KINDS, source)
    for plane in mask.get("planes") or {}:
        try:
            canonical_name(str(plane))
        except InvalidInputError as error:
            _fail(source, f"mask.planes: {str(error).rstrip('.')}")
    _choice("variance.kind", variance.get("kind", "variance"), VARIANCE_KINDS, source)
    _choice("read_noise.unit", _mapping(data, "read_noise").get("unit", "electron"), READ_NOISE_UNITS, source)
    _choice("date.at", date.get("at", "start"), ("start", "mid", "end"), source)
    _choice("date.format", date.get("format", "auto"), ("auto", "isot", "mjd", "jd", "mjd-seconds"), source)
    _choice("date.scale", date.get("scale", "utc"), ("utc", "tai", "tt", "ut1"), source)
    _choice("visit_system", data.get("visit_system") or "one-to-one", ("one-to-one", "by-group"), source)
    _choice("wcs.from", wcs.get("from", "header"), ("header",), source)
    if "from" in wcs:
        for inner in ("pixel_scale", "rotation_deg", "flip", "x", "y", "table"):
            if inner in wcs and "index_files" not in wcs:
                _fail(source, f"wcs.{inner} is of no use with `from: header`; leave out one of the two")
    if not isinstance(wcs.get("flip", False), bool):
        _fail(source, f"wcs.flip must be true or false, not {wcs['flip']!r}")
    names = wcs.get("index_files", [])
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        _fail(source, f"wcs.index_files must be a list of files or folders, not {names!r}")
    for inner in wcs.get("uncertainty") or {}:
        _require_known(str(inner), _UNCERTAINTY_KEYS, source, "wcs.uncertainty.")
    center = _mapping(data, "detector").get("center_mm", (0.0, 0.0))
    if not (isinstance(center, list | tuple) and len(center) == 2):
        _fail(source, f"detector.center_mm must be [x, y] in the focal plane, not {center!r}")
    for amplifier in _mapping(data, "detector").get("amplifiers") or ():
        _check_amplifier(amplifier, source)
    for name, limits in _mapping(data, "passbands").items():
        numbers = isinstance(limits, list) and all(isinstance(v, int | float) for v in limits)
        if not (numbers and len(limits) in (2, 3) and limits[0] < limits[1]):
            _fail(source, f"passbands.{name} must be [first, last] wavelength in Angstrom, not {limits!r}")
    for name, limit in _mapping(data, "ids").items():
        if not (isinstance(limit, int) and limit > 0):
            _fail(source, f"ids.{name} must be a positive integer, not {limit!r}")
    try:
        re.compile(data.get("filename") or "")
    except re.error as error:
        _fail(source, f"filename is not a regular expression ({error})")


def _check_amplifier(amplifier: Any, source: str) -> None:
    if not isinstance(amplifier, dict) or not {"name", "box"} <= set(amplifier):
        _fail(source, "each of detector.amplifiers needs name and box, and may have gain and read_noise")
    for inner in amplifier:
        _require_known(str(inner), _AMPLIFIER_KEYS, source, "detector.amplifiers.")
    box = amplifier["box"]
    if not (isinstance(box, list) and len(box) == 4 and all(isinstance(v, int) for v in box)):
        _fail(source, f"amplifier {amplifier['name']}: box must be [x0, y0, x1, y1] (first and last pixel)")


def _mapping(data: dict[str, Any], name: str) -> dict[str, Any]:
    content = data.get(name)
    return content if isinstance(content, dict) else {}


def _choice(name: str, word: Any, known: Sequence[str], source: str) -> None:
    if word not in known:
        _fail(source, f"{name} is {word!r}; use {' or '.join(known)}")


def _require_known(word: str, known: Iterable[str], source: str, prefix: str = "") -> None:
    names = list(known)
    if word not in names:
        close = difflib.get_close_matches(word, names, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(names)}"
        _fail(source, f"unknown key {prefix}{word} ({hint})")


def _fail(source: str, problem: str) -> NoReturn:
    raise InvalidInputError(f"Camera card {source}: {problem}.")
