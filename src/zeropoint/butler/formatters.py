"""How the Butler reads and writes our images."""

from __future__ import annotations

from typing import Any

import astropy.io.fits
from lsst.daf.butler import DatasetProvenance
from lsst.images import VisitImage
from lsst.images.formatters import GenericFormatter

from zeropoint.datamodel.header_cards import add_ordinary_cards

__all__ = ["VisitImageFormatter"]


class VisitImageFormatter(GenericFormatter):
    """Visit images as lsst-images writes them, with ordinary header cards besides.

    Notes
    -----
    Lossless, unless the repository's configuration names a recipe (``lossy16``). The Butler writes every file under
    a temporary name and moves it into place when it is complete.
    """

    _image: VisitImage | None = None

    def add_provenance(
        self, in_memory_dataset: Any, /, *, provenance: DatasetProvenance | None = None
    ) -> Any:
        """Remember the image, whose cards the header gets when it is written."""
        self._image = in_memory_dataset
        return super().add_provenance(in_memory_dataset, provenance=provenance)

    def _update_header(self, header: astropy.io.fits.Header) -> None:
        super()._update_header(header)
        if isinstance(self._image, VisitImage):
            add_ordinary_cards(header, self._image)
