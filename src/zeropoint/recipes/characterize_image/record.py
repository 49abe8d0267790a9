"""What characterizing one image has established."""

from __future__ import annotations

from dataclasses import dataclass

from zeropoint.datamodel.background import BackgroundList
from zeropoint.datamodel.catalog import SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.footprint_table import SourceFootprints
from zeropoint.psf.candidates import PsfCandidates
from zeropoint.psf.measure_psf import MeasurePsfResult
from zeropoint.recipes.characterize_image.config import CharacterizeImageConfig
from zeropoint.recipes.record import ImageRecord

__all__ = ["CharacterizedImage"]


@dataclass
class CharacterizedImage(ImageRecord):
    """Everything that characterizing one image has established; what was not reached is None.

    Parameters
    ----------
    exposure
        The image in electrons: background subtracted, cosmic rays repaired, with PSF and aperture corrections; its
        WCS is the one it came with.
    catalog
        Sources with fluxes in electrons, complete once the catalogue calculations are done.
    footprints
        Their footprints, known once the PSF is.
    psf_fit
        The PSF and its candidates; None without ``doMeasurePsf``.
    config
        The configuration used, derived settings included.

    Notes
    -----
    `~zeropoint.recipes.record.ImageRecord` has the fields that all recipes share.
    """

    catalog: SourceCatalog | None = None
    footprints: SourceFootprints | None = None
    psf_fit: MeasurePsfResult | None = None
    config: CharacterizeImageConfig | None = None

    @property
    def characterized(self) -> Exposure:
        """The exposure, as the task's output is called."""
        return self.exposure

    @property
    def backgroundModel(self) -> BackgroundList | None:
        """The background, as the task's output is called."""
        return self.background

    @property
    def sourceCat(self) -> SourceCatalog | None:
        """The catalogue, as the task's result is called."""
        return self.catalog

    @property
    def psfCellSet(self) -> PsfCandidates | None:
        """The PSF candidates, as the task's result is called."""
        return None if self.psf_fit is None else self.psf_fit.candidates
