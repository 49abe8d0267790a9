"""Fields and defaults of the fit, as the specification of FgcmFitCycleTask has them."""

from __future__ import annotations

from typing import Any

import lsst.pex.config as pexConfig
import pytest

from zeropoint.fgcm.fit_cycle_config import ColorCut, FgcmFitCycleConfigBase, Sedterm, sed_terms_of
from zeropoint.fgcm.fit_cycle_fields import RetiredFields, SolverFields
from zeropoint.tasks.fgcm_fit_cycle import FgcmFitCycleConfig, FgcmFitCycleConnections

#: Field -> class default, from the specification; what must be set has None or nothing.
DEFAULTS = {
    "applyRefStarColorCuts": True, "aperCorrFitNBins": 10, "aperCorrInputSlopeDict": {}, "aperCorrPerCcd": False,
    "aperCorrUsePsfFwhm": False, "approxThroughputDict": {}, "autoHighCutNSig": 4.0, "autoPhotometricCutNSig": 3.0,
    "bands": [], "brightObsGrayMax": 0.15, "cameraGain": None, "ccdGrayFocalPlaneChebyshevOrder": 3,
    "ccdGrayFocalPlaneDict": {}, "ccdGrayFocalPlaneFitMinCcd": 1, "ccdGrayFocalPlaneMaxStars": 50000,
    "ccdGrayMaxStarErr": 0.10, "ccdGraySubCcdChebyshevOrder": 1, "ccdGraySubCcdDict": {},
    "ccdGraySubCcdTriangular": True, "coatingMjds": [0.0], "colorSplitBands": ["g", "i"],
    "defaultCameraOrientation": None, "deltaAperFitMinNgoodObs": 2, "deltaAperFitPerCcdNx": 10,
    "deltaAperFitPerCcdNy": 10, "deltaAperFitSpatialNside": 64, "deltaAperInnerRadiusArcsec": 0.0,
    "deltaAperOuterRadiusArcsec": 0.0, "deltaMagBkgOffsetPercentile": 0.25, "deltaMagBkgPerCcd": False,
    "doComputeDeltaAperMap": False, "doComputeDeltaAperPerCcd": False, "doComputeDeltaAperPerStar": True,
    "doComputeDeltaAperPerVisit": False, "doMultipleCycles": False, "doPlots": True,
    "doPlotsBeforeFinalCycles": False, "doReferenceCalibration": True, "epochMjds": [0.0], "expFwhmCutDict": {},
    "expGrayErrRecoverCut": 0.05, "expGrayHighCutDict": {}, "expGrayInitialCut": -0.25,
    "expGrayPhotometricCutDict": {}, "expGrayRecoverCut": -1.0, "expVarGrayPhotometricCutDict": {}, "fitBands": [],
    "fitCcdChromaticityDict": {}, "fitMirrorChromaticity": False, "focalPlaneSigmaClip": 4.0,
    "freezeStdAtmosphere": False, "instrumentParsPerBand": False, "instrumentSlopeMinDeltaT": 20.0,
    "isFinalCycle": False, "latitude": None, "mapLongitudeRef": 0.0, "mapNSide": 256, "maxCcdGrayErr": 0.05,
    "maxIterBeforeFinalCycle": 50, "minCcdPerExp": 5, "minExpPerNight": 10, "minObsPerBand": 2, "minStarPerCcd": 5,
    "minStarPerExp": 600, "mirrorArea": None, "modelMagErrors": True, "multipleCyclesFinalCycleNumber": 5,
    "nExpPerRun": 1000, "nObsPerGrayRun": 100000, "nObsPerRun": 500000, "nStarPerGrayRun": 50000,
    "nStarPerRun": 200000, "outfileBase": None, "outputStandardsBeforeFinalCycle": False,
    "outputZeropointsBeforeFinalCycle": False, "physicalFilterMap": {}, "precomputeSuperStarInitialCycle": False,
    "quietMode": False, "randomSeed": None, "refStarColorCuts": ["NO_DATA"], "refStarMaxFracUse": 0.5,
    "refStarOutlierNSig": 4.0, "refStarSnMin": 50.0, "requiredBands": [], "reserveFraction": 0.1,
    "retrievedPwvBands": ["z", "y"], "retrievedPwvSmoothingBlock": 10, "sedboundaryterms": {"data": {}},
    "sedterms": {"data": {}}, "sigFgcmMaxEGrayDict": {}, "sigFgcmMaxErr": 0.01, "sigma0Phot": 0.003,
    "sigmaCalFitPercentile": [0.05, 0.15], "sigmaCalPlotPercentile": [0.05, 0.95], "sigmaCalRange": [0.001, 0.003],
    "starColorCuts": ["NO_DATA"], "superStarForceZeroMean": False, "superStarPlotCcdResiduals": False,
    "superStarSigmaClip": 5.0, "superStarSubCcdChebyshevOrder": 1, "superStarSubCcdDict": {},
    "superStarSubCcdTriangular": False, "useExposureReferenceOffset": False, "useParquetCatalogFormat": True,
    "useQuadraticPwv": False, "useRepeatabilityForExpGrayCutsDict": {}, "useRetrievedPwv": False,
    "utBoundary": None, "washMjds": [0.0],
}  # fmt: skip
#: Not among Rubin's, beside those of the solver.
OURS = {
    "autoPhotometricCutStep",
    "catalogSlopes",
    "checkpoint_directory",
    "cycleNumber",
    "deltaAperFitSpatialMinStar",
    "refStarColorTermDict",
}


def complete(cls: type[FgcmFitCycleConfigBase] = FgcmFitCycleConfigBase, **fields: Any) -> Any:
    config = cls()
    config.complete(["g", "r", "i"])
    config.update(latitude=-30.0, utBoundary=0.25)
    for name, value in fields.items():
        setattr(config, name, value)
    return config


def test_fields_and_defaults_are_rubins() -> None:
    found = FgcmFitCycleConfigBase().toDict()
    rest = set(found) - set(DEFAULTS) - set(RetiredFields._fields) - set(SolverFields._fields)
    assert rest == OURS
    assert {name: found[name] for name in DEFAULTS} == DEFAULTS


def test_what_every_band_needs_gets_usual_values_and_keeps_what_was_set() -> None:
    config = FgcmFitCycleConfigBase()
    config.update(latitude=-30.0, utBoundary=0.25, expGrayPhotometricCutDict={"r": -0.01})
    notes = config.complete(["g", "r", "i"])
    config.validate()
    assert config.expGrayPhotometricCutDict == {"r": -0.01, "g": -0.05, "i": -0.05}
    assert "expGrayPhotometricCutDict: -0.05 for g, i." in notes
    assert config.complete() == []
    one = FgcmFitCycleConfigBase()
    one.update(latitude=-30.0, utBoundary=0.25)
    assert "colorSplitBands: none." in one.complete(["V"])
    one.validate()


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"latitude": None}, "latitude"),
        ({"bands": []}, "bands"),
        ({"fitBands": ["g", "z"]}, "fitBands"),
        ({"requiredBands": ["z"]}, "requiredBands"),
        ({"colorSplitBands": ["g"]}, "colorSplitBands"),
        ({"superStarSubCcdDict": {"g": True}}, "superStarSubCcdDict"),
        ({"starColorCuts": ["g,r,0.5"]}, "starColorCuts"),
        ({"starColorCuts": ["g,z,0.5,1"]}, "starColorCuts"),
        ({"refStarColorCuts": ["g,r,2,1"]}, "refStarColorCuts"),
        ({"doComputeDeltaAperMap": True}, "deltaAperInnerRadiusArcsec"),
        ({"doComputeDeltaAperMap": True, "doComputeDeltaAperPerStar": False}, "doComputeDeltaAperMap"),
        ({"sigmaCalRange": [0.003, 0.001]}, "sigmaCalRange"),
        ({"doMultipleCycles": True, "cycleNumber": 1}, "cycleNumber"),
        ({"sedterms": {"data": {"g": Sedterm(primaryTerm="zy")}}}, "sedterms"),
    ],
)
def test_what_does_not_fit_is_named(fields: dict[str, Any], wrong: str) -> None:
    if "sedterms" in fields:
        config = complete()
        config.sedterms.data["g"] = fields["sedterms"]["data"]["g"]
    else:
        config = complete(**fields)
    with pytest.raises(pexConfig.FieldValidationError, match=f"'{wrong}'"):
        config.validate()


def test_color_cuts_are_read() -> None:
    config = complete(starColorCuts=["g, i, 0.5, 3.5"], refStarColorCuts=["g,r,0,1"])
    assert config.star_color_cuts == (ColorCut("g", "i", 0.5, 3.5),)
    assert config.ref_star_color_cuts == (ColorCut("g", "r", 0.0, 1.0), ColorCut("g", "i", 0.5, 3.5))
    config.applyRefStarColorCuts = False
    assert config.ref_star_color_cuts == (ColorCut("g", "r", 0.0, 1.0),)


def test_terms_of_inner_bands_are_interpolated_and_of_the_ends_extrapolated() -> None:
    boundary, terms = sed_terms_of(["g", "r", "i"])
    assert {name: (pair.primary, pair.secondary) for name, pair in boundary.data.items()} == {
        "gr": ("g", "r"),
        "ri": ("r", "i"),
    }
    assert terms.data["r"].toDict()["constant"] == 0.9
    last = terms.data["i"]
    assert (last.primaryTerm, last.secondaryTerm, last.extrapolated) == ("ri", "gr", True)
    assert (last.primaryBand, last.secondaryBand, last.tertiaryBand) == ("i", "r", "g")
    assert not sed_terms_of(["V"])[1].data
    assert {band: term.primaryTerm for band, term in sed_terms_of(["B", "V"])[1].data.items()} == {
        "B": "BV",
        "V": "BV",
    }


def test_the_next_cycle_fits_everything_with_new_cuts() -> None:
    config = complete(FgcmFitCycleConfig, freezeStdAtmosphere=True, precomputeSuperStarInitialCycle=True)
    following = config.of_next_cycle({"g": -0.0125}, {"r": 0.02})
    following.validate()
    assert (following.cycleNumber, following.connections.previousCycleNumber) == (1, "0")
    assert not following.freezeStdAtmosphere
    assert not following.precomputeSuperStarInitialCycle
    assert dict(following.expGrayPhotometricCutDict) == {"g": -0.0125, "r": -0.05, "i": -0.05}
    assert following.expGrayHighCutDict["r"] == 0.02
    assert config.expGrayPhotometricCutDict["g"] == -0.05


def test_datasets_are_numbered_by_their_cycles() -> None:
    def outputs(config: Any) -> set[str]:
        connections = FgcmFitCycleConnections(config=config)
        return {getattr(connections, name).name for name in connections.outputs}

    config = complete(FgcmFitCycleConfig, doPlots=False, cycleNumber=2)
    with pytest.raises(pexConfig.FieldValidationError, match=r"connections\.cycleNumber must be '2'"):
        config.validate()
    config.connections.update(cycleNumber="2", previousCycleNumber="1")
    config.validate()
    connections = FgcmFitCycleConnections(config=config)
    assert connections.fgcmFitParametersInput.name == "fgcm_Cycle1_FitParameters"
    assert outputs(config) == {
        f"fgcm_Cycle2_{name}" for name in ("FitParameters", "FlaggedStars", "OutputConfig")
    }
    every = complete(
        FgcmFitCycleConfig,
        doMultipleCycles=True,
        multipleCyclesFinalCycleNumber=2,
        useParquetCatalogFormat=False,
    )
    found = outputs(every)
    assert {name for name in found if "StandardStars" in name} == {"fgcm_Cycle2_StandardStars"}
    assert {f"fgcm_Cycle{n}_FitParameters" for n in range(3)} <= found
    # plots of the last two
    assert {name[:11] for name in found if name.endswith("_Plot")} == {"fgcm_Cycle1", "fgcm_Cycle2"}
    assert set(FgcmFitCycleConnections(config=every).inputs) == {
        "fgcmVisitCatalog",
        "fgcmStarObservations",
        "fgcmStarIds",
        "fgcmStarIndices",
        "fgcmReferenceStars",
    }


def test_fields_that_have_no_effect_any_more_are_named() -> None:
    config = complete()
    assert config.retired_fields() == []
    with pytest.warns(FutureWarning, match="expGrayPhotometricCutDict has taken its place"):
        config.expGrayPhotometricCut = [-0.05]
    assert config.retired_fields() == [
        "The field expGrayPhotometricCut has no effect any more: expGrayPhotometricCutDict has taken its place."
    ]
