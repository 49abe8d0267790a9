"""What the older calibration of one image has established."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from astropy.table import Table

from zeropoint.astrometry.solve import AstrometryResult
from zeropoint.datamodel.background import BackgroundList
from zeropoint.datamodel.catalog import SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.footprint_table import SourceFootprints
from zeropoint.photometry.photocal import PhotoCalResult
from zeropoint.recipes.calibrate.config import CalibrateConfig
from zeropoint.recipes.record import ImageRecord

__all__ = ["CalibratedExposure"]

#: Columns of the matches without those of sources and references.
_LINKS = {"ref_id": "refId", "src_id": "srcId", "distance": "distance", "used": "used"}


@dataclass
class CalibratedExposure(ImageRecord):
    """Everything that calibrating one characterized image has established; what was not reached is None.

    Parameters
    ----------
    exposure
        The image in electrons, with the fitted WCS and ``photo_calib``.
    sources
        Catalogue with fluxes in electrons, known once it is measured; its coordinates are those of the fitted WCS.
    footprints
        Footprints of the sources.
    matches
        Matches of the astrometry with the sources: ``ref_*``, ``src_*``, ``distance`` (rad), ``used``.
    match_metadata
        Where the references of ``matches`` were loaded.
    photometry_matches
        Matches of the photometry: the same, and ``residual`` (mag).
    astrometry, photometry
        Results of the fits; the rows of ``astrometry`` are those of its own, brighter catalogue.
    config
        The configuration used, derived settings included.

    Notes
    -----
    `~zeropoint.recipes.record.ImageRecord` has the fields that all recipes share.
    """

    sources: SourceCatalog | None = None
    footprints: SourceFootprints | None = None
    matches: Table | None = None
    match_metadata: dict[str, Any] = field(default_factory=dict)
    photometry_matches: Table | None = None
    astrometry: AstrometryResult | None = None
    photometry: PhotoCalResult | None = None
    config: CalibrateConfig | None = None

    @property
    def normalized_matches(self) -> Table | None:
        """The matches as ids of reference and source, distance (rad) and whether the fit used them."""
        if self.matches is None:
            return None
        table = Table(meta=dict(self.match_metadata))
        for name, short in _LINKS.items():
            table[short] = self.matches[name]
        return table

    @property
    def outputExposure(self) -> Exposure:
        """The exposure, as the task's output is called."""
        return self.exposure

    @property
    def outputBackground(self) -> BackgroundList | None:
        """The background, as the task's output is called."""
        return self.background

    @property
    def outputCat(self) -> SourceCatalog | None:
        """The sources, as the task's output is called."""
        return self.sources

    @property
    def sourceCat(self) -> SourceCatalog | None:
        """The sources, as the task's result is called."""
        return self.sources

    @property
    def astromMatches(self) -> Table | None:
        """The matches, as the task's result is called."""
        return self.matches
