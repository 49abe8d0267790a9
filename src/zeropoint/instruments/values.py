"""Resolve the values of a camera card for one image: constants, header keys, table columns.

A *value* is a scalar, or a mapping with one of

* ``key``: a header keyword, or a list of which the first present is taken (``hdu``: where, default the
  image's own header, then all others in order);
* ``table`` + ``column`` (+ ``where``: column -> value to match, or ``hdu``): one cell of a table file;
  ``index`` picks an element of an array column, by number or by the position of a value in ``order``;
* ``join``: a list of values, written one after the other;
* ``value``: a constant;

and optionally ``order`` (a list: the result is the raw value's position in it), ``scale`` and ``offset``
(result = raw * scale + offset) and ``default``.
File names and strings may contain ``{dir}``, ``{name}``, ``{stem}`` and the groups of the card's
``filename`` expression.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle
from astropy.io import fits
from astropy.table import Table

from zeropoint.datamodel.table_files import read_table_file
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard

__all__ = ["ImageContext", "MissingValueError"]

_SUFFIX = re.compile(r"\.(fits?|fts|fz|gz|bz2)$", re.IGNORECASE)


class MissingValueError(InvalidInputError):
    """A value that the card names is not in the image's files."""


@dataclass
class ImageContext:
    """One image file, its headers, and the card that explains them.

    Parameters
    ----------
    path
        The file.
    card
        Its camera card.
    headers
        Headers of all HDUs, in the file's order.
    image_hdu
        Number of the HDU with the pixels.
    """

    path: Path
    card: CameraCard
    headers: list[fits.Header]
    image_hdu: int = 0
    groups: dict[str, str] = field(init=False)
    #: Card entry -> header keys that it names without a default and that the image lacks.
    absent: dict[str, str] = field(init=False, default_factory=dict)
    _tables: dict[tuple[str, Any], Table] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        name = self.path.name
        # twice, for names such as a.fits.fz
        stem = _SUFFIX.sub("", _SUFFIX.sub("", name))
        self.groups = {"dir": str(self.path.parent), "name": name, "stem": stem}
        pattern = self.card.get("filename")
        if pattern:
            match = re.search(pattern, name)
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

    @property
    def ordered_headers(self) -> list[fits.Header]:
        """Headers, the image's own first: where a keyword is in several, that one counts."""
        own = self.headers[self.image_hdu : self.image_hdu + 1]
        return own + [header for i, header in enumerate(self.headers) if i != self.image_hdu]

    def expand(self, text: str) -> str:
        """Fill ``{group}`` placeholders."""
        try:
            return text.format(**self.groups)
        except (KeyError, IndexError, ValueError, AttributeError):
            raise InvalidInputError(
                f"Camera card {self.card.source}: {text!r} uses a placeholder that is not one of "
                f"{', '.join(sorted(self.groups))}."
            ) from None

    def header_value(self, keys: Any, hdu: Any = None) -> Any:
        """Return the first of some header keywords that is present and has a value, or None."""
        headers = self.ordered_headers
        if hdu is not None:
            headers = [
                header
                for i, header in enumerate(self.headers)
                if i == hdu or str(header.get("EXTNAME", "")).strip().upper() == str(hdu).upper()
            ]
        for key in [keys] if isinstance(keys, str) else keys:
            for header in headers:
                value = _card_value(header, str(key))
                if value is not None:
                    return value
        return None

    def table(self, file: str, hdu: Any = None) -> Table:
        """Read a side table (cached)."""
        path = self.expand(str(file))
        if (path, hdu) not in self._tables:
            if not Path(path).exists():
                raise MissingValueError(
                    f"{self.path}: camera card {self.card.source} needs the table {path}, which does not exist."
                )
            try:
                self._tables[path, hdu] = read_table_file(path, hdu)
            except Exception as error:
                text = str(error).strip().splitlines() or [type(error).__name__]
                raise InvalidInputError(f"{path}: cannot be read as a table ({text[0]}).") from None
            if len(self._tables[path, hdu]) == 0:
                raise InvalidInputError(f"{path}: the table is empty.")
        return self._tables[path, hdu]

    def row(self, file: str, where: dict[str, Any], hdu: Any = None) -> Any:
        """Return the one row of a table whose columns have given values."""
        table, name = self.table(file, hdu), self.expand(str(file))
        keep = np.ones(len(table), bool)
        wanted = {column: self.expand(str(value)) for column, value in where.items()}
        for column, text in wanted.items():
            if column not in table.colnames:
                raise InvalidInputError(f"{name}: has no column {column!r}.")
            keep &= np.array([_same(value, text) for value in table[column]])
        if keep.sum() != 1:
            condition = ", ".join(f"{column} = {text}" for column, text in wanted.items()) or "no condition"
            raise MissingValueError(
                f"{self.path}: {int(keep.sum())} rows of {name} match ({condition}); exactly one must."
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

        Raises
        ------
        InvalidInputError
            If the entry names a table or column that does not exist.
        """
        if not isinstance(spec, dict):
            return self.expand(spec) if isinstance(spec, str) and "{" in spec else spec
        if "key" in spec:
            raw = self.header_value(spec["key"], spec.get("hdu"))
        elif "table" in spec:
            try:
                raw = self._cell(name, spec)
            except MissingValueError:
                if "default" not in spec:
                    raise
                raw = None
        elif "join" in spec:
            parts = [self.resolve(name, part) for part in spec["join"]]
            raw = None if any(part is None or part == "" for part in parts) else "".join(map(str, parts))
        elif "value" in spec:
            raw = self.resolve(name, spec["value"])
        else:
            raise InvalidInputError(
                f"Camera card {self.card.source}: {name} needs one of `key`, `table`, `join`, `value` or a plain "
                "value."
            )
        if raw is None:
            if "key" in spec and "default" not in spec:
                keys = spec["key"] if isinstance(spec["key"], str) else ", ".join(spec["key"])
                self.absent[name] = keys
            return spec.get("default")
        if isinstance(raw, str):
            raw = raw.strip()
        if "order" in spec and "index" not in spec:
            raw = self._position(name, raw, spec["order"])
        if "scale" in spec or "offset" in spec:
            scale, offset = (
                self.number(f"{name}.{k}", spec.get(k, v)) for k, v in (("scale", 1), ("offset", 0))
            )
            raw = self.number(name, raw) * scale + offset
        return raw

    def _position(self, name: str, raw: Any, order: list[Any]) -> int:
        known = [str(each) for each in order]
        if str(raw) not in known:
            raise InvalidInputError(
                f"{self.path}: {name} is {raw!r}, which is not one of {', '.join(known)} (`order` in camera card "
                f"{self.card.source})."
            )
        return known.index(str(raw))

    def _cell(self, name: str, spec: dict[str, Any]) -> Any:
        if "column" not in spec:
            raise InvalidInputError(f"Camera card {self.card.source}: {name}.table needs a `column`.")
        if spec.get("where"):
            row = self.row(spec["table"], spec["where"], spec.get("hdu"))
        else:
            row = self.table(spec["table"], spec.get("hdu"))[0]
        if spec["column"] not in row.colnames:
            raise InvalidInputError(f"{self.expand(spec['table'])}: has no column {spec['column']!r}.")
        value = row[spec["column"]]
        if "index" in spec:
            index, order = self.expand(str(spec["index"])), spec.get("order")
            try:
                value = value[[str(v) for v in order].index(index) if order else int(index)]
            except (ValueError, IndexError, TypeError):
                raise InvalidInputError(
                    f"Camera card {self.card.source}: {name}: column {spec['column']!r} has no element {index!r}."
                ) from None
        return _plain(value)

    def number(self, name: str, value: Any) -> float:
        """Return a value as a float, or raise naming the file and entry."""
        try:
            return float(value)
        except (TypeError, ValueError):
            raise InvalidInputError(f"{self.path}: {name} is {value!r}, which is not a number.") from None

    def optional_number(self, name: str, spec: Any) -> float:
        """Return an optional entry as a float; NaN if it is absent or not a number."""
        try:
            return float(self.resolve(name, spec))
        except (TypeError, ValueError):
            return float("nan")

    def degrees(self, name: str, spec: Any, *, hours: bool = False) -> float:
        """Return an angle in degrees, NaN if absent; sexagesimal text may be in hours.

        Raises
        ------
        InvalidInputError
            If it is not an angle.
        """
        value = self.resolve(name, spec)
        if value is None or value == "":
            return float("nan")
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
        try:
            return float(Angle(str(value), unit=u.hourangle if hours else u.deg).deg)
        except Exception:
            raise InvalidInputError(f"{self.path}: {name} is {value!r}, which is not an angle.") from None


def _card_value(header: fits.Header, key: str) -> Any:
    """Return a header value; None if the keyword is absent, undefined, or its card is not FITS."""
    try:
        value = header.get(key)
    except (fits.VerifyError, ValueError):
        return None
    return None if isinstance(value, fits.card.Undefined) else value


def _same(value: Any, text: str) -> bool:
    """Say whether a table's cell is what the card asks for, as text or as a number."""
    value = _plain(value)
    if str(value).strip() == text.strip():
        return True
    try:
        return float(value) == float(text)
    except (TypeError, ValueError):
        return False


def _plain(value: Any) -> Any:
    """Return a table's cell as a Python value; None where it is masked."""
    if value is np.ma.masked:
        return None
    if isinstance(value, bytes):
        return value.decode("ascii", "replace")
    return value.item() if isinstance(value, np.generic) else value
