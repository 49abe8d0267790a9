"""Associate the sources of many visits with stars, and keep those that are alone."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

import hpgeom
import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table

from zeropoint.association.config import IsolatedStarAssociationConfig
from zeropoint.association.gather import SourcePool, VisitTables, gather_sources
from zeropoint.association.grouping import (
    Groups,
    Positions,
    friends,
    greedy_groups,
    groups_by_label,
    wrapped,
)
from zeropoint.association.star_columns import describe, star_table
from zeropoint.datamodel.skymap import SkyMap

__all__ = ["IsolatedStarAssociation", "IsolatedStars"]

_log = logging.getLogger(__name__)

_ARCSEC = math.pi / 648000.0
#: Stars are put in the order of HEALPix cells of 0.2 arcsec, nested: neighbors on the sky are near in the table.
_ORDER_NSIDE = 1 << 20

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class IsolatedStars:
    """Isolated stars of a tract, and their sources.

    Parameters
    ----------
    sources
        One row per source, star by star, of each by band in ``band_order``, then by visit and id.
    stars
        One row per star, in the order of nested HEALPix cells. Both tables have all columns if there are none.
    counts
        Numbers of visits, sources and groups at each step.
    rejected
        Criterion of the source selector -> how many sources fail it.
    note
        What a user has to know of sources left out; empty: nothing.
    """

    sources: Table
    stars: Table
    counts: Mapping[str, int]
    rejected: Mapping[str, int]
    note: str = ""


@dataclass(frozen=True)
class _Stars:
    """Primary stars: where they are, and the index of the band that says so."""

    positions: Positions
    bands: IntArray

    @classmethod
    def none(cls) -> _Stars:
        return cls(Positions(np.zeros(0), np.zeros(0)), np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.bands)

    def __getitem__(self, rows: np.ndarray) -> _Stars:
        return _Stars(self.positions[rows], self.bands[rows])

    def joined(self, positions: Positions, band: int) -> _Stars:
        """Return these and further stars of a band."""
        bands = np.concatenate([self.bands, np.full(len(positions), band)])
        return _Stars(self.positions.joined(positions), bands)


class IsolatedStarAssociation:
    """Find the stars that many visits see, and drop those with neighbors.

    Parameters
    ----------
    config
        Settings; None for the defaults.

    Notes
    -----
    Band by band, in the order of priority, the selected sources are grouped; a group's mean position is a star unless
    a star of an earlier band lies within the match radius.  Two stars within the isolation radius are both dropped,
    and so are stars beside the sources of a group with two sources of one visit, which is a blend.  Stars in the
    tract's inner region are kept, and sources of all bands within the match radius of one are its sources.
    As IsolatedStarAssociationTask of the LSST Science Pipelines (2026), with the differences listed in
    ``docs/deviations.md``.

    The result depends neither on the order of visits nor on the order of rows in a visit (but for ``source_row``).
    """

    ConfigClass = IsolatedStarAssociationConfig

    def __init__(self, config: IsolatedStarAssociationConfig | None = None) -> None:
        self.config = config if config is not None else IsolatedStarAssociationConfig()
        self.sourceSelector = self.config.source_selector.apply()

    def run(self, tables: VisitTables, skymap: SkyMap, tract: int) -> IsolatedStars:
        """Associate the sources of a tract.

        Parameters
        ----------
        tables
            Visit -> its table of sources (astropy, Arrow, or a `~zeropoint.association.ColumnReader`), or pairs of
            these in any order. One is read at a time.
        skymap, tract
            Sky map, and the tract's number in it.

        Returns
        -------
        IsolatedStars
            Tables of sources and stars; without rows where no source is selected or no star is alone.

        Raises
        ------
        InvalidInputError
            If a table cannot be used: see `~zeropoint.association.gather.gather_sources`.
        IndexError
            If the sky map has no such tract.
        """
        pool = gather_sources(tables, self.config, self.sourceSelector, skymap[tract])
        positions = Positions.from_degrees(pool.get(self.config.ra_column), pool.get(self.config.dec_column))
        stars = self._primary_stars(pool, positions)
        if len(stars):
            inner = skymap.find_tract_ids(stars.positions.ra, stars.positions.dec) == tract
            pool.counts["n_beside_tract"] = int(np.count_nonzero(~inner))
            stars = _in_order(stars[inner])
        star_of_source, complete = self._match(pool, positions, stars)
        stars = stars[complete]
        del positions  # tens of bytes a source, while the tables are made
        result = self._tables(pool, stars, star_of_source, skymap, tract)
        _log.info(
            "Tract %d: %d isolated stars with %d sources, of %d selected in %d visits.",
            tract,
            len(result.stars),
            len(result.sources),
            pool.counts["n_on_tract"],
            pool.counts["n_visits"],
        )
        return result

    def _group(self, positions: Positions) -> Groups:
        """Group positions by the rule configured."""
        rule = friends if self.config.grouping == "components" else greedy_groups
        return rule(positions, self.config.match_radius * _ARCSEC)

    def _primary_stars(self, pool: SourcePool, positions: Positions) -> _Stars:
        """Return the isolated stars, on the whole tract."""
        match_radius, isolation_radius = (
            radius * _ARCSEC for radius in (self.config.match_radius, self.config.isolation_radius)
        )
        band_of_source, visits = pool.get(self.config.band_column), pool.get("visit")
        stars, blends = _Stars.none(), Positions(np.zeros(0), np.zeros(0))
        for band in range(len(self.config.band_order)):
            rows = np.flatnonzero(band_of_source == band)
            if len(rows) == 0:
                continue
            in_band = positions[rows]
            groups = self._group(in_band)
            centers = groups.centers(in_band)
            pool.counts["n_groups"] += len(groups)
            keep = np.ones(len(groups), np.bool_)
            if self.config.reject_duplicate_visits:
                repeated = groups.with_repeats(visits[rows])
                pool.counts["n_blended_groups"] += int(np.count_nonzero(repeated))
                blends = blends.joined(in_band[np.unique(groups.rows_of(repeated))])
                keep = ~repeated & (centers.count_within(blends, match_radius) == 0)
            keep &= centers.count_within(stars.positions, match_radius) == 0
            stars = stars.joined(centers[keep], band)
        near = stars.positions.count_within(stars.positions, isolation_radius) > 1
        near |= stars.positions.count_within(blends, isolation_radius) > 0
        pool.counts["n_primary"] = len(stars)
        pool.counts["n_not_isolated"] = int(np.count_nonzero(near))
        return stars[~near]

    def _match(self, pool: SourcePool, positions: Positions, stars: _Stars) -> tuple[IntArray, BoolArray]:
        """Return the star that each source belongs to or -1, and which stars are kept; rows count those kept only."""
        star = positions.nearest(stars.positions, self.config.match_radius * _ARCSEC)
        bands = pool.get(self.config.band_column)
        own = star[(star >= 0) & (bands == stars.bands[star])] if len(stars) else star[:0]
        # the mean of a chain may have no source nearby
        complete = np.bincount(own, minlength=len(stars)) > 0
        if self.config.reject_duplicate_visits:
            groups = groups_by_label(star, len(stars))
            complete &= ~groups.with_repeats(pool.get("visit"))
        pool.counts["n_blended_stars"] = int(np.count_nonzero(~complete))
        new_row = np.where(complete, np.cumsum(complete) - 1, -1)
        return (np.where(star >= 0, new_row[star], -1) if len(stars) else star), complete

    def _tables(
        self, pool: SourcePool, stars: _Stars, star_of_source: IntArray, skymap: SkyMap, tract: int
    ) -> IsolatedStars:
        """Return the tables of stars and of sources."""
        bands = list(self.config.band_order)
        # a star's sources lie together, and of these each band's
        label = np.where(
            star_of_source >= 0, star_of_source * len(bands) + pool.get(self.config.band_column), -1
        )
        groups = groups_by_label(label, len(stars) * len(bands))
        counts = np.diff(groups.starts).reshape(len(stars), len(bands))
        pool.counts["n_unmatched"] = len(star_of_source) - len(groups.members)
        sources = Table()
        obj_index = star_of_source[groups.members].astype(np.int32)
        for name in [*self.config.source_columns, "source_row"]:
            sources.add_column(pool.take(name, groups.members), copy=False)
        sources.add_column(Column(obj_index, name="obj_index"), copy=False)
        describe(sources, self.config)
        meta = {"tract": tract, "skymap_sha1": skymap.sha1.hex()}
        sources.meta.update(meta)
        ra = wrapped(np.rad2deg(stars.positions.ra), 360.0)
        ids = _star_ids(len(stars), tract, len(skymap))
        table = star_table(ids, ra, np.rad2deg(stars.positions.dec), stars.bands, counts, bands)
        table.meta.update(meta)
        counts_of_all = {**pool.counts, "n_stars": len(table), "n_sources": len(sources)}
        return IsolatedStars(sources, table, counts_of_all, dict(pool.rejected), pool.note)


def _in_order(stars: _Stars) -> _Stars:
    """Return stars in the order of their cells, and within a cell by declination and right ascension."""
    ra, dec = stars.positions.ra, stars.positions.dec
    cells = hpgeom.angle_to_pixel(_ORDER_NSIDE, ra, dec, nest=True, lonlat=True, degrees=False)
    return stars[np.lexsort((ra, dec, cells))]


def _star_ids(n: int, tract: int, n_tracts: int) -> IntArray:
    """Return ids whose last digits are the tract's, as many as the number of tracts has."""
    return np.arange(1, n + 1) * 10 ** len(str(n_tracts)) + tract
