"""What updating a summary needs of the images: their masks, and their pixels where the background changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import astropy.units as u
import numpy as np
from lsst.images import BackgroundMap, Box, Mask, VisitImage

from zeropoint.datamodel.background import BackgroundComponent
from zeropoint.datamodel.background_fields import background_list
from zeropoint.datamodel.exposure import DetectorInfo, Exposure, MaskImage, PhotoCalib, VisitInfo
from zeropoint.datamodel.visit_info import visit_info
from zeropoint.errors import InvalidInputError
from zeropoint.recipes.calibrated_file import calibrated_exposure, image_photo_calib
from zeropoint.recipes.post_isr import detector_info, image_name, mask_bits

__all__ = [
    "ImageFacts",
    "ImageHandle",
    "background_in_electrons",
    "image_facts",
    "with_background_subtracted",
]


#: Cells along each side of a background that was stored as a polynomial alone.
_CELLS = 16


class ImageHandle(Protocol):
    """A calibrated image that is read when it is needed, as the Butler's deferred datasets are."""

    def get(self, *, component: str | None = None, parameters: dict[str, Any] | None = None) -> Any:
        """Return the image, a component of it, or the part of it in the box ``parameters["bbox"]``."""


@dataclass(frozen=True)
class ImageFacts:
    """Everything but the pixels.

    Parameters
    ----------
    name
        For messages.
    bbox
        Pixels.
    mask : int32, shape (height, width)
        Bit planes of `zeropoint.datamodel.mask_planes`.
    detector, visit
        Where and when.
    """

    name: str
    bbox: Box
    mask: MaskImage
    detector: DetectorInfo
    visit: VisitInfo


def image_facts(image: VisitImage | ImageHandle) -> ImageFacts:
    """Return what an image says besides its pixels, which are not read.

    Parameters
    ----------
    image
        Image, or where it can be had.
    """
    if isinstance(image, VisitImage):
        mask, part = image.mask, image
    else:
        mask = image.get(component="mask")
        assert isinstance(mask, Mask)
        # one pixel comes with everything that is not pixels
        y0, x0 = mask.bbox.y.start, mask.bbox.x.start
        part = image.get(parameters={"bbox": Box.factory[y0 : y0 + 1, x0 : x0 + 1]})
    name = image_name(part)
    return ImageFacts(
        name,
        mask.bbox,
        mask_bits(mask, name),
        detector_info(part, mask.bbox),
        visit_info(part.obs_info, part.band, name),
    )


def background_in_electrons(background: BackgroundMap, image: VisitImage) -> Iterator[BackgroundComponent]:
    """Return the components of a background with the values of their cells in electrons.

    Parameters
    ----------
    background
        In flux density or electrons; without a unit, in that of the image.
    image
        The image it was or will be subtracted from; its calibration says what an electron is.
    """
    calib = _scale(background, image)
    for component in map(_with_cells, background_list(background)):
        x, y = component.x_centers[None, :], component.y_centers[:, None]
        values = component.values
        if component.factor is not None:
            values = values * component.factor(x=x, y=y)
        if calib is not None:
            values = values / calib.at(x=x, y=y)
        yield replace(component, values=values)


def _with_cells(component: BackgroundComponent) -> BackgroundComponent:
    """Return a background of which nothing but a polynomial is known with cells that have its values."""
    if component.polynomial is None or component.values.size > 1:
        return component
    x, y = ((np.arange(_CELLS) + 0.5) * side / _CELLS - 0.5 for side in (component.width, component.height))
    values = component.polynomial(x=x[None, :], y=y[:, None])
    return replace(component, values=values, errors=np.full_like(values, np.nan), x_centers=x, y_centers=y)


def with_background_subtracted(image: VisitImage, layer: BackgroundMap) -> Exposure:
    """Return the working exposure of an image, in electrons, with one more background subtracted.

    Parameters
    ----------
    image
        Calibrated image; not changed.
    layer
        Background, as for `background_in_electrons`.
    """
    calib = _scale(layer, image)
    exposure = calibrated_exposure(image)
    components = background_list(layer)
    if len(components) == 0:
        return exposure
    level = components.image()
    if level.shape != exposure.shape:
        raise InvalidInputError(
            f"{image_name(image)}: the background to be subtracted is {level.shape} pixels, the image {exposure.shape}."
        )
    if calib is not None:
        level /= np.float32(calib.calibration_mean) if calib.field is None else calib.field.image()
    exposure.image = exposure.image - level
    return exposure


def _scale(background: BackgroundMap, image: VisitImage) -> PhotoCalib | None:
    """Return what divides a background to make it electrons, None where it is already."""
    subtracted = background.subtracted
    unit = image.unit if subtracted is None or subtracted.field.unit is None else subtracted.field.unit
    if unit == u.electron:
        return None
    calib = image_photo_calib(image)
    if unit is None or not unit.is_equivalent(u.nJy) or calib is None:
        why = "the image has no photometric_scaling" if calib is None else "only electron and nJy are known"
        raise InvalidInputError(f"{image_name(image)}: the background is in {unit}, and {why}.")
    factor = float(u.nJy.to(unit))
    field = None if calib.field is None else calib.field.scaled(factor)
    return PhotoCalib(calib.calibration_mean * factor, field=field)
