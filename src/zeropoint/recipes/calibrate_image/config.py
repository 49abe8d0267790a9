"""Configuration of the CalibrateImage recipe: Rubin's field names and class defaults."""

from __future__ import annotations

import lsst.pex.config as pexConfig

from zeropoint.astrometry.affine import FitAffineWcs
from zeropoint.astrometry.solve import Astrometry
from zeropoint.catalogs.references import LoadReferenceObjectsConfig
from zeropoint.catalogs.selectors import sourceSelectorRegistry
from zeropoint.detection.adaptive import AdaptiveThresholdDetection
from zeropoint.detection.deblend import SourceDeblend
from zeropoint.detection.sky_sources import SkyObjects
from zeropoint.detection.source_detection import SourceDetection
from zeropoint.measurement.aperture_corrections import MeasureApCorr
from zeropoint.measurement.apply_aperture_corrections import ApplyApCorr
from zeropoint.measurement.catalog_calculation import CatalogCalculation
from zeropoint.measurement.normalized_flux import NormalizedCalibrationFlux
from zeropoint.measurement.primary_flags import SetPrimaryFlags
from zeropoint.measurement.single_frame import SingleFrameMeasurement
from zeropoint.photometry.photocal import PhotoCal
from zeropoint.pixels.background import SubtractBackground
from zeropoint.pixels.repair import Repair
from zeropoint.pixels.simple_psf import InstallGaussianPsf
from zeropoint.pixels.snaps import SnapCombine
from zeropoint.psf.measure_psf import MeasurePsf
from zeropoint.psf.shapelets import ComputeRoughPsfShapelets
from zeropoint.quality.summary import ComputeExposureSummaryStats
from zeropoint.recipes.calibrate_image.derived import DERIVABLE_FIELDS
from zeropoint.recipes.config_files import FileConfig, InconsistentConfigError

__all__ = ["CalibrateImageConfig"]

_PSF_PLUGINS = [
    "base_PixelFlags",
    "base_SdssCentroid",
    "ext_shapeHSM_HsmSourceMoments",
    "base_CircularApertureFlux",
    "base_GaussianFlux",
    "base_PsfFlux",
    "base_CompensatedTophatFlux",
]
_STAR_PLUGINS = [*_PSF_PLUGINS, "ext_shapeHSM_HsmPsfMoments", "base_ClassificationSizeExtendedness"]


def _step(target: type, doc: str) -> pexConfig.ConfigurableField:
    return pexConfig.ConfigurableField(target=target, doc=doc)


class CalibrateImageConfig(FileConfig):
    """Fields of CalibrateImageTask of the LSST Science Pipelines (2026), with its class defaults.

    Differences are listed in ``docs/deviations.md``.
    """

    optional_outputs = pexConfig.ListField[str](
        doc="Which optional outputs to save.",
        default=["psf_stars", "psf_stars_footprints", "astrometry_matches", "photometry_matches", "mask"],
        optional=True,
    )
    snap_combine = _step(SnapCombine, "Combine two snaps to make one exposure.")
    install_simple_psf = _step(InstallGaussianPsf, "Install a simple PSF for the first detection.")
    compute_shapelet_decomposition = _step(
        ComputeRoughPsfShapelets, "Rough shapelet decomposition: image quality."
    )
    do_compute_shapelet_decomposition = pexConfig.Field[bool](
        doc="Compute the rough shapelet decomposition of the PSF?", default=True
    )
    psf_repair = _step(Repair, "Find and repair cosmic rays before PSF determination.")
    psf_subtract_background = _step(SubtractBackground, "Initial background subtraction.")
    psf_detection = _step(SourceDetection, "Detect sources for PSF determination.")
    do_adaptive_threshold_detection = pexConfig.Field[bool](
        doc="Adapt the threshold of the first detection to the image?", default=True
    )
    do_remeasure_star_background = pexConfig.Field[bool](
        doc="Measure the background again before the deep detection? Ignored without adaptive detection.",
        default=True,
    )
    psf_adaptive_threshold_detection = _step(
        AdaptiveThresholdDetection, "Adaptive threshold detection for PSF determination."
    )
    psf_source_measurement = _step(
        SingleFrameMeasurement, "Measure sources to be used for PSF determination."
    )
    psf_measure_psf = _step(MeasurePsf, "Measure the PSF on bright sources.")
    psf_normalized_calibration_flux = _step(
        NormalizedCalibrationFlux, "Normalise the calibration flux of the PSF stars."
    )
    measure_aperture_correction = _step(MeasureApCorr, "Measure aperture corrections from bright stars.")
    star_background = _step(SubtractBackground, "Background measured with the iterative star mask.")
    star_background_min_footprints = pexConfig.Field[int](
        doc="Fewest footprints of an acceptable star-background mask.", default=3
    )
    star_background_peak_fraction = pexConfig.Field[float](
        doc="Fewest footprints as a fraction of the positive peaks.", default=0.01
    )
    star_detection = _step(SourceDetection, "Detect stars to return in the output catalog.")
    star_sky_sources = _step(SkyObjects, "Place sky sources on empty sky.")
    do_downsample_footprints = pexConfig.Field[bool](
        doc="Keep a random subset of the sources?", default=False
    )
    downsample_max_footprints = pexConfig.Field[int](doc="Most sources kept when downsampling.", default=1000)
    star_deblend = _step(SourceDeblend, "Split blended sources into their components.")
    star_measurement = _step(SingleFrameMeasurement, "Measure stars to return in the output catalog.")
    star_normalized_calibration_flux = _step(
        NormalizedCalibrationFlux, "Apply the normalisation of the calibration flux to the stars."
    )
    star_apply_aperture_correction = _step(ApplyApCorr, "Apply aperture corrections to the stars.")
    star_catalog_calculation = _step(CatalogCalculation, "Compute extendedness and footprint area.")
    star_set_primary_flags = _step(SetPrimaryFlags, "Set detect_isPrimary and its kin.")
    star_selector = sourceSelectorRegistry.makeField(
        doc="Select reliable stars for calibration and output.", default="science"
    )
    astrometry = _step(Astrometry, "Fit a WCS to a reference catalogue.")
    astrometry_ref_loader = pexConfig.ConfigField(
        dtype=LoadReferenceObjectsConfig, doc="Loading of the astrometric references."
    )
    photometry = _step(PhotoCal, "Fit a photometric calibration to a reference catalogue.")
    photometry_ref_loader = pexConfig.ConfigField(
        dtype=LoadReferenceObjectsConfig, doc="Loading of the photometric references."
    )
    doMaskDiffractionSpikes = pexConfig.Field[bool](
        doc="Mask diffraction spikes of bright stars? Not available: must stay False.", default=False
    )
    compute_summary_stats = _step(ComputeExposureSummaryStats, "Summary statistics.")
    do_illumination_correction = pexConfig.Field[bool](
        doc="Divide by the illumination correction, and fit backgrounds on the uncorrected flatness?",
        default=False,
    )
    do_calibrate_pixels = pexConfig.Field[bool](doc="Calibrate pixels and background to nJy?", default=True)
    do_include_astrometric_errors = pexConfig.Field[bool](
        doc="Propagate centroid errors to the sky coordinates?", default=True
    )
    background_stats_ignored_pixel_masks = pexConfig.ListField[str](
        doc="Planes ignored, besides the background's own, in the statistics of the subtracted image.",
        default=["SAT", "SUSPECT", "SPIKE"],
    )
    background_stats_flux_column = pexConfig.Field[str](
        doc="Flux column whose sky-source values give background statistics.",
        default="base_CircularApertureFlux_12_0_flux",
    )
    run_sattle = pexConfig.Field[bool](
        doc="Report to Rubin's internal satellite service? Not available: must stay False.", default=False
    )
    sattle_historical = pexConfig.Field[bool](
        doc="Use the satellite service's historical mode? Without effect, as `run_sattle` must stay False.",
        default=False,
    )

    do_first_look = pexConfig.Field[bool](
        doc="Measure the star size of each image first, and derive the settings that depend on it?",
        default=False,
    )
    derived_fields_keep = pexConfig.ListField[str](
        doc="Fields that are never derived from the image (first look, pointing uncertainty, bands of the reference "
        "catalogue), whatever they are set to.",
        default=[],
        itemCheck=lambda name: name in DERIVABLE_FIELDS,
    )

    def setDefaults(self) -> None:
        """Apply the overrides that the task itself makes."""
        self.install_simple_psf.fwhm = 4
        self.psf_detection.thresholdValue = 10.0
        self.psf_detection.includeThresholdMultiplier = 5.0
        self.psf_detection.doTempLocalBackground = False
        self.psf_detection.reEstimateBackground = False
        _set_measurement(self.psf_source_measurement, _PSF_PLUGINS)
        psfex = self.psf_measure_psf.psfDeterminer["psfex"]
        psfex.photometricFluxField = "base_CircularApertureFlux_12_0_instFlux"
        selector = self.measure_aperture_correction.sourceSelector["science"]
        selector.doUnresolved = False
        selector.flags.good = ["calib_psf_used"]
        selector.flags.bad = []
        self.star_detection.reEstimateBackground = False
        self.star_detection.thresholdValue = 5.0
        self.star_detection.includeThresholdMultiplier = 2.0
        _set_measurement(self.star_measurement, _STAR_PLUGINS)
        self.star_measurement.slots.psfShape = "ext_shapeHSM_HsmPsfMoments"
        self.star_normalized_calibration_flux.do_measure_ap_corr = False
        stars = self.star_selector["science"]
        stars.doFlags = stars.doUnresolved = stars.doSignalToNoise = stars.doSkySources = True
        stars.signalToNoise.minimum = 10.0
        stars.signalToNoise.fluxField = "slot_CalibFlux_instFlux"
        stars.signalToNoise.errField = "slot_CalibFlux_instFluxErr"
        self.astrometry.wcsFitter.retarget(FitAffineWcs)
        self.astrometry_ref_loader.anyFilterMapsToThis = "phot_g_mean"
        sources = self.astrometry.sourceSelector["science"]
        sources.doFlags = True
        sources.flags.good = []
        sources.doUnresolved = sources.doIsolated = sources.doRequirePrimary = False
        selection = self.photometry.match.sourceSelection
        selection.doFlags = True
        selection.flags.bad = ["sky_source"]
        selection.doRequirePrimary = selection.doUnresolved = False

    def validate(self) -> None:
        """Reject combinations that cannot work."""
        super().validate()
        fail = InconsistentConfigError
        kind = CalibrateImageConfig
        measure_psf = self.psf_measure_psf.value
        if measure_psf.starSelector.target.usesMatches:
            raise fail(
                type(measure_psf).starSelector,
                measure_psf,
                f"{measure_psf.starSelector.name!r} needs matches to reference objects, which do not exist before "
                "the astrometric fit.",
            )
        if not self.psf_normalized_calibration_flux.do_measure_ap_corr:
            raise fail(
                kind.psf_normalized_calibration_flux,
                self,
                "psf_normalized_calibration_flux.do_measure_ap_corr must be True: the PSF stars set the scale.",
            )
        if self.star_normalized_calibration_flux.do_measure_ap_corr:
            raise fail(
                kind.star_normalized_calibration_flux,
                self,
                "star_normalized_calibration_flux.do_measure_ap_corr must be False: it only applies.",
            )
        for name in ("psf_source_measurement", "star_measurement"):
            for plugin in ("base_LocalWcs", "base_LocalPhotoCalib"):
                if plugin in getattr(self, name).plugins.names:
                    raise fail(getattr(kind, name), self, f"{plugin} in {name} would run before the fits.")
        if not self.do_adaptive_threshold_detection and not (
            self.psf_detection.reEstimateBackground and self.star_detection.reEstimateBackground
        ):
            raise fail(
                kind.do_adaptive_threshold_detection,
                self,
                "without adaptive detection both detections need reEstimateBackground=True.",
            )
        if self.do_illumination_correction:
            for name in ("psf_subtract_background", "star_background"):
                if not getattr(self, name).doApplyFlatBackgroundRatio:
                    raise fail(getattr(kind, name), self, f"{name} needs doApplyFlatBackgroundRatio=True.")
            for name in ("psf_detection", "star_detection"):
                detection = getattr(self, name)
                if detection.reEstimateBackground and not detection.doApplyFlatBackgroundRatio:
                    raise fail(getattr(kind, name), self, f"{name} needs doApplyFlatBackgroundRatio=True.")
        if self.doMaskDiffractionSpikes:
            raise fail(kind.doMaskDiffractionSpikes, self, "masking of diffraction spikes is not available.")
        if self.run_sattle:
            raise fail(
                kind.run_sattle,
                self,
                "must be False; the satellite service is internal to Rubin and not available.",
            )


def _set_measurement(measurement: pexConfig.Config, plugins: list[str]) -> None:
    """Set the short plugin lists of the two measurement steps, in place."""
    measurement.plugins.names = plugins
    measurement.plugins["base_CircularApertureFlux"].radii = [12.0]
    measurement.plugins["base_CompensatedTophatFlux"].apertures = [12]
    measurement.slots.shape = "ext_shapeHSM_HsmSourceMoments"
