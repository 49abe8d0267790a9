"""Configuration of the Calibrate recipe: Rubin's field names and class defaults."""

from __future__ import annotations

from typing import ClassVar

import lsst.pex.config as pexConfig

from zeropoint.astrometry.solve import Astrometry
from zeropoint.catalogs.references import LoadReferenceObjectsConfig
from zeropoint.detection.deblend import SourceDeblend
from zeropoint.detection.sky_sources import SkyObjects
from zeropoint.detection.source_detection import SourceDetection
from zeropoint.measurement.apply_aperture_corrections import ApplyApCorr
from zeropoint.measurement.catalog_calculation import CatalogCalculation
from zeropoint.measurement.normalized_flux import NormalizedCalibrationFlux
from zeropoint.measurement.primary_flags import SetPrimaryFlags
from zeropoint.measurement.single_frame import SingleFrameMeasurement
from zeropoint.photometry.photocal import PhotoCal
from zeropoint.quality.summary import ComputeExposureSummaryStats
from zeropoint.recipes.calibrate_image.derived import derivable
from zeropoint.recipes.config_files import FileConfig, InconsistentConfigError
from zeropoint.recipes.debug import debug_field
from zeropoint.recipes.legacy_fields import (
    check_debug,
    first_look_field,
    keep_field,
    refuse,
    step,
    units_field,
)

__all__ = ["DERIVED_NAMES", "DISPLAY_MOMENTS", "CalibrateConfig"]

#: CalibrateImage's names of fields that may be derived from the image -> names here.
DERIVED_NAMES = derivable(
    photometry="photoCal",
    astrometry="astrometry",
    astrometry_ref_loader="astromRefObjLoader",
    photometry_ref_loader="photoRefObjLoader",
)

#: What ``debug.display`` may name: after the fit of the WCS, after the measurement of all sources, and at the end.
DISPLAY_MOMENTS = ("astrometry", "measure", "calibrate")


class CalibrateConfig(FileConfig):
    """Fields of CalibrateTask of the LSST Science Pipelines (2026), with its class defaults.

    ``doInsertFakes`` is that of the version of 2022. Differences are listed in ``docs/deviations.md``.
    """

    task_name: ClassVar[str] = "calibrate"

    doWrite = pexConfig.Field[bool](doc="Write the results? Concerns the task.", default=True)
    doWriteHeavyFootprintsInSources = pexConfig.Field[bool](
        doc="Write the pixels of deblended sources with their footprints? Concerns the task.", default=True
    )
    doWriteMatches = pexConfig.Field[bool](
        doc="Write the matches with references? Concerns the task; ignored without doAstrometry.",
        default=True,
    )
    doWriteMatchesDenormalized = pexConfig.Field[bool](
        doc="Write the matches with the columns of sources and references, too? Concerns the task.",
        default=True,
    )
    doAstrometry = pexConfig.Field[bool](doc="Fit the WCS?", default=True)
    astromRefObjLoader = pexConfig.ConfigField(
        dtype=LoadReferenceObjectsConfig, doc="Loading of the astrometric references."
    )
    photoRefObjLoader = pexConfig.ConfigField(
        dtype=LoadReferenceObjectsConfig, doc="Loading of the photometric references."
    )
    astrometry = step(Astrometry, "Fit a WCS to a reference catalogue.")
    astrometryDetection = step(SourceDetection, "Detect the bright sources to which the WCS is fitted.")
    requireAstrometry = pexConfig.Field[bool](
        doc="Fail if the WCS cannot be fitted? If not, the image is left without one. Ignored without doAstrometry.",
        default=True,
    )
    doPhotoCal = pexConfig.Field[bool](doc="Fit the photometric calibration?", default=True)
    requirePhotoCal = pexConfig.Field[bool](
        doc="Fail if the photometric calibration cannot be fitted? Ignored without doPhotoCal.", default=True
    )
    photoCal = step(PhotoCal, "Fit a photometric calibration to a reference catalogue.")
    icSourceFieldsToCopy = pexConfig.ListField[str](
        doc="Columns copied from the sources of CharacterizeImage to the sources that they match.",
        default=["calib_psf_candidate", "calib_psf_used", "calib_psf_reserved"],
    )
    astromFieldsToCopy = pexConfig.ListField[str](
        doc="Columns copied from the sources of the astrometry to the sources that they match.",
        default=["calib_astrometry_used"],
    )
    matchRadiusPix = pexConfig.RangeField[float](
        doc="Farthest distance of such matches, pixels.", default=3.0, min=0.0, inclusiveMin=False
    )
    checkUnitsParseStrict = units_field()
    detection = step(SourceDetection, "Detect sources.")
    doDeblend = pexConfig.Field[bool](doc="Deblend sources?", default=True)
    deblend = step(SourceDeblend, "Split blended sources into their components.")
    doSkySources = pexConfig.Field[bool](doc="Add sky sources?", default=True)
    skySources = step(SkyObjects, "Place sky sources on empty sky.")
    measurement = step(SingleFrameMeasurement, "Measure sources.")
    doNormalizedCalibration = pexConfig.Field[bool](doc="Normalise the calibration flux?", default=True)
    normalizedCalibrationFlux = step(
        NormalizedCalibrationFlux, "Apply the normalisation of the calibration flux."
    )
    postCalibrationMeasurement = step(
        SingleFrameMeasurement, "Measurements that need the fitted WCS and photometric calibration."
    )
    setPrimaryFlags = step(SetPrimaryFlags, "Set detect_isPrimary and its kin.")
    doApCorr = pexConfig.Field[bool](doc="Apply aperture corrections?", default=True)
    applyApCorr = step(ApplyApCorr, "Apply aperture corrections.")
    catalogCalculation = step(CatalogCalculation, "Compute columns from other columns.")
    doInsertFakes = pexConfig.Field[bool](
        doc="Insert fake sources? Not available: must stay False.", default=False
    )
    doComputeSummaryStats = pexConfig.Field[bool](doc="Compute summary statistics?", default=True)
    computeSummaryStats = step(ComputeExposureSummaryStats, "Summary statistics.")
    doCreateSummaryMetrics = pexConfig.Field[bool](
        doc="Make metrics of the summary statistics? Not available: must stay False.", default=False
    )
    doWriteExposure = pexConfig.Field[bool](
        doc="Write the calibrated image and its background? Concerns the task.", default=True
    )
    do_first_look = first_look_field()
    derived_fields_keep = keep_field(DERIVED_NAMES)
    debug = debug_field(DISPLAY_MOMENTS)

    def setDefaults(self) -> None:
        """Apply the overrides that the task itself makes."""
        super().setDefaults()
        self.astromRefObjLoader.anyFilterMapsToThis = "phot_g_mean"
        self.astrometryDetection.thresholdValue = 50.0
        self.astrometryDetection.reEstimateBackground = False
        self.photoCal.photoCatName = "ps1_pv3_3pi_20170110"
        self.measurement.plugins["base_CompensatedTophatFlux"].apertures = [12]
        flags = self.measurement.plugins["base_PixelFlags"]
        flags.masksFpAnywhere = flags.masksFpCenter = ["STREAK"]
        self.normalizedCalibrationFlux.do_measure_ap_corr = False
        after = self.postCalibrationMeasurement
        after.plugins.names = ["base_LocalPhotoCalib", "base_LocalWcs"]
        after.doReplaceWithNoise = False
        for slot in after.slots:
            setattr(after.slots, slot, None)

    def validate(self) -> None:
        """Reject combinations that cannot work."""
        super().validate()
        check_debug(self, DISPLAY_MOMENTS)
        refuse(self, "doInsertFakes", "fake sources are not available")
        refuse(self, "doCreateSummaryMetrics", "the summary statistics are in the image's metadata")
        kind = CalibrateConfig
        if self.doNormalizedCalibration and self.normalizedCalibrationFlux.do_measure_ap_corr:
            raise InconsistentConfigError(
                kind.normalizedCalibrationFlux, self, "do_measure_ap_corr must be False: it only applies."
            )
        selectors = {
            "astrometry.sourceSelector": ("doAstrometry", self.astrometry.sourceSelector.active),
            "photoCal.match.sourceSelection": ("doPhotoCal", self.photoCal.match.sourceSelection),
        }
        for name, (switch, selector) in selectors.items():
            if getattr(self, switch) and not self.doDeblend and getattr(selector, "doIsolated", False):
                raise InconsistentConfigError(
                    kind.doDeblend,
                    self,
                    f"without deblending no source is known to be isolated: set doIsolated of {name} to False.",
                )
        for plugin in ("base_LocalWcs", "base_LocalPhotoCalib"):
            if plugin in self.measurement.plugins.names:
                raise InconsistentConfigError(
                    kind.measurement,
                    self,
                    f"{plugin} would run before the fits; it belongs to postCalibrationMeasurement.",
                )
