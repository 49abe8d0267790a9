"""``zeropoint fgcm lut``: from throughput files and top hats to a table."""

from __future__ import annotations

from pathlib import Path

import pytest
from astropy.table import Table
from click.testing import CliRunner, Result

from zeropoint.cli import main
from zeropoint.fgcm.lut import LookUpTable

SMALL = [f"-cparameters.{axis}Steps=2" for axis in ("pwv", "o3", "tau", "alpha", "zenith")]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["fgcm", "lut", *arguments])


def test_a_site_and_top_hats_give_a_table_and_its_passbands(tmp_path: Path) -> None:
    out, curves = tmp_path / "lut.parq", tmp_path / "curves.fits"
    hats = ["--band", "g=4000:5500", "--band", "r=5600:7000", "--sensor", "0..2=0.9", "--standard", "r=g"]
    result = invoke(str(out), "--elevation", "2200", *hats, *SMALL, "--passbands", str(curves))
    assert result.exit_code == 0, result.output
    assert "2 filters, 3 detectors; the open atmosphere; unity: optics" in result.output
    lut = LookUpTable.read(out)
    assert lut.physical_filters == ("g", "r")
    assert lut.std_physical_filters == ("g", "g")
    assert lut.detectors == (0, 1, 2)
    assert lut.standard.pmb == pytest.approx(lut.header["pmbElevation"])
    table = Table.read(curves)
    assert table["r_throughput"].shape == (1601, 4)
    assert table["g_passband"].max() < 0.9


def test_curves_of_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("550 0\n560 60\n690 50\n700 0\n")
    arguments = ["--percent", "--wavelength-unit", "nm", "--detectors", "4,7"]
    result = invoke(
        str(tmp_path / "lut.fits"),
        "--like",
        "fgcm_atm_lsst2_test",
        "--filter",
        f"r={tmp_path / 'r.txt'}",
        *arguments,
    )
    assert result.exit_code == 0, result.output
    lut = LookUpTable.read(tmp_path / "lut.fits", header_only=True)
    assert lut.detectors == (4, 7)
    assert 5600 < lut.header["lambdaB"][0] < 6900


def test_the_error_of_a_table_of_too_few_nodes_is_a_number(tmp_path: Path) -> None:
    """Between three nodes over all amounts of water the rule makes light through a band of water negative."""
    steps = [f"-cparameters.{axis}Steps=3" for axis in ("pwv", "tau", "alpha", "zenith")]
    result = invoke(str(tmp_path / "lut.parq"), "--elevation", "1830", "--band", "w=9300:9350", *steps)
    assert result.exit_code == 0, result.output
    errors = LookUpTable.read(tmp_path / "lut.parq", header_only=True).meta["interpolationError"]
    assert errors["grid"]["w"]["maxMmag"] == 15000.0


def test_a_band_that_is_narrow_for_the_steps_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bands = ["--elevation", "1830", "--band", "w=9301:9347", "--band", "r=5500:7000"]
    path = tmp_path / "lut.parq"
    assert invoke(str(path), *bands, *SMALL).exit_code == 0
    stated = LookUpTable.read(path, header_only=True).meta["samplingErrorMmag"]
    assert list(stated) == ["w"]
    assert 5 < stated["w"] < 50
    assert "Filter w lets light pass at 9 wavelengths only" in caplog.text
    assert invoke(str(path), *bands, *SMALL, "-c", "parameters.lambdaStep=0.1").exit_code == 0
    assert "samplingErrorMmag" not in LookUpTable.read(path, header_only=True).meta


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["lut.txt", "--elevation", "1"], 2, "ends in .parq"),
        (["lut.parq", "--band", "r=5500:7000"], 2, "Give the site"),
        (["lut.parq", "--elevation", "10"], 2, "Give a filter"),
        (["lut.parq", "--elevation", "10", "--band", "r=red"], 2, "NAME=FIRST:LAST"),
        (["lut.parq", "--elevation", "10", "--band", "r=5500:7000", "--band", "r=1:2"], 2, "is given twice"),
        (["/proc/lut.parq", "--elevation", "10", "--band", "r=5500:7000"], 1, "/proc cannot be written to"),
        (
            ["lut.parq", "--elevation", "10", "--band", "r=5500:7000", "--filter", "r=0.5"],
            2,
            "'r' is given as --band and as a file",
        ),
        (["none/lut.parq", "--elevation", "10", "--band", "r=5500:7000"], 2, "make it first"),
        (
            ["lut.parq", "--elevation", "10", "--band", "r=5500:7000", "--detectors", "a"],
            2,
            "numbers and ranges",
        ),
        (["lut.parq", "--elevation", "99999", "--band", "r=5500:7000"], 2, "not in the range"),
        (
            ["lut.parq", "--elevation", "10", "--band", "r=5500:7000", "-c", "parameters.pwvStd=-1"],
            2,
            "pwvStd",
        ),
        (
            [
                "lut.parq",
                "--elevation",
                "10",
                "--band",
                "r=5500:7000",
                "-c",
                "parameters.pmbRange=[99000,101000]",
            ],
            2,
            "99000 is not between 100 and 1200 mbar; it looks like Pa",
        ),
        (["lut.parq", "--like", "nothing", "--band", "r=5500:7000"], 1, "none of FGCM's tables"),
    ],
)
def test_wrong_options_are_one_clear_line(arguments: list[str], code: int, message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.output
