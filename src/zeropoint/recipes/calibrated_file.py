"""Calibrated images as ``lsst.images`` stores them, nJy or not, back to the working exposure in electrons."""

from __future__ import annotations

import astropy.units as u
import numpy as np
from lsst.images import VisitImage

from zeropoint.datamodel.background_fields import chebyshev_polynomial
from zeropoint.datamodel.exposure import Exposure, FloatImage, PhotoCalib
from zeropoint.errors import InvalidInputError
from zeropoint.recipes.characterized_file import attach_psf_in_place
from zeropoint.recipes.post_isr import exposure_from_visit_image, exposure_of_pixels, image_name

__all__ = ["calibrated_exposure", "image_photo_calib"]

_CALIBRATION = u.nJy / u.electron


def calibrated_exposure(image: VisitImage) -> Exposure:
    """Return the working exposure of a calibrated image, in electrons, with all its calibrations.

    Parameters
    ----------
    image
        A calibrated image of a detector, of CalibrateImage or Calibrate, in nJy (or another flux density) or in
        electrons; not changed.

    Returns
    -------
    exposure
        With ``psf``, ``wcs`` and ``ap_corr_map``; ``photo_calib`` is None where photometry had failed. Pixels in
        electrons are shared with the image, others are the image's over its ``photometric_scaling``. Coordinates
        count from the first pixel.

    Raises
    ------
    InvalidInputError
        If it has another type or unit; no PSF but a nominal one; pixels that are flux densities without the
        ``photometric_scaling`` that says of how many electrons; or a calibration of a kind that is not known here.
    """
    if not isinstance(image, VisitImage):
        raise InvalidInputError(
            f"A calibrated image must be an lsst.images.VisitImage, not {type(image).__name__}."
        )
    calib = image_photo_calib(image)
    if image.unit is not None and image.unit.is_equivalent(u.nJy):
        exposure = _in_electrons(image, calib)
    else:
        exposure = exposure_from_visit_image(image)
    exposure.photo_calib = calib
    attach_psf_in_place(exposure, image)
    return exposure


def image_photo_calib(image: VisitImage) -> PhotoCalib | None:
    """Return the photometric calibration of an image, nJy per electron, applied to its pixels or not.

    Its error is not part of an image, and 0.

    Raises
    ------
    InvalidInputError
        If ``photometric_scaling`` is no Chebyshev polynomial, or has another unit.
    """
    scaling = image.photometric_scaling
    if scaling is None:
        return None
    name = image_name(image)
    try:
        field = chebyshev_polynomial(scaling)
    except TypeError as error:
        raise InvalidInputError(f"{name}: photometric_scaling: {error}") from None
    if scaling.unit is None or not scaling.unit.is_equivalent(_CALIBRATION):
        raise InvalidInputError(f"{name}: photometric_scaling is in {scaling.unit}, not in nJy / electron.")
    field = field.scaled(float(scaling.unit.to(_CALIBRATION)))
    if field.coefficients.size == 1:
        return PhotoCalib(float(field.coefficients[0, 0]))
    return PhotoCalib(field.mean(), field=field)


def _in_electrons(image: VisitImage, calib: PhotoCalib | None) -> Exposure:
    """Return the exposure of an image in units of flux density."""
    if calib is None:
        raise InvalidInputError(
            f"{image_name(image)}: the pixels are in {image.unit}, but photometric_scaling does not say how much of it "
            "an electron is."
        )
    unit = float(image.unit.to(u.nJy))
    scale: FloatImage | np.float32
    if calib.field is None:
        scale = np.float32(calib.calibration_mean / unit)
    else:
        scale = calib.field.scaled(1.0 / unit).image()
    pixels = np.asarray(image.image.array / scale, np.float32)
    variance = np.asarray(image.variance.array / (scale * scale), np.float32)
    exposure = exposure_of_pixels(image, pixels, variance)
    # what the header said of the unit is no longer true
    exposure.metadata["BUNIT"] = "electron"
    return exposure
