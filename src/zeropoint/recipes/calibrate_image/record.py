"""What a recipe has established so far: facts in order, not flags."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy.table import Table
from lsst.images import ObservationSummaryStats

from zeropoint.astrometry.solve import AstrometryResult
from zeropoint.datamodel.background import BackgroundList
from zeropoint.datamodel.catalog import SourceCatalog
from zeropoint.datamodel.exposure import Exposure, PhotoCalib
from zeropoint.datamodel.footprint_table import SourceFootprints
from zeropoint.errors import CalibrationFailure
from zeropoint.photometry.photocal import PhotoCalResult
from zeropoint.psf.measure_psf import MeasurePsfResult
from zeropoint.recipes.calibrate_image.config import CalibrateImageConfig

__all__ = ["STAGE_NAMES", "CalibratedImage", "Stage", "StageTimer"]

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

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """One finished stage: its name, what it cost, and its two or three numbers."""

    name: str
    cpu_seconds: float
    wall_seconds: float
    numbers: dict[str, Any]


@dataclass
class CalibratedImage:
    """Everything that calibrating one image has established; what was not reached is None.

    Parameters
    ----------
    exposure
        The working exposure: nJy after success with ``do_calibrate_pixels``, else electrons. Its ``psf``, ``wcs``
        and ``photo_calib`` are None where not established.
    background
        Subtracted background, in the unit of the pixels.
    psf_stars_footprints, stars_footprints
        Footprints of the PSF phase's sources, known once the PSF is, and of the selected stars.
    psf_stars, stars
        Catalogues of the PSF phase (all detections), complete once the aperture corrections are measured, and of
        the deep phase (selected), complete once the PSF stars are found among them.
    astrometry_matches, photometry_matches
        Matches with ``ref_*``, ``src_*`` and ``distance`` (rad) columns.
    applied_photo_calib
        The calibration that was applied to the pixels.
    psf_fit, astrometry, photometry
        Results of the fits.
    summary
        Summary statistics.
    stages
        Finished stages in order.
    background_to_photometric_ratio : float32, shape (h, w)
        The illumination correction that was applied.
    config
        The configuration used, derived settings included.
    derived
        Settings derived from the image (dotted field -> value).
    notes, caveats
        Sentences on derived settings, and on what was estimated or assumed.
    metadata
        The numbers that Rubin's task writes to its metadata, and ``derived.<field>``.
    failure
        Why processing ended early, or None.
    """

    exposure: Exposure
    background: BackgroundList | None = None
    psf_stars_footprints: SourceFootprints | None = None
    psf_stars: SourceCatalog | None = None
    stars_footprints: SourceFootprints | None = None
    stars: SourceCatalog | None = None
    astrometry_matches: Table | None = None
    photometry_matches: Table | None = None
    applied_photo_calib: PhotoCalib | None = None
    psf_fit: MeasurePsfResult | None = None
    astrometry: AstrometryResult | None = None
    photometry: PhotoCalResult | None = None
    summary: ObservationSummaryStats | None = None
    background_to_photometric_ratio: np.ndarray | None = None
    config: CalibrateImageConfig | None = None
    derived: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    failure: CalibrationFailure | None = None


class StageTimer:
    """Record stages on a result, timing each and logging one INFO line.

    Parameters
    ----------
    result
        The record under construction.
    label
        Image name for the log.
    on_stage
        Called with the stage's name when it begins (progress bars).
    """

    def __init__(self, result: CalibratedImage, label: str, on_stage: Any = None) -> None:
        self._result, self._label, self._on_stage = result, label, on_stage

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Time one stage; numbers put into the yielded dict are recorded."""
        if self._on_stage is not None:
            self._on_stage(name)
        numbers: dict[str, Any] = {}
        cpu, wall = time.process_time(), time.perf_counter()
        yield numbers
        stage = Stage(name, time.process_time() - cpu, time.perf_counter() - wall, numbers)
        self._result.stages.append(stage)
        shown = ", ".join(f"{key} {_short(value)}" for key, value in numbers.items())
        _LOG.info("%s: %s: %s (%.2f s)", self._label, name, shown or "done", stage.wall_seconds)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
