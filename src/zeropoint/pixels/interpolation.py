"""Interpolation over bad pixels by one-dimensional kriging.

The image along a row is taken as a random function whose covariance is ``exp(-d^2/4)`` at distance d, that is
a scene smoothed by a PSF of unit sigma.  The best linear unbiased prediction of a bad pixel from the good
ones at ``g_i`` has the weights ``w`` of ordinary kriging:

    ``[[C, 1], [1', 0]] [w; m] = [c; 1]``,  ``C_ij = exp(-(g_i - g_j)^2/4)``,  ``c_i = exp(-(g_i - b)^2/4)``.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

import lsst.pex.config as pexConfig
import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.catalog import Schema
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.kernels.statistics import clipped_stats

__all__ = [
    "Defect",
    "InterpolateDefects",
    "InterpolateDefectsConfig",
    "interpolate_defects_in_place",
    "kriging_weights",
    "line_weights",
]

_LOG = logging.getLogger(__name__)

#: A box of bad pixels, ``(x0, y0, x1, y1)``, both ends inclusive.
Defect = tuple[int, int, int, int]

#: Bad pixels at the good side of a long edge run that are interpolated rather than set to the fallback.
_EDGE_REACH = 6


@functools.lru_cache(maxsize=4096)
def _weights(offsets: tuple[float, ...]) -> tuple[float, ...]:
    good = np.array(offsets)
    n = len(good)
    matrix = np.ones((n + 1, n + 1))
    matrix[:n, :n] = np.exp(-0.25 * (good[:, None] - good) ** 2)
    matrix[n, n] = 0.0
    return tuple(np.linalg.solve(matrix, np.append(np.exp(-0.25 * good**2), 1.0))[:n].tolist())


def kriging_weights(offsets: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return the weights (sum 1) that predict the value at 0 from values at distinct offsets (pixels)."""
    return np.array(_weights(tuple(float(x) for x in offsets)))


@functools.lru_cache(maxsize=4)
def line_weights(reach: int) -> npt.NDArray[np.float64]:
    """Return the weights for gaps of up to ``reach`` pixels on either side, along rows and diagonals.

    Returns
    -------
    weights : float64, shape (2, reach, reach, 2, 2, 4)
        ``[diagonal, a - 1, b - 1, second_a, second_b]``: weights of the pixels at ``-a-1, -a, b, b+1`` steps,
        zero for a missing second pixel; a diagonal step is sqrt(2) pixels.
    """
    table = np.zeros((2, reach, reach, 2, 2, 4))
    for index in np.ndindex(table.shape[:-1]):
        diagonal, a, b = index[0], index[1] + 1, index[2] + 1
        used = np.array([bool(index[3]), True, True, bool(index[4])])
        step = np.sqrt(2.0) if diagonal else 1.0
        table[index][used] = kriging_weights(step * np.array([-a - 1.0, -a, b, b + 1.0])[used])
    table.flags.writeable = False
    return table


class InterpolateDefectsConfig(pexConfig.Config):
    """How defects are interpolated, above all those at the image's edge."""

    useFallbackValueAtEdge = pexConfig.Field(
        dtype=bool,
        default=True,
        doc="Fill long runs that reach the edge with a fallback value rather than extrapolating.",
    )
    fallbackUserValue = pexConfig.Field(
        dtype=float, default=0.0, doc="Fallback value, counts, if fallbackValueType is USER."
    )
    fallbackValueType = pexConfig.ChoiceField(
        dtype=str,
        default="MEDIAN",
        optional=True,
        doc="Which fallback value.",
        allowed={
            "MEAN": "Mean of the image.",
            "MEDIAN": "Median of the image.",
            "MEANCLIP": "Clipped mean of the image.",
            "USER": "fallbackUserValue.",
        },
    )
    negativeFallbackAllowed = pexConfig.Field(
        dtype=bool, default=False, doc="Allow a negative fallback value; else it is raised to zero."
    )
    transpose = pexConfig.Field(dtype=bool, default=False, doc="Interpolate along columns instead of rows.")


def _row_runs(defects: Sequence[Defect], width: int, height: int) -> dict[int, list[list[int]]]:
    """Return for each row the bad runs ``[x0, x1]``, sorted, clipped to the image, touching ones merged."""
    rows: dict[int, list[list[int]]] = {}
    for x0, y0, x1, y1 in sorted(defects):
        left, right = max(x0, 0), min(x1, width - 1)
        if left > right:
            continue
        for y in range(max(y0, 0), min(y1, height - 1) + 1):
            runs = rows.setdefault(y, [])
            if runs and left <= runs[-1][1] + 1:
                runs[-1][1] = max(runs[-1][1], right)
            else:
                runs.append([left, right])
    return rows


def _fill_run(planes: Sequence[np.ndarray], x0: int, x1: int, good: list[int]) -> None:
    """Predict pixels x0..x1 of image and variance rows from the good columns, with the image's weights."""
    nearest = [x for x in (x0 - 1, x1 + 1) if x in good]
    values = [np.array([float(plane[x]) for x in good]) for plane in planes]
    for x in range(x0, x1 + 1):
        weights = kriging_weights([g - x for g in good])
        for plane, value in zip(planes, values):
            prediction = float(weights @ value)
            if not np.isfinite(prediction):
                near = np.array([float(plane[g]) for g in nearest])
                prediction = float(near[np.isfinite(near)].mean()) if np.isfinite(near).any() else np.nan
            plane[x] = prediction


def interpolate_defects_in_place(
    image: npt.NDArray[np.float32],
    variance: npt.NDArray[np.float32],
    mask: npt.NDArray[np.int32],
    defects: Sequence[Defect],
    *,
    fallback: float | None = None,
) -> int:
    """Interpolate over boxes of bad pixels along rows, in place, and set INTERPOLATED.

    Parameters
    ----------
    image, variance : float32, shape (h, w)
        Changed; both with the same weights.
    mask : int32, shape (h, w)
        Changed.
    defects
        Boxes ``(x0, y0, x1, y1)``, inclusive; parts outside the image are ignored.
    fallback
        Value for runs longer than 6 pixels that reach the edge, all but the 6 pixels at their good side, and
        for rows without a good pixel.  None: extrapolate, and leave whole bad rows alone.

    Returns
    -------
    n : int
        Pixels treated.
    """
    height, width = image.shape
    n = 0
    for y, runs in _row_runs(defects, width, height).items():
        good = np.ones(width, np.bool_)
        for x0, x1 in runs:
            good[x0 : x1 + 1] = False
        for x0, x1 in runs:
            mask[y, x0 : x1 + 1] |= np.int32(bitmask(["INTERPOLATED"]))
            n += x1 - x0 + 1
            left = [x for x in (x0 - 2, x0 - 1) if x >= 0 and good[x]]
            right = [x for x in (x1 + 1, x1 + 2) if x < width and good[x]]
            first, last = x0, x1
            if fallback is not None and not (left and right) and (x1 - x0 >= _EDGE_REACH or not left + right):
                first = x1 + 1 - _EDGE_REACH if right else x0
                last = x0 - 1 + _EDGE_REACH if left else x1
                image[y, x0:first] = image[y, last + 1 : x1 + 1] = fallback
                if not left + right:
                    image[y, x0 : x1 + 1] = fallback
                    continue
                left = left or [x for x in (first - 2, first - 1) if x >= x0]
                right = right or [x for x in (last + 1, last + 2) if x <= x1]
            if left + right:
                _fill_run((image[y], variance[y]), first, last, left + right)
    return n


class InterpolateDefects:
    """Interpolate over defects of an exposure, in place."""

    ConfigClass = InterpolateDefectsConfig

    def __init__(
        self, config: InterpolateDefectsConfig | None = None, *, schema: Schema | None = None
    ) -> None:
        self.config = InterpolateDefectsConfig() if config is None else config

    def run(self, exposure: Exposure, defects: Sequence[Defect]) -> int:
        """Interpolate in place over boxes ``(x0, y0, x1, y1)`` and return the number of pixels treated."""
        fallback = self.fallback_value(exposure.image) if self.config.useFallbackValueAtEdge else None
        image, variance, mask = exposure.image, exposure.variance, exposure.mask
        if self.config.transpose:
            image, variance, mask = image.T, variance.T, mask.T
            defects = [(y0, x0, y1, x1) for x0, y0, x1, y1 in defects]
        n = interpolate_defects_in_place(image, variance, mask, defects, fallback=fallback)
        _LOG.debug("Interpolated over %d pixels of %d defects.", n, len(defects))
        return n

    def fallback_value(self, image: npt.NDArray[np.float32]) -> float:
        """Return the configured fallback value for an image, from its finite pixels."""
        kind = self.config.fallbackValueType
        value = float(self.config.fallbackUserValue)
        finite = image[np.isfinite(image)]
        if kind == "MEANCLIP":
            value = clipped_stats(finite)[0]
        elif kind in ("MEAN", "MEDIAN") and finite.size:
            value = float(finite.mean(dtype=np.float64) if kind == "MEAN" else np.median(finite))
        if value < 0 and not self.config.negativeFallbackAllowed:
            return 0.0
        return value
