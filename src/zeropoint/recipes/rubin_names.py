"""What Rubin's classes are called here: one table for retargeting, for error messages and for translation."""

from __future__ import annotations

import importlib

import lsst.pex.config as pexConfig

from zeropoint.catalogs.selectors import SourceSelector, sourceSelectorRegistry

__all__ = [
    "EQUIVALENTS",
    "advice",
    "import_line",
    "is_missing_module",
    "locate",
    "names_step",
    "steps_by_name",
]

#: Name of Rubin's class -> module of ours; the class there has the name without ``Task``, except in `_RENAMED`.
EQUIVALENTS = {
    "AdaptiveThresholdDetectionConfig": "zeropoint.detection.adaptive",
    "AdaptiveThresholdDetectionTask": "zeropoint.detection.adaptive",
    "ApplyApCorrConfig": "zeropoint.measurement.apply_aperture_corrections",
    "ApplyApCorrTask": "zeropoint.measurement.apply_aperture_corrections",
    "AstrometryConfig": "zeropoint.astrometry.solve",
    "AstrometrySourceSelectorConfig": "zeropoint.catalogs.selectors",
    "AstrometrySourceSelectorTask": "zeropoint.catalogs.selectors",
    "AstrometryTask": "zeropoint.astrometry.solve",
    "BaseLimit": "zeropoint.catalogs.selectors",
    "BaseSourceSelectorConfig": "zeropoint.catalogs.selectors",
    "CalibrateConfig": "zeropoint.tasks.calibrate",
    "CalibrateImageConfig": "zeropoint.tasks.calibrate_image",
    "CalibrateImageTask": "zeropoint.tasks.calibrate_image",
    "CalibrateTask": "zeropoint.tasks.calibrate",
    "CatalogCalculationConfig": "zeropoint.measurement.catalog_calculation",
    "CatalogCalculationTask": "zeropoint.measurement.catalog_calculation",
    "CharacterizeImageConfig": "zeropoint.tasks.characterize_image",
    "CharacterizeImageTask": "zeropoint.tasks.characterize_image",
    "CentroidErrorLimit": "zeropoint.catalogs.selectors",
    "ColorLimit": "zeropoint.catalogs.selectors",
    "Colorterm": "zeropoint.photometry.color_terms",
    "ColortermDict": "zeropoint.photometry.color_terms",
    "ColortermLibrary": "zeropoint.photometry.color_terms",
    "ComputeExposureSummaryStatsConfig": "zeropoint.quality.summary",
    "ComputeExposureSummaryStatsTask": "zeropoint.quality.summary",
    "ComputeRoughPsfShapeletsConfig": "zeropoint.psf.shapelets",
    "ComputeRoughPsfShapeletsTask": "zeropoint.psf.shapelets",
    "ConsolidateFinalizeCharacterizationDetectorConfig": "zeropoint.tasks.finalize_characterization",
    "ConsolidateFinalizeCharacterizationDetectorTask": "zeropoint.tasks.finalize_characterization",
    "ConsolidateSourceTableConfig": "zeropoint.tasks.consolidate_source_table",
    "ConsolidateSourceTableTask": "zeropoint.tasks.consolidate_source_table",
    "ConsolidateVisitSummaryConfig": "zeropoint.tasks.consolidate_visit_summary",
    "ConsolidateVisitSummaryTask": "zeropoint.tasks.consolidate_visit_summary",
    "CullFromMaskedRegion": "zeropoint.catalogs.selectors",
    "DiaCatalogSourceSelectorConfig": "zeropoint.catalogs.selectors",
    "DiaCatalogSourceSelectorTask": "zeropoint.catalogs.selectors",
    "DirectMatchConfig": "zeropoint.photometry.direct_match",
    "DirectMatchTask": "zeropoint.photometry.direct_match",
    "FgcmBuildFromIsolatedStarsConfig": "zeropoint.tasks.fgcm_build_from_isolated_stars",
    "FgcmBuildFromIsolatedStarsTask": "zeropoint.tasks.fgcm_build_from_isolated_stars",
    "FgcmBuildStarsTableConfig": "zeropoint.tasks.fgcm_build_stars_table",
    "FgcmBuildStarsTableTask": "zeropoint.tasks.fgcm_build_stars_table",
    "FgcmFitCycleConfig": "zeropoint.tasks.fgcm_fit_cycle",
    "FgcmFitCycleTask": "zeropoint.tasks.fgcm_fit_cycle",
    "FgcmLoadReferenceCatalogConfig": "zeropoint.fgcm.references",
    "FgcmLoadReferenceCatalogTask": "zeropoint.fgcm.references",
    "FgcmMakeLutConfig": "zeropoint.tasks.fgcm_make_lut",
    "FgcmMakeLutParametersConfig": "zeropoint.tasks.fgcm_make_lut",
    "FgcmMakeLutTask": "zeropoint.tasks.fgcm_make_lut",
    "FgcmOutputProductsConfig": "zeropoint.tasks.fgcm_output_products",
    "FgcmOutputProductsTask": "zeropoint.tasks.fgcm_output_products",
    "FinalizeCharacterizationConfig": "zeropoint.tasks.finalize_characterization",
    "FinalizeCharacterizationDetectorConfig": "zeropoint.tasks.finalize_characterization",
    "FinalizeCharacterizationDetectorTask": "zeropoint.tasks.finalize_characterization",
    "FinalizeCharacterizationTask": "zeropoint.tasks.finalize_characterization",
    "FindCosmicRaysConfig": "zeropoint.pixels.cosmic_rays",
    "FitAffineWcsConfig": "zeropoint.astrometry.affine",
    "FitAffineWcsTask": "zeropoint.astrometry.affine",
    "FitSipApproximationConfig": "zeropoint.astrometry.sip_approximation",
    "FitSipApproximationTask": "zeropoint.astrometry.sip_approximation",
    "FitTanSipWcsConfig": "zeropoint.astrometry.tan_sip",
    "FitTanSipWcsTask": "zeropoint.astrometry.tan_sip",
    "FlaggedSourceSelectorConfig": "zeropoint.catalogs.selectors",
    "FlaggedSourceSelectorTask": "zeropoint.catalogs.selectors",
    "FluxLimit": "zeropoint.catalogs.selectors",
    "InstallGaussianPsfConfig": "zeropoint.pixels.simple_psf",
    "InstallGaussianPsfTask": "zeropoint.pixels.simple_psf",
    "InterpImageConfig": "zeropoint.pixels.interpolation",
    "InterpImageTask": "zeropoint.pixels.interpolation",
    "IsolatedStarAssociationConfig": "zeropoint.tasks.isolated_star_association",
    "IsolatedStarAssociationTask": "zeropoint.tasks.isolated_star_association",
    "LoadReferenceObjectsConfig": "zeropoint.catalogs.references",
    "MagnitudeErrorLimit": "zeropoint.catalogs.selectors",
    "MagnitudeLimit": "zeropoint.catalogs.selectors",
    "MakeCcdVisitTableConfig": "zeropoint.tasks.make_visit_tables",
    "MakeCcdVisitTableTask": "zeropoint.tasks.make_visit_tables",
    "MakePsfCandidatesConfig": "zeropoint.psf.candidates",
    "MakePsfCandidatesTask": "zeropoint.psf.candidates",
    "MakeVisitTableConfig": "zeropoint.tasks.make_visit_tables",
    "MakeVisitTableTask": "zeropoint.tasks.make_visit_tables",
    "MatchPessimisticBConfig": "zeropoint.astrometry.matcher",
    "MatchPessimisticBTask": "zeropoint.astrometry.matcher",
    "MatcherSourceSelectorConfig": "zeropoint.catalogs.selectors",
    "MatcherSourceSelectorTask": "zeropoint.catalogs.selectors",
    "MeasureApCorrConfig": "zeropoint.measurement.aperture_corrections",
    "MeasureApCorrTask": "zeropoint.measurement.aperture_corrections",
    "MeasurePsfConfig": "zeropoint.psf.measure_psf",
    "MeasurePsfTask": "zeropoint.psf.measure_psf",
    "NormalizedCalibrationFluxConfig": "zeropoint.measurement.normalized_flux",
    "NormalizedCalibrationFluxTask": "zeropoint.measurement.normalized_flux",
    "NullSourceSelectorConfig": "zeropoint.catalogs.selectors",
    "NullSourceSelectorTask": "zeropoint.catalogs.selectors",
    "ObjectSizeStarSelectorConfig": "zeropoint.catalogs.selectors",
    "ObjectSizeStarSelectorTask": "zeropoint.catalogs.selectors",
    "PhotoCalConfig": "zeropoint.photometry.photocal",
    "PhotoCalTask": "zeropoint.photometry.photocal",
    "PcaPsfDeterminerConfig": "zeropoint.psf.pca_determiner",
    "PcaPsfDeterminerTask": "zeropoint.psf.pca_determiner",
    "PiffPsfDeterminerConfig": "zeropoint.psf.piff_determiner",
    "PiffPsfDeterminerTask": "zeropoint.psf.piff_determiner",
    "ReferenceSourceSelectorConfig": "zeropoint.catalogs.selectors",
    "PsfexPsfDeterminerConfig": "zeropoint.psf.psfex_determiner",
    "PsfexPsfDeterminerTask": "zeropoint.psf.psfex_determiner",
    "ReferenceSourceSelectorTask": "zeropoint.catalogs.selectors",
    "RefitPointingConfig": "zeropoint.astrometry.refit_pointing",
    "RefitPointingTask": "zeropoint.astrometry.refit_pointing",
    "RepairConfig": "zeropoint.pixels.repair",
    "RepairTask": "zeropoint.pixels.repair",
    "RequireFiniteRaDec": "zeropoint.catalogs.selectors",
    "RequireFlags": "zeropoint.catalogs.selectors",
    "RequireIsolated": "zeropoint.catalogs.selectors",
    "RequirePrimary": "zeropoint.catalogs.selectors",
    "RequireUnresolved": "zeropoint.catalogs.selectors",
    "ReserveIsolatedStarsConfig": "zeropoint.association.reserve",
    "ReserveIsolatedStarsTask": "zeropoint.association.reserve",
    "ReserveSourcesConfig": "zeropoint.catalogs.reserve",
    "ReserveSourcesTask": "zeropoint.catalogs.reserve",
    "ScienceSourceSelectorConfig": "zeropoint.catalogs.selectors",
    "ScienceSourceSelectorTask": "zeropoint.catalogs.selectors",
    "Sedboundaryterm": "zeropoint.fgcm.fit_cycle_config",
    "SedboundarytermDict": "zeropoint.fgcm.fit_cycle_config",
    "Sedterm": "zeropoint.fgcm.fit_cycle_config",
    "SedtermDict": "zeropoint.fgcm.fit_cycle_config",
    "SetPrimaryFlagsConfig": "zeropoint.measurement.primary_flags",
    "SetPrimaryFlagsTask": "zeropoint.measurement.primary_flags",
    "SignalToNoiseLimit": "zeropoint.catalogs.selectors",
    "SingleFrameMeasurementConfig": "zeropoint.measurement.single_frame",
    "SingleFrameMeasurementTask": "zeropoint.measurement.single_frame",
    "SkyObjectsConfig": "zeropoint.detection.sky_sources",
    "SkyObjectsTask": "zeropoint.detection.sky_sources",
    "SnapCombineConfig": "zeropoint.pixels.snaps",
    "SnapCombineTask": "zeropoint.pixels.snaps",
    "SourceDeblendConfig": "zeropoint.detection.deblend",
    "SourceDeblendTask": "zeropoint.detection.deblend",
    "SourceDetectionConfig": "zeropoint.detection.source_detection",
    "SourceDetectionTask": "zeropoint.detection.source_detection",
    "SubtractBackgroundConfig": "zeropoint.pixels.background",
    "SubtractBackgroundTask": "zeropoint.pixels.background",
    "TransformSourceTableConfig": "zeropoint.tasks.transform_source_table",
    "TransformSourceTableTask": "zeropoint.tasks.transform_source_table",
    "UpdateVisitSummaryConfig": "zeropoint.tasks.update_visit_summary",
    "UpdateVisitSummaryTask": "zeropoint.tasks.update_visit_summary",
    "WriteRecalibratedSourceTableConfig": "zeropoint.tasks.write_recalibrated_source_table",
    "WriteRecalibratedSourceTableTask": "zeropoint.tasks.write_recalibrated_source_table",
    "WriteSourceTableConfig": "zeropoint.tasks.write_source_table",
    "WriteSourceTableTask": "zeropoint.tasks.write_source_table",
}

_RENAMED = {
    "CalibrateImageTask": "CalibrateImageTask",
    "CalibrateTask": "CalibrateTask",
    "CharacterizeImageTask": "CharacterizeImageTask",
    "InterpImageTask": "InterpolateDefects",
    "IsolatedStarAssociationTask": "IsolatedStarAssociationTask",
    "InterpImageConfig": "InterpolateDefectsConfig",
    "ConsolidateSourceTableTask": "ConsolidateSourceTableTask",
    "ConsolidateVisitSummaryTask": "ConsolidateVisitSummaryTask",
    "MakeCcdVisitTableTask": "MakeCcdVisitTableTask",
    "MakeVisitTableTask": "MakeVisitTableTask",
    "TransformSourceTableTask": "TransformSourceTableTask",
    "UpdateVisitSummaryTask": "UpdateVisitSummaryTask",
    "WriteRecalibratedSourceTableTask": "WriteRecalibratedSourceTableTask",
    "WriteSourceTableTask": "WriteSourceTableTask",
    "ConsolidateFinalizeCharacterizationDetectorTask": "ConsolidateFinalizeCharacterizationDetectorTask",
    "FgcmBuildFromIsolatedStarsTask": "FgcmBuildFromIsolatedStarsTask",
    "FgcmBuildStarsTableTask": "FgcmBuildStarsTableTask",
    "FgcmFitCycleTask": "FgcmFitCycleTask",
    "FgcmMakeLutTask": "FgcmMakeLutTask",
    "FgcmOutputProductsTask": "FgcmOutputProductsTask",
    "FinalizeCharacterizationTask": "FinalizeCharacterizationTask",
    "FinalizeCharacterizationDetectorTask": "FinalizeCharacterizationDetectorTask",
}

#: Steps that have more than one class: all of them, under Rubin's names.
_ALTERNATIVES = {"FitAffineWcsTask": ("FitAffineWcsTask", "FitTanSipWcsTask")}
_ALTERNATIVES["FitTanSipWcsTask"] = _ALTERNATIVES["FitAffineWcsTask"]

#: Packages of the middleware that are here as they are at Rubin.
_PRESENT = (
    "lsst.ctrl",
    "lsst.daf",
    "lsst.images",
    "lsst.pex",
    "lsst.pipe.base",
    "lsst.resources",
    "lsst.sphgeom",
    "lsst.utils",
)

_REGISTERED = "its plugins are always registered here: delete the line"
_DETERMINERS = "the PSF determiners piff, psfex and pca are always registered here: delete the line"
_FIELDS = "delete the line, and set fields of our configuration instead"

#: What to do about a class or package (by its start) that has no equivalent.
_ADVICE = {
    "MatchOptimisticB": "the pessimistic matcher, zeropoint.astrometry.matcher, is the only one: delete the line",
    "DiffractionSpikeMask": "masking of diffraction spikes is not available: delete the line",
    "lsst.meas.algorithms.pcaPsfDeterminer": _DETERMINERS,
    "lsst.meas.extensions.psfex": _DETERMINERS,
    "lsst.meas.extensions.piff": _DETERMINERS,
    "lsst.meas.extensions.convolved": _REGISTERED,
    "lsst.meas.extensions.gaap": _REGISTERED,
    "lsst.meas.extensions.photometryKron": _REGISTERED,
    "lsst.meas.extensions.shapeHSM": _REGISTERED,
    "lsst.meas.extensions": "these plugins are not available: delete the line",
    "lsst.meas.base": _REGISTERED,
}


def is_missing_module(name: str) -> bool:
    """Tell whether a module is of Rubin's compiled stack, which is not on PyPI."""
    return name.split(".")[0] == "lsst" and not any(
        name == known or name.startswith(f"{known}.") or known.startswith(f"{name}.") for known in _PRESENT
    )


def locate(name: str) -> tuple[str, str] | None:
    """Return module and class here for the name of a class of Rubin's, or None.

    Parameters
    ----------
    name
        The class's name, with or without its module.
    """
    name = name.rpartition(".")[2]
    if name not in EQUIVALENTS:
        return None
    return EQUIVALENTS[name], _our_name(name)


def import_line(name: str, alias: str) -> str | None:
    """Return the statement that binds our equivalent of a class of Rubin's to ``alias``, or None."""
    found = locate(name)
    if found is None:
        return None
    module, ours = found
    return f"from {module} import {ours}" + (f" as {alias}" if alias != ours else "")


def advice(module: str, name: str = "") -> str:
    """Say what to do about a class or module that has no equivalent here."""
    for start, text in _ADVICE.items():
        if name.startswith(start) or module == start or module.startswith(f"{start}."):
            return text
    return _FIELDS


def why_needless(module: str) -> str:
    """Say why the import of a module of Rubin's does nothing here, or nothing if it is not known to.

    Parameters
    ----------
    module
        Its full name. Modules whose import registers plugins or PSF determiners are known: ours always are.
    """
    text = advice(module)
    return text.removesuffix(": delete the line") if text in (_REGISTERED, _DETERMINERS) else ""


def steps_by_name(field: pexConfig.ConfigurableField) -> dict[str, type]:
    """Return the classes that a sub-step can be retargeted to, under our and Rubin's names.

    Parameters
    ----------
    field
        The field of the sub-step; its default is always among them. One that holds a source selector takes any of the
        registry, also by its name there.
    """
    default = field.target
    rubin = _rubin_name(default)
    steps: dict[str, type] = {default.__name__: default}
    if issubclass(default, SourceSelector):
        for name, selector in sourceSelectorRegistry.items():
            steps |= {name: selector, selector.__name__: selector, f"{selector.__name__}Task": selector}
        return steps
    if rubin is not None:
        for name in _ALTERNATIVES.get(rubin, (rubin,)):
            ours = _our_name(name)
            steps[name] = steps[ours] = getattr(importlib.import_module(EQUIVALENTS[name]), ours)
    return steps


def names_step(text: str) -> bool:
    """Tell whether a text is the name of a class to which a step can be retargeted, Rubin's or ours."""
    return f"{text.removesuffix('Task')}Task" in EQUIVALENTS or text in sourceSelectorRegistry


def _rubin_name(target: type) -> str | None:
    """Return Rubin's name of one of our steps."""
    for name in EQUIVALENTS:
        if name.endswith("Task") and _our_name(name) == target.__name__:
            return name
    return None


def _our_name(name: str) -> str:
    return _RENAMED.get(name, name.removesuffix("Task"))
