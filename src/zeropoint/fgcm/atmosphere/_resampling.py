"""Arrays on other wavelengths."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeropoint.errors import InvalidInputError

__all__ = ["Resampling"]

FloatArray = npt.NDArray[np.float64]


class Resampling:
    """Linear interpolation along the last axis, exact where wavelengths coincide.

    Parameters
    ----------
    old, new
        Wavelengths in Angstrom, in any order.

    Raises
    ------
    InvalidInputError
        If ``new`` is not a list of numbers within the range of ``old``.
    """

    def __init__(self, old: FloatArray, new: npt.ArrayLike) -> None:
        target = np.asarray(new, dtype=np.float64)
        if target.ndim != 1 or not target.size:
            raise InvalidInputError(
                f"wavelengths must be a list of numbers in Angstrom; their shape is {target.shape}"
            )
        if not ((target >= old.min()) & (target <= old.max())).all():
            raise InvalidInputError(
                f"the atmosphere is known from {old.min():g} to {old.max():g} Angstrom, but was asked for "
                f"{np.nanmin(target):g} to {np.nanmax(target):g}{' and NaN' if np.isnan(target).any() else ''}"
            )
        self._same = target.size == old.size and bool((target == old).all())
        order = np.argsort(old, kind="stable")
        low = np.searchsorted(old[order], target, side="right") - 1
        high = np.minimum(low + 1, old.size - 1)
        self._low, self._high = order[low], order[high]
        gap = old[self._high] - old[self._low]
        self._fraction = np.divide(target - old[self._low], gap, out=np.zeros_like(target), where=gap > 0)

    def __call__(self, values: FloatArray) -> FloatArray:
        """Interpolate values, shape (..., n_old), to shape (..., n_new)."""
        if self._same:
            return values
        low, high = values[..., self._low], values[..., self._high]
        return np.asarray(low + self._fraction * (high - low))
