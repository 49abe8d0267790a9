"""Read the visits' tables one after the other, and keep the selected sources of a tract."""

from __future__ import annotations

import difflib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from astropy.table import Column, Table

from zeropoint.association.config import IsolatedStarAssociationConfig
from zeropoint.association.tables import AnyTable, integer_column, read_columns, text_codes
from zeropoint.catalogs.selectors import SourceSelector
from zeropoint.datamodel.catalog import column
from zeropoint.datamodel.skymap import Tract
from zeropoint.errors import InvalidInputError

__all__ = ["SourcePool", "VisitTables", "gather_sources"]

_log = logging.getLogger(__name__)

#: Visit -> its table of sources, or pairs of these in any order.
type VisitTables = Mapping[int, AnyTable] | Iterable[tuple[int, AnyTable]]

#: Whole numbers that every table must have, and their type in the output; None: that of the id column.
_INTEGERS: dict[str | None, type[np.integer]] = {None: np.int64, "visit": np.int64, "detector": np.int16}


class _Growing:
    """An array that grows at its end, in place; a list of parts would leave the memory in pieces."""

    def __init__(self, first: np.ndarray) -> None:
        self._values, self._size = first.copy(), len(first)

    def append(self, part: np.ndarray) -> None:
        """Add values at the end."""
        end = self._size + len(part)
        if part.dtype != self._values.dtype:  # text that is wider
            self._values = self._values.astype(np.promote_types(part.dtype, self._values.dtype))
        if end > len(self._values):
            self._values.resize(end + end // 4, refcheck=False)
        self._values[self._size : end] = part
        self._size = end

    def reorder(self, rows: npt.NDArray[np.int64]) -> None:
        """Put the values into another order."""
        self._values = self.values[rows]

    @property
    def values(self) -> np.ndarray:
        """The values so far."""
        return self._values[: self._size]


@dataclass
class SourcePool:
    """Selected sources of a tract, by visit and then by id.

    Parameters
    ----------
    templates
        Empty columns: type, unit and description of each output column, in order.
    columns
        Column -> its values; text of few different values as codes.
    words
        Column -> the text of each code.
    counts
        How many sources were read, selected and so on.
    rejected
        Criterion of the selector -> how many sources fail it.
    note
        What a user has to know of sources left out; empty: nothing.
    """

    templates: dict[str, Column] = field(default_factory=dict)
    columns: dict[str, _Growing] = field(default_factory=dict)
    words: dict[str, list[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    note: str = ""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())).values)

    def append(self, name: str, values: np.ndarray) -> None:
        """Add the values of a column of one visit."""
        if name in self.columns:
            self.columns[name].append(values)
        else:
            self.columns[name] = _Growing(values)

    def reorder(self, rows: npt.NDArray[np.int64]) -> None:
        """Put the sources into another order."""
        for values in self.columns.values():
            values.reorder(rows)

    def get(self, name: str) -> np.ndarray:
        """Return a column of all sources; text as codes."""
        return self.columns[name].values

    def take(self, name: str, rows: npt.NDArray[np.int64]) -> Column:
        """Return a column's values at some rows, with unit and description, and forget the column."""
        template = self.templates[name]
        values = self.get(name)[rows]
        del self.columns[name]
        if name in self.words:
            values = np.array(self.words[name] or [""])[values] if len(values) else np.zeros(0, "U1")
        return Column(values, name=name, unit=template.unit, description=template.description)


def gather_sources(
    tables: VisitTables, config: IsolatedStarAssociationConfig, selector: SourceSelector, tract: Tract
) -> SourcePool:
    """Select sources of each visit, and keep those on a tract.

    Parameters
    ----------
    tables
        Visit -> table; the order does not matter. One is read at a time, and of it only the columns needed.
    config
        Columns and bands.
    selector
        Which sources count.
    tract
        Sources on its pixels are kept.

    Raises
    ------
    InvalidInputError
        If there is no table, a column is missing or differs in type between visits, a visit comes twice or a table is
        that of another visit, a source id occurs twice, or no source is in a band of ``band_order``.
    """
    pool = SourcePool(words={config.band_column: list(config.band_order), config.physical_filter_column: []})
    visits: dict[int, tuple[int, int]] = {}  # to the rows of its sources
    unlisted: Counter[str] = Counter()
    for visit, table in _pairs(tables):
        if visit in visits:
            raise InvalidInputError(f"Visit {visit} has two source tables.")
        begin = len(pool) if visits else 0
        _Visit(visit, table, config, selector).add_to(pool, tract, unlisted)
        visits[visit] = (begin, len(pool))
    if not visits:
        raise InvalidInputError("There are no source tables to associate.")
    if list(visits) != sorted(visits):
        pool.reorder(np.concatenate([np.arange(*visits[visit]) for visit in sorted(visits)]))
    pool.counts["n_visits"] = len(visits)
    _note_bands(unlisted, pool, config)
    _check_ids(pool, config.id_column)
    return pool


def _pairs(tables: VisitTables) -> Iterator[tuple[int, AnyTable]]:
    """Return visits and tables; those of a mapping by visit."""
    if isinstance(tables, Mapping):
        return ((int(visit), tables[visit]) for visit in sorted(tables))
    return ((int(visit), table) for visit, table in tables)


class _Visit:
    """The table of one visit."""

    def __init__(
        self, visit: int, table: AnyTable, config: IsolatedStarAssociationConfig, selector: SourceSelector
    ) -> None:
        self.visit, self.config, self.selector = visit, config, selector
        self.origin = f"The source table of visit {visit}"
        names = config.source_columns
        needed = selector.columns()
        has = table.colnames if isinstance(table, Table) else table.column_names
        optional = has if needed is None else [name for name in needed[1] if name in has]
        self.table = read_columns(
            table, [*names, *(needed[0] if needed is not None else ()), *optional], self.origin
        )

    def add_to(self, pool: SourcePool, tract: Tract, unlisted: Counter[str]) -> None:
        """Append the sources wanted to a pool, by id."""
        config = self.config
        self._check()
        result = self.selector.run(self.table)
        pool.counts["n_read"] += len(self.table)
        pool.counts["n_selected"] += result.n_selected
        pool.rejected.update(result.rejected)
        rows = np.flatnonzero(result.selected)
        ra, dec = (
            np.deg2rad(column(self.table, name)[rows]) for name in (config.ra_column, config.dec_column)
        )
        rows = rows[tract.contains(ra, dec)]
        pool.counts["n_on_tract"] += len(rows)
        bands, codes = text_codes(self.table, config.band_column, self.origin)
        unknown = [code for code, band in enumerate(bands) if band not in config.band_order]
        numbers = np.bincount(codes[rows], minlength=len(bands))
        unlisted.update({bands[code]: int(numbers[code]) for code in unknown if numbers[code]})
        rows = rows[~np.isin(codes[rows], unknown)]
        ids = column(self.table, config.id_column)[rows]
        rows = rows[np.argsort(ids, kind="stable")]
        for name in config.source_columns:
            self._append(pool, name, rows)
        pool.templates.setdefault("source_row", _column("source_row", np.int32))
        pool.append("source_row", rows.astype(np.int32))

    def _check(self) -> None:
        """Check that the table is of this visit and that no id occurs twice."""
        visits = integer_column(self.table, "visit", np.int64, self.origin)
        if len(visits) and (visits != self.visit).any():
            raise InvalidInputError(
                f"{self.origin} holds sources of visit {visits[visits != self.visit][0]}."
            )
        ids = np.sort(integer_column(self.table, self.config.id_column, np.int64, self.origin))
        twice = ids[1:][ids[1:] == ids[:-1]]
        if len(twice):
            raise InvalidInputError(
                f"{self.origin}: column {self.config.id_column} holds {len(np.unique(twice))} ids more than once; the "
                f"first is {twice[0]}."
            )

    def _append(self, pool: SourcePool, name: str, rows: npt.NDArray[np.int64]) -> None:
        """Append a column's values at some rows to a pool."""
        words = pool.words.get(name)
        integer = _INTEGERS.get(None if name == self.config.id_column else name)
        if words is not None:
            different, codes = text_codes(self.table, name, self.origin)
            used = np.unique(codes[rows])
            words.extend(different[code] for code in used if different[code] not in words)
            new_code = np.zeros(len(different), np.int16)
            new_code[used] = [words.index(different[code]) for code in used]
            values = new_code[codes[rows]]
            template = _column(name, "U1", self.table)
        else:
            if integer is not None:
                values = integer_column(self.table, name, integer, self.origin)
            else:
                values = column(self.table, name)
            if values.dtype.kind not in "biufSU" or values.ndim != 1:
                raise InvalidInputError(
                    f"{self.origin}: column {name} is {values.dtype}, which cannot be kept."
                )
            template = _column(name, values.dtype, self.table)
            values = values[rows]
        known = pool.templates.setdefault(name, template)
        if known.dtype != template.dtype and known.dtype.kind not in "SU":
            raise InvalidInputError(
                f"{self.origin}: column {name} reads as {template.dtype}, but as {known.dtype} in other visits."
            )
        pool.append(name, values)


def _column(name: str, dtype: npt.DTypeLike, table: Table | pa.Table | None = None) -> Column:
    """Return an empty column, with unit and description of the table's."""
    unit = description = None
    if isinstance(table, Table):
        unit, description = table[name].unit, table[name].description
    elif table is not None:
        metadata = table.schema.field(name).metadata or {}
        unit, description = (metadata.get(key, b"").decode() or None for key in (b"unit", b"description"))
    return Column(np.zeros(0, dtype), name=name, unit=unit, description=description)


def _note_bands(unlisted: Counter[str], pool: SourcePool, config: IsolatedStarAssociationConfig) -> None:
    """Say which bands were left out; that all were is an error."""
    pool.counts["n_unlisted_band"] = sum(unlisted.values())
    if not unlisted:
        return
    bands = ", ".join(f"{band} ({number})" for band, number in sorted(unlisted.items()))
    order = ", ".join(config.band_order)
    meant = _misspelt(unlisted, pool, config)
    if len(pool) == 0:
        raise InvalidInputError(
            f"All sources on the tract are in bands that band_order ({order}) lacks: {bands}{meant}. Set band_order to the "
            "bands of the survey."
        )
    pool.note = f"{sum(unlisted.values())} sources in bands that band_order ({order}) lacks are left out: {bands}{meant}"
    _log.warning("%s.", pool.note)


def _misspelt(unlisted: Iterable[str], pool: SourcePool, config: IsolatedStarAssociationConfig) -> str:
    """Say which bands of ``band_order`` that no source has are spelt nearly as those that it lacks."""
    found = set(np.unique(pool.get(config.band_column)))
    unused = {band.lower(): band for code, band in enumerate(config.band_order) if code not in found}
    pairs = {band: difflib.get_close_matches(band.lower(), unused, 1) for band in sorted(unlisted)}
    hints = [f"does {unused[close[0]]!r} stand for {band!r}?" for band, close in pairs.items() if close]
    return f"; {' '.join(hints)}" if hints else ""


def _check_ids(pool: SourcePool, name: str) -> None:
    """Check that no id occurs in two visits."""
    ids = np.sort(pool.get(name))
    twice = ids[1:][ids[1:] == ids[:-1]]
    if len(twice) == 0:
        return
    visits = pool.get("visit")[pool.get(name) == twice[0]]
    raise InvalidInputError(
        f"{len(np.unique(twice))} source ids ({name}) occur in more than one visit; the first is {twice[0]}, in visits "
        f"{', '.join(map(str, visits))}. Ids must tell the visits apart."
    )
