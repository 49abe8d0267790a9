"""Options that name transmission curves: which of them are in percent."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from zeropoint.cli.throughput_options import given_throughputs
from zeropoint.errors import InvalidInputError

NOTHING = {"optics": (), "sensors": (), "filters": (), "filter_detectors": ()}


def curves(*, percent: bool = False, **given: tuple[str, ...]):
    return given_throughputs(wavelength_unit=None, percent=percent, clip=False, **{**NOTHING, **given})


def test_one_file_is_in_percent_and_the_other_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror, band = tmp_path / "m2.txt", tmp_path / "r.txt"
    mirror.write_text("500 90\n700 80\n")
    band.write_text("500 0.5\n700 0.4\n")
    given = {"filters": (f"r={band}",), "sensors": ("80%", "3=0.9")}
    found = curves(optics=(f"{mirror}%",), **given)
    assert found.optics is not None
    assert found.every_sensor is not None
    assert found.optics.throughput.tolist() == pytest.approx([0.9, 0.8])
    assert found.filters["r"].throughput.tolist() == [0.5, 0.4]
    assert found.every_sensor.throughput[0] == pytest.approx(0.8)
    assert found.sensors[3].throughput[0] == 0.9
    assert f"{mirror}: wavelengths are taken to be in nm, by their range." in capsys.readouterr().err
    with pytest.raises(InvalidInputError, match=r"r.txt: throughputs are 1 percent at most .*FILE% for one"):
        curves(optics=(str(mirror),), filters=(f"r={band}",), percent=True)
    with pytest.raises(click.UsageError, match=r"0.9 would be 0.9 percent; write 0.9%"):
        curves(sensors=("3=0.9",), percent=True)


def test_a_file_whose_name_ends_with_the_sign_is_that_file(tmp_path: Path) -> None:
    odd = tmp_path / "r%"
    odd.write_text("500 0.5\n700 0.4\n")
    assert curves(filters=(f"r={odd}",)).filters["r"].throughput.tolist() == [0.5, 0.4]
    odd.write_text("500 50\n700 40\n")
    assert curves(filters=(f"r={odd}%",)).filters["r"].throughput.tolist() == [0.5, 0.4]
