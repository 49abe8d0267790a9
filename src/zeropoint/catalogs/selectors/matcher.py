"""Selector ``matcher``: sources for pattern matching (an older selector)."""

from __future__ import annotations

import lsst.pex.config as pexConfig

from zeropoint.catalogs.selectors.astrometry import require_finite, require_flux, without_parent
from zeropoint.catalogs.selectors.base import (
    AnyTable,
    BaseSourceSelectorConfig,
    Cuts,
    MatchedReferences,
    SourceSelector,
    sourceSelectorRegistry,
)
from zeropoint.catalogs.selectors.limits import flag_column
from zeropoint.datamodel.exposure import Exposure

__all__ = ["MatcherSourceSelector", "MatcherSourceSelectorConfig"]


class MatcherSourceSelectorConfig(BaseSourceSelectorConfig):
    """Configuration of `MatcherSourceSelector`."""

    sourceFluxType = pexConfig.Field[str](default="Ap", doc="Flux slot: Ap, Psf, Calib, Model or Gaussian.")
    minSnr = pexConfig.Field[float](default=40.0, doc="Lowest signal-to-noise; no limit if 0 or less.")
    excludePixelFlags = pexConfig.Field[bool](
        default=True, doc="Reject edge, interpolatedCenter and saturated sources?"
    )


class MatcherSourceSelector(SourceSelector):
    """Select sources with a good centroid and flux that are not deblended children.

    More lenient than `AstrometrySourceSelector`: parents of blends are kept.
    """

    ConfigClass = MatcherSourceSelectorConfig

    def select(
        self, table: AnyTable, *, exposure: Exposure | None, matches: MatchedReferences | None
    ) -> Cuts:
        """Return the criteria, applied to the rows of ``table``."""
        config, cuts = self.config, Cuts(len(table))
        require_finite(cuts, table, config, "slot_Centroid_x", "slot_Centroid_y")
        cuts.require("slot_Centroid_flag", ~flag_column(table, "slot_Centroid_flag"))
        cuts.require("children", without_parent(table))
        require_flux(cuts, table, config)
        if config.excludePixelFlags:
            for name in ("edge", "interpolatedCenter", "saturated"):
                cuts.require("excludePixelFlags", ~flag_column(table, f"base_PixelFlags_flag_{name}"))
        return cuts


sourceSelectorRegistry.register("matcher", MatcherSourceSelector)
