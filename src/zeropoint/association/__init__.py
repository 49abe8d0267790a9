"""Association: the same star in many visits, stars that are alone, and a share of them set aside."""

from zeropoint.association.concat import ConcatenatedStars, concat_isolated_star_cats
from zeropoint.association.reserve import ReserveIsolatedStars, ReserveIsolatedStarsConfig
from zeropoint.association.tables import ColumnReader

__all__ = [
    "ColumnReader",
    "ConcatenatedStars",
    "ReserveIsolatedStars",
    "ReserveIsolatedStarsConfig",
    "concat_isolated_star_cats",
]
