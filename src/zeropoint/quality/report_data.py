"""What metrics, verdict, plots and report are made of: plain inputs, none of them computed here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table

from zeropoint.datamodel.exposure import AB_FLUX_NJY, Exposure, PhotoCalib

if TYPE_CHECKING:
    from lsst.images import ObservationSummaryStats

    from zeropoint.datamodel.background import BackgroundList

__all__ = ["ReportData"]


@dataclass(frozen=True)
class ReportData:
    """Everything known about one calibrated (or partly calibrated) image; what was not reached is None.

    Parameters
    ----------
    stem
        Name of the image, as in the names of its products.
    image_path
        The file that was calibrated.
    exposure
        The exposure in its final state; ``psf``, ``wcs`` and ``photo_calib`` may be None.
    unit
        Unit of the pixels and of ``background``: ``nJy`` or ``electron``.
    summary
        Summary statistics, in electrons.
    stars, psf_stars
        Catalogues of the deep phase and of the PSF phase, with Rubin's columns (``slot_*`` included).
    astrometry_matches, photometry_matches
        One row a match: ``ref_*``, ``src_*``, ``distance`` (radians) and, if known, ``used``.
    background
        What was subtracted.
    metadata
        The numbers that Rubin's task writes to its metadata.
    stages
        ``(name, CPU seconds, wall seconds, numbers)`` of each finished stage, in order.
    caveats
        Sentences on what was estimated instead of known; each keeps the verdict from being good.
    notes
        Sentences on settings derived from the image; without effect on the verdict.
    config_changes
        ``(field, value, class default)`` of the fields that differ.
    versions
        Version of each package.
    failure
        Why processing ended early, or None.
    camera, band, references
        Names of the camera, of the band and of the reference catalogue.
    extra
        Scalars computed by the fits, under the names in `zeropoint.quality.metrics.EXTRA_NAMES`; others are
        passed on.
    flux_scale
        nJy per electron that was applied to the pixels (the mean, if it varies); 1 if none was.
    photo_calib
        The fitted calibration, nJy per electron, whether applied to the pixels or not.
    flux_column
        Column of the instrumental flux that the zeropoint belongs to.
    reference_flux
        Column of the reference flux, without ``ref_``; empty: that of the image's band.
    """

    stem: str
    image_path: str
    exposure: Exposure
    unit: str = "electron"
    summary: ObservationSummaryStats | None = None
    stars: Table | None = None
    psf_stars: Table | None = None
    astrometry_matches: Table | None = None
    photometry_matches: Table | None = None
    background: BackgroundList | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    stages: list[tuple[str, float, float, dict[str, Any]]] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    config_changes: list[tuple[str, Any, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    failure: Exception | None = None
    camera: str = ""
    band: str = ""
    references: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    flux_scale: float = 1.0
    photo_calib: PhotoCalib | None = None
    flux_column: str = "slot_CalibFlux_instFlux"
    reference_flux: str = ""

    @property
    def zeropoint(self) -> float:
        """AB magnitude of one electron over the exposure; NaN if photometry was not reached."""
        if self.flux_scale != 1.0:
            return float(2.5 * np.log10(AB_FLUX_NJY / self.flux_scale))
        if self.unit == "electron" and self.exposure.photo_calib is not None:
            return self.exposure.photo_calib.zeropoint
        return float("nan") if self.summary is None else float(self.summary.zeroPoint)

    @property
    def zeropoint_err(self) -> float:
        """Its one-sigma error, mag; NaN if unknown."""
        calib = self.exposure.photo_calib
        if calib is None or not calib.calibration_err > 0:
            return float("nan")
        return float(2.5 / np.log(10.0) * calib.calibration_err / calib.calibration_mean)

    @property
    def pixel_scale(self) -> float:
        """Arcsec per pixel in the middle of the image; NaN without a WCS."""
        if self.exposure.wcs is None:
            return float("nan")
        height, width = self.exposure.shape
        return float(self.exposure.wcs.pixel_scale(x=0.5 * (width - 1), y=0.5 * (height - 1)))
