"""Empty places of an image, to be measured as if they were sources."""

from __future__ import annotations

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.datamodel.exposure import MaskImage
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.mask_planes import has_any
from zeropoint.kernels.dilate import dilate
from zeropoint.kernels.labels import label_mask

__all__ = ["SkyObjects", "SkyObjectsConfig"]


class SkyObjectsConfig(pexConfig.Config):
    """Where sky sources may be and how many there are."""

    avoidMask = pexConfig.ListField(
        dtype=str,
        default=["DETECTED", "DETECTED_NEGATIVE", "BAD", "NO_DATA"],
        doc="Planes that sky sources must not touch.",
    )
    growMask = pexConfig.RangeField(dtype=int, default=0, min=0, doc="Growth of the avoided planes, pixels.")
    sourceRadius = pexConfig.RangeField(dtype=float, default=8, min=0, doc="Radius of a sky source, pixels.")
    nSources = pexConfig.RangeField(dtype=int, default=100, min=0, doc="Sky sources wanted.")
    nTrialSources = pexConfig.RangeField(
        dtype=int, default=None, optional=True, min=0, doc="Places tried; if None a multiple of nSources."
    )
    nTrialSourcesMultiplier = pexConfig.RangeField(
        dtype=int, default=5, min=1, doc="Places tried for each source wanted."
    )


class SkyObjects:
    """Place sky sources.

    Parameters
    ----------
    config
        Where and how many; the defaults if None.
    schema
        If given, a flag ``sky_source`` is added.
    """

    ConfigClass = SkyObjectsConfig

    def __init__(self, config: SkyObjectsConfig | None = None, *, schema: Schema | None = None) -> None:
        self.config = SkyObjectsConfig() if config is None else config
        if schema is not None:
            schema.add(ColumnSpec("sky_source", "bool", "", "True if the source is a piece of empty sky."))

    def run(self, mask: MaskImage, seed: int) -> FootprintSet:
        """Return discs on empty sky that do not overlap, with one peak of value 0 at their centres.

        Parameters
        ----------
        mask : int32, shape (h, w)
            Bit planes; not modified.
        seed
            Seed of the sequence of places.

        Notes
        -----
        Places follow a scrambled Halton sequence (low discrepancy), so that they cover the image evenly.
        """
        config = self.config
        radius = int(config.sourceRadius)
        x, y = self._trial_positions(mask.shape, radius, seed)
        avoid = has_any(mask, config.avoidMask)
        if config.growMask:
            avoid = dilate(avoid, config.growMask)
        disc = _disc(radius)
        claimed = dilate(np.pad(disc, radius), radius)
        padded = np.pad(avoid, radius, constant_values=True)  # a claim may leave the image
        kept: list[tuple[int, int]] = []
        for px, py in zip(x.tolist(), y.tolist()):
            if len(kept) == config.nSources:
                break
            around = padded[py : py + 4 * radius + 1, px : px + 4 * radius + 1]
            inner = around[radius : 3 * radius + 1, radius : 3 * radius + 1]
            if not (inner & disc).any():
                around |= claimed
                kept.append((px + radius, py + radius))
        return _discs(kept, disc, radius)

    def _trial_positions(
        self, shape: tuple[int, int], radius: int, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels to try, relative to ``(radius, radius)``."""
        config = self.config
        n = config.nTrialSources
        if n is None:
            n = config.nTrialSourcesMultiplier * config.nSources
        height, width = shape
        margin = radius + 1
        if n == 0 or width <= 2 * margin + 1 or height <= 2 * margin + 1:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        from scipy.stats import qmc  # slow to import

        unit = qmc.Halton(d=2, seed=np.random.default_rng(seed)).random(n)
        place = qmc.scale(unit, [margin, margin], [width - 1 - margin, height - 1 - margin]).astype(np.int64)
        return place[:, 0] - radius, place[:, 1] - radius


def _disc(radius: int) -> np.ndarray:
    """Return a boolean disc, shape (2 radius + 1, 2 radius + 1)."""
    r = np.arange(-radius, radius + 1)
    return r[:, None] ** 2 + r[None, :] ** 2 <= radius * radius


def _discs(centers: list[tuple[int, int]], disc: np.ndarray, radius: int) -> FootprintSet:
    """Return disc footprints with one peak each."""
    if not centers:
        return FootprintSet.empty()
    n = len(centers)
    x, y = np.array(centers, np.int64).T
    _, span_y, x0, x1 = label_mask(disc)
    per = len(span_y)

    def placed(values: np.ndarray, center: np.ndarray) -> np.ndarray:
        return (values[None, :] - radius + center[:, None]).ravel()

    return FootprintSet.build(
        np.arange(n + 1) * per,
        placed(span_y, y),
        placed(x0, x),
        placed(x1, x),
        np.arange(n + 1),
        x,
        y,
        np.zeros(n, np.float32),
    )
