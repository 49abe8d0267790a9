"""Selector ``flagged``: rows on which one flag is set."""

from __future__ import annotations

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.catalogs.selectors.base import (
    AnyTable,
    BaseSourceSelectorConfig,
    Cuts,
    MatchedReferences,
    SourceSelector,
    sourceSelectorRegistry,
)
from zeropoint.catalogs.selectors.columns import configured_column
from zeropoint.datamodel.exposure import Exposure

__all__ = ["FlaggedSourceSelector", "FlaggedSourceSelectorConfig"]


class FlaggedSourceSelectorConfig(BaseSourceSelectorConfig):
    """Configuration of `FlaggedSourceSelector`."""

    field = pexConfig.Field[str](default="calib_psf_used", doc="Name of the flag column.")


class FlaggedSourceSelector(SourceSelector):
    """Select rows on which a flag is set, for instance the stars that made the PSF."""

    ConfigClass = FlaggedSourceSelectorConfig

    def select(
        self, table: AnyTable, *, exposure: Exposure | None, matches: MatchedReferences | None
    ) -> Cuts:
        """Return the criterion, applied to the rows of ``table``."""
        cuts = Cuts(len(table))
        cuts.require("field", np.asarray(configured_column(table, self.config, "field"), np.bool_))
        return cuts


sourceSelectorRegistry.register("flagged", FlaggedSourceSelector)
