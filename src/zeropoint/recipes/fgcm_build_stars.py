"""The star list of a survey: visits, observations, unique stars and their references, in this order."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from astropy.table import Table

from zeropoint.association.tables import AnyTable
from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.accounting import META_KEY, Accounting
from zeropoint.fgcm.build_stars_config import FgcmBuildStarsConfigBase, FgcmBuildStarsTableConfig
from zeropoint.fgcm.checkpoints import Checkpoints, default_directory
from zeropoint.fgcm.observations import Observations, gather_observations
from zeropoint.fgcm.progress import OnProgress
from zeropoint.fgcm.references import References, check_settings, match_survey
from zeropoint.fgcm.source_table import SourceReader
from zeropoint.fgcm.stars import band_codes, match_stars
from zeropoint.fgcm.visit_facts import VisitSummaries, pairs, read_summary
from zeropoint.fgcm.visits import FoundVisits, VisitCatalog, account_for, find_visits, make_visit_catalog

__all__ = ["FgcmBuildStars", "References", "SurveyStars", "visible_focal_plane"]

_log = logging.getLogger(__name__)

#: Images whose WCSs show how the camera's detectors lie, and the least and most visits that these make.
_GEOMETRY_IMAGES, _MIN_GEOMETRY_VISITS, _MAX_GEOMETRY_VISITS = 300, 3, 16
#: Changes whenever the form or the meaning of the parts on disk changes, so that those of before are not used; the
#: version of the software does not matter.
_CHECKPOINT_VERSION = 2
#: Decimals of the camera's geometry that tell it from another: those behind may change with the software.
_CAMERA_DECIMALS = 9


@dataclass(frozen=True)
class SurveyStars:
    """The star list of a survey.

    Parameters
    ----------
    visits, observations, star_ids, star_indices
        ``fgcmVisitCatalog``, ``fgcmStarObservations``, ``fgcmStarIds``, ``fgcmStarIndices``.
    reference_stars
        ``fgcmReferenceStars``; None: no references were wanted.
    accounting
        What every stage read, kept and rejected.
    checkpoints
        Parts on disk, to be removed when the star list is safe; None: there are none.
    left_out
        Sentences on the visits that are left out, which were logged.
    """

    visits: Table
    observations: Table
    star_ids: Table
    star_indices: Table
    reference_stars: Table | None
    accounting: Accounting
    checkpoints: Checkpoints | None = None
    left_out: tuple[str, ...] = ()


class FgcmBuildStars:
    """Build the star list of a survey.

    Parameters
    ----------
    config
        Settings; None for the defaults of tables of sources, which lack ``primaryBands``.

    Notes
    -----
    As FgcmBuildStarsTableTask of fgcmcal (2026), with the differences listed in ``docs/deviations.md``.  ``docs/star_list.md``
    describes the tables.  Nothing depends on the order in which visits are given, nor on whether a run was interrupted.
    """

    ConfigClass: ClassVar[Any] = FgcmBuildStarsTableConfig

    def __init__(self, config: FgcmBuildStarsConfigBase | None = None) -> None:
        self.config: FgcmBuildStarsConfigBase = self.ConfigClass() if config is None else config

    def run(
        self,
        tables: Mapping[int, AnyTable] | Iterable[tuple[int, AnyTable]],
        summaries: VisitSummaries,
        *,
        focal_plane: FocalPlane | None = None,
        references: References | None = None,
        on_progress: OnProgress | None = None,
    ) -> SurveyStars:
        """Build the star list from tables of sources and visit summaries.

        Parameters
        ----------
        tables
            Visit -> its table of sources (astropy, Arrow, or a `~zeropoint.association.tables.ColumnReader`), or pairs of
            these in any order. One is read at a time, and of it only what is needed.
        summaries
            Visit -> its summary, likewise.
        focal_plane
            The camera; None: as the WCSs of the summaries show it.
        references
            Reference catalogue; needed with ``doReferenceMatches``.
        on_progress
            Told how far a stage is.

        Raises
        ------
        InvalidInputError
            If a visit comes twice, a table or summary cannot be used, or no visit, source or star is left.
        lsst.pex.config.FieldValidationError
            If the configuration contradicts itself or is not complete.
        """
        config = self.config
        check_settings(config, references)
        tables, summaries = pairs(tables, "source table"), pairs(summaries, "summary")
        reader = SourceReader(config)
        found = find_visits(summaries, tables, config, on_progress=on_progress)
        found = _with_columns(found, tables, reader)
        accounting = account_for(found)
        if focal_plane is None:
            focal_plane = visible_focal_plane(found, summaries)
        visits = make_visit_catalog(found, focal_plane, config, accounting)
        checkpoints = self._checkpoints(tables, visits, focal_plane)
        observations = gather_observations(
            {visit: tables[visit] for visit in visits.visits.tolist()},
            visits,
            focal_plane,
            config,
            reader=reader,
            checkpoints=checkpoints,
            on_progress=on_progress,
        )
        stars = self.match(
            observations, references=references, checkpoints=checkpoints, on_progress=on_progress
        )
        return replace(stars, left_out=found.left_out())

    def match(
        self,
        observations: Observations,
        *,
        references: References | None = None,
        checkpoints: Checkpoints | None = None,
        on_progress: OnProgress | None = None,
    ) -> SurveyStars:
        """Build the star list from observations, wherever these are from.

        Parameters
        ----------
        observations
            Observations and visits.
        references
            Reference catalogue; None: no references are matched.
        checkpoints
            Handed on.
        on_progress
            Told how far a stage is.

        Raises
        ------
        InvalidInputError, NoUniqueStarsError
            See `zeropoint.fgcm.stars.match_stars` and `zeropoint.fgcm.references.match_references`.
        """
        config, table, visits = self.config, observations.table, observations.visits
        accounting = Accounting()
        accounting.merge(visits.accounting)
        accounting.merge(observations.accounting)
        band, names = band_codes(np.asarray(table["visit"]), visits.table, visits.bands)
        stars = match_stars(
            np.asarray(table["ra"]),
            np.asarray(table["dec"]),
            band,
            np.asarray(table["visit"]),
            bands=names,
            config=config,
            on_progress=on_progress,
        )
        accounting.merge(stars.accounting)
        matched = None
        if references is not None:
            matches = match_survey(stars.ids, visits.table, references, config, on_progress=on_progress)
            accounting.merge(matches.accounting)
            matched = matches.table
        visit_table = visits.table.copy()
        visit_table.meta[META_KEY] = accounting.to_meta()
        return SurveyStars(visit_table, table, stars.ids, stars.indices, matched, accounting, checkpoints)

    def _checkpoints(
        self, tables: Mapping[int, AnyTable], visits: VisitCatalog, focal_plane: FocalPlane
    ) -> Checkpoints | None:
        """Return where parts are kept; None: nowhere, as it is not wanted, or tables in memory have no identity."""
        config = self.config
        if config.checkpoint_directory == "":
            return None
        identities = [getattr(tables[visit], "identity", None) for visit in visits.visits.tolist()]
        if any(identity is None for identity in identities):
            return None
        columns = ("visit", "exptime", "scaling")
        inputs = {
            "version": _CHECKPOINT_VERSION,
            "sources": identities,
            "visits": [np.asarray(visits.table[name]).tolist() for name in columns],
            "camera": _digest(focal_plane),
            "selector": [config.sourceSelector.name, config.sourceSelector.active.toDict()],
            "fields": {name: getattr(config, name) for name in _READING_FIELDS},
            "detectors": list(config.detectors),
        }
        wanted = config.checkpoint_directory
        return Checkpoints.of(inputs, default_directory() if wanted is None else Path(wanted))


#: Fields that have a say in what is read from tables of sources.
_READING_FIELDS = (
    "instFluxField",
    "apertureInnerInstFluxField",
    "apertureOuterInstFluxField",
    "doSubtractLocalBackground",
    "localBackgroundFluxField",
    "psfCandidateName",
    "doApplyWcsJacobian",
)


def _digest(focal_plane: FocalPlane) -> str:
    """Return a name for the geometry of a camera."""
    geometry = focal_plane.to_table()
    values = [np.asarray(geometry[name]) for name in geometry.colnames]
    # with 0 added, nothing is a negative zero
    rounded = [np.round(each, _CAMERA_DECIMALS) + 0.0 if each.dtype.kind == "f" else each for each in values]
    return hashlib.sha256(b"".join(each.tobytes() for each in rounded)).hexdigest()


def _with_columns(found: FoundVisits, tables: Mapping[int, AnyTable], reader: SourceReader) -> FoundVisits:
    """Return the visits without those whose tables lack columns; that all do is an error."""
    lacking = {visit: missing for visit in found.facts if (missing := reader.missing_columns(tables[visit]))}
    if lacking and len(lacking) == len(found.facts):
        visit, missing = next(iter(lacking.items()))
        raise InvalidInputError(
            f"The source tables of all visits lack columns; that of visit {visit} has no {', '.join(missing)}. Correct "
            "instFluxField, the aperture fields, or sourceSelector."
        )
    return found.without(
        dict.fromkeys(lacking, "missing_columns"),
        {visit: ", ".join(missing) for visit, missing in lacking.items()},
    )


def visible_focal_plane(found: FoundVisits, summaries: Mapping[int, Any]) -> FocalPlane:
    """Return the camera as the WCSs of some visits show it: enough to see each detector, and some more.

    Parameters
    ----------
    found
        The visits.
    summaries
        Visit -> summary.

    Raises
    ------
    InvalidInputError
        If no detector has a WCS.
    """
    seen: set[int] = set()
    chosen = []
    for visit in found.facts:
        detectors = set(found.facts[visit].detectors.tolist())
        if detectors - seen:
            chosen.append(visit)
            seen |= detectors
    enough = np.clip(_GEOMETRY_IMAGES // max(1, len(seen)), _MIN_GEOMETRY_VISITS, _MAX_GEOMETRY_VISITS)
    spare = max(0, int(enough) - len(chosen))
    others = [visit for visit in found.facts if visit not in chosen]
    chosen += others[:: max(1, -(-len(others) // spare))] if spare and others else []
    return FocalPlane.from_summaries(
        read_summary(visit, summaries[visit], components=("visitInfo", "wcs")) for visit in sorted(chosen)
    )
