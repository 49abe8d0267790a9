"""What CharacterizeImage hands to Calibrate, as ``lsst.images`` stores it, and back without the loss of a bit."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from lsst.images import VisitImage

from zeropoint.datamodel.background_fields import chebyshev_polynomial
from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.psf_model import PsfModel
from zeropoint.errors import InvalidInputError
from zeropoint.psf.piff_io import from_lsst_psf
from zeropoint.psf.psf_text import psf_from_text, psf_to_text
from zeropoint.recipes.calibrate_image.products import to_visit_image
from zeropoint.recipes.characterize_image.record import CharacterizedImage
from zeropoint.recipes.post_isr import (
    NOMINAL_PSF,
    PSF_MODEL,
    exposure_from_visit_image,
    exposure_marks,
)

__all__ = ["attach_psf_in_place", "characterized_exposure", "characterized_image", "schema_from_arrow"]

_LOG = logging.getLogger(__name__)

#: PSFs that differ by less are one; fraction of the sum of all pixels.
_SAME = 1e-9
_DTYPES = {"int64": "i8", "int32": "i4", "double": "f8", "float": "f4", "bool": "bool"}


def characterized_image(record: CharacterizedImage) -> VisitImage:
    """Return a characterized image whose PSF and WCS are established; it shares the pixels.

    Parameters
    ----------
    record
        Result of the recipe.

    Notes
    -----
    The metadata hold the numbers of the recipe, and what the forms of lsst-images would change in the last digits: PSF
    and WCS (``psf.model``, ``wcs.polynomial``).
    """
    exposure = record.exposure
    assert exposure.psf is not None
    # the caveats of the record are those of the exposure, and more
    marks = {key: value for key, value in exposure_marks(exposure).items() if not key.startswith("caveat.")}
    return to_visit_image(record, {**marks, PSF_MODEL: psf_to_text(exposure.psf)})


def characterized_exposure(image: VisitImage) -> Exposure:
    """Return the working exposure of a characterized image, in electrons, with PSF and aperture corrections.

    Parameters
    ----------
    image
        From `characterized_image`, or from elsewhere.

    Raises
    ------
    InvalidInputError
        If it has another type or unit, no PSF but a nominal one, or a PSF or aperture corrections of a kind that is
        not known here.
    """
    exposure = exposure_from_visit_image(image)
    attach_psf_in_place(exposure, image)
    return exposure


def attach_psf_in_place(exposure: Exposure, image: VisitImage) -> None:
    """Give a working exposure the PSF and the aperture corrections of its image, in place.

    Raises
    ------
    InvalidInputError
        If the image has no PSF but a nominal one, or a PSF or aperture corrections of a kind that is not known here.
    """
    metadata = image.metadata
    name = f"exposure {exposure.visit_info.exposure} detector {exposure.detector.id}"
    if metadata.get(NOMINAL_PSF, False):
        raise InvalidInputError(f"{name}: the image has no PSF; characterize it first.")
    exposure.psf = _psf(image, metadata.get(PSF_MODEL), exposure.shape, name)
    exposure.ap_corr_map = {
        key: _correction(field, f"{name}, {key}") for key, field in image.aperture_corrections.items()
    }


def schema_from_arrow(schema: Any) -> Schema:
    """Return a catalogue's schema of the Arrow schema of its table.

    Parameters
    ----------
    schema : pyarrow.Schema
        Units and descriptions are metadata of the fields; columns of other types than a catalogue has are left out.
    """
    result = Schema()
    for field in schema:
        dtype = _DTYPES.get(str(field.type))
        if dtype is None:
            continue
        about = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        result.add(ColumnSpec(field.name, dtype, about.get("unit", ""), about.get("description", "")))
    return result


def _psf(image: VisitImage, text: Any, shape: tuple[int, int], name: str) -> PsfModel:
    """Return the PSF; the text counts only where it agrees with the PSF that the image has."""
    try:
        stored = from_lsst_psf(image.psf)
    except TypeError as error:
        raise InvalidInputError(f"{name}: {error}") from None
    # coordinates count from the first pixel here
    x0, y0 = image.bbox.x.start, image.bbox.y.start
    if x0 or y0:
        raise InvalidInputError(
            f"{name}: the image begins at pixel ({x0}, {y0}), not at (0, 0); its PSF cannot be used."
        )
    if text is None:
        return stored
    try:
        exact = psf_from_text(str(text), stored)
    except ValueError as error:
        raise InvalidInputError(f"{name}: metadata {PSF_MODEL!r}: {error}.") from None
    x, y = (np.array([0.1, 0.5, 0.9]) * side for side in (shape[1], shape[0]))
    same = exact.size == stored.size and bool(
        np.abs(exact.kernel_stamps(x=x, y=y) - stored.kernel_stamps(x=x, y=y)).max() < _SAME
    )
    if not same:
        _LOG.warning("%s: the PSF has been replaced since the image was characterized.", name)
    return exact if same else stored


def _correction(field: Any, name: str) -> ChebyshevPolynomial:
    try:
        return chebyshev_polynomial(field)
    except TypeError as error:
        raise InvalidInputError(f"{name}: {error}") from None
