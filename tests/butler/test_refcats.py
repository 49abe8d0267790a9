"""Reference catalogues in a repository are the rows of the file they were made from, once and for all."""

import fcntl
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from lsst.daf.butler import CollectionType, DatasetType

from catalogs.shards import write_shard
from zeropoint.butler.collection_chains import add_to_chain, defaults_chain
from zeropoint.butler.refcats import PROVENANCE, ingest_references
from zeropoint.butler.repository import create_repository, open_repository
from zeropoint.catalogs.htm import htm_index
from zeropoint.catalogs.reference_shards import ReferenceShards
from zeropoint.catalogs.references import ReferenceObjectLoader, ReferenceSource
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import InvalidInputError

N = 1200
MAP = {"bands": {"g": {"mag": "gmag", "mag_err": "e_gmag"}, "r": "rmag"}}


@pytest.fixture(scope="module")
def butler(tmp_path_factory):
    root = tmp_path_factory.mktemp("refcats") / "repo"
    create_repository(root)
    with open_repository(root, writeable=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(6)
    return Table(
        {
            "source_id": rng.permutation(N) + 10**15,
            "ra": 30.0 + rng.uniform(-0.8, 0.8, N),
            "dec": 20.0 + rng.uniform(-0.8, 0.8, N),
            "pmra": rng.normal(0, 20, N),
            "pmdec": rng.normal(0, 20, N),
            "ref_epoch": np.full(N, 2016.0),
            "gmag": np.where(rng.uniform(size=N) < 0.1, np.nan, rng.uniform(14, 20, N)),
            "e_gmag": np.full(N, 0.02),
            "rmag": rng.uniform(14, 20, N),
        }
    )


@pytest.fixture(scope="module")
def path(table, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "gaia_like.fits"
    table.write(path)
    return path


@pytest.fixture(scope="module")
def ingested(butler, path):
    return ingest_references(butler, "gaia_like", path, MAP)


def handles(butler, name):
    refs = butler.registry.queryDatasets(name, collections="refcats")
    return [butler.getDeferred(ref) for ref in refs]


def test_what_was_ingested_is_said(butler, ingested):
    assert (ingested.n_rows, ingested.n_dropped, ingested.run) == (N, 0, "refcats/gaia_like")
    assert (ingested.bands, ingested.depth, ingested.was_there) == (("g", "r"), 7, False)
    assert ingested.has_proper_motion
    assert len(handles(butler, "gaia_like")) == ingested.n_shards > 4


def test_a_task_loads_the_bytes_that_the_command_loads(butler, ingested, path):
    wcs = SkyWcs.from_boresight(30.0, 20.0, x=249.5, y=199.5, pixel_scale_arcsec=2.0)
    tables = [
        ReferenceObjectLoader(source).load(wcs, (400, 500), band="r", mjd_tai=59000.0).table
        for source in (
            ReferenceSource.open(path, MAP),
            ReferenceShards("gaia_like", handles(butler, "gaia_like")),
        )
    ]
    assert tables[0].colnames == tables[1].colnames
    for name in tables[0].colnames:
        assert tables[0][name].tobytes() == tables[1][name].tobytes(), name
        assert tables[0][name].unit == tables[1][name].unit
    assert len(tables[0]) > 100


def test_shards_come_back_with_units_and_nan_without_masks(butler, ingested, table):
    shards = [handle.get() for handle in handles(butler, "gaia_like")]
    assert {str(shard["pm_ra"].unit) for shard in shards} == {"rad / yr"}
    assert {str(shard["g_flux"].unit) for shard in shards} == {"nJy"}
    assert not any(hasattr(shard[name], "mask") for shard in shards for name in shard.colnames)
    missing = sum(np.isnan(shard["g_flux"]).sum() for shard in shards)
    assert missing == np.isnan(table["gmag"]).sum() > 50
    assert shards[0]["id"].dtype == np.int64


def test_each_shard_holds_the_rows_of_its_trixel(butler, ingested):
    for handle in handles(butler, "gaia_like"):
        shard = handle.get()
        assert set(htm_index(shard["coord_ra"], shard["coord_dec"], 7)) == {handle.dataId["htm7"]}


def test_files_are_those_that_a_plain_put_would_write(butler, ingested):
    refs = sorted(butler.registry.queryDatasets("gaia_like", collections="refcats"))
    one = refs[-1]
    copied = DatasetType("copied", {"htm7"}, "ArrowAstropy", universe=butler.dimensions)
    butler.registry.registerDatasetType(copied)
    butler.collections.register("copies", CollectionType.RUN)
    copy = butler.put(butler.get(one), copied, one.dataId, run="copies")
    ours, theirs = (pq.read_schema(butler.getURI(ref).ospath) for ref in (one, copy))
    assert ours.remove_metadata() == theirs.remove_metadata()
    plain = {key: value for key, value in theirs.metadata.items() if key != b"table_meta_yaml"}
    assert plain.items() <= ours.metadata.items()


def test_the_same_rows_again_change_nothing_whatever_their_order(butler, ingested, table, tmp_path):
    rng = np.random.default_rng(0)
    table[rng.permutation(N)].write(tmp_path / "shuffled.fits")
    before = {ref.id for ref in butler.registry.queryDatasets("gaia_like", collections="refcats")}
    again = ingest_references(butler, "gaia_like", tmp_path / "shuffled.fits", MAP, chunk_rows=100)
    assert again.was_there
    assert {ref.id for ref in butler.registry.queryDatasets("gaia_like", collections="refcats")} == before


def test_other_rows_under_the_same_name_are_refused_with_the_difference(butler, ingested, table, tmp_path):
    table[:-1].write(tmp_path / "fewer.fits")
    with pytest.raises(
        InvalidInputError, match=rf"rows {N}, now {N - 1}.*remove-runs REPO refcats/gaia_like"
    ):
        ingest_references(butler, "gaia_like", tmp_path / "fewer.fits", MAP)
    with pytest.raises(InvalidInputError, match=r"only the one there has pm_dec, pm_ra"):
        ingest_references(
            butler, "gaia_like", tmp_path / "fewer.fits", {**MAP, "pm_ra": None, "pm_dec": None}
        )


def test_the_origin_is_kept_beside_the_shards(butler, ingested, path):
    origin = butler.get(PROVENANCE, collections="refcats/gaia_like")
    assert origin["source"] == str(path)
    assert origin["column_map"] == MAP
    assert origin["n_rows"] == N
    assert origin["has_epoch"]
    assert origin["columns"]["g_flux"]["column"] == "gmag"


def test_catalogues_become_inputs_of_every_camera(butler, ingested, path):
    record = {"name": "TestCam", "class_name": "a.B", "visit_max": 10, "exposure_max": 10, "detector_max": 1,
              "visit_system": 0}  # fmt: skip
    butler.registry.syncDimensionData("instrument", record)
    add_to_chain(butler, defaults_chain("TestCam"), "my/own") if butler.collections.register(
        "my/own"
    ) else None
    ingest_references(butler, "gaia_like", path, MAP)
    children = butler.collections.get_info("TestCam/defaults").children
    assert children == ("my/own", "TestCam/post_isr", "TestCam/card", "refcats", "skymaps")
    assert "refcats/gaia_like" in butler.collections.get_info("refcats").children


def test_shards_of_several_catalogues_and_versions_are_ingested(butler, tmp_path):
    ra, dec = np.array([0.5, 0.5001]), np.array([0.3, 0.3001])
    for name, version, unit, flux in (("old", None, "Jy", 1e-6), ("new", 2, "nJy", 2000.0)):
        write_shard(tmp_path / f"{name}_189584.fits", ra=ra, dec=dec, flux=np.full(2, flux), version=version,
                    flux_unit=unit)  # fmt: skip
        ingest_references(butler, f"{name}", tmp_path)
    flux = {name: handles(butler, name)[0].get()["r_flux"] for name in ("old", "new")}
    assert flux["old"] == pytest.approx([1000.0, 1000.0])
    assert flux["new"].tolist() == [2000.0, 2000.0]
    assert handles(butler, "new")[0].get()["resolved"].tolist() == [True, False]


def test_an_ingestion_that_fails_leaves_nothing_and_can_be_repeated(butler, path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(butler), "put", full)
    with pytest.raises(OSError, match="No space left"):
        ingest_references(butler, "broken", path, MAP)
    monkeypatch.undo()
    assert not handles(butler, "broken")
    assert not ingest_references(butler, "broken", path, MAP).was_there
    root = Path(next(iter(butler.get_datastore_roots().values())).ospath)
    assert not list(root.glob(".ingest*"))


def test_what_a_killed_ingestion_left_on_disk_is_removed_by_the_next(butler, ingested, path):
    root = Path(next(iter(butler.get_datastore_roots().values())).ospath)
    left, in_use = root / ".ingest-left", root / ".ingest-used"
    for folder in (left, in_use):
        folder.mkdir()
        (folder / ".lock").touch()
    with (in_use / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ingest_references(butler, "gaia_like", path, MAP)
        assert (left.exists(), in_use.exists()) == (False, True)
    (in_use / ".lock").unlink()
    in_use.rmdir()


@pytest.mark.parametrize(
    ("name", "depth", "message"),
    [
        ("3cat", 7, "cannot be a catalogue's name"),
        ("a.b", 7, "cannot be a catalogue's name"),
        ("gaia_like", 8, r"already a dataset type with dimensions \(htm7\).*\(htm8\)"),
        (PROVENANCE, 7, "already a dataset type"),
        ("deep", 99, "Depth 99 is not possible"),
    ],
)
def test_names_and_depths_that_cannot_be_used_are_refused(butler, ingested, path, name, depth, message):
    with pytest.raises(InvalidInputError, match=message):
        ingest_references(butler, name, path, MAP, depth)


def test_a_table_without_the_needed_columns_is_explained(butler, tmp_path):
    Table({"alpha": [1.0], "delta": [2.0]}).write(tmp_path / "a.csv")
    with pytest.raises(InvalidInputError, match=r"ra: RAJ2000.*Columns of the file: alpha, delta"):
        ingest_references(butler, "a", tmp_path / "a.csv")
    Table({"ra": [np.nan], "dec": [2.0], "rmag": [15.0]}).write(tmp_path / "b.fits")
    with pytest.raises(InvalidInputError, match="no row with a position"):
        ingest_references(butler, "b", tmp_path / "b.fits")


@pytest.mark.parity
def test_real_shards_of_three_catalogues_are_the_same_from_repository_and_file(butler, testdata):
    wcs = SkyWcs.from_boresight(320.9, -0.4, x=1000, y=1000, pixel_scale_arcsec=0.2)
    for name, band in (("gaia_dr2", "phot_g_mean"), ("ps1_pv3", "i")):
        source = ReferenceSource.open(testdata / "refcats-lsst-htm" / "hsc-rc2-ps1-gaia", name=name)
        ingest_references(butler, name, testdata / "refcats-lsst-htm" / "hsc-rc2-ps1-gaia" / name)
        shards = ReferenceShards(name, handles(butler, name))
        one, other = (
            ReferenceObjectLoader(each).load(wcs, (2000, 2000), band=band, mjd_tai=59000.0).table
            for each in (source, shards)
        )
        assert one.colnames == other.colnames
        assert all(np.array_equal(one[c], other[c], equal_nan=one[c].dtype.kind == "f") for c in one.colnames)
