"""Associate simulated sources of one tract: sources per second and bytes per source, beside scipy's k-d tree alone.

Run ``python benchmarks/association.py [SOURCES]`` (default ten million). Prints one JSON object.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.spatial import cKDTree

from zeropoint.association import IsolatedStarAssociation, IsolatedStarAssociationConfig
from zeropoint.association.gather import _selector_columns
from zeropoint.association.grouping import Positions
from zeropoint.datamodel.skymap import SkyMap

ARCSEC = np.pi / 648000.0
BANDS = ["i", "r", "g", "z"]
SCATTER = 0.05
PER_VISIT = 50_000


def peak_bytes() -> int:
    """Return the largest resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident_bytes() -> int:
    """Return the resident memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def visit_table(visit: int, stars: Positions, columns: list[str], rng: np.random.Generator) -> pa.Table:
    """Return the table of a visit that sees a random part of the stars."""
    seen = rng.permutation(len(stars))[:PER_VISIT]
    noise = rng.normal(scale=SCATTER * ARCSEC, size=(2, len(seen)))
    ra, dec = stars.ra[seen] + noise[0] / np.cos(stars.dec[seen]), stars.dec[seen] + noise[1]
    n, band = len(seen), BANDS[visit % len(BANDS)]
    known: dict[str, Any] = {
        "sourceId": np.arange(n) + (visit << 32),
        "visit": np.full(n, visit),
        "detector": (seen % 189).astype(np.int16),
        "ra": np.rad2deg(ra),
        "dec": np.rad2deg(dec),
        "physical_filter": pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), [f"{band}_sim"]).cast(
            "string"
        ),
        "band": pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), [band]).cast("string"),
        "normCompTophatFlux_instFlux": np.full(n, 1e4),
        "normCompTophatFlux_instFluxErr": np.full(n, 100.0),
        "detect_isPrimary": np.ones(n, bool),
        "parentSourceId": np.zeros(n, np.int64),
        "deblend_nChild": np.zeros(n, np.int32),
    }
    flags = {name: np.zeros(n, bool) for name in columns if "lag" in name}
    return pa.table(flags | {name: known.get(name, np.zeros(n)) for name in columns if name not in flags})


def tables(
    n_visits: int, stars: Positions, config: IsolatedStarAssociationConfig
) -> Iterator[tuple[int, pa.Table]]:
    """Give one visit after the other; the time to make them is not part of the measurement."""
    rng = np.random.default_rng(1)
    needed = _selector_columns(config)
    assert needed is not None
    columns = list(dict.fromkeys([*config.source_columns, *needed[0]]))
    for visit in range(n_visits):
        start = time.process_time()
        table = visit_table(visit, stars, columns, rng)
        MAKING["cpu_s"] += time.process_time() - start
        yield visit, table


MAKING = {"cpu_s": 0.0}


def kd_tree(sources: Positions) -> dict[str, float]:
    """Return the CPU time of scipy's tree alone: built, and searched for each source's neighbors within 1 arcsec."""
    start = time.process_time()
    xyz = sources.xyz
    tree = cKDTree(xyz)
    built = time.process_time()
    counts = tree.query_ball_point(xyz, 2.0 * np.sin(0.5 * ARCSEC), return_length=True)
    searched = time.process_time()
    return {
        "build_cpu_s": built - start,
        "search_cpu_s": searched - built,
        "sources_per_s": len(xyz) / (searched - start),
        "neighbors_mean": float(counts.mean()),
    }


def main() -> None:
    """Associate simulated sources, search the same with a k-d tree alone, and print both."""
    n = int(float(sys.argv[1])) if len(sys.argv) > 1 else 10_000_000
    n_visits = max(1, n // PER_VISIT)
    sky = SkyMap.discrete([150.0], [2.0], [0.8], tractOverlap=0.02)
    rng = np.random.default_rng(0)
    # 100,000 stars in 2.5 square degrees: 11 per square arcmin
    half = 0.79
    ra, dec = 150.0 + rng.uniform(-half, half, 2 * PER_VISIT), 2.0 + rng.uniform(-half, half, 2 * PER_VISIT)
    stars = Positions.from_degrees(ra, dec)
    config = IsolatedStarAssociationConfig()
    warm = SkyMap.discrete([150.0], [2.0], [0.1], tractOverlap=0.02)
    IsolatedStarAssociation(config).run(list(tables(1, stars, config)), warm, 0)  # compiles
    MAKING["cpu_s"] = 0.0
    gc.collect()
    before, start = resident_bytes(), time.process_time()
    result = IsolatedStarAssociation(config).run(tables(n_visits, stars, config), sky, 0)
    cpu = time.process_time() - start - MAKING["cpu_s"]
    peak = peak_bytes() - before
    width = sum(column.dtype.itemsize for column in result.sources.itercols())
    associated = Positions.from_degrees(result.sources["ra"].data, result.sources["dec"].data)
    n_read, n_stars, n_sources = result.counts["n_read"], len(result.stars), len(result.sources)
    del result
    gc.collect()
    figures = {
        "sources_read": n_read,
        "visits": n_visits,
        "stars": n_stars,
        "sources_of_stars": n_sources,
        "cpu_s": cpu,
        "sources_per_s": n_read / cpu,
        "peak_bytes_per_source": peak / n_read,
        "output_bytes_per_source": width,
        "scipy_ckdtree": kd_tree(associated),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
