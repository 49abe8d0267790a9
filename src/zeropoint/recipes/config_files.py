"""Python config files as Rubin's users write them: what they may hold here, and one line when they cannot apply."""

from __future__ import annotations

import ast
import difflib
import logging
import multiprocessing
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any, ClassVar

import click
import lsst.pex.config as pexConfig

from zeropoint.errors import InvalidInputError
from zeropoint.recipes.rubin_names import advice, import_line, is_missing_module, locate, why_needless

__all__ = [
    "ABSENT",
    "TASK_ONLY",
    "ConfigFileError",
    "FileConfig",
    "InconsistentConfigError",
    "load_override_file",
    "nearest",
    "reason",
]

_LOG = logging.getLogger(__name__)

#: Fields of the pipeline task that mean nothing to the recipe, and what does their work where there is no Butler.
TASK_ONLY = {
    "diffractionSpikeMask": "masking of diffraction spikes is not available",
    "connections": "catalogues and outputs are named on the command line",
    "id_generator": "ids come from the camera card",
    "idGenerator": "ids come from the camera card",
    "saveLogOutput": "logs go to the terminal",
    "useButlerCamera": "the detector comes from the camera card",
    "useButlerExposureRegion": "the region comes from the image",
}

#: Fields and choices of Rubin's steps that do not exist here, and why.
ABSENT = {
    "modelPsf": "interpolation over defects uses the image's own PSF",
    "shearType": "re-Gaussianization is the only method",
    **{f"psfTE{i}": "the separations of these statistics are fixed" for i in range(1, 5)},
    "maskStreaks": "masking of streaks is not available",
    "insertFakes": "fake sources are not available",
    "createSummaryMetrics": "the summary statistics are in the image's metadata",
}

#: Shortest name that may be an abbreviation.
_MIN_ABBREVIATION = 3

_said: set[str] = set()


class ConfigFileError(InvalidInputError, click.ClickException):
    """A config file that cannot be applied.

    Click prints it as one line, so that ``pipetask`` does too, instead of a traceback through the middleware.
    """

    def __init__(self, message: str) -> None:
        click.ClickException.__init__(self, message)


class InconsistentConfigError(pexConfig.FieldValidationError, click.ClickException):
    """Fields that cannot work, or not with each other; one line in ``pipetask``, like `ConfigFileError`."""

    def __init__(self, field: pexConfig.Field, config: pexConfig.Config, message: str) -> None:
        pexConfig.FieldValidationError.__init__(self, field, config, message)
        click.ClickException.__init__(self, self.args[0])
        self._sentence = message

    def format_message(self) -> str:
        """Return the sentence that click prints."""
        return f"{self.fullname}: {self._sentence}"


class FileConfig(pexConfig.Config):
    """A configuration whose files may be Rubin's: fields of the task alone are skipped, errors name file and line."""

    #: Label of the task, where `zeropoint config` has to be told.
    task_name: ClassVar[str] = ""

    def load(self, filename: Any, root: str = "config") -> None:
        """Execute a config file on this configuration, in place.

        Raises
        ------
        ConfigFileError
            If it does not exist or cannot be applied; the message is one line and names file and line.
        """
        resource, name = self._filename_to_resource(filename)
        try:
            with resource.open("r") as stream:
                text = stream.read()
        except (OSError, UnicodeDecodeError, AttributeError) as error:
            raise ConfigFileError(f"{name}: this config file cannot be read ({reason(error)}).") from None
        self.loadFromString(text, root=root, filename=filename)

    def loadFromString(
        self,
        code: str | bytes | CodeType,
        root: str = "config",
        filename: Any = None,
        extraLocals: dict[str, Any] | None = None,
    ) -> None:
        """Execute the text of a config file on this configuration, in place.

        Raises
        ------
        ConfigFileError
            If it cannot be applied; the message is one line and names file and line.
        """
        if filename is None:
            filename = getattr(code, "co_filename", None)
        _, name = self._filename_to_resource(filename)
        with _one_line(name, self.task_name):
            if not isinstance(code, CodeType):
                code = self._compile(code, name, root)
            super().loadFromString(code, root=root, filename=filename, extraLocals=extraLocals)
        _reject_foreign_steps(self)

    def _compile(self, text: str | bytes, name: str, root: str) -> CodeType:
        tree = _SkipImports(ast.parse(text, name), name).tree
        skipped = [field for field in TASK_ONLY if field not in self._fields]
        if skipped:
            tree = _SkipFields(root, skipped, name).visit(tree)
        return compile(tree, name, "exec")


class _SkipFields(ast.NodeTransformer):
    """Replace assignments to given fields of the root configuration by nothing, and say so once."""

    def __init__(self, root: str, fields: list[str], file: str) -> None:
        self._root, self._fields, self._file = root, fields, file

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        return self._skip(node, node.targets[0])

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        return self._skip(node, node.target)

    def _skip(self, node: ast.stmt, target: ast.expr) -> ast.stmt:
        path = ast.unparse(target)
        parts = re.split(r"[.\[]", path)
        if len(parts) < 2 or parts[0] != self._root or parts[1] not in self._fields:
            return node
        field = path.partition(".")[2]
        _say(f"{self._file}, line {node.lineno}: {field} has no effect here; {TASK_ONLY[parts[1]]}.")
        return ast.copy_location(ast.Pass(), node)


class _SkipImports(ast.NodeTransformer):
    """Replace imports that only register plugins, which always are here, by nothing, and say so once.

    An import whose names the file uses stays, and fails with the name of our equivalent.
    """

    def __init__(self, tree: ast.Module, file: str) -> None:
        self._file = file
        self._used = {
            ast.unparse(node) for node in ast.walk(tree) if isinstance(node, (ast.Name, ast.Attribute))
        }
        self.tree: ast.Module = self.visit(tree)

    def visit_Import(self, node: ast.Import) -> ast.stmt:
        return self._skip(node, [(alias.name, alias.asname or alias.name) for alias in node.names])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt:
        names = [(f"{node.module}.{alias.name}", alias.asname or alias.name) for alias in node.names]
        return self._skip(node, names)

    def _skip(self, node: ast.Import | ast.ImportFrom, names: list[tuple[str, str]]) -> ast.stmt:
        reasons = [why_needless(module) for module, _ in names]
        if not all(reasons) or any(local in self._used for _, local in names):
            return node
        _say(f"{self._file}, line {node.lineno}: `{ast.unparse(node)}` is not needed; {reasons[0]}.")
        return ast.copy_location(ast.Pass(), node)


def _say(sentence: str) -> None:
    """Warn once, and not again from every worker process, which reads the same files."""
    if sentence not in _said and multiprocessing.parent_process() is None:
        _LOG.warning(sentence)
    _said.add(sentence)


@contextmanager
def _one_line(file: str, task: str) -> Iterator[None]:
    """Turn whatever a config file of a task raises into a `ConfigFileError`."""
    try:
        yield
    except ConfigFileError:
        raise
    except Exception as error:
        place, line = _place(error, file)
        where = f"{place}, line {line}" if line else place
        raise ConfigFileError(f"{where}: {reason(error, place, line, task)}") from None


def _place(error: BaseException, file: str) -> tuple[str, int]:
    """Return the config file, possibly one that the first one loads, and the line at which it failed."""
    if isinstance(error, SyntaxError) and error.lineno:
        return error.filename or file, error.lineno
    place, line, files = file, 0, {file}
    for frame, number in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib"):  # what an imported module executes is not the file's doing
            break
        if frame.f_code.co_name == "<module>":
            files.add(name)
        if name in files:
            place, line = name, number
    return place, line


def reason(error: BaseException, file: str = "", line: int = 0, task: str = "") -> str:
    """Say on one line what is wrong with a statement of a config file, and what to do.

    Parameters
    ----------
    error
        What the statement raised.
    file, line
        Where the statement is; for an import, its text is read there.
    task
        Label of the task whose configuration it is, where `zeropoint config` has to be told.
    """
    if isinstance(error, ImportError) and is_missing_module(error.name or ""):
        return _import_reason(error, file, line, task)
    lines = [text.strip() for text in str(error).splitlines() if text.strip()]
    text = lines[0] if lines else type(error).__name__
    if isinstance(error, pexConfig.FieldValidationError):
        text = text.rpartition("failed validation: ")[2]
        text = f"{error.fullname}: {text}{_expected(error, text)}"
    missing = re.search(r"'?([\w.]+)'?(?: object)? has no attribute '?(\w+)'?", text)
    if missing:
        text = f"there is no configuration field {missing[2]!r} in {missing[1].rpartition('.')[2]}"
        owner = getattr(error, "obj", None) or _find_config(missing[1])
        text += f".{nearest(missing[2], list(getattr(owner, '_fields', {})))}"
    elif isinstance(error, (OSError, SyntaxError, NameError, KeyError)):
        text = f"{type(error).__name__}: {text}"
    for word in ABSENT:
        if re.search(rf"\b{word}\b", text):
            return f"{text.partition('. ')[0].rstrip('.')}; {ABSENT[word]}."
    return text if text.endswith((".", "?")) else f"{text}."


def _expected(error: pexConfig.FieldValidationError, text: str) -> str:
    """Say what a field takes whose value was refused without a reason, or nothing."""
    if not text.endswith("is not allowed.") and "is not a valid value" not in text:
        return ""
    for kind in _config_classes():
        field = getattr(kind, "_fields", {}).get(error.fieldName)
        if field is None or field.source is not error.fieldSource:
            continue
        if isinstance(field, pexConfig.ChoiceField):
            return (
                f" Choose one of {', '.join(str(choice) for choice in field.allowed if choice is not None)}."
            )
        return f". It should be: {field.doc}"
    return ""


def _config_classes() -> Iterator[type[pexConfig.Config]]:
    """Yield every configuration class."""
    classes: list[type[pexConfig.Config]] = [pexConfig.Config]
    for kind in classes:
        yield kind
        classes += kind.__subclasses__()


def _find_config(name: str) -> type | None:
    """Return the configuration class of a dotted name."""
    return next((kind for kind in _config_classes() if f"{kind.__module__}.{kind.__name__}" == name), None)


def nearest(name: str, known: list[str]) -> str:
    """Return a sentence that suggests the known name next to a misspelt one, or nothing.

    A name of Rubin's that does not exist here is explained instead.
    """
    if name in ABSENT:
        return f" {ABSENT[name][0].upper()}{ABSENT[name][1:]}."
    close = difflib.get_close_matches(name, known, 1) or _spelt_out(name, known)
    return f" Did you mean {close[0]!r}?" if close else ""


def _spelt_out(name: str, known: list[str]) -> list[str]:
    """Return the shortest known name that an abbreviation (``doSN``) stands for, in a list; else none."""
    pattern = ".*".join(map(re.escape, name))
    fitting = [word for word in known if re.match(pattern, word)]
    return [min(fitting, key=len)] if len(name) >= _MIN_ABBREVIATION and fitting else []


def _import_reason(error: ImportError, file: str, line: int, task: str) -> str:
    module, names = error.name or "", []
    try:
        tree = ast.parse(Path(file).read_text())
    except (OSError, SyntaxError, UnicodeDecodeError):
        tree = ast.Module([], [])
    statement = module
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)) and node.lineno <= line <= (node.end_lineno or 0):
            statement = ast.unparse(node)
            names = [alias.name for alias in node.names]
            module = getattr(node, "module", None) or names[0]
    ours = [found for name in names if (found := import_line(name, name))]
    others = [advice(module, name) for name in names if locate(name) is None]
    remedy = [f"`{text}`" for text in ours] + list(
        dict.fromkeys(others or ([] if ours else [advice(module)]))
    )
    option = f" --task {task}" if task else ""
    return (
        f"`{statement}` needs Rubin's compiled stack; here: {'; '.join(remedy)} "
        f"(`zeropoint config translate {file}{option}` rewrites the file)."
    )


def _reject_foreign_steps(config: pexConfig.Config, path: str = "") -> None:
    """Refuse sub-steps that were retargeted to Rubin's classes, where these can be imported."""
    for name, field in config._fields.items():
        value = getattr(config, name)
        if isinstance(field, pexConfig.ConfigurableField):
            target = value.target
            if is_missing_module(target.__module__):
                found = import_line(target.__name__, target.__name__)
                remedy = f"`{found}`" if found else advice(target.__module__, target.__name__)
                caller = config.history[name][-1][1][-1]
                raise ConfigFileError(
                    f"{caller.filename}, line {caller.lineno}: {path}{name} is retargeted to "
                    f"{target.__module__}.{target.__name__}; here: {remedy}."
                )
            _reject_foreign_steps(value.value, f"{path}{name}.")
        elif isinstance(field, pexConfig.ConfigField):
            _reject_foreign_steps(value, f"{path}{name}.")


def load_override_file(config: pexConfig.Config, path: str | Path) -> None:
    """Execute a Python config file on a configuration, in place (``config.field = value``).

    Raises
    ------
    InvalidInputError
        If the file does not exist, or fails; the message names the file and line.
    """
    file = Path(path)
    if not file.is_file():
        raise InvalidInputError(f"{file}: no such config file.")
    config.load(str(file))
