"""Calibrate in plain Python: a characterized exposure in; WCS, zeropoint and all its sources out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from zeropoint.astrometry.sky_coords import update_sky_coords
from zeropoint.catalogs.match_metadata import match_metadata
from zeropoint.catalogs.references import ReferenceCatalog, ReferenceObjectLoader, source_density_deg2
from zeropoint.datamodel.background import BackgroundList
from zeropoint.datamodel.catalog import Schema, SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.footprint_table import SourceFootprints
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.datamodel.wcs import angular_separation
from zeropoint.errors import CalibrationFailure, InvalidInputError, MatcherFailure
from zeropoint.photometry.header import magzero_metadata
from zeropoint.recipes.calibrate.config import DERIVED_NAMES, CalibrateConfig
from zeropoint.recipes.calibrate.measure import SourcePhase, schema_start
from zeropoint.recipes.calibrate.record import CalibratedExposure
from zeropoint.recipes.calibrate_image.derived import adapted_loader, derived_config
from zeropoint.recipes.catalogs import denormalize_matches, photometry_matches, rows_from_detection
from zeropoint.recipes.debug import DebugDisplay, DisplayHook
from zeropoint.recipes.image_checks import mask_fractions
from zeropoint.recipes.legacy_fields import check_units
from zeropoint.recipes.record import StageTimer, keep_failure

__all__ = ["Calibrate"]

_LOG = logging.getLogger(__name__)

#: How the caveat of an image begins that goes on without a WCS.
_NO_WCS = "the WCS could not be fitted"


@dataclass(frozen=True)
class _Job:
    """What the steps of one image need besides its record."""

    timer: StageTimer
    ids: CatalogIdGenerator
    display: DebugDisplay
    ic_sources: SourceCatalog | Table | None
    astrometry: ReferenceObjectLoader | None
    photometry: ReferenceObjectLoader | None


@dataclass(frozen=True)
class _Wcs:
    """The fitted WCS's catalogues."""

    references: ReferenceCatalog
    bright: SourceCatalog


class Calibrate:
    """Fit WCS and zeropoint of one characterized detector image, and measure all its sources.

    Parameters
    ----------
    config
        Configuration; class defaults are Rubin's.
    ic_schema
        Schema of the sources of CharacterizeImage; None copies none of their columns.
    display_hook
        Called with the moments that ``debug.display`` names; None saves them as plots in ``debug.directory``.

    Attributes
    ----------
    schema : Schema
        Columns of the catalogue, known once the recipe is constructed.

    Raises
    ------
    InvalidInputError
        If a column to copy does not exist.

    Notes
    -----
    The order of steps is that of CalibrateTask of the LSST Science Pipelines (2026): the WCS is fitted to bright
    sources before all sources are detected.
    """

    ConfigClass = CalibrateConfig

    def __init__(
        self,
        config: CalibrateConfig | None = None,
        ic_schema: Schema | None = None,
        *,
        display_hook: DisplayHook | None = None,
    ) -> None:
        self.config = config if config is not None else CalibrateConfig()
        self.config.validate()
        self.ic_schema, self.display_hook = ic_schema, display_hook
        c = self.config
        # construction order is column order
        schema = self.schema = schema_start(c.icSourceFieldsToCopy, ic_schema)
        self.sources = SourcePhase(c, schema, copy_ic=ic_schema is not None)
        self.astrometry = c.astrometry.apply(schema=schema) if c.doAstrometry else None
        self.photo_cal = c.photoCal.apply(schema=schema) if c.doPhotoCal else None
        self.summary = c.computeSummaryStats.apply()
        missing = [name for name in c.astromFieldsToCopy if name not in schema]
        if missing and c.doAstrometry:
            raise InvalidInputError(f"astromFieldsToCopy: the catalogue has no columns {', '.join(missing)}.")
        check_units(schema, c.checkUnitsParseStrict)

    def getSchemaCatalogs(self) -> dict[str, SourceCatalog]:
        """Return an empty catalogue for each catalogue dataset."""
        return {"src": SourceCatalog(self.schema, 0)}

    def run(
        self,
        exposure: Exposure,
        background: BackgroundList | None = None,
        ic_sources: SourceCatalog | Table | None = None,
        *,
        astrometry_references: ReferenceObjectLoader | None = None,
        photometry_references: ReferenceObjectLoader | None = None,
        id_generator: CatalogIdGenerator | None = None,
        label: str = "image",
        on_stage: Callable[[str], None] | None = None,
    ) -> CalibratedExposure:
        """Calibrate one characterized image; the exposure is modified in place.

        Parameters
        ----------
        exposure
            Image in electrons with PSF, initial WCS and aperture corrections, from `CharacterizeImage`.
        background
            What has been subtracted from it; not modified.
        ic_sources
            Sources of `CharacterizeImage`, whose flags are copied; None copies none.
        astrometry_references, photometry_references
            Reference loaders; not needed without ``doAstrometry`` or ``doPhotoCal``.
        id_generator
            Packs row ids and gives the seed; default: ids count from 1, seed 0.
        label
            Name for the log and the plots.
        on_stage
            Called with each stage's name as it begins.

        Returns
        -------
        result : CalibratedExposure

        Raises
        ------
        InvalidInputError
            If an input cannot be used: no PSF, no initial WCS, no reference catalogue or none with the band.
        CalibrationFailure
            If the image cannot be calibrated and ``requireAstrometry`` or ``requirePhotoCal`` asks for it. The
            exception's ``record`` is the `CalibratedExposure` as far as it got.
        """
        before = None if background is None else BackgroundList(list(background))
        record = CalibratedExposure(exposure, before, caveats=list(exposure.caveats))
        self._check_inputs(exposure, label)
        loaders = {
            "astromRefObjLoader": _required(astrometry_references, self.config, "doAstrometry"),
            "photoRefObjLoader": _required(photometry_references, self.config, "doPhotoCal"),
        }
        config = self.config
        if exposure.wcs is not None:
            config = derived_config(config, record, loaders["astromRefObjLoader"], DERIVED_NAMES)
        record.config = config
        recipe = self
        if config is not self.config:
            recipe = type(self)(config, self.ic_schema, display_hook=self.display_hook)
        adapted = {
            name: None if loader is None else adapted_loader(loader, name, record.derived)
            for name, loader in loaders.items()
        }
        for loader in adapted.values():
            if loader is not None:  # a band that is missing is an error now, not after the work
                loader.flux_field(exposure.visit_info.band)
        photometric = adapted["photoRefObjLoader"]
        if recipe.photo_cal is not None and photometric is not None:
            recipe.photo_cal.require_bands(photometric.source.bands, exposure.visit_info.physical_filter)
        timer = StageTimer(record, label, on_stage)
        display = DebugDisplay(config.debug, "calibrate", label, self.display_hook)
        ids = id_generator if id_generator is not None else CatalogIdGenerator.trivial()
        job = _Job(timer, ids, display, ic_sources, *adapted.values())
        exposure.photo_calib = None
        try:
            recipe._calibrate(record, job)
        except CalibrationFailure as failure:
            if config.doAstrometry and not record.reached("astrometry"):
                exposure.wcs = None
            keep_failure(record, failure, lambda: recipe._summarize(record))
            raise
        return record

    def stage_names(self) -> tuple[str, ...]:
        """Return the stages of a full run, in order."""
        c = self.config
        names = ["astrometry_detection", "astrometry_measurement", "astrometry"] if c.doAstrometry else []
        names += ["detection", "deblend", "measurement"]
        names += ["photometry"] if c.doPhotoCal else []
        names += ["local_calibration"]
        return (*names, *(["summary"] if c.doComputeSummaryStats else []))

    # -- parts ------------------------------------------------------------------------------------------

    def _check_inputs(self, exposure: Exposure, label: str) -> None:
        if exposure.psf is None:
            raise InvalidInputError(f"{label}: the image has no PSF; characterize it first.")
        needed = [name for name in ("doAstrometry", "do_first_look") if getattr(self.config, name)]
        if exposure.wcs is None and needed:
            raise InvalidInputError(f"{label}: the image has no initial WCS, which {needed[0]} needs.")

    def _calibrate(self, record: CalibratedExposure, job: _Job) -> None:
        exposure, timer, phase = record.exposure, job.timer, self.sources
        fitted = self._fit_wcs(record, job)
        with timer.stage("detection") as numbers:
            detection = phase.detection.run(exposure, background=record.background)
            record.background = detection.background
            record.metadata["positive_footprint_count"] = len(detection.positive)
            record.metadata["negative_footprint_count"] = len(detection.negative)
            numbers["sources"] = len(detection.footprints)
        with timer.stage("deblend") as numbers:
            catalog, sky = phase.all_rows(exposure, detection, job.ids)
            record.metadata["sky_footprint_count"] = 0 if sky is None else len(sky)
            numbers["rows"] = len(catalog)
        with timer.stage("measurement"):
            phase.measure(exposure, catalog, job.ids, job.ic_sources)
            update_sky_coords(catalog, exposure.wcs)
            if fitted is not None:
                rows = phase.copy_astrometry(fitted.bright, catalog)
            record.sources, record.footprints = catalog, SourceFootprints.of(catalog)
            _count(record, catalog)
        job.display.show("measure", exposure, catalog)
        try:
            self._fit_photometry(record, job)
        finally:  # what is known of each source is complete, also where there is no zeropoint
            with timer.stage("local_calibration"):
                phase.post_calibration.run(exposure, catalog, seed=job.ids.catalog_id)
            if fitted is not None:
                record.matches = _source_matches(record, fitted, catalog, rows)
        record.metadata.update(mask_fractions(exposure))
        if self.config.doComputeSummaryStats:
            with timer.stage("summary"):
                self._summarize(record)
        job.display.show("calibrate", exposure, catalog, matches=record.matches)

    def _fit_wcs(self, record: CalibratedExposure, job: _Job) -> _Wcs | None:
        """Fit the WCS to bright sources; None if that is not wanted, or failed and is not required."""
        if self.astrometry is None:
            return None
        try:
            return self._astrometry(record, job)
        except CalibrationFailure as failure:
            record.exposure.wcs = None
            record.astrometry, record.match_metadata = None, {}
            if self.config.requireAstrometry:
                raise
            _LOG.warning("astrometry failed, which is not required: %s", failure)
            record.caveats.append(f"{_NO_WCS}: {failure}")
            return None

    def _astrometry(self, record: CalibratedExposure, job: _Job) -> _Wcs:
        exposure, phase, info = record.exposure, self.sources, record.exposure.visit_info
        assert self.astrometry is not None
        assert job.astrometry is not None
        assert exposure.wcs is not None
        assert phase.astrometry_detection is not None
        references = job.astrometry.load(exposure.wcs, exposure.shape, band=info.band, mjd_tai=info.mjd_tai)
        density = source_density_deg2(references, exposure.wcs, exposure.shape)
        exposure.metadata["REF_CAT_SOURCE_DENSITY"] = record.metadata["ref_cat_source_density"] = density
        record.match_metadata = match_metadata(
            exposure.wcs,
            exposure.shape,
            band=info.band,
            mjd_tai=info.mjd_tai,
            pixel_margin=job.astrometry.config.pixelMargin,
        )
        with job.timer.stage("astrometry_detection") as numbers:
            detection = phase.astrometry_detection.run(exposure, background=record.background)
            bright = rows_from_detection(self.schema, detection, job.ids)
            numbers["sources"] = len(bright)
        with job.timer.stage("astrometry_measurement"):
            phase.measure(exposure, bright, job.ids, job.ic_sources)
        with job.timer.stage("astrometry") as numbers:
            fit = self.astrometry.run(exposure, bright, references)
            self.astrometry.check(exposure, bright, len(fit.match_ref))
            record.astrometry = fit
            record.metadata["astrometry_matches_count"] = len(fit.match_ref)
            for name in ("initial_to_final_wcs", "offset_mean", "offset_std", "offset_median"):
                key = name if name.startswith("initial") else f"astrom_{name}"
                record.metadata[key] = getattr(fit, name)
            numbers.update(matches=len(fit.match_ref), median_arcsec=fit.offset_median)
        matches = denormalize_matches(references, bright, fit.match_ref, fit.match_src, fit.distance_rad)
        job.display.show("astrometry", exposure, bright, matches=matches)
        return _Wcs(references, bright)

    def _fit_photometry(self, record: CalibratedExposure, job: _Job) -> None:
        """Fit the zero point, in place; a failure that is not required to be one leaves none."""
        exposure, catalog = record.exposure, record.sources
        if self.photo_cal is None:
            return
        assert catalog is not None
        try:
            with job.timer.stage("photometry") as numbers:
                references = self._photometric_references(record, job)
                fit = self.photo_cal.run(exposure, catalog, references, exp_id=job.ids.catalog_id)
                numbers.update(zeropoint=fit.zp, sigma=fit.sigma, stars=fit.n_good)
        except CalibrationFailure as failure:
            exposure.photo_calib = None
            if self.config.requirePhotoCal:
                raise
            _LOG.warning("photometry failed, which is not required: %s", failure)
            record.caveats.append(f"the photometric calibration could not be fitted: {failure}")
            return
        record.photometry = fit
        record.notes += fit.notes
        record.photometry_matches = photometry_matches(references, catalog, fit)
        record.metadata["photometry_matches_count"] = len(fit.match_ref)
        exposure.metadata.update(magzero_metadata(fit, exposure.visit_info.exposure_time))

    def _photometric_references(self, record: CalibratedExposure, job: _Job) -> ReferenceCatalog:
        exposure, info = record.exposure, record.exposure.visit_info
        assert job.photometry is not None
        if exposure.wcs is None:
            why = next((text for text in record.caveats if text.startswith(_NO_WCS)), "the image has none")
            raise MatcherFailure(
                "Without a WCS no source has sky coordinates, so none can be matched with a photometric reference "
                f"({why}). requirePhotoCal=False accepts an image without a zeropoint.",
                goodSrc=0,
                goodRef=0,
            )
        return job.photometry.load(exposure.wcs, exposure.shape, band=info.band, mjd_tai=info.mjd_tai)

    def _summarize(self, record: CalibratedExposure) -> None:
        record.summary = self.summary.run(
            record.exposure, record.sources, record.background, astrometry=record.astrometry
        )


def _required(
    loader: ReferenceObjectLoader | None, config: CalibrateConfig, switch: str
) -> ReferenceObjectLoader | None:
    """Return a loader if its step is switched on."""
    if not getattr(config, switch):
        return None
    if loader is None:
        raise InvalidInputError(f"{switch} is on, but there is no reference catalogue for it.")
    return loader


def _count(record: CalibratedExposure, catalog: SourceCatalog) -> None:
    """Put the numbers of sources of each kind into the record, in place."""
    sky = catalog["sky_source"] if "sky_source" in catalog else np.zeros(len(catalog), np.bool_)
    record.metadata["source_count"] = int(np.sum(~sky))
    for name in ("saturated", "bad"):
        flag = f"base_PixelFlags_flag_{name}"
        if flag in catalog:
            record.metadata[f"{name}_source_count"] = int(np.sum(catalog[flag]))


def _source_matches(
    record: CalibratedExposure, fitted: _Wcs, catalog: SourceCatalog, rows: np.ndarray
) -> Table:
    """Return the matches of the astrometry with rows of the final catalogue; those without a row are left out."""
    fit = record.astrometry
    assert fit is not None
    source = rows[fit.match_src]
    kept = np.flatnonzero(source >= 0)
    source, reference, table = source[kept], fit.match_ref[kept], fitted.references.table
    distance = angular_separation(
        table["coord_ra"][reference],
        table["coord_dec"][reference],
        catalog["coord_ra"][source],
        catalog["coord_dec"][source],
    )
    return denormalize_matches(
        fitted.references, catalog, reference, source, distance, {"used": fit.used[kept]}
    )
