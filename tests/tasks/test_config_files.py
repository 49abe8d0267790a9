"""Rubin's config files and refused settings, given to ``pipetask``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from lsst.ctrl.mpexec.cli.pipetask import cli

PIPELINE = "resource://zeropoint.tasks/pipelines/calibrate.yaml"
FILES = Path(__file__).parents[1] / "recipes" / "rubin_configs"


def build(*options: object, show: str = "astrometry.maxIter") -> Result:
    """Run ``pipetask build`` with overrides of the task and show a field."""
    arguments = ["build", "-p", PIPELINE, "--show", f"config=calibrateImage::{show}:NOIGNORECASE"]
    return CliRunner().invoke(cli, [*arguments, *map(str, options)])


@pytest.mark.parametrize(
    ("name", "field", "shown"),
    [
        ("decam/calibrateImage.py", "connections.photometry_ref_cat", "'monster'"),
        ("production.py", "id_generator.release_id", "=1"),
    ],
)
def test_files_apply_unchanged(name: str, field: str, shown: str) -> None:
    result = build("-C", f"calibrateImage:{FILES / name}", show=field)
    assert result.exit_code == 0, result.output
    assert shown in result.output


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        (
            "-C",
            FILES / "hsc" / "calibrateImage.py",
            ["calibrateImage.py, line 4", "zeropoint.catalogs.selectors"],
        ),
        (
            "-C",
            FILES / "latiss" / "calibrateImage.py",
            ["calibrateImage.py, line 2", "zeropoint config translate"],
        ),
        ("-c", "run_sattle=True", ["run_sattle", "satellite service"]),
    ],
)
def test_what_cannot_apply_is_one_line(option: str, value: Any, words: list[str]) -> None:
    result = build(option, f"calibrateImage:{value}")
    assert result.exit_code == 1
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    for word in words:
        assert word in lines[0]
