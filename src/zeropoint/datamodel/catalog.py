"""Source catalogues: a schema declared before any data is read, columns as arrays, footprints beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy.table import Column as AstropyColumn
from astropy.table import Table

from zeropoint.datamodel.footprints import FootprintSet

__all__ = ["ColumnSpec", "Schema", "SourceCatalog", "column", "has_column"]

_DTYPES: dict[str, Any] = {
    "i8": np.int64,
    "i4": np.int32,
    "f8": np.float64,
    "f4": np.float32,
    "bool": np.bool_,
    "str10": np.dtype("<U10"),
}


@dataclass(frozen=True)
class ColumnSpec:
    """One catalogue column.

    Parameters
    ----------
    name
        Column name.
    dtype
        One of ``i8 i4 f8 f4 bool``, or ``str10`` for text of at most ten characters.
    unit
        astropy unit string ("count", "nJy", "mag(AB)", "pixel", "rad"), or an empty string.
    doc
        One sentence.
    """

    name: str
    dtype: str
    unit: str = ""
    doc: str = ""

    @property
    def numpy_dtype(self) -> Any:
        """The numpy type of the column."""
        return _DTYPES[self.dtype]

    def empty(self, n: int) -> np.ndarray:
        """Return a column of ``n`` unset values: NaN, 0, False or no text."""
        if self.dtype in ("f8", "f4"):
            return np.full(n, np.nan, self.numpy_dtype)
        return np.zeros(n, self.numpy_dtype)


@dataclass
class Schema:
    """An append-only ordered set of columns plus aliases of column-name prefixes.

    Steps add their columns in their constructors, so the order of construction is the order of columns, and
    the schema of an output is known from the configuration alone.
    """

    columns: dict[str, ColumnSpec] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    #: Prefixes of fluxes whose names follow from a configuration and that want aperture corrections.
    corrected_fluxes: set[str] = field(default_factory=set)

    def add(self, *specs: ColumnSpec) -> None:
        """Append columns.

        Raises
        ------
        ValueError
            If a column of that name exists with another type.
        """
        for spec in specs:
            known = self.columns.get(spec.name)
            if known is not None and known.dtype != spec.dtype:
                raise ValueError(f"Column {spec.name!r} is already {known.dtype}, not {spec.dtype}.")
            self.columns.setdefault(spec.name, spec)

    def alias(self, alias: str, target: str) -> None:
        """Make every column that starts with ``target`` readable as one that starts with ``alias``."""
        self.aliases[alias] = target

    def resolve(self, name: str) -> str:
        """Return the physical column name behind a name that may start with an alias."""
        if name in self.columns:
            return name
        best = ""
        for alias in self.aliases:
            if len(alias) > len(best) and (name == alias or name.startswith(alias + "_")):
                best = alias
        if best:
            return self.resolve(self.aliases[best] + name[len(best) :])
        return name

    def __contains__(self, name: str) -> bool:
        return self.resolve(name) in self.columns

    def __iter__(self) -> Iterator[ColumnSpec]:
        return iter(self.columns.values())

    def copy(self) -> Schema:
        """Return an independent copy."""
        return Schema(dict(self.columns), dict(self.aliases), set(self.corrected_fluxes))


class SourceCatalog:
    """Rows of sources: columns by name (aliases resolved), one footprint each.

    Parameters
    ----------
    schema
        The declared columns.
    n
        Number of rows; ignored when ``columns`` is given.
    columns
        Column arrays, one per schema column, all of one length.
    footprints
        One footprint a row, or None.
    metadata
        Plain key-value metadata.
    """

    def __init__(
        self,
        schema: Schema,
        n: int = 0,
        *,
        columns: Mapping[str, np.ndarray] | None = None,
        footprints: FootprintSet | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.schema = schema
        if columns is None:
            self._columns = {spec.name: spec.empty(n) for spec in schema}
            self._n = n
        else:
            self._columns = {spec.name: np.asarray(columns[spec.name]) for spec in schema}
            lengths = {len(values) for values in self._columns.values()}
            if len(lengths) > 1:
                raise ValueError(f"Columns have different lengths: {sorted(lengths)}.")
            self._n = lengths.pop() if lengths else n
        if footprints is not None and len(footprints) != self._n:
            raise ValueError(f"{len(footprints)} footprints for {self._n} rows.")
        self.footprints = footprints
        self.metadata: dict[str, Any] = dict(metadata or {})

    def __len__(self) -> int:
        return self._n

    def __contains__(self, name: str) -> bool:
        return name in self.schema

    def __getitem__(self, name: str) -> np.ndarray:
        return self._columns[self.schema.resolve(name)]

    def __setitem__(self, name: str, values: Any) -> None:
        self._columns[self.schema.resolve(name)][...] = values

    @property
    def colnames(self) -> list[str]:
        """Physical column names in schema order."""
        return list(self._columns)

    def clear_columns(self, specs: Iterable[ColumnSpec]) -> None:
        """Reset some columns to their unset values."""
        for spec in specs:
            self._columns[spec.name][...] = spec.empty(1)[0]

    def take(self, index: np.ndarray) -> SourceCatalog:
        """Return the rows selected by a boolean mask or an integer index (copies)."""
        index = np.asarray(index)
        rows = np.flatnonzero(index) if index.dtype == np.bool_ else index
        return SourceCatalog(
            self.schema,
            columns={name: values[rows] for name, values in self._columns.items()},
            footprints=None if self.footprints is None else self.footprints.take(rows),
            metadata=self.metadata,
        )

    def copy(self) -> SourceCatalog:
        """Return an independent copy."""
        return self.take(np.arange(self._n))

    def extended(self, other: SourceCatalog) -> SourceCatalog:
        """Return this catalogue with the rows of another of the same schema behind it."""
        footprints = None
        if self.footprints is not None and other.footprints is not None:
            footprints = FootprintSet.concatenate([self.footprints, other.footprints])
        return SourceCatalog(
            self.schema,
            columns={
                name: np.concatenate([values, other._columns[name]]) for name, values in self._columns.items()
            },
            footprints=footprints,
            metadata=self.metadata,
        )

    def with_schema(self, schema: Schema) -> SourceCatalog:
        """Return the same rows under a longer schema; new columns are unset."""
        columns = {
            spec.name: self._columns[spec.name] if spec.name in self._columns else spec.empty(self._n)
            for spec in schema
        }
        return SourceCatalog(schema, columns=columns, footprints=self.footprints, metadata=self.metadata)

    def to_table(self) -> Table:
        """Return an astropy table in which every ``slot_*`` (and other alias) column is physical.

        Alias columns follow the column they repeat, as in Rubin's parquet files; those that would repeat a
        flag's own sub-flags under an alias of that flag are left out.
        """
        table = Table(meta=dict(self.metadata))
        by_target: dict[str, list[tuple[str, str]]] = {}
        for alias in self.schema.aliases:
            target = self.schema.resolve(alias)
            by_target.setdefault(target, []).append((alias, target))
        for spec in self.schema:
            values = self._columns[spec.name]
            names = [spec.name]
            for target, pairs in by_target.items():
                exact = spec.name == target
                if exact or (spec.name.startswith(target + "_") and target not in self.schema.columns):
                    names += [alias + spec.name[len(target) :] for alias, _ in pairs]
            for name in names:
                if name not in table.colnames:
                    table.add_column(
                        AstropyColumn(values, name=name, unit=spec.unit or None, description=spec.doc)
                    )
        return table


def column(table: SourceCatalog | Table | Any, name: str) -> np.ndarray:
    """Return a column of a catalogue or table as a plain array.

    Values that an astropy table masks or an Arrow table has as null are NaN, flags False; integers with such values
    become floating point.

    Raises
    ------
    KeyError
        If there is no such column.
    """
    if isinstance(table, SourceCatalog):
        return table[name]
    if hasattr(table, "column_names"):  # pyarrow
        if name not in table.column_names:
            raise KeyError(name)
        values = table[name]
        if values.null_count and str(values.type) == "bool":
            values = values.fill_null(False)
        return np.asarray(values.to_numpy(zero_copy_only=False))
    values = table[name]
    mask = getattr(values, "mask", None)
    plain = np.asarray(values.unmasked if hasattr(values, "unmasked") else values)
    if mask is None or not isinstance(mask, np.ndarray) or not mask.any():
        return plain
    if plain.dtype == np.bool_:
        return np.asarray(plain & ~mask)
    return np.where(mask, np.nan, plain)


def has_column(table: SourceCatalog | Table | Any, name: str) -> bool:
    """Say whether a catalogue, astropy table or Arrow table has a column."""
    if isinstance(table, SourceCatalog):
        return name in table
    names = getattr(table, "column_names", None) or getattr(table, "colnames", None)
    return name in names if names is not None else name in table
