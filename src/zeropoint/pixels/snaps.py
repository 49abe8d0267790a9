"""Combination of the one or two snaps of a visit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import Schema
from zeropoint.datamodel.exposure import Exposure, VisitInfo
from zeropoint.datamodel.mask_planes import bitmask, has_any

__all__ = ["SnapCombine", "SnapCombineConfig"]


class SnapCombineConfig(pexConfig.Config):
    """Which pixels of a snap are not added."""

    bad_mask_planes = pexConfig.ListField(
        dtype=str, default=[], doc="A pixel with one of these planes is left out of the sum."
    )


def _combined_visit_info(first: VisitInfo, second: VisitInfo) -> VisitInfo:
    """Return the first snap's information with summed exposure time and mean date."""
    return replace(
        first,
        exposure_time=first.exposure_time + second.exposure_time,
        mjd_tai=0.5 * (first.mjd_tai + second.mjd_tai),
    )


class SnapCombine:
    """Add the snaps of a visit."""

    ConfigClass = SnapCombineConfig

    def __init__(self, config: SnapCombineConfig | None = None, *, schema: Schema | None = None) -> None:
        self.config = SnapCombineConfig() if config is None else config

    def run(self, exposures: Exposure | Sequence[Exposure]) -> Exposure:
        """Return one exposure as it is, or the sum of two as a new one.

        A pixel that is bad in one snap is twice the other (variance four times); a pixel bad in both is NaN
        and gets NO_DATA.  Everything but pixels, exposure time and date comes from the first snap.

        Raises
        ------
        ValueError
            If there are not one or two exposures, or they differ in shape.
        """
        if isinstance(exposures, Exposure):
            return exposures
        if len(exposures) == 1:
            return exposures[0]
        if len(exposures) != 2:
            raise ValueError(f"A visit has one or two snaps, not {len(exposures)}.")
        if exposures[0].shape != exposures[1].shape:
            raise ValueError(f"The snaps differ in shape: {exposures[0].shape} and {exposures[1].shape}.")
        return self._add(exposures[0], exposures[1])

    def _add(self, first: Exposure, second: Exposure) -> Exposure:
        result = first.copy()
        result.visit_info = _combined_visit_info(first.visit_info, second.visit_info)
        n_good = np.zeros(first.shape, np.float32)
        for plane in (result.image, result.variance, result.mask):
            plane[...] = 0
        for snap in (first, second):
            good = ~has_any(snap.mask, self.config.bad_mask_planes)
            n_good += good
            result.image += np.where(good, snap.image, 0)
            result.variance += np.where(good, snap.variance, 0)
            result.mask |= np.where(good, snap.mask, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.float32(2) / n_good
            result.image *= scale
            result.variance *= scale * scale
        result.mask[n_good == 0] |= np.int32(bitmask(["NO_DATA"]))
        return result
