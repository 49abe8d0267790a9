"""Camera cards: one YAML file that says where a camera's images keep what the pipeline needs.

A card is checked strictly when it is read: an unknown key is an error that suggests the right one.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from zeropoint.errors import InvalidInputError

__all__ = ["BUILTIN_CARDS", "CARD_KEYS", "CameraCard", "load_card"]

BUILTIN_CARDS = ("generic", "microobservatory", "sdss", "simcam", "ztf")

#: Top-level key -> (what it is, the keys allowed inside a mapping that is not a value, or None).
CARD_KEYS: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "extends": ("another card whose keys this one inherits", None),
    "description": ("one sentence", None),
    "instrument": ("instrument name (value)", None),
    "filename": ("regular expression on the file name; its groups can be used as {group}", None),
    "image": ("where the pixels are", ("hdu",)),
    "mask": ("mask plane, with bit numbers per plane", ("file", "hdu", "kind", "planes", "optional")),
    "variance": ("variance, weight or sigma plane", ("file", "hdu", "kind", "optional")),
    "gain": ("electrons per ADU (value or estimate)", None),
    "read_noise": ("electrons (value)", None),
    "saturation": ("ADU above which a pixel is saturated, pedestal included (value)", None),
    "pedestal": ("ADU to subtract (value)", None),
    "exposure_time": ("seconds (value)", None),
    "date": ("when", ("value", "format", "scale", "at", "utc_offset_hours")),
    "filter": ("physical filter (value)", None),
    "bands": ("physical filter -> band of the reference catalogue", None),
    "airmass": ("airmass (value)", None),
    "object": ("object name (value)", None),
    "visit": ("visit number (value); default: a hash of the pixels", None),
    "visit_system": ("one-to-one or by-group", None),
    "ids": ("how many visits and detectors ids must hold", ("n_visits", "n_detectors")),
    "detector": (
        "detector geometry",
        ("id", "name", "pixel_size_mm", "center_mm", "rotation_deg", "amplifiers"),
    ),
    "observatory": ("where", ("longitude_deg", "latitude_deg", "elevation_m")),
    "wcs": (
        "header, or a table row, or a pointing",
        (
            "from",
            "table",
            "where",
            "ra",
            "dec",
            "x",
            "y",
            "pixel_scale",
            "rotation_deg",
            "flip",
            "uncertainty",
        ),
    ),
    "first_look": ("derive size-dependent settings from a first look at the image (true or false)", None),
    "references": ("column map for the reference table", None),
    "config": ("overrides of the recipe's configuration fields", None),
}
_VALUE_KEYS = (
    "key",
    "hdu",
    "default",
    "scale",
    "offset",
    "file",
    "table",
    "where",
    "column",
    "index",
    "order",
    "value",
    "unit",
)
_UNCERTAINTY_KEYS = ("offset_arcsec", "rotation_deg", "scale_percent")


@dataclass(frozen=True)
class CameraCard:
    """A parsed card.

    Parameters
    ----------
    name
        Name of a built-in card, or the file's stem.
    source
        Where it was read, for messages.
    data
        The merged content.
    """

    name: str
    source: str
    data: dict[str, Any]

    def get(self, key: str, default: Any = None) -> Any:
        """Return a top-level entry."""
        return self.data.get(key, default)

    @property
    def overrides(self) -> dict[str, Any]:
        """Configuration overrides, dotted field name -> value."""
        return dict(self.data.get("config") or {})


def load_card(name_or_path: str | Path) -> CameraCard:
    """Read a built-in card by name or a user's card by path.

    Raises
    ------
    InvalidInputError
        If there is no such card, it is not YAML, or it holds an unknown key.
    """
    text, source, name = _read(str(name_or_path))
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        place = "" if line is None else f" (line {line + 1})"
        raise InvalidInputError(
            f"Camera card {source} is not valid YAML{place}: {_first_line(error)}."
        ) from None
    if not isinstance(data, dict):
        raise InvalidInputError(
            f"Camera card {source} must be a mapping of keys; run `zeropoint card new` for a template."
        )
    _check_keys(data, source)
    parent = data.pop("extends", None)
    if parent is not None:
        base = Path(str(parent))
        if str(parent) not in BUILTIN_CARDS and not base.is_absolute():
            base = Path(source).parent / base
        merged = dict(load_card(parent if str(parent) in BUILTIN_CARDS else base).data)
        config = {**(merged.get("config") or {}), **(data.get("config") or {})}
        merged.update(data)
        merged["config"] = config
        data = merged
    return CameraCard(name, source, data)


def _first_line(error: Exception) -> str:
    return str(getattr(error, "problem", None) or str(error).splitlines()[0])


def _read(name: str) -> tuple[str, str, str]:
    if name in BUILTIN_CARDS:
        path = resources.files("zeropoint.instruments") / "cards" / f"{name}.yaml"
        return path.read_text(), f"{name} (built in)", name
    file = Path(name)
    if file.is_dir() or not file.exists():
        close = difflib.get_close_matches(name, BUILTIN_CARDS, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise InvalidInputError(
            f"No camera card {name!r}: neither a file nor one of the built-in cards "
            f"({', '.join(BUILTIN_CARDS)}).{hint} `zeropoint card new IMAGE` writes a template."
        )
    try:
        return file.read_text(), str(file), file.stem
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"Camera card {name} cannot be read: {error}.") from None


def _check_keys(data: dict[str, Any], source: str) -> None:
    for key, value in data.items():
        if key not in CARD_KEYS:
            raise InvalidInputError(
                f"Camera card {source} has an unknown key {key!r}{suggest(key, CARD_KEYS)}."
            )
        allowed = CARD_KEYS[key][1]
        if allowed is not None and isinstance(value, dict):
            for inner in value:
                if inner not in allowed:
                    raise InvalidInputError(
                        f"Camera card {source} has an unknown key {key}.{inner}{suggest(str(inner), allowed)}."
                    )
        elif allowed is None and isinstance(value, dict) and key not in ("bands", "config", "references"):
            for inner in value:
                if inner not in _VALUE_KEYS:
                    raise InvalidInputError(
                        f"Camera card {source} has an unknown key {key}.{inner}{suggest(str(inner), _VALUE_KEYS)}."
                    )
    uncertainty = (data.get("wcs") or {}).get("uncertainty") if isinstance(data.get("wcs"), dict) else None
    for inner in uncertainty or {}:
        if inner not in _UNCERTAINTY_KEYS:
            raise InvalidInputError(
                f"Camera card {source} has an unknown key wcs.uncertainty.{inner}"
                f"{suggest(str(inner), _UNCERTAINTY_KEYS)}."
            )


def suggest(word: str, known: Any) -> str:
    """Return " (did you mean ...?)" or the list of known words."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else f" (known keys: {', '.join(known)})"
