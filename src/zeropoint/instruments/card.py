"""Camera cards: one YAML file that says where a camera's images keep what the pipeline needs."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card_keys import check_card_data

__all__ = ["BUILTIN_CARDS", "CALIBRATE_IMAGE", "CameraCard", "load_card"]

#: Label of the task that overrides without a label are for.
CALIBRATE_IMAGE = "calibrateImage"
#: What a card has in the file in which a repository keeps it: the fields of `CameraCard`.
_STORED_KEYS = {"name", "source", "data"}
_ADDRESS = re.compile(r"\s*([A-Za-z_]\w*)\s*:\s*(.+)")
BUILTIN_CARDS = ("generic", "microobservatory", "sdss", "simcam", "ztf")


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
        """Overrides of the configuration of CalibrateImage, dotted field name -> value."""
        return self.task_overrides.get(CALIBRATE_IMAGE, {})

    @property
    def task_overrides(self) -> dict[str, dict[str, Any]]:
        """Overrides by the label of the task that they are addressed to as ``LABEL:FIELD``."""
        overrides: dict[str, dict[str, Any]] = {}
        for name, value in (self.data.get("config") or {}).items():
            match = _ADDRESS.match(str(name))
            label, field = match.groups() if match else (CALIBRATE_IMAGE, name)
            overrides.setdefault(label, {})[field] = value
        return overrides

    @property
    def id_limits(self) -> tuple[int, int]:
        """Upper limits (exclusive) of visit (and exposure) numbers, and of detector numbers, in catalogue ids."""
        ids = self.data.get("ids") or {}
        return int(ids.get("n_visits", 1 << 28)), int(ids.get("n_detectors", 1 << 8))


def load_card(name_or_path: str | Path) -> CameraCard:
    """Read a built-in card by name or a user's card by path, which may be one as a repository keeps it.

    Raises
    ------
    InvalidInputError
        If there is no such card, it is not YAML, or it holds an unknown key or a value of the wrong kind.
    """
    return _load(str(name_or_path), ())


def _load(name_or_path: str, children: tuple[str, ...]) -> CameraCard:
    """Read a card and what it extends; ``children`` are the cards that led here."""
    text, source, name = _read(name_or_path)
    if source in children:
        raise InvalidInputError(f"Camera card {source} extends itself: {' -> '.join([*children, source])}.")
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
    if data.keys() == _STORED_KEYS and isinstance(data["data"], dict):
        check_card_data(data["data"], source)
        return CameraCard(str(data["name"]), str(data["source"]), data["data"])
    check_card_data(data, source)
    parent = data.pop("extends", None)
    if parent is not None:
        path = str(parent)
        if path not in BUILTIN_CARDS and not Path(path).is_absolute():
            path = str(Path(source).parent / path)
        merged = dict(_load(path, (*children, source)).data)
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
