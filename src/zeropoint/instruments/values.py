"""Resolve the values of a camera card for one image: constants, header keys, table columns.

A *value* is a scalar, or a mapping with one of

* ``key``: a header keyword, or a list of which the first present is taken (``hdu``: where, default all);
* ``table`` + ``column`` (+ ``where``: column -> value to match, or ``hdu``): one cell of a table file;
  ``index`` picks an element of an array column, by number or by the position of a value in ``order``;
* ``value``: a constant;

and optionally ``scale`` and ``offset`` (result = raw * scale + offset) and ``default``.
File names and strings may contain ``{dir}``, ``{name}``, ``{stem}`` and the groups of the card's
``filename`` expression.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard

__all__ = ["ImageContext", "MissingValueError"]


class MissingValueError(InvalidInputError):
    """A value that the card names is not in the image's files."""


@dataclass
class ImageContext:
    """One image file, its headers, and the card that explains them."""

    path: Path
    card: CameraCard
    headers: list[fits.Header]
    groups: dict[str, str] = field(default_factory=dict)
    _tables: dict[tuple[str, int | None], Table] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = self.path.name
        stem = re.sub(
            r"\.(fits?|fz|gz|bz2)$", "", re.sub(r"\.(fits?|fz|gz|bz2)$", "", name, flags=re.I), flags=re.I
        )
        self.groups = {"dir": str(self.path.parent), "name": name, "stem": stem}
        pattern = self.card.get("filename")
        if pattern:
            match = re.search(str(pattern), name)
            if match is None:
                raise InvalidInputError(
                    f"{self.path}: the file name does not match the pattern {pattern!r} of camera card "
                    f"{self.card.source}; rename the file or change `filename`."
                )
            self.groups.update({k: v for k, v in match.groupdict().items() if v is not None})

    @property
    def stem(self) -> str:
        """File name without FITS and compression suffixes."""
        return self.groups["stem"]

    def expand(self, text: str) -> str:
        """Fill ``{group}`` placeholders."""
        try:
            return text.format(**self.groups)
        except (KeyError, IndexError):
            raise InvalidInputError(
                f"Camera card {self.card.source}: {text!r} uses a placeholder that is not one of "
                f"{', '.join(sorted(self.groups))}."
            ) from None

    def header_value(self, keys: Any, hdu: int | None = None) -> Any:
        """Return the first of some header keywords that is present, or None."""
        headers = self.headers if hdu is None else self.headers[hdu : hdu + 1]
        for key in [keys] if isinstance(keys, str) else keys:
            for header in headers:
                if key in header and not isinstance(header[key], fits.card.Undefined):
                    return header[key]
        return None

    def table(self, file: str, hdu: int | None = None) -> Table:
        """Read a side table (cached)."""
        path = self.expand(str(file))
        if (path, hdu) not in self._tables:
            if not Path(path).exists():
                raise MissingValueError(
                    f"{self.path}: camera card {self.card.source} needs the table {path}, which does not exist."
                )
            try:
                if path.lower().endswith(".csv"):
                    self._tables[path, hdu] = Table.read(path, format="ascii.csv")
                elif re.search(r"\.(fits?|fit\.gz|fits\.gz)$", path.lower()):
                    self._tables[path, hdu] = Table.read(
                        path, format="fits", hdu=hdu or 1, unit_parse_strict="silent"
                    )
                else:
                    self._tables[path, hdu] = Table.read(path)
            except Exception as error:
                raise InvalidInputError(f"Table {path} cannot be read: {error}.") from None
        return self._tables[path, hdu]

    def row(self, file: str, where: dict[str, Any], hdu: int | None = None) -> Any:
        """Return the one row of a table whose columns have given values."""
        table = self.table(file, hdu)
        keep = np.ones(len(table), bool)
        for column, wanted in where.items():
            if column not in table.colnames:
                raise InvalidInputError(f"Table {self.expand(str(file))} has no column {column!r}.")
            text = self.expand(str(wanted))
            keep &= np.array([str(v).strip() == text for v in table[column]])
        if keep.sum() != 1:
            raise MissingValueError(
                f"{self.path}: {int(keep.sum())} rows of {self.expand(str(file))} match {where}; need exactly one."
            )
        return table[int(np.flatnonzero(keep)[0])]

    def resolve(self, name: str, spec: Any) -> Any:
        """Return the value of a card entry, or None if absent without default.

        Parameters
        ----------
        name
            The card entry, for messages.
        spec
            The value specification.
        """
        if spec is None:
            return None
        if not isinstance(spec, dict):
            return self.expand(spec) if isinstance(spec, str) and "{" in spec else spec
        raw: Any = None
        if "key" in spec:
            raw = self.header_value(spec["key"], spec.get("hdu"))
        elif "table" in spec:
            raw = self._cell(name, spec)
        elif "value" in spec:
            raw = spec["value"]
        else:
            raise InvalidInputError(
                f"Camera card {self.card.source}: {name} needs one of `key`, `table`, `value` or a plain value."
            )
        if raw is None:
            return spec.get("default")
        if isinstance(raw, str):
            raw = raw.strip()
        if "scale" in spec or "offset" in spec:
            raw = self.number(name, raw) * float(spec.get("scale", 1.0)) + float(spec.get("offset", 0.0))
        return raw

    def _cell(self, name: str, spec: dict[str, Any]) -> Any:
        if "column" not in spec:
            raise InvalidInputError(f"Camera card {self.card.source}: {name}.table needs a `column`.")
        if spec.get("where"):
            row = self.row(spec["table"], spec["where"], spec.get("hdu"))
        else:
            row = self.table(spec["table"], spec.get("hdu"))[0]
        if spec["column"] not in row.colnames:
            raise InvalidInputError(f"Table {self.expand(spec['table'])} has no column {spec['column']!r}.")
        value = row[spec["column"]]
        if "index" in spec:
            index = self.expand(str(spec["index"]))
            order = spec.get("order")
            value = value[list(order).index(index) if order else int(index)]
        return value.item() if hasattr(value, "item") else value

    def number(self, name: str, value: Any) -> float:
        """Return a value as a float, or raise naming the file and entry."""
        try:
            return float(value)
        except (TypeError, ValueError):
            raise InvalidInputError(f"{self.path}: {name} is {value!r}, which is not a number.") from None
