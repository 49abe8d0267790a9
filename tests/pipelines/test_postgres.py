"""A repository on a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lsst.daf.butler import Butler

from pipelines.postgres_server import PostgresServer, running_server, why_not
from pipelines.survey import fill, run_pipetask, simulate_images, zeropoint
from zeropoint.butler.repository import create_repository
from zeropoint.errors import InvalidInputError

pytest.importorskip("psycopg", reason="PostgreSQL's driver is the extra zeropoint[postgres]")
pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "a server can be started")

STARS = "single_visit_star_unstandardized"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_server() as running:
        yield running


def stars(repository: Path, collection: str) -> dict[tuple[int, int], np.ndarray]:
    """Return the star tables of a collection by visit and detector."""
    with Butler.from_config(str(repository), collections=collection) as butler:
        return {
            (ref.dataId["visit"], ref.dataId["detector"]): butler.get(ref).as_array()
            for ref in butler.query_datasets(STARS)
        }


@pytest.mark.slow
def test_a_pipeline_runs_on_postgresql(server: PostgresServer, tmp_path: Path) -> None:
    url = server.create_database("quick")
    repository = tmp_path / "repo"
    fill(repository, simulate_images(tmp_path, (7,), (0,)), "--db", url, "--namespace", "night1")
    assert not (repository / "gen3.sqlite3").exists()
    run_pipetask(repository, "u/test/run")
    tables = stars(repository, "u/test/run")
    assert list(tables) == [(7, 0)]
    assert len(tables[7, 0]) > 100


@pytest.mark.slow
def test_one_database_serves_several_repositories(server: PostgresServer, tmp_path: Path) -> None:
    url = server.create_database("shared")
    for name in ("night1", "night2"):
        assert "created" in zeropoint("create-repo", tmp_path / name, "--db", url, "--namespace", name)
    with Butler.from_config(str(tmp_path / "night1"), writeable=True) as butler:
        butler.collections.register("only/here")
    with Butler.from_config(str(tmp_path / "night2")) as butler:
        assert "only/here" not in butler.collections.query("*")


@pytest.mark.parametrize(
    ("database", "words"),
    [("nowhere", ["nowhere"]), ("bare", ["btree_gist"])],
)
def test_databases_that_cannot_be_used(
    server: PostgresServer, tmp_path: Path, database: str, words: list[str]
) -> None:
    if database == "bare":
        server.execute("postgres", 'create database "bare"')
        server.execute("bare", "create role reader login")
    url = server.url(database).replace("postgres@", "reader@" if database == "bare" else "postgres@")
    with pytest.raises(InvalidInputError) as caught:
        create_repository(tmp_path / "repo", db=url)
    assert not (tmp_path / "repo").exists()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.slow
def test_workers_on_postgresql_give_what_sqlite_gives(server: PostgresServer, tmp_path: Path) -> None:
    images = simulate_images(tmp_path, (7, 8), (0, 1))
    url = server.create_database("full")
    fill(tmp_path / "postgresql", images, "--db", url)
    fill(tmp_path / "sqlite", images)
    pipeline = tmp_path / "postgresql" / "pipelines" / "SimCam" / "calibrate.yaml"
    catalogues = [
        f"calibrateImage:connections.{name}_ref_cat=simulated" for name in ("astrometry", "photometry")
    ]
    options = ["-c", catalogues[0], "-c", catalogues[1], "-d", "instrument='SimCam'", "-o", "u/test/run"]
    zeropoint(
        "run", "-b", tmp_path / "postgresql", "-p", pipeline, "-i", "SimCam/defaults", "-j", 2, *options
    )
    run_pipetask(tmp_path / "sqlite", "u/test/run")
    ours, reference = (stars(tmp_path / name, "u/test/run") for name in ("postgresql", "sqlite"))
    assert set(ours) == set(reference) == set(images.images)
    for key, table in ours.items():
        assert table.tobytes() == reference[key].tobytes()
