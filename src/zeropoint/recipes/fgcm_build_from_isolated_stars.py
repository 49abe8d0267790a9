"""The star list of a survey from its isolated stars: visits, stars with their observations, and references, in this order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.accounting import META_KEY, Accounting
from zeropoint.fgcm.isolated import FgcmBuildFromIsolatedStars, IsolatedTract
from zeropoint.fgcm.isolated_config import FgcmBuildFromIsolatedStarsConfig
from zeropoint.fgcm.references import References, match_survey
from zeropoint.fgcm.visit_facts import VisitSummaries, pairs
from zeropoint.fgcm.visits import account_for, find_visits, make_visit_catalog
from zeropoint.recipes.fgcm_build_stars import visible_focal_plane

__all__ = ["IsolatedSurvey", "build_from_isolated_stars"]

#: Title, done, total.
type OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class IsolatedSurvey:
    """The star list of a survey.

    Parameters
    ----------
    visits, observations, stars
        ``fgcmVisitCatalog``, ``fgcm_star_observations``, ``fgcm_star_ids``.
    reference_stars
        ``fgcm_reference_stars``; None: no references were wanted.
    accounting
        What every stage read, kept and rejected.
    """

    visits: Table
    observations: Table
    stars: Table
    reference_stars: Table | None
    accounting: Accounting


def build_from_isolated_stars(
    config: FgcmBuildFromIsolatedStarsConfig,
    tracts: Mapping[int, IsolatedTract],
    summaries: VisitSummaries,
    *,
    focal_plane: FocalPlane | None = None,
    references: References | None = None,
    on_progress: OnProgress | None = None,
) -> IsolatedSurvey:
    """Build the star list of a survey from isolated stars and visit summaries.

    Parameters
    ----------
    config
        Settings.
    tracts
        Tract -> its isolated stars and their sources; the order does not matter.
    summaries
        Visit -> its summary, or pairs of these in any order. Sources of visits without one do not count.
    focal_plane
        The camera; None: as the WCSs of the summaries show it.
    references
        Reference catalogue; needed with ``doReferenceMatches``.
    on_progress
        Told how far a stage is.

    Raises
    ------
    InvalidInputError
        If a table or summary cannot be used, a visit comes twice, or no visit is left.
    NoUniqueStarsError
        If no star is left.
    lsst.pex.config.FieldValidationError
        If the configuration contradicts itself or is not complete.
    """
    config.validate()
    if config.doReferenceMatches and references is None:
        raise InvalidInputError(
            "doReferenceMatches needs a reference catalogue and the look-up table; give them, or set it to False."
        )
    summaries = pairs(summaries, "summary")
    found = find_visits(summaries, summaries, config, on_progress=on_progress)
    accounting = account_for(found)
    if focal_plane is None:
        focal_plane = visible_focal_plane(found, summaries)
    visits = make_visit_catalog(found, focal_plane, config, accounting)
    result = FgcmBuildFromIsolatedStars(config).run(tracts, visits, focal_plane, on_progress=on_progress)
    accounting = result.accounting
    matched = None
    if references is not None:
        matches = match_survey(
            result.stars,
            result.visits.table,
            references,
            config,
            id_dtype=np.int64,
            on_progress=on_progress,
        )
        accounting.merge(matches.accounting)
        matched = matches.table
    result.visits.table.meta[META_KEY] = accounting.to_meta()
    return IsolatedSurvey(result.visits.table, result.observations, result.stars, matched, accounting)
