"""`zeropoint run` and `zeropoint doctor` as commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from zeropoint.butler import health
from zeropoint.cli import main
from zeropoint.cli.run import find_pipeline
from zeropoint.errors import InvalidInputError


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Catch requests instead of running them."""
    from zeropoint.butler.execution import runner
    from zeropoint.butler.execution.report import RunReport

    caught: list[Any] = []

    def run(request: Any, listener: Any) -> RunReport:
        caught.append(request)
        return RunReport(request.repository, request.output, n_skipped=3)

    monkeypatch.setattr(runner, "run_pipeline", run)
    return caught


def test_options_become_a_request_with_overrides_in_the_order_given(requests: list[Any]) -> None:
    line = "run -b R -p calibrate -i a,b -i c -o u/x -c m:f=1 -C m:file.py -c m:g=a=b:c -j 3 --timeout 9"
    result = CliRunner().invoke(main, [*line.split(), "-d", "visit = 1"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("nothing to do: all 3 quanta were done before, in u/x")
    (request,) = requests
    assert [override.text for override in request.overrides] == ["-c m:f=1", "-C m:file.py", "-c m:g=a=b:c"]
    assert request.inputs == ("a", "b", "c")
    assert (request.processes, request.timeout_s, request.data_query) == (3, 9.0, "visit = 1")
    assert request.pipeline.endswith("tasks/pipelines/calibrate.yaml")
    assert not request.raise_on_partial_outputs


@pytest.mark.parametrize(
    "options",
    [
        "-b R -o x",
        "-b R -p calibrate",
        "-b R -p calibrate -o x -c m:f",
        "-b R -g g.qg -p calibrate",
        "-p c -o x",
    ],
)
def test_wrong_usage_exits_with_2(options: str) -> None:
    assert CliRunner().invoke(main, ["run", *options.split()]).exit_code == 2


def test_pipelines_are_found_by_path_by_shipped_name_and_in_the_repository(tmp_path: Path) -> None:
    from zeropoint.butler.repository import create_repository

    create_repository(tmp_path)
    own = tmp_path / "pipelines" / "MyCam" / "calibrate.yaml"
    own.parent.mkdir(parents=True)
    own.touch()
    assert find_pipeline("MyCam/calibrate", str(tmp_path)) == str(own)
    assert find_pipeline(f"{own}#a,b", str(tmp_path)) == f"{own}#a,b"
    assert find_pipeline("calibrate#single_frame", str(tmp_path)).endswith("calibrate.yaml#single_frame")
    with pytest.raises(
        InvalidInputError, match=r"calibrat: no such pipeline file.*calibrate.*MyCam/calibrate"
    ):
        find_pipeline("calibrat", str(tmp_path))


def test_a_pipeline_that_an_older_version_did_not_write_is_had_by_the_command_that_is_told(
    tmp_path: Path,
) -> None:
    from zeropoint.butler.repository import create_repository

    repository = str(tmp_path / "repo")
    create_repository(repository)
    assert CliRunner().invoke(main, ["register-camera", repository, "simcam"]).exit_code == 0
    written = tmp_path / "repo" / "pipelines" / "SimCam" / "fgcm.yaml"
    text = written.read_text()
    written.unlink()
    with pytest.raises(InvalidInputError, match=r"no such pipeline file, and no pipeline of that name"):
        find_pipeline("OtherCam/fgcm", repository)
    with pytest.raises(InvalidInputError, match=r"SimCam was registered by a version") as caught:
        find_pipeline("SimCam/fgcm#fgcmMakeLut", repository)
    again = CliRunner().invoke(main, str(caught.value).rpartition("zeropoint ")[2].split())
    assert again.exit_code == 0, again.output
    assert "nothing to do" in again.output
    assert written.read_text() == text


def test_a_repository_that_does_not_exist_is_reported_before_a_pipeline_that_may_be_in_it(
    tmp_path: Path,
) -> None:
    result = CliRunner().invoke(
        main, ["run", "-b", str(tmp_path / "none"), "-p", "MyCam/calibrate", "-o", "x"]
    )
    assert result.exit_code == 1
    assert f"{tmp_path / 'none'}: no such repository" in result.stderr


def test_help_of_run_loads_no_middleware() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from zeropoint.cli import main\n"
        "assert CliRunner().invoke(main, ['run', '--help']).exit_code == 0\n"
        "assert not any(name.startswith(('lsst', 'numba', 'numpy')) for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_doctor_finds_this_machine_fit_and_says_what_is_wrong_with_a_repository(tmp_path: Path) -> None:
    good = CliRunner().invoke(main, ["doctor"])
    assert good.exit_code == 0, good.output
    assert "packages: lsst-pipe-base" in good.output
    bad = CliRunner().invoke(main, ["doctor", str(tmp_path / "none")])
    assert bad.exit_code == 1
    assert "no such repository" in bad.output


def test_doctor_opens_a_repository(tmp_path: Path) -> None:
    from zeropoint.butler.repository import create_repository

    create_repository(tmp_path / "repo")
    levels = {finding.text: finding.level for finding in health.check_repository(str(tmp_path / "repo"))}
    assert levels["all datasets of the calibrate pipeline can be stored"] == "ok"
    assert levels["no instrument"] == "warning"
    assert not [text for text in levels if "fgcmLookUpTable" in text]


def test_doctor_says_how_to_make_an_older_repository_fit_for_look_up_tables(tmp_path: Path) -> None:
    from zeropoint.butler.repository import create_repository

    create_repository(tmp_path / "repo")
    path = tmp_path / "repo" / "butler.yaml"
    new = path.read_text()
    (line,) = (line for line in new.splitlines() if "fgcmLookUpTable" in line)
    path.write_text(new.replace(f"{line}\n", ""))
    (finding,) = (f for f in health.check_repository(str(tmp_path / "repo")) if "fgcmLookUpTable" in f.text)
    assert finding.level == "warning"
    assert f"add the line `{line.strip()}` to it, below datastore: formatters:" in finding.advice


def test_doctor_names_a_package_of_the_wrong_version(monkeypatch: pytest.MonkeyPatch) -> None:
    version = health.metadata.version
    monkeypatch.setattr(health.metadata, "version", lambda name: "1.7.0" if name == "piff" else version(name))
    (finding,) = health._check_packages()
    assert finding.level == "problem"
    assert "cannot be read back" in finding.text
    assert "pip install 'piff" in finding.advice
