"""The variance plane of an image, and the pixels that are saturated or hold no data."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.companions import companion_file
from zeropoint.instruments.image_file import read_plane
from zeropoint.instruments.noise import pixel_noise, variance_from_counts
from zeropoint.instruments.values import ImageContext

__all__ = ["mark_no_data", "mark_saturation", "read_variance", "saturation_level"]

FloatImage = npt.NDArray[np.float32]
Gain = float | FloatImage


def read_variance(
    context: ImageContext,
    adu: FloatImage,
    gain: Gain,
    read_noise: Gain,
    good: npt.NDArray[np.bool_],
    caveats: list[str],
) -> FloatImage:
    """Return the variance plane in electrons squared; NaN where there is no data.

    Parameters
    ----------
    context
        The image.
    adu : float32, shape (h, w)
        Pixels above the pedestal.
    gain, read_noise : float or float32, shape (h, w)
        e-/ADU and electrons.
    good : bool, shape (h, w)
        Pixels fit for measuring the noise.
    caveats
        Receives a sentence where the noise had to be measured.

    Raises
    ------
    InvalidInputError
        If the card's plane is missing, has another shape or no valid pixel.
    """
    spec = context.card.get("variance")
    plane = None if spec is None else _plane(context, spec, adu.shape)
    if plane is None:
        return _modelled(adu, gain, read_noise, good, caveats)
    kind = spec.get("kind", "variance")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        value = {"weight": lambda: 1.0 / plane, "sigma": lambda: plane**2, "variance": lambda: plane}[kind]()
        variance = np.where((plane > 0) & np.isfinite(value), value, np.float32(np.nan))
    if not np.isfinite(variance).any():
        raise InvalidInputError(
            f"{context.path}: the {kind} plane is zero (or not finite) everywhere; check `variance:` in "
            f"{context.card.source}."
        )
    return (variance * np.square(gain)).astype(np.float32)


def _plane(context: ImageContext, spec: dict[str, object], shape: tuple[int, ...]) -> FloatImage | None:
    path = companion_file(context, "variance")
    if path is None:
        return None
    try:
        plane = read_plane(path, spec.get("hdu", 0)).astype(np.float32)
    except KeyError:
        if spec.get("optional"):
            return None
        raise InvalidInputError(
            f"{path}: has no image in HDU {spec.get('hdu', 0)!r} for the variance; correct variance.hdu in "
            f"{context.card.source}."
        ) from None
    if plane.shape != shape:
        sizes = [" x ".join(str(n) for n in reversed(s)) for s in (plane.shape, shape)]
        raise InvalidInputError(
            f"{path}: the variance plane has {sizes[0]} pixels, the image {context.path.name} {sizes[1]}."
        )
    return plane


def _modelled(
    adu: FloatImage, gain: Gain, read_noise: Gain, good: npt.NDArray[np.bool_], caveats: list[str]
) -> FloatImage:
    """Return photon plus read noise, and the noise of a sky that was subtracted."""
    electrons = adu * np.asarray(gain, np.float32)
    values = electrons[good]
    if values.size == 0:
        return variance_from_counts(electrons, read_noise)
    sky = float(np.median(values))
    predicted = max(sky, 0.0) + float(np.mean(np.square(read_noise)))
    measured = pixel_noise(electrons, good) ** 2
    if measured > 2.0 * predicted:
        caveats.append(
            f"the noise is {np.sqrt(measured / max(predicted, 1e-30)):.3g} times what gain, read noise and sky level "
            "give (was the sky subtracted?): the variance is taken from the pixels"
        )
        return variance_from_counts(electrons, read_noise, subtracted_sky=measured - predicted)
    return variance_from_counts(electrons, read_noise)


def mark_no_data(
    image: FloatImage, variance: FloatImage, mask: npt.NDArray[np.int32], finite: npt.NDArray[np.bool_]
) -> None:
    """Set NO_DATA, and harmless values, where pixel or variance is not finite; in place."""
    good = finite & np.isfinite(variance)
    if good.all():
        return
    mask[~good] |= np.int32(bitmask(["NO_DATA"]))
    image[~finite] = np.median(image[good]) if good.any() else 0.0
    variance[~good] = np.median(variance[good]) if good.any() else 1.0


def saturation_level(context: ImageContext) -> float | None:
    """Return the level above which a pixel is saturated, ADU with pedestal; None if the card knows none."""
    raw = context.resolve("saturation", context.card.get("saturation"))
    return None if raw is None else context.number("saturation", raw)


def mark_saturation(
    context: ImageContext, adu: FloatImage, pedestal: float, mask: npt.NDArray[np.int32], caveats: list[str]
) -> None:
    """Set SATURATED, grown by one pixel, in place; note it when the camera card knows no saturation."""
    level = saturation_level(context)
    if level is None:
        planes = (context.card.get("mask") or {}).get("planes") or {}
        in_mask = {"SATURATED", "SAT"} & set(planes) or (mask & np.int32(bitmask(["SATURATED"]))).any()
        if not in_mask:
            caveats.append("no saturation level known: saturated stars may be used as good ones")
        return
    # a star's flat top lies within noise of the level
    saturated = adu >= np.float32(0.995 * (level - pedestal))
    if not saturated.any():
        return
    if saturated[np.isfinite(adu)].all():
        caveats.append(
            f"every pixel is above the saturation level of {level:g} ADU; if the image is not saturated, correct "
            f"`saturation:` (or `pedestal:`) in {context.card.source}"
        )
    mask[_grown(saturated)] |= np.int32(bitmask(["SATURATED"]))


def _grown(flagged: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return flagged pixels and their eight neighbours."""
    rows = flagged.copy()
    rows[1:] |= flagged[:-1]
    rows[:-1] |= flagged[1:]
    grown = rows.copy()
    grown[:, 1:] |= rows[:, :-1]
    grown[:, :-1] |= rows[:, 1:]
    return grown
