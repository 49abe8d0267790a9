"""CharacterizeImage in plain Python: a post-ISR exposure in; PSF, aperture corrections and bright sources out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from zeropoint.catalogs.references import ReferenceCatalog, ReferenceObjectLoader
from zeropoint.catalogs.selectors import MatchedReferences
from zeropoint.datamodel.background import BackgroundList
from zeropoint.datamodel.catalog import SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.footprint_table import SourceFootprints
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.errors import (
    CalibrationFailure,
    InvalidInputError,
    MeasureApCorrError,
    ObjectSizeNoSourcesError,
    TooManyCosmicRays,
)
from zeropoint.measurement.aperture_corrections import ApCorrMap
from zeropoint.psf.measure_psf import MeasurePsfResult
from zeropoint.recipes.calibrate_image.derived import derived_config
from zeropoint.recipes.catalogs import COORD_ERRORS, assemble_rows, minimal_schema, rows_from_detection
from zeropoint.recipes.characterize_image.config import DERIVED_NAMES, CharacterizeImageConfig
from zeropoint.recipes.characterize_image.record import CharacterizedImage
from zeropoint.recipes.debug import DebugDisplay, DisplayHook
from zeropoint.recipes.image_checks import mask_fractions, require_unsaturated
from zeropoint.recipes.legacy_fields import check_units
from zeropoint.recipes.record import StageTimer, keep_failure, note_psf_order

__all__ = ["CharacterizeImage"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """What the steps of one image need besides its record."""

    timer: StageTimer
    ids: CatalogIdGenerator
    display: DebugDisplay
    references: ReferenceCatalog | None


class CharacterizeImage:
    """Measure background, cosmic rays, PSF and aperture corrections of one detector image on its bright sources.

    Parameters
    ----------
    config
        Configuration; class defaults are Rubin's.
    display_hook
        Called with the moments that ``debug.display`` names; None saves them as plots in ``debug.directory``.

    Attributes
    ----------
    schema : Schema
        Columns of the catalogue, known once the recipe is constructed.

    Notes
    -----
    The order of steps is that of CharacterizeImageTask of the LSST Science Pipelines (2026).
    """

    ConfigClass = CharacterizeImageConfig

    def __init__(
        self, config: CharacterizeImageConfig | None = None, *, display_hook: DisplayHook | None = None
    ) -> None:
        self.config = config if config is not None else CharacterizeImageConfig()
        self.config.validate()
        self.display_hook = display_hook
        c = self.config
        self.background = c.background.apply()
        self.install_simple_psf = c.installSimplePsf.apply()
        self.repair = c.repair.apply()
        # construction order is column order
        schema = self.schema = minimal_schema()
        schema.add(*COORD_ERRORS)
        self.measure_psf = c.measurePsf.apply(schema=schema) if c.doMeasurePsf else None
        self.ref_match = c.ref_match.apply() if self.uses_matches else None
        self.detection = c.detection.apply(schema=schema)
        self.deblend = c.deblend.apply(schema=schema) if c.doDeblend else None
        self.measurement = c.measurement.apply(schema=schema)
        self.normalized_flux = self.measure_ap_corr = self.apply_ap_corr = None
        if c.doNormalizedCalibration:
            self.normalized_flux = c.normalizedCalibrationFlux.apply(schema=schema)
        if c.doApCorr:
            self.measure_ap_corr = c.measureApCorr.apply(schema=schema)
            self.apply_ap_corr = c.applyApCorr.apply(schema=schema)
        self.catalog_calculation = c.catalogCalculation.apply(schema=schema)
        check_units(schema, c.checkUnitsParseStrict)

    @property
    def uses_matches(self) -> bool:
        """Whether the star selector needs matches with reference objects."""
        return self.measure_psf is not None and self.measure_psf.star_selector.usesMatches

    def getSchemaCatalogs(self) -> dict[str, SourceCatalog]:
        """Return an empty catalogue for each catalogue dataset."""
        return {"icSrc": SourceCatalog(self.schema, 0)}

    def run(
        self,
        exposure: Exposure,
        background: BackgroundList | None = None,
        id_generator: CatalogIdGenerator | None = None,
        *,
        reference_loader: ReferenceObjectLoader | None = None,
        label: str = "image",
        on_stage: Callable[[str], None] | None = None,
    ) -> CharacterizedImage:
        """Characterize one visit of one detector; the exposure is modified in place.

        Parameters
        ----------
        exposure
            Post-ISR image in electrons.
        background
            What has been subtracted from it before; not modified.
        id_generator
            Packs row ids and gives the seed; default: ids count from 1, seed 0.
        reference_loader
            Reference objects, for star selectors that use matches.
        label
            Name for the log and the plots.
        on_stage
            Called with each stage's name as it begins.

        Returns
        -------
        result : CharacterizedImage

        Raises
        ------
        InvalidInputError
            If an input cannot be used: matches are needed and there is no reference catalogue or none with the band,
            or the image has no WCS for them or for the first look.
        CalibrationFailure
            If the image cannot be characterized. The exception's ``record`` is the `CharacterizedImage` as far as it
            got.
        """
        before = None if background is None else BackgroundList(list(background))
        record = CharacterizedImage(exposure, before, caveats=list(exposure.caveats))
        self._check_inputs(exposure, reference_loader, label)
        config = self.config
        if config.do_first_look:
            config = derived_config(config, record, None, DERIVED_NAMES)
        record.config = config
        recipe = self
        if config is not self.config:
            recipe = type(self)(config, display_hook=self.display_hook)
        timer = StageTimer(record, label, on_stage)
        display = DebugDisplay(config.debug, "characterizeImage", label, self.display_hook)
        ids = id_generator if id_generator is not None else CatalogIdGenerator.trivial()
        psf_before = exposure.psf
        try:
            references = recipe._load(exposure, reference_loader)
            recipe._characterize(record, _Job(timer, ids, display, references))
        except CalibrationFailure as failure:
            if record.psf_fit is None:
                exposure.psf = None if config.doMeasurePsf else psf_before
            keep_failure(record, failure, lambda: None)
            raise
        return record

    def stage_names(self) -> tuple[str, ...]:
        """Return the stages of a full run, in order."""
        names = ["background"]
        for number in range(1, self._n_rounds + 1):
            names += [_numbered(name, number) for name in ("detection", "measurement")]
            if self.measure_psf is not None:
                names.append(_numbered("psf", number))
        return (*names, "repair", "final_measurement", "aperture_corrections", "catalog")

    # -- parts ------------------------------------------------------------------------------------------

    @property
    def _n_rounds(self) -> int:
        return self.config.psfIterations if self.config.doMeasurePsf else 1

    def _check_inputs(self, exposure: Exposure, loader: ReferenceObjectLoader | None, label: str) -> None:
        if exposure.wcs is None and (self.uses_matches or self.config.do_first_look):
            raise InvalidInputError(f"{label}: the image has no initial WCS.")
        if not self.uses_matches:
            return
        if loader is None:
            name = self.config.measurePsf.starSelector.name
            raise InvalidInputError(
                f"measurePsf.starSelector {name!r} uses matches with reference objects, but there is no reference "
                "catalogue: give one (configured by refObjLoader), or choose another selector."
            )
        loader.flux_field(exposure.visit_info.band)

    def _load(self, exposure: Exposure, loader: ReferenceObjectLoader | None) -> ReferenceCatalog | None:
        if not self.uses_matches or loader is None:
            return None
        assert exposure.wcs is not None
        info = exposure.visit_info
        return loader.load(exposure.wcs, exposure.shape, band=info.band, mjd_tai=info.mjd_tai)

    def _characterize(self, record: CharacterizedImage, job: _Job) -> None:
        exposure, timer, c = record.exposure, job.timer, self.config
        require_unsaturated(exposure)
        with timer.stage("background") as numbers:
            if exposure.psf is None and not c.doMeasurePsf:
                self.install_simple_psf.run(exposure)
            record.background = self.background.run(exposure, record.background).background
            numbers["sky"] = float(exposure.metadata.get("BGMEAN", np.nan))
        fit: MeasurePsfResult | None = None
        for number in range(1, self._n_rounds + 1):
            catalog, fit = self._round(record, job, number)
        assert exposure.psf is not None
        record.psf_fit = fit
        if fit is not None:
            note_psf_order(record, fit.metadata)
        record.metadata["final_psf_sigma"] = exposure.psf.sigma()
        record.footprints = SourceFootprints.of(catalog)
        job.display.show("psf", exposure, catalog)
        with timer.stage("repair") as numbers:
            numbers["cosmic_rays"] = self.repair.run(exposure).cosmic_ray_count
            record.metadata["cosmic_ray_count"] = numbers["cosmic_rays"]
        job.display.show("repair", exposure, catalog)
        with timer.stage("final_measurement"):
            self.measurement.run(exposure, catalog, seed=job.ids.catalog_id)
        with timer.stage("aperture_corrections") as numbers:
            exposure.ap_corr_map = self._correct_apertures(record, catalog)
            numbers["fluxes"] = sum(name.endswith("_instFlux") for name in exposure.ap_corr_map)
        with timer.stage("catalog") as numbers:
            self.catalog_calculation.run(catalog)
            record.catalog = catalog
            record.metadata["source_count"] = numbers["sources"] = len(catalog)
            record.metadata.update(mask_fractions(exposure))
        job.display.show("measure", exposure, catalog)

    def _round(
        self, record: CharacterizedImage, job: _Job, number: int
    ) -> tuple[SourceCatalog, MeasurePsfResult | None]:
        """Detect and measure sources and fit the PSF once; background and PSF of the record change in place."""
        exposure, c, fit = record.exposure, self.config, None
        with job.timer.stage(_numbered("detection", number)) as numbers:
            if exposure.psf is None or (c.doMeasurePsf and c.useSimplePsf):
                self.install_simple_psf.run(exposure)
            self._find_cosmic_rays(record)
            job.display.show("repair_iter", exposure)
            detection = self.detection.run(exposure, background=record.background)
            record.background = detection.background
            job.display.show("background_iter", exposure)
            catalog = rows_from_detection(self.schema, detection, job.ids)
            if len(catalog) == 0 and c.doMeasurePsf:
                raise ObjectSizeNoSourcesError(
                    "No source was detected for the PSF: is the image exposed, and is its background sane?"
                )
            record.metadata["positive_footprint_count"] = len(detection.positive)
            record.metadata["negative_footprint_count"] = len(detection.negative)
            if self.deblend is not None:
                deblended = self.deblend.run(exposure, catalog)
                catalog = assemble_rows(catalog, job.ids, deblended=deblended)
            numbers["sources"] = len(catalog)
        with job.timer.stage(_numbered("measurement", number)):
            self.measurement.run(exposure, catalog, seed=job.ids.catalog_id)
        if self.measure_psf is not None:
            with job.timer.stage(_numbered("psf", number)) as numbers:
                matches = self._matches(exposure, catalog, job.references)
                fit = self.measure_psf.run(exposure, catalog, exp_id=job.ids.catalog_id, matches=matches)
                assert exposure.psf is not None
                numbers.update(sigma_pix=exposure.psf.sigma(), used=fit.n_good, candidates=fit.n_available)
        job.display.show("measure_iter", exposure, catalog)
        return catalog, fit

    def _find_cosmic_rays(self, record: CharacterizedImage) -> None:
        """Mask cosmic rays, without touching their pixels; too many are a failure only if so configured."""
        try:
            self.repair.run(record.exposure, keepCRs=True)
        except TooManyCosmicRays as failure:
            if self.config.requireCrForPsf:
                raise
            _LOG.warning("cosmic rays are left in this round: %s", failure)
            record.caveats.append(f"cosmic rays were left in a round of the PSF fit: {failure}")

    def _matches(
        self, exposure: Exposure, catalog: SourceCatalog, references: ReferenceCatalog | None
    ) -> MatchedReferences | None:
        if self.ref_match is None or references is None:
            return None
        # copies: matching sets coordinates and WCS, which are not the business of this recipe
        fit = self.ref_match.run(replace(exposure, metadata={}), catalog.copy(), references)
        return MatchedReferences(references.table, fit.match_ref, fit.match_src)

    def _correct_apertures(self, record: CharacterizedImage, catalog: SourceCatalog) -> ApCorrMap:
        """Measure the aperture corrections and apply them to the catalogue, in place."""
        exposure = record.exposure
        corrections: ApCorrMap = {}
        if self.normalized_flux is not None:
            corrections |= self.normalized_flux.run(exposure, catalog).ap_corr_map
        if self.measure_ap_corr is None or self.apply_ap_corr is None:
            return corrections
        try:
            corrections |= self.measure_ap_corr.run(exposure, catalog).ap_corr_map
        except MeasureApCorrError as failure:
            _LOG.warning("no aperture corrections: %s", failure)
            record.caveats.append(f"fluxes are not corrected for their apertures: {failure}")
        self.apply_ap_corr.run(catalog, corrections)
        return corrections


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}_{number}"
