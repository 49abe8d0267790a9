"""Fields and defaults of building the star list, as the page on FgcmBuildStarsTableTask has them."""

from __future__ import annotations

import math

import lsst.pex.config as pexConfig
import pytest

from fgcm.build_stars_parts import config
from zeropoint.fgcm.build_stars_config import (
    FgcmBuildStarsConfigBase,
    FgcmBuildStarsTableConfig,
    aperture_radius,
)
from zeropoint.tasks.fgcm_build_stars_table import FgcmBuildStarsTableTask

#: Field -> class default, from the page.
DEFAULTS = {
    "apertureInnerInstFluxField": "base_CircularApertureFlux_12_0_instFlux",
    "apertureOuterInstFluxField": "base_CircularApertureFlux_17_0_instFlux",
    "ccdDataRefName": "ccd",
    "coarseNside": 8,
    "densityCutMaxPerPixel": 1000,
    "densityCutNside": 128,
    "doApplyWcsJacobian": True,
    "doModelErrorsWithBackground": True,
    "doReferenceMatches": True,
    "doSubtractLocalBackground": False,
    "filterMap": {},
    "instFluxField": "slot_CalibFlux_instFlux",
    "isolationRadius": 2.0,
    "localBackgroundFluxField": "base_LocalBackground_instFlux",
    "matchNside": 4096,
    "matchRadius": 1.0,
    "minPerBand": 2,
    "nVisitsPerCheckpoint": 500,
    "physicalFilterMap": {},
    "primaryBands": None,
    "psfCandidateName": "calib_psf_candidate",
    "randomSeed": 123456,
    "referenceCCD": 40,
    "requiredBands": [],
    "saveMetadata": True,
    "visitDataRefName": "visit",
}
#: What the task for tables changes.
TABLE = {
    "apertureInnerInstFluxField": "apFlux_12_0_instFlux",
    "apertureOuterInstFluxField": "apFlux_17_0_instFlux",
    "instFluxField": "apFlux_12_0_instFlux",
    "localBackgroundFluxField": "localBackground_instFlux",
}
SELECTORS = {"science", "references", "objectSize", "flagged", "astrometry", "matcher", "diaCatalog"}


def plain(value):
    """Return a field's value as Python's own."""
    if hasattr(value, "keys"):
        return dict(value)
    return list(value) if hasattr(value, "insert") else value


@pytest.mark.parametrize(
    ("cls", "defaults"),
    [(FgcmBuildStarsConfigBase, DEFAULTS), (FgcmBuildStarsTableConfig, DEFAULTS | TABLE)],
)
def test_every_field_has_its_default(cls, defaults) -> None:
    values = cls()
    assert {name: plain(getattr(values, name)) for name in defaults} == defaults
    assert values.sourceSelector.name == "science"
    assert set(values.sourceSelector.types) >= SELECTORS
    assert "filterMap" in values.fgcmLoadReferenceCatalog.value


def test_the_science_selector_takes_bright_single_unflagged_primary_stars() -> None:
    science = FgcmBuildStarsTableConfig().sourceSelector["science"]
    switches = {name for name in science if name.startswith("do") and getattr(science, name)}
    assert switches == {
        "doFlags", "doUnresolved", "doSignalToNoise", "doIsolated", "doRequireFiniteRaDec", "doRequirePrimary",
    }  # fmt: skip
    assert list(science.flags.bad) == [
        "pixelFlags_edge", "pixelFlags_interpolatedCenter", "pixelFlags_saturatedCenter", "pixelFlags_crCenter",
        "pixelFlags_bad", "pixelFlags_interpolated", "pixelFlags_saturated", "centroid_flag", "apFlux_12_0_flag",
    ]  # fmt: skip
    limit = science.signalToNoise
    assert (limit.fluxField, limit.errField) == ("apFlux_12_0_instFlux", "apFlux_12_0_instFluxErr")
    assert (limit.minimum, limit.maximum, science.unresolved.maximum) == (10.0, 1000.0, 0.5)
    assert (science.unresolved.name, science.isolated.parentName) == ("extendedness", "parentSourceId")


def test_the_task_has_the_name_and_all_fields_of_the_page() -> None:
    assert FgcmBuildStarsTableTask._DefaultName == "fgcmBuildStarsTable"
    fields = set(FgcmBuildStarsTableTask.ConfigClass().keys())
    assert fields >= DEFAULTS.keys() | {
        "connections",
        "fgcmLoadReferenceCatalog",
        "sourceSelector",
        "saveLogOutput",
    }


@pytest.mark.parametrize(
    ("name", "radius"),
    [
        ("apFlux_12_0_instFlux", 12.0),
        ("base_CircularApertureFlux_4_5_instFlux", 4.5),
        ("ApFlux_3_0_instFlux", 3.0),
        ("slot_CalibFlux_instFlux", None),
        ("normCompTophatFlux_instFlux", None),
    ],
)
def test_the_name_of_a_flux_tells_the_radius(name, radius) -> None:
    assert aperture_radius(name) == radius
    assert config(instFluxField=name).local_background_area == (math.pi * radius**2 if radius else 0.0)


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        (
            {"doSubtractLocalBackground": True, "instFluxField": "psfFlux_instFlux"},
            "instFluxField",
            "tells none",
        ),
        ({"primaryBands": None}, "primaryBands", "no band is given"),
        (
            {"requiredBands": ["y"], "physicalFilterMap": {"F": "r", "G": "g"}},
            "requiredBands",
            "has the band y",
        ),
        ({"doReferenceMatches": True}, "filterMap", "is empty"),
    ],
)
def test_what_cannot_work_is_refused_by_field(fields, field, message) -> None:
    settings = config()
    settings.update(**fields)
    with pytest.raises(pexConfig.FieldValidationError, match=message) as caught:
        settings.validate()
    assert caught.value.fieldName == field


def test_retired_fields_are_accepted_with_a_warning() -> None:
    settings = config()
    assert settings.retired_fields() == []
    with pytest.warns(FutureWarning, match="physicalFilterMap has taken its place"):
        settings.filterMap = {"HSC-R": "r"}
    with pytest.warns(FutureWarning, match="metadata are always written"):
        settings.saveMetadata = False
    settings.validate()
    assert [sentence.split()[2] for sentence in settings.retired_fields()] == ["filterMap", "saveMetadata"]
