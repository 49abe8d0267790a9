"""Pipelines of one camera: the shipped pipeline with the overrides of a camera card."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import lsst.pex.config as pexConfig
import yaml

from zeropoint.butler.instruments import check_instrument_name, class_name
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard
from zeropoint.recipes.calibrate_image.products import atomic_path
from zeropoint.recipes.session import build_config

__all__ = ["pipeline_text", "write_pipeline"]

_IMPORTED = "resource://zeropoint.tasks/pipelines/calibrate.yaml"
#: One step of a path to a field.
_PART = re.compile(r"""(?P<name>[A-Za-z_]\w*)|\[\s*(['"])(?P<key>.*?)\2\s*\]""")
_LABEL = "calibrateImage"
_CLASS = "zeropoint.tasks.calibrate_image.CalibrateImageTask"


def pipeline_text(card: CameraCard) -> str:
    """Return the YAML of the pipeline of a camera: that of any camera, with what its card's ``config:`` says.

    Parameters
    ----------
    card
        The camera card; its instrument needs a fixed name.

    Raises
    ------
    InvalidInputError
        If an override of the card does not fit.
    """
    name = check_instrument_name(card.get("instrument"), card.source)
    content: dict[str, Any] = {
        "description": f"Calibrate post-ISR images of {name}.",
        "instrument": class_name(name),
        "imports": [{"location": _IMPORTED}],
    }
    statements = _statements(card)
    if statements:
        content["tasks"] = {_LABEL: {"class": _CLASS, "config": [{"python": _Block(statements)}]}}
    note = f"# Made from the camera card {card.name}: change the card, not this file.\n"
    return note + yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=110)


def write_pipeline(root: Path, card: CameraCard) -> Path:
    """Write the pipeline of a camera to ``pipelines/<INSTRUMENT>/calibrate.yaml`` of a repository.

    Parameters
    ----------
    root
        Repository's directory.
    card
        The camera card.

    Raises
    ------
    InvalidInputError
        If an override of the card does not fit, or the file cannot be written.
    """
    text = pipeline_text(card)
    path = root / "pipelines" / str(card.get("instrument")) / "calibrate.yaml"
    if path.exists() and path.read_text() == text:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(text)
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be written ({error.strerror}).") from None
    return path


def _statements(card: CameraCard) -> str:
    """Return a card's overrides as Python statements, in the order of the card."""
    imports: list[str] = []
    lines = ["config.do_first_look = True"] if card.get("first_look") else []
    # a card that cannot be applied shall not become a pipeline, and values get the field's type
    applied = build_config(card)
    for field in card.overrides:
        kind, found = _field(applied, field)
        if isinstance(kind, pexConfig.ConfigurableField):
            step = found.target
            imports.append(f"from {step.__module__} import {step.__name__}")
            lines.append(f"config.{field}.retarget({step.__name__})")
        elif isinstance(kind, (pexConfig.RegistryField, pexConfig.ConfigChoiceField)):
            choice = "names" if kind.multi else "name"
            chosen = getattr(found, choice)
            lines.append(f"config.{field}.{choice} = {list(chosen) if kind.multi else chosen!r}")
        elif isinstance(kind, pexConfig.ListField):
            lines.append(f"config.{field} = {list(found)!r}")
        elif isinstance(kind, pexConfig.DictField):
            lines.append(f"config.{field} = {dict(found)!r}")
        else:
            lines.append(f"config.{field} = {found!r}")
    return "".join(f"{line}\n" for line in [*sorted(set(imports)), *lines])


def _field(config: pexConfig.Config, path: str) -> tuple[pexConfig.Field | None, Any]:
    """Return the field behind a path, None where the path ends in brackets, and its value."""
    value: Any = config
    field: pexConfig.Field | None = None
    for match in _PART.finditer(path):
        name, key = match.group("name"), match.group("key")
        owner = getattr(value, "value", value) if type(value).__name__ == "ConfigurableInstance" else value
        field = None if name is None else getattr(type(owner), name, None)
        value = value[key] if name is None else getattr(value, name)
    return field, value


class _Block(str):
    """Text to be written as a block."""


class _Dumper(yaml.SafeDumper):
    """Write blocks as such, and indent lists as people do."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        return super().increase_indent(flow, False)


_Dumper.add_representer(
    _Block, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")
)
