"""Match sources to references by position alone."""

from __future__ import annotations

from dataclasses import dataclass

import lsst.pex.config as pexConfig
import numpy as np
from scipy.spatial import cKDTree

from zeropoint.catalogs.references import ReferenceCatalog
from zeropoint.catalogs.selectors import (
    MatchedReferences,
    ReferenceSourceSelector,
    ScienceSourceSelector,
    reject_selectors_with_matches,
)
from zeropoint.datamodel.catalog import Schema, SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.wcs import unit_vectors
from zeropoint.errors import MatcherFailure

__all__ = ["DirectMatch", "DirectMatchConfig", "DirectMatchResult", "match_positions", "match_references"]

_ARCSEC = np.pi / 648000.0


class DirectMatchConfig(pexConfig.Config):
    """Configuration of `DirectMatch`."""

    matchRadius = pexConfig.RangeField[float](
        doc="Largest separation of a match (arcsec).", default=0.25, min=0.0
    )
    sourceSelection = pexConfig.ConfigurableField(target=ScienceSourceSelector, doc="Which sources to match.")
    referenceSelection = pexConfig.ConfigurableField(
        target=ReferenceSourceSelector, doc="Which references to match."
    )

    def validate(self) -> None:
        """Reject selectors that need the matches that they are to make."""
        super().validate()
        reject_selectors_with_matches(self, "sourceSelection", "referenceSelection")


@dataclass(frozen=True)
class DirectMatchResult:
    """Matched rows.

    Parameters
    ----------
    match_ref, match_src : int64, shape (n,)
        Rows of the reference table and of the catalogue, sorted by source.
    distance_rad : float64, shape (n,)
        Separations, radians.
    n_sources, n_references
        How many were selected.
    """

    match_ref: np.ndarray
    match_src: np.ndarray
    distance_rad: np.ndarray
    n_sources: int
    n_references: int


def match_positions(
    ra1: np.ndarray, dec1: np.ndarray, ra2: np.ndarray, dec2: np.ndarray, radius_rad: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pairs that are each other's nearest and closer than a radius.

    Parameters
    ----------
    ra1, dec1, ra2, dec2 : float64
        Two lists of positions, radians; NaN never matches.
    radius_rad
        Largest separation, radians.

    Returns
    -------
    rows1, rows2 : int64
        Pairs, sorted by ``rows1``; no row occurs twice.
    distance_rad : float64
        Their separations.
    """
    good1 = np.flatnonzero(np.isfinite(ra1) & np.isfinite(dec1))
    good2 = np.flatnonzero(np.isfinite(ra2) & np.isfinite(dec2))
    if len(good1) == 0 or len(good2) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    v1, v2 = unit_vectors(ra1[good1], dec1[good1]), unit_vectors(ra2[good2], dec2[good2])
    chord = 2.0 * np.sin(0.5 * radius_rad)
    distance, nearest = cKDTree(v2).query(v1, distance_upper_bound=chord)
    near = np.flatnonzero(np.isfinite(distance))
    # distances of pairs are evaluated the same way from both sides, so ties do not break mutuality
    back = cKDTree(v1).query(v2[nearest[near]])[1]
    mutual = near[back == near]
    separation = 2.0 * np.arcsin(np.minimum(0.5 * distance[mutual], 1.0))
    return good1[mutual].astype(np.int64), good2[nearest[mutual]].astype(np.int64), separation


def match_references(
    catalog: SourceCatalog, references: ReferenceCatalog, radius_arcsec: float
) -> MatchedReferences:
    """Match all sources to references by position, for selectors that look at matched references.

    Parameters
    ----------
    catalog
        With ``coord_ra``, ``coord_dec``.
    references
        References around the image.
    radius_arcsec
        Largest separation.
    """
    table = references.table
    src, ref, _ = match_positions(
        catalog["coord_ra"],
        catalog["coord_dec"],
        np.asarray(table["coord_ra"], np.float64),
        np.asarray(table["coord_dec"], np.float64),
        radius_arcsec * _ARCSEC,
    )
    return MatchedReferences(table, ref, src)


class DirectMatch:
    """Select sources and references and match them within a radius; modifies nothing.

    Notes
    -----
    A pair counts only if each is the other's nearest, so a source serves one reference and a reference one
    source.
    """

    ConfigClass = DirectMatchConfig

    def __init__(self, config: DirectMatchConfig | None = None, *, schema: Schema | None = None) -> None:
        self.config = DirectMatchConfig() if config is None else config
        self.source_selection = self.config.sourceSelection.apply()
        self.reference_selection = self.config.referenceSelection.apply()

    def run(
        self, exposure: Exposure, catalog: SourceCatalog, references: ReferenceCatalog
    ) -> DirectMatchResult:
        """Match a catalogue with sky coordinates to references.

        Parameters
        ----------
        exposure
            For selectors that look at its mask.
        catalog
            With ``coord_ra``, ``coord_dec``.
        references
            References around the image.

        Raises
        ------
        MatcherFailure
            If a selection leaves nothing to match; metadata goodSrc, goodRef.
        """
        table = references.table
        chosen = self.source_selection.run(catalog, exposure=exposure)
        wanted = self.reference_selection.run(table, exposure=exposure)
        for selector, selection in ((self.source_selection, chosen), (self.reference_selection, wanted)):
            if len(selection.selected) > 0 and selection.n_selected == 0:
                raise MatcherFailure(
                    f"Nothing to match: {selector.why_none(selection)}",
                    goodSrc=chosen.n_selected,
                    goodRef=wanted.n_selected,
                )
        sources, objects = np.flatnonzero(chosen.selected), np.flatnonzero(wanted.selected)
        src, ref, distance = match_positions(
            catalog["coord_ra"][sources],
            catalog["coord_dec"][sources],
            np.asarray(table["coord_ra"], np.float64)[objects],
            np.asarray(table["coord_dec"], np.float64)[objects],
            float(self.config.matchRadius) * _ARCSEC,
        )
        return DirectMatchResult(objects[ref], sources[src], distance, len(sources), len(objects))
