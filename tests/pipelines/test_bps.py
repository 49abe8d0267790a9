"""``bps submit`` with Parsl on this machine: a job for each visit, outputs in the repository at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from lsst.ctrl.mpexec.cli.pipetask import cli as pipetask
from lsst.daf.butler import Butler
from lsst.daf.butler.cli.butler import cli as butler_cli

from butler.execution.mock_repository import make_repository
from pipelines.survey import CATALOGUES, DATA_QUERY, fill, run_pipetask, simulate_images

pytest.importorskip("lsst.ctrl.bps.parsl", reason="BPS and Parsl are the extra zeropoint[bps]")

EXAMPLE = Path(__file__).parents[2] / "examples" / "bps" / "local_parsl.yaml"
STARS = "single_visit_star_unstandardized"


@pytest.mark.slow
def test_bps_gives_what_pipetask_gives(tmp_path: Path) -> None:
    images = simulate_images(tmp_path, (7, 8), (0, 1))
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
    assert len(logs) == 2, logs
    run_pipetask(repository, "u/test/pipetask")
    with Butler.from_config(str(repository)) as butler:
        for visit, detector in images.images:
            data_id = {"instrument": "SimCam", "visit": visit, "detector": detector}
            ours, reference = (
                butler.get(STARS, data_id, collections=f"u/test/{name}") for name in ("bps", "pipetask")
            )
            assert len(ours) > 100
            assert ours.as_array().tobytes() == reference.as_array().tobytes()


@pytest.mark.slow
def test_the_final_job_registers_more_than_150_quanta(tmp_path: Path) -> None:
    """`butler aggregate-graph`, BPS's own, fails at this size on the Pythons that we support."""
    pipeline = make_repository(tmp_path / "repo", 80)
    repository, graph = str(tmp_path / "repo"), str(tmp_path / "graph.qg")
    inputs = ["-i", "MockCam/defaults", "-o", "u/test/large"]
    for arguments in (
        ["qgraph", "-b", repository, "-p", pipeline, *inputs, "-q", graph, "--qgraph-datastore-records"],
        ["pre-exec-init-qbb", repository, graph],
        ["run-qbb", repository, graph],
    ):
        result = CliRunner().invoke(pipetask, ["--log-level", "ERROR", *arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    command = yaml.safe_load(EXAMPLE.read_text())["finalJob"]["command1"].format(
        finalPreCmdOpts="", fileDistributionEndPoint="", qgraphFile=graph, butlerConfig=repository,
        updateOutputChain="--update-output-chain",
    )  # fmt: skip
    program, *arguments = command.split()
    assert program == "butler"
    result = CliRunner().invoke(butler_cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    with Butler.from_config(repository, collections="u/test/large") as butler:
        assert len(butler.query_datasets("measure_metadata", limit=None)) == 160
        assert butler.exists("packages")
