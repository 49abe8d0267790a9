"""Association: the same star in many visits, stars that are alone, and a share of them set aside."""

from zeropoint.association.concat import ConcatenatedStars, concat_isolated_star_cats
from zeropoint.association.config import IsolatedStarAssociationConfig
from zeropoint.association.isolated_stars import IsolatedStarAssociation, IsolatedStars
from zeropoint.association.reserve import ReserveIsolatedStars, ReserveIsolatedStarsConfig
from zeropoint.association.tables import ColumnReader

__all__ = [
    "ColumnReader",
    "ConcatenatedStars",
    "IsolatedStarAssociation",
    "IsolatedStarAssociationConfig",
    "IsolatedStars",
    "ReserveIsolatedStars",
    "ReserveIsolatedStarsConfig",
    "concat_isolated_star_cats",
]
