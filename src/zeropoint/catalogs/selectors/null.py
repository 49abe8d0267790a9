"""Selector ``null``: everything."""

from __future__ import annotations

import numpy as np

from zeropoint.catalogs.selectors.base import (
    AnyTable,
    BaseSourceSelectorConfig,
    BoolArray,
    MatchedReferences,
    SourceSelector,
    sourceSelectorRegistry,
)
from zeropoint.datamodel.exposure import Exposure

__all__ = ["NullSourceSelector", "NullSourceSelectorConfig"]


class NullSourceSelectorConfig(BaseSourceSelectorConfig):
    """Configuration of `NullSourceSelector`; no fields."""


class NullSourceSelector(SourceSelector):
    """Select every row."""

    ConfigClass = NullSourceSelectorConfig

    def select(
        self, table: AnyTable, *, exposure: Exposure | None, matches: MatchedReferences | None
    ) -> BoolArray:
        """Return one boolean a row of ``table``."""
        return np.ones(len(table), np.bool_)


sourceSelectorRegistry.register("null", NullSourceSelector)
