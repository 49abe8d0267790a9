"""``--show``: what an old command line is going to do, without doing it."""

from __future__ import annotations

import fnmatch
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from zeropoint.cli.gen2.translate import OldTask, Translation, as_command
from zeropoint.errors import OptionError

if TYPE_CHECKING:
    from lsst.pex.config import Config

__all__ = ["config_lines", "data_lines", "history_lines", "subtask_lines"]

#: Behind a pattern: capitals count.
_CASE = ":NOIGNORECASE"
#: Visits on a line.
_PER_LINE = 10


def data_lines(translation: Translation, task: OldTask, visits: Sequence[int]) -> Iterator[str]:
    """Yield what the data ids were translated to, and the visits that they select.

    Parameters
    ----------
    translation
        What the command line means.
    task
        Which task.
    visits
        Visits selected, ascending.
    """
    request = translation.request
    yield f"inputs:     {', '.join(request.inputs) or f'those of {request.output}'}"
    yield f"output:     {request.output}"
    yield f"data query: {request.data_query}"
    yield f"detectors:  {', '.join(map(str, translation.detectors)) or 'all'}"
    if task.reads:
        yield f"visits:     {len(visits)}"
        for k in range(0, len(visits), _PER_LINE):
            yield "  " + " ".join(map(str, visits[k : k + _PER_LINE]))
    yield f"the same as: {as_command(request)}"


def config_lines(config: Config, pattern: str) -> Iterator[str]:
    """Yield a configuration as a file of it, or the lines of fields whose name fits a pattern.

    Parameters
    ----------
    config
        Configuration of the task.
    pattern
        Name with ``*`` and ``?``, in capitals or not, unless ``:NOIGNORECASE`` follows it; empty: all.
    """
    text = io.StringIO()
    config.saveToStream(text)
    lines = text.getvalue().splitlines()
    if not pattern:
        yield from lines
        return
    wanted = "config." + pattern.removeprefix("config.").removesuffix(_CASE)
    exact = pattern.endswith(_CASE)
    fields = ((line.partition("=")[0].strip(), line) for line in lines if line.startswith("config."))
    found = [
        line
        for name, line in fields
        if fnmatch.fnmatchcase(*((name, wanted) if exact else (name.lower(), wanted.lower())))
    ]
    yield from found or [f"no field fits {pattern!r}"]


def subtask_lines(config: Config, prefix: str = "") -> Iterator[str]:
    """Yield the steps that a configuration names, with their classes.

    Parameters
    ----------
    config
        Configuration of the task.
    prefix
        Of the names, with its dot.
    """
    from lsst.pex.config import ConfigField, ConfigurableField, RegistryField

    for name, field in config._fields.items():
        value = getattr(config, name)
        if isinstance(field, RegistryField):
            if not field.multi and value.name is not None:
                yield f"{prefix}{name}: {value.target.__module__}.{value.target.__name__} ({value.name})"
        elif isinstance(field, ConfigurableField):
            yield f"{prefix}{name}: {value.target.__module__}.{value.target.__name__}"
            yield from subtask_lines(value.value, f"{prefix}{name}.")
        elif isinstance(field, ConfigField) and value is not None:
            yield from subtask_lines(value, f"{prefix}{name}.")


def history_lines(config: Config, path: str) -> Iterator[str]:
    """Yield where a field got its value.

    Parameters
    ----------
    config
        Configuration of the task.
    path
        Name of the field, dots between the steps.

    Raises
    ------
    OptionError
        If there is no such field.
    """
    owner: object = config
    *steps, name = path.removeprefix("config.").split(".")
    for step in steps:
        owner = getattr(owner, step, None)
        owner = getattr(owner, "value", owner)
    if name not in getattr(owner, "_fields", {}):
        raise OptionError(f"--show history={path}: the configuration has no such field.")
    yield from owner.formatHistory(name).splitlines()  # type: ignore[attr-defined]
