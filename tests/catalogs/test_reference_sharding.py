import hashlib

import numpy as np
import pytest
from astropy.table import Table

from catalogs.shards import write_directory
from zeropoint.catalogs.htm import htm_index
from zeropoint.catalogs.reference_sharding import ShardedCatalog
from zeropoint.catalogs.reference_source import ReferenceSource

N = 1500


@pytest.fixture(scope="module")
def table():
    """Stars over a few degrees around right ascension 0, some without a position."""
    rng = np.random.default_rng(4)
    ra, dec = rng.uniform(-2.0, 2.0, N), rng.uniform(-3.0, 1.0, N)
    ra[::100], dec[50::100] = np.nan, np.nan
    return Table(
        {
            "name": [f"star {i}" for i in rng.permutation(N)],
            "ra": ra,
            "dec": dec,
            "rmag": rng.uniform(14, 20, N),
            "e_rmag": np.where(rng.uniform(size=N) < 0.1, np.nan, 0.02),
        }
    )


def sharded(path, scratch, depth=7, chunk_rows=10_000, column_map=None):
    source = ReferenceSource.open(path, column_map or {"id": "name"}, "test")
    return ShardedCatalog(source.tables, depth, scratch, chunk_rows=chunk_rows)


def digest(catalog):
    result = hashlib.sha256()
    for trixel, columns in catalog.shards():
        catalog.digest(result, trixel, columns)
    return result.hexdigest()


def test_every_row_with_a_position_is_in_the_shard_of_its_trixel(tmp_path, table):
    table.write(tmp_path / "a.fits")
    catalog = sharded(tmp_path / "a.fits", tmp_path)
    assert (catalog.n_rows, catalog.n_dropped) == (N - 30, 30)
    names = []
    for trixel, columns in catalog.shards():
        assert set(htm_index(columns["coord_ra"], columns["coord_dec"], 7)) == {trixel}
        assert np.all(np.diff(columns["coord_dec"]) >= 0)
        names += columns["id"].tolist()
    finite = np.isfinite(table["ra"]) & np.isfinite(table["dec"])
    assert sorted(names) == sorted(table["name"][finite])


@pytest.mark.parametrize("ending", ["fits", "parquet", "csv"])
@pytest.mark.parametrize("chunk_rows", [1, 97, 700])
def test_pieces_and_files_of_any_size_give_the_same_shards(tmp_path, table, ending, chunk_rows):
    n = 60 if chunk_rows == 1 else N
    table[:n].write(tmp_path / "whole.ecsv")
    path = tmp_path / f"a.{ending}"
    write(table[:n], path)
    assert digest(sharded(path, tmp_path, chunk_rows=chunk_rows)) == digest(
        sharded(tmp_path / "whole.ecsv", tmp_path)
    )
    assert any(tmp_path.glob("run-*.arrow"))


def write(table, path):
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {name: table[name].tolist() for name in table.colnames}
        pq.write_table(pa.table(columns), path, row_group_size=400)
    else:
        table.write(path)


def test_the_digest_tells_content_from_order(tmp_path, table):
    rng = np.random.default_rng(1)
    other = table.copy()
    other["rmag"][7] += 1e-9
    for name, rows in (("a", table), ("b", table[rng.permutation(N)]), ("c", other), ("d", table[:-1])):
        rows.write(tmp_path / f"{name}.ecsv")
    digests = [digest(sharded(tmp_path / f"{name}.ecsv", tmp_path)) for name in "abcd"]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_shards_of_another_depth_are_divided_anew(tmp_path):
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(1.0, 1.05, 40), rng.uniform(-0.02, 0.03, 40)
    write_directory(tmp_path, ra=ra, dec=dec, flux=np.ones(40), depth=9)
    catalog = sharded(tmp_path, tmp_path, depth=6, chunk_rows=9, column_map={"bands": {"r": "r_flux"}})
    expected = np.unique(htm_index(ra, dec, 6), return_counts=True)
    found = [(trixel, columns["coord_ra"].size) for trixel, columns in catalog.shards()]
    assert found == [(int(trixel), int(count)) for trixel, count in zip(*expected, strict=True)]
    assert catalog.trixels.tolist() == expected[0].tolist()


def test_tables_have_units_also_of_columns_that_are_kept(tmp_path, table):
    table = table[1:40]
    table["color"], table["color"].unit = 1.0, "mag"
    table.write(tmp_path / "a.ecsv")
    catalog = sharded(tmp_path / "a.ecsv", tmp_path, column_map={"id": "name", "keep": ["color"]})
    shard = catalog.table(next(catalog.shards())[1])
    units = {name: str(shard[name].unit) for name in shard.colnames}
    assert units == {
        "coord_ra": "rad", "coord_dec": "rad", "id": "None", "r_flux": "nJy", "r_fluxErr": "nJy", "color": "mag",
    }  # fmt: skip
