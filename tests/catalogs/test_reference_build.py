"""Building shards: what they hold, that nothing but the rows matters, and that an interruption costs nothing."""

import json
import os
import shutil
import signal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zeropoint.catalogs.htm import htm_index
from zeropoint.catalogs.reference_build import build_references
from zeropoint.catalogs.reference_manifest import read_manifest, verify_shards
from zeropoint.catalogs.reference_source import ReferenceSource, sky_area_deg2
from zeropoint.catalogs.references import LoadReferenceObjectsConfig, ReferenceObjectLoader
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import InvalidInputError

N = 900
MAS = np.deg2rad(1 / 3.6e6)


@pytest.fixture(scope="module")
def gaia():
    """A table as Gaia's archive gives it: correlations, and no motion for one star in ten."""
    rng = np.random.default_rng(11)
    columns = {
        "source_id": rng.permutation(N) + 4_000_000_000_000_000_000,
        "ra": rng.uniform(358.5, 361.5, N) % 360.0,
        "dec": rng.uniform(-1.5, 1.5, N),
        "ref_epoch": np.full(N, 2016.0),
        "phot_g_mean_mag": rng.uniform(12, 20, N),
        "phot_g_mean_flux_over_error": rng.uniform(50, 900, N),
    }
    for name, error in (("ra", 0.1), ("dec", 0.2), ("parallax", 0.3), ("pmra", 0.4), ("pmdec", 0.5)):
        columns[f"{name}_error"] = np.full(N, error)
    motions = {name: rng.normal(0, 5, N) for name in ("parallax", "pmra", "pmdec")}
    names = ("ra", "dec", "parallax", "pmra", "pmdec")
    correlations = {
        f"{a}_{b}_corr": rng.uniform(-0.9, 0.9, N) for i, a in enumerate(names) for b in names[i + 1 :]
    }
    for name, values in {**motions, **correlations}.items():
        columns[name] = np.where(np.arange(N) % 10 == 3, np.nan, values)
    return columns


def arrow(columns):
    return pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})


def write(path, columns):
    if path.suffix == ".fits":
        Table(columns).write(path)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(arrow(columns), path)
    else:
        pq.write_table(arrow(columns), path, row_group_size=100)
    return path


def content(folder):
    """Return the bytes of every file, and the manifest without what the inputs were."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["plan"], manifest["columns"]
    return manifest, {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


@pytest.fixture(scope="module")
def built(tmp_path_factory, gaia):
    folder = tmp_path_factory.mktemp("built")
    table = write(folder / "gaia.parquet", gaia)
    return table, build_references(folder / "shards", [table], name="g").folder


def everything(path, **options):
    return ReferenceSource.open(path, **options).load_circle(0.0, 0.0, 0.05)


def test_shards_give_what_the_table_gives(built):
    table, folder = built
    assert set(os.listdir(folder)) == {
        "manifest.json",
        *(f"{entry.file_name}" for entry in read_manifest(folder).shards),
    }
    ours, theirs = everything(folder), everything(table)
    assert ours.keys() == theirs.keys()
    assert ours["id"].size == N
    for name, values in theirs.items():
        assert ours[name].dtype == values.dtype
        assert np.array_equal(ours[name], values, equal_nan=values.dtype.kind == "f"), name


def test_correlations_become_covariances(built, gaia):
    columns = everything(built[1])
    order = {one: k for k, one in enumerate(gaia["source_id"].tolist())}
    rows = np.array([order[one] for one in columns["id"].tolist()])
    expected = gaia["dec_pmra_corr"][rows] * 0.2 * 0.4 * MAS**2
    assert np.allclose(columns["coord_dec_pm_ra_Cov"], expected, rtol=1e-12, atol=0.0, equal_nan=True)
    expected = gaia["parallax_pmdec_corr"][rows] * 0.3 * 0.5 * MAS**2
    assert np.allclose(columns["pm_dec_parallax_Cov"], expected, rtol=1e-12, atol=0.0, equal_nan=True)
    manifest = read_manifest(built[1])
    assert (manifest.format_version, manifest.n_rows) == (2, N)
    assert manifest.columns["pm_dec_parallax_Cov"]["unit"] == "rad2 / yr"
    assert manifest.columns["coord_raErr"]["from"] == "ra_error in mas"


def test_every_shard_holds_its_trixel_and_its_units(built):
    for entry in read_manifest(built[1]).shards:
        table = pq.read_table(built[1] / entry.file_name)
        assert table.num_rows == entry.rows
        index = htm_index(table["coord_ra"].to_numpy(), table["coord_dec"].to_numpy(), 7)
        assert set(index.tolist()) == {entry.trixel}
        assert table.schema.field("pm_ra").metadata == {b"unit": b"rad / yr"}


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1),
    n_files=st.integers(1, 5),
    ending=st.sampled_from(["csv", "parquet", "fits"]),
    chunk_rows=st.sampled_from([70, 333, 100_000]),
    overlap=st.integers(0, 40),
)
def test_only_the_rows_matter(tmp_path_factory, built, gaia, seed, n_files, ending, chunk_rows, overlap):
    """Order of rows and files, formats, pieces, and rows given twice do not change a byte."""
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("files")
    order = rng.permutation(N)
    for k, rows in enumerate(np.array_split(order, n_files)):
        more = np.concatenate([rows, order[:overlap]]) if k else rows
        write(folder / f"{k}.{ending}", {name: values[more] for name, values in gaia.items()})
    done = build_references(folder / "out", [folder], name="g", chunk_rows=chunk_rows)
    manifest, files = content(done.folder)
    assert manifest.pop("n_duplicates") == overlap * (n_files - 1)
    expected, expected_files = content(built[1])
    del expected["n_duplicates"]
    assert manifest == expected
    assert files == expected_files
    shutil.rmtree(folder)


class Interrupted(Exception):
    """What a test interrupts a build with."""


def interrupting(after, how):
    calls = 0

    def report(*_):
        nonlocal calls
        calls += 1
        if calls > after:
            how()

    return report


def stop():
    raise Interrupted


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    stops=st.lists(st.integers(0, 50), min_size=1, max_size=4), chunks=st.sampled_from([(90, 90), (200, 70)])
)
def test_an_interrupted_build_goes_on(tmp_path_factory, built, stops, chunks):
    table, whole = built
    folder = tmp_path_factory.mktemp("interrupted") / "shards"
    interruptions = 0
    for after in stops:
        try:
            build_references(
                folder, [table], name="g", chunk_rows=chunks[0], on_progress=interrupting(after, stop)
            )
        except Interrupted:
            interruptions += 1
    done = build_references(folder, [table], name="g", chunk_rows=chunks[1])
    assert done.was_there == (interruptions < len(stops))
    assert content(folder) == content(whole)
    assert not (folder / ".build").exists()
    shutil.rmtree(folder)


@pytest.mark.parametrize("after", [4, 12, 25])
def test_a_killed_build_goes_on(tmp_path, built, after):
    table, whole = built
    folder = tmp_path / "shards"
    child = os.fork()
    if child == 0:
        kill = interrupting(after, lambda: os.kill(os.getpid(), signal.SIGKILL))
        build_references(folder, [table], name="g", chunk_rows=90, on_progress=kill)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with pytest.raises(InvalidInputError, match="not built to its end"):
        ReferenceSource.open(folder)
    # half a line, and half a shard, as a crash of the machine may leave them
    journal = folder / ".build" / "shards.jsonl"
    if journal.exists() and journal.read_text():
        first = json.loads(journal.read_text().splitlines()[0])[0]
        os.truncate(folder / f"{first}.parquet", 100)
    with journal.open("a") as stream:
        stream.write('[12345, 4, "0')
    done = build_references(folder, [table], name="g", chunk_rows=90)
    assert done.resumed
    assert content(folder) == content(whole)


def test_what_was_read_is_not_read_again(tmp_path, gaia):
    files = [
        write(tmp_path / f"{k}.csv", {name: values[k::3] for name, values in gaia.items()}) for k in range(3)
    ]
    seen = []

    def report(stage, done, _):
        if stage == "read":
            seen.append(done)
        if stage == "write" and done == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        build_references(tmp_path / "out", files, chunk_rows=100, on_progress=report)
    assert seen[-1] == N
    seen.clear()
    build_references(tmp_path / "out", files, chunk_rows=100, on_progress=lambda s, d, _: seen.append((s, d)))
    assert [done for stage, done in seen if stage == "read"] == []
    assert next(done for stage, done in seen if stage == "write") == 2


def test_a_second_build_finds_the_first(tmp_path, built, gaia):
    table, folder = built
    assert build_references(folder, [table], name="g").was_there
    other = write(tmp_path / "other.parquet", {name: values[1:] for name, values in gaia.items()})
    with pytest.raises(
        InvalidInputError, match=r"made otherwise \(depth 7, now 8; without .*other.parquet; with"
    ):
        build_references(folder, [other], name="g", depth=8)
    mine = tmp_path / "mine"
    shutil.copytree(folder, mine)
    (mine / "notes.txt").write_text("kept")
    done = build_references(mine, [other], name="g", overwrite=True)
    assert done.manifest.n_rows == N - 1
    assert (mine / "notes.txt").exists()
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy" / "file").touch()
    with pytest.raises(InvalidInputError, match="not empty"):
        build_references(tmp_path / "busy", [table])


def test_a_changed_table_is_noticed(tmp_path, gaia):
    table = write(tmp_path / "a.csv", gaia)
    with pytest.raises(Interrupted):
        build_references(tmp_path / "out", [table], chunk_rows=100, on_progress=interrupting(6, stop))
    os.utime(table, ns=(0, 0))
    with pytest.raises(InvalidInputError, match=r"unfinished build made otherwise \(.*a.csv has changed"):
        build_references(tmp_path / "out", [table], chunk_rows=100)


def test_damage_is_found(tmp_path, built):
    folder = tmp_path / "shards"
    shutil.copytree(built[1], folder)
    manifest = read_manifest(folder)
    first, second, third = (folder / entry.file_name for entry in manifest.shards[:3])
    with first.open("r+b") as file:
        file.seek(200)
        byte = file.read(1)
        file.seek(200)
        file.write(bytes([byte[0] ^ 1]))
    os.truncate(second, 300)
    third.unlink()
    problems = list(verify_shards(folder, manifest))
    assert [problem.split(": ")[1].split()[0] for problem in problems] == ["its", "has", "is"]
    with pytest.raises(InvalidInputError, match=f"{first.name}: its content does not match its checksum"):
        everything(folder)
    shutil.copy(built[1] / first.name, first)
    with pytest.raises(InvalidInputError, match="has 300 bytes instead of"):
        everything(folder)
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace(manifest.shards[3].sha256, manifest.shards[4].sha256))
    with pytest.raises(InvalidInputError, match="do not fit together"):
        ReferenceSource.open(folder)


def test_an_image_is_calibrated_against_shards_as_against_the_table(built):
    wcs = SkyWcs.from_boresight(0.05, 0.1, x=999.5, y=999.5, pixel_scale_arcsec=1.0)
    config = LoadReferenceObjectsConfig(anyFilterMapsToThis="phot_g_mean", requireProperMotion=True)
    tables = [
        ReferenceObjectLoader(ReferenceSource.open(path), config)
        .load(wcs, (2000, 2000), band="r", mjd_tai=60000.0)
        .table
        for path in built
    ]
    assert len(tables[0]) > 30
    for name in tables[0].colnames:
        values = np.asarray(tables[0][name])
        assert np.array_equal(values, np.asarray(tables[1][name]), equal_nan=values.dtype.kind == "f")
    assert tables[0]["coord_ra_pm_dec_Cov"].unit == "rad2 / yr"


def test_a_column_map_belongs_to_tables_not_to_shards(built, caplog):
    caplog.set_level("INFO", "zeropoint")
    source = ReferenceSource.open(built[1], {"ra": "RAJ2000", "bands": {"r": "rmag"}})
    assert source.bands == ["phot_g_mean"]
    assert "not applied" in caplog.text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.csv": "ra,dec,r,id\n1,2,3,4\n", "b.csv": "ra,dec,r,id\n1,2,3,x\n"}, "'id' holds integers in some of the 2"),
        ({"a.csv": "ra,dec,r,id\n1,2,3,4\n1,2,3,\n"}, "1 of 2 rows have no id .column 'id'"),
        ({"a.csv": "ra,dec,r\n1,2,3\n", "b.csv": "ra,dec,g\n1,2,3\n"}, "only b.csv has g_flux; only a.csv has r_flux"),
        ({"a.csv": "ra,dec,r\n,2,3\n"}, "no row has a position"),
        ({"a.csv": "ra,dec,r\n"}, "no row has a position"),
        ({"a.csv": "ra,dec,r\n1,2,3\n1,2\n"}, "a.csv: cannot be read as a table.*Expected 3 columns, got 2"),
        ({"a.csv": "ra,dec,r\n1,2,2016-05-01\n"}, "'r' cannot be read as numbers for r_flux"),
        ({"a.csv": "ra,dec,r,pmra,pmdec,pmra_error,ref_epoch\n1,2,3,4,5,-999,2016\n"},
         r"1 of 1 values of column 'pmra_error' \(as pm_raErr\) are negative.*-999.*pm_ra_err: \{column: pmra_error"),
        ({"a.csv": "ra,dec,r,parallax_error\n1,2,3,-0.5\n"}, "parallax_err: null"),
        ({"a.txt": "x"}, "holds no table"),
    ],
)  # fmt: skip
def test_unusable_tables_say_what_to_do_and_leave_nothing(tmp_path, files, message):
    (tmp_path / "in").mkdir()
    for name, text in files.items():
        (tmp_path / "in" / name).write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        build_references(tmp_path / "out", [tmp_path / "in"])
    assert not (tmp_path / "out").exists()


def test_values_for_unknown_are_stated(tmp_path):
    table = tmp_path / "a.csv"
    table.write_text("ra,dec,r,pmra,pmdec,pmra_error,ref_epoch\n1,2,13,4,5,-999,2016\n1,3,14,4,5,0.5,2016\n")
    given = {"pm_ra_err": {"column": "pmra_error", "invalid": [-999, -1]}}
    done = build_references(tmp_path / "out", [table], given)
    columns = ReferenceSource.open(done.folder).load_circle(*np.deg2rad([1.0, 2.5, 3.0]))
    assert columns["pm_raErr"] == pytest.approx(np.array([np.nan, 0.5 * MAS]), rel=1e-12, nan_ok=True)
    with pytest.raises(InvalidInputError, match="invalid is a number or a list of numbers"):
        build_references(tmp_path / "no", [table], {"ra": {"column": "ra", "invalid": 0}})


def test_types_that_differ_between_files_are_joined(tmp_path):
    """Whole numbers in one file, with a gap in another."""
    (tmp_path / "a.csv").write_text("ra,dec,r,n\n1,2,13,4\n")
    (tmp_path / "b.csv").write_text("ra,dec,r,n\n1.1,2,13,\n1.1,2.5,13,1.5\n")
    done = build_references(
        tmp_path / "out", [tmp_path / "a.csv", tmp_path / "b.csv"], {"keep": ["n"]}, chunk_rows=1, depth=9
    )
    kinds = {str(pq.read_schema(path).field("n").type) for path in done.folder.glob("*.parquet")}
    assert kinds == {"double"}
    columns = ReferenceSource.open(done.folder).load_circle(*np.deg2rad([1.0, 2.0, 2.0]))
    assert np.array_equal(columns["n"], [4.0, np.nan, 1.5], equal_nan=True)


def test_the_area_of_all_trixels_is_the_sphere(tmp_path):
    from zeropoint.catalogs.reference_source import Shard

    shards = [Shard(tmp_path, "", index, 3) for index in range(8 * 64, 16 * 64)]
    assert sky_area_deg2(shards) == pytest.approx(4 * np.pi * (180 / np.pi) ** 2, rel=1e-12)


def test_pieces_that_are_too_small_are_told_once(gaia, tmp_path, caplog):
    table = write(tmp_path / "gaia.csv", gaia)
    build_references(tmp_path / "few", [table], chunk_rows=10)
    assert not caplog.records
    build_references(tmp_path / "many", [table], chunk_rows=3)
    assert [record.message.partition(" are")[0] for record in caplog.records] == ["many: pieces of 3 rows"]
