"""Source selectors: which rows of a table to use, by configurable criteria.

``sourceSelectorRegistry`` holds them under the names ``science``, ``references``, ``null``, ``objectSize``
and ``flagged``.
"""

from zeropoint.catalogs.selectors.base import (
    BaseSourceSelectorConfig,
    MatchedReferences,
    SelectionResult,
    SourceSelector,
    sourceSelectorRegistry,
)
from zeropoint.catalogs.selectors.flagged import FlaggedSourceSelector, FlaggedSourceSelectorConfig
from zeropoint.catalogs.selectors.limits import (
    BaseLimit,
    CentroidErrorLimit,
    ColorLimit,
    CullFromMaskedRegion,
    FluxLimit,
    MagnitudeErrorLimit,
    MagnitudeLimit,
    RequireFiniteRaDec,
    RequireFlags,
    RequireIsolated,
    RequirePrimary,
    RequireUnresolved,
    SignalToNoiseLimit,
)
from zeropoint.catalogs.selectors.null import NullSourceSelector, NullSourceSelectorConfig
from zeropoint.catalogs.selectors.object_size import ObjectSizeStarSelector, ObjectSizeStarSelectorConfig
from zeropoint.catalogs.selectors.references import ReferenceSourceSelector, ReferenceSourceSelectorConfig
from zeropoint.catalogs.selectors.science import ScienceSourceSelector, ScienceSourceSelectorConfig

__all__ = [
    "BaseLimit",
    "BaseSourceSelectorConfig",
    "CentroidErrorLimit",
    "ColorLimit",
    "CullFromMaskedRegion",
    "FlaggedSourceSelector",
    "FlaggedSourceSelectorConfig",
    "FluxLimit",
    "MagnitudeErrorLimit",
    "MagnitudeLimit",
    "MatchedReferences",
    "NullSourceSelector",
    "NullSourceSelectorConfig",
    "ObjectSizeStarSelector",
    "ObjectSizeStarSelectorConfig",
    "ReferenceSourceSelector",
    "ReferenceSourceSelectorConfig",
    "RequireFiniteRaDec",
    "RequireFlags",
    "RequireIsolated",
    "RequirePrimary",
    "RequireUnresolved",
    "ScienceSourceSelector",
    "ScienceSourceSelectorConfig",
    "SelectionResult",
    "SignalToNoiseLimit",
    "SourceSelector",
    "sourceSelectorRegistry",
]
