from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zeropoint.astrometry.affine import FitAffineWcs
from zeropoint.astrometry.tan_sip import FitTanSipWcs
from zeropoint.errors import InvalidInputError
from zeropoint.recipes.calibrate_image import CalibrateImageConfig
from zeropoint.recipes.overrides import (
    apply_override,
    apply_overrides,
    changed_fields,
    load_override_file,
    parse_assignment,
)
from zeropoint.recipes.session import production_config


@pytest.fixture
def config() -> CalibrateImageConfig:
    return CalibrateImageConfig()


@pytest.fixture(scope="module")
def untouched() -> tuple[CalibrateImageConfig, dict[str, Any]]:
    """A configuration (building one takes half a second) and its content, for overrides that must not change it."""
    config = CalibrateImageConfig()
    return config, config.toDict()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=8", ("a.b", 8)),
        ("a = 0.5", ("a", 0.5)),
        ("a=true", ("a", True)),
        ("a=False", ("a", False)),
        ("a=None", ("a", None)),
        ("a=science", ("a", "science")),
        ("a='x=y'", ("a", "x=y")),
        ("a=[3, 6.0]", ("a", [3, 6.0])),
        ("a={'r': 'g'}", ("a", {"r": "g"})),
        ("a=", ("a", "")),
    ],
)
def test_assignments(text: str, expected: tuple[str, Any]) -> None:
    assert parse_assignment(text) == expected


@pytest.mark.parametrize("text", ["a", "=3", " =3", ""])
def test_what_is_not_an_assignment(text: str) -> None:
    with pytest.raises(InvalidInputError, match="FIELD=VALUE"):
        parse_assignment(text)


def test_plain_and_nested_fields(config: CalibrateImageConfig) -> None:
    apply_override(config, "psf_detection.thresholdValue", 8)
    apply_override(config, "do_calibrate_pixels", False)
    apply_override(config, "astrometry.matcher.maxOffsetPix", 300.0)
    apply_override(config, "install_simple_psf.fwhm", 5)
    assert config.psf_detection.thresholdValue == 8.0
    assert config.do_calibrate_pixels is False
    assert config.astrometry.matcher.maxOffsetPix == 300
    assert isinstance(config.install_simple_psf.fwhm, float)


def test_entries_of_registries_and_dicts(config: CalibrateImageConfig) -> None:
    apply_override(config, 'psf_measure_psf.starSelector["objectSize"].widthMin', 0.4)
    apply_override(config, "star_measurement.plugins['base_CircularApertureFlux'].radii", [3.0, 6.0])
    apply_override(config, "star_measurement.plugins.names", ["base_PsfFlux", "base_PixelFlags"])
    apply_override(config, "psf_source_measurement.plugins", ["base_PsfFlux"])
    apply_override(config, "astrometry_ref_loader.filterMap", {"r": "g"})
    apply_override(config, 'astrometry_ref_loader.filterMap["i"]', "z")
    assert config.psf_measure_psf.starSelector["objectSize"].widthMin == 0.4
    assert list(config.star_measurement.plugins["base_CircularApertureFlux"].radii) == [3.0, 6.0]
    assert set(config.star_measurement.plugins.names) == {"base_PsfFlux", "base_PixelFlags"}
    assert set(config.psf_source_measurement.plugins.names) == {"base_PsfFlux"}
    assert dict(config.astrometry_ref_loader.filterMap) == {"r": "g", "i": "z"}


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("FitTanSipWcsTask", FitTanSipWcs),
        ("FitTanSipWcs", FitTanSipWcs),
        ("FitAffineWcsTask", FitAffineWcs),
    ],
)
def test_a_step_is_retargeted_by_rubins_name(config: CalibrateImageConfig, name: str, target: type) -> None:
    apply_override(config, "astrometry.wcsFitter", name)
    assert config.astrometry.wcsFitter.target is target


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("psf_detction.thresholdValue", 8, ["'psf_detction'", "Did you mean 'psf_detection'?"]),
        ("psf_detection.thresholValue", 8, ["Did you mean 'thresholdValue'?"]),
        ("psf_detection.thresholdValue.x", 8, ["psf_detection.thresholdValue.x"]),
        ("psf_detection.thresholdValue", "abc", ["abc", "float"]),
        ("psf_detection.thresholdType", "wild", ["wild"]),
        ("psf_subtract_background.binSize", -3, ["-3"]),
        ("install_simple_psf.width", 11.5, ["11.5", "int"]),
        ("do_calibrate_pixels", 1, ["bool"]),
        ("optional_outputs", 3, ["optional_outputs"]),
        ("star_selector", "sciense", ["sciense"]),
        ("star_measurement.plugins", ["base_Nothing"], ["base_Nothing"]),
        ('psf_measure_psf.starSelector["objectSiz"].widthMin', 1, ["Did you mean 'objectSize'?"]),
        ("psf_measure_psf.starSelector.objectSize.widthMin", 1, ['["objectSize"]']),
        ("astrometry.wcsFitter", "FitNothing", ["FitNothing", "FitTanSipWcs"]),
        ("astrometry.wcsFitter", 3, ["3", "FitTanSipWcs"]),
        ("psf_detection", "FitTanSipWcsTask", ["psf_detection is a step", "SourceDetection"]),
        ("a b", 1, ["'a b' is not a field name"]),
        ("psf_detection..x", 1, ["is not a field name"]),
        ("", 1, ["empty"]),
    ],
)
def test_wrong_overrides_name_origin_field_and_remedy(
    untouched: tuple[CalibrateImageConfig, dict[str, Any]], path: str, value: Any, words: list[str]
) -> None:
    config, before = untouched
    with pytest.raises(InvalidInputError) as caught:
        apply_override(config, path, value, origin="-c")
    message = str(caught.value)
    assert message.startswith("-c: ")
    assert "\n" not in message
    for word in words:
        assert word in message
    assert config.toDict() == before


def test_config_file(config: CalibrateImageConfig, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "config.psf_detection.thresholdValue = 7.0\nfor m in (config.star_measurement,):\n    m.doReplaceWithNoise = False\n"
    )
    load_override_file(config, path)
    assert config.psf_detection.thresholdValue == 7.0
    assert config.star_measurement.doReplaceWithNoise is False


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\nconfig.psf_detection.thresholdValue = 'x'\n", ["line 2"]),
        ("config.psf_detectio.thresholdValue = 3\n", ["psf_detectio"]),
        ("x = 1\nconfig.astrometry = = 3\n", ["line 2"]),
        ("x = 1\ny = 2\nz = nothing\n", ["line 3", "nothing"]),
        ("import lsst.afw.image\n", ["lsst.afw"]),
    ],
)
def test_wrong_config_files_name_file_and_line(
    config: CalibrateImageConfig, tmp_path: Path, text: str, words: list[str]
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(InvalidInputError) as caught:
        load_override_file(config, path)
    message = str(caught.value)
    assert "\n" not in message
    for word in ["mine.py", *words]:
        assert word in message


def test_missing_config_file(config: CalibrateImageConfig, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"none\.py: no such config file"):
        load_override_file(config, tmp_path / "none.py")


def test_changed_fields(config: CalibrateImageConfig) -> None:
    assert changed_fields(config, CalibrateImageConfig()) == []
    apply_overrides(config, {"psf_detection.thresholdValue": 8, "do_calibrate_pixels": False}, origin="test")
    assert sorted(changed_fields(config, CalibrateImageConfig())) == [
        ("do_calibrate_pixels", False, True),
        ("psf_detection.thresholdValue", 8.0, 10.0),
    ]


def test_production_values_differ_where_documented() -> None:
    changed = {name for name, _, _ in changed_fields(production_config(), CalibrateImageConfig())}
    assert "star_detection.includeThresholdMultiplier" in changed
    assert "psf_measure_psf.reserve.fraction" in changed
    assert "do_calibrate_pixels" not in changed
