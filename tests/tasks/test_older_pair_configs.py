"""Config files in the manner of those written for Rubin's older pair."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from zeropoint.recipes import config_files
from zeropoint.recipes.config_files import ConfigFileError
from zeropoint.recipes.translate import translate_file
from zeropoint.tasks.calibrate import CalibrateConfig
from zeropoint.tasks.characterize_image import CharacterizeImageConfig

FILES = Path(__file__).parents[1] / "recipes" / "rubin_configs" / "hsc"


def translated(name: str, kind: type, folder: Path) -> tuple[Any, list[str]]:
    """Return a configuration with a translated file applied, and what has no equivalent."""
    result = translate_file(FILES / name, kind())
    for member in result.family():
        (folder / member.path.name).write_text(member.text)
    config: Any = kind()
    config.load(str(folder / name))
    return config, [sentence for member in result.family() for sentence in member.dropped]


def test_a_file_for_characterize_image_applies(tmp_path: Path) -> None:
    config, dropped = translated("characterizeImage.py", CharacterizeImageConfig, tmp_path)
    assert dropped == []
    assert config.background.binSize == config.detection.background.binSize == 64
    assert config.measurePsf.psfDeterminer.name == "psfex"
    assert config.measurePsf.starSelector["objectSize"].widthMin == 0.8
    assert config.refObjLoader.filterMap
    assert list(config.measureApCorr.allowFailure) == ["base_GaussianFlux"]
    assert config.idGenerator.release_id == 2
    config.validate()


def test_a_file_for_calibrate_applies_but_for_what_does_not_exist(tmp_path: Path) -> None:
    config, dropped = translated("calibrate.py", CalibrateConfig, tmp_path)
    assert len(dropped) == 1
    assert "maskStreaks" in dropped[0]
    assert config.astrometry.wcsFitter.target.__name__ == "FitTanSipWcs"
    assert config.astrometry.wcsFitter.order == 3
    assert config.photoCal.match.referenceSelection.colorLimits["g-r"].minimum == 0.1
    assert config.photoCal.colorterms.data
    assert (config.connections.astromRefCat, config.connections.photoRefCat) == ("gaia", "ps1")
    assert not config.requireAstrometry
    config.validate()


def test_an_import_of_rubins_stack_is_one_line_that_names_ours() -> None:
    with pytest.raises(
        ConfigFileError, match=r"calibrate\.py, line 4: .*zeropoint\.catalogs\.selectors import ColorLimit"
    ) as caught:
        CalibrateConfig().load(str(FILES / "calibrate.py"))
    assert f"`zeropoint config translate {FILES / 'calibrate.py'} --task calibrate` rewrites" in str(
        caught.value
    )


def test_imports_that_only_register_are_said_to_do_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config_files._said.clear()
    path = tmp_path / "mine.py"
    path.write_text(
        "import lsst.meas.extensions.psfex.psfexPsfDeterminer\nconfig.measurePsf.psfDeterminer.name = 'pca'\n"
    )
    config = CharacterizeImageConfig()
    with caplog.at_level(logging.WARNING):
        config.load(str(path))
    assert config.measurePsf.psfDeterminer.name == "pca"
    assert "always registered" in caplog.text


def test_the_recipe_leaves_out_what_concerns_the_repository(tmp_path: Path) -> None:
    from zeropoint.recipes.calibrate import CalibrateConfig as RecipeConfig

    path = tmp_path / "mine.py"
    path.write_text("config.connections.astromRefCat = 'gaia'\nconfig.idGenerator.release_id = 1\n"
                    "config.matchRadiusPix = 2.0\n")  # fmt: skip
    config = RecipeConfig()
    config.load(str(path))
    assert config.matchRadiusPix == 2.0
