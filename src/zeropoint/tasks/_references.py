"""Connections to reference catalogues, and loaders from a quantum's shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import lsst.pipe.base.connectionTypes as cT

from zeropoint.catalogs.reference_columns import ColumnMap
from zeropoint.catalogs.reference_raw import RawTable
from zeropoint.catalogs.reference_rows import ReferenceRows
from zeropoint.catalogs.reference_shards import DeferredTable, ReferenceShards
from zeropoint.catalogs.references import LoadReferenceObjectsConfig, ReferenceObjectLoader
from zeropoint.errors import NoReferenceSourcesError

__all__ = ["ReferenceInput", "reference_catalog", "survey_references"]


def reference_catalog(doc: str, name: str) -> cT.PrerequisiteInput:
    """Return the connection to the shards of a reference catalogue that overlap an image.

    None is enough: an image beside the catalogue must not keep the others from being calibrated.

    Parameters
    ----------
    doc
        What the catalogue is for.
    name
        Default dataset type.
    """
    return cT.PrerequisiteInput(
        doc=doc,
        name=name,
        storageClass="ArrowAstropy",
        dimensions=("skypix",),
        deferLoad=True,
        multiple=True,
        minimum=0,
    )


class _NoShards(ReferenceRows):
    """A catalogue of which no shard overlaps the image."""

    def __init__(self, name: str) -> None:
        super().__init__(name, Path("no shard overlaps the image"))

    @property
    def column_map(self) -> ColumnMap:
        raise LookupError(f"{self.name} has no shard here, so its columns are not known.")

    @property
    def bands(self) -> list[str]:
        return []

    @property
    def has_proper_motion(self) -> bool:
        return False

    @property
    def lacks_epoch(self) -> bool:
        return False

    def tables_in(self, ra: float, dec: float, radius: float) -> list[tuple[RawTable, ColumnMap]]:
        return []

    def coverage(self, ra: float, dec: float) -> str:
        return "none of its shards in the input collections overlaps the image's region"


class _NoShardsLoader(ReferenceObjectLoader):
    """The loader of a catalogue without a shard here: to load is a failure of this image alone."""

    def flux_field(self, band: str) -> str:
        return f"{band}_flux"

    def load(self, wcs: Any, shape: tuple[int, int], **_: Any) -> NoReturn:
        self._fail(*self._circle(wcs, shape))
        raise AssertionError


class ReferenceInput:
    """The shards of a quantum by catalogue, so that two loaders of one catalogue read each shard once."""

    def __init__(self) -> None:
        self._sources: dict[str, ReferenceRows] = {}

    def loader(
        self, name: str, shards: Sequence[DeferredTable], config: LoadReferenceObjectsConfig
    ) -> ReferenceObjectLoader:
        """Return a loader of the shards of one catalogue.

        Parameters
        ----------
        name
            Dataset type of the catalogue.
        shards
            Deferred tables; with none, `load` raises `zeropoint.errors.NoReferenceSourcesError`.
        config
            Configuration of the loader.
        """
        if not shards:
            return _NoShardsLoader(_NoShards(name), config)
        if name not in self._sources:
            self._sources[name] = ReferenceShards(name, shards)
        return ReferenceObjectLoader(self._sources[name], config)


def survey_references(name: str, shards: Sequence[Any]) -> ReferenceObjectLoader:
    """Return a loader of the shards around many visits, of which only those near a place are in memory at a time.

    Parameters
    ----------
    name
        Dataset type of the catalogue.
    shards
        Deferred datasets.

    Raises
    ------
    NoReferenceSourcesError
        If there is no shard.
    """
    if not shards:
        raise NoReferenceSourcesError(
            f"No shard of the reference catalogue {name} overlaps the visits.  Ingest a catalogue that covers them, name "
            "it with the task's connections, or set doReferenceMatches=False.",
            n_objects=0,
            n_with_flux=0,
        )
    regions = [_region(shard) for shard in shards]
    known = [region for region in regions if region is not None]
    return ReferenceObjectLoader(ReferenceShards(name, shards, known if len(known) == len(shards) else None))


def _region(shard: Any) -> Any:
    """Return where a shard lies, if its data id is one that knows."""
    data_id = getattr(shard, "dataId", None)
    return data_id.region if data_id is not None and data_id.hasRecords() else None
