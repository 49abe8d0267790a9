"""Second half of CalibrateImage: the background again, deep detection, deblending, measurement, selection."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from zeropoint.astrometry.sky_coords import update_sky_coords
from zeropoint.catalogs.selectors import MatchedReferences, SelectionResult
from zeropoint.datamodel.catalog import Schema, SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.footprint_table import SourceFootprints
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.detection.source_detection import DetectionResult
from zeropoint.detection.star_detection import detect_stars_adaptively
from zeropoint.errors import NoStarsSelectedError
from zeropoint.recipes.calibrate_image.config import CalibrateImageConfig
from zeropoint.recipes.calibrate_image.psf_phase import AdaptiveThreshold
from zeropoint.recipes.calibrate_image.record import CalibratedImage
from zeropoint.recipes.catalogs import assemble_rows, rows_from_footprints
from zeropoint.recipes.record import StageTimer
from zeropoint.recipes.star_background import remeasure_star_background

__all__ = ["StarPhase"]

#: Second word of the seed of the random subset of footprints.
_DOWNSAMPLE = 0xD0


class StarPhase:
    """Steps from the star background to the selected star catalogue.

    Parameters
    ----------
    config
        The recipe's configuration.
    schema
        Deep schema; the steps append their columns.
    """

    def __init__(self, config: CalibrateImageConfig, schema: Schema) -> None:
        self.config, self.schema = config, schema
        c = config
        self.star_background = c.star_background.apply()
        self.detection = c.star_detection.apply(schema=schema)
        self.sky_sources = c.star_sky_sources.apply(schema=schema)
        self.deblend = c.star_deblend.apply(schema=schema)
        self.measurement = c.star_measurement.apply(schema=schema)
        self.normalized_flux = c.star_normalized_calibration_flux.apply(schema=schema)
        self.apply_ap_corr = c.star_apply_aperture_correction.apply(schema=schema)
        self.catalog_calculation = c.star_catalog_calculation.apply(schema=schema)
        self.primary_flags = c.star_set_primary_flags.apply(schema=schema)
        self.selector = c.star_selector.apply()

    def run(
        self,
        result: CalibratedImage,
        timer: StageTimer,
        ids: CatalogIdGenerator,
        adaptive: AdaptiveThreshold | None,
        ratio: np.ndarray | None,
        match: Callable[[SourceCatalog], MatchedReferences],
    ) -> SourceCatalog:
        """Establish the deep background and the stars' footprints on the result, in place; return the stars.

        ``match`` finds the references of sources, for selectors that need them.
        """
        exposure, c = result.exposure, self.config
        assert result.background is not None
        result.metadata["adaptive_threshold_value"] = float("nan")
        if c.do_remeasure_star_background and adaptive is not None:
            with timer.stage("star_background") as numbers:
                fit = remeasure_star_background(
                    exposure,
                    result.background,
                    self.star_background,
                    min_footprints=c.star_background_min_footprints,
                    peak_fraction=c.star_background_peak_fraction,
                    background_to_photometric_ratio=ratio,
                )
                result.background = fit.background
                result.metadata["adaptive_threshold_value"] = fit.adaptive_threshold_value
                numbers["sky"] = float(exposure.metadata.get("BGMEAN", np.nan))
        with timer.stage("star_detection") as numbers:
            detection = self._detect(result, adaptive, ratio)
            numbers["sources"] = len(detection.positive)
            sky = self.sky_sources.run(exposure.mask, ids.catalog_id)
            result.metadata["sky_footprint_count"] = len(sky)
        with timer.stage("deblend") as numbers:
            catalog = self._deblend(result, detection.positive, sky, ids)
            numbers["rows"] = len(catalog)
        with timer.stage("star_measurement"):
            self.measurement.run(exposure, catalog, seed=ids.catalog_id)
            self._count(result, catalog)
        with timer.stage("star_catalog") as numbers:
            self.normalized_flux.run(exposure, catalog)
            assert exposure.ap_corr_map is not None
            self.apply_ap_corr.run(catalog, exposure.ap_corr_map)
            self.catalog_calculation.run(catalog)
            self.primary_flags.run(catalog)
            # selectors may look at the sky coordinates
            update_sky_coords(catalog, exposure.wcs, include_errors=c.do_include_astrometric_errors)
            stars = catalog.take(self._select(exposure, catalog, match).selected)
            numbers["selected"] = int(np.count_nonzero(~stars["sky_source"]))
            if numbers["selected"] == 0:
                # asked again without the sky sources, so that the counts are those of sources
                sources = catalog.take(~catalog["sky_source"])
                selection = self._select(exposure, sources, match)
                raise NoStarsSelectedError(
                    f"No star for calibration: {self.selector.why_none(selection)}",
                    n_input_sources=len(sources),
                )
            result.stars_footprints = SourceFootprints.of(stars)
        return stars

    def _select(
        self,
        exposure: Exposure,
        catalog: SourceCatalog,
        match: Callable[[SourceCatalog], MatchedReferences],
    ) -> SelectionResult:
        """Return which rows are selected, sky sources among them."""
        matches = match(catalog) if self.selector.usesMatches else None
        return self.selector.run(catalog, exposure=exposure, matches=matches)

    def _detect(
        self, result: CalibratedImage, adaptive: AdaptiveThreshold | None, ratio: np.ndarray | None
    ) -> DetectionResult:
        exposure = result.exposure
        if adaptive is None:
            return self.detection.run(
                exposure, background=result.background, background_to_photometric_ratio=ratio
            )
        n_matches = result.metadata.get("astrometry_matches_count", 0)
        return detect_stars_adaptively(
            self.detection, exposure, adaptive.value, adaptive.multiplier, n_matches
        )

    def _deblend(
        self, result: CalibratedImage, footprints: FootprintSet, sky: FootprintSet, ids: CatalogIdGenerator
    ) -> SourceCatalog:
        c = self.config
        if c.do_downsample_footprints and len(footprints) > c.downsample_max_footprints:
            rng = np.random.default_rng([ids.catalog_id, _DOWNSAMPLE])
            keep = np.sort(rng.choice(len(footprints), c.downsample_max_footprints, replace=False))
            footprints = footprints.take(keep)
        parents = rows_from_footprints(self.schema, footprints, ids)
        return assemble_rows(parents, ids, sky=sky, deblended=self.deblend.run(result.exposure, parents))

    def _count(self, result: CalibratedImage, catalog: SourceCatalog) -> None:
        real = ~catalog["sky_source"]
        result.metadata["post_deblend_source_count"] = int(np.sum(real))
        result.metadata["failed_deblend_source_count"] = int(np.sum(real & catalog["deblend_failed"]))
        result.metadata["saturated_source_count"] = int(np.sum(catalog["base_PixelFlags_flag_saturated"]))
        result.metadata["bad_source_count"] = int(np.sum(catalog["base_PixelFlags_flag_bad"]))
