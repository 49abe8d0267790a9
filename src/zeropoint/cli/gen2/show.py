"""``--show``: what an old command line is going to do, without doing it."""

from __future__ import annotations

import ast
import fnmatch
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeropoint.cli.gen2.translate import OldTask, Translation, as_command
from zeropoint.errors import OptionError

if TYPE_CHECKING:
    from lsst.pex.config import Config

__all__ = ["config_lines", "data_lines", "history_lines", "subtask_lines"]

#: What configures tasks, what of its calls applies overrides, and the name of Python that is in no file.
_CONFIGURES, _OVERRIDES, _UNNAMED = (
    "lsst/pipe/base/pipeline.py",
    "lsst/pipe/base/configOverrides.py",
    "<string>",
)
#: Where no value is from.
_INTERNAL = ("/lsst/pex/config/", "/lsst/pipe/base/", "/zeropoint/recipes/overrides.py")
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


def history_lines(
    config: Config, path: str, overrides: Sequence[tuple[str, str]] = (), pipeline: str = "the pipeline"
) -> Iterator[str]:
    """Yield the values that a field had, the last one last, and where each is from.

    Parameters
    ----------
    config
        Configuration of the task.
    path
        Name of the field, dots between the steps.
    overrides
        Those of the command line: (field, value), or ("", file).
    pipeline
        What overrides are from that are not of the command line.

    Raises
    ------
    OptionError
        If there is no such field.
    """
    owner: object = config
    path = path.removeprefix("config.")
    *steps, name = path.split(".")
    for step in steps:
        owner = getattr(owner, step, None)
        owner = getattr(owner, "value", owner)
    if name not in getattr(owner, "_fields", {}):
        raise OptionError(f"--show history={path}: the configuration has no such field.")
    yield path
    history = owner.history[name]  # type: ignore[attr-defined]
    rows = [(repr(value), _origin(path, value, stack, overrides, pipeline)) for value, stack, _ in history]
    width = max((len(value) for value, _ in rows), default=0)
    # copies of a configuration repeat what they copy
    for value, origin in dict.fromkeys(rows):
        yield f"  {value:<{width}}  {origin}"


def _origin(
    path: str, value: Any, stack: Sequence[Any], overrides: Sequence[tuple[str, str]], pipeline: str
) -> str:
    """Return where a field was set to a value: an option, a file and its line, the pipeline, or nowhere."""
    begin = max((k for k, frame in enumerate(stack) if frame.filename.endswith(_CONFIGURES)), default=-1)
    inner = stack[begin + 1 :]
    places = [frame for frame in inner if not any(folder in frame.filename for folder in _INTERNAL)]
    if places and places[-1].filename != _UNNAMED:
        return f"{places[-1].filename}:{places[-1].lineno}"
    if not places and not any(frame.filename.endswith(_OVERRIDES) for frame in inner):
        return "default"
    files = [file for field, file in overrides if not field and _sets(file, places, path)]
    if files:
        return " or ".join(f"{file}:{places[-1].lineno}" for file in files)
    # a field may have several names, as sourceSelector.active and sourceSelector["science"]
    name = path.rpartition(".")[2]
    given = [pair for pair in overrides if pair[0].rpartition(".")[2] == name and _means(pair[1], value)]
    given += [pair for pair in overrides if pair[0] == path]
    return "-c {}={}".format(*given[0]) if given else pipeline


def _means(text: str, value: Any) -> bool:
    """Say whether a value may be what a text of the command line means."""
    try:
        return bool(ast.literal_eval(text) == value)
    except (ValueError, SyntaxError):
        return text == str(value)


def _sets(file: str, places: Sequence[Any], path: str) -> bool:
    """Say whether the line of a configuration file that a value is from is about a field."""
    if not places or not Path(file).is_file():
        return False
    lines = Path(file).read_text().splitlines()
    name = re.escape(path.rpartition(".")[2])
    return len(lines) >= places[-1].lineno and bool(re.search(rf"\b{name}\b", lines[places[-1].lineno - 1]))
