"""Ingest reference catalogues: one table or existing shards of any format into HTM shards of standard columns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from lsst.daf.butler import (
    Butler,
    CollectionType,
    DataCoordinate,
    DatasetRef,
    DatasetType,
    FileDataset,
    MissingCollectionError,
    MissingDatasetTypeError,
)
from lsst.daf.butler.formatters.parquet import ParquetFormatter, compute_row_group_size

from zeropoint.butler.collection_chains import REFCATS_CHAIN, add_to_chain, refcat_run, update_defaults
from zeropoint.butler.dataset_types import ensure_dataset_type
from zeropoint.butler.staging import staging_folder
from zeropoint.catalogs.reference_columns import read_column_map
from zeropoint.catalogs.reference_rows import Columns
from zeropoint.catalogs.reference_sharding import CHUNK_ROWS, ShardedCatalog
from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.errors import InvalidInputError

__all__ = ["PROVENANCE", "IngestedReferences", "ingest_references"]

#: Dataset type, without dimensions, that says in each catalogue's run what it was made from.
PROVENANCE = "reference_catalog_provenance"

#: Called with what is being done, how much of it is done, and how much there is (None: unknown).
OnProgress = Callable[[str, int, int | None], object]


@dataclass(frozen=True)
class IngestedReferences:
    """What a repository holds of a reference catalogue.

    Parameters
    ----------
    name
        Its dataset type.
    run
        Its collection.
    n_rows, n_dropped
        Rows kept, and rows of the input that had no position.
    n_shards, depth
        Number of shards and depth of their trixels.
    bands
        Bands with fluxes.
    has_proper_motion, has_epoch
        Whether positions can be moved to another epoch; whether there is an epoch at all.
    was_there
        Whether the very same rows had been ingested before, so that nothing was done.
    """

    name: str
    run: str
    n_rows: int
    n_dropped: int
    n_shards: int
    depth: int
    bands: tuple[str, ...]
    has_proper_motion: bool
    has_epoch: bool
    was_there: bool


def ingest_references(
    butler: Butler,
    name: str,
    path: str | Path,
    column_map: Mapping[str, Any] | str | Path | None = None,
    depth: int = 7,
    *,
    chunk_rows: int = CHUNK_ROWS,
    on_progress: OnProgress | None = None,
) -> IngestedReferences:
    """Ingest a reference catalogue as shards of standard columns.

    Parameters
    ----------
    butler
        Writeable.
    name
        Name of the catalogue: its dataset type; the run is ``refcats/<name>``.
    path, column_map
        The catalogue, as for `ReferenceSource.open`: one table, or a directory of shards.
    depth
        Depth of the trixels; 7 (about 0.3 square degrees each) is Rubin's.
    chunk_rows
        Rows held in memory at a time.
    on_progress
        Called with ("read", rows, None) and ("write" or "compare", shards, number of shards).

    Returns
    -------
    IngestedReferences

    Raises
    ------
    InvalidInputError
        If the table cannot be used, or other rows are in the repository under this name.

    Notes
    -----
    All shards are registered in one transaction: an ingestion that is cut short leaves nothing behind in the
    registry.  Parquet and uncompressed FITS files are read in pieces of ``chunk_rows`` rows, with a temporary copy of
    the standard columns beside the repository; text tables and compressed FITS files are held in memory as a whole.
    """
    report = on_progress or (lambda *_: None)
    source = ReferenceSource.open(path, column_map, name)
    _require_usable(butler, name, depth)
    known = _provenance(butler, name)
    with staging_folder(butler) as scratch:
        catalog = ShardedCatalog(
            source.tables, depth, scratch, chunk_rows=chunk_rows, on_rows=lambda n, _: report("read", n, None)
        )
        if catalog.n_rows == 0:
            raise InvalidInputError(f"{path}: holds no row with a position; nothing to ingest.")
        writer = _ShardWriter(butler, catalog, scratch) if known is None else None
        digest = hashlib.sha256()
        for k, (trixel, columns) in enumerate(catalog.shards(), start=1):
            catalog.digest(digest, trixel, columns)
            if writer is not None:
                writer.write(trixel, columns)
            report("compare" if writer is None else "write", k, catalog.trixels.size)
        provenance = _describe(source, catalog, column_map, digest.hexdigest())
        if writer is not None:
            writer.register(provenance)
        elif known is not None and (known["sha256"], known["depth"]) != (provenance["sha256"], depth):
            raise InvalidInputError(_difference(name, known, provenance))
    add_to_chain(butler, REFCATS_CHAIN, refcat_run(name))
    update_defaults(butler)
    return IngestedReferences(
        name=name,
        run=refcat_run(name),
        n_rows=catalog.n_rows,
        n_dropped=catalog.n_dropped,
        n_shards=int(catalog.trixels.size),
        depth=depth,
        bands=tuple(source.bands),
        has_proper_motion=source.has_proper_motion,
        has_epoch=source.column_map.has("epoch"),
        was_there=known is not None,
    )


class _ShardWriter:
    """Writes shards to files and registers them all together."""

    def __init__(self, butler: Butler, catalog: ShardedCatalog, scratch: Path) -> None:
        name = catalog.tables.name
        self.butler, self.catalog, self.scratch = butler, catalog, scratch
        self.run, self.dimension = refcat_run(name), f"htm{catalog.depth}"
        self.dataset_type = DatasetType(name, {self.dimension}, "ArrowAstropy", universe=butler.dimensions)
        self.files: list[FileDataset] = []

    def write(self, trixel: int, columns: Columns) -> None:
        """Write one shard as the repository's own formatter would."""
        arrow = self.catalog.arrow(columns)
        path = self.scratch / f"{trixel}.parq"
        pq.write_table(arrow, path, row_group_size=compute_row_group_size(arrow.schema))
        data_id = DataCoordinate.standardize({self.dimension: trixel}, universe=self.butler.dimensions)
        ref = DatasetRef(self.dataset_type, data_id, run=self.run)
        self.files.append(FileDataset(str(path), [ref], formatter=ParquetFormatter))

    def register(self, provenance: dict[str, Any]) -> None:
        """Move all shards into the repository, with what they were made from."""
        note = DatasetType(PROVENANCE, (), "StructuredDataDict", universe=self.butler.dimensions)
        for dataset_type in (self.dataset_type, note):
            ensure_dataset_type(self.butler, dataset_type)
        self.butler.collections.register(self.run, CollectionType.RUN)
        with self.butler.transaction():
            self.butler.ingest(*self.files, transfer="move")
            self.butler.put(provenance, note, run=self.run)


def _require_usable(butler: Butler, name: str, depth: int) -> None:
    """Raise if the name or depth cannot be used, or the name is taken by something else."""
    dimension = f"htm{depth}"
    if DatasetType.VALID_NAME_REGEX.fullmatch(name) is None or "." in name:
        raise InvalidInputError(
            f"{name!r} cannot be a catalogue's name, which is a dataset type: use letters, digits and underscores, a "
            "letter first."
        )
    if dimension not in butler.dimensions.skypix_dimensions.names:
        raise InvalidInputError(f"Depth {depth} is not possible; give a number from 1 to 24 (7 is usual).")
    try:
        existing = butler.get_dataset_type(name)
    except MissingDatasetTypeError:
        return
    if set(existing.dimensions.names) != {dimension} or existing.storageClass_name != "ArrowAstropy":
        raise InvalidInputError(
            f"{name} is already a dataset type with dimensions ({', '.join(existing.dimensions.names)}) and storage "
            f"class {existing.storageClass_name}, where ({dimension}) and ArrowAstropy are needed; choose another name"
            " or depth."
        )


def _provenance(butler: Butler, name: str) -> dict[str, Any] | None:
    """Return what an ingested catalogue was made from, or None if there is none of that name."""
    run = refcat_run(name)
    try:
        ref = butler.find_dataset(PROVENANCE, collections=run)
        if ref is not None:
            return dict(butler.get(ref))
        n_shards = sum(1 for _ in butler.registry.queryDatasets(name, collections=run))
    except (MissingCollectionError, MissingDatasetTypeError):
        return None
    if n_shards:
        raise InvalidInputError(
            f"Collection {run} holds {n_shards} shards that this command did not ingest; choose another name, or "
            f"remove them with `butler remove-runs REPO {run}`."
        )
    return None


def _describe(
    source: ReferenceSource,
    catalog: ShardedCatalog,
    column_map: Mapping[str, Any] | str | Path | None,
    sha256: str,
) -> dict[str, Any]:
    """Return what a catalogue was made from, as plain values."""
    mapping = source.column_map
    columns: dict[str, dict[str, Any]] = {}
    for rule in mapping.rules:
        columns[rule.target] = {
            "column": rule.column,
            "kind": rule.kind,
            "factor": float(rule.factor),
            "offset": float(rule.offset),
        }
    return {
        "name": source.name,
        "source": str(source.path.absolute()),
        "source_shards": len(source.shards),
        "column_map": read_column_map(column_map),
        "columns": columns,
        "bands": mapping.bands,
        "n_rows": catalog.n_rows,
        "n_dropped": catalog.n_dropped,
        "n_shards": int(catalog.trixels.size),
        "depth": catalog.depth,
        "has_epoch": mapping.has("epoch"),
        "has_proper_motion": source.has_proper_motion,
        "sha256": sha256,
        "zeropoint": version("zeropoint"),
    }


def _difference(name: str, known: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return a message on how the rows under a name differ from those to be ingested."""
    details = [
        f"{what} {known.get(key)}, now {new[key]}"
        for key, what in (("n_rows", "rows"), ("n_shards", "shards"))
        if known.get(key) != new[key]
    ]
    for whose, one, other in (("the one there", known, new), ("the new one", new, known)):
        only = sorted(set(one["columns"]) - set(other["columns"]))
        if only:
            details.append(f"only {whose} has {', '.join(only)}")
    return (
        f"Reference catalogue {name} is in the repository already with other content (made from "
        f"{known.get('source')}; {'; '.join(details) or 'values differ'}).  Ingest this one under another name, or "
        f"remove the old one first: `butler remove-runs REPO {refcat_run(name)}`."
    )
