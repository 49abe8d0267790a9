"""Config files in the manner of the public DECam, HSC, LSSTCam and LATISS ones."""

from __future__ import annotations

import importlib
import logging
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import lsst.pex.config as pexConfig
import pytest

from zeropoint.astrometry.tan_sip import FitTanSipWcs
from zeropoint.errors import InvalidInputError
from zeropoint.recipes import config_files
from zeropoint.recipes.calibrate_image import CalibrateImageConfig
from zeropoint.recipes.overrides import apply_override, load_override_file
from zeropoint.recipes.rubin_names import EQUIVALENTS, locate, steps_by_name
from zeropoint.recipes.session import production_config
from zeropoint.recipes.translate import translate_file

FILES = Path(__file__).parent / "rubin_configs"


@pytest.fixture
def config() -> CalibrateImageConfig:
    return production_config()


@pytest.fixture(scope="module")
def scratch() -> CalibrateImageConfig:
    """A configuration for files that cannot apply (building one takes half a second)."""
    return CalibrateImageConfig()


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    config_files._said.clear()


def load_translated(config: pexConfig.Config, name: str, folder: Path) -> list[str]:
    """Write a file's translation and those of the files it loads, load it; return what has no equivalent."""
    result = translate_file(FILES / name / "calibrateImage.py", production_config())
    for member in result.family():
        (folder / member.path.name).write_text(member.text)
    load_override_file(config, folder / "calibrateImage.py")
    return [sentence for member in result.family() for sentence in member.dropped]


def test_decam_files_apply_unchanged(config: CalibrateImageConfig, caplog: pytest.LogCaptureFixture) -> None:
    load_override_file(config, FILES / "decam" / "calibrateImage.py")
    assert dict(config.photometry_ref_loader.filterMap) == {"g": "monster_DES_g", "Y": "monster_DES_y"}
    assert config.photometry.photoCatName == "monster"
    assert config.star_measurement.undeblended["base_Jacobian"].pixelScale == 0.25
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 2
    assert "line 2: connections.photometry_ref_cat has no effect here; catalogues and outputs" in said[0]


def test_production_files_apply_unchanged(config: CalibrateImageConfig) -> None:
    load_override_file(config, FILES / "production.py")
    config.validate()
    assert config.do_calibrate_pixels is False
    assert config.psf_detection.thresholdValue == 50.0
    assert config.astrometry.matcher.maxRefObjects == 2048
    assert "ext_shapeHSM_HigherOrderMomentsSource" in config.psf_source_measurement.plugins.names


def test_hsc_files_apply_once_translated(config: CalibrateImageConfig, tmp_path: Path) -> None:
    assert load_translated(config, "hsc", tmp_path) == []
    colors = config.photometry.match.referenceSelection.colorLimits
    assert (colors["g-r"].primary, colors["g-r"].minimum, colors["r-i"].maximum) == ("g_flux", 0.1, 0.4)
    terms = config.photometry.colorterms.data["ps1*"].data
    assert (terms["HSC-G"].secondary, terms["HSC-G"].c1) == ("r", 0.06)
    assert config.astrometry_ref_loader.filterMap["HSC-R2"] == "r"
    assert config.astrometry_ref_loader.anyFilterMapsToThis is None


def test_lsstcam_files_apply_once_translated(config: CalibrateImageConfig, tmp_path: Path) -> None:
    assert load_translated(config, "lsstcam", tmp_path) == []
    config.validate()
    assert config.do_illumination_correction
    assert config.astrometry.fiducialZeroPoint["r"] == 27.8
    assert config.compute_summary_stats.fiducialSkyBackground["g"] == 9.0
    assert config.photometry.match.referenceSelection.colorLimits["g-r"].maximum == 2.1
    assert config.astrometry.referenceSelector.magLimit.minimum == 14.0


def test_what_has_no_equivalent_is_listed_and_the_rest_applies(
    config: CalibrateImageConfig, tmp_path: Path
) -> None:
    dropped = load_translated(config, "latiss", tmp_path)
    assert [sentence.split(":")[0] for sentence in dropped] == ["line 19"]
    assert "interpolation over defects uses the image's own PSF" in dropped[0]
    config.validate()
    determiner = config.psf_measure_psf.psfDeterminer
    assert (determiner.name, determiner.active.spatialOrder, determiner.active.stampSize) == ("psfex", 1, 71)
    assert config.astrometry.wcsFitter.target is FitTanSipWcs
    assert config.astrometry.wcsFitter.order == 3
    assert config.psf_measure_psf.starSelector["objectSize"].widthMax == 13.0
    assert config.star_measurement.slots.calibFlux == "base_CircularApertureFlux_35_0"


PSF_FILES = {
    "psfex": """
import lsst.meas.extensions.psfex.psfexPsfDeterminer

determiner = config.psf_measure_psf.psfDeterminer
determiner.name = "psfex"
determiner["psfex"].spatialOrder = 1
determiner["psfex"].sizeCellX = determiner["psfex"].sizeCellY = 512
determiner["psfex"].samplingSize = 1.0
determiner["psfex"].badMaskBits = ["INTRP", "SAT"]
determiner["psfex"].psfexBasis = "PIXEL"
determiner["psfex"].recentroid = True
determiner["psfex"].photometricFluxField = "base_CircularApertureFlux_12_0_instFlux"
determiner["psfex"].rejectFlaggedCentroids = False
determiner["psfex"].stampSize = 71
determiner["psfex"].tolerance = 0.02
determiner["psfex"].lam = 0.1
determiner["psfex"].reducedChi2ForPsfCandidates = 3.0
determiner["psfex"].spatialReject = 2.0
determiner["psfex"].maxCandidates = 250
determiner["psfex"].downsampleRandomSeed = 5
config.psf_measure_psf.makePsfCandidates.kernelSize = 71
""",
    "pca": """
from lsst.meas.algorithms import pcaPsfDeterminer

config.psf_measure_psf.psfDeterminer.name = "pca"
pca = config.psf_measure_psf.psfDeterminer["pca"]
pca.nonLinearSpatialFit = True
pca.nEigenComponents = 6
pca.spatialOrder = 1
pca.sizeCellX = pca.sizeCellY = 128
pca.nStarPerCell = 5
pca.nStarPerCellSpatialFit = 0
pca.borderWidth = 2
pca.constantWeight = False
pca.nIterForPsf = 2
pca.tolerance = 0.02
pca.lam = 0.1
pca.reducedChi2ForPsfCandidates = 3.0
pca.spatialReject = 2.0
pca.pixelThreshold = 10.0
pca.doRejectBlends = True
pca.doMaskBlends = False
pca.stampSize = 31
pca.maxCandidates = 250
pca.downsampleRandomSeed = 5
""",
}


@pytest.mark.parametrize("name", sorted(PSF_FILES))
def test_files_that_choose_a_psf_determiner_apply_unchanged(
    config: CalibrateImageConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(PSF_FILES[name])
    load_override_file(config, path)
    config.validate()
    choice = config.psf_measure_psf.psfDeterminer
    assert choice.name == name
    assert (choice.active.spatialOrder, choice.active.maxCandidates) == (1, 250)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 1
    assert f"{path}, line 2: `" in said[0]
    assert "is not needed; the PSF determiners piff, psfex and pca are always registered here." in said[0]
    result = translate_file(path, production_config())
    assert not result.dropped
    assert "\n# " in result.text


MEASUREMENT_FILE = """
try:
    import lsst.meas.extensions.photometryKron
    import lsst.meas.extensions.convolved  # noqa: F401
    import lsst.meas.extensions.gaap
except ImportError as exc:
    print("Cannot import (%s): disabling" % (exc,))
else:
    names = ["ext_photometryKron_KronFlux", "ext_convolved_ConvolvedFlux", "ext_gaap_GaapFlux"]
    config.star_measurement.plugins.names |= names
    config.star_measurement.plugins["ext_convolved_ConvolvedFlux"].seeing.append(8.0)
    config.star_measurement.plugins["ext_gaap_GaapFlux"].sigmas = [0.5, 0.7, 1.0, 1.5, 2.5, 3.0]
    config.star_measurement.plugins["ext_gaap_GaapFlux"].doPsfPhotometry = True
    plugins = config.star_measurement.plugins
    config.measure_aperture_correction.allowFailure += plugins["ext_convolved_ConvolvedFlux"].getAllResultNames()
    config.measure_aperture_correction.allowFailure += plugins["ext_gaap_GaapFlux"].getAllGaapResultNames()
"""


def test_files_that_add_flux_plugins_apply_unchanged(config: CalibrateImageConfig, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MEASUREMENT_FILE)
    load_override_file(config, path)
    config.validate()
    assert "ext_gaap_GaapFlux" in config.star_measurement.plugins.names
    allowed = set(config.measure_aperture_correction.allowFailure)
    assert {"ext_convolved_ConvolvedFlux_3_kron", "ext_gaap_GaapFlux_1_15x_PsfFlux"} <= allowed


def test_determiner_classes_have_equivalents(config: CalibrateImageConfig, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from lsst.meas.algorithms.pcaPsfDeterminer import PcaPsfDeterminerConfig\n"
        "from lsst.meas.extensions.psfex.psfexPsfDeterminer import PsfexPsfDeterminerConfig\n"
        "assert isinstance(config.psf_measure_psf.psfDeterminer['pca'], PcaPsfDeterminerConfig)\n"
        "assert isinstance(config.psf_measure_psf.psfDeterminer['psfex'], PsfexPsfDeterminerConfig)\n"
    )
    result = translate_file(path, config)
    assert not result.dropped
    assert "from zeropoint.psf.pca_determiner import PcaPsfDeterminerConfig" in result.text


def test_translation_keeps_comments_and_layout() -> None:
    result = translate_file(FILES / "lsstcam" / "calibrateImage.py", production_config())
    source = (FILES / "lsstcam" / "calibrateImage.py").read_text()
    ours, theirs = result.text.splitlines(), source.splitlines()
    assert [(a, b) for a, b in zip(theirs, ours, strict=True) if a != b] == [
        (
            "from lsst.meas.algorithms import ColorLimit  # limits on the catalogue",
            "from zeropoint.catalogs.selectors import ColorLimit  # limits on the catalogue",
        )
    ]


def test_a_translation_is_its_own_translation() -> None:
    first = translate_file(FILES / "decam" / "calibrateImage.py", production_config())
    assert first.text == (FILES / "decam" / "calibrateImage.py").read_text()
    assert not first.changes
    assert not first.dropped


def test_names_that_are_lost_take_their_statements_with_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from lsst.meas.astrom import MatchOptimisticBTask as Matcher\n"
        "matcher = Matcher\n"
        "config.astrometry.matcher.retarget(\n    matcher\n)\n"
        "config.astrometry.maxIter = 2\n"
    )
    result = translate_file(path, production_config())
    assert [sentence.split(":")[0] for sentence in result.dropped] == ["line 2", "line 3"]
    assert "# config.astrometry.matcher.retarget(\n#     matcher\n# )\n" in result.text
    assert result.text.endswith("config.astrometry.maxIter = 2\n")


def test_files_of_other_tasks_are_not_tried(tmp_path: Path) -> None:
    path = tmp_path / "colorterms.py"
    path.write_text("from lsst.pipe.tasks.colorterms import Colorterm\nconfig.data = {'a': Colorterm()}\n")
    result = translate_file(path, production_config())
    assert not result.checked
    assert not result.dropped
    assert result.text.startswith("from zeropoint.photometry.color_terms import Colorterm\n")


def test_two_statements_on_one_line_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("config.psf_detection.minPixels = 1; config.run_sattle = False\n")
    with pytest.raises(InvalidInputError, match=r"mine\.py, line 1: write one statement per line"):
        translate_file(path, production_config())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "import os\nfrom lsst.meas.algorithms import ColorLimit\n",
            ["line 2", "`from zeropoint.catalogs.selectors import ColorLimit`", "zeropoint config translate"],
        ),
        (
            "from lsst.pipe.tasks.colorterms import (\n    Colorterm,\n    ColortermDict,\n)\n",
            ["line 1", "zeropoint.photometry.color_terms import ColortermDict"],
        ),
        ("from lsst.meas.astrom import MatchOptimisticBConfig\n", ["line 1", "pessimistic matcher"]),
        (
            "import lsst.meas.extensions.shapeHSM as hsm\nhsm.register()\n",
            ["line 1", "its plugins are always registered"],
        ),
        ("import lsst.afw.image\n", ["line 1", "set fields of our configuration"]),
        ("config.psf_repair.interp.modelPsf.defaultFwhm = 3\n", ["line 1", "uses the image's own PSF"]),
        (
            "import lsst.meas.extensions.psfex as psfex\nC = psfex.PsfexPsfDeterminerConfig\n",
            ["line 1", "PSF determiners piff, psfex and pca are always registered"],
        ),
        ("config.psf_measure_psf.psfDeterminer.name = 'psfx'\n", ["line 1", "psfex"]),
        ("config.psf_detection.minPixel = 1\n", ["SourceDetectionConfig", "Did you mean 'minPixels'?"]),
    ],
)
def test_what_cannot_apply_is_one_line_that_names_our_equivalent(
    scratch: CalibrateImageConfig, tmp_path: Path, text: str, words: list[str]
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(InvalidInputError) as caught:
        load_override_file(scratch, path)
    message = str(caught.value)
    assert "\n" not in message
    for word in [str(path), *words]:
        assert word in message


def test_the_error_names_the_loaded_file(scratch: CalibrateImageConfig) -> None:
    text = "config.photometry.colorterms.load('colorterms.py')\n"
    with pytest.raises(InvalidInputError) as caught:
        scratch.loadFromString(text, filename=str(FILES / "hsc" / "mine.py"))
    assert f"{FILES / 'hsc' / 'colorterms.py'}, line 1: " in str(caught.value)


@pytest.fixture
def rubin_class() -> Iterator[type]:
    """A class of the compiled stack, as if it were installed."""
    module = types.ModuleType("lsst.meas.astrom")
    kind = type("FitTanSipWcsTask", (), {"ConfigClass": pexConfig.Config, "__module__": module.__name__})
    module.FitTanSipWcsTask = kind  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    yield kind
    del sys.modules[module.__name__]


def test_steps_of_an_installed_stack_are_refused(
    config: CalibrateImageConfig, tmp_path: Path, rubin_class: type
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from lsst.meas.astrom import FitTanSipWcsTask\nconfig.astrometry.wcsFitter.retarget(FitTanSipWcsTask)\n"
    )
    with pytest.raises(InvalidInputError) as caught:
        load_override_file(config, path)
    assert str(caught.value) == (
        f"{path}, line 2: astrometry.wcsFitter is retargeted to lsst.meas.astrom.FitTanSipWcsTask; here: "
        "`from zeropoint.astrometry.tan_sip import FitTanSipWcs as FitTanSipWcsTask`."
    )


def test_the_satellite_service_is_refused_with_a_sentence(config: CalibrateImageConfig) -> None:
    config.run_sattle = True
    with pytest.raises(pexConfig.FieldValidationError, match="must be False; the satellite service"):
        config.validate()


def test_fields_of_the_task_alone_are_explained(scratch: CalibrateImageConfig) -> None:
    with pytest.raises(InvalidInputError, match="belongs to the pipeline task; here ids come from"):
        apply_override(scratch, "id_generator.release_id", 2, origin="-c")


def steps(config: pexConfig.Config) -> Iterator[pexConfig.ConfigurableField]:
    for name, field in config._fields.items():
        if isinstance(field, pexConfig.ConfigurableField):
            yield field
            yield from steps(getattr(config, name).value)


def test_every_step_has_its_default_under_our_and_rubins_name(scratch: CalibrateImageConfig) -> None:
    fields = list(steps(scratch))
    assert len(fields) > 35
    for field in fields:
        known = steps_by_name(field)
        assert known[field.target.__name__] is field.target
        assert [name for name in known if name.endswith("Task") and known[name] is field.target]


@pytest.mark.parametrize("name", sorted(EQUIVALENTS))
def test_equivalents_exist(name: str) -> None:
    module, ours = locate(name) or ("", "")
    assert isinstance(getattr(importlib.import_module(module), ours), type)
