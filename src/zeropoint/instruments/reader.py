"""From a FITS file and a camera card to a working exposure in electrons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard
from zeropoint.instruments.image_file import open_image
from zeropoint.instruments.levels import pedestal, read_noise, stated_gain
from zeropoint.instruments.masks import read_mask
from zeropoint.instruments.noise import estimate_gain
from zeropoint.instruments.observation import detector_info, id_limits, visit_info
from zeropoint.instruments.pointing import (
    BlindSearch,
    blind_search,
    initial_wcs,
    pointing_degrees,
    pointing_uncertainty,
)
from zeropoint.instruments.values import ImageContext
from zeropoint.instruments.variance import mark_no_data, mark_saturation, read_variance, saturation_level

__all__ = ["LoadedImage", "load_image"]


@dataclass(frozen=True)
class LoadedImage:
    """One image, ready to calibrate.

    Parameters
    ----------
    exposure
        Working exposure in electrons.
    stem
        Name under which outputs are written.
    path
        The file.
    card
        The card used.
    ids
        ``n_visits`` and ``n_detectors`` for catalogue ids.
    search
        How to find the image on the sky, where the camera card gives no WCS.
    """

    exposure: Exposure
    stem: str
    path: Path
    card: CameraCard
    ids: tuple[int, int] = (1 << 28, 1 << 8)
    search: BlindSearch | None = None

    @property
    def caveats(self) -> tuple[str, ...]:
        """Sentences on what was estimated or assumed."""
        return self.exposure.caveats


def load_image(path: str | Path, card: CameraCard) -> LoadedImage:
    """Read one image with its mask, variance, times and initial WCS.

    Parameters
    ----------
    path
        FITS file, plain or compressed.
    card
        The camera card.

    Returns
    -------
    loaded : LoadedImage

    Raises
    ------
    InvalidInputError
        If anything that the pipeline cannot do without is missing or unusable; the message names the file and
        the remedy.
    """
    context, adu = open_image(path, card)
    _check_pixels(context, adu)
    caveats: list[str] = []
    level = pedestal(context)
    if level:
        adu = adu - np.float32(level)
    mask = read_mask(context, adu.shape)
    finite = np.isfinite(adu)
    good = finite & (mask == 0)
    gain = stated_gain(context, adu.shape)
    if gain is None:
        gain = _estimated_gain(context, adu, good, caveats)
    noise = read_noise(context, gain, adu.shape)
    variance = read_variance(context, adu, gain, noise, good, caveats)
    image = adu * np.asarray(gain, np.float32)
    mark_no_data(image, variance, mask, finite)
    mark_saturation(context, adu, level, mask, caveats)
    _check_usable(context, mask)
    exposure = Exposure(
        image,
        variance,
        mask,
        detector_info(context, gain, noise, adu.shape),
        visit_info(context, adu, pointing_degrees(context), caveats),
        wcs=initial_wcs(context, adu.shape),
        pointing=pointing_uncertainty(context),
    )
    caveats.extend(
        f"the header has no {context.absent[name]}, which the camera card names for `{name}`"
        for name in ("pedestal", "read_noise", "saturation", "filter", "visit", "exposure")
        if name in context.absent
    )
    exposure.caveats = tuple(caveats)
    return LoadedImage(exposure, context.stem, Path(path), card, id_limits(context), blind_search(context))


def _check_pixels(context: ImageContext, adu: npt.NDArray[np.float32]) -> None:
    if min(adu.shape) < 64:
        raise InvalidInputError(
            f"{context.path}: image of {adu.shape[1]} x {adu.shape[0]} pixels is too small (64 at least)."
        )
    finite = adu[np.isfinite(adu)]
    if finite.size == 0:
        raise InvalidInputError(
            f"{context.path}: no pixel is finite; the image holds only NaN. Check image.hdu in {context.card.source}."
        )
    level = saturation_level(context)
    # an image at saturation is a spoiled image, not a wrong file
    if finite.min() == finite.max() and not (level is not None and finite[0] >= 0.995 * level):
        raise InvalidInputError(
            f"{context.path}: every pixel has the value {finite[0]:g}; there is nothing to calibrate. Check image.hdu "
            f"in {context.card.source}."
        )


def _check_usable(context: ImageContext, mask: npt.NDArray[np.int32]) -> None:
    usable = (mask & np.int32(bitmask(["BAD", "NO_DATA"]))) == 0
    if not usable.any():
        raise InvalidInputError(
            f"{context.path}: every pixel is masked or has no weight; check mask.planes and variance in "
            f"{context.card.source}."
        )


def _estimated_gain(
    context: ImageContext, adu: npt.NDArray[np.float32], good: npt.NDArray[np.bool_], caveats: list[str]
) -> float:
    """Return e-/ADU from the pixels."""
    estimate = estimate_gain(adu, good)
    if estimate is None:
        raise InvalidInputError(
            f"{context.path}: the gain cannot be estimated (sky level not above zero, or no noise); give `gain:` "
            f"in {context.card.source}."
        )
    caveats.append(
        f"gain estimated from sky level against noise: {estimate:.3g} e-/ADU (too large if a pedestal was not subtracted)"
    )
    return estimate
