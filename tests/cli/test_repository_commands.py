"""The commands that fill a repository: what they print, how they fail, and that they can be repeated."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from butler.frames import CARD, frame, frames
from zeropoint.butler.repository import open_repository


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a repository REPO and a card cam.yaml; not to be changed."""
    from zeropoint.cli import main

    folder = tmp_path_factory.mktemp("commands")
    (folder / "cam.yaml").write_text(yaml.safe_dump(CARD))
    result = CliRunner().invoke(main, ["create-repo", str(folder / "REPO")], catch_exceptions=False)
    assert result.exit_code == 0
    return folder


@pytest.fixture
def repo(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "REPO", tmp_path / "REPO")
    return tmp_path / "REPO"


def counts(repo: Path) -> tuple[int, int, int]:
    """Exposures, visits and images in a repository."""
    butler = open_repository(repo)
    found = (
        len(butler.query_dimension_records("exposure", instrument="TestCam", explain=False)),
        len(butler.query_dimension_records("visit", instrument="TestCam", explain=False)),
        len(butler.query_datasets("post_isr_image", collections="TestCam/post_isr", explain=False)),
    )
    butler.close()
    return found


def test_a_night_from_nothing(run: Any, made: Path, repo: Path, tmp_path: Path) -> None:
    assert "is a repository already" in run("create-repo", repo).stdout
    registered = run("register-camera", repo, made / "cam.yaml")
    assert registered.exit_code == 0
    assert registered.stdout.startswith("TestCam: registered\n")
    pipeline = repo / "pipelines" / "TestCam" / "calibrate.yaml"
    assert str(pipeline) in registered.stdout
    assert "zeropoint.butler.instruments.TestCam" in pipeline.read_text()
    assert "nothing to do" in run("register-camera", repo, made / "cam.yaml").stdout
    files = frames(tmp_path, 3)
    ingested = run("ingest-images", repo, *files, "--camera", "TestCam")
    assert ingested.stdout == "TestCam: 3 images ingested (3 visits) -> TestCam/defaults\n"
    again = run("ingest-images", repo, *files, "--camera", made / "cam.yaml", "-j", 2)
    assert again.stdout == "TestCam: 0 images ingested, 3 there already (3 visits) -> TestCam/defaults\n"
    assert ingested.exit_code == again.exit_code == 0
    assert counts(repo) == (3, 3, 3)


def test_warnings_and_skipped_files_take_a_line_each(run: Any, repo: Path, tmp_path: Path) -> None:
    content = CARD | {"mask": {"file": "{dir}/{stem}_mask.fits"}, "bands": {"other": "i"}}
    (tmp_path / "cam.yaml").write_text(yaml.safe_dump(content))
    files = frames(tmp_path, 2)
    masks = [frame(tmp_path / f"{path.stem}_mask.fits") for path in files]
    result = run("ingest-images", repo, *files, *masks, "--camera", tmp_path / "cam.yaml")
    assert result.exit_code == 0
    assert "  2 files skipped: named as the card's mask or variance files are\n" in result.stdout
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: 2 images: filter 'test_r' is not in the card's `bands:` (other: i)")


def test_a_bad_file_is_named_and_the_others_ingested(
    run: Any, made: Path, repo: Path, tmp_path: Path
) -> None:
    files = frames(tmp_path, 2)
    bad = tmp_path / "bad.fits"
    bad.write_text("no FITS")
    result = run("ingest-images", repo, bad, *files, "--camera", made / "cam.yaml")
    assert result.exit_code == 1
    assert result.stderr == f"error: {bad}: is not a FITS file; name the image itself.\n"
    pipeline = repo / "pipelines" / "TestCam" / "calibrate.yaml"
    assert result.stdout.startswith(f"TestCam: registered\n  pipeline: {pipeline}\n")
    assert pipeline.exists()
    assert "2 images ingested" in result.stdout
    assert "1 of 3 files were not ingested" in result.stdout
    assert counts(repo) == (2, 2, 2)


def test_bad_input_is_one_line(run: Any, one_error: Any, made: Path, repo: Path, tmp_path: Path) -> None:
    path, nope = frame(tmp_path / "a.fits"), tmp_path / "nope"
    one_error(run("register-camera", nope, "sdss"), 1, str(nope), "no such repository", "create-repo")
    one_error(run("ingest-images", nope, path, "--camera", "sdss"), 1, "no such repository")
    one_error(run("ingest-images", tmp_path, path, "--camera", "sdss"), 1, "is not a Butler repository")
    one_error(run("ingest-images", repo, path, "--camera", "TestCam"), 1, "'TestCam' is not registered here")
    misspelt = tmp_path / "misspelt.yaml"
    misspelt.write_text(yaml.safe_dump(CARD | {"saturaton": 3}))
    one_error(run("register-camera", repo, misspelt), 1, "saturaton", "did you mean 'saturation'?")
    one_error(run("register-camera", repo, "generic"), 1, "fixed instrument name", "extends: generic")
    one_error(run("register-camera", repo, "sdsss"), 1, "Did you mean 'sdss'?")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump(CARD | {"config": {"psf_detection.treshold": 3}}))
    one_error(run("register-camera", repo, wrong), 1, "psf_detection.treshold")
    run("register-camera", repo, made / "cam.yaml")
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(CARD | {"gain": 7.0}))
    one_error(run("ingest-images", repo, path, "--camera", other), 1, "registered with another version")
    one_error(run("ingest-images", repo, path, "--camera", "Testcam"), 1, "did you mean 'TestCam'?")
    assert run("ingest-images", repo, path).exit_code == 2
    assert run("ingest-images", repo, path, "--camera", "TestCam").exit_code == 0
    assert counts(repo) == (1, 1, 1)


def test_the_same_commands_under_butler(made: Path, repo: Path, tmp_path: Path) -> None:
    from lsst.daf.butler.cli.butler import cli

    def butler(*arguments: object) -> Any:
        return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)

    from zeropoint.cli.butler_plugin import BUTLER_COMMANDS

    shown = butler("--help").stdout
    assert all(f"  {name} " in shown for name in BUTLER_COMMANDS)
    assert butler("register-camera", repo, made / "cam.yaml").exit_code == 0
    result = butler("ingest-images", repo, frame(tmp_path / "a.fits"), "--camera", "TestCam")
    assert (result.exit_code, counts(repo)) == (0, (1, 1, 1))


_PROGRAM = """
import sys
from zeropoint.cli import main
main(sys.argv[1:])
"""


def in_namespace(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a shell script as the root of a namespace of its own, in which it may mount."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-e", "-c", script, "sh"]
    return subprocess.run(
        [*command, sys.executable, _PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def can_mount(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("mount")
    try:
        works = in_namespace('mount -t tmpfs -o size=1m tmpfs "$3"', place).returncode == 0
    except FileNotFoundError:
        works = False
    if not works:
        pytest.skip("no mounting in a user namespace here (unshare)")


@pytest.mark.usefixtures("can_mount")
def test_a_read_only_repository(made: Path, repo: Path, tmp_path: Path, run: Any) -> None:
    run("register-camera", repo, made / "cam.yaml")
    path = frame(tmp_path / "a.fits")
    result = in_namespace(
        'mount --bind "$3" "$3"; mount -o remount,bind,ro "$3"; "$1" -c "$2" ingest-images "$3" "$4" --camera TestCam',
        repo,
        path,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"error: {repo}: cannot be written; the repository is read-only for you.\n"
    assert counts(repo) == (0, 0, 0)
    assert run("ingest-images", repo, path, "--camera", "TestCam").exit_code == 0


@pytest.mark.slow
@pytest.mark.usefixtures("can_mount")
@pytest.mark.parametrize("room_kb", [40, 200])
def test_a_full_disk_breaks_nothing(made: Path, repo: Path, tmp_path: Path, run: Any, room_kb: int) -> None:
    """Descriptors find no room (40 kB), or find it, but the database does not (200 kB)."""
    run("register-camera", repo, made / "cam.yaml")
    files = frames(tmp_path, 40)
    disk, back = tmp_path / "disk", tmp_path / "BACK"
    disk.mkdir()
    # the arguments are: python, program, disk, repository, where to copy it back to, files
    result = in_namespace(
        "python=$1; program=$2; disk=$3; repo=$4; back=$5; shift 5;"
        'mount -t tmpfs -o size=4m tmpfs "$disk"; cp -r "$repo" "$disk/REPO";'
        f'room=$(($(df -k --output=avail "$disk" | tail -1) - {room_kb})); head -c "${{room}}k" /dev/zero > "$disk/filler";'
        'code=0; "$python" -c "$program" ingest-images "$disk/REPO" "$@" --camera TestCam || code=$?;'
        'cp -r "$disk/REPO" "$back"; exit $code',
        disk,
        repo,
        back,
        *files,
    )
    assert result.returncode == 1, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: The repository cannot be written: ")
    assert ("No space left on device" in line) or ("database or disk is full" in line)
    assert counts(back) == (0, 0, 0)
    assert not [path.name for path in back.iterdir() if path.name.startswith(".")]
    assert run("ingest-images", back, *files, "--camera", "TestCam").exit_code == 0
    assert counts(back) == (40, 40, 40)
