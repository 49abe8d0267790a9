"""Rows sorted by trixel, in memory or spilt to files: what a sort on disk is made of."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.catalogs.htm import htm_index
from zeropoint.catalogs.reference_rows import Columns
from zeropoint.catalogs.reference_tables import Place

__all__ = ["Run", "find_runs", "join", "make_run"]


@dataclass(frozen=True)
class Run:
    """Rows sorted by trixel.

    Parameters
    ----------
    trixels : int64, shape (n,)
        The trixels, ascending.
    starts : int64, shape (n + 1,)
        First row of each, and the number of rows.
    dtypes
        Type of each column.
    end
        The place in the input behind the last row.
    n_dropped
        Rows before that place, behind the run before, that were left out.
    columns
        The rows; None if they are in ``path``.
    path
        Arrow file.
    """

    trixels: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    dtypes: dict[str, np.dtype[Any]]
    end: Place
    n_dropped: int
    columns: Columns | None
    path: Path | None

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.starts[-1])

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


def make_run(
    parts: list[Columns], depth: int, end: Place, n_dropped: int, path: Path | None, *, durable: bool = False
) -> Run:
    """Sort pieces by trixel.

    Parameters
    ----------
    parts
        The pieces; emptied.
    depth
        Depth of the trixels.
    end, n_dropped
        As for `Run`.
    path
        File ``*.arrow`` to write the rows to, or None to keep them in memory.
    durable
        Whether `find_runs` is to find the run after a crash: nothing is then returned before it is on the disk.
    """
    columns = join(parts)
    trixel = htm_index(columns["coord_ra"], columns["coord_dec"], depth)
    order = np.argsort(trixel, kind="stable")
    for name in columns:
        columns[name] = columns[name][order]
    trixels, starts = np.unique(trixel[order], return_index=True)
    starts = np.append(starts, trixel.size).astype(np.int64)
    dtypes = {name: values.dtype for name, values in columns.items()}
    if path is None:
        return Run(trixels, starts, dtypes, end, n_dropped, columns, None)
    _write(path, columns)
    if durable:
        index = path.with_suffix(".npy")
        np.save(index, np.stack([np.append(trixels, -1), starts]))
        note = {"end": list(end), "n_dropped": n_dropped, "dtypes": {k: v.str for k, v in dtypes.items()}}
        for file in (path, index):
            _synchronize(file)
        # the note is what makes the run count, so it comes last and appears at once
        scratch = path.with_suffix(".tmp")
        scratch.write_text(json.dumps(note))
        _synchronize(scratch)
        scratch.rename(path.with_suffix(".json"))
        return _load(path)
    return Run(trixels, starts, dtypes, end, n_dropped, None, path)


def find_runs(folder: Path) -> list[Run]:
    """Return the durable runs in a directory, in the order of the input."""
    return [_load(note.with_suffix(".arrow")) for note in sorted(folder.glob("run-*.json"))]


def _load(path: Path) -> Run:
    note = json.loads(path.with_suffix(".json").read_text())
    trixels, starts = np.load(path.with_suffix(".npy"), mmap_mode="r")
    return Run(
        trixels[:-1],
        starts,
        {name: np.dtype(kind) for name, kind in note["dtypes"].items()},
        (int(note["end"][0]), int(note["end"][1])),
        int(note["n_dropped"]),
        None,
        path,
    )


def _synchronize(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def join(parts: list[Columns], dtypes: dict[str, np.dtype[Any]] | None = None) -> Columns:
    """Return pieces one behind the other, and empty them: memory holds one column twice, not all."""
    names = list(parts[0])
    joined = {name: np.concatenate([part.pop(name) for part in parts]) for name in names}
    if dtypes is not None:
        joined = {name: values.astype(dtypes[name], copy=False) for name, values in joined.items()}
    return joined


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
