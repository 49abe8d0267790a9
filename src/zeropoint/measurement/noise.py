"""Noise that stands in for all sources but the one being measured."""

from __future__ import annotations

import logging

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.exposure import Exposure, FloatImage
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.kernels.spans import paint_spans
from zeropoint.kernels.statistics import clipped_stats

__all__ = ["NoiseReplacerConfig", "noise_level", "replace_sources_with_noise"]

log = logging.getLogger(__name__)

#: Second word of the random seed.
NOISE_STAGE = 11
#: Values that are enough for the level of the noise (its relative error is then below 0.1 %).
MAX_LEVEL_PIXELS = 1 << 20
#: Fewest unmasked pixels for which masks are honored.
MIN_LEVEL_PIXELS = 1000


class NoiseReplacerConfig(pexConfig.Config):
    """Where the level of the replacement noise comes from."""

    noiseSource = pexConfig.ChoiceField(
        dtype=str,
        default="measure",
        doc="How to choose mean and width of the Gaussian noise.",
        allowed={
            "measure": "Clipped mean and standard deviation of the image.",
            "meta": "Zero mean, variance from the BGMEAN header value; 'measure' where it is missing.",
            "variance": "Zero mean, the variance plane pixel by pixel.",
            "variance_median": "Zero mean, median of the variance plane.",
        },
    )
    noiseOffset = pexConfig.Field(dtype=float, default=0.0, doc="Added to the noise, counts.")
    noiseSeedMultiplier = pexConfig.Field(dtype=int, default=1, doc="Multiplies the seed; 0 means seed 1.")


def _sample(values: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Return at most `MAX_LEVEL_PIXELS` finite usable values at a fixed stride that is odd."""
    stride = max(1, values.size // MAX_LEVEL_PIXELS) | 1
    flat, good = values.reshape(-1)[::stride], usable.reshape(-1)[::stride]
    finite = np.isfinite(flat)
    chosen = flat[finite & good]
    return chosen if len(chosen) >= MIN_LEVEL_PIXELS else flat[finite]


def noise_level(exposure: Exposure, config: NoiseReplacerConfig) -> tuple[float, float | None]:
    """Return mean and standard deviation of the replacement noise; None for one that varies by pixel.

    Notes
    -----
    "measure" leaves out pixels that carry no sky (``NO_DATA``, ``BAD``, ``SATURATED``, ``DETECTED``,
    ``DETECTED_NEGATIVE``), so crowded fields do not widen the noise; where fewer than a thousand values
    remain the masks are ignored, as the LSST Science Pipelines (2026) always do. Large images are sampled at
    a stride.
    """
    source = config.noiseSource
    offset = float(config.noiseOffset)
    if source == "variance":
        return offset, None
    usable = ~exposure.masked("NO_DATA", "BAD", "SATURATED", "DETECTED", "DETECTED_NEGATIVE")
    if source == "variance_median":
        values = _sample(exposure.variance, usable)
        return offset, float(np.sqrt(max(float(np.median(values)), 0.0))) if len(values) else 0.0
    if source == "meta":
        level = exposure.metadata.get("BGMEAN")
        if isinstance(level, int | float) and np.isfinite(level) and level >= 0:
            return offset, float(np.sqrt(level))
        log.debug("No usable BGMEAN; the noise level is measured")
    values = _sample(exposure.image, usable)
    mean, std, _ = clipped_stats(values) if len(values) else (0.0, 0.0, 0)
    return mean + offset, std if np.isfinite(std) else 0.0


def replace_sources_with_noise(
    exposure: Exposure, footprints: FootprintSet, config: NoiseReplacerConfig, *, seed: int
) -> FloatImage:
    """Return a copy of the image in which noise covers all footprints.

    Parameters
    ----------
    exposure
        Exposure; not changed.
    footprints
        Footprints inside the image.
    config
        Level of the noise.
    seed
        Catalogue id; the same seed and footprints give the same noise.

    Returns
    -------
    image : float32, shape (height, width)
        One noise realisation serves all sources, so overlapping footprints see the same noise.
    """
    covered = np.zeros(exposure.shape, np.uint8)
    paint_spans(footprints.span_y, footprints.span_x0, footprints.span_x1, covered)
    where = covered.view(np.bool_)
    mean, std = noise_level(exposure, config)
    rng = np.random.default_rng([abs(int(seed)) * config.noiseSeedMultiplier or 1, NOISE_STAGE])
    draws = rng.standard_normal(int(np.count_nonzero(where)), dtype=np.float32)
    if std is None:
        draws *= np.sqrt(np.maximum(np.nan_to_num(exposure.variance[where], posinf=0.0), np.float32(0.0)))
    else:
        draws *= np.float32(std)
    draws += np.float32(mean)
    image = exposure.image.copy()
    image[where] = draws
    return image
