"""CSV and ECSV files in pieces: types that turn out wrong, headers, compression, gaps."""

import bz2
import gzip

import numpy as np
import pytest
from astropy.table import Table

from zeropoint.catalogs import reference_text
from zeropoint.catalogs.reference_formats import open_table
from zeropoint.catalogs.reference_text import TextTable
from zeropoint.errors import InvalidInputError


def pieces(table, names, n_rows, start=0):
    parts = list(table.pieces(names, n_rows, start))
    assert all(len(part.get(names[0])) <= n_rows for part in parts)
    return {name: np.concatenate([part.get(name) for part in parts]) for name in names}


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(reference_text, "_BLOCK_BYTES", 400)


def test_types_that_turn_out_wrong_are_widened(tmp_path, small_blocks):
    """The first block guesses; later ones hold fractions, text, or something at all."""
    n = 500
    lines = ["i,late,text,bool"]
    lines += [
        f"{k},{'' if k < 300 else 0.25},{k if k < 250 else 'x'},{'true' if k < 400 else 'maybe'}"
        for k in range(n)
    ]
    lines[451] = lines[451].replace("450,", "450.5,", 1)
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines) + "\n")
    table = open_table(path)
    assert isinstance(table, TextTable)
    assert table.n_rows is None
    read = {}
    for name, start in (("i", 0), ("late", 20)):
        read[name] = pieces(table, [name], 70, start)[name]
    expected = np.arange(n, dtype=float)
    expected[450] = 450.5
    assert np.array_equal(read["i"], expected)
    assert np.array_equal(read["late"], np.where(np.arange(20, n) < 300, np.nan, 0.25), equal_nan=True)
    with pytest.raises(InvalidInputError, match=r"a\.csv: cannot be read as a table"):
        pieces(table, ["text"], 70)


@pytest.mark.parametrize("start", [0, 1, 37, 199, 200])
def test_reading_may_begin_anywhere(tmp_path, small_blocks, start):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "".join(f"{k},{k * 0.5}\n" for k in range(200)))
    table = open_table(path)
    parts = list(table.pieces(["b"], 13, start))
    values = np.concatenate([np.zeros(0), *(part.get("b") for part in parts)])
    assert values.tolist() == [k * 0.5 for k in range(start, 200)]


@pytest.mark.parametrize("compress", [None, gzip.compress, bz2.compress])
@pytest.mark.parametrize("header", ["", "# made by hand\n\n# twice\n"])
def test_comments_and_compression(tmp_path, compress, header):
    text = (
        f"\ufeff{header} ra , dec,r\n1,2,null\n3, 4 ,15.5\n"
        if not header
        else f"{header} ra , dec,r\n1,2,null\n3, 4 ,15.5\n"
    )
    path = tmp_path / {None: "a.csv", gzip.compress: "a.csv.gz", bz2.compress: "a.csv.bz2"}[compress]
    content = text.encode()
    path.write_bytes(compress(content) if compress else content)
    table = open_table(path)
    assert table.names == ["ra", "dec", "r"]
    assert table.get("dec").tolist() == [2.0, 4.0]
    assert np.array_equal(table.get("r"), [np.nan, 15.5], equal_nan=True)


def test_names_in_a_comment_are_left_to_a_more_patient_reader(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("# ra,dec,r\n1,2,15.0\n3,4,16.0\n")
    assert not isinstance(open_table(path), TextTable)


@pytest.mark.parametrize("delimiter", [" ", ","])
def test_ecsv_is_read_as_astropy_reads_it(tmp_path, delimiter):
    rng = np.random.default_rng(2)
    n = 40
    table = Table(
        {
            "id": rng.integers(0, 2**62, n),
            "ra": rng.uniform(0, 360, n),
            "err": rng.uniform(0, 1, n).astype(np.float32),
            "good": rng.uniform(size=n) < 0.5,
            "name": [f"star {k}" for k in range(n)],
            "pair": rng.uniform(size=(n, 2)),
            "gap": np.ma.MaskedArray(rng.uniform(size=n), np.arange(n) % 3 == 0),
        }
    )
    table["ra"].unit = "deg"
    path = tmp_path / "a.ecsv"
    table.write(path, delimiter=delimiter)
    read = open_table(path)
    assert isinstance(read, TextTable)
    assert read.names == ["id", "ra", "err", "good", "name", "gap"]
    assert read.units == {"ra": "deg"}
    for name in ("id", "ra", "err", "good", "name"):
        values = read.get(name)
        assert values.dtype.kind == table[name].dtype.kind
        assert values.tolist() == table[name].tolist()
    assert np.array_equal(read.get("gap"), table["gap"].filled(np.nan), equal_nan=True)


def test_dates_are_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("day,time\n2016-01-01,2016-01-01T00:00:01\n")
    table = open_table(path)
    assert table.get("day").tolist() == ["2016-01-01"]
    assert table.get("time").dtype.kind == "U"


def test_a_damaged_archive_is_said(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"ra,dec,r\n" + b"1,2,3\n" * 100_000)[:-200])
    with pytest.raises(InvalidInputError, match=r"a\.csv\.gz: cannot be read"):
        open_table(path).get("ra")


def test_gaps_in_whole_numbers_of_fits_are_nan(tmp_path):
    from astropy.io import fits

    column = fits.Column("n", "J", null=-999, array=np.array([1, -999, 3]))
    other = fits.Column("m", "J", array=np.array([1, -999, 3]))
    fits.BinTableHDU.from_columns([column, other]).writeto(tmp_path / "a.fits")
    table = open_table(tmp_path / "a.fits")
    assert np.array_equal(table.get("n"), [1.0, np.nan, 3.0], equal_nan=True)
    assert table.get("m").tolist() == [1, -999, 3]
