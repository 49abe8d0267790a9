"""Reference catalogues: trixel indices beside a loop over lsst.sphgeom; ingestion and building with their memory.

Run ``python benchmarks/refcats.py [MILLIONS OF ROWS]``; with ``--sky`` only a catalogue of the whole sky is built, of
parquet files of ten million rows.
"""

from __future__ import annotations

import resource
import subprocess
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
from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.datamodel.wcs import unit_vectors

#: A patch of sky, so that shards hold as many rows as real ones do.
RA, DEC = (150.0, 180.0), (0.0, 20.0)
SKY_SCHEMA = pa.schema(
    [("source_id", pa.int64()), *((name, pa.float64()) for name in ("ra", "dec"))]
    + [(name, pa.float32()) for name in ("pmra", "pmdec")]
    + [("ref_epoch", pa.float64()), *((f"{band}mag", pa.float32()) for band in "gri")]
)


def peak_mb() -> float:
    """Return the largest memory that this process has had, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def compare_indices(n: int = 1_000_000, n_loop: int = 100_000) -> None:
    """Print how many positions a second get their trixel, beside a loop over sphgeom; they must agree."""
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
    """Write a random catalogue of n stars with proper motions and four bands, in pieces of a million rows."""
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
    """Print speed and memory of the ingestion of so many million rows, and of the same again."""
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


def write_sky(folder: Path, n: int) -> None:
    """Write stars all over the sky, in files of ten million."""
    rng = np.random.default_rng(3)
    folder.mkdir()
    for start in range(0, n, 10_000_000):
        with pq.ParquetWriter(folder / f"sky-{start // 10_000_000:03d}.parquet", SKY_SCHEMA) as writer:
            for first in range(start, min(start + 10_000_000, n), 1_000_000):
                k = min(1_000_000, n - first)
                columns = {
                    "source_id": np.arange(first, first + k),
                    "ra": rng.uniform(0.0, 360.0, k),
                    "dec": np.rad2deg(np.arcsin(rng.uniform(-1.0, 1.0, k))),
                    "pmra": rng.normal(0, 5, k).astype(np.float32),
                    "pmdec": rng.normal(0, 5, k).astype(np.float32),
                    "ref_epoch": np.full(k, 2016.0),
                    **{f"{band}mag": rng.uniform(14, 22, k).astype(np.float32) for band in "gri"},
                }
                writer.write_table(pa.table(columns, schema=SKY_SCHEMA))


def build_sky(millions: float) -> None:
    """Build a catalogue of the whole sky in a process of its own, and say what it took."""
    n = int(millions * 1e6)
    depth = 7 if n >= 20_000_000 else 5  # not 131,072 shards of a few rows each
    with tempfile.TemporaryDirectory() as scratch:
        folder, target = Path(scratch) / "tables", Path(scratch) / "sky"
        write_sky(folder, n)
        # the peak of getrusage would be that of this process, from which the other one is forked
        command = f"""
import time
from zeropoint.cli import main
main(["references", "build", "--depth", "{depth}", {str(target)!r}, {str(folder)!r}], standalone_mode=False)
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(time.process_time(), int(peak) / 1024)
"""
        output = subprocess.run(
            [sys.executable, "-c", command], check=True, stdout=subprocess.PIPE, text=True
        )
        seconds, peak = map(float, output.stdout.splitlines()[-1].split())
        size = sum(path.stat().st_size for path in target.iterdir()) / 1e9
        print(
            f"build: {n:,} rows, {seconds:.0f} CPU s, {n / seconds:,.0f} rows a CPU second; peak {peak:.0f} MB; "
            f"{size:.2f} GB on disk"
        )
        start = time.process_time()
        source = ReferenceSource.open(target)
        opened = time.process_time() - start
        start = time.process_time()
        rows = source.load_circle(1.0, 0.3, np.deg2rad(1.0))["coord_ra"].size
        print(
            f"open: {opened:.2f} CPU s; {rows:,} rows within 1 degree: {time.process_time() - start:.2f} CPU s"
        )


if __name__ == "__main__":
    numbers = [float(one) for one in sys.argv[1:] if one != "--sky"]
    if "--sky" in sys.argv:
        build_sky(numbers[0] if numbers else 100.0)
    else:
        compare_indices()
        ingest(numbers[0] if numbers else 5.0)
        build_sky(numbers[0] if numbers else 5.0)
