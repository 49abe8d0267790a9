"""From the preliminary to the final summary of a visit: components replaced, statistics measured again."""

from zeropoint.recipes.update_visit_summary.config import UpdateVisitSummaryConfig
from zeropoint.recipes.update_visit_summary.recipe import UpdateVisitSummary
from zeropoint.recipes.update_visit_summary.record import UpdatedVisitSummary

__all__ = ["UpdateVisitSummary", "UpdateVisitSummaryConfig", "UpdatedVisitSummary"]
