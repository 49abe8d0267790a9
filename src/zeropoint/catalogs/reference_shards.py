"""A reference catalogue given as shards in memory or deferred: tables by trixel, as a Butler hands them to a task."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from astropy.table import Table

from zeropoint.catalogs.reference_columns import ColumnMap, make_column_map
from zeropoint.catalogs.reference_formats import table_columns
from zeropoint.catalogs.reference_raw import RawTable
from zeropoint.catalogs.reference_rows import (
    ReferenceRows,
    check_same_columns,
    describe_coverage,
    standard_positions,
)
from zeropoint.catalogs.references import SkyRegion, bounding_circle
from zeropoint.datamodel.wcs import angular_separation
from zeropoint.errors import InvalidInputError

__all__ = ["DeferredTable", "ReferenceShards"]

_log = logging.getLogger(__name__)


class DeferredTable(Protocol):
    """What can be asked for a table, such as a deferred dataset handle."""

    def get(self) -> Table:
        """Return the table."""


class ReferenceShards(ReferenceRows):
    """A reference catalogue made of shards that are read when first needed.

    Parameters
    ----------
    name
        Name of the catalogue (its dataset type), for messages and tables.
    shards
        Callables, or handles with ``get()``, that return an astropy Table each: standard columns with units as
        `zeropoint.butler.refcats.ingest_references` writes them, or Rubin's format versions 0 to 2 (fluxes without
        a unit are in Jy if the table's meta lacks ``REFCAT_FORMAT_VERSION``, as Rubin reads them).
    regions
        Where each shard lies.  Then a circle reads only the shards that it touches, and those of earlier circles that
        it does not touch are forgotten, so that a whole survey can be gone through; None: all shards are read, and
        kept.

    Raises
    ------
    InvalidInputError
        If there is no shard at all.
    """

    def __init__(
        self,
        name: str,
        shards: Iterable[Callable[[], Table] | DeferredTable],
        regions: Sequence[SkyRegion] | None = None,
    ) -> None:
        self._readers = [shard if callable(shard) else shard.get for shard in shards]
        super().__init__(name, Path(f"{len(self._readers)} shards"))
        if not self._readers:
            raise InvalidInputError(
                f"Reference catalogue {name} has no shard where the image lies; ingest a catalogue that covers it."
            )
        self._tables: dict[int, tuple[RawTable, ColumnMap]] = {}
        circles = None if regions is None else [bounding_circle(region) for region in regions]
        if circles is not None and len(circles) != len(self._readers):
            raise ValueError(f"{len(self._readers)} shards have {len(circles)} regions")
        self._circles = None if circles is None else np.array(circles).T

    @property
    def column_map(self) -> ColumnMap:
        """The rules from the first shard's columns to the standard ones."""
        return self._table(0)[1]

    def tables_in(self, ra: float, dec: float, radius: float) -> list[tuple[RawTable, ColumnMap]]:
        """Return the shards that touch the circle, with their maps; without regions all, which touch the image."""
        if self._circles is None:
            return [self._table(k) for k in range(len(self._readers))]
        shard_ra, shard_dec, shard_radius = self._circles
        touched = angular_separation(shard_ra, shard_dec, ra, dec) <= shard_radius + radius
        shards = [int(k) for k in np.flatnonzero(touched)]
        for k in set(self._tables) - {0, *shards}:  # the first one says which columns there are
            del self._tables[k]
        return [self._table(k) for k in shards]

    def coverage(self, ra: float, dec: float) -> str:
        """Return a sentence on where the catalogue lies and how far that is from a position (radians)."""
        positions = [standard_positions(*self._table(k)) for k in range(len(self._readers))]
        ras, decs = (np.concatenate(parts) for parts in zip(*positions, strict=True))
        finite = np.isfinite(ras) & np.isfinite(decs)
        what = f"{ras.size} rows in the {len(self._readers)} shards that touch the image"
        return describe_coverage(what, ras[finite], decs[finite], ra, dec)

    def _table(self, k: int) -> tuple[RawTable, ColumnMap]:
        """Return a shard and its map, reading it only once."""
        if k not in self._tables:
            table = _raw_table(
                self._readers[k](), Path(f"{self.name}, shard {k + 1} of {len(self._readers)}")
            )
            mapping = make_column_map(table, {})
            if k == 0 and mapping.converts_jansky:
                _log.info(
                    "%s: the shards' fluxes are in Jy (format version 0) and converted to nJy.", self.name
                )
            if k > 0:
                check_same_columns(table, mapping, *self._table(0))
            self._tables[k] = (table, mapping)
        return self._tables[k]


def _raw_table(table: Table, where: Path) -> RawTable:
    """Return an astropy table as a shard in Rubin's format, all of whose columns are kept."""
    raw = table_columns(table, where)
    return RawTable(where, raw.columns, raw.units, {"AFW_TYPE": "SIMPLE", **raw.meta})
