"""Gain, read noise and pedestal as the camera card and the headers state them, without the pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeropoint.errors import InvalidInputError
from zeropoint.instruments.observation import amplifier_map
from zeropoint.instruments.values import ImageContext

__all__ = ["pedestal", "read_noise", "stated_gain"]


def pedestal(context: ImageContext) -> float:
    """Return the ADU to subtract first."""
    raw = context.resolve("pedestal", context.card.get("pedestal"))
    return 0.0 if raw is None else context.number("pedestal", raw)


def stated_gain(context: ImageContext, shape: tuple[int, ...]) -> float | npt.NDArray[np.float32] | None:
    """Return e-/ADU: one number, or an image where amplifiers differ; None where it is to be estimated.

    Raises
    ------
    InvalidInputError
        If it is not a positive number, or the header lacks the key that the card names.
    """
    raw = context.resolve("gain", context.card.get("gain"))
    value: float | None = None
    if raw is not None and raw != "estimate":
        value = context.number("gain", raw)
        if not (np.isfinite(value) and value > 0):
            raise InvalidInputError(
                f"{context.path}: gain is {value:g} e-/ADU; it must be positive. Correct `gain:` in "
                f"{context.card.source}."
            )
    by_amplifier = amplifier_map(context, "gain", value, shape)
    if by_amplifier is not None:
        return by_amplifier
    if raw is None and context.card.get("gain") is not None:
        raise InvalidInputError(
            f"{context.path}: no gain: the header lacks the key that camera card {context.card.source} names. "
            "Give `gain:` a number (e-/ADU), another key, or `estimate`."
        )
    return value


def read_noise(
    context: ImageContext, gain: float | npt.NDArray[np.float32], shape: tuple[int, ...]
) -> float | npt.NDArray[np.float32]:
    """Return electrons: one number, or an image where amplifiers differ.

    Raises
    ------
    InvalidInputError
        If it is not a number, or negative.
    """
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
