"""Selector ``null``: everything."""

from __future__ import annotations

from zeropoint.catalogs.selectors.base import (
    AnyTable,
    BaseSourceSelectorConfig,
    Cuts,
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
    ) -> Cuts:
        """Return no criterion at all."""
        return Cuts(len(table))


sourceSelectorRegistry.register("null", NullSourceSelector)
