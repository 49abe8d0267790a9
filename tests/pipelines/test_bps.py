"""``bps submit`` with Parsl on this machine: a job for each visit, outputs in the repository at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lsst.daf.butler import Butler

from pipelines.survey import CATALOGUES, DATA_QUERY, fill, run_pipetask, simulate_images

pytest.importorskip("lsst.ctrl.bps.parsl", reason="BPS and Parsl are the extra zeropoint[bps]")

EXAMPLE = Path(__file__).parents[2] / "examples" / "bps" / "local_parsl.yaml"
STARS = "single_visit_star_unstandardized"


@pytest.mark.slow
def test_bps_gives_what_pipetask_gives(tmp_path: Path) -> None:
    images = simulate_images(tmp_path, (7, 8, 9), (0, 1))
    repository = tmp_path / "repo"
    fill(repository, images)
    options = [
        "-b", repository, "-p", repository / "pipelines" / "SimCam" / "calibrate.yaml", "-i", "SimCam/defaults",
        "-d", DATA_QUERY, "-o", "u/test/bps", "--extra-qgraph-options", " ".join(CATALOGUES),
    ]  # fmt: skip
    programs = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PWD": str(tmp_path)}
    done = subprocess.run(
        [programs / "bps", "submit", EXAMPLE, *options],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    logs = sorted(path.name for path in tmp_path.glob("submit/u/test/bps/*/logs/visits*/**/*.stdout"))
    assert len(logs) == 3, logs
    run_pipetask(repository, "u/test/pipetask")
    with Butler.from_config(str(repository)) as butler:
        for visit, detector in images.images:
            data_id = {"instrument": "SimCam", "visit": visit, "detector": detector}
            ours, reference = (
                butler.get(STARS, data_id, collections=f"u/test/{name}") for name in ("bps", "pipetask")
            )
            assert len(ours) > 100
            assert ours.as_array().tobytes() == reference.as_array().tobytes()
