"""Apply configuration overrides as Rubin's users write them.

``psf_detection.thresholdValue=8``, ``psf_measure_psf.starSelector["objectSize"].widthMin=0.4``,
``astrometry.wcsFitter=FitTanSipWcsTask`` (retargets a sub-step), and Python config files.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

import lsst.pex.config as pexConfig

from zeropoint.errors import InvalidInputError, OptionError
from zeropoint.recipes.config_files import TASK_ONLY, load_override_file, nearest, reason
from zeropoint.recipes.rubin_names import steps_by_name

__all__ = [
    "apply_option",
    "apply_override",
    "apply_overrides",
    "changed_fields",
    "load_override_file",
    "parse_assignment",
    "steps_by_name",
]

#: Most entries of a registry or dictionary that a message lists.
_MAX_LISTED = 12
#: Most fields of a configuration that a message lists.
_MAX_FIELDS_LISTED = 24
_NOT_FINITE = {"nan", "inf", "+inf", "-inf"}
_PART = re.compile(r"""([A-Za-z_]\w*)|\[\s*(['"])(.*?)\2\s*\]""")


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split ``FIELD=VALUE``; the value is a Python literal, else a string.

    Raises
    ------
    OptionError
        If there is no ``=``.
    """
    field, separator, raw = text.partition("=")
    if not separator or not field.strip():
        raise OptionError(f"-c: {text!r} must have the form FIELD=VALUE.")
    raw = raw.strip()
    if raw.lower() in ("true", "false"):
        return field.strip(), raw.lower() == "true"
    if raw.lower() in _NOT_FINITE:
        return field.strip(), float(raw)
    try:
        return field.strip(), ast.literal_eval(raw)
    except (ValueError, SyntaxError):
        return field.strip(), raw


def apply_override(config: pexConfig.Config, path: str, value: Any, *, origin: str = "override") -> None:
    """Set one field of a configuration in place.

    Parameters
    ----------
    config
        The configuration.
    path
        Dotted field name; registry and dict entries in brackets.
    value
        New value; for a sub-step, the name of a class of `steps_by_name`.
    origin
        Where the override comes from, for messages.

    Raises
    ------
    InvalidInputError
        If there is no such field, or the value does not fit.
    """
    parts = _split(path, origin)
    target: Any = config
    for i, part in enumerate(parts[:-1]):
        target = _descend(target, part, ".".join(p for p, _ in parts[: i + 1]), origin)
    name, bracketed = parts[-1]
    try:
        if bracketed:
            target[name] = value
        elif isinstance(field := getattr(type(_unwrap(target)), name, None), pexConfig.ConfigurableField):
            getattr(target, name).retarget(_step_class(field, value, path, origin))
        else:
            _require(target, name, path, origin)
            _assign(target, name, value)
    except InvalidInputError:
        raise
    except (pexConfig.FieldValidationError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidInputError(f"{origin}: {path}={value!r} is not possible: {reason(error)}") from None


def _step_class(field: pexConfig.ConfigurableField, value: Any, path: str, origin: str) -> type:
    known = steps_by_name(field)
    if not isinstance(value, str) or value not in known:
        raise InvalidInputError(
            f"{origin}: {path} is a step and cannot be retargeted to {value!r}; set one of its fields, as "
            f"`zeropoint config {path}.` lists them, or choose one of {', '.join(_shortest_names(known))}."
        )
    return known[value]


def _shortest_names(known: Mapping[str, type]) -> list[str]:
    """Return one name for each class: the shortest, which for a selector is that of its registry."""
    shortest: dict[type, str] = {}
    for name in sorted(known, key=len):
        shortest.setdefault(known[name], name)
    return sorted(shortest.values())


def _assign(target: Any, name: str, value: Any) -> None:
    field = getattr(type(_unwrap(target)), name, None)
    if isinstance(field, pexConfig.Field) and not isinstance(value, bool):
        if field.dtype is float and isinstance(value, int):
            value = float(value)
        elif field.dtype is int and isinstance(value, float) and value.is_integer():
            value = int(value)
    if isinstance(field, (pexConfig.RegistryField, pexConfig.ConfigChoiceField)):
        if field.multi:
            getattr(target, name).names = value
        else:
            getattr(target, name).name = value
        return
    setattr(target, name, value)


def _unwrap(target: Any) -> Any:
    return getattr(target, "value", target) if type(target).__name__ == "ConfigurableInstance" else target


def _split(path: str, origin: str) -> list[tuple[str, bool]]:
    parts, position = [], 0
    text = path.strip()
    while position < len(text):
        if text[position] == ".":
            position += 1
        match = _PART.match(text, position)
        if match is None:
            raise InvalidInputError(f"{origin}: {path!r} is not a field name.")
        parts.append((match.group(1), False) if match.group(1) else (match.group(3), True))
        position = match.end()
    if not parts:
        raise InvalidInputError(f"{origin}: the field name is empty.")
    return parts


def _descend(target: Any, part: tuple[str, bool], path: str, origin: str) -> Any:
    name, bracketed = part
    if bracketed:
        try:
            return target[name]
        except (KeyError, TypeError, pexConfig.FieldValidationError):
            known = sorted(str(key) for key in target) if isinstance(target, Mapping) else []
            listed = f"; it has {', '.join(known)}" if 0 < len(known) <= _MAX_LISTED else ""
            raise InvalidInputError(
                f"{origin}: there is no entry {name!r} in {path.rpartition('.')[0]}{listed}.{nearest(name, known)}"
            ) from None
    _require(target, name, path, origin)
    return getattr(target, name)


def _require(target: Any, name: str, path: str, origin: str) -> None:
    inner = _unwrap(target)
    fields = list(getattr(inner, "_fields", {}))
    extra = ["name", "names", "active"] if not fields else []
    if name in fields or name in extra:
        return
    if isinstance(inner, Mapping) and name in inner:
        hint = f' It is an entry: write it in brackets, ["{name}"].'
    elif isinstance(inner, Mapping) and (owner := _entry_with(inner, name)):
        hint = f' It belongs to an entry: write {path.rpartition(".")[0]}["{owner}"].{name}.'
    elif name in TASK_ONLY:
        hint = f" It belongs to the pipeline task; here {TASK_ONLY[name]}."
    else:
        hint = nearest(name, fields)
    if not hint and 0 < len(fields) <= _MAX_FIELDS_LISTED:
        hint = f" There are {', '.join(sorted(fields))}."
    raise InvalidInputError(f"{origin}: there is no configuration field {path!r}.{hint}")


def _entry_with(entries: Mapping[str, Any], name: str) -> str:
    """Return the entry in use of a registry that has a field of this name, or an empty text."""
    try:
        chosen = list(entries.names)  # type: ignore[attr-defined]
    except (AttributeError, pexConfig.FieldValidationError):  # one choice, or a dictionary
        chosen = [getattr(entries, "name", None)]
    return next((entry for entry in chosen if entry and name in getattr(entries[entry], "_fields", {})), "")


def apply_option(config: pexConfig.Config, path: str, value: Any) -> None:
    """Set one field of a configuration in place, as ``-c FIELD=VALUE`` on the command line asks.

    Raises
    ------
    OptionError
        If there is no such field, or the value does not fit.
    """
    try:
        apply_override(config, path, value, origin="-c")
    except InvalidInputError as error:
        raise OptionError(str(error)) from None


def apply_overrides(config: pexConfig.Config, overrides: Mapping[str, Any], *, origin: str) -> None:
    """Apply several overrides in order, in place."""
    for path, value in overrides.items():
        apply_override(config, path, value, origin=origin)


def changed_fields(config: pexConfig.Config, default: pexConfig.Config) -> list[tuple[str, Any, Any]]:
    """Return (field, value, class default) of every scalar field that differs."""
    current, reference = _flatten(config.toDict()), _flatten(default.toDict())
    result = []
    for name, value in current.items():
        other = reference.get(name)
        if value != other and not (value != value and other != other):
            result.append((name, value, other))
    return result


def _flatten(data: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(data, Mapping):
        flat: dict[str, Any] = {}
        for key, value in data.items():
            flat.update(_flatten(value, f"{prefix}.{key}" if prefix else str(key)))
        return flat
    return {prefix: data}
