"""Divide a reference catalogue of any size into trixels, with bounded memory.

The catalogue is read in pieces; each is sorted by trixel and, where there is more than one, spilt to a file.  Then
ranges of trixels small enough for memory are gathered from all files: a sort on disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table

from zeropoint.catalogs.reference_covariances import COVARIANCES
from zeropoint.catalogs.reference_rows import Columns, canonical_order, standard_unit
from zeropoint.catalogs.reference_runs import Run, find_runs, join, make_run
from zeropoint.catalogs.reference_tables import Place, ReferenceTables
from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.errors import InvalidInputError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["CHUNK_ROWS", "ShardedCatalog"]

_log = logging.getLogger(__name__)

#: Rows held in memory at a time.  Of 18 columns (four bands with errors, motions, epoch) a million rows take 0.15 GB;
#: reading, sorting and writing need six times that.
CHUNK_ROWS = 1_000_000

#: Pieces beyond which gathering each trixel from all of them takes longer than all the rest.
_MANY_RUNS = 250

#: Called with the number of rows read so far and the place reached.
OnRows = Callable[[int, Place], object]


class ShardedCatalog:
    """A reference catalogue divided into trixels.

    Parameters
    ----------
    tables
        The catalogue.
    depth
        Depth of the trixels.
    scratch
        Directory for what does not fit in memory: as large as the catalogue's standard columns.
    chunk_rows
        Rows held in memory at a time; a single trixel must fit as well.
    on_rows
        Called after each piece with the number of rows read and the place reached.
    durable
        Keep all that was read in ``scratch``, and go on from there if something is there already: made of the same
        tables, at the same depth.

    Attributes
    ----------
    n_rows, n_dropped : int
        Rows with a position, and rows left out because theirs is not finite.
    trixels : int64, shape (n,)
        The trixels that have rows, ascending.
    dtypes : dict
        Type of each column, the same in all shards.

    Raises
    ------
    InvalidInputError
        If files do not fit together.
    """

    def __init__(
        self,
        tables: ReferenceTables,
        depth: int,
        scratch: Path,
        *,
        chunk_rows: int = CHUNK_ROWS,
        on_rows: OnRows | None = None,
        durable: bool = False,
    ) -> None:
        self.tables = tables
        self.depth = depth
        self._scratch, self._chunk_rows, self._durable = scratch, chunk_rows, durable
        self._runs: list[Run] = find_runs(scratch) if durable else []
        self._warned = False
        self.n_rows = sum(run.n_rows for run in self._runs)
        self.n_dropped = sum(run.n_dropped for run in self._runs)
        self._schema: pa.Schema | None = None
        self.dtypes: dict[str, np.dtype[Any]] = {}
        for run in self._runs:
            self._note_dtypes(run.dtypes)
        self._warn_of_many_runs()
        self._read_all(on_rows or (lambda *_: None))
        self.trixels, self._n_of_trixel = self._counts()

    def shards(self, skip: Collection[int] = ()) -> Iterator[tuple[int, Columns]]:
        """Yield (trixel, its rows in `canonical_order`), trixels ascending, except those of some trixels."""
        wanted = ~np.isin(self.trixels, list(skip))
        for low, high in _ranges(self.trixels[wanted], self._n_of_trixel[wanted], self._chunk_rows):
            parts = [part for run in self._runs if (part := run.rows_of(low, high)) is not None]
            trixel = np.concatenate([part[0] for part in parts])
            columns = join([part[1] for part in parts], self.dtypes)
            del parts
            order = np.argsort(trixel, kind="stable")
            present, starts = np.unique(trixel[order], return_index=True)
            for one, rows in zip(present, np.split(order, starts[1:]), strict=True):
                if int(one) in skip:
                    continue
                shard = {name: values[rows] for name, values in columns.items()}
                order_in_shard = canonical_order(shard)
                yield int(one), {name: values[order_in_shard] for name, values in shard.items()}

    @cached_property
    def units(self) -> dict[str, str | None]:
        """Unit of each standard column; of columns passed on as they are, the one that the file states."""
        stated = self.tables.units
        return {
            rule.target: standard_unit(rule.target) or stated.get(rule.column or "")
            for rule in self.tables.column_map.rules
        }

    def table(self, columns: Columns) -> Table:
        """Return the rows of a shard as a table with units, as `ReferenceShards` reads it."""
        return Table(
            [Column(values, name=name, unit=self.units[name]) for name, values in columns.items()],
            meta={"name": self.tables.name, "REFCAT_FORMAT_VERSION": self.format_version},
            copy=False,
        )

    def arrow(self, columns: Columns) -> pa.Table:
        """Return the rows of a shard as an Arrow table, as `table_to_arrow` makes it of `table`, but fast."""
        import pyarrow as pa

        columns = {name: columns[name] for name in self.dtypes}
        if self._schema is None:
            self._schema = table_to_arrow(self.table(columns)).schema
        n_rows = len(next(iter(columns.values())))
        metadata = {**(self._schema.metadata or {}), b"lsst::arrow::rowcount": str(n_rows).encode()}
        arrays = [
            pa.array(values, type=field.type)
            for values, field in zip(columns.values(), self._schema, strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=self._schema.with_metadata(metadata))

    @property
    def format_version(self) -> int:
        """Rubin's number of the format: 2 with all covariances, else 1."""
        return 2 if self.tables.column_map.has(*COVARIANCES) else 1

    def digest(self, digest: Any, trixel: int, columns: Columns) -> None:
        """Add a shard to a hash of ``hashlib``: its trixel, and name, unit, kind and values of each column."""
        digest.update(f"{trixel};".encode())
        for name in sorted(columns):
            values = np.ascontiguousarray(columns[name])
            digest.update(f"{name}:{self.units[name]}:{values.dtype.kind}:{values.size};".encode())
            if values.dtype.kind == "U":
                digest.update("\0".join(values.tolist()).encode())
            else:
                digest.update(values.tobytes())

    def _read_all(self, on_rows: OnRows) -> None:
        """Read the catalogue, or what is left of it, into runs."""
        waiting: list[Columns] = []
        n_waiting, n_dropped = 0, 0
        end = self._runs[-1].end if self._runs else (0, 0)
        for piece in self.tables.pieces(self._chunk_rows, end):
            columns = piece.columns
            finite = np.isfinite(columns["coord_ra"]) & np.isfinite(columns["coord_dec"])
            n = int(np.count_nonzero(finite))
            if n_waiting + n > self._chunk_rows:
                self._add_run(waiting, end, n_dropped, spill=True)
                waiting, n_waiting, n_dropped = [], 0, 0
            if n:
                self._require_ids(columns)
                self._note_dtypes({name: values.dtype for name, values in columns.items()})
                waiting.append(columns if n == finite.size else {k: v[finite] for k, v in columns.items()})
                n_waiting += n
            n_dropped += finite.size - n
            self.n_rows += n
            self.n_dropped += finite.size - n
            end = piece.end
            on_rows(self.n_rows + self.n_dropped, end)
        self._add_run(waiting, end, n_dropped, spill=bool(self._runs) or self._durable)

    def _add_run(self, parts: list[Columns], end: Place, n_dropped: int, *, spill: bool) -> None:
        """Sort pieces by trixel and keep them."""
        if parts:
            path = self._scratch / f"run-{len(self._runs):06d}.arrow" if spill else None
            self._runs.append(make_run(parts, self.depth, end, n_dropped, path, durable=self._durable))
            self._warn_of_many_runs()

    def _warn_of_many_runs(self) -> None:
        """Say once that the pieces are so small that gathering the trixels will take long."""
        # each range of trixels looks into each run, and both numbers grow as the pieces shrink
        if not self._warned and len(self._runs) > _MANY_RUNS and self._chunk_rows < CHUNK_ROWS:
            self._warned = True
            _log.warning(
                "%s: pieces of %d rows are so small that there are more than %d, from all of which each part of the sky is "
                "gathered: that takes long.  Allow more rows in memory; going on with more is possible.",
                self.tables.name,
                self._chunk_rows,
                _MANY_RUNS,
            )

    def _counts(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the trixels of all runs and their numbers of rows."""
        trixels, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
        for run in self._runs:
            both = np.concatenate([trixels, run.trixels])
            weights = np.concatenate([counts, np.diff(run.starts)])
            trixels, inverse = np.unique(both, return_inverse=True)
            counts = np.bincount(inverse, weights).astype(np.int64)
        return trixels, counts

    def _require_ids(self, columns: Columns) -> None:
        """Raise if ids are missing: the others would then have lost digits."""
        ids = columns.get("id")
        if ids is not None and ids.dtype.kind == "f" and (missing := int(np.count_nonzero(np.isnan(ids)))):
            raise InvalidInputError(
                f"{self.tables.name}: {missing} of {ids.size} rows have no id (column "
                f"{self.tables.column_map.rule('id').column!r}); correct the files, or leave it out in the column map "
                "(id: null)."
            )

    def _note_dtypes(self, dtypes: Mapping[str, np.dtype[Any]]) -> None:
        """Widen the common types by those of a piece."""
        for name, dtype in dtypes.items():
            known = self.dtypes.setdefault(name, dtype)
            # text is not made of numbers, nor the 19 digits of an id of a floating-point number
            if (known.kind == "U") != (dtype.kind == "U") or (name == "id" and known.kind != dtype.kind):
                raise InvalidInputError(
                    f"{self.tables.name}: column {name!r} holds {_kind(known)} in some of the {len(self.tables.files)} "
                    f"files or rows and {_kind(dtype)} in others (a missing value makes numbers floating-point); "
                    f"correct the files, or leave it out in the column map ({name}: null)."
                )
            self.dtypes[name] = np.result_type(known, dtype)


def _kind(dtype: np.dtype[Any]) -> str:
    """Return what values of a type are called."""
    return {"U": "text", "f": "floating-point numbers", "b": "booleans"}.get(dtype.kind, "integers")


def _ranges(
    trixels: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], most: int
) -> list[tuple[int, int]]:
    """Return half-open ranges of trixels with at most so many rows, or one trixel, each."""
    ranges: list[tuple[int, int]] = []
    begin, total = 0, 0
    for k, count in enumerate(counts.tolist()):
        if k > begin and total + count > most:
            ranges.append((int(trixels[begin]), int(trixels[k])))
            begin, total = k, 0
        total += count
    if trixels.size:
        ranges.append((int(trixels[begin]), int(trixels[-1]) + 1))
    return ranges
