"""Help, usage and input errors of the commands: nothing here calibrates an image."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from naive import frames
from zeropoint.cli import COMMANDS
from zeropoint.cli.calibrate import file_stem
from zeropoint.recipes.overrides import apply_option, changed_fields, parse_assignment
from zeropoint.recipes.session import production_config

# -- help and usage -----------------------------------------------------------------------------------


def test_help_and_version_load_nothing_heavy() -> None:
    code = (
        "import sys, zeropoint.cli as c\n"
        "for arguments in (['--help'], ['--version'], ['calibrate', '--help'], ['card', '--help'], ['fgcm', 'stars', '--help']):\n"
        "    try:\n"
        "        c.main(arguments)\n"
        "    except SystemExit as stop:\n"
        "        assert not stop.code, stop.code\n"
        "heavy = {'numpy', 'numba', 'astropy', 'scipy', 'matplotlib', 'lsst', 'galsim', 'yaml', 'rich'}\n"
        "loaded = heavy & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert name in done.stdout


def test_the_package_of_the_command_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "zeropoint.cli", "calibrate", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: zeropoint calibrate" in done.stdout


@pytest.mark.parametrize(
    "command", [[], *([name] for name in COMMANDS), ["card", "new"], ["card", "check"], ["fgcm", "stars"]]
)
def test_every_command_has_help(run: Any, command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert result.output == run(*command, "-h").output


def test_exit_codes_are_in_the_help(run: Any) -> None:
    for command in ([], ["calibrate"]):
        text = " ".join(run(*command, "--help").output.split())
        assert "0 good" in text
        assert "2 usage" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["calibrat"], ["No such command", "Did you mean 'calibrate'?"]),
        (["calibrate"], ["Missing argument", "IMAGE"]),
        (["calibrate", "a.fits"], ["--camera"]),
        (["calibrate", "a.fits", "--camera", "sdss"], ["--references"]),
        (["calibrate", "a.fits", "--camera", "sdss", "--references", "r", "-j", "0"], ["-j"]),
        (["calibrate", "a.fits", "--camera", "sdss", "--references", "r", "--log-level", "LOUD"], ["LOUD"]),
        (["calibrate", "a.fits", "--camera", "sdss", "--references", "r", "--snaps"], ["two images"]),
        (["calibrate", "a.fits", "--camra", "sdss"], ["--camra"]),
        (["demo", "--size", "100"], ["100"]),
    ],
)
def test_usage_errors(run: Any, arguments: list[str], words: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    for word in words:
        assert word in result.stderr


def test_stems() -> None:
    for name in ("a.fits", "a.fit.gz", "a.fits.fz", "a.FITS", "a"):
        assert file_stem(Path("x") / name) == "a"


# -- input errors before any work ---------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    references = tmp_path / "refs.csv"
    references.write_text("ra,dec,r\n30.0,-12.0,18.0\n30.001,-12.001,19.0\n")
    return {"image": frames.write(tmp_path / "a.fits"), "references": references, "out": tmp_path / "out"}


def calibrate(run: Any, files: dict[str, Path], *more: object, **changes: object) -> Any:
    use = {**files, "camera": "generic", **changes}
    options = ["--camera", use["camera"], "--references", use["references"], "--out", use["out"]]
    return run("calibrate", use["image"], *more, *options)


@pytest.mark.parametrize(
    ("more", "changes", "words"),
    [
        ([], {"camera": "sdsss"}, ["'sdsss'", "Did you mean 'sdss'?"]),
        ([], {"camera": "none.yaml"}, ["none.yaml", "card new"]),
        ([], {"references": "nowhere"}, ["Reference catalogue nowhere does not exist"]),
        (["--photometry-references", "nowhere"], {}, ["Reference catalogue nowhere does not exist"]),
        (["-C", "none.py"], {}, ["none.py", "no such config file"]),
    ],
)
def test_input_errors_common_to_all_images(
    run: Any,
    one_error: Any,
    files: dict[str, Path],
    more: list[str],
    changes: dict[str, Any],
    words: list[str],
) -> None:
    one_error(calibrate(run, files, *more, **changes), 1, *words)
    assert not files["out"].exists()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("psf_detection.thresholValue=8", ["Did you mean 'thresholdValue'?"]),
        ("psf_detection.thresholdValue=high", ["'high'", "float"]),
        ("psf_detection.thresholdValue", ["FIELD=VALUE"]),
        ("connections.photometry_ref_cat=ps1", ["belongs to the pipeline task"]),
    ],
)
def test_overrides_that_mean_nothing_are_usage_errors(
    run: Any, one_error: Any, files: dict[str, Path], option: str, words: list[str]
) -> None:
    one_error(calibrate(run, files, "-c", option), 2, "-c: ", *words)
    assert not files["out"].exists()


def test_an_override_that_contradicts_others_is_a_usage_error(
    run: Any, one_error: Any, files: dict[str, Path]
) -> None:
    words = ("run_sattle: must be False", "satellite service")
    one_error(calibrate(run, files, "-c", "run_sattle=True"), 2, *words)


def test_two_images_of_one_stem(run: Any, one_error: Any, files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    second = frames.write(tmp_path / "other" / "a.fits")
    one_error(calibrate(run, files, second), 1, "a.fits", "same outputs", "different folders")
    assert not files["out"].exists()


def test_output_that_cannot_be_written(
    run: Any, one_error: Any, files: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    one_error(calibrate(run, files, out=tmp_path / "file"), 1, "file", "--out")
    one_error(calibrate(run, files, out=tmp_path / "file" / "inside"), 1, "inside", "--out")


def image_case(tmp_path: Path, case: str) -> Path:
    path = tmp_path / f"{case}.fits"
    if case == "empty":
        path.write_bytes(b"")
    elif case == "text":
        path.write_text("RA Dec\n" * 1000)
    elif case == "truncated":
        whole = frames.write(tmp_path / "whole.fits").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif case == "folder":
        path.mkdir()
    elif case == "nan":
        frames.write(path, np.full(frames.SHAPE, np.nan, np.float32))
    elif case == "constant":
        frames.write(path, np.full(frames.SHAPE, 7.0, np.float32))
    elif case == "table":
        fits.HDUList(
            [fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])])]
        ).writeto(path)
    elif case == "gain":
        frames.write(path, GAIN=0.0)
    elif case == "no_wcs":
        frames.write(path, CTYPE1=None)
    elif case == "bad_wcs":
        frames.write(path, CRVAL1="NaN")
    return path


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("missing", ["no such file"]),
        ("empty", ["empty"]),
        ("text", ["is not a FITS file"]),
        ("truncated", ["truncated", "copy it again"]),
        ("folder", ["is a directory"]),
        ("table", ["no 2-d image"]),
        ("nan", ["NaN", "image.hdu"]),
        ("constant", ["every pixel has the value 7"]),
        ("gain", ["gain is 0", "Correct `gain:`"]),
        ("no_wcs", ["no WCS", "no boresight", "pixel_scale"]),
        ("bad_wcs", ["WCS cannot be used", "boresight"]),
    ],
)
def test_images_that_cannot_be_read(
    run: Any, one_error: Any, files: dict[str, Path], tmp_path: Path, case: str, words: list[str]
) -> None:
    image = image_case(tmp_path, case)
    line = one_error(calibrate(run, files, image=image), 1, *words)
    assert str(image) in line
    assert not files["out"].exists()


def test_no_such_hdu(run: Any, one_error: Any, files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("extends: generic\nimage: {hdu: SCI}\n")
    one_error(calibrate(run, files, camera=tmp_path / "c.yaml"), 1, "a.fits", "'SCI'", "image.hdu", "c.yaml")


# -- cards --------------------------------------------------------------------------------------------


def test_card_new_then_check(run: Any, one_error: Any, tmp_path: Path) -> None:
    image, card = frames.write(tmp_path / "a.fits"), tmp_path / "mine.yaml"
    shown = run("card", "new", image)
    assert shown.exit_code == 0
    assert run("card", "new", image, "-o", card).exit_code == 0
    assert card.read_text() == shown.output
    checked = run("card", "check", card, image)
    assert checked.exit_code == 0, checked.output
    assert "MISSING" not in checked.output
    assert "100 x 90 pixels" in checked.output
    one_error(run("card", "new", image, "-o", card), 1, "mine.yaml", "exists already")
    one_error(run("card", "new", image, "-o", tmp_path / "no" / "x.yaml"), 1, "x.yaml", "No such file")


def test_card_of_a_bare_image(run: Any, tmp_path: Path) -> None:
    fits.PrimaryHDU(frames.pixels()).writeto(tmp_path / "bare.fits")
    card = tmp_path / "mine.yaml"
    run("card", "new", tmp_path / "bare.fits", "-o", card)
    assert "FILL IN" in card.read_text()
    checked = run("card", "check", card, tmp_path / "bare.fits")
    assert checked.exit_code == 0, checked.output
    assert "note" in checked.output


def test_card_check_names_what_is_missing(run: Any, tmp_path: Path) -> None:
    image = frames.write(tmp_path / "a.fits", CTYPE1=None)
    result = run("card", "check", "generic", image)
    assert result.exit_code == 1
    assert "MISSING" in result.output
    assert "no WCS" in result.output


def test_card_check_refuses_unknown_keys_and_fields(run: Any, one_error: Any, tmp_path: Path) -> None:
    card = tmp_path / "mine.yaml"
    card.write_text("extends: generic\nsaturaton: 3\n")
    one_error(run("card", "check", card), 1, "mine.yaml", "'saturation'")
    card.write_text("extends: generic\nconfig: {psf_detection.thresholValue: 3}\n")
    one_error(run("card", "check", card), 1, "mine.yaml", "'thresholdValue'")


def test_card_show(run: Any, one_error: Any) -> None:
    assert "SOFTBIAS" in run("card", "show", "sdss").output
    one_error(run("card", "show", "hst"), 1, "'hst'", "sdss")


@pytest.mark.parity
def test_card_of_a_real_frame(run: Any, testdata: Path, tmp_path: Path) -> None:
    image = testdata / "sdss-s82" / "4192" / "40" / "corr" / "4" / "fpC-004192-r4-0300.fit.gz"
    card = tmp_path / "mine.yaml"
    assert run("card", "new", image, "-o", card).exit_code == 0
    checked = run("card", "check", card, image)
    assert checked.exit_code == 0, checked.output
    # pixel scale and centre of the frame, the pedestal taken off
    assert "0.396" in checked.output
    assert "RA 351.6" in checked.output
    assert "SOFTBIAS" in card.read_text()


# -- config -------------------------------------------------------------------------------------------


def test_config_lists_fields(run: Any) -> None:
    production = run("config", "thresholdvalue")
    assert "psf_detection.thresholdValue=10.0" in production.output
    assert run("config", "no_such_thing").stderr.startswith("no field contains")
    defaults = run("config", "star_detection.includeThresholdMultiplier", "--class-defaults").output
    assert defaults.strip() == "star_detection.includeThresholdMultiplier=2.0"
    assert run("config", "star_detection.includeThresholdMultiplier").output.strip().endswith("=1.0")
    assert "requirePhotoCal=True\n" in run("config", "photocal", "--task", "calibrate").output


def test_every_listed_field_can_be_set_as_it_is_listed(run: Any) -> None:
    lines = run("config").output.splitlines()
    fields = {line.partition("=")[0] for line in lines}
    assert {
        'star_selector["science"].doFlags',
        "psf_measure_psf.psfDeterminer.name",
        "astrometry.wcsFitter",
    } <= fields
    config = production_config()
    for line in lines:
        apply_option(config, *parse_assignment(line))
    assert not changed_fields(config, production_config())


RUBIN_CONFIGS = Path(__file__).parents[1] / "recipes" / "rubin_configs"


def test_config_translate_writes_a_file_and_those_that_it_loads(run: Any, tmp_path: Path) -> None:
    result = run(
        "config", "translate", RUBIN_CONFIGS / "hsc" / "calibrateImage.py", "-o", tmp_path / "x" / "mine.py"
    )
    assert result.exit_code == 0
    assert "lsst.meas.algorithms.ColorLimit is" in result.stderr
    written = {path.name for path in (tmp_path / "x").iterdir()}
    assert written == {"mine.py", "filterMap.py", "colorterms.py"}
    assert not any("import lsst" in path.read_text() for path in (tmp_path / "x").iterdir())


def test_config_translate_lists_what_has_no_equivalent(run: Any) -> None:
    result = run("config", "translate", RUBIN_CONFIGS / "latiss" / "calibrateImage.py")
    assert result.exit_code == 3
    assert [line for line in result.stderr.splitlines() if line.startswith("NO EQUIVALENT: ")]
    assert "config.psf_detection.thresholdValue = 3.5" in result.stdout


def test_config_translate_never_overwrites_the_original(run: Any, one_error: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("config.psf_detection.minPixels = 2\n")
    one_error(run("config", "translate", path, "-o", path), 1, "mine.py", "another folder")


def test_config_translate_knows_the_older_pair(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "characterizeImage.py"
    path.write_text(
        "from lsst.meas.algorithms import ObjectSizeStarSelectorTask\n"
        "config.measurePsf.starSelector['objectSize'].signalToNoiseMin = 30\n"
        "config.measurePsf.noSuchField = 1\n"
    )
    result = run("config", "translate", path, "--task", "characterizeImage")
    assert result.exit_code == 3
    assert "from zeropoint.catalogs.selectors import ObjectSizeStarSelector as" in result.stdout
    assert "\nconfig.measurePsf.starSelector['objectSize'].signalToNoiseMin = 30\n" in result.stdout
    assert [line.split(":")[0] for line in result.stderr.splitlines()][-1] == "NO EQUIVALENT"
    assert "--task names another task" in run("config", "translate", path).stderr


def test_config_translate_knows_the_final_characterization(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "finalize.py"
    path.write_text(
        "from lsst.pipe.tasks.reserveIsolatedStars import ReserveIsolatedStarsTask\n"
        "config.reserve_selection.retarget(ReserveIsolatedStarsTask)\n"
        "config.reserve_selection.reserve_fraction = 0.2\n"
        "config.noSuchField = 1\n"
    )
    result = run("config", "translate", path, "--task", "finalize_characterization_detector")
    assert result.exit_code == 3
    assert "\nconfig.reserve_selection.reserve_fraction = 0.2\n" in result.stdout
    assert "noSuchField" in result.stderr.splitlines()[-1]
    assert "NO EQUIVALENT" in result.stderr.splitlines()[-1]
    for task, field in {
        "updateVisitSummary": "wcs_provider",
        "isolatedStarAssociation": "match_radius",
    }.items():
        assert f"{field}=" in run("config", "list", field, "--task", task).stdout
