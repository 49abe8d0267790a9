"""Rewrite config files that import Rubin's compiled stack: our classes for its classes, comments for the rest."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lsst.pex.config as pexConfig

from zeropoint.errors import InvalidInputError
from zeropoint.recipes.config_files import TASK_ONLY, reason
from zeropoint.recipes.rubin_names import advice, import_line, is_missing_module, locate

__all__ = ["Translation", "translate_file"]


@dataclass
class Translation:
    """A translated config file.

    Parameters
    ----------
    path
        The file as given.
    text
        Its translation.
    checked
        Whether every statement was tried on a configuration; False for files of another task.
    changes
        Sentences on what was rewritten, with line numbers of the file as given.
    dropped
        Sentences on what has no equivalent and became a comment, or could not be followed.
    loads
        Files that it loads.
    """

    path: Path
    text: str
    checked: bool
    changes: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    loads: list[Translation] = field(default_factory=list)

    def family(self) -> list[Translation]:
        """Return this file and all that it loads, directly or not."""
        return [self, *(member for child in self.loads for member in child.family())]


def translate_file(path: Path, config: pexConfig.Config) -> Translation:
    """Translate a config file and the files that it loads; each statement is tried on a configuration.

    Parameters
    ----------
    path
        The file.
    config
        Configuration that the file is meant for; modified. A file that names none of its fields is translated
        without trying.

    Raises
    ------
    InvalidInputError
        If the file cannot be read or is not Python.
    """
    try:
        source = path.read_bytes()
        tree = ast.parse(source, str(path))
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError) as error:
        raise InvalidInputError(f"{path}: this config file cannot be read: {error}") from None
    return _File(path, source, tree, config).translate()


class _File:
    """One file in translation."""

    def __init__(self, path: Path, source: bytes, tree: ast.Module, config: Any) -> None:
        self._source, self._tree = source, tree
        self._starts = [0, *(match.end() for match in re.finditer(rb"\n", source))]
        named = set(re.findall(r"\bconfig\.(\w+)", source.decode(errors="replace")))
        fields = {*getattr(config, "_fields", {}), *TASK_ONLY}
        self._result = Translation(path, "", not named or bool(named & fields))
        self._namespace: dict[str, Any] = {"__file__": str(path.resolve()), "config": config}
        self._lost: dict[str, str] = {}  # local name -> what to do without it
        self._modules: dict[str, str] = {}  # how the file writes a missing module -> the module

    def translate(self) -> Translation:
        """Translate statement by statement; what lies between them stays."""
        pieces, position, last_line = [], 0, 0
        for node in self._tree.body:
            if node.lineno == last_line:
                raise InvalidInputError(
                    f"{self._result.path}, line {last_line}: write one statement per line, then translate."
                )
            last_line = node.end_lineno or node.lineno
            start, end = self._span(node)
            pieces += [self._source[position:start].decode(), self._statement(node, start, end)]
            position = end
        self._result.text = "".join([*pieces, self._source[position:].decode()])
        return self._result

    def _span(self, node: Any) -> tuple[int, int]:
        return (
            self._starts[node.lineno - 1] + node.col_offset,
            self._starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def _statement(self, node: ast.stmt, start: int, end: int) -> str:
        if isinstance(node, (ast.Import, ast.ImportFrom)) and _missing(node):
            return self._import(node)
        text = self._source[start:end].decode()
        if isinstance(node, ast.Assert) and "type(config)" in text:
            self._result.changes.append(f"line {node.lineno}: removed the check of the configuration's class")
            return _comment(text)
        lost = self._first_lost(node)
        if lost:
            return self._drop(node, text, lost)
        translated, imports = self._classes(node, start, end)
        if isinstance(node, ast.Expr) and (loaded := self._load(node)) is not None:
            return text if loaded else self._drop(node, text, "the file that it loads does not exist")
        if self._result.checked and not self._is_task_only(node):
            why = self._try(translated, node)
            if why:
                return self._drop(node, text, why)
        return "\n".join([*imports, translated])

    def _drop(self, node: ast.stmt, text: str, why: str) -> str:
        first = text.splitlines()[0]
        shown = first if first == text else f"{first} ..."
        self._result.dropped.append(f"line {node.lineno}: `{shown}` became a comment: {why.rstrip('.')}")
        return f"# no equivalent: {why}\n{_comment(text)}"

    def _import(self, node: ast.Import | ast.ImportFrom) -> str:
        """Translate an import of missing modules; other modules named beside them stay."""
        lines = []
        for alias in node.names:
            module = node.module or "" if isinstance(node, ast.ImportFrom) else alias.name
            local = alias.asname or alias.name
            if isinstance(node, ast.Import):
                if is_missing_module(module):
                    self._modules[local] = module
                    lines.append(f"# import {module}: {_note(module)}")
                else:
                    lines.append(f"import {module}" + (f" as {alias.asname}" if alias.asname else ""))
            elif found := import_line(alias.name, local):
                lines.append(found)
                self._result.changes.append(f"line {node.lineno}: {module}.{alias.name} is `{found}`")
            elif is_missing_module(f"{module}.{alias.name}") and alias.name.islower():
                self._modules[local] = f"{module}.{alias.name}"
                lines.append(f"# from {module} import {alias.name}: {_note(self._modules[local])}")
            else:
                self._lost[local] = f"{alias.name} does not exist here; {_note(module, alias.name)}"
                lines.append(f"# from {module} import {alias.name}: {_note(module, alias.name)}")
                self._result.changes.append(
                    f"line {node.lineno}: removed {module}.{alias.name}: {_note(module, alias.name)}"
                )
        if isinstance(node, ast.Import):
            self._result.changes.append(f"line {node.lineno}: `{ast.unparse(node)}` is not needed")
        code = "\n".join(lines)
        why = self._try(code, node)
        return self._drop(node, code, why) if why else code

    def _first_lost(self, node: ast.stmt) -> str:
        """Say why a statement cannot stay: it uses a class or module that does not exist here."""
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id in self._lost:
                return self._lost[part.id]
            name = self._foreign(part)
            if name and not locate(name) and not is_missing_module_only(name):
                module, _, last = name.rpartition(".")
                return f"{last} does not exist here; {_note(module, last)}"
        return ""

    def _classes(self, node: ast.stmt, start: int, end: int) -> tuple[str, list[str]]:
        """Return a statement with our names for Rubin's dotted ones, and the imports that they need."""
        edits, imports = [], []
        for part in ast.walk(node):
            name = self._foreign(part)
            if name and (found := locate(name)):
                edits.append((*self._span(part), found[1]))
                imports.append(f"from {found[0]} import {found[1]}")
                self._result.changes.append(f"line {node.lineno}: {name} is {found[0]}.{found[1]}")
        text, position = "", start
        for first, last, new in sorted(edits):
            text += self._source[position:first].decode() + new
            position = last
        new_imports = list(dict.fromkeys(imports))
        for line in new_imports:
            exec(line, self._namespace)
        return text + self._source[position:end].decode(), new_imports

    def _foreign(self, node: ast.AST) -> str:
        """Return the full name of a class that an expression reaches through a missing module, or nothing."""
        if not isinstance(node, ast.Attribute):
            return ""
        written = ast.unparse(node)
        for local, module in self._modules.items():
            if written.startswith(f"{local}.") and re.fullmatch(r"[\w.]+", written):
                rest = written.removeprefix(f"{local}.")
                if rest[:1].isupper() and "." not in rest:
                    return f"{module}.{rest}"
        if is_missing_module(written) and re.fullmatch(r"lsst\.[a-z_\w.]+\.[A-Z]\w*", written):
            return written
        return ""

    def _is_task_only(self, node: ast.stmt) -> bool:
        target = getattr(node, "target", None) or next(iter(getattr(node, "targets", [])), None)
        parts = re.split(r"[.\[]", ast.unparse(target)) if isinstance(target, ast.expr) else []
        return parts[:1] == ["config"] and len(parts) > 1 and parts[1] in TASK_ONLY

    def _load(self, node: ast.Expr) -> bool | None:
        """Translate the file that a statement loads; return whether it exists, or None if nothing is loaded."""
        call = node.value
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args):
            return None
        if call.func.attr != "load" or not ast.unparse(call.func).startswith("config."):
            return None
        try:
            name = _evaluate(call.args[0], self._namespace)
            owner = _evaluate(call.func.value, self._namespace) if self._result.checked else None
        except Exception:
            return None  # trying the statement says why
        path = self._result.path.parent / str(name)
        if not path.is_file():
            return False
        inner = getattr(owner, "value", owner) if type(owner).__name__ == "ConfigurableInstance" else owner
        self._result.loads.append(translate_file(path, inner))
        return True

    def _try(self, code: str, node: ast.stmt) -> str:
        """Execute a statement; return why it failed, or nothing."""
        try:
            exec(compile(code, str(self._result.path), "exec"), self._namespace)
        except ImportError as error:
            if is_missing_module(error.name or ""):
                self._result.dropped.append(
                    f"line {node.lineno}: a file that it loads needs Rubin's compiled stack; translate that file too"
                )
                return ""
            return reason(error)
        except Exception as error:
            return reason(error)
        return ""


def is_missing_module_only(name: str) -> bool:
    """Tell whether a dotted name stops at a module, so that nothing of it is used."""
    return not name.rpartition(".")[2][:1].isupper()


def _evaluate(node: ast.expr, namespace: dict[str, Any]) -> Any:
    return eval(compile(ast.Expression(node), "<config>", "eval"), namespace)


def _missing(node: ast.Import | ast.ImportFrom) -> bool:
    if isinstance(node, ast.ImportFrom):
        return is_missing_module(node.module or "") or any(
            is_missing_module(f"{node.module}.{alias.name}") for alias in node.names
        )
    return any(is_missing_module(alias.name) for alias in node.names)


def _note(module: str, name: str = "") -> str:
    """Return what `advice` says, for a line that is already gone."""
    text = advice(module, name)
    return "not needed" if text.startswith("delete") else text.removesuffix(": delete the line")


def _comment(text: str) -> str:
    return "\n".join(f"# {line}" for line in text.splitlines())
