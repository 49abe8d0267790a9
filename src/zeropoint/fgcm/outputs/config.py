"""Configuration of the products of the global calibration."""

from __future__ import annotations

import lsst.pex.config as pexConfig

from zeropoint.photometry.photocal import PhotoCal

__all__ = ["FgcmOutputProductsConfigBase"]


class FgcmOutputProductsConfigBase(pexConfig.Config):
    """Which products are made of a fit, and how."""

    physicalFilterMap = pexConfig.DictField[str, str](
        doc="Physical filter -> band. Empty: as fgcmVisitCatalog has it.", default={}
    )
    doReferenceCalibration = pexConfig.Field[bool](
        doc="Compare the standard stars with a reference catalogue after the fit, and move each band by the median "
        "difference? Not needed where reference stars were in the fit.",
        default=False,
    )
    doAtmosphereOutput = pexConfig.Field[bool](
        doc="Write the transmission of the atmosphere in each visit?", default=True
    )
    doZeropointOutput = pexConfig.Field[bool](
        doc="Write the photometric calibrations of each visit?", default=True
    )
    doComposeWcsJacobian = pexConfig.Field[bool](
        doc="Multiply the calibrations by the relative area of pixels? Needed where the magnitudes of the fit were corrected "
        "for it (doApplyWcsJacobian of the star list), wrong where they were not.",
        default=True,
    )
    doApplyMeanChromaticCorrection = pexConfig.Field[bool](
        doc="Add the mean chromatic correction of each detector's stars to its zeropoint?", default=True
    )
    doTractStars = pexConfig.Field[bool](doc="Write the standard stars of each tract?", default=True)
    photoCal = pexConfig.ConfigurableField(
        target=PhotoCal, doc="Comparison of standard stars with references, band by band and pixel by pixel."
    )
    referencePixelizationNside = pexConfig.Field[int](
        doc="HEALPix nside of the pixels in which standard stars are compared with references.",
        default=64,
        check=lambda value: value > 0 and value & (value - 1) == 0,
    )
    referencePixelizationMinStars = pexConfig.RangeField[int](
        doc="Smallest number of standard stars of a pixel.", default=200, min=1
    )
    referenceMinMatch = pexConfig.RangeField[int](
        doc="Smallest number of matched stars of a pixel that counts.", default=50, min=1
    )
    referencePixelizationNPixels = pexConfig.RangeField[int](
        doc="Largest number of pixels; of more, as many are chosen at random, always the same ones.",
        default=100,
        min=1,
    )

    def setDefaults(self) -> None:
        """Compare stars and references with a signal-to-noise of 10 and more, without colour terms."""
        super().setDefaults()
        self.photoCal.applyColorTerms = False
        self.photoCal.fluxField = "instFlux"
        self.photoCal.magErrFloor = 0.003
        references = self.photoCal.match.referenceSelection
        references.doSignalToNoise = True
        references.signalToNoise.minimum = 10.0
        stars = self.photoCal.match.sourceSelection
        stars.doSignalToNoise = True
        stars.signalToNoise.minimum = 10.0
        stars.signalToNoise.fluxField = "instFlux"
        stars.signalToNoise.errField = "instFluxErr"
        stars.doFlags = True
        stars.flags.good = []
        stars.flags.bad = ["flag_badStar"]
        stars.doUnresolved = False
        stars.doRequirePrimary = False
