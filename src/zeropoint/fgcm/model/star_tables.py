"""The tables of a star list, of either form, read one column at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.table import Table

from zeropoint.association.tables import AnyTable, read_columns
from zeropoint.datamodel import arrow
from zeropoint.datamodel.arrow import arrow_to_table
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.model import _kernels_load
from zeropoint.fgcm.model.exposures import FitExposures
from zeropoint.fgcm.threads import finish, row_parts

__all__ = [
    "StarColumns",
    "StarListTable",
    "StarOrder",
    "hashed_uniform",
    "order_of_stars",
    "require_positions",
]

#: A table in memory, or a parquet file or reader of which columns are read one at a time.
type StarListTable = AnyTable | Path

#: Name here -> its names in the list from source tables and in that from isolated stars.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "detector": ("ccd", "detector"),
    "inst_mag": ("instMag", "inst_mag"),
    "inst_mag_err": ("instMagErr", "inst_mag_err"),
    "delta_mag_bkg": ("deltaMagBkg", "delta_mag_bkg"),
    "delta_mag_aper": ("deltaMagAper", "delta_mag_aper"),
    "obs_arr_index": ("obsArrIndex", "obs_arr_index"),
    "n_obs": ("nObs", "n_obs"),
    "obs_index": ("obsIndex", "obs_index"),
    "ref_mag": ("refMag", "ref_mag"),
    "ref_mag_err": ("refMagErr", "ref_mag_err"),
}
_DIFFERENT = "the tables are of different star lists; make the star list again, or give all tables of one"
#: Observations whose positions are compared with those of their stars.
_N_CHECKED = 20_000
#: How far apart they are at least and at most, radians, where the tables are of different lists: many times a matching radius,
#: which is two pixels or so, and pixels of photographic lenses have 20 arcsec.
_APART = float(np.deg2rad(2.0 / 3600.0)), float(np.deg2rad(180.0 / 3600.0))
#: Between these, the part of the distance of two stars of a visit: of detectors of a thousand pixels, about 25 of them.
_OF_FIELD = 0.05
_MOST_INT32 = 1 << 31
_GOLDEN, _MIX = np.uint64(0x9E3779B97F4A7C15), (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


class StarColumns:
    """A table of which columns are read when they are wanted, and not kept.

    Parameters
    ----------
    table
        Table, or file.
    name
        What messages call it.

    Raises
    ------
    InvalidInputError
        If the file cannot be read.
    """

    def __init__(self, table: StarListTable, name: str) -> None:
        self.name = name
        self._table = _ParquetFile(table, name) if isinstance(table, Path) else table
        self.columns = tuple(
            self._table.colnames if isinstance(self._table, Table) else self._table.column_names
        )

    def __len__(self) -> int:
        if isinstance(self._table, (Table, pa.Table)):
            return len(self._table)
        return self._table.n_rows if isinstance(self._table, _ParquetFile) else self._n_rows

    def __contains__(self, name: str) -> bool:
        return any(each in self.columns for each in _NAMES.get(name, (name,)))

    @cached_property
    def _n_rows(self) -> int:
        return len(self._read(self.columns[0]))

    @property
    def meta(self) -> Mapping[str, Any]:
        """Metadata of the table."""
        return dict(self._read(self.columns[0]).meta)

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a column.

        Parameters
        ----------
        name
            Its name: of the form from isolated stars, or what both forms share.

        Raises
        ------
        InvalidInputError
            If there is no such column.
        """
        found = next((each for each in _NAMES.get(name, (name,)) if each in self.columns), None)
        if found is None:
            raise InvalidInputError(
                f"{self.name} lacks the column {' or '.join(_NAMES.get(name, (name,)))}; is it a table of another kind?"
            )
        values = self._values(found)
        if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
            return np.asarray(np.ma.filled(values.astype(np.float64), np.nan))
        plain = np.asarray(values)
        # compiled passes cannot read the bytes of FITS tables as they are
        return plain if plain.dtype.isnative else plain.astype(plain.dtype.newbyteorder("="))

    def _values(self, name: str) -> npt.NDArray[Any]:
        """Return the values of a column as they are."""
        table = read_columns(self._table, [name], self.name)
        if isinstance(table, pa.Table):
            values = table.column(name)
            if pa.types.is_primitive(values.type) and values.null_count == 0:
                # metadata of the table take longer to read than numbers
                return np.asarray(values.to_numpy())
        return self._as_table(table, name)[name]

    def _read(self, name: str) -> Table:
        """Return a table that has a column."""
        return self._as_table(read_columns(self._table, [name], self.name), name)

    @staticmethod
    def _as_table(table: Table | pa.Table, name: str) -> Table:
        return arrow_to_table(table.select([name])) if isinstance(table, pa.Table) else table


class _ParquetFile:
    """A parquet file as a reader of columns."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        if not path.exists():
            raise InvalidInputError(
                f"{name}: there is no file {path}; `zeropoint fgcm stars` makes a star list."
            )
        if path.stat().st_size == 0:
            raise InvalidInputError(f"{name}: {path} is empty (0 bytes); make the star list again.")
        try:
            found = pq.read_metadata(path)
            self.column_names, self.n_rows = list(found.schema.to_arrow_schema().names), found.num_rows
        except (OSError, pa.ArrowException) as error:
            raise InvalidInputError(f"{name}: {path} cannot be read ({error}).") from None

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return some columns."""
        return arrow.read_columns(self._path, columns)


@dataclass(frozen=True)
class StarOrder:
    """The observations of a star list, by star, band, exposure and detector.

    Parameters
    ----------
    row : int32 or int64, shape (n,)
        Row of the table of observations.
    ec : int32, shape (n,)
        Exposure times number of detectors plus position of the detector; -1 where the exposure has no band, -2 where there is
        no exposure: these come last of their star.
    begin : int64, shape (n_star + 1,)
        Where the observations of each star begin.
    count : int64, shape (n_star * n_band,)
        Those of each star and band that have an exposure with a band.
    n_no_exposure, n_no_band, n_tied
        Observations without exposure, without band, and those that follow another of the same star, exposure and detector.
    """

    row: npt.NDArray[np.integer[Any]]
    ec: npt.NDArray[np.int32]
    begin: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    n_no_exposure: int
    n_no_band: int
    n_tied: int


def order_of_stars(
    ids: StarColumns,
    indices: StarColumns | None,
    observations: StarColumns,
    order: npt.NDArray[np.int64],
    detector: npt.NDArray[np.int32],
    exposures: FitExposures,
    threads: int,
) -> StarOrder:
    """Sort the observations of a star list.

    Parameters
    ----------
    ids
        ``fgcmStarIds`` or ``fgcm_star_ids``.
    indices
        ``fgcmStarIndices``; None: observations of a star follow each other.
    observations
        ``fgcmStarObservations`` or ``fgcm_star_observations``.
    order : int64, shape (n_star,)
        Rows of the stars, in the order in which they are wanted.
    detector : int32, shape (n_rows,)
        Position of each observation's detector.
    exposures
        Of the fit.
    threads
        Threads.

    Raises
    ------
    InvalidInputError
        If the tables do not belong together.
    """
    first = ids.column("obs_arr_index").astype(np.int64)[order]
    count = ids.column("n_obs").astype(np.int64)[order]
    begin = np.concatenate([[0], np.cumsum(count)])
    n_rows, n = len(observations), int(begin[-1])
    entries = observations if indices is None else indices
    some = count > 0
    _require_rows(first[some], (first + count - 1)[some], len(entries), ids.name, entries.name)
    if indices is None and n != n_rows:
        # nothing is in such a list that is not of a star
        raise InvalidInputError(
            f"{ids.name} counts {n} observations, the table of observations has {n_rows}: {_DIFFERENT}."
        )
    of_entries = np.zeros(0, np.int32)
    if indices is not None:
        of_entries = np.ascontiguousarray(indices.column("obs_index"))
        if of_entries.dtype != np.int32:
            of_entries = of_entries.astype(np.int64)
    row: npt.NDArray[np.integer[Any]] = np.empty(n, np.int32 if n_rows < _MOST_INT32 else np.int64)
    ec = np.empty(n, np.int32)
    by_segment = np.zeros(len(order) * exposures.n_band, np.int64)
    visit = np.ascontiguousarray(observations.column("visit"), np.int64)
    bands = np.where(exposures.has_passband, exposures.band, -1).astype(np.int32)
    parts = np.searchsorted(begin, row_parts(n))
    parts[-1] = len(order)
    found = np.zeros((len(parts) - 1, 4), np.int64)
    finish(
        lambda k: _kernels_load.sort_stars(
            first, begin, of_entries, visit, detector, exposures.visit, bands,
            np.int64(exposures.n_band), np.int64(exposures.n_det), parts[k], parts[k + 1], row, ec, by_segment, found[k],
        ),
        len(found),
        threads,
    )  # fmt: skip
    if found[:, 3].any() and indices is not None:
        used = np.repeat(first - begin[:-1], count) + np.arange(n)
        rows = of_entries[used]
        _require_rows(rows, rows, n_rows, indices.name, "the table of observations")
    no_exposure, no_band, tied, _ = found.sum(axis=0).tolist()
    return StarOrder(row, ec, begin, by_segment, no_exposure, no_band, tied)


def _require_rows(
    least: npt.NDArray[np.integer[Any]], most: npt.NDArray[np.integer[Any]], n: int, name: str, of: str
) -> None:
    """Raise if a row is not one of a table."""
    if len(least) and (least.min() < 0 or most.max() >= n):
        raise InvalidInputError(f"{name} names row {int(most.max())} of {of}, which has {n}: {_DIFFERENT}.")


def require_positions(
    ids: StarColumns,
    observations: StarColumns,
    order: npt.NDArray[np.int64],
    sorted_: StarOrder,
) -> None:
    """Check on some observations that they are where their stars are; without positions of observations nothing is checked.

    Parameters
    ----------
    ids, observations
        ``fgcmStarIds`` (degrees) and ``fgcmStarObservations`` (radians), or ``fgcm_star_ids`` and ``fgcm_star_observations``
        (degrees).
    order : int64, shape (n_star,)
        Rows of the stars.
    sorted_
        Their observations.

    Raises
    ------
    InvalidInputError
        If more than a hundredth are elsewhere: the tables are of different star lists. Elsewhere is farther than a twentieth of
        the distance of two stars of a visit, but at most 180 arcsec.
    """
    if not {"ra", "dec"} <= set(observations.columns) or len(sorted_.row) == 0:
        return
    own_unit = 1.0 if "obsArrIndex" in ids.columns else np.pi / 180.0
    n = len(sorted_.row)
    some = np.linspace(0, n - 1, min(n, _N_CHECKED)).astype(np.int64)
    of_row = sorted_.row[some].astype(np.int64)
    of_star = order[np.searchsorted(sorted_.begin, some, side="right") - 1]
    of_stars, own = (
        tuple(factor * table.column(name)[rows].astype(np.float64) for name in ("ra", "dec"))
        for table, rows, factor in ((ids, of_star, np.pi / 180.0), (observations, of_row, own_unit))
    )
    visit = observations.column("visit")[of_row]
    drawn = np.lexsort((hashed_uniform(of_row, 0), visit))
    first, second = drawn[:-1], drawn[1:]
    same = visit[first] == visit[second]
    first, second = first[same], second[same]
    most = _APART[1]
    if len(first):
        between = _distance((own[0][first], own[1][first]), (own[0][second], own[1][second]))
        most = float(np.clip(_OF_FIELD * np.median(between), *_APART))
    far = _distance(own, of_stars) > most
    if far.sum() > 0.01 * len(far):
        raise InvalidInputError(
            f"{ids.name} has {int(far.sum())} of {len(far)} observations more than {np.rad2deg(most) * 3600:.0f} arcsec from "
            f"their stars: {_DIFFERENT}."
        )


def _distance(
    first: tuple[npt.NDArray[np.float64], ...], second: tuple[npt.NDArray[np.float64], ...]
) -> npt.NDArray[np.float64]:
    """Return the small distances of pairs of right ascensions and declinations, radians."""
    east = np.abs((first[0] - second[0] + np.pi) % (2.0 * np.pi) - np.pi) * np.cos(second[1])
    return np.asarray(np.hypot(east, first[1] - second[1]))


def hashed_uniform(ids: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.float64]:
    """Return a number in [0, 1) for each id that depends on the id and the seed alone.

    Parameters
    ----------
    ids : int64, shape (n,)
        Ids.
    seed
        Of the choice.

    Notes
    -----
    The mixing function of splitmix64 (Steele, Lea & Flood 2014).
    """
    with np.errstate(over="ignore"):
        z = ids.astype(np.uint64) + np.uint64(seed & 0xFFFFFFFFFFFFFFFF) * _GOLDEN + _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _MIX[0]
        z = (z ^ (z >> np.uint64(27))) * _MIX[1]
        z ^= z >> np.uint64(31)
    return np.asarray((z >> np.uint64(11)).astype(np.float64) * 2.0**-53)
