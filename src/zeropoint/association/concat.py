"""Join the isolated stars of several tracts, cut to a band and a visit, with the reserved ones marked."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from astropy.table import Table, vstack

from zeropoint.association.reserve import ReserveIsolatedStars
from zeropoint.association.tables import AnyTable, integer_column, read_columns
from zeropoint.datamodel.arrow import arrow_to_table
from zeropoint.datamodel.catalog import column
from zeropoint.errors import InvalidInputError

__all__ = [
    "ConcatenatedStars",
    "check_belong_together",
    "check_unique_stars",
    "concat_isolated_star_cats",
    "read_tract_stars",
]

_log = logging.getLogger(__name__)

#: Columns of the stars' table that every tract must have.
_STAR_COLUMNS = ("isolated_star_id", "ra", "dec", "source_cat_index", "nsource")


@dataclass(frozen=True)
class ConcatenatedStars:
    """Isolated stars of a band, over tracts.

    Parameters
    ----------
    stars
        All stars seen in the band, in every visit, tract by tract: the columns of ``isolated_star_cat`` and
        ``reserved``. Index columns (``source_cat_index...``) point into ``sources``; -1 where it has no such source.
        Counts (``nsource...``) are those of the whole tract.
    sources
        Sources of these stars, star by star: the id column, ``obj_index`` (row in ``stars``), ``visit`` and
        ``detector`` where these were asked for, and ``reserved``. With a visit at most one per star where groups with
        two sources of a visit were rejected.
    tracts
        Tracts that contribute.
    skipped
        Tract -> why it does not.
    """

    stars: Table
    sources: Table
    tracts: tuple[int, ...]
    skipped: Mapping[int, str]

    @property
    def n_tracts(self) -> int:
        """Number of tracts that contribute."""
        return len(self.tracts)


def concat_isolated_star_cats(
    band: str,
    star_cats: Mapping[int, AnyTable],
    star_sources: Mapping[int, AnyTable],
    *,
    reserve: ReserveIsolatedStars,
    id_column: str = "sourceId",
    visit: int | None = None,
    detector: int | None = None,
) -> ConcatenatedStars | None:
    """Join the isolated stars of tracts, and mark the reserved ones.

    Parameters
    ----------
    band
        Only stars seen in this band count.
    star_cats, star_sources
        Tract -> its stars and their sources, as `~zeropoint.association.IsolatedStarAssociation` makes them: tables,
        or readers of which only the columns needed are read. The order of the tracts does not matter.
    reserve
        Chooses the reserved stars, from all stars of the tract in the band whatever the visit, so that the choice is
        the same in each.
    id_column
        Column of ``star_sources`` with the source's id.
    visit, detector
        Keep only sources of this visit, and of this detector of it.

    Returns
    -------
    ConcatenatedStars or None
        None if no tract has a source.

    Raises
    ------
    InvalidInputError
        If the tables of stars and sources are not of the same tracts or do not belong together, a column is missing,
        no tract was associated with the band, or the tables come from different sky maps.
    ValueError
        If a detector is given without a visit.
    """
    if detector is not None and visit is None:
        raise ValueError("a detector is one of a visit: give the visit, too")
    if set(star_cats) != set(star_sources):
        odd = sorted(set(star_cats) ^ set(star_sources))
        raise InvalidInputError(
            f"Isolated stars or their sources are missing for tract {', '.join(map(str, odd))}."
        )
    parts: list[tuple[Table, Table]] = []
    tracts: list[int] = []
    skipped: dict[int, str] = {}
    sky_maps: dict[str, int] = {}
    without_band: list[int] = []
    n_stars = n_sources = 0
    for tract in sorted(star_cats):
        stars = read_tract_stars(star_cats[tract], tract, sky_maps)
        if not _has_band(stars, band, tract):
            without_band.append(tract)
            skipped[tract] = f"it was associated without the band {band} (band_order)"
            continue
        part = _one_tract(band, tract, stars, star_sources[tract], reserve, id_column, visit, detector)
        if isinstance(part, str):
            skipped[tract] = part
            _log.info("Tract %d is left out: %s.", tract, part)
            continue
        stars, sources = part
        sources["obj_index"] += np.int32(n_stars)
        for name in _index_columns(stars):
            stars[name][stars[name] >= 0] += np.int32(n_sources)
        n_stars, n_sources = n_stars + len(stars), n_sources + len(sources)
        parts.append((stars, sources))
        tracts.append(tract)
    _say_without_band(band, without_band, n_tracts=len(star_cats))
    if not parts:
        return None
    stars, sources = (vstack([part[k] for part in parts], metadata_conflicts="silent") for k in (0, 1))
    check_unique_stars(stars)
    _log.info(
        "%d isolated stars and %d sources in %s from %d tracts.", len(stars), len(sources), band, len(tracts)
    )
    return ConcatenatedStars(stars, sources, tuple(tracts), skipped)


def read_tract_stars(table: AnyTable, tract: int, sky_maps: dict[str, int]) -> Table:
    """Return a tract's stars as a table of its own, checked against the tract and the other tracts' sky map.

    Parameters
    ----------
    table
        The tract's stars, with all columns.
    tract
        Its number.
    sky_maps
        Sky map -> a tract associated with it; that of this tract is added, in place.

    Raises
    ------
    InvalidInputError
        If a column is missing, or the table is of another tract or sky map.
    """
    origin = f"The table of isolated stars of tract {tract}"
    if not isinstance(table, Table):
        table = arrow_to_table(read_columns(table, table.column_names, origin))
    # each band has both columns
    bands = {
        name.removeprefix(stem)
        for stem in ("nsource_", "source_cat_index_")
        for name in table.colnames
        if name.startswith(stem)
    }
    pairs = (f"{stem}_{band}" for band in sorted(bands) for stem in ("source_cat_index", "nsource"))
    read_columns(table, [*_STAR_COLUMNS, *pairs], origin)
    meta = dict(table.meta)
    stars = Table({name: column(table, name) for name in table.colnames}, meta=meta)
    if (
        meta.get("tract", tract) != tract
        or (stars["isolated_star_id"] % 10 ** len(str(tract)) != tract).any()
    ):
        raise InvalidInputError(f"{origin} is that of another tract, or of another sky map.")
    if "skymap_sha1" in meta:
        sky_maps.setdefault(str(meta["skymap_sha1"]), tract)
        if len(sky_maps) > 1:
            other = next(iter(sky_maps.values()))
            raise InvalidInputError(
                f"The isolated stars of tracts {other} and {tract} were associated with different sky maps; take those "
                "of one map, or associate again."
            )
    return stars


def _has_band(stars: Table, band: str, tract: int) -> bool:
    """Return whether a tract was associated with a band; that the band's columns were lost is an error."""
    if f"nsource_{band}" in stars.colnames:
        return True
    # sources in bands that the association leaves out are not counted
    known = sum((np.asarray(stars[name]) for name in stars.colnames if name.startswith("nsource_")), 0)
    lost = int(np.sum(np.asarray(stars["nsource"]) - known))
    if lost != 0:
        raise InvalidInputError(
            f"The table of isolated stars of tract {tract} has no column nsource_{band}, but {lost} sources in bands "
            "without a column; take the table as the association wrote it."
        )
    return False


def _say_without_band(band: str, tracts: list[int], *, n_tracts: int) -> None:
    """Warn of tracts that were associated without a band; raise if all were."""
    if not tracts:
        return
    text = f"of tract {', '.join(map(str, tracts))} has no column nsource_{band}: band_order of the association lacks {band}"
    if len(tracts) == n_tracts:
        raise InvalidInputError(f"The table of isolated stars {text}. Associate again with this band.")
    _log.warning("The table of isolated stars %s; it is left out.", text)


def _one_tract(
    band: str,
    tract: int,
    stars: Table,
    source_table: AnyTable,
    reserve: ReserveIsolatedStars,
    id_column: str,
    visit: int | None,
    detector: int | None,
) -> tuple[Table, Table] | str:
    """Return stars and sources of one tract with indices into each other, or why there are none."""
    origin = f"The table of isolated-star sources of tract {tract}"
    wanted: dict[str, type[np.integer]] = {"obj_index": np.int32}
    if visit is not None:
        wanted["visit"] = np.int64
    if detector is not None:
        wanted["detector"] = np.int32
    table = read_columns(source_table, [id_column, *wanted], origin)
    sources = Table({id_column: column(table, id_column)})
    for name, dtype in wanted.items():
        sources[name] = integer_column(table, name, dtype, origin)
    check_belong_together(stars, sources["obj_index"], tract)
    if visit is not None:
        sources = sources[sources["visit"] == visit]
        if len(sources) == 0:
            return f"no sources of visit {visit}"
    if detector is not None:
        sources = sources[sources["detector"] == detector]
        if len(sources) == 0:
            return f"no sources of visit {visit}, detector {detector}"
    in_band = np.asarray(stars[f"nsource_{band}"]) > 0
    if not in_band.any():
        return f"no stars in {band}"
    new_row = np.cumsum(in_band, dtype=np.int32) - np.int32(1)
    sources = sources[in_band[sources["obj_index"]]]
    if len(sources) == 0:
        return f"no sources of stars in {band}"
    sources["obj_index"] = new_row[sources["obj_index"]]
    sources.sort("obj_index", kind="stable")
    old_first = np.asarray(stars["source_cat_index"])[in_band]
    stars = stars[in_band]
    extra = f"{band}_{tract}"
    stars["reserved"] = reserve.run(len(stars), extra=extra, ra=stars["ra"].data, dec=stars["dec"].data)
    sources["reserved"] = stars["reserved"].data[sources["obj_index"]]
    _set_index(stars, sources["obj_index"].data, old_first, band, cut=visit is not None)
    return stars, sources


def check_belong_together(stars: Table, obj_index: np.ndarray, tract: int) -> None:
    """Check that the sources point to the stars of the table beside them, as often as it says.

    Parameters
    ----------
    stars
        Stars of a tract, with ``nsource``.
    obj_index : int, shape (n_sources,)
        Row of each source's star.
    tract
        The tract, for the message.

    Raises
    ------
    InvalidInputError
        If they do not.
    """
    counts = np.asarray(stars["nsource"])
    fits = len(obj_index) == 0 or (obj_index.min() >= 0 and obj_index.max() < len(stars))
    if not fits or not np.array_equal(np.bincount(obj_index, minlength=len(stars)), counts):
        raise InvalidInputError(
            f"The isolated stars of tract {tract} ({len(stars)} rows) and their sources ({len(obj_index)} rows) are not "
            "from the same association: obj_index and nsource disagree."
        )


def _index_columns(stars: Table) -> list[str]:
    return [name for name in stars.colnames if name.startswith("source_cat_index")]


def _set_index(stars: Table, obj_index: np.ndarray, old_first: np.ndarray, band: str, *, cut: bool) -> None:
    """Point the index columns, in place, to rows of the sources that are left."""
    first = np.searchsorted(obj_index, np.arange(len(stars)))
    present = np.searchsorted(obj_index, np.arange(len(stars)), side="right") > first
    for name in _index_columns(stars):
        if cut:  # a visit has one band
            there = (
                present
                if name in ("source_cat_index", f"source_cat_index_{band}")
                else np.zeros_like(present)
            )
            value = first
        else:  # all sources of a star are left, in their order
            kind = name.removeprefix("source_cat_index")
            there = np.asarray(stars[f"nsource{kind}"]) > 0
            value = first + (np.asarray(stars[name]) - old_first)
        stars[name] = np.where(there, value, -1).astype(np.int32)


def check_unique_stars(stars: Table) -> None:
    """Check that no star occurs in two tracts, as it does where their tables are from maps of different length.

    Parameters
    ----------
    stars
        Stars of all tracts, with ``isolated_star_id``.

    Raises
    ------
    InvalidInputError
        If one does.
    """
    ids, counts = np.unique(np.asarray(stars["isolated_star_id"]), return_counts=True)
    if len(ids) < len(stars):
        raise InvalidInputError(
            f"{int(np.count_nonzero(counts > 1))} isolated stars (the first: {ids[counts > 1][0]}) occur twice: the "
            "tables overlap or are from different sky maps; associate again."
        )
