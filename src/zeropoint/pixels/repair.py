"""Repair of an exposure: interpolation over defects, and cosmic rays."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import Schema
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.pixels.background import fit_background
from zeropoint.pixels.cosmic_rays import FindCosmicRaysConfig, find_cosmic_rays
from zeropoint.pixels.interpolation import Defect, InterpolateDefects

__all__ = ["Repair", "RepairConfig", "RepairResult"]

_LOG = logging.getLogger(__name__)


class RepairConfig(pexConfig.Config):
    """What is repaired."""

    doInterpolate = pexConfig.Field(
        dtype=bool, default=True, doc="Interpolate over defects, if any are given."
    )
    doCosmicRay = pexConfig.Field(dtype=bool, default=True, doc="Find cosmic rays.")
    cosmicray = pexConfig.ConfigField(dtype=FindCosmicRaysConfig, doc="The search for cosmic rays.")
    interp = pexConfig.ConfigurableField(target=InterpolateDefects, doc="Interpolation over defects.")

    def setDefaults(self) -> None:
        """Fill long edge runs with the clipped mean, of whatever sign."""
        self.interp.useFallbackValueAtEdge = True
        self.interp.fallbackValueType = "MEANCLIP"
        self.interp.negativeFallbackAllowed = True


@dataclass(frozen=True)
class RepairResult:
    """Counts of the cosmic rays.

    Parameters
    ----------
    cosmic_ray_count
        Number of events.
    n_pixels
        Number of their pixels.
    """

    cosmic_ray_count: int
    n_pixels: int


class Repair:
    """Interpolate defects and remove cosmic rays, in place."""

    ConfigClass = RepairConfig

    def __init__(self, config: RepairConfig | None = None, *, schema: Schema | None = None) -> None:
        self.config = RepairConfig() if config is None else config
        self.interp = self.config.interp.apply(schema=schema)

    def run(
        self, exposure: Exposure, *, defects: Sequence[Defect] | None = None, keepCRs: bool | None = None
    ) -> RepairResult:
        """Repair ``exposure`` in place; the COSMIC_RAY plane is cleared first.

        Parameters
        ----------
        exposure
            Needs a PSF if cosmic rays are sought.
        defects
            Boxes ``(x0, y0, x1, y1)`` to interpolate over.
        keepCRs
            Only set COSMIC_RAY and leave the pixels; ``config.cosmicray.keepCRs`` if None.

        Raises
        ------
        ValueError
            If the exposure has no PSF.
        TooManyCosmicRays
            If there are too many cosmic-ray pixels; the exposure's pixels are then as they were.
        """
        if self.config.doInterpolate and defects:
            self.interp.run(exposure, defects)
        if not self.config.doCosmicRay:
            return RepairResult(0, 0)
        if exposure.psf is None:
            raise ValueError("The search for cosmic rays needs a PSF; install a simple one first.")
        keep = self.config.cosmicray.keepCRs if keepCRs is None else keepCRs
        return self._cosmic_rays(exposure, keep)

    def _cosmic_rays(self, exposure: Exposure, keep: bool) -> RepairResult:
        assert exposure.psf is not None
        config = self.config.cosmicray
        bins = config.background.value
        height, width = exposure.shape
        exposure.clear_mask("COSMIC_RAY")
        image, model, level = exposure.image, None, None
        if width >= (bins.binSizeX or bins.binSize) and height >= (bins.binSizeY or bins.binSize):
            model = fit_background(exposure.image, exposure.mask, bins).image()
            image, level = exposure.image - model, 0.0
        found = find_cosmic_rays(
            image, exposure.variance, exposure.mask, exposure.psf.kernel_image(), config, background=level
        )
        where = found.y, found.x
        planes = ["COSMIC_RAY"] if keep else ["COSMIC_RAY", "INTERPOLATED"]
        exposure.mask[where] |= np.int32(bitmask(planes))
        if not keep:
            exposure.image[where] = found.value if model is None else found.value + model[where]
            exposure.variance[where] = found.variance
        _LOG.debug("Found %d cosmic rays of %d pixels.", found.n_events, len(found))
        return RepairResult(found.n_events, len(found))
