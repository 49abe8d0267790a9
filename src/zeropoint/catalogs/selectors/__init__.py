"""Source selectors: which rows of a table to use, by configurable criteria.

``sourceSelectorRegistry`` holds them under the names ``science``, ``references``, ``null``, ``objectSize``,
``flagged``, and the older ``astrometry``, ``matcher`` and ``diaCatalog``.
"""

from zeropoint.catalogs.selectors.astrometry import AstrometrySourceSelector, AstrometrySourceSelectorConfig
from zeropoint.catalogs.selectors.base import (
    BaseSourceSelectorConfig,
    Cuts,
    MatchedReferences,
    SelectionResult,
    SourceSelector,
    reject_selectors_with_matches,
    sourceSelectorRegistry,
)
from zeropoint.catalogs.selectors.dia_catalog import DiaCatalogSourceSelector, DiaCatalogSourceSelectorConfig
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
from zeropoint.catalogs.selectors.matcher import MatcherSourceSelector, MatcherSourceSelectorConfig
from zeropoint.catalogs.selectors.null import NullSourceSelector, NullSourceSelectorConfig
from zeropoint.catalogs.selectors.object_size import ObjectSizeStarSelector, ObjectSizeStarSelectorConfig
from zeropoint.catalogs.selectors.references import ReferenceSourceSelector, ReferenceSourceSelectorConfig
from zeropoint.catalogs.selectors.science import ScienceSourceSelector, ScienceSourceSelectorConfig

__all__ = [
    "AstrometrySourceSelector",
    "AstrometrySourceSelectorConfig",
    "BaseLimit",
    "BaseSourceSelectorConfig",
    "CentroidErrorLimit",
    "ColorLimit",
    "CullFromMaskedRegion",
    "Cuts",
    "DiaCatalogSourceSelector",
    "DiaCatalogSourceSelectorConfig",
    "FlaggedSourceSelector",
    "FlaggedSourceSelectorConfig",
    "FluxLimit",
    "MagnitudeErrorLimit",
    "MagnitudeLimit",
    "MatchedReferences",
    "MatcherSourceSelector",
    "MatcherSourceSelectorConfig",
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
    "reject_selectors_with_matches",
    "sourceSelectorRegistry",
]
