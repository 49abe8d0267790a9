from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.io import fits
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.datamodel.arrow import arrow_to_table, table_to_arrow
from zeropoint.datamodel.transmission_curve import TransmissionCurve
from zeropoint.datamodel.transmission_files import read_detector_curves
from zeropoint.errors import InvalidInputError

WAVE = np.array([5000.0, 6000.0, 7000.0])


def test_it_is_linear_inside_and_constant_outside() -> None:
    curve = TransmissionCurve(WAVE, np.array([0.2, 0.8, 0.4]), below=0.1, above=0.3)
    np.testing.assert_allclose(
        curve.sample([4000, 5000, 5500, 6500, 7000, 8000]), [0.1, 0.2, 0.5, 0.6, 0.4, 0.3]
    )
    assert not curve.throughput.flags.writeable


@settings(max_examples=30)
@given(st.floats(0, 400), st.floats(-300, 300))
def test_between_radii_it_is_linear_and_beyond_them_constant(x: float, y: float) -> None:
    radii = np.array([10.0, 100.0, 300.0])
    curve = TransmissionCurve(WAVE, np.array([[0.0] * 3, [0.5] * 3, [1.0] * 3]), radii)
    expected = np.interp(np.hypot(x, y), radii, [0.0, 0.5, 1.0])
    assert curve.sample([5500.0], x, y) == pytest.approx([expected])
    in_pixels = TransmissionCurve(WAVE, curve.throughput, radii / 0.01, "pixel")
    assert in_pixels.sample([5500.0], x, y, pixel_size_mm=0.01) == pytest.approx([expected])


def test_a_product_has_the_wavelengths_of_all() -> None:
    hat = TransmissionCurve.top_hat(5200.0, 6800.0, throughput=0.5)
    radial = TransmissionCurve(
        WAVE, np.array([[0.2] * 3, [0.4] * 3]), np.array([0.0, 10.0]), below=1.0, above=1.0
    )
    product = TransmissionCurve.product([hat, radial])
    assert set(WAVE) | {5200.0, 6800.0} == set(product.wavelength)
    assert product.sample([6000.0, 9000.0], x_mm=10.0) == pytest.approx([0.2, 0.0])
    with pytest.raises(InvalidInputError, match="depend on the radius both"):
        TransmissionCurve.product([radial, radial])


@pytest.mark.parametrize("radial", [False, True])
def test_a_table_keeps_the_curve(radial: bool) -> None:
    curve = TransmissionCurve(
        WAVE,
        np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]) if radial else np.array([0.1, 0.2, 0.3]),
        np.array([0.0, 5.0]) if radial else None,
        "pixel" if radial else "mm",
        below=0.5,
        above=0.25,
    )
    table = arrow_to_table(table_to_arrow(curve.to_table()))
    # the Butler does not give back the metadata of a table
    table.meta.clear()
    again = TransmissionCurve.from_table(table)
    assert again.radius_unit == curve.radius_unit
    np.testing.assert_array_equal(again.radii, curve.radii)
    places = [600, 4999.9, 5000, 5300, 6999, 7000, 7000.1, 9000]
    for radius in (0.0, 2.0):
        np.testing.assert_allclose(
            again.sample(places, radius, pixel_size_mm=0.5), curve.sample(places, radius, pixel_size_mm=0.5)
        )


def test_units_of_a_table_count() -> None:
    table = Table({"wavelength": WAVE / 10 * units.nm, "throughput": [10.0, 90.0, 50.0] * units.percent})
    curve = TransmissionCurve.from_table(table)
    np.testing.assert_allclose(curve.wavelength, WAVE)
    np.testing.assert_allclose(curve.throughput, [0.1, 0.9, 0.5])


@pytest.mark.parametrize("name", ["a.parq", "a.parquet", "a.ecsv", "a.csv", "a.fits"])
def test_tables_in_files_of_all_forms_are_read(tmp_path: Path, name: str) -> None:
    table = Table({"wavelength": WAVE / 10 * units.nm, "throughput": [0.1, 0.9, 0.5]})
    if name.startswith("a.parq"):
        pq.write_table(table_to_arrow(table), tmp_path / name)
    else:
        table.write(tmp_path / name)
    curve = TransmissionCurve.read(tmp_path / name)
    np.testing.assert_allclose(curve.wavelength, WAVE)
    np.testing.assert_allclose(curve.throughput, [0.1, 0.9, 0.5])


@pytest.mark.parametrize(
    ("wavelength", "throughput", "complaint"),
    [
        (WAVE[::-1], [0.1, 0.2, 0.3], "wavelengths must increase, but 7000 is followed by 6000 Angstrom"),
        ([5000, 5000, 6000], [0.1, 0.2, 0.3], "must increase"),
        (WAVE, [0.1, -0.01, 0.3], "1 throughputs are negative"),
        (WAVE, [0.1, 1.01, 0.3], "greater than 1 .*--clip"),
        (WAVE, [10, 95, 3], r"in percent \(FILE%; or --percent"),
        (WAVE, [0.1, np.nan, 0.3], "1 throughputs are no numbers"),
        ([5000, np.nan, 7000], [0.1, 0.2, 0.3], "wavelengths are no numbers"),
        (WAVE, [0.1, 0.2], "throughputs for 3 wavelengths"),
        ([5000], [0.1], "at least two wavelengths"),
        (WAVE / 1e4, [0.1, 0.2, 0.3], "cannot be Angstrom"),
    ],
)
def test_impossible_curves_are_refused(wavelength: list, throughput: list, complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        TransmissionCurve(np.array(wavelength), np.array(throughput), source="curve.txt")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("# Wavelength(nm)  Throughput(0-1)\n500 0.1\n700 0.2\n", 5000.0),
        ("wavelength [Angstrom],throughput\n5000,0.1\n7000,0.2\n", 5000.0),
        ("500 0.1 9\n700 0.2 9\n", 5000.0),
        ("# microns\n0.5 0.1\n0.7 0.2\n", 5000.0),
        ("0.5 0.1\n0.7 0.2\n", 5000.0),
    ],
)
def test_text_tells_its_unit_or_the_range_does(tmp_path: Path, text: str, start: float) -> None:
    (tmp_path / "a.txt").write_text(text)
    with gzip.open(tmp_path / "a.dat.gz", "wt") as stream:
        stream.write(text)
    for name in ("a.txt", "a.dat.gz"):
        curve = TransmissionCurve.read(tmp_path / name)
        assert curve.wavelength[0] == pytest.approx(start)
        np.testing.assert_allclose(curve.throughput, [0.1, 0.2])


@pytest.mark.parametrize(
    ("text", "options", "complaint"),
    [
        ("# nm\n700 0.1\n500 0.2\n", {}, "must increase, but 7000 is followed by 5000"),
        ("1500 0.1\n9000 0.2\n", {}, "does not tell; say it"),
        ("# nm\n5000 0.1\n900000 0.2\n", {}, "cannot be Angstrom"),
        ("500 0.1\n700 0.2\n", {"wavelength_unit": "Jy"}, "wavelengths in 'Jy'"),
        ("500 0.1\nnonsense\n", {}, "line 2 holds no two numbers"),
        ("no curve at all", {}, "holds 0 rows"),
        ("500;0.1\n700;0.2\n", {}, "holds 0 rows.*separated by a blank or a comma"),
        ("500 0.1\n700 0.9\n", {"percent": True}, "1 percent at most .greatest: 0.9.*--percent"),
    ],
)
def test_unusable_text_is_refused(tmp_path: Path, text: str, options: dict, complaint: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(InvalidInputError, match=complaint) as caught:
        TransmissionCurve.read(tmp_path / "a.txt", **options)
    assert "a.txt" in str(caught.value)


def test_percent_and_clip_make_a_measured_curve_usable(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# nm\n500 -0.1\n600 100.4\n700 50\n")
    curve = TransmissionCurve.read(tmp_path / "a.txt", percent=True, clip=True)
    np.testing.assert_allclose(curve.throughput, [0.0, 1.0, 0.5])
    with pytest.raises(InvalidInputError, match="no such file"):
        TransmissionCurve.read(tmp_path / "b.txt")


@pytest.mark.parametrize(
    "header",
    ["wavelength_nm,throughput_percent", "# nm\n# T [%]", "# Wavelength (nm)  Transmission, %", "# nm %T"],
)
def test_a_header_that_says_percent_is_enough(tmp_path: Path, header: str) -> None:
    (tmp_path / "a.txt").write_text(f"{header}\n500,10\n700,90\n")
    for percent in (False, True):
        curve = TransmissionCurve.read(tmp_path / "a.txt", percent=percent)
        np.testing.assert_allclose(curve.throughput, [0.1, 0.9])
        assert curve.notes == (() if percent else ("its header says that throughputs are in percent",))
    (tmp_path / "a.txt").write_text(f"{header}\n500,0.1\n700,0.9\n")
    with pytest.raises(InvalidInputError, match=r"a.txt: throughputs are 1 percent at most .*header"):
        TransmissionCurve.read(tmp_path / "a.txt")


def test_what_a_header_says_goes_before_options(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# nm, throughput (0-1); 95% of it measured\n500 0.1\n700 0.9\n")
    curve = TransmissionCurve.read(tmp_path / "a.txt", percent=True, wavelength_unit="Angstrom")
    np.testing.assert_allclose(curve.throughput, [0.1, 0.9])
    assert curve.wavelength[0] == pytest.approx(5000.0)
    assert curve.notes == ("its header says that throughputs are fractions",)


def test_units_of_a_fits_table_count(tmp_path: Path) -> None:
    columns = [
        fits.Column("wavelength", "D", unit="micron", array=[0.5, 0.7]),
        fits.Column("throughput", "D", unit="%", array=[0.4, 0.9]),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    curve = TransmissionCurve.read(tmp_path / "a.fits")
    np.testing.assert_allclose(curve.wavelength, [5000.0, 7000.0])
    np.testing.assert_allclose(curve.throughput, [0.004, 0.009])


def test_gaps_columns_and_guessed_units_are_told(tmp_path: Path) -> None:
    wave = np.r_[500:601:5, 650:701:5]
    (tmp_path / "a.txt").write_text("".join(f"{w} 0.5 7\n" for w in wave))
    assert TransmissionCurve.read(tmp_path / "a.txt").notes == (
        "only the first two columns are read",
        "wavelengths are taken to be in nm, by their range",
        "there is nothing from 6000 to 6500 Angstrom; the curve is taken to be straight there",
    )
    (tmp_path / "a.txt").write_text("# nm\n" + "".join(f"{w} {0.5 * (w < 600)}\n" for w in wave))
    assert TransmissionCurve.read(tmp_path / "a.txt").notes == ()


def test_a_table_with_a_column_for_each_detector_gives_all_of_them(tmp_path: Path) -> None:
    per_detector = np.array([[0.1, 0.3], [0.2, 0.4]], np.float32)
    table = Table(
        {"lambda": [5000.0, 6000.0], "throughput_avg": [0.2, 0.3], "throughput_ccd": per_detector},
    )
    table.write(tmp_path / "a.fits")
    curves = read_detector_curves(tmp_path / "a.fits")
    assert list(curves) == [1, 2]
    np.testing.assert_allclose(curves[2].throughput, [0.3, 0.4])
    np.testing.assert_allclose(TransmissionCurve.read(tmp_path / "a.fits").throughput, [0.2, 0.3])
    with pytest.raises(InvalidInputError, match=r"a.fits detector 3: the file has detectors 1 to 2"):
        TransmissionCurve.read(tmp_path / "a.fits", detector=3)
    fits.PrimaryHDU().writeto(tmp_path / "b.fits")
    with pytest.raises(InvalidInputError, match="has no table"):
        TransmissionCurve.read(tmp_path / "b.fits")
