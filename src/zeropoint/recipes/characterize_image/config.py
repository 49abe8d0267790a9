"""Configuration of the CharacterizeImage recipe: Rubin's field names and class defaults."""

from __future__ import annotations

from typing import ClassVar

import lsst.pex.config as pexConfig

from zeropoint.astrometry.solve import Astrometry
from zeropoint.catalogs.references import LoadReferenceObjectsConfig
from zeropoint.detection.deblend import SourceDeblend
from zeropoint.detection.source_detection import SourceDetection
from zeropoint.measurement.aperture_corrections import MeasureApCorr
from zeropoint.measurement.apply_aperture_corrections import ApplyApCorr
from zeropoint.measurement.catalog_calculation import CatalogCalculation
from zeropoint.measurement.normalized_flux import NormalizedCalibrationFlux
from zeropoint.measurement.single_frame import SingleFrameMeasurement
from zeropoint.pixels.background import SubtractBackground
from zeropoint.pixels.repair import Repair
from zeropoint.pixels.simple_psf import InstallGaussianPsf
from zeropoint.psf.measure_psf import MeasurePsf
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

__all__ = ["DERIVED_NAMES", "DISPLAY_MOMENTS", "CharacterizeImageConfig"]

#: CalibrateImage's names of fields that may be derived from the image -> names here.
DERIVED_NAMES = derivable(install_simple_psf="installSimplePsf", psf_measure_psf="measurePsf")

#: What ``debug.display`` may name: after each repair, background subtraction and measurement of the PSF loop; after
#: the last PSF, the last repair and the last measurement.
DISPLAY_MOMENTS = ("repair_iter", "background_iter", "measure_iter", "psf", "repair", "measure")

_PLUGINS = [
    "base_PixelFlags",
    "base_SdssCentroid",
    "ext_shapeHSM_HsmSourceMoments",
    "base_GaussianFlux",
    "base_PsfFlux",
    "base_CircularApertureFlux",
    "base_CompensatedTophatFlux",
]


class CharacterizeImageConfig(FileConfig):
    """Fields of CharacterizeImageTask of the LSST Science Pipelines (2026), with its class defaults.

    ``refObjLoader`` and ``ref_match`` are those of the version of 2022. Differences are listed in
    ``docs/deviations.md``.
    """

    task_name: ClassVar[str] = "characterizeImage"

    doMeasurePsf = pexConfig.Field[bool](
        doc="Measure the PSF? If not, the exposure's own is used, or a Gaussian where it has none.",
        default=True,
    )
    doWrite = pexConfig.Field[bool](doc="Write the results? Concerns the task.", default=True)
    doWriteExposure = pexConfig.Field[bool](
        doc="Write the image and its background? Concerns the task; ignored without doWrite.", default=True
    )
    psfIterations = pexConfig.RangeField[int](
        doc="Rounds of detecting and measuring stars and fitting the PSF; one without doMeasurePsf.",
        default=2,
        min=1,
    )
    background = step(SubtractBackground, "First subtraction of the background.")
    detection = step(SourceDetection, "Detect sources.")
    doDeblend = pexConfig.Field[bool](doc="Deblend sources?", default=True)
    deblend = step(SourceDeblend, "Split blended sources into their components.")
    measurement = step(SingleFrameMeasurement, "Measure sources.")
    doNormalizedCalibration = pexConfig.Field[bool](doc="Normalise the calibration flux?", default=True)
    normalizedCalibrationFlux = step(NormalizedCalibrationFlux, "Normalise the calibration flux.")
    doApCorr = pexConfig.Field[bool](doc="Measure and apply aperture corrections?", default=True)
    measureApCorr = step(MeasureApCorr, "Measure aperture corrections.")
    applyApCorr = step(ApplyApCorr, "Apply aperture corrections.")
    catalogCalculation = step(CatalogCalculation, "Compute columns from other columns.")
    doComputeSummaryStats = pexConfig.Field[bool](
        doc="Without effect, as at Rubin: Calibrate computes summary statistics.", default=True
    )
    computeSummaryStats = step(ComputeExposureSummaryStats, "Without effect, as at Rubin.")
    useSimplePsf = pexConfig.Field[bool](
        doc="Begin each round with a Gaussian of the last PSF's size, instead of that PSF? Ignored without "
        "doMeasurePsf.",
        default=True,
    )
    installSimplePsf = step(InstallGaussianPsf, "Install a simple PSF for the first detection.")
    refObjLoader = pexConfig.ConfigField(
        dtype=LoadReferenceObjectsConfig,
        doc="Loading of reference objects; only for star selectors that use matches.",
    )
    ref_match = step(Astrometry, "Match with reference objects; only for star selectors that use matches.")
    measurePsf = step(MeasurePsf, "Measure the PSF.")
    repair = step(Repair, "Find and repair cosmic rays.")
    requireCrForPsf = pexConfig.Field[bool](
        doc="Fail if cosmic rays are too many in a round of the PSF loop? If not, that round leaves them.",
        default=True,
    )
    checkUnitsParseStrict = units_field()
    doMaskStreaks = pexConfig.Field[bool](doc="Mask streaks? Not available: must stay False.", default=False)
    do_first_look = first_look_field()
    derived_fields_keep = keep_field(DERIVED_NAMES)
    debug = debug_field(DISPLAY_MOMENTS)

    def setDefaults(self) -> None:
        """Apply the overrides that the task itself makes."""
        super().setDefaults()
        self.detection.thresholdValue = 5.0
        # peaks of 50 sigma: stars that can shape the PSF
        self.detection.includeThresholdMultiplier = 10.0
        self.doDeblend = False
        self.measurement.plugins.names = _PLUGINS
        self.measurement.plugins["base_CompensatedTophatFlux"].apertures = [12]
        self.measurement.slots.shape = "ext_shapeHSM_HsmSourceMoments"
        selector = self.measureApCorr.sourceSelector["science"]
        selector.doUnresolved = False
        selector.flags.good = ["calib_psf_used"]
        selector.flags.bad = []
        self.ref_match.forceKnownWcs = True
        sources = self.ref_match.sourceSelector["science"]
        sources.doIsolated = sources.doRequirePrimary = False

    def validate(self) -> None:
        """Reject combinations that cannot work."""
        super().validate()
        check_debug(self, DISPLAY_MOMENTS)
        refuse(self, "doMaskStreaks", "masking of streaks is not available")
        kind = CharacterizeImageConfig
        if self.doNormalizedCalibration and not self.normalizedCalibrationFlux.do_measure_ap_corr:
            raise InconsistentConfigError(
                kind.normalizedCalibrationFlux,
                self,
                "do_measure_ap_corr must be True: the PSF stars set the scale.",
            )
        for plugin in ("base_LocalWcs", "base_LocalPhotoCalib"):
            if plugin in self.measurement.plugins.names:
                raise InconsistentConfigError(kind.measurement, self, f"{plugin} would run before the fits.")
        if self.doMeasurePsf:
            return
        steps = [("doApCorr", self.measureApCorr)]
        steps.append(("doNormalizedCalibration", self.normalizedCalibrationFlux.measure_ap_corr))
        for switch, measure in steps:
            selector = measure.sourceSelector.active
            good = getattr(getattr(selector, "flags", None), "good", None) or []
            if getattr(self, switch) and any(name.startswith("calib_psf_") for name in good):
                raise InconsistentConfigError(
                    getattr(kind, switch),
                    self,
                    "without doMeasurePsf there are no PSF stars to select: set this to False, or choose other stars "
                    "with sourceSelector.",
                )
