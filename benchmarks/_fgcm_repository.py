"""Bring a simulated survey for the global calibration into a fresh repository, as its pipeline would have left it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _commands import run

from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.datamodel.wcs import unit_vectors
from zeropoint.simulation.fgcm_survey import FgcmSurvey
from zeropoint.simulation.fgcm_tables import (
    INSTRUMENT,
    camera_card,
    source_table,
    throughput_curves,
    visit_summary,
)

#: Collection of the tables of visits, and name of the reference catalogue.
TABLES, REFERENCES = "survey/tables", "survey_refs"
#: Dataset types that the pipeline reads.
SOURCES, SUMMARIES = "single_visit_star", "preliminary_visit_summary"

_SURVEY: FgcmSurvey | None = None


def _visit_tables(row: int) -> tuple[pa.Table, pa.Table]:
    """Return the source table and the summary of a visit of the survey that the process was forked with."""
    assert _SURVEY is not None
    return (
        table_to_arrow(source_table(_SURVEY, _SURVEY.sources(row))),
        visit_summary(_SURVEY, row).to_arrow(),
    )


def fill(
    survey: FgcmSurvey,
    folder: Path,
    *,
    jobs: int = 2,
    change: Callable[[int, pa.Table, pa.Table], tuple[pa.Table, pa.Table | None]] | None = None,
) -> Path:
    """Make a repository with the survey's visits, throughputs and references; what is there already is kept.

    Parameters
    ----------
    survey
        Survey.
    folder
        Where the repository and the files that it is made from are.
    jobs
        Processes.
    change
        Takes the row of a visit, its source table and its summary, and returns what is stored; None: nothing.

    Returns
    -------
    repository : Path
    """
    folder.mkdir(parents=True, exist_ok=True)
    repository = folder / "repo"
    if (folder / "filled").exists():
        return repository
    (folder / "camera.yaml").write_text(camera_card(survey))
    run("zeropoint", "create-repo", repository)
    run("zeropoint", "register-camera", repository, folder / "camera.yaml", last=2)
    start = time.perf_counter()
    _put_visits(survey, repository, jobs, change)
    print(f"\n{len(survey.visits)} visits simulated and stored in {time.perf_counter() - start:.0f} s")
    words: list[object] = []
    for name, curves in throughput_curves(survey).items():
        for detector, curve in curves.items():
            path = folder / f"throughput_{name}_{detector}.ecsv"
            curve.to_table().write(path, overwrite=True)
            words += ["--filter-detector", f"{detector}:{name}={path}"]
    run("zeropoint", "ingest-throughputs", repository, INSTRUMENT, *words, last=2)
    pq.write_table(table_to_arrow(survey.references), folder / "references.parquet")
    run("zeropoint", "ingest-references", repository, REFERENCES, folder / "references.parquet", last=2)
    (folder / "filled").touch()
    return repository


def _put_visits(survey: FgcmSurvey, repository: Path, jobs: int, change: Any) -> None:
    """Register the visits, and store the tables of each."""
    from lsst.daf.butler import Butler, CollectionType, DatasetType

    global _SURVEY
    _SURVEY = survey
    with Butler.from_config(str(repository), writeable=True) as butler:
        _register(butler, survey)
        butler.collections.register(TABLES, CollectionType.RUN)
        for name in (SOURCES, SUMMARIES):
            dimensions = ("instrument", "visit")
            butler.registry.registerDatasetType(
                DatasetType(name, dimensions, "ArrowAstropy", universe=butler.dimensions)
            )
        rows = range(len(survey.visits))
        with ProcessPoolExecutor(jobs) as pool:
            for row, tables in zip(rows, pool.map(_visit_tables, rows, chunksize=4)):
                stored = tables if change is None else change(row, *tables)
                data_id = {"instrument": INSTRUMENT, "visit": int(survey.visits["visit"][row])}
                for name, table in zip((SOURCES, SUMMARIES), stored):
                    if table is not None:
                        butler.put(table, name, data_id, run=TABLES)


def _register(butler: Any, survey: FgcmSurvey) -> None:
    """Write the records of all visits, as ingesting their images does."""
    from zeropoint.butler.image_facts import ImageFacts
    from zeropoint.butler.records import ExistingRecords, insert_visits

    s, camera = survey.settings, survey.camera
    ends = np.array([-250.0, s.detector_size + 249.0])
    visits = []
    for visit in survey.visits:
        number, band = int(visit["visit"]), s.bands[visit["band"]]
        boresight = [float(np.deg2rad(visit[name])) for name in ("ra", "dec", "rotation")]
        # TAI is 37 s ahead
        begin = float(visit["mjd"]) + (37.0 - 0.5 * s.exposure_time) / 86400.0
        facts = []
        for detector in range(s.n_detectors):
            x0, y0 = camera.origins[detector]
            sky = camera.to_sky(x0 + ends[[0, 1, 1, 0]], y0 + ends[[0, 0, 1, 1]], *boresight)
            outline = tuple(tuple(map(float, vector)) for vector in unit_vectors(*sky))
            facts.append(
                ImageFacts(
                    path=Path("simulated"), instrument=INSTRUMENT, detector=detector, detector_name=f"D{detector}",
                    exposure=number, visit=number, physical_filter=survey.physical_filter(band), band=band, target="",
                    day_obs=20230000 + int(visit["night_index"]) + 101, begin=begin,
                    end=begin + s.exposure_time / 86400.0, exposure_time=s.exposure_time,
                    tracking_ra=float(visit["ra"]), tracking_dec=float(visit["dec"]), sky_angle=float(visit["rotation"]),
                    outline=outline, identity={}, caveats=(), observation=None,
                )
            )  # fmt: skip
        visits.append(facts)
    with butler.transaction():
        existing = ExistingRecords.query(butler, INSTRUMENT, [each for facts in visits for each in facts])
        insert_visits(butler, visits, existing, 0, replace=False)


def tables_of(repository: Path, collection: str, names: Collection[str]) -> dict[str, Any]:
    """Return tables of the instrument with the metadata that they were stored with."""
    from lsst.daf.butler import Butler

    from zeropoint.datamodel.arrow import arrow_to_table

    parameters = {"strip_astropy_meta_yaml": False}
    with Butler.from_config(str(repository), collections=collection, instrument=INSTRUMENT) as butler:
        return {
            name: arrow_to_table(butler.get(name, parameters=parameters, storageClass="ArrowTable"))
            for name in names
        }
