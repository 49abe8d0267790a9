"""Pipelines of one camera: the shipped pipelines with the overrides of a camera card."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lsst.pex.config as pexConfig
import yaml
from lsst.pipe.base import LabelSpecifier, Pipeline

from zeropoint.association.config import IsolatedStarAssociationConfig
from zeropoint.butler.fgcm_settings import fgcm_lines
from zeropoint.butler.instruments import check_instrument_name, class_name
from zeropoint.datamodel.atomic_files import atomic_path
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CALIBRATE_IMAGE, CameraCard
from zeropoint.recipes.calibrate import CalibrateConfig
from zeropoint.recipes.characterize_image import CharacterizeImageConfig
from zeropoint.recipes.config_files import reason
from zeropoint.recipes.legacy_names import CALIBRATE, CHARACTERIZE, legacy_fields
from zeropoint.recipes.overrides import apply_override
from zeropoint.recipes.session import build_config

__all__ = [
    "CAMERA_PIPELINES",
    "fgcm_text",
    "global_text",
    "legacy_pipeline_text",
    "pipeline_text",
    "recalibrate_text",
    "write_pipeline",
]

_FOLDER = "resource://zeropoint.tasks/pipelines"
#: One step of a path to a field.
_PART = re.compile(r"""(?P<name>[A-Za-z_]\w*)|\[\s*(['"])(?P<key>.*?)\2\s*\]""")
_LABEL = CALIBRATE_IMAGE
_RECALIBRATE = "recalibrate.yaml"
#: Pipelines of the global calibration: on what recalibrate.yaml makes, and under the class defaults of dataset names.
_FGCM = ("fgcm.yaml", "fgcm_legacy.yaml")
#: Both in one: what recalibrate.yaml makes, on the scale of the whole survey.
_GLOBAL = "global.yaml"
#: Files that `write_pipeline` writes.
CAMERA_PIPELINES = ("calibrate.yaml", _RECALIBRATE, "legacy.yaml", *_FGCM, _GLOBAL)
#: Task that has to know a camera's bands.
_ASSOCIATE = "associateIsolatedStar"
_CLASSES = {
    _LABEL: "zeropoint.tasks.calibrate_image.CalibrateImageTask",
    CHARACTERIZE: "zeropoint.tasks.characterize_image.CharacterizeImageTask",
    CALIBRATE: "zeropoint.tasks.calibrate.CalibrateTask",
}


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
    tasks = {_LABEL: _calibrate_image(card)}
    return _text(card, "Calibrate post-ISR images of {}.", "calibrate.yaml", tasks)


def recalibrate_text(card: CameraCard) -> str:
    """Return the YAML of a camera's pipeline as far as the visit summary, with what its card says of each task.

    Parameters
    ----------
    card
        The camera card; its instrument needs a fixed name.

    Raises
    ------
    InvalidInputError
        If an override of the card does not fit, or is addressed to a task that is not in the pipeline.
    """
    others = _recalibrate_overrides(card)
    classes = _classes_of(_RECALIBRATE) if others else {}
    tasks = {_LABEL: _calibrate_image(card)} | {
        label: _applied(card, fields) for label, fields in others.items()
    }
    description = (
        "Calibrate post-ISR images of {}, find the same stars in all visits, and fit PSFs with these again."
    )
    text = _text(card, description, _RECALIBRATE, tasks, classes=_CLASSES | classes)
    if others:
        _check(text, list(others), card.source)
    return text


def _recalibrate_overrides(card: CameraCard) -> dict[str, dict[str, Any]]:
    """Return what a card says of the tasks of recalibrate beyond CalibrateImage, the order of its bands included."""
    others, _ = _task_overrides(card)
    if bands := _band_order(card):
        others[_ASSOCIATE] = {"band_order": bands} | others.get(_ASSOCIATE, {})
    return others


def _band_order(card: CameraCard) -> list[str]:
    """Return the order of a camera's bands for the association of stars where the usual one lacks some, else nothing."""
    usual = list(IsolatedStarAssociationConfig().band_order)
    bands = list(dict.fromkeys((card.get("bands") or {}).values()))
    if set(bands) <= set(usual):
        return []
    return [*(band for band in usual if band in bands), *(band for band in bands if band not in usual)]


def _calibrate_image(card: CameraCard) -> _Lines:
    """Return what a card says of CalibrateImage."""
    lines = _Lines()
    if card.get("first_look"):
        lines.add("config.do_first_look = True")
    # a card that cannot be applied shall not become a pipeline, and values get the field's type
    applied = build_config(card)
    for field in card.overrides:
        lines.add_field(applied, field)
    return lines


def fgcm_text(card: CameraCard, imported: str = _FGCM[0]) -> str:
    """Return the YAML of a camera's pipeline of the global calibration: its filters, bands and site.

    Parameters
    ----------
    card
        The camera card; its instrument needs a fixed name.
    imported
        The shipped pipeline: ``fgcm.yaml`` or ``fgcm_legacy.yaml``.

    Raises
    ------
    InvalidInputError
        If an override of the card does not fit, or is addressed to a task that is in no pipeline.
    """
    _, overrides = _task_overrides(card)
    classes = _classes_of(imported)
    tasks = {label: _applied(card, overrides.get(label, {}), fgcm_lines(card, label)) for label in classes}
    text = _text(
        card,
        "Look-up table, star list and fit of the global calibration of {}.",
        imported,
        tasks,
        classes=classes,
    )
    if overrides:
        _check(text, list(overrides), card.source)
    return text


def global_text(card: CameraCard) -> str:
    """Return the YAML of a camera's pipeline from images to what is calibrated for the whole survey.

    Parameters
    ----------
    card
        The camera card, of which `recalibrate_text` and `fgcm_text` can be made; its instrument needs a fixed name.
    """
    classes, of_survey = _classes_of(_GLOBAL), _classes_of(_FGCM[0])
    _, later = _task_overrides(card)
    overrides = _recalibrate_overrides(card) | later
    tasks = {_LABEL: _calibrate_image(card)} | {
        label: _applied(card, overrides.get(label, {}), fgcm_lines(card, label) if label in of_survey else ())
        for label in classes
        if label in overrides or label in of_survey
    }
    return _text(card, "Calibrate all visits of {} at once.", _GLOBAL, tasks, classes=_CLASSES | classes)


def _applied(card: CameraCard, fields: Mapping[str, Any], before: Iterable[str] = ()) -> _Lines:
    """Return lines, and after them those that apply overrides of a card."""
    lines = _Lines()
    for line in before:
        lines.add(line)
    for field, value in fields.items():
        lines.add_import("from zeropoint.recipes.overrides import apply_override")
        lines.add(f"apply_override(config, {field!r}, {value!r}, origin='camera card {card.name}')")
    return lines


def _task_overrides(card: CameraCard) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return what a card says of the tasks of recalibrate beyond CalibrateImage, and of those of the global calibration."""
    others = {label: dict(fields) for label, fields in card.task_overrides.items() if label != _LABEL}
    if not others:
        return {}, {}
    labels, later = _classes_of(_RECALIBRATE), _classes_of(_FGCM[0])
    for label in others:
        if label not in labels and label not in later:
            close = difflib.get_close_matches(label, [*labels, *later], 1)
            hint = f"Did you mean {close[0]}?" if close else f"Labels: {', '.join([*labels, *later])}."
            raise InvalidInputError(
                f"Camera card {card.source}: config: the pipeline has no task {label!r}. {hint}"
            )
    return (
        {label: fields for label, fields in others.items() if label in labels},
        {label: fields for label, fields in others.items() if label in later},
    )


def _classes_of(pipeline: str) -> dict[str, str]:
    """Return the classes of the tasks of a shipped pipeline by their labels."""
    tasks = yaml.safe_load(str(Pipeline.from_uri(f"{_FOLDER}/{pipeline}")))["tasks"]
    return {label: task["class"] for label, task in tasks.items()}


def _check(text: str, labels: list[str], source: str) -> None:
    """Raise if some tasks of a pipeline cannot be configured."""
    pipeline = Pipeline.fromString(text)
    try:
        pipeline.subsetFromLabels(LabelSpecifier(labels=set(labels))).to_graph()
    except Exception as error:
        raise InvalidInputError(f"Camera card {source}: config: {reason(error)}") from error


def legacy_pipeline_text(card: CameraCard) -> str:
    """Return the YAML of the older pair's pipeline of a camera: what its card says, in the names of the pair.

    Parameters
    ----------
    card
        The camera card, of which `pipeline_text` can be made. Fields without a counterpart become comments.
    """
    configs = {CHARACTERIZE: CharacterizeImageConfig(), CALIBRATE: CalibrateConfig()}
    tasks: dict[str, _Lines] = {label: _Lines() for label in configs}
    left_out = []
    overrides = {"do_first_look": True} if card.get("first_look") else {}
    for field, value in (overrides | dict(card.overrides)).items():
        places = legacy_fields(field)
        if not places:
            left_out.append(f"# left out, as the pair has no such step: {field}")
        for label, name in places:
            try:
                apply_override(configs[label], name, value)
            except InvalidInputError as error:
                left_out.append(f"# left out: {' '.join(str(error).split())}")
            else:
                tasks[label].add_field(configs[label], name)
    description = "Calibrate post-ISR images of {} with CharacterizeImage and Calibrate."
    return _text(card, description, "legacy.yaml", tasks, left_out)


def write_pipeline(root: Path, card: CameraCard) -> Path:
    """Write the pipelines of a camera into a repository's folder ``pipelines/<INSTRUMENT>``.

    They are ``calibrate.yaml``, ``recalibrate.yaml``, ``legacy.yaml``, ``fgcm.yaml``, ``fgcm_legacy.yaml`` and
    ``global.yaml``.

    Parameters
    ----------
    root
        Repository's directory.
    card
        The camera card.

    Returns
    -------
    path
        The first of them.

    Raises
    ------
    InvalidInputError
        If an override of the card does not fit, or the files cannot be written.
    """
    texts = {
        "calibrate.yaml": pipeline_text(card),
        _RECALIBRATE: recalibrate_text(card),
        "legacy.yaml": legacy_pipeline_text(card),
        **{name: fgcm_text(card, name) for name in _FGCM},
        _GLOBAL: global_text(card),
    }
    folder = root / "pipelines" / str(card.get("instrument"))
    for name, text in texts.items():
        path = folder / name
        if path.exists() and path.read_text() == text:
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                temporary.write_text(text)
        except OSError as error:
            raise InvalidInputError(f"{path}: cannot be written ({error.strerror}).") from None
    return folder / "calibrate.yaml"


class _Lines:
    """Python that sets fields of a task's configuration."""

    def __init__(self) -> None:
        self._imports: set[str] = set()
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        """Add a statement."""
        self._lines.append(line)

    def add_import(self, line: str) -> None:
        """Add an import."""
        self._imports.add(line)

    def add_field(self, applied: pexConfig.Config, field: str) -> None:
        """Add the statement that gives a field the value that it has in a configuration."""
        kind, found = _field(applied, field)
        if isinstance(kind, pexConfig.ConfigurableField):
            step = found.target
            self._imports.add(f"from {step.__module__} import {step.__name__}")
            self.add(f"config.{field}.retarget({step.__name__})")
        elif isinstance(kind, (pexConfig.RegistryField, pexConfig.ConfigChoiceField)):
            choice = "names" if kind.multi else "name"
            chosen = getattr(found, choice)
            self.add(f"config.{field}.{choice} = {list(chosen) if kind.multi else chosen!r}")
        elif isinstance(kind, pexConfig.ListField):
            self.add(f"config.{field} = {list(found)!r}")
        elif isinstance(kind, pexConfig.DictField):
            self.add(f"config.{field} = {dict(found)!r}")
        else:
            self.add(f"config.{field} = {found!r}")

    def text(self) -> str:
        """Return the statements, imports first."""
        return "".join(f"{line}\n" for line in [*sorted(self._imports), *self._lines])


def _text(
    card: CameraCard,
    description: str,
    imported: str,
    tasks: dict[str, _Lines],
    comments: Sequence[str] = (),
    classes: Mapping[str, str] | None = None,
) -> str:
    """Return the YAML of a pipeline that imports a shipped one and configures its tasks."""
    name = check_instrument_name(card.get("instrument"), card.source)
    content: dict[str, Any] = {
        "description": description.format(name),
        "instrument": class_name(name),
        "imports": [{"location": f"{_FOLDER}/{imported}"}],
    }
    by_label = _CLASSES if classes is None else classes
    configured = {
        label: {"class": by_label[label], "config": [{"python": _Block(text)}]}
        for label, lines in tasks.items()
        if (text := lines.text())
    }
    if configured:
        content["tasks"] = configured
    note = f"# Made from the camera card {card.name}: change the card, not this file.\n"
    notes = "".join(f"{comment}\n" for comment in comments)
    return note + notes + yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=110)


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
