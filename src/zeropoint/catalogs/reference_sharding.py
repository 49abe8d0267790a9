"""Divide a reference catalogue of any size into trixels, with bounded memory.

The catalogue is read in pieces; each is sorted by trixel and, where there is more than one, spilt to a file.  Then
ranges of trixels small enough for memory are gathered from all files: a sort on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table

from zeropoint.catalogs.htm import htm_index
from zeropoint.catalogs.reference_rows import Columns, canonical_order, standard_unit
from zeropoint.catalogs.reference_source import ReferenceSource

__all__ = ["CHUNK_ROWS", "ShardedCatalog"]

#: Rows held in memory at a time.  Of 18 columns (four bands with errors, motions, epoch) a million rows take 0.15 GB;
#: reading, sorting and writing need six times that.
CHUNK_ROWS = 1_000_000

#: Called with the number of rows read so far.
OnRows = Callable[[int], object]


@dataclass(frozen=True)
class _Run:
    """Rows sorted by trixel, in memory or in a file.

    Parameters
    ----------
    trixels : int64, shape (n,)
        The trixels, ascending.
    starts : int64, shape (n + 1,)
        First row of each, and the number of rows.
    columns
        The rows; None if they are in ``path``.
    path
        Arrow file.
    """

    trixels: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    columns: Columns | None
    path: Path | None

    def rows_of(self, low: int, high: int) -> tuple[npt.NDArray[np.int64], Columns] | None:
        """Return trixel and columns of the rows of trixels in [low, high), or None."""
        i, j = np.searchsorted(self.trixels, [low, high])
        if i == j:
            return None
        rows = slice(int(self.starts[i]), int(self.starts[j]))
        repeated = np.repeat(self.trixels[i:j], np.diff(self.starts[i : j + 1]))
        if self.columns is not None:
            return repeated, {name: values[rows] for name, values in self.columns.items()}
        return repeated, _read(self.path, rows)


class ShardedCatalog:
    """A reference catalogue divided into trixels.

    Parameters
    ----------
    source
        The catalogue.
    depth
        Depth of the trixels.
    scratch
        Directory for what does not fit in memory: as large as the catalogue's standard columns.
    chunk_rows
        Rows held in memory at a time; a single trixel must fit as well.
    on_rows
        Called after each piece with the number of rows read.

    Attributes
    ----------
    n_rows, n_dropped : int
        Rows with a position, and rows left out because theirs is not finite.
    trixels : int64, shape (n,)
        The trixels that have rows, ascending.
    """

    def __init__(
        self,
        source: ReferenceSource,
        depth: int,
        scratch: Path,
        *,
        chunk_rows: int = CHUNK_ROWS,
        on_rows: OnRows | None = None,
    ) -> None:
        self.source = source
        self.depth = depth
        self.n_rows, self.n_dropped = 0, 0
        self._scratch, self._chunk_rows = scratch, chunk_rows
        self._runs: list[_Run] = []
        self._read_all(on_rows or (lambda _: None))
        trixels, counts = self._counts()
        self.trixels = trixels
        self._ranges = _ranges(trixels, counts, chunk_rows)

    def shards(self) -> Iterator[tuple[int, Columns]]:
        """Yield (trixel, its rows in `canonical_order`), trixels ascending."""
        for low, high in self._ranges:
            parts = [part for run in self._runs if (part := run.rows_of(low, high)) is not None]
            trixel = np.concatenate([part[0] for part in parts])
            columns = _join([part[1] for part in parts])
            del parts
            order = np.argsort(trixel, kind="stable")
            present, starts = np.unique(trixel[order], return_index=True)
            for one, rows in zip(present, np.split(order, starts[1:]), strict=True):
                shard = {name: values[rows] for name, values in columns.items()}
                order_in_shard = canonical_order(shard)
                yield int(one), {name: values[order_in_shard] for name, values in shard.items()}

    @cached_property
    def units(self) -> dict[str, str | None]:
        """Unit of each standard column; of columns passed on as they are, the one that the file states."""
        stated = self.source.units
        return {
            rule.target: standard_unit(rule.target) or stated.get(rule.column or "")
            for rule in self.source.column_map.rules
        }

    def table(self, columns: Columns) -> Table:
        """Return the rows of a shard as a table with units, as `ReferenceShards` reads it."""
        return Table(
            [Column(values, name=name, unit=self.units[name]) for name, values in columns.items()],
            meta={"name": self.source.name, "REFCAT_FORMAT_VERSION": 1},
            copy=False,
        )

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
        """Read the catalogue into runs."""
        waiting: list[Columns] = []
        n_waiting = 0
        for piece in self.source.pieces(self._chunk_rows):
            finite = np.isfinite(piece["coord_ra"]) & np.isfinite(piece["coord_dec"])
            n = int(np.count_nonzero(finite))
            self.n_rows += n
            self.n_dropped += finite.size - n
            if n_waiting + n > self._chunk_rows:
                self._add_run(waiting, spill=True)
                waiting, n_waiting = [], 0
            if n:
                waiting.append(piece if n == finite.size else {k: v[finite] for k, v in piece.items()})
                n_waiting += n
            on_rows(self.n_rows + self.n_dropped)
        self._add_run(waiting, spill=bool(self._runs))

    def _add_run(self, parts: list[Columns], *, spill: bool) -> None:
        """Sort pieces by trixel and keep them."""
        if not parts:
            return
        columns = _join(parts)
        trixel = htm_index(columns["coord_ra"], columns["coord_dec"], self.depth)
        order = np.argsort(trixel, kind="stable")
        for name in columns:
            columns[name] = columns[name][order]
        trixels, starts = np.unique(trixel[order], return_index=True)
        starts = np.append(starts, trixel.size).astype(np.int64)
        if not spill:
            self._runs.append(_Run(trixels, starts, columns, None))
            return
        path = self._scratch / f"run-{len(self._runs):05d}.arrow"
        _write(path, columns)
        self._runs.append(_Run(trixels, starts, None, path))

    def _counts(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the trixels of all runs and their numbers of rows."""
        if not self._runs:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        trixels, inverse = np.unique(np.concatenate([run.trixels for run in self._runs]), return_inverse=True)
        counts = np.bincount(inverse, np.concatenate([np.diff(run.starts) for run in self._runs]))
        return trixels, counts.astype(np.int64)


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


def _join(parts: list[Columns]) -> Columns:
    """Return pieces one behind the other, and empty them: memory holds one column twice, not all."""
    names = list(parts[0])
    return {name: np.concatenate([part.pop(name) for part in parts]) for name in names}


def _write(path: Path, columns: Columns) -> None:
    """Write columns to an Arrow file that can be read in part."""
    import pyarrow as pa

    batch = pa.record_batch([pa.array(values) for values in columns.values()], names=list(columns))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def _read(path: Path | None, rows: slice) -> Columns:
    """Read rows of such a file; the rest stays on disk."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        batch = pa.ipc.open_file(source).get_batch(0).slice(rows.start, rows.stop - rows.start)
        columns = {name: np.array(batch[name].to_numpy(zero_copy_only=False)) for name in batch.schema.names}
    return {
        name: values.astype(np.str_) if values.dtype.kind == "O" else values
        for name, values in columns.items()
    }
