"""Functor files: which columns a standardised source table has, and what they are made of.

The language is Rubin's (YAML): ``funcs`` maps each output column to a functor and its arguments, ``flags`` lists input
columns that are copied, ``flag_rename_rules`` turns their names into names of outputs.  One key is ours: ``optional``
lists outputs that are left out where the input lacks what they are made of.  ``docs/visit_tables.md`` describes it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from zeropoint.catalogs.functors import Functor, make_functor
from zeropoint.errors import InvalidInputError

__all__ = ["FunctorFile", "functor_file_path"]

_SCHEMAS = "schemas"
#: What Rubin's configurations call the folder of the functor files that come with the package.
_RUBIN_FOLDER = "$PIPE_TASKS_DIR/schemas/"
_RESOURCE = "resource://"
_OTHER_TABLES = ("calexpFlags", "refFlags", "forcedFlags")


@dataclass(frozen=True)
class FunctorFile:
    """What a functor file says.

    Parameters
    ----------
    name
        Where it came from, for messages.
    functors
        Output columns, in order.
    optional
        Patterns of outputs that may be left out.
    """

    name: str
    functors: dict[str, Functor]
    optional: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: str | Path, *, extra_columns: Sequence[str] = ()) -> FunctorFile:
        """Read a file.

        Parameters
        ----------
        path
            As for `functor_file_path`.
        extra_columns
            Input columns that are copied as if the file had them among its ``flags``.

        Raises
        ------
        InvalidInputError
            If there is no such file, or it is no functor file.
        """
        found = functor_file_path(path)
        try:
            text = found.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"the functor file {path} cannot be read: {error}") from None
        return cls.from_text(text, str(path), extra_columns=extra_columns)

    @classmethod
    def from_text(
        cls, text: str, name: str = "functor file", *, extra_columns: Sequence[str] = ()
    ) -> FunctorFile:
        """Return what the text of a functor file says, with ``extra_columns`` as for `read`.

        Raises
        ------
        InvalidInputError
            If it is no YAML of this language, or two entries make one column.
        """
        try:
            content = yaml.safe_load(text)
            return cls(name, _functors(content, extra_columns), tuple(_strings(content, "optional")))
        except yaml.YAMLError as error:
            raise InvalidInputError(f"{name} is no YAML: {error}") from None
        except InvalidInputError as error:
            raise InvalidInputError(f"{name}: {error}") from None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every input column, in the order of the outputs, once."""
        return tuple(dict.fromkeys(column for functor in self.functors.values() for column in functor.inputs))

    def available(self, columns: Collection[str]) -> FunctorFile:
        """Return the file without the optional outputs that an input cannot supply.

        Parameters
        ----------
        columns
            Names of the input's columns.

        Raises
        ------
        InvalidInputError
            If the input lacks columns of outputs that are not optional.
        """
        present, missing, kept = set(columns), [], {}
        for output, functor in self.functors.items():
            lacking = [column for column in functor.inputs if column not in present]
            if not lacking:
                kept[output] = functor
            elif not any(fnmatchcase(output, pattern) for pattern in self.optional):
                missing += [f"{column} (of {output})" for column in lacking]
        if missing:
            shown = ", ".join(missing[:8]) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
            raise InvalidInputError(
                f"{self.name}: the table has no column {shown}. Measure them, choose another functorFile, or name the "
                "outputs under 'optional' in it."
            )
        return FunctorFile(self.name, kept, self.optional)


def functor_file_path(path: str | Path) -> Path:
    """Return where a functor file is.

    Parameters
    ----------
    path
        A path (with environment variables and ``~``), ``resource://<package>/<path>``, or
        ``$PIPE_TASKS_DIR/schemas/<name>``, which is the file of that name that comes with this package.
    """
    text = str(path)
    if text.startswith(_RUBIN_FOLDER) and "PIPE_TASKS_DIR" not in os.environ:
        text = f"{_RESOURCE}zeropoint.catalogs/{_SCHEMAS}/{text.removeprefix(_RUBIN_FOLDER)}"
    if text.startswith(_RESOURCE):
        package, _, inside = text.removeprefix(_RESOURCE).partition("/")
        try:
            return Path(str(resources.files(package))) / inside
        except ModuleNotFoundError as error:
            raise InvalidInputError(f"the functor file {path} cannot be read: {error}") from None
    return Path(os.path.expandvars(text)).expanduser()


def _functors(content: Any, extra_columns: Sequence[str]) -> dict[str, Functor]:
    """Return all outputs: those of ``funcs``, then the renamed flags."""
    if not isinstance(content, dict) or not isinstance(content.get("funcs") or {}, dict):
        raise InvalidInputError("there must be a mapping 'funcs' of output columns.")
    for key in _OTHER_TABLES:
        if content.get(key):
            raise InvalidInputError(f"{key!r} belongs to object tables; a source table has 'flags' only.")
    functors = {
        str(name): make_functor(definition, str(name))
        for name, definition in (content.get("funcs") or {}).items()
    }
    rules = _rename_rules(content.get("flag_rename_rules") or ())
    for flag in [*_strings(content, "flags"), *extra_columns]:
        output = _renamed(flag, rules)
        if output in functors:
            raise InvalidInputError(f"{output!r} is made twice, the second time of {flag!r}.")
        functors[output] = make_functor({"functor": "Column", "args": flag}, output)
    if not functors:
        raise InvalidInputError("it names no column.")
    return functors


def _strings(content: dict[str, Any], key: str) -> list[str]:
    values = content.get(key) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InvalidInputError(f"{key!r} must be a list of names, not {values!r}.")
    return values


def _rename_rules(rules: Any) -> list[tuple[str, str]]:
    if not isinstance(rules, Sequence) or not all(
        isinstance(rule, Sequence)
        and len(rule) == 2
        and all(isinstance(part, str) for part in rule)
        and rule[0]
        for rule in rules
    ):
        raise InvalidInputError(
            f"'flag_rename_rules' must be a list of [prefix, replacement], not {rules!r}."
        )
    return [(prefix, replacement) for prefix, replacement in rules]


def _renamed(name: str, rules: Sequence[tuple[str, str]]) -> str:
    """Apply every rule in turn to a name that begins with its prefix, wherever the prefix occurs in it."""
    for prefix, replacement in rules:
        if name.startswith(prefix):
            name = name.replace(prefix, replacement)
    return name
