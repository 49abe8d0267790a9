"""Fields of the fit's configuration, by subject: Rubin's names and class defaults (FgcmFitCycleConfig of fgcmcal, 2026).

`zeropoint.fgcm.fit_cycle_config` puts them together and checks them.
"""

from __future__ import annotations

import lsst.pex.config as pexConfig

from zeropoint.fgcm.sed_terms_config import Catalogslope, SedboundarytermDict, SedtermDict

__all__ = [
    "MULTIPLE_CYCLES_MAX",
    "BackgroundFields",
    "CycleFields",
    "ErrorFields",
    "GrayFields",
    "ModelFields",
    "ReferenceFields",
    "RetiredFields",
    "SelectionFields",
    "SolverFields",
]

#: Most cycles after the first.
MULTIPLE_CYCLES_MAX = 10

_PER_BAND = "Must have an entry for every band."
_OTHER_PLOTS = "Has no effect here, as the plots are others; it is for override files that set it."
_NO_CHUNKS = "Has no effect here, as observations are streamed; it is for override files that set it."


def _flag(doc: str, default: bool) -> pexConfig.Field[bool]:
    return pexConfig.Field[bool](doc=doc, default=default)


def _value(doc: str, default: float) -> pexConfig.Field[float]:
    return pexConfig.Field[float](doc=doc, default=default)


def _optional(doc: str) -> pexConfig.Field[float]:
    return pexConfig.Field[float](doc=doc, default=None, optional=True)


def _least(doc: str, default: float, least: float = 0.0) -> pexConfig.RangeField[float]:
    return pexConfig.RangeField[float](doc=doc, default=default, min=least)


def _number(doc: str, default: int, least: int = 0) -> pexConfig.RangeField[int]:
    return pexConfig.RangeField[int](doc=doc, default=default, min=least)


def _names(doc: str, default: tuple[str, ...] = ()) -> pexConfig.ListField[str]:
    return pexConfig.ListField[str](doc=doc, default=default)


def _times(doc: str) -> pexConfig.ListField[float]:
    return pexConfig.ListField[float](doc=doc, default=(0.0,))


def _values_of_bands(doc: str) -> pexConfig.DictField[str, float]:
    return pexConfig.DictField[str, float](doc=doc, default={})


def _flags_of_bands(doc: str) -> pexConfig.DictField[str, bool]:
    return pexConfig.DictField[str, bool](doc=doc, default={})


class CycleFields(pexConfig.Config):
    """Cycles, bands, site and outputs."""

    doMultipleCycles = _flag("Run all cycles in one task?", False)
    useParquetCatalogFormat = _flag(
        "Read the star list of fgcmBuildFromIsolatedStars (fgcm_star_observations)? Otherwise that of fgcmBuildStarsTable "
        "(fgcmStarObservations).",
        True,
    )
    multipleCyclesFinalCycleNumber = pexConfig.RangeField[int](
        doc="Number of the last cycle with doMultipleCycles, which fits nothing and writes the products. As the first is 0, "
        "there is one cycle more than this number.",
        default=5,
        min=2,
        max=MULTIPLE_CYCLES_MAX,
        inclusiveMax=True,
    )
    cycleNumber = _number("Number of the cycle; of the first with doMultipleCycles, which must be 0.", 0)
    isFinalCycle = _flag(
        "Is this the last cycle? It fits nothing; zeropoints, atmospheres and standard stars are written. doMultipleCycles "
        "sets it by itself.",
        False,
    )
    maxIterBeforeFinalCycle = _number("Most iterations of the fit in a cycle; the last cycle has none.", 50)
    bands = _names("Bands to calibrate, in the order of their wavelengths.")
    fitBands = _names(
        "Bands that take part in the fit; the atmosphere of the others comes from the fitBands of the same night."
    )
    requiredBands = _names("Bands in which a star must be seen to take part in the fit.")
    physicalFilterMap = pexConfig.DictField[str, str](
        doc="Physical filter -> band. Exposures through other filters are not calibrated.", default={}
    )
    latitude = pexConfig.RangeField[float](
        doc="Latitude of the observatory, degrees.",
        dtype=float,
        default=None,
        min=-90.0,
        max=90.0,
        inclusiveMax=True,
    )
    utBoundary = pexConfig.Field[float](
        doc="Fraction of a day that is added to the MJD so that its integer part changes in daytime: a night is "
        "floor(MJD + utBoundary).",
        default=None,
    )
    washMjds = _times("MJDs at which the mirror was washed.")
    epochMjds = _times("MJDs at which an epoch of the superstar flat begins.")
    coatingMjds = _times("MJDs at which the mirror was coated.")
    mirrorArea = _optional(
        "Area of the mirror, m2. It enters a constant of all zeropoints only. None: that constant has an area of 1 m2."
    )
    cameraGain = _optional("Gain, electrons per ADU. It enters a constant of all zeropoints only. None: 1.")
    defaultCameraOrientation = _optional(_OTHER_PLOTS)
    outfileBase = pexConfig.Field[str](
        doc="Start of the titles of plots; plots are datasets, and not files of their own.",
        default=None,
        optional=True,
    )
    randomSeed = pexConfig.Field[int](
        doc="Seed of what is drawn, such as reserved stars. None counts as 0, so that results repeat.",
        default=None,
        optional=True,
    )
    quietMode = _flag("Log warnings only?", False)
    doPlots = _flag("Make plots?", True)
    doPlotsBeforeFinalCycles = _flag(
        "Make plots of all cycles, not of the last two only, with doMultipleCycles?", False
    )
    outputStandardsBeforeFinalCycle = _flag("Write standard stars in every cycle?", False)
    outputZeropointsBeforeFinalCycle = _flag("Write zeropoints and atmospheres in every cycle?", False)
    mapLongitudeRef = _value(_OTHER_PLOTS, 0.0)
    mapNSide = _number("HEALPix nside of maps of the sky.", 256, 1)
    checkpoint_directory = pexConfig.Field[str](
        default=None,
        optional=True,
        doc="Directory for checkpoints between cycles, from which a killed run goes on. None: zeropoint/checkpoints in the "
        "user's cache directory ($XDG_CACHE_HOME). Empty: no checkpoints. Cycles with plots have none.",
    )
    nStarPerRun = _number(_NO_CHUNKS, 200000, 1)
    nStarPerGrayRun = _number(_NO_CHUNKS, 50000, 1)
    nObsPerRun = _number(_NO_CHUNKS, 500000, 1)
    nObsPerGrayRun = _number(_NO_CHUNKS, 100000, 1)
    nExpPerRun = _number(_NO_CHUNKS, 1000, 1)


class ReferenceFields(pexConfig.Config):
    """Reference stars, and which stars are used."""

    doReferenceCalibration = _flag("Use reference stars in the fit? They set the absolute scale.", True)
    refStarSnMin = _value("Least signal-to-noise ratio of a reference magnitude; 0 or less: no cut.", 50.0)
    refStarOutlierNSig = _value(
        "Reference stars farther than this from the mean of a band, in sigma, are not used any more.", 4.0
    )
    applyRefStarColorCuts = _flag("Apply starColorCuts to reference stars too?", True)
    refStarColorCuts = _names(
        "Color cuts of reference stars, beside starColorCuts: band1,band2,low,high.", ("NO_DATA",)
    )
    refStarMaxFracUse = pexConfig.RangeField[float](
        doc="Largest fraction of the stars that may be reference stars in the fit; more are kept for checks.",
        default=0.5,
        min=0.0,
        max=1.0,
        inclusiveMax=True,
    )
    useExposureReferenceOffset = _flag(
        "Add each exposure's offset from the reference stars to its zeropoints? For surveys whose fields do not overlap.",
        False,
    )
    refStarColorTermDict = _flags_of_bands(
        "Band -> fit how reference magnitudes differ from those of the instrument with the slope of a star's spectrum? For "
        "passbands far from those of the catalogue. Other bands: no."
    )
    catalogSlopes = pexConfig.ConfigDictField(
        doc="Band -> two reference magnitudes that tell the slope of a star's spectrum where its own magnitudes do not, as in "
        "surveys of one band.",
        keytype=str,
        itemtype=Catalogslope,
        default={},
    )
    minObsPerBand = _number("Least number of good observations of a star in a band.", 2, 1)
    reserveFraction = pexConfig.RangeField[float](
        doc="Fraction of the stars that is set aside to judge the fit. Has no effect where the star list says which are.",
        default=0.1,
        min=0.0,
        max=1.0,
    )
    starColorCuts = _names(
        "Color cuts of stars: band1,band2,low,high keeps those of low < band1 - band2 < high.", ("NO_DATA",)
    )
    colorSplitBands = _names(
        "Two bands whose color tells blue stars from red ones; none: stars are not split.", ("g", "i")
    )


class ModelFields(pexConfig.Config):
    """Atmosphere and instrument."""

    freezeStdAtmosphere = _flag(
        "Keep the standard atmosphere in this cycle? With doMultipleCycles, in the first one.", False
    )
    useQuadraticPwv = _flag("Let water vapor vary quadratically during a night, not only linearly?", False)
    useRetrievedPwv = _flag(
        "Use the water vapor that is retrieved from colors of stars, with a scale and an offset?", False
    )
    retrievedPwvSmoothingBlock = _number(
        "Number of exposures in the running median of retrieved water vapor.", 10, 1
    )
    retrievedPwvBands = _names("Bands from which water vapor is retrieved.", ("z", "y"))
    instrumentParsPerBand = _flag(
        "Does the throughput of the optics change with time in each band by itself? Otherwise in all alike.",
        False,
    )
    instrumentSlopeMinDeltaT = _least(
        "Least time between observations that tell how the throughput changes, days.", 20.0
    )
    fitMirrorChromaticity = _flag("Fit how the mirror's color changes with time?", False)
    fitCcdChromaticityDict = _flags_of_bands(
        "Band -> fit a first-order correction of each detector's response? Other bands: no."
    )
    approxThroughputDict = _values_of_bands(
        f"Band -> throughput relative to that of the look-up table at the start of the fit, usually 1. {_PER_BAND}"
    )
    sedboundaryterms = pexConfig.ConfigField(
        doc="Slopes of spectra between bands, which sedterms names.", dtype=SedboundarytermDict
    )
    sedterms = pexConfig.ConfigField(
        doc="How a star's spectral slope in a band comes from its colors. Bands without an entry have the slope 0.",
        dtype=SedtermDict,
    )
    aperCorrUsePsfFwhm = _flag(
        "Does the aperture correction depend on the width of the PSF? Otherwise on delta_aper.", False
    )
    aperCorrPerCcd = _flag("Does it depend on the detector's value? Otherwise on the exposure's.", False)
    aperCorrFitNBins = _number(
        "Number of bins in the check of the aperture correction; 0: it is not fitted, and aperCorrInputSlopeDict holds.",
        10,
    )
    aperCorrInputSlopeDict = _values_of_bands("Band -> slope of the aperture correction at the start.")


class SelectionFields(pexConfig.Config):
    """Which exposures are photometric."""

    brightObsGrayMax = _least(
        "A star's mean in the first cycle is of its observations that are at most this fainter than the brightest, mag.",
        0.15,
    )
    expGrayInitialCut = _value("Exposures with a gray residual below this are left out at first, mag.", -0.25)
    minStarPerExp = _number("Least number of good stars of an exposure in the fit.", 600)
    minExpPerNight = _number("Least number of good exposures of a night whose atmosphere is fitted.", 10)
    minCcdPerExp = _number("Least number of good detectors of an exposure whose mean serves its others.", 5)
    minStarPerCcd = _number("Least number of good stars of a detector with a gray residual of its own.", 5)
    maxCcdGrayErr = _least("Largest error of a detector's gray residual, mag.", 0.05)
    expFwhmCutDict = _values_of_bands(
        "Band -> exposures with a wider PSF do not take part in the fit, arcsec. Other bands: no cut."
    )
    expGrayPhotometricCutDict = _values_of_bands(
        f"Band -> exposures with a gray residual below this are not photometric, mag, usually -0.05. {_PER_BAND}"
    )
    expGrayHighCutDict = _values_of_bands(
        f"Band -> exposures with a gray residual above this are not photometric, mag, usually 0.2. {_PER_BAND}"
    )
    expVarGrayPhotometricCutDict = _values_of_bands(
        f"Band -> largest variance of a photometric exposure's gray over its detectors, mag2, usually 0.0005. {_PER_BAND}"
    )
    expGrayRecoverCut = _value(
        "Detectors with too few stars get the exposure's mean where its gray residual is above this, mag.",
        -1.0,
    )
    expGrayErrRecoverCut = _least("And where the error of that mean is below this, mag.", 0.05)
    autoPhotometricCutNSig = _least("The next cycle's photometric cut, in sigma of the distribution.", 3.0)
    autoHighCutNSig = _least("The next cycle's high cut, in sigma of the distribution.", 4.0)
    autoPhotometricCutStep = pexConfig.RangeField[float](
        doc="Cuts of the next cycle are multiples of this, mag.", default=0.0025, min=0.0, inclusiveMin=False
    )
    useRepeatabilityForExpGrayCutsDict = _flags_of_bands(
        f"Band -> do cuts come from the repeatability of stars? For bands with few exposures. {_PER_BAND}"
    )


class GrayFields(pexConfig.Config):
    """Superstar flats and gray residuals."""

    precomputeSuperStarInitialCycle = _flag("Compute superstar flats before the first fit?", False)
    superStarSubCcdDict = _flags_of_bands(
        f"Band -> does the superstar flat vary within detectors? {_PER_BAND}"
    )
    superStarSubCcdChebyshevOrder = _number("Order of the superstar flat's polynomials within detectors.", 1)
    superStarSubCcdTriangular = _flag("Leave out their terms whose orders in x and y add up to more?", False)
    superStarSigmaClip = _least("Observations farther from a superstar flat are left out, sigma.", 5.0)
    superStarPlotCcdResiduals = _flag(_OTHER_PLOTS, False)
    superStarForceZeroMean = _flag(
        "Make the mean of the superstar flat over the focal plane zero? For illumination corrections by themselves.",
        False,
    )
    focalPlaneSigmaClip = _least(
        "Observations farther from the median of their exposure are left out, sigma.", 4.0
    )
    ccdGraySubCcdDict = _flags_of_bands(f"Band -> do gray residuals vary within detectors? {_PER_BAND}")
    ccdGraySubCcdChebyshevOrder = _number("Order of the gray residual's polynomials within detectors.", 1)
    ccdGraySubCcdTriangular = _flag("Leave out their terms whose orders in x and y add up to more?", True)
    ccdGrayFocalPlaneDict = _flags_of_bands(
        "Band -> is the gray residual one polynomial over the focal plane? Other bands: no."
    )
    ccdGrayFocalPlaneFitMinCcd = _number(
        "Least number of detectors with stars for it; with fewer, each detector has its own.", 1
    )
    ccdGrayFocalPlaneChebyshevOrder = _number("Order of that polynomial.", 3)
    ccdGrayFocalPlaneMaxStars = _number("Most stars in its fit; of more, some are drawn.", 50000, 1)
    ccdGrayMaxStarErr = _least("Largest error of an observation that enters gray residuals, mag.", 0.10)


class BackgroundFields(pexConfig.Config):
    """Local background, and what two apertures tell of errors of the background."""

    deltaMagBkgOffsetPercentile = pexConfig.RangeField[float](
        doc="Fraction of the stars, the brightest, whose median deltaMagBkg is an exposure's.",
        default=0.25,
        min=0.0,
        max=1.0,
        inclusiveMin=False,
        inclusiveMax=True,
    )
    deltaMagBkgPerCcd = _flag("Is there one for each detector? Otherwise for each exposure.", False)
    deltaAperFitMinNgoodObs = _number(
        "Least number of good observations of a star whose delta_aper is used.", 2, 1
    )
    deltaAperFitPerCcdNx = _number("Number of cells in x for each detector.", 10, 1)
    deltaAperFitPerCcdNy = _number("Number of cells in y for each detector.", 10, 1)
    deltaAperFitSpatialNside = _number("HEALPix nside of the map of background errors.", 64, 1)
    deltaAperFitSpatialMinStar = _number("Least number of stars in a pixel of that map.", 500, 1)
    deltaAperInnerRadiusArcsec = _least("Radius of the smaller aperture of delta_aper, arcsec.", 0.0)
    deltaAperOuterRadiusArcsec = _least("Radius of the larger aperture of delta_aper, arcsec.", 0.0)
    doComputeDeltaAperPerVisit = _flag("Compute the background error of each exposure?", False)
    doComputeDeltaAperPerStar = _flag("Compute the mean delta_aper of each star?", True)
    doComputeDeltaAperMap = _flag(
        "Compute a map of background errors? Needs doComputeDeltaAperPerStar.", False
    )
    doComputeDeltaAperPerCcd = _flag("Compute background errors within each detector?", False)


class ErrorFields(pexConfig.Config):
    """Errors of magnitudes, and how well the calibration repeats."""

    sigma0Phot = _least("Error that is added in quadrature to that of every observation, mag.", 0.003)
    modelMagErrors = _flag(
        "Replace the errors of magnitudes by a model of brightness, seeing and sky? Otherwise they are trusted.",
        True,
    )
    sigFgcmMaxErr = _least("Largest error of an observation that enters the repeatability, mag.", 0.01)
    sigFgcmMaxEGrayDict = _values_of_bands(
        f"Band -> largest residual of an observation that enters the repeatability, mag, usually 0.05. {_PER_BAND}"
    )
    sigmaCalRange = pexConfig.ListField[float](
        doc="Systematic error floors that are tried: least and largest, mag.",
        default=(0.001, 0.003),
        length=2,
    )
    sigmaCalFitPercentile = pexConfig.ListField[float](
        doc="Range of brightness, as fractions from the bright end, in which the floor is sought.",
        default=(0.05, 0.15),
        length=2,
    )
    sigmaCalPlotPercentile = pexConfig.ListField[float](doc=_OTHER_PLOTS, default=(0.05, 0.95), length=2)


class SolverFields(pexConfig.Config):
    """How the fit is solved; these fields are ours."""

    optimizer = pexConfig.ChoiceField[str](
        doc="How the minimum is found.",
        default="gauss_newton",
        allowed={
            "gauss_newton": "Gauss-Newton steps on the reduced Hessian, damped after Levenberg.",
            "lbfgsb": "L-BFGS-B on the same objective and gradient, for comparison.",
        },
    )
    robustWeights = _flag(
        "Give observations that are far from the mean of their star less weight, beside the clips? Errors then are a "
        "little too small.",
        False,
    )
    jointGray = _flag(
        "Fit a gray term of each exposure together with everything else, under a prior with heavy tails, instead of "
        "choosing photometric exposures by cuts alone?",
        False,
    )
    autoJointGray = _flag(
        "Fit the gray of exposures jointly, as with ``jointGray`` but under a prior as wide as the gray scatters, if the first "
        "fits find that no part of the nights is photometric?",
        True,
    )
    jointGraySigma = pexConfig.RangeField[float](
        doc="Width of that prior, mag.", default=0.005, min=0.0, inclusiveMin=False
    )
    airmassResidualSigma = _least(
        "Prior of the part of the extinction that is linear in airmass and that the atmosphere model lacks, for each band, "
        "mag per airmass; 0: none is fitted.",
        0.002,
    )
    waterResidualSigma = _least(
        "Prior of how far the strength of the lines of water of each band is from the model's, in ln of the water vapor; 0: "
        "none is fitted.",
        0.1,
    )
    passbandIntegrals = pexConfig.ChoiceField[str](
        doc="How the integrals over passbands are computed.",
        default="auto",
        allowed={
            "auto": "By quadrature where the throughputs of detectors are there, else with the look-up table.",
            "quadrature": "By quadrature; it is an error if the throughputs are not there.",
            "lut": "With the look-up table.",
        },
    )


def _retired(kind: type, why: str) -> pexConfig.Field:
    return pexConfig.Field(doc="Has no effect.", dtype=kind, default=None, optional=True, deprecated=why)


def _retired_list(kind: type, why: str) -> pexConfig.ListField:
    return pexConfig.ListField(doc="Has no effect.", dtype=kind, default=None, optional=True, deprecated=why)


class RetiredFields(pexConfig.Config):
    """Fields of older versions that override files may still set."""

    nCore = _retired(int, "the cores of the quantum have taken its place")
    maxIter = _retired(int, "maxIterBeforeFinalCycle has taken its place")
    fitFlag = _retired_list(int, "fitBands has taken its place")
    filterMap = pexConfig.DictField[str, str](
        doc="Has no effect.", default={}, deprecated="physicalFilterMap has taken its place"
    )
    superStarSubCcd = _retired(bool, "superStarSubCcdDict has taken its place")
    ccdGraySubCcd = _retired(bool, "ccdGraySubCcdDict has taken its place")
    expGrayPhotometricCut = _retired_list(float, "expGrayPhotometricCutDict has taken its place")
    expGrayHighCut = _retired_list(float, "expGrayHighCutDict has taken its place")
    expVarGrayPhotometricCut = _retired(float, "expVarGrayPhotometricCutDict has taken its place")
    sigFgcmMaxEGray = _retired_list(float, "sigFgcmMaxEGrayDict has taken its place")
    approxThroughput = _retired_list(float, "approxThroughputDict has taken its place")
    aperCorrInputSlopes = _retired_list(float, "aperCorrInputSlopeDict has taken its place")
    useRepeatabilityForExpGrayCuts = _retired_list(
        bool, "useRepeatabilityForExpGrayCutsDict has taken its place"
    )
    colorSplitIndices = _retired_list(int, "colorSplitBands has taken its place")
    sedFudgeFactors = _retired_list(float, "sedterms has taken its place")
    outputStandards = _retired(bool, "outputStandardsBeforeFinalCycle has taken its place")
    pixelScale = _retired(float, "the camera model or the WCSs of the visits tell it")
    illegalValue = _retired(float, "what is not known is NaN")
    sigma0Cal = _retired(float, "sigmaCalRange has taken its place")
    varNSig = _retired(float, "variable stars are not cut")
    varMinBand = _retired(int, "variable stars are not cut")
