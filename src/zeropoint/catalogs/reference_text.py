"""CSV and ECSV files of any size, read in pieces; compressed ones too."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from zeropoint.catalogs.reference_raw import RawTable, arrow_column
from zeropoint.errors import InvalidInputError

__all__ = ["TextLayout", "TextTable", "csv_layout"]

#: How "no value" is written.
_NULLS = ["", "null", "NULL", "Null", "nan", "NaN", "NAN", "N/A", "n/a", "NA", "None", "\\N", "--", "#N/A"]
_HEADER_BYTES = 1 << 20
#: Text converted at a time: the types of the columns are guessed from the first such block.
_BLOCK_BYTES = 8 << 20
_COLUMN_OF_ERROR = re.compile(r"column #(\d+)")
#: What a column is read as where its guessed type does not hold.
_WIDER = {"null": "double", "bool": "string", "int64": "double"}


@dataclass(frozen=True)
class TextLayout:
    """How a CSV file is laid out.

    Parameters
    ----------
    names
        Names of the columns.
    skip
        Lines before the first row.
    delimiter
        Between columns.
    types
        Types that the header states, as Arrow names them.
    units
        Units that the header states.
    left_out
        Columns that hold arrays.
    """

    names: tuple[str, ...]
    skip: int
    delimiter: str = ","
    types: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


@dataclass
class TextTable(RawTable):
    """A CSV or ECSV file, of which `pieces` holds only a block in memory and `get` everything."""

    layout: TextLayout = field(default_factory=lambda: TextLayout((), 0))

    def get(self, name: str) -> np.ndarray:
        """Return one whole column."""
        return self._all[name]

    def pieces(self, names: Iterable[str], n_rows: int, start: int = 0) -> Iterator[RawTable]:
        """Read the named columns of all rows from ``start`` on, at most ``n_rows`` at a time."""
        names = list(dict.fromkeys(names))
        for columns in self._blocks(names, start):
            for first in range(0, len(columns[names[0]]), n_rows):
                rows = slice(first, first + n_rows)
                part = {name: values[rows] for name, values in columns.items()}
                yield RawTable(self.path, part, self.units, self.meta)

    @cached_property
    def _all(self) -> dict[str, np.ndarray]:
        blocks = list(self._blocks(self.names, 0))
        if not blocks:
            return {name: np.zeros(0) for name in self.names}
        return {name: np.concatenate([block[name] for block in blocks]) for name in self.names}

    def _blocks(self, names: list[str], start: int) -> Iterator[dict[str, np.ndarray]]:
        """Read blocks of rows; a column whose guessed type turns out wrong is read as a wider one from there on."""
        import pyarrow as pa

        types = dict(self.layout.types)
        while True:
            try:
                for batch in self._reader(names, types, skipped=start):
                    start += batch.num_rows
                    yield {name: arrow_column(batch, name) for name in names}
                return
            except pa.ArrowInvalid as error:
                if "Empty CSV file" in str(error):  # no row
                    return
                self._widen(types, error)
            except OSError as error:
                raise InvalidInputError(f"{self.path}: cannot be read ({error}).") from error

    def _reader(self, names: list[str], types: dict[str, str], skipped: int) -> Iterator[Any]:
        """Yield Arrow batches behind the first ``skipped`` rows; ``types`` receives what was guessed."""
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        layout = self.layout
        with pa.input_stream(str(self.path), compression="detect") as stream:
            reader = arrow_csv.open_csv(
                stream,
                arrow_csv.ReadOptions(
                    column_names=list(layout.names),
                    skip_rows=layout.skip,
                    block_size=_BLOCK_BYTES,
                    use_threads=False,
                ),
                arrow_csv.ParseOptions(delimiter=layout.delimiter),
                arrow_csv.ConvertOptions(
                    include_columns=names,
                    null_values=_NULLS,
                    column_types={name: pa.type_for_alias(kind) for name, kind in types.items()},
                ),
            )
            for item in reader.schema:
                types.setdefault(item.name, str(item.type))
            for batch in reader:
                if skipped >= batch.num_rows:
                    skipped -= batch.num_rows
                    continue
                yield batch.slice(skipped)
                skipped = 0

    def _widen(self, types: dict[str, str], error: Exception) -> None:
        """Choose a wider type for the column that an error is about, or raise what it says."""
        found = _COLUMN_OF_ERROR.search(str(error))
        name = self.layout.names[int(found[1])] if found and int(found[1]) < len(self.layout.names) else ""
        wider = _WIDER.get(types.get(name, ""))
        if wider is None:
            reason = " ".join(str(error).split())[:200]
            raise InvalidInputError(f"{self.path}: cannot be read as a table ({reason}).") from error
        types[name] = wider


def csv_layout(path: Path, *, ecsv: bool) -> TextLayout | None:
    """Return how a CSV or ECSV file is laid out, or None where that needs a more patient reader.

    Parameters
    ----------
    path
        The file, perhaps compressed with gzip, bzip2 or zstd.
    ecsv
        Whether its name says that it is ECSV.
    """
    if path.suffix.lower() == ".xz":
        return None
    import pyarrow as pa

    with pa.input_stream(str(path), compression="detect") as stream:
        lines = stream.read(_HEADER_BYTES).decode("utf-8-sig", errors="replace").splitlines()
    n_comments = 0
    while n_comments < len(lines) and (not lines[n_comments].strip() or lines[n_comments].startswith("#")):
        n_comments += 1
    if n_comments == len(lines):
        return None
    if lines[0].startswith("# %ECSV"):
        return _ecsv_layout(lines[:n_comments], lines[n_comments])
    if ecsv:
        return None
    names = _cells(lines[n_comments], ",")
    if n_comments and any(_is_number(name) for name in names):
        return None  # the names stand in a comment
    return TextLayout(tuple(names), n_comments + 1) if len(set(names)) == len(names) else None


def _ecsv_layout(comments: list[str], first: str) -> TextLayout | None:
    from astropy.table.meta import get_header_from_yaml

    header = get_header_from_yaml([line[2:] for line in comments if line.startswith("# ")])
    delimiter = header.get("delimiter", " ")
    if delimiter not in (" ", ","):
        return None
    names = _cells(first, delimiter)
    known = {"float16": "float", "float32": "float", "float64": "double", "bool": "bool", "string": "string"}
    types, units, left_out = {}, {}, []
    for column in header["datatype"]:
        name, kind = column["name"], column["datatype"]
        if "subtype" in column:
            left_out.append(name)
        elif kind in known or re.fullmatch(r"u?int\d+", kind):
            types[name] = known.get(kind, kind)
        if column.get("unit"):
            units[name] = str(column["unit"])
    return TextLayout(tuple(names), len(comments) + 1, delimiter, types, units, tuple(left_out))


def _cells(line: str, delimiter: str) -> list[str]:
    cells = next(csv.reader(io.StringIO(line), delimiter=delimiter))
    return [cell.strip() or f"column_{k}" for k, cell in enumerate(cells, start=1)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
