"""Reference catalogues: trixel indices beside a loop over lsst.sphgeom, and a whole ingestion with its memory.

Run ``python benchmarks/refcats.py [MILLIONS OF ROWS]``.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lsst.sphgeom import HtmPixelization, UnitVector3d

from zeropoint.butler.refcats import ingest_references
from zeropoint.butler.repository import create_repository, open_repository
from zeropoint.catalogs.htm import htm_index
from zeropoint.datamodel.wcs import unit_vectors

#: A patch of sky, so that shards hold as many rows as real ones do.
RA, DEC = (150.0, 180.0), (0.0, 20.0)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def compare_indices(n: int = 1_000_000, n_loop: int = 100_000) -> None:
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 2 * np.pi, n), np.arcsin(rng.uniform(-1, 1, n))
    htm_index(ra[:10], dec[:10], 7)  # compiled
    start = time.process_time()
    index = htm_index(ra, dec, 7)
    ours = n / (time.process_time() - start)
    vectors = unit_vectors(ra[:n_loop], dec[:n_loop]).tolist()
    pixelization = HtmPixelization(7)
    start = time.process_time()
    expected = [pixelization.index(UnitVector3d(*vector)) for vector in vectors]
    loop = n_loop / (time.process_time() - start)
    assert index[:n_loop].tolist() == expected
    print(
        f"trixel index: {ours:,.0f} positions a CPU second; loop over sphgeom: {loop:,.0f} ({ours / loop:.1f} x)"
    )


def write_catalogue(path: Path, n: int) -> None:
    rng = np.random.default_rng(2)
    schema = None
    writer = None
    for start in range(0, n, 1_000_000):
        k = min(1_000_000, n - start)
        columns = {
            "source_id": np.arange(start, start + k),
            "ra": rng.uniform(*RA, k),
            "dec": rng.uniform(*DEC, k),
            "pmra": rng.normal(0, 5, k),
            "pmdec": rng.normal(0, 5, k),
            "ref_epoch": np.full(k, 2016.0),
            **{f"{band}mag": rng.uniform(14, 22, k) for band in "griz"},
            **{f"e_{band}mag": rng.uniform(0.001, 0.1, k) for band in "griz"},
        }
        table = pa.table(columns)
        schema = schema or table.schema
        writer = writer or pq.ParquetWriter(path, schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def ingest(millions: float) -> None:
    n = int(millions * 1e6)
    with tempfile.TemporaryDirectory() as folder:
        path, repository = Path(folder) / "gaia_like.parquet", Path(folder) / "repo"
        write_catalogue(path, n)
        create_repository(repository)
        butler = open_repository(repository, writeable=True)
        before = peak_mb()
        for what in ("ingestion", "the same again"):
            start = time.process_time()
            done = ingest_references(butler, "gaia_like", path)
            seconds = time.process_time() - start
            print(
                f"{what}: {done.n_rows:,} rows, {done.n_shards} shards, {seconds:.1f} CPU s, {n / seconds:,.0f} rows a CPU second; "
                f"peak {peak_mb():.0f} MB (before: {before:.0f} MB)"
            )


if __name__ == "__main__":
    compare_indices()
    ingest(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
