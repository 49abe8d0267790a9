"""The tables of a star list, of either form, read one column at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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

__all__ = [
    "StarColumns",
    "StarListTable",
    "hashed_uniform",
    "members_of_stars",
    "pieces",
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
        values = self._read(found)[found]
        if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
            return np.asarray(np.ma.filled(values.astype(np.float64), np.nan))
        return np.asarray(values)

    def _read(self, name: str) -> Table:
        """Return a table that has a column."""
        table = read_columns(self._table, [name], self.name)
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


def members_of_stars(
    ids: StarColumns, indices: StarColumns | None, n_observations: int, order: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return star and row of each observation of a star list.

    Parameters
    ----------
    ids
        ``fgcmStarIds`` or ``fgcm_star_ids``.
    indices
        ``fgcmStarIndices``; None: observations of a star follow each other.
    n_observations
        Rows of the table of observations.
    order : int64, shape (n_star,)
        Rows of the stars, in the order in which they are wanted.

    Returns
    -------
    star : int32, shape (n,)
        Index into ``order``, ascending.
    row : int64, shape (n,)
        Row of the table of observations.

    Raises
    ------
    InvalidInputError
        If the tables do not belong together.
    """
    first = ids.column("obs_arr_index").astype(np.int64)[order]
    count = ids.column("n_obs").astype(np.int64)[order]
    star = np.repeat(np.arange(len(order), dtype=np.int32), count)
    row = np.arange(len(star), dtype=np.int64)
    row += np.repeat(first - (np.cumsum(count) - count), count)
    n_entries = n_observations if indices is None else len(indices)
    _require_rows(row, n_entries, ids.name, "the table of observations" if indices is None else indices.name)
    if indices is None and len(row) != n_observations:
        # nothing is in such a list that is not of a star
        raise InvalidInputError(
            f"{ids.name} counts {len(row)} observations, the table of observations has {n_observations}: {_DIFFERENT}."
        )
    if indices is not None:
        row = indices.column("obs_index").astype(np.int64)[row]
        _require_rows(row, n_observations, indices.name, "the table of observations")
    return star, row


def _require_rows(rows: npt.NDArray[np.int64], n: int, name: str, of: str) -> None:
    """Raise if a row is not one of a table."""
    if len(rows) and (rows.min() < 0 or rows.max() >= n):
        raise InvalidInputError(f"{name} names row {int(rows.max())} of {of}, which has {n}: {_DIFFERENT}.")


def require_positions(
    ids: StarColumns,
    observations: StarColumns,
    order: npt.NDArray[np.int64],
    star: npt.NDArray[np.int32],
    row: npt.NDArray[np.int64],
) -> None:
    """Check on some observations that they are where their stars are; without positions of observations nothing is checked.

    Parameters
    ----------
    ids, observations
        ``fgcmStarIds`` (degrees) and ``fgcmStarObservations`` (radians), or ``fgcm_star_ids`` and ``fgcm_star_observations``
        (degrees).
    order, star, row
        Rows of the stars, and star and row of each observation, as of `members_of_stars`.

    Raises
    ------
    InvalidInputError
        If more than a hundredth are elsewhere: the tables are of different star lists. Elsewhere is farther than a twentieth of
        the distance of two stars of a visit, but at most 180 arcsec.
    """
    if not {"ra", "dec"} <= set(observations.columns) or len(row) == 0:
        return
    own_unit = 1.0 if "obsArrIndex" in ids.columns else np.pi / 180.0
    some = np.linspace(0, len(row) - 1, min(len(row), _N_CHECKED)).astype(np.int64)
    of_star, of_row = order[star[some]], row[some]
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


def pieces(n: int, size: int = 1 << 20) -> Iterator[slice]:
    """Yield slices that cover n rows, so that temporary arrays stay small.

    Parameters
    ----------
    n
        Rows.
    size
        Of a slice.
    """
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
