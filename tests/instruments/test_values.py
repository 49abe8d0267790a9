from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard
from zeropoint.instruments.values import ImageContext, MissingValueError


def context(
    folder: Path, name: str = "a.fits", headers: list[fits.Header] | None = None, **card: object
) -> ImageContext:
    return ImageContext(
        folder / name, CameraCard("test", "test.yaml", dict(card)), headers or [fits.Header()]
    )


@pytest.mark.parametrize("name", ["a.fits", "a.FIT", "a.fits.fz", "a.fit.gz", "a.fts", "a"])
def test_stem_has_no_suffixes(tmp_path: Path, name: str) -> None:
    assert context(tmp_path, name).stem == "a"


def test_file_name_groups_and_placeholders(tmp_path: Path) -> None:
    image = context(tmp_path, "n12_r.fits", filename=r"n(?P<night>\d+)_(?P<band>\w)")
    assert image.expand("{dir}/{night}/{band}-{stem}") == f"{tmp_path}/12/r-n12_r"
    for bad in ("{nonsense}", "{0}", "{", "{dir.x}"):
        with pytest.raises(InvalidInputError, match="placeholder"):
            image.expand(bad)
    with pytest.raises(InvalidInputError, match="does not match the pattern"):
        context(tmp_path, "x.fits", filename=r"n(?P<night>\d+)")


def test_header_values_prefer_the_image_and_skip_the_undefined(tmp_path: Path) -> None:
    primary = fits.Header({"GAIN": 1.0, "FILTER": "g", "ONLY": 5})
    image = fits.Header({"EXTNAME": "SCI", "GAIN": 2.0})
    image["FILTER"] = fits.card.Undefined()
    both = ImageContext(tmp_path / "a.fits", CameraCard("t", "t", {}), [primary, image], image_hdu=1)
    assert both.header_value("GAIN") == 2.0
    assert both.header_value("GAIN", 0) == 1.0
    assert both.header_value("GAIN", "sci") == 2.0
    assert both.header_value("FILTER") == "g"
    assert both.header_value(["NONE", "ONLY"]) == 5
    assert both.header_value("NONE") is None


def test_defaults_scale_and_offset(tmp_path: Path) -> None:
    image = context(tmp_path, headers=[fits.Header({"MS": 1500, "TEXT": "abc"})])
    assert image.resolve("t", {"key": "MS", "scale": 0.001, "offset": 1.0}) == 2.5
    assert image.resolve("t", {"key": "NONE", "default": 7}) == 7
    assert image.resolve("t", {"value": "x"}) == "x"
    assert image.resolve("t", None) is None
    with pytest.raises(InvalidInputError, match=r"a\.fits: t is 'abc', which is not a number"):
        image.resolve("t", {"key": "TEXT", "scale": 2})
    with pytest.raises(InvalidInputError, match="needs one of"):
        image.resolve("t", {"default": 3})


def test_table_cells(tmp_path: Path) -> None:
    Table({"file": ["a", "b"], "n": [1.0, 2.0], "gain": [3.5, 4.5], "per": [[1, 2], [3, 4]]}).write(
        tmp_path / "t.fits"
    )
    Table({"file": ["a", "b", "b"], "gain": [3.5, 4.5, 5.5]}).write(tmp_path / "t.csv")
    (tmp_path / "t.dat").write_text("file gain\na 9.5\n")
    pq.write_table(pa.table({"file": ["b", "a"], "gain": [1.5, 6.5]}), tmp_path / "t.parquet")
    image = context(tmp_path)
    where = {"file": "{stem}"}
    fits_cell = {"table": "{dir}/t.fits", "where": where, "column": "gain"}
    assert image.resolve("gain", fits_cell) == 3.5
    assert isinstance(image.resolve("gain", fits_cell), float)
    assert image.resolve("gain", {**fits_cell, "where": {"n": "2"}}) == 4.5
    assert image.resolve("gain", {**fits_cell, "column": "per", "index": 1}) == 2
    assert image.resolve("gain", {**fits_cell, "column": "per", "index": "r", "order": ["g", "r"]}) == 2
    assert image.resolve("gain", {**fits_cell, "table": "{dir}/t.csv"}) == 3.5
    assert image.resolve("gain", {**fits_cell, "table": "{dir}/t.dat"}) == 9.5
    assert image.resolve("gain", {**fits_cell, "table": "{dir}/t.parquet"}) == 6.5
    assert image.resolve("gain", {**fits_cell, "table": "{dir}/no.fits", "default": 1.5}) == 1.5


@pytest.mark.parametrize(
    ("cell", "match"),
    [
        ({"table": "{dir}/no.fits", "column": "gain"}, "does not exist"),
        ({"table": "{dir}/t.csv", "column": "gian", "where": {"file": "a"}}, "no column 'gian'"),
        ({"table": "{dir}/t.csv", "column": "gain", "where": {"name": "a"}}, "no column 'name'"),
        ({"table": "{dir}/t.csv", "column": "gain", "where": {"file": "c"}}, "0 rows"),
        ({"table": "{dir}/t.csv", "column": "gain", "where": {"file": "b"}}, "2 rows"),
        ({"table": "{dir}/t.csv", "where": {"file": "a"}}, "needs a `column`"),
        ({"table": "{dir}/t.csv", "column": "gain", "where": {"file": "a"}, "index": 3}, "no element"),
        ({"table": "{dir}/broken.fits", "column": "gain"}, "cannot be read as a table"),
    ],
)
def test_wrong_table_cells_are_refused(tmp_path: Path, cell: dict[str, object], match: str) -> None:
    Table({"file": ["a", "b", "b"], "gain": [3.5, 4.5, 5.5]}).write(tmp_path / "t.csv")
    (tmp_path / "broken.fits").write_text("not a table")
    with pytest.raises(InvalidInputError, match=match) as caught:
        context(tmp_path).resolve("gain", cell)
    assert "\n" not in str(caught.value)
    assert issubclass(MissingValueError, InvalidInputError)


@pytest.mark.parametrize(
    ("text", "hours", "degrees"),
    [
        ("30.5", False, 30.5),
        (30.5, True, 30.5),
        ("02:00:00", True, 30.0),
        ("02 00 00", True, 30.0),
        ("-00:30:00", False, -0.5),
        ("+46:46:09", False, 46.769166667),
    ],
)
def test_angles(tmp_path: Path, text: object, hours: bool, degrees: float) -> None:
    assert context(tmp_path).degrees("wcs.ra", text, hours=hours) == pytest.approx(degrees, abs=1e-8)


def test_missing_and_wrong_angles(tmp_path: Path) -> None:
    assert np.isnan(context(tmp_path).degrees("wcs.ra", {"key": "RA"}))
    with pytest.raises(InvalidInputError, match="not an angle"):
        context(tmp_path).degrees("wcs.ra", "zenith")


def test_values_joined_and_counted(tmp_path: Path) -> None:
    image = context(
        tmp_path, "n12_r.fits", [fits.Header({"FIELD": 30})], filename=r"n(?P<night>\d+)_(?P<band>\w)"
    )
    position = {"value": "{band}", "order": ["u", "g", "r"]}
    assert image.resolve("visit", position) == 2
    assert image.resolve("visit", {"join": ["{night}", {"key": "FIELD"}, position]}) == "12302"
    assert image.resolve("visit", {"join": ["{night}", {"key": "NONE"}], "default": 5}) == 5
    with pytest.raises(InvalidInputError, match=r"n12_r\.fits: visit is 'r', which is not one of u, g"):
        image.resolve("visit", {"value": "{band}", "order": ["u", "g"]})
