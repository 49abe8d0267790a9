"""Build a reference catalogue: tables of any size and number into HTM shards, and go on after an interruption."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zeropoint.catalogs.reference_columns import read_column_map
from zeropoint.catalogs.reference_manifest import (
    BUILD_FOLDER,
    MANIFEST,
    Manifest,
    ShardEntry,
    checksum,
    read_manifest,
)
from zeropoint.catalogs.reference_rows import Columns
from zeropoint.catalogs.reference_sharding import CHUNK_ROWS, ShardedCatalog
from zeropoint.catalogs.reference_tables import Place, ReferenceTables, find_tables
from zeropoint.errors import InvalidInputError

__all__ = ["BuiltReferences", "build_references"]

_log = logging.getLogger(__name__)

#: Called with what is being done, how much of it is done, and how much there is (None: unknown).
OnProgress = Callable[[str, int, int | None], object]

_PLAN, _JOURNAL, _LOCK = "plan.json", "shards.jsonl", "lock"


@dataclass(frozen=True)
class BuiltReferences:
    """A built catalogue.

    Parameters
    ----------
    folder
        Where it is.
    manifest
        What it holds.
    was_there
        Whether it had been built of the same tables before, so that nothing was done.
    resumed
        Whether an interrupted build was finished.
    """

    folder: Path
    manifest: Manifest
    was_there: bool
    resumed: bool


def build_references(
    folder: str | Path,
    inputs: Sequence[str | Path],
    column_map: Mapping[str, Any] | str | Path | None = None,
    *,
    name: str | None = None,
    depth: int = 7,
    chunk_rows: int = CHUNK_ROWS,
    keep_duplicates: bool = False,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> BuiltReferences:
    """Turn tables into a reference catalogue in HTM shards.

    Parameters
    ----------
    folder
        Directory to write: one parquet file per trixel that has rows, and a manifest.
    inputs
        Tables (FITS, parquet, CSV, ECSV, VOTable, text, perhaps compressed), or directories of such.  Their order
        and that of their rows do not matter.
    column_map
        As for `zeropoint.catalogs.reference_source.ReferenceSource.open`.
    name
        Name of the catalogue; the directory's if None.
    depth
        Depth of the trixels; 7 (about 0.3 square degrees each) is Rubin's.
    chunk_rows
        Rows held in memory at a time; a single trixel must fit as well.
    keep_duplicates
        Keep rows that repeat id and position of another one, as tables of overlapping fields have them.
    overwrite
        Remove the catalogue, or the unfinished build, that is in the directory.
    on_progress
        Called with ("files", files read, files), ("read", rows, rows or None) and ("write", shards, shards).

    Returns
    -------
    BuiltReferences

    Raises
    ------
    InvalidInputError
        If tables cannot be used or do not fit together, or the directory holds something else.

    Notes
    -----
    What was read is kept in ``.build`` until the manifest is written, and so is a list of the shards written: the same
    call after an interruption of any kind goes on from there.  ``.build`` needs as much disk as the catalogue.
    """
    folder = Path(folder).expanduser()
    here = folder.absolute()
    files = tuple(path for path in find_tables(Path(one) for one in inputs) if here not in path.parents)
    if not files:
        raise InvalidInputError(
            f"{folder}: cannot be made of the tables that are in it; give another directory."
        )
    plan = {
        "name": name or folder.absolute().name,
        "depth": depth,
        "column_map": read_column_map(column_map),
        "keep_duplicates": keep_duplicates,
        "inputs": {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in files},
    }
    plan = json.loads(json.dumps(plan, default=str))
    ours = overwrite and _remove(folder)
    known = read_manifest(folder) if (folder / MANIFEST).exists() else None
    if known is not None:
        _require_same(plan, known.plan, f"{folder} holds a catalogue")
        shutil.rmtree(folder / BUILD_FOLDER, ignore_errors=True)
        return BuiltReferences(folder, known, was_there=True, resumed=False)
    tables = ReferenceTables(str(plan["name"]), files, plan["column_map"])
    with _build_folder(folder, plan, ours=ours) as (scratch, resumed):
        manifest = _build(folder, scratch, tables, plan, chunk_rows, on_progress or (lambda *_: None))
    shutil.rmtree(scratch)
    return BuiltReferences(folder, manifest, was_there=False, resumed=resumed)


def _build(
    folder: Path,
    scratch: Path,
    tables: ReferenceTables,
    plan: Mapping[str, Any],
    chunk_rows: int,
    report: OnProgress,
) -> Manifest:
    """Read, divide and write; the manifest comes last."""
    total = tables.count_rows()
    files = tables.files

    def on_rows(n_rows: int, place: Place) -> None:
        report("files", place[0], len(files))
        report("read", n_rows, total)

    catalog = ShardedCatalog(
        tables, plan["depth"], scratch, chunk_rows=chunk_rows, on_rows=on_rows, durable=True
    )
    report("files", len(files), len(files))
    if catalog.n_rows == 0:
        raise InvalidInputError(
            f"{files[0]}{' and the others' if len(files) > 1 else ''}: no row has a position; nothing to build."
        )
    writer = _ShardWriter(folder, scratch / _JOURNAL, catalog, keep_duplicates=plan["keep_duplicates"])
    report("write", len(writer.done), catalog.trixels.size)
    with writer:
        for trixel, columns in catalog.shards(skip=writer.done.keys()):
            writer.write(trixel, columns)
            report("write", len(writer.done), catalog.trixels.size)
    manifest = _manifest(catalog, plan, writer.done)
    manifest.write(folder)
    return manifest


@dataclass(frozen=True)
class _Note:
    """What the journal says of a shard."""

    entry: ShardEntry
    n_duplicates: int
    n_repeated_ids: int
    n_fluxes: tuple[int, ...]


class _ShardWriter:
    """Writes shards and notes each in a journal, from which an interrupted build goes on.

    Attributes
    ----------
    done : dict
        Trixel -> note of the shards that are there.
    """

    def __init__(
        self, folder: Path, journal: Path, catalog: ShardedCatalog, *, keep_duplicates: bool
    ) -> None:
        self._folder, self._journal, self._catalog = folder, journal, catalog
        self._keep_duplicates = keep_duplicates
        self._flux_fields = [f"{band}_flux" for band in catalog.tables.bands]
        self._stream: TextIO | None = None
        self.done = self._read_journal()

    def __enter__(self) -> _ShardWriter:
        self._stream = self._journal.open("a")
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def write(self, trixel: int, columns: Columns) -> None:
        """Write one shard: the file first, under its name only when it is complete, then the note."""
        assert self._stream is not None
        n_before = columns["coord_ra"].size
        columns, n_repeated = _without_duplicates(columns, keep=self._keep_duplicates)
        sink = pa.BufferOutputStream()
        pq.write_table(self._catalog.arrow(columns), sink)
        content = memoryview(sink.getvalue())
        n_rows = columns["coord_ra"].size
        entry = ShardEntry(trixel, n_rows, content.nbytes, hashlib.sha256(content).hexdigest())
        scratch = self._journal.with_suffix(".parquet")
        scratch.write_bytes(content)
        scratch.replace(self._folder / entry.file_name)
        n_fluxes = tuple(int(np.count_nonzero(np.isfinite(columns[name]))) for name in self._flux_fields)
        note = _Note(entry, n_before - n_rows, n_repeated, n_fluxes)
        line = [trixel, n_rows, entry.bytes, entry.sha256, note.n_duplicates, n_repeated, list(n_fluxes)]
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()
        self.done[trixel] = note

    def _read_journal(self) -> dict[int, _Note]:
        """Return the notes of shards that are there in their full size, and drop the others from the journal."""
        done: dict[int, _Note] = {}
        if not self._journal.exists():
            return done
        kept: list[str] = []
        for line in self._journal.read_text().splitlines():
            try:
                trixel, rows, size, sha256, n_duplicates, n_repeated, n_fluxes = json.loads(line)
            except ValueError:  # the line during which the process was killed
                continue
            entry = ShardEntry(trixel, rows, size, sha256)
            if entry.check(self._folder, content=False) is None:
                done[trixel] = _Note(entry, n_duplicates, n_repeated, tuple(n_fluxes))
                kept.append(line)
        scratch = self._journal.with_suffix(".tmp")
        scratch.write_text("".join(f"{line}\n" for line in kept))
        scratch.replace(self._journal)
        return done


def _without_duplicates(columns: Columns, *, keep: bool) -> tuple[Columns, int]:
    """Return a shard without the rows that repeat id and position, and the number of rows with a repeated id."""
    ids = columns.get("id")
    if ids is None:
        return columns, 0
    ra, dec = columns["coord_ra"], columns["coord_dec"]
    same = np.zeros(ids.size, np.bool_)  # in canonical order, equal positions and ids are neighbors
    same[1:] = (ids[1:] == ids[:-1]) & (ra[1:] == ra[:-1]) & (dec[1:] == dec[:-1])
    if not keep and np.any(same):
        columns = {name: values[~same] for name, values in columns.items()}
        ids = columns["id"]
    return columns, int(ids.size - np.unique(ids).size)


def _manifest(catalog: ShardedCatalog, plan: Mapping[str, Any], done: Mapping[int, _Note]) -> Manifest:
    """Return the manifest of a catalogue whose shards are all written."""
    tables, mapping = catalog.tables, catalog.tables.column_map
    notes = [done[trixel] for trixel in sorted(done)]
    shards = tuple(note.entry for note in notes)
    columns = {
        rule.target: {
            "unit": catalog.units[rule.target],
            "from": rule.describe(),
            "factor": float(rule.factor),
            "offset": float(rule.offset),
        }
        for rule in mapping.rules
    }
    return Manifest(
        name=tables.name,
        depth=catalog.depth,
        format_version=catalog.format_version,
        n_rows=sum(one.rows for one in shards),
        n_dropped=catalog.n_dropped,
        n_duplicates=sum(note.n_duplicates for note in notes),
        n_repeated_ids=sum(note.n_repeated_ids for note in notes),
        bands={band: sum(note.n_fluxes[k] for note in notes) for k, band in enumerate(tables.bands)},
        has_proper_motion=tables.has_proper_motion,
        has_epoch=mapping.has("epoch"),
        columns=columns,
        plan=plan,
        shards=shards,
        sha256=checksum(shards),
        zeropoint=version("zeropoint"),
    )


@contextlib.contextmanager
def _build_folder(folder: Path, plan: Mapping[str, Any], *, ours: bool) -> Iterator[tuple[Path, bool]]:
    """Give the directory for what is unfinished, locked, and say whether something is in it already.

    ``ours`` says that a catalogue was in the folder before, so that what else is there does not matter.
    """
    scratch = folder / BUILD_FOLDER
    if not ours and folder.exists() and not scratch.exists() and any(folder.iterdir()):
        raise InvalidInputError(
            f"{folder}: is not empty, and what is there was not built by this command; give another directory."
        )
    scratch.mkdir(parents=True, exist_ok=True)
    with (scratch / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidInputError(f"{folder}: is being built by another process; wait for it.") from None
        resumed = any(scratch.glob("run-*.json"))  # before that nothing is lost by another plan
        if resumed:
            _require_same(
                plan, json.loads((scratch / _PLAN).read_text()), f"{folder} holds an unfinished build"
            )
            _log.info("%s: going on with the build that was interrupted.", folder)
        else:
            draft = scratch / f"{_PLAN}.tmp"
            draft.write_text(json.dumps(plan, indent=1))
            os.replace(draft, scratch / _PLAN)
        try:
            yield scratch, resumed
        except InvalidInputError:
            if not any(scratch.glob("run-*.json")):  # what was begun is worth nothing
                shutil.rmtree(scratch)
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise


def _require_same(plan: Mapping[str, Any], known: Mapping[str, Any], what: str) -> None:
    """Raise if another plan has begun or ended in a directory."""
    if plan == known:
        return
    differences = [
        f"{key} {known.get(key)!r}, now {plan[key]!r}"
        for key in plan
        if key != "inputs" and plan[key] != known.get(key)
    ]
    ours, theirs = plan["inputs"], known.get("inputs", {})
    for text, names in (
        ("without {}", ours.keys() - theirs.keys()),
        ("with {}", theirs.keys() - ours.keys()),
        ("{} has changed since", {one for one in ours.keys() & theirs.keys() if ours[one] != theirs[one]}),
    ):
        if names:
            shown = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            differences.append(text.format(shown))
    raise InvalidInputError(
        f"{what} made otherwise ({'; '.join(differences)}); give another directory, or --overwrite it."
    )


def _remove(folder: Path) -> bool:
    """Remove a built catalogue or an unfinished build, and nothing else; return whether there was one."""
    if not (folder / BUILD_FOLDER / _PLAN).exists() and not (folder / MANIFEST).exists():
        return False
    (folder / MANIFEST).unlink(
        missing_ok=True
    )  # first, so that half a catalogue is never taken for a whole one
    for path in folder.glob("*.parquet"):
        if path.stem.isdecimal():
            path.unlink()
    shutil.rmtree(folder / BUILD_FOLDER, ignore_errors=True)
    return True
