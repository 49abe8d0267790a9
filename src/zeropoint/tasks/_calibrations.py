"""Calibrations of an instrument that do not depend on the time, for quanta that have none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lsst.daf.butler import DataCoordinate, DatasetRef, DatasetType, Registry, Timespan

__all__ = ["unbounded_calibration"]


def unbounded_calibration(
    dataset_type: DatasetType,
    registry: Registry,
    quantum_data_id: DataCoordinate,
    collections: Sequence[str],
) -> Iterable[DatasetRef]:
    """Return the dataset that is valid at all times, if there is one: a connection's ``lookupFunction``.

    Parameters
    ----------
    dataset_type, registry, quantum_data_id, collections
        As the middleware calls it.

    Raises
    ------
    lsst.daf.butler.registry.AmbiguousDatasetError
        If several datasets of a collection share the time between them.
    """
    found = registry.findDataset(
        dataset_type, quantum_data_id, collections=collections, timespan=Timespan(None, None)
    )
    return [] if found is None else [found]
