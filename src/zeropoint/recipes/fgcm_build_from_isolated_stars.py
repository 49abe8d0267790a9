"""The star list of a survey from its isolated stars: visits, stars with their observations, and references, in this order."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.fgcm.accounting import META_KEY, Accounting
from zeropoint.fgcm.isolated import FgcmBuildFromIsolatedStars, IsolatedTract
from zeropoint.fgcm.isolated_config import FgcmBuildFromIsolatedStarsConfig
from zeropoint.fgcm.progress import OnProgress
from zeropoint.fgcm.references import References, check_settings, match_survey
from zeropoint.fgcm.visit_facts import VisitSummaries, pairs
from zeropoint.fgcm.visits import account_for, find_visits, make_visit_catalog, sentence_on
from zeropoint.recipes.fgcm_build_stars import visible_focal_plane

__all__ = ["IsolatedSurvey", "build_from_isolated_stars"]

_log = logging.getLogger(__name__)


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
    left_out
        Sentences on visits that are left out, or have no source; they were logged.
    """

    visits: Table
    observations: Table
    stars: Table
    reference_stars: Table | None
    accounting: Accounting
    left_out: tuple[str, ...] = ()


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
    check_settings(config, references)
    summaries = pairs(summaries, "summary")
    found = find_visits(summaries, summaries, config, on_progress=on_progress)
    accounting = account_for(found)
    if focal_plane is None:
        focal_plane = visible_focal_plane(found, summaries)
    visits = make_visit_catalog(found, focal_plane, config, accounting)
    result = FgcmBuildFromIsolatedStars(config).run(tracts, visits, focal_plane, on_progress=on_progress)
    accounting = result.accounting
    notes = found.left_out()
    if result.without_sources:
        sentence = sentence_on(result.without_sources, "without observations", "no_sources")
        _log.warning("%s", sentence)
        notes += (sentence,)
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
    return IsolatedSurvey(
        result.visits.table,
        result.observations,
        result.stars,
        matched,
        accounting,
        notes,
    )
