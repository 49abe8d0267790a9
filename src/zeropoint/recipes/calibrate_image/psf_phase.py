"""First half of CalibrateImage: bright stars, the PSF, aperture corrections."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from zeropoint.datamodel.catalog import Schema, SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.footprint_table import SourceFootprints
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.datamodel.psf_model import GaussianPsf
from zeropoint.detection.source_detection import DetectionResult
from zeropoint.errors import AllCentroidsFlaggedError, NoStarsForShapeletsError, ObjectSizeNoSourcesError
from zeropoint.psf.shapelets import ShapeletsResult
from zeropoint.recipes.calibrate_image.config import CalibrateImageConfig
from zeropoint.recipes.calibrate_image.record import CalibratedImage
from zeropoint.recipes.catalogs import rows_from_footprints
from zeropoint.recipes.record import StageTimer, note_psf_order

__all__ = ["AdaptiveThreshold", "PsfPhase"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class AdaptiveThreshold:
    """Threshold and include multiplier on which the adaptive detection settled."""

    value: float
    multiplier: float


class PsfPhase:
    """Steps up to the aperture corrections, in the order of the production task.

    Parameters
    ----------
    config
        The recipe's configuration.
    schema
        PSF-phase schema; the steps append their columns.
    """

    def __init__(self, config: CalibrateImageConfig, schema: Schema) -> None:
        self.config, self.schema = config, schema
        c = config
        self.install_simple_psf = c.install_simple_psf.apply()
        self.repair = c.psf_repair.apply()
        self.subtract_background = c.psf_subtract_background.apply()
        self.shapelets = None
        if c.do_compute_shapelet_decomposition:
            self.shapelets = c.compute_shapelet_decomposition.apply(schema=schema)
        self.detection = c.psf_detection.apply(schema=schema)
        self.measurement = c.psf_source_measurement.apply(schema=schema)
        self.adaptive_detection = c.psf_adaptive_threshold_detection.apply()
        self.measure_psf = c.psf_measure_psf.apply(schema=schema)
        self.normalized_flux = c.psf_normalized_calibration_flux.apply(schema=schema)
        self.aperture_correction = c.measure_aperture_correction.apply(schema=schema)
        self.shapelets_result: ShapeletsResult | None = None

    def run(
        self, result: CalibratedImage, timer: StageTimer, ids: CatalogIdGenerator, ratio: np.ndarray | None
    ) -> AdaptiveThreshold | None:
        """Establish background, PSF, clean pixels and aperture corrections on the result, in place.

        Returns
        -------
        adaptive
            The threshold found, or None in plain two-pass mode.
        """
        exposure = result.exposure
        seed = ids.catalog_id
        self.shapelets_result = None
        with timer.stage("background") as numbers:
            self.install_simple_psf.run(exposure)
            fit = self.subtract_background.run(exposure, None, background_to_photometric_ratio=ratio)
            result.background = fit.background
            numbers["sky"] = float(exposure.metadata.get("BGMEAN", np.nan))
        with timer.stage("detection") as numbers:
            self.repair.run(exposure, keepCRs=True)
            detection, adaptive = self._detect(result, ratio)
            self._count(result, detection, "initial_psf")
            numbers.update(sources=len(detection.positive))
        catalog = rows_from_footprints(self.schema, detection.positive, ids)
        if len(catalog) == 0:
            raise ObjectSizeNoSourcesError(
                "No source was detected for the PSF: is the image exposed, and is its background sane?"
            )
        with timer.stage("measurement"):
            self._measure_shapelets(exposure, catalog)
            self.measurement.run(exposure, catalog, seed=seed)
            self._update_shapelets(catalog)
        with timer.stage("psf") as numbers:
            fit_psf = self.measure_psf.run(exposure, catalog, exp_id=seed)
            if adaptive is None:
                catalog, fit_psf = self._second_pass(result, ids, ratio)
            result.psf_fit = fit_psf
            note_psf_order(result, fit_psf.metadata)
            sigma = exposure.psf.sigma() if exposure.psf is not None else float("nan")
            result.metadata["final_psf_sigma"] = sigma
            numbers.update(sigma_pix=sigma, used=fit_psf.n_good, candidates=fit_psf.n_available)
        with timer.stage("repair") as numbers:
            numbers["cosmic_rays"] = self.repair.run(exposure).cosmic_ray_count
            result.metadata["cosmic_ray_count"] = numbers["cosmic_rays"]
        with timer.stage("measurement_2"):
            self.measurement.run(exposure, catalog, seed=seed)
        result.psf_stars_footprints = SourceFootprints.of(catalog)
        self._require_centroids(exposure, catalog)
        with timer.stage("aperture_corrections"):
            entries = self.normalized_flux.run(exposure, catalog).ap_corr_map
            exposure.ap_corr_map = {**self.aperture_correction.run(exposure, catalog).ap_corr_map, **entries}
        result.psf_stars = catalog
        return adaptive

    def _detect(
        self, result: CalibratedImage, ratio: np.ndarray | None
    ) -> tuple[DetectionResult, AdaptiveThreshold | None]:
        exposure, c = result.exposure, self.config
        if not c.do_adaptive_threshold_detection:
            detection = self.detection.run(
                exposure, background=result.background, background_to_photometric_ratio=ratio
            )
            return detection, None
        found = self.adaptive_detection.run(
            exposure,
            initial_threshold=c.psf_detection.thresholdValue,
            initial_multiplier=c.psf_detection.includeThresholdMultiplier,
            band=exposure.visit_info.band,
        )
        result.metadata["psf_adaptive_threshold_value"] = found.threshold
        result.metadata["psf_adaptive_include_threshold_multiplier"] = found.multiplier
        exposure.metadata["PSF_ADAPTIVE_THRESHOLD_VALUE"] = found.threshold
        exposure.metadata["PSF_ADAPTIVE_INCLUDE_THRESHOLD_MULTIPLIER"] = found.multiplier
        return found.detection, AdaptiveThreshold(found.threshold, found.multiplier)

    def _second_pass(
        self, result: CalibratedImage, ids: CatalogIdGenerator, ratio: np.ndarray | None
    ) -> tuple[SourceCatalog, Any]:
        """Detect, measure and fit again with a Gaussian of the first PSF's size (plain mode only)."""
        exposure = result.exposure
        assert exposure.psf is not None
        exposure.psf = GaussianPsf(exposure.psf.sigma(), exposure.psf.size, exposure.psf.average_position)
        self.repair.run(exposure, keepCRs=True)
        detection, _ = self._detect(result, ratio)
        self._count(result, detection, "simple_psf")
        catalog = rows_from_footprints(self.schema, detection.positive, ids)
        self.measurement.run(exposure, catalog, seed=ids.catalog_id)
        return catalog, self.measure_psf.run(exposure, catalog, exp_id=ids.catalog_id)

    def _count(self, result: CalibratedImage, detection: DetectionResult, prefix: str) -> None:
        result.metadata[f"{prefix}_positive_footprint_count"] = len(detection.positive)
        result.metadata[f"{prefix}_negative_footprint_count"] = len(detection.negative)
        result.metadata[f"{prefix}_positive_peak_count"] = detection.n_positive_peaks
        result.metadata[f"{prefix}_negative_peak_count"] = detection.n_negative_peaks

    def _measure_shapelets(self, exposure: Exposure, catalog: SourceCatalog) -> None:
        """Rough image quality; a diagnostic, so too few stars for it is only noted."""
        if self.shapelets is None:
            return
        try:
            self.shapelets_result = self.shapelets.run(exposure, catalog)
        except NoStarsForShapeletsError as error:
            _LOG.info("no rough shapelet decomposition: %s", error)

    def _update_shapelets(self, catalog: SourceCatalog) -> None:
        if self.shapelets is not None and self.shapelets_result is not None:
            self.shapelets_result = self.shapelets.update_iq_score(self.shapelets_result, catalog)

    def _require_centroids(self, exposure: Exposure, catalog: SourceCatalog) -> None:
        if not catalog["slot_Centroid_flag"].all():
            return
        shapes = (
            exposure.psf.shapes(
                *[], x=[exposure.psf.average_position[0]], y=[exposure.psf.average_position[1]]
            )
            if exposure.psf
            else None
        )
        score = self.shapelets_result.shapeletsIqScore if self.shapelets_result else float("nan")
        raise AllCentroidsFlaggedError(
            f"The centroids of all {len(catalog)} sources are flagged: the PSF or the image is unusable.",
            shapelets_iq_score=float(score),
            n_sources=len(catalog),
            psf_shape_ixx=float(shapes.xx[0]) if shapes else float("nan"),
            psf_shape_iyy=float(shapes.yy[0]) if shapes else float("nan"),
            psf_shape_ixy=float(shapes.xy[0]) if shapes else float("nan"),
            psf_size=float(shapes.determinant_radius[0]) if shapes else float("nan"),
        )
