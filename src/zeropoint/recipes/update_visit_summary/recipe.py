"""Make the final summary of a visit: replace components by final ones, and measure the statistics of those again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.table import Column, Table
from lsst.images import BackgroundMap, VisitImage
from lsst.images.cameras import CameraFrameSet

from zeropoint.datamodel.catalog import column, has_column
from zeropoint.datamodel.exposure_catalog import ExposureCatalog
from zeropoint.datamodel.exposure_components import encode_wcs
from zeropoint.errors import CalibrationFailure, InvalidInputError
from zeropoint.quality.residual_correlations import CORRELATION_STATISTICS, residual_correlations
from zeropoint.quality.summary import (
    BACKGROUND_STATISTICS,
    DEPTH_STATISTICS,
    PHOTO_CALIB_STATISTICS,
    PIXEL_STATISTICS,
    PSF_STATISTICS,
    STAR_STATISTICS,
    WCS_STATISTICS,
    ComputeExposureSummaryStatsConfig,
)
from zeropoint.quality.visit_summary import statistics_columns, statistics_table_columns
from zeropoint.recipes.update_visit_summary.choosers import PossiblyMultipleInput
from zeropoint.recipes.update_visit_summary.config import UpdateVisitSummaryConfig, healpix_level
from zeropoint.recipes.update_visit_summary.detector import DetectorUpdate, Overrides, stars_of
from zeropoint.recipes.update_visit_summary.images import ImageHandle
from zeropoint.recipes.update_visit_summary.record import UpdatedVisitSummary

__all__ = ["UpdateVisitSummary"]

_LOG = logging.getLogger(__name__)

#: Columns of the recipe: dtype, value where there is none, unit, description.
_COLUMNS: Mapping[str, tuple[str, Any, str | None, str]] = {
    "wcsTractId": ("i8", -1, None, "Tract that the WCS is from"),
    "wcsSkypixId": ("i8", -1, None, "HEALPix pixel (nested) that the WCS is from"),
    "wcs_corner_max_offset": ("f8", np.nan, "rad", "Farthest that the WCS moves a corner of the detector"),
    "photoCalibTractId": ("i8", -1, None, "Tract that the photometric calibration is from"),
    "wcs_sip_delta_sky": ("f8", np.nan, "rad", "Largest distance on the sky of the WCS from its FITS form"),
    "wcs_sip_delta_pixel": (
        "f8",
        np.nan,
        "pixel",
        "Largest distance in pixels of the WCS from its FITS form's inverse",
    ),
}
#: Statistics that are measured again where their ingredients change.
_MEASURED = (
    *WCS_STATISTICS,
    *PSF_STATISTICS,
    *STAR_STATISTICS,
    *CORRELATION_STATISTICS,
    *PHOTO_CALIB_STATISTICS,
    *BACKGROUND_STATISTICS,
    *PIXEL_STATISTICS,
    *DEPTH_STATISTICS,
)
_SIP = ("wcs_sip_delta_sky", "wcs_sip_delta_pixel")


class UpdateVisitSummary:
    """Make the final summary of a visit.

    Parameters
    ----------
    config
        Configuration.

    Examples
    --------
    From PSFs that were fitted again, with everything else as it was::

        recipe = UpdateVisitSummary(config)
        updated = recipe.run(summary, images, psf_overrides=psfs, ap_corr_overrides=psfs, psf_star_catalog=stars)
        updated.catalog.find(14).getPsf()
    """

    ConfigClass = UpdateVisitSummaryConfig

    def __init__(self, config: UpdateVisitSummaryConfig | None = None) -> None:
        self.config = config if config is not None else UpdateVisitSummaryConfig()
        self.compute_summary_stats = self.config.compute_summary_stats.apply()
        self.refit_pointing = self.config.refit_pointing.apply()
        self.fit_sip_approximations = self.config.fit_sip_approximations.apply()

    def output_catalog(self, catalog: ExposureCatalog) -> ExposureCatalog:
        """Return a preliminary summary with the columns that a final one has besides, not filled."""
        columns = {
            name: self._column(name, [_COLUMNS[name][1]] * len(catalog)) for name in self._new_columns()
        }
        if self.config.do_refit_pointing:
            columns.update(self.refit_pointing.columns(len(catalog)))
        return catalog.with_columns(columns)

    def run(
        self,
        input_summary_catalog: ExposureCatalog,
        input_exposures: Mapping[int, VisitImage | ImageHandle],
        psf_overrides: ExposureCatalog | None = None,
        psf_star_catalog: Table | pa.Table | None = None,
        ap_corr_overrides: ExposureCatalog | None = None,
        photo_calib_overrides: PossiblyMultipleInput | None = None,
        wcs_overrides: PossiblyMultipleInput | None = None,
        background_originals: Mapping[int, BackgroundMap | ImageHandle] | None = None,
        background_overrides: Mapping[int, BackgroundMap | ImageHandle] | None = None,
        camera: CameraFrameSet | None = None,
    ) -> UpdatedVisitSummary:
        """Return the final summary of a visit.

        Parameters
        ----------
        input_summary_catalog
            Preliminary summary; each of its rows gives one row.
        input_exposures
            Detector -> calibrated image, or where it can be had; nothing but mask and pixels is used.
        psf_overrides, ap_corr_overrides
            Catalogues with PSFs and aperture corrections.
        psf_star_catalog
            Stars with the shapes of these PSFs and ``detector``; needed with ``psf_overrides``.
        photo_calib_overrides, wcs_overrides
            Catalogues with photometric calibrations and WCSs.
        background_originals, background_overrides
            Detector -> background that was subtracted from the image, and that is to be subtracted besides.
        camera
            Camera model for ``do_refit_pointing``; without one nothing is compared, and columns are NaN.

        Returns
        -------
        UpdatedVisitSummary
            A component that is overridden, but not for some detector, is absent there, and the statistics that derive
            from it are unset; what is not overridden is as it was, with its statistics.

        Raises
        ------
        NoVisitWcs
            If no WCS agrees with the camera's geometry; its ``record`` is an `UpdatedVisitSummary` without WCSs.
        InvalidInputError
            If an input cannot be used.
        ValueError
            If there are PSFs without stars.
        """
        if psf_overrides is not None and psf_star_catalog is None:
            raise ValueError("psf_overrides need psf_star_catalog, from which statistics are measured.")
        _check_columns(input_summary_catalog)
        by_detector = {
            "input_exposures": input_exposures,
            "background_originals": background_originals,
            "background_overrides": background_overrides,
        }
        for name, datasets in by_detector.items():
            _check_detectors(input_summary_catalog, name, datasets)
        _check_stars(input_summary_catalog, psf_star_catalog)
        overrides = Overrides(
            psf_overrides,
            ap_corr_overrides,
            photo_calib_overrides,
            wcs_overrides,
            background_originals,
            background_overrides,
        )
        correlations: dict[str, float] = {}
        if psf_star_catalog is not None and psf_overrides is not None:
            correlations = residual_correlations(psf_star_catalog, self.compute_summary_stats.config)
            _say_columns_missing(psf_star_catalog, self.compute_summary_stats.config)
        updates = []
        for record in input_summary_catalog:
            update = DetectorUpdate(record, self.compute_summary_stats, self.config.wcs_consistency_threshold)
            image = input_exposures[record.id]
            update.run(image, overrides, stars_of(psf_star_catalog, record.id), correlations)
            updates.append(update)
        catalog = self._catalog(input_summary_catalog, updates)
        reasons = {update.record.id: dict(update.reasons) for update in updates}
        if self.config.do_refit_pointing:
            result = self._refit_pointing(catalog, reasons, camera)
        else:
            result = UpdatedVisitSummary(catalog, reasons)
        if self.config.do_fit_sip_approximations:
            result = self._with_sip(result)
        _log(result)
        return result

    def _new_columns(self) -> list[str]:
        """Return the names of the recipe's own columns, in their order."""
        config, names = self.config, []
        if config.wcs_provider != "input_summary":
            if config.wcs_provider == "tract":
                names.append("wcsTractId")
            elif healpix_level(config.wcs_provider) is not None:
                names.append("wcsSkypixId")
            names.append("wcs_corner_max_offset")
        if config.photo_calib_provider == "tract":
            names.append("photoCalibTractId")
        return names + (list(_SIP) if config.do_fit_sip_approximations else [])

    def _column(self, name: str, values: Sequence[Any]) -> Column:
        dtype, _, unit, description = _COLUMNS[name]
        return Column(np.array(values, dtype), unit=unit, description=description)

    def _catalog(self, catalog: ExposureCatalog, updates: Sequence[DetectorUpdate]) -> ExposureCatalog:
        """Return the catalogue with what was found for each detector."""
        texts = {name: tuple(update.texts[name] for update in updates) for name in catalog.texts}
        statistics = statistics_table_columns(update.statistics for update in updates)
        columns = {name: values for name, values in statistics.items() if name in _MEASURED}
        for name in self._new_columns():
            values = [update.columns.get(name, _COLUMNS[name][1]) for update in updates]
            columns[name] = self._column(name, values)
        return self.output_catalog(ExposureCatalog(catalog.table, texts)).with_columns(columns)

    def _refit_pointing(
        self, catalog: ExposureCatalog, reasons: dict[int, dict[str, str]], camera: CameraFrameSet | None
    ) -> UpdatedVisitSummary:
        """Return the summary without the WCSs that the camera's geometry contradicts, and with regions."""
        if camera is None:
            _LOG.info("There is no camera model: WCSs are not compared with the camera's geometry.")
        try:
            refit = self.refit_pointing.run(catalog, camera)
        except CalibrationFailure as failure:
            changed = _without_wcs(failure.record.catalog, failure.record.removed, reasons)
            failure.record = UpdatedVisitSummary(changed, reasons, numbers={"has_camera": camera is not None})
            raise
        numbers = {
            "has_camera": camera is not None,
            "n_wcs_rejected": len(refit.rejected),
            "n_wcs_removed": len(refit.removed),
        }
        changed = _without_wcs(refit.catalog, refit.removed, reasons)
        return UpdatedVisitSummary(changed, reasons, refit.geometry, numbers)

    def _with_sip(self, result: UpdatedVisitSummary) -> UpdatedVisitSummary:
        """Return the summary with the FITS form of every WCS."""
        catalog = result.catalog
        texts, deltas = [], []
        for record in catalog:
            text, delta = record.texts["wcs"], (np.nan, np.nan)
            projection, box = record.sky_projection, record.getBBox()
            if projection is not None and box is not None:
                approximation = self.fit_sip_approximations.run(projection, box)
                delta = (approximation.delta_sky_rad, approximation.delta_pixel)
                if approximation.projection is not projection:
                    text = encode_wcs(
                        approximation.projection,
                        box=box,
                        instrument="",
                        visit=record.visit,
                        detector=record.id,
                    )
            texts.append(text)
            deltas.append(delta)
        columns = {name: self._column(name, [delta[i] for delta in deltas]) for i, name in enumerate(_SIP)}
        changed = ExposureCatalog(catalog.table, {**catalog.texts, "wcs": tuple(texts)}).with_columns(columns)
        return UpdatedVisitSummary(changed, result.reasons, result.visit_geometry, result.numbers)


def _check_columns(catalog: ExposureCatalog) -> None:
    """Raise if a summary has no columns for statistics that are measured again."""
    missing = [name for name in _MEASURED if name not in catalog.table.colnames]
    if missing:
        raise InvalidInputError(
            f"input_summary_catalog has no column {', '.join(missing)}; is it a visit summary?"
        )


def _check_detectors(catalog: ExposureCatalog, name: str, datasets: Mapping[int, Any] | None) -> None:
    """Raise unless there is a dataset for every detector of a summary."""
    missing = [record for record in catalog if datasets is not None and record.id not in datasets]
    if missing:
        raise InvalidInputError(
            f"{name} lacks detector {', '.join(str(record.id) for record in missing)} of visit {missing[0].visit}, which "
            "the summary has."
        )


def _check_stars(catalog: ExposureCatalog, stars: Table | pa.Table | None) -> None:
    """Raise if a table of stars says that it is of another visit than a summary."""
    if stars is None or not has_column(stars, "visit"):
        return
    visits = {record.visit for record in catalog}
    others = sorted(set(np.unique(column(stars, "visit")).tolist()) - visits)
    if visits and others:
        raise InvalidInputError(
            f"input_summary_catalog is of visit {', '.join(map(str, sorted(visits)))}, but psf_star_catalog has stars of "
            f"visit {', '.join(map(str, others))}."
        )


def _say_columns_missing(stars: Table | pa.Table, config: ComputeExposureSummaryStatsConfig) -> None:
    """Warn of columns of stars without which statistics are unset."""
    shapes = [f"{base}_{part}" for base in (config.starShape, config.psfShape) for part in ("xx", "yy", "xy")]
    for names, what in (
        (shapes, "all statistics of shapes, and correlations of residuals,"),
        (("coord_ra", "coord_dec"), "correlations of residuals"),
    ):
        missing = [name for name in names if not has_column(stars, name)]
        if missing:
            _LOG.warning(
                "psf_star_catalog has no column %s: %s are unset in the whole visit.",
                ", ".join(missing),
                what,
            )


def _without_wcs(
    catalog: ExposureCatalog, removed: Sequence[int], reasons: dict[int, dict[str, str]]
) -> ExposureCatalog:
    """Return the catalogue without the statistics of the WCSs that were removed; notes why in ``reasons``, in place."""
    gone = np.isin(catalog.ids, list(removed))
    if not gone.any():
        return catalog
    columns = {}
    for statistic in statistics_columns():
        if statistic.name in WCS_STATISTICS:
            values = catalog.table[statistic.name].copy()
            values[gone] = np.nan
            columns[statistic.name] = values
    for detector in removed:
        reasons.setdefault(int(detector), {})["wcs"] = "the camera's geometry contradicts it"
    return catalog.with_columns(columns)


def _log(result: UpdatedVisitSummary) -> None:
    numbers = result.metadata
    visits = sorted({record.visit for record in result.catalog})
    _LOG.info(
        "Visit %s: %d of %d detectors have all of WCS, PSF, aperture corrections and photometric calibration.",
        ", ".join(str(visit) for visit in visits),
        numbers["n_complete"],
        numbers["n_detectors"],
    )
    for detector, why in result.reasons.items():
        for component, reason in why.items():
            _LOG.info("Detector %d has no %s: %s.", detector, component, reason)
