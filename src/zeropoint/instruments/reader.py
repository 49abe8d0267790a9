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
from zeropoint.instruments.masks import read_mask
from zeropoint.instruments.noise import estimate_gain
from zeropoint.instruments.observation import amplifier_map, detector_info, id_limits, visit_info
from zeropoint.instruments.pointing import initial_wcs, pointing_degrees, pointing_uncertainty
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
    """

    exposure: Exposure
    stem: str
    path: Path
    card: CameraCard
    ids: tuple[int, int] = (1 << 28, 1 << 8)

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
    raw_pedestal = context.resolve("pedestal", card.get("pedestal"))
    pedestal = 0.0 if raw_pedestal is None else context.number("pedestal", raw_pedestal)
    if pedestal:
        adu = adu - np.float32(pedestal)
    mask = read_mask(context, adu.shape)
    finite = np.isfinite(adu)
    good = finite & (mask == 0)
    gain = _gain(context, adu, good, caveats)
    read_noise = _read_noise(context, gain, adu.shape)
    variance = read_variance(context, adu, gain, read_noise, good, caveats)
    image = adu * np.asarray(gain, np.float32)
    mark_no_data(image, variance, mask, finite)
    mark_saturation(context, adu, pedestal, mask, caveats)
    _check_usable(context, mask)
    exposure = Exposure(
        image,
        variance,
        mask,
        detector_info(context, gain, read_noise, adu.shape),
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
    return LoadedImage(exposure, context.stem, Path(path), card, id_limits(context))


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


def _gain(
    context: ImageContext, adu: npt.NDArray[np.float32], good: npt.NDArray[np.bool_], caveats: list[str]
) -> float | npt.NDArray[np.float32]:
    """Return e-/ADU: one number, or an image where amplifiers differ."""
    raw = context.resolve("gain", context.card.get("gain"))
    value: float | None = None
    if raw is not None and raw != "estimate":
        value = context.number("gain", raw)
        if not (np.isfinite(value) and value > 0):
            raise InvalidInputError(
                f"{context.path}: gain is {value:g} e-/ADU; it must be positive. Correct `gain:` in "
                f"{context.card.source}."
            )
    by_amplifier = amplifier_map(context, "gain", value, adu.shape)
    if by_amplifier is not None:
        return by_amplifier
    if value is not None:
        return value
    if raw is None and context.card.get("gain") is not None:
        raise InvalidInputError(
            f"{context.path}: no gain: the header lacks the key that camera card {context.card.source} names. "
            "Give `gain:` a number (e-/ADU), another key, or `estimate`."
        )
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


def _read_noise(
    context: ImageContext, gain: float | npt.NDArray[np.float32], shape: tuple[int, ...]
) -> float | npt.NDArray[np.float32]:
    """Return electrons: one number, or an image where amplifiers differ."""
    spec = context.card.get("read_noise", 0.0)
    raw = context.resolve("read_noise", spec)
    value = 0.0 if raw is None else context.number("read_noise", raw)
    if not (np.isfinite(value) and value >= 0):
        raise InvalidInputError(
            f"{context.path}: read noise is {value:g}; it must not be negative. Correct `read_noise:` in "
            f"{context.card.source}."
        )
    unit = spec.get("unit", "electron") if isinstance(spec, dict) else "electron"
    by_amplifier = amplifier_map(context, "read_noise", value, shape)
    noise: float | npt.NDArray[np.float32] = value if by_amplifier is None else by_amplifier
    if unit == "adu_variance":
        noise = np.sqrt(noise)
    return noise if unit == "electron" else noise * gain
