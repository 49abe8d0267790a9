"""What calibrating one image has established."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from zeropoint.astrometry.solve import AstrometryResult
from zeropoint.datamodel.catalog import SourceCatalog
from zeropoint.datamodel.footprint_table import SourceFootprints
from zeropoint.photometry.photocal import PhotoCalResult
from zeropoint.psf.measure_psf import MeasurePsfResult
from zeropoint.recipes.calibrate_image.config import CalibrateImageConfig
from zeropoint.recipes.record import ImageRecord

__all__ = ["STAGE_NAMES", "CalibratedImage"]

#: Stages of a full run, in order.
STAGE_NAMES = (
    "read",
    "snaps",
    "background",
    "detection",
    "measurement",
    "psf",
    "repair",
    "measurement_2",
    "aperture_corrections",
    "astrometry",
    "star_background",
    "star_detection",
    "deblend",
    "star_measurement",
    "star_catalog",
    "match_psf_stars",
    "photometry",
    "summary",
    "calibrate_pixels",
)


@dataclass
class CalibratedImage(ImageRecord):
    """Everything that calibrating one image has established; what was not reached is None.

    Parameters
    ----------
    exposure
        The working exposure: nJy after success with ``do_calibrate_pixels``, else electrons. Its ``psf``, ``wcs``
        and ``photo_calib`` are None where not established.
    psf_stars_footprints, stars_footprints
        Footprints of the PSF phase's sources, known once the PSF is, and of the selected stars.
    psf_stars, stars
        Catalogues of the PSF phase (all detections), complete once the aperture corrections are measured, and of
        the deep phase (selected), complete once the PSF stars are found among them.
    astrometry_matches, photometry_matches
        Matches with ``ref_*``, ``src_*`` and ``distance`` (rad) columns.
    psf_fit, astrometry, photometry
        Results of the fits.
    background_to_photometric_ratio : float32, shape (h, w)
        The illumination correction that was applied.
    config
        The configuration used, derived settings included.

    Notes
    -----
    `~zeropoint.recipes.record.ImageRecord` has the fields that all recipes share.
    """

    psf_stars_footprints: SourceFootprints | None = None
    psf_stars: SourceCatalog | None = None
    stars_footprints: SourceFootprints | None = None
    stars: SourceCatalog | None = None
    astrometry_matches: Table | None = None
    photometry_matches: Table | None = None
    psf_fit: MeasurePsfResult | None = None
    astrometry: AstrometryResult | None = None
    photometry: PhotoCalResult | None = None
    background_to_photometric_ratio: np.ndarray | None = None
    config: CalibrateImageConfig | None = None
