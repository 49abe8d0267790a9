"""CalibrateImage in plain Python: one or two post-ISR exposures in, a calibrated image out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zeropoint.catalogs.references import (
    ReferenceCatalog,
    ReferenceObjectLoader,
    SkyRegion,
    source_density_deg2,
)
from zeropoint.catalogs.selectors import MatchedReferences
from zeropoint.datamodel.catalog import SourceCatalog
from zeropoint.datamodel.exposure import Exposure, VisitInfo
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import CalibrationFailure, InvalidInputError
from zeropoint.kernels.statistics import good_values, median_and_std
from zeropoint.photometry.calibrate import calibrate_catalog, calibrate_pixels_in_place, calibrated_columns
from zeropoint.photometry.direct_match import match_references
from zeropoint.photometry.header import magzero_metadata
from zeropoint.recipes.calibrate_image.catalogs import (
    copy_psf_star_columns,
    psf_schema_start,
    star_schema_start,
)
from zeropoint.recipes.calibrate_image.config import CalibrateImageConfig
from zeropoint.recipes.calibrate_image.derived import adapted_loader, derived_config
from zeropoint.recipes.calibrate_image.psf_phase import PsfPhase
from zeropoint.recipes.calibrate_image.record import CalibratedImage
from zeropoint.recipes.calibrate_image.star_phase import StarPhase
from zeropoint.recipes.catalogs import denormalize_matches, photometry_matches
from zeropoint.recipes.image_checks import mask_fractions, require_unsaturated
from zeropoint.recipes.record import StageTimer, keep_failure

__all__ = ["CalibrateImage"]


class CalibrateImage:
    """Compute PSF, aperture corrections, WCS and zeropoint of one detector image, and a catalogue of its stars.

    Parameters
    ----------
    config
        Configuration; class defaults are Rubin's.

    Notes
    -----
    The order of steps is that of CalibrateImageTask of the LSST Science Pipelines (2026).  The output
    schemas are known once the recipe is constructed: `psf_schema`, `star_schema`.
    """

    ConfigClass = CalibrateImageConfig

    def __init__(self, config: CalibrateImageConfig | None = None) -> None:
        self.config = config if config is not None else CalibrateImageConfig()
        self.config.validate()
        c = self.config
        self.snap_combine = c.snap_combine.apply()
        # construction order is column order
        self.psf_schema = psf_schema_start()
        self.psf_phase = PsfPhase(c, self.psf_schema)
        self.astrometry = c.astrometry.apply(schema=self.psf_schema)
        self.star_schema = star_schema_start(self.psf_schema)
        self.star_phase = StarPhase(c, self.star_schema)
        self.photometry = c.photometry.apply(schema=self.star_schema)
        self.star_schema.add(*calibrated_columns(self.star_schema))
        self.summary = c.compute_summary_stats.apply()

    def run(
        self,
        exposures: Exposure | Sequence[Exposure],
        *,
        astrometry_references: ReferenceObjectLoader | None,
        photometry_references: ReferenceObjectLoader | None,
        id_generator: CatalogIdGenerator | None = None,
        illumination_correction: np.ndarray | None = None,
        initial_wcs: SkyWcs | None = None,
        exposure_region: SkyRegion | None = None,
        label: str = "image",
        on_stage: Callable[[str], None] | None = None,
    ) -> CalibratedImage:
        """Calibrate one visit of one detector; the first exposure is modified in place.

        Parameters
        ----------
        exposures
            One exposure, or two snaps of one visit; electrons.
        astrometry_references, photometry_references
            Reference loaders.
        id_generator
            Packs row ids and gives the seed; default: ids count from 1, seed 0.
        illumination_correction : float32, shape (h, w), optional
            Divides the image when ``do_illumination_correction``.
        initial_wcs
            Replaces the exposure's own (see `zeropoint.astrometry.boresight`).
        exposure_region
            Part of the sky from which references are loaded, instead of the image's box and a margin.
        label
            Name for the log.
        on_stage
            Called with each stage's name as it begins.

        Returns
        -------
        result : CalibratedImage

        Raises
        ------
        InvalidInputError
            If an input cannot be used: no reference catalogue or none with the band, no initial WCS, an illumination
            correction that is missing, does not fit, or asks for a flat-fielded image.
        CalibrationFailure
            If the image cannot be calibrated. The exception's ``record`` is the `CalibratedImage` as far as it
            got.
        """
        ids = id_generator if id_generator is not None else CatalogIdGenerator.trivial()
        snaps = [exposures] if isinstance(exposures, Exposure) else list(exposures)
        result = CalibratedImage(snaps[0])
        timer = StageTimer(result, label, on_stage)
        with timer.stage("snaps") as numbers:
            exposure = result.exposure = self.snap_combine.run(snaps)
            numbers["n"] = len(snaps)
        if initial_wcs is not None:
            exposure.wcs = initial_wcs
        if exposure.wcs is None:
            raise InvalidInputError(f"{label}: the image has no initial WCS.")
        # what several snaps have in common is said once
        result.caveats = list(dict.fromkeys(text for snap in snaps for text in snap.caveats))
        references = References(
            _required(astrometry_references, "astrometry"),
            _required(photometry_references, "photometry"),
        ).within(exposure_region)
        recipe, references = self._adapted(result, references)
        recipe._run(result, timer, ids, references, illumination_correction)
        return result

    def require_bands(self, photometry_references: ReferenceObjectLoader, visit_info: VisitInfo) -> None:
        """Check, before any work on pixels, that references have the bands for an image's photometry.

        Parameters
        ----------
        photometry_references
            The loader.
        visit_info
            Its band and filter are those of the image.

        Raises
        ------
        InvalidInputError
            If the catalogue lacks a band, or the colour-term library the catalogue or the filter.
        """
        photometry_references.flux_field(visit_info.band)
        self.photometry.require_bands(photometry_references.source.bands, visit_info.physical_filter)

    def _adapted(self, result: CalibratedImage, references: References) -> tuple[CalibrateImage, References]:
        """Return the recipe and references with the settings derived from the image; what was set is recorded."""
        exposure = result.exposure
        self.require_bands(references.photometry, exposure.visit_info)
        config = result.config = derived_config(self.config, result, references.astrometry)
        if references.astrometry.source.lacks_epoch and np.isfinite(exposure.visit_info.mjd_tai):
            result.notes.append("the reference catalogue has no epochs: proper motions are not applied")
        recipe = self if config is self.config else type(self)(config)
        references = references.adapted(result.derived)
        # a band that is missing is an error now, not after the work
        references.astrometry.flux_field(exposure.visit_info.band)
        return recipe, references

    def _run(
        self,
        result: CalibratedImage,
        timer: StageTimer,
        ids: CatalogIdGenerator,
        references: References,
        illumination_correction: np.ndarray | None,
    ) -> None:
        self._correct_illumination(result, illumination_correction)
        try:
            self._calibrate(result, timer, ids, references)
        except CalibrationFailure as failure:
            self._abandon(result, failure)
            raise
        self._finish(result, timer)

    # -- the chain ----------------------------------------------------------------------------------

    def _calibrate(
        self, result: CalibratedImage, timer: StageTimer, ids: CatalogIdGenerator, references: References
    ) -> None:
        exposure, ratio = result.exposure, result.background_to_photometric_ratio
        require_unsaturated(exposure)
        catalogue = self._load(result, references, "astrometry")
        adaptive = self.psf_phase.run(result, timer, ids, ratio)
        psf_stars = result.psf_stars
        assert psf_stars is not None
        with timer.stage("astrometry") as numbers:
            # the initial WCS serves until this fit; a failure leaves none
            fit = self.astrometry.run(exposure, psf_stars, catalogue)
            result.astrometry = fit
            result.astrometry_matches = denormalize_matches(
                catalogue, psf_stars, fit.match_ref, fit.match_src, fit.distance_rad, {"used": fit.used}
            )
            result.metadata["astrometry_matches_count"] = len(fit.match_ref)
            result.metadata["initial_to_final_wcs"] = fit.initial_to_final_wcs
            result.metadata["astrom_offset_mean"] = fit.offset_mean
            result.metadata["astrom_offset_std"] = fit.offset_std
            result.metadata["astrom_offset_median"] = fit.offset_median
            numbers.update(matches=len(fit.match_ref), median_arcsec=fit.offset_median)

        def match(catalog: SourceCatalog) -> MatchedReferences:
            # the photometric references, because theirs are the bands of the image
            radius = self.config.photometry.match.matchRadius
            return match_references(catalog, self._load(result, references, "photometry"), radius)

        stars = self.star_phase.run(result, timer, ids, adaptive, ratio, match)
        assert exposure.psf is not None
        with timer.stage("match_psf_stars") as numbers:
            centre = exposure.psf.sigma(x=0.5 * (exposure.shape[1] - 1), y=0.5 * (exposure.shape[0] - 1))
            numbers["matched"] = copy_psf_star_columns(psf_stars, stars, max(3.0, centre))
            result.metadata["matched_psf_star_count"] = numbers["matched"]
        result.stars = stars
        result.metadata["star_count"] = int(np.sum(~stars["sky_source"]))
        self.astrometry.check(exposure, stars, len(fit.match_ref))
        self._fit_photometry(result, timer, references)

    def _load(self, result: CalibratedImage, references: References, purpose: str) -> ReferenceCatalog:
        exposure = result.exposure
        assert exposure.wcs is not None
        loader = references.astrometry if purpose == "astrometry" else references.photometry
        catalogue = loader.load(
            exposure.wcs,
            exposure.shape,
            band=exposure.visit_info.band,
            mjd_tai=exposure.visit_info.mjd_tai,
        )
        if purpose == "astrometry":
            density = source_density_deg2(catalogue, exposure.wcs, exposure.shape)
            exposure.metadata["REF_CAT_SOURCE_DENSITY"] = density
            result.metadata["ref_cat_source_density"] = density
        return catalogue

    def _fit_photometry(self, result: CalibratedImage, timer: StageTimer, references: References) -> None:
        exposure, stars = result.exposure, result.stars
        assert stars is not None
        with timer.stage("photometry") as numbers:
            catalogue = self._load(result, references, "photometry")
            fit = self.photometry.run(exposure, stars, catalogue)
            result.photometry = fit
            exposure.photo_calib = fit.photo_calib
            calibrate_catalog(stars, fit.photo_calib)
            result.photometry_matches = photometry_matches(catalogue, stars, fit)
            result.metadata["photometry_matches_count"] = len(fit.match_ref)
            result.notes += fit.notes
            header = magzero_metadata(fit, exposure.visit_info.exposure_time)
            # the file's card MAGZERO is that of its pixels' unit
            result.metadata.update({key: value for key, value in header.items() if key != "MAGZERO"})
            numbers.update(zeropoint=fit.zp, sigma=fit.sigma, stars=fit.n_good)

    # -- the tail -----------------------------------------------------------------------------------

    def _finish(self, result: CalibratedImage, timer: StageTimer) -> None:
        exposure = result.exposure
        with timer.stage("summary"):
            self._summarize(result)
            self._background_statistics(result)
            result.metadata.update(mask_fractions(exposure))
        if self.config.do_calibrate_pixels:
            assert exposure.photo_calib is not None
            assert result.background is not None
            with timer.stage("calibrate_pixels"):
                result.applied_photo_calib = exposure.photo_calib
                result.background = calibrate_pixels_in_place(
                    exposure, result.background, exposure.photo_calib
                )

    def _abandon(self, result: CalibratedImage, failure: CalibrationFailure) -> None:
        """Leave only what was established, summarise it, and attach the record to the exception."""
        exposure = result.exposure
        if not result.reached("psf"):
            exposure.psf = None
        if not result.reached("match_psf_stars") or exposure.wcs is None or result.astrometry is None:
            exposure.wcs = None
        if not result.reached("photometry"):
            exposure.photo_calib = None
        keep_failure(result, failure, lambda: self._summarize(result))

    def _summarize(self, result: CalibratedImage) -> None:
        result.summary = self.summary.run(
            result.exposure,
            result.psf_stars if result.stars is None else result.stars,
            result.background,
            shapelets=self.psf_phase.shapelets_result,
            astrometry=result.astrometry,
        )

    def _background_statistics(self, result: CalibratedImage) -> None:
        exposure, config = result.exposure, self.config
        ignored = [
            *config.psf_subtract_background.ignoredPixelMask,
            *config.background_stats_ignored_pixel_masks,
        ]
        median, std = median_and_std(good_values(exposure.image, exposure.mask, bitmask(ignored)))
        result.metadata["bg_subtracted_skyPixel_instFlux_median"] = median
        result.metadata["bg_subtracted_skyPixel_instFlux_stdev"] = std
        stars = result.stars
        assert stars is not None
        name = config.background_stats_flux_column
        sky = stars[name][stars["sky_source"]] if name in stars else np.zeros(0)
        sky = sky[np.isfinite(sky)]
        result.metadata["bg_subtracted_skySource_flux_median"] = (
            float(np.median(sky)) if sky.size else float("nan")
        )
        result.metadata["bg_subtracted_skySource_flux_stdev"] = (
            float(np.std(sky)) if sky.size else float("nan")
        )

    def _correct_illumination(self, result: CalibratedImage, correction: np.ndarray | None) -> None:
        """Divide by the illumination correction in place, and record it as the ratio for background fits.

        Where the correction is not a positive number nothing is divided, and the pixels get NO_DATA.
        """
        exposure = result.exposure
        exposure.metadata["LSST CALIB ILLUMCORR APPLIED"] = False
        if not self.config.do_illumination_correction:
            return
        if correction is None:
            raise InvalidInputError(
                "do_illumination_correction is set but no illumination correction was given."
            )
        if not exposure.metadata.get("LSST ISR FLAT APPLIED", False):
            raise InvalidInputError(
                "do_illumination_correction needs a flat-fielded image (header LSST ISR FLAT APPLIED is not True)."
            )
        if correction.shape != exposure.shape:
            raise InvalidInputError(
                f"The illumination correction has {correction.shape[1]} x {correction.shape[0]} pixels, the image "
                f"{exposure.shape[1]} x {exposure.shape[0]}."
            )
        usable = np.isfinite(correction) & (correction > 0)
        ratio = np.where(usable, correction, 1).astype(np.float32)
        exposure.image /= ratio
        exposure.variance /= ratio**2
        exposure.set_mask(~usable, "NO_DATA")
        exposure.metadata["LSST CALIB ILLUMCORR APPLIED"] = True
        result.background_to_photometric_ratio = ratio


@dataclass(frozen=True)
class References:
    """Where the references of one image come from.

    Parameters
    ----------
    astrometry, photometry
        The loaders.
    """

    astrometry: ReferenceObjectLoader
    photometry: ReferenceObjectLoader

    def within(self, region: SkyRegion | None) -> References:
        """Return the references restricted to a region, if there is one."""
        if region is None:
            return self
        return References(self.astrometry.within(region), self.photometry.within(region))

    def adapted(self, derived: dict[str, Any]) -> References:
        """Return the references with loaders configured as derived for an image."""
        return References(
            adapted_loader(self.astrometry, "astrometry_ref_loader", derived),
            adapted_loader(self.photometry, "photometry_ref_loader", derived),
        )


def _required(loader: ReferenceObjectLoader | None, purpose: str) -> ReferenceObjectLoader:
    if loader is None:
        raise InvalidInputError(f"No reference catalogue for {purpose}: pass --references.")
    return loader
