"""Bring a camera's transmission curves into a repository, as calibrations that are valid for ever, and find them there."""

from __future__ import annotations

import datetime as dt
import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from astropy.table import Table
from lsst.daf.butler import (
    Butler,
    CollectionType,
    DataCoordinate,
    DatasetRef,
    DatasetType,
    MissingCollectionError,
    MissingDatasetTypeError,
    Registry,
    Timespan,
)

from zeropoint.butler.collection_chains import add_to_chain, calib_collection, defaults_chain, update_defaults
from zeropoint.butler.dataset_types import ensure_dataset_type
from zeropoint.datamodel.transmission_curve import TransmissionCurve
from zeropoint.errors import InvalidInputError

__all__ = [
    "IngestedThroughputs",
    "Throughputs",
    "filters_with_curves",
    "ingest_throughputs",
    "static_calibrations",
]

#: Dataset type -> its dimensions. Each is a table of wavelength and throughput.
_DIMENSIONS = {
    "transmission_optics": ("instrument",),
    "transmission_sensor": ("instrument", "detector"),
    "transmission_filter": ("instrument", "physical_filter"),
    "transmission_filter_detector": ("instrument", "physical_filter", "detector"),
}
_EVER = Timespan(None, None)


@dataclass(frozen=True)
class Throughputs:
    """Transmission curves of a camera, as far as they are given.

    Parameters
    ----------
    optics
        Mirrors, lenses and windows.
    sensors
        Detector -> quantum efficiency.
    every_sensor
        That of all detectors which ``sensors`` does not name.
    filters
        Physical filter -> curve.
    filter_detectors
        Physical filter -> detector -> curve of the filter before that detector.
    """

    optics: TransmissionCurve | None = None
    sensors: Mapping[int, TransmissionCurve] = field(default_factory=dict)
    every_sensor: TransmissionCurve | None = None
    filters: Mapping[str, TransmissionCurve] = field(default_factory=dict)
    filter_detectors: Mapping[str, Mapping[int, TransmissionCurve]] = field(default_factory=dict)


@dataclass(frozen=True)
class IngestedThroughputs:
    """What a repository holds of a camera's transmission curves.

    Parameters
    ----------
    collection
        Calibration collection.
    n_new, n_replaced, n_unchanged
        Curves by dataset type: certified now where there was none, in place of others, and found as they were.
    missing
        Physical filters and detectors of the camera for which there is no curve at all.
    """

    collection: str
    n_new: Mapping[str, int]
    n_replaced: Mapping[str, int]
    n_unchanged: Mapping[str, int]
    missing: Mapping[str, tuple[str | int, ...]]


def ingest_throughputs(butler: Butler, instrument: str, throughputs: Throughputs) -> IngestedThroughputs:
    """Certify transmission curves of a camera, valid for ever, in its calibration collection.

    Parameters
    ----------
    butler
        Writeable.
    instrument
        A registered camera.
    throughputs
        Its curves. What is not given stays as it is; what is given takes the place of what there was.

    Raises
    ------
    InvalidInputError
        If the camera, a filter or a detector is not registered, or nothing is given.

    Notes
    -----
    All is done in one transaction. Curves that were replaced stay in their run, so that what was made with them can be told.
    """
    filters, detectors = _registered(butler, instrument)
    wanted = _wanted(throughputs, instrument, filters, detectors)
    collection = calib_collection(instrument)
    butler.collections.register(collection, CollectionType.CALIBRATION)
    for name, dimensions in _DIMENSIONS.items():
        dataset_type = DatasetType(
            name, dimensions, "ArrowAstropy", universe=butler.dimensions, isCalibration=True
        )
        ensure_dataset_type(butler, dataset_type)
    known = {name: _certified(butler, name, collection) for name in _DIMENSIONS}
    new, replaced, unchanged = Counter[str](), Counter[str](), Counter[str]()
    changed: list[tuple[str, DataCoordinate, Table]] = []
    old: dict[str, list[DataCoordinate]] = {}
    for name, values, curve in wanted:
        data_id = butler.registry.expandDataId(dict(zip(_DIMENSIONS[name], (instrument, *values))))
        before, table = known[name].get(data_id), curve.to_table()
        if before is not None and _same(butler.get(before), table):
            unchanged[name] += 1
            continue
        (new if before is None else replaced)[name] += 1
        changed.append((name, data_id, table))
        if before is not None:
            old.setdefault(name, []).append(data_id)
    if changed:
        _certify(butler, collection, changed, old)
    update_defaults(butler, instrument)
    add_to_chain(butler, defaults_chain(instrument), collection)
    return IngestedThroughputs(
        collection, new, replaced, unchanged, _missing(butler, collection, filters, detectors)
    )


def filters_with_curves(butler: Butler, instrument: str) -> set[str]:
    """Return the physical filters of a camera that have a curve in its calibration collection.

    Parameters
    ----------
    butler
        Repository.
    instrument
        Name of the camera.
    """
    collection = calib_collection(instrument)
    try:
        ids = {name: list(_certified(butler, name, collection)) for name in _DIMENSIONS}
    except (MissingCollectionError, MissingDatasetTypeError):
        return set()
    return _filters(ids)


def static_calibrations(
    dataset_type: DatasetType, registry: Registry, data_id: DataCoordinate, collections: Sequence[str]
) -> Iterable[DatasetRef]:
    """Return the calibrations of a kind that are valid for ever: the ``lookupFunction`` of connections for them.

    Parameters
    ----------
    dataset_type
        What is looked for.
    registry
        Of the repository.
    data_id
        Calibrations for it and, where they have further dimensions, for any value of these.
    collections
        Searched in order; the first that has a calibration for a data id gives it.

    Returns
    -------
    refs
        In the order of data ids.
    """
    found: dict[DataCoordinate, DatasetRef] = {}
    order = {name: k for k, name in enumerate(registry.queryCollections(collections, flattenChains=True))}
    try:
        associations = list(
            registry.queryDatasetAssociations(
                dataset_type.name,
                collections=list(order),
                collectionTypes={CollectionType.CALIBRATION},
                flattenChains=True,
            )
        )
    except MissingDatasetTypeError:
        return []
    for association in sorted(associations, key=lambda each: order[each.collection]):
        ref = association.ref
        fits = all(
            ref.dataId[key] == data_id[key] for key in ref.dataId.required if key in data_id.dimensions
        )  # type: ignore[attr-defined]
        if fits and association.timespan in (None, _EVER):
            found.setdefault(ref.dataId, ref)
    return [found[key] for key in sorted(found, key=lambda key: tuple(key.required_values))]


def _registered(butler: Butler, instrument: str) -> tuple[list[str], list[int]]:
    """Return filters and detectors of an instrument."""
    known = sorted(record.name for record in butler.query_dimension_records("instrument", explain=False))
    if instrument not in known:
        raise InvalidInputError(
            f"Camera {instrument!r} is not registered here (registered: {', '.join(known) or 'none'}); "
            "`zeropoint register-camera REPO CARD` registers one."
        )
    filters = butler.query_dimension_records("physical_filter", instrument=instrument, explain=False)
    detectors = butler.query_dimension_records("detector", instrument=instrument, explain=False)
    return sorted(record.name for record in filters), sorted(record.id for record in detectors)


def _wanted(
    given: Throughputs, instrument: str, filters: list[str], detectors: list[int]
) -> list[tuple[str, tuple[str | int, ...], TransmissionCurve]]:
    """Return dataset type, values of the dimensions beyond the instrument, and curve."""
    for name in [*given.filters, *given.filter_detectors]:
        if name not in filters:
            close = difflib.get_close_matches(name, filters, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(filters) or 'none'}."
            raise InvalidInputError(
                f"{instrument} has no filter {name!r}: {hint} Filters are `bands:` of its camera card, and those of "
                "its images."
            )
    numbers = [*given.sensors, *(d for curves in given.filter_detectors.values() for d in curves)]
    unknown = sorted(set(numbers) - set(detectors))
    if unknown or (given.every_sensor is not None and not detectors):
        raise InvalidInputError(
            f"{instrument} has no detector {', '.join(map(str, unknown[:8])) or 'at all'} in this repository (it has "
            f"{_ranges(detectors)}); detectors are registered with their first images (`zeropoint ingest-images`)."
        )
    wanted: list[tuple[str, tuple[str | int, ...], TransmissionCurve]] = []
    if given.optics is not None:
        wanted.append(("transmission_optics", (), given.optics))
    for detector in detectors:
        sensor = given.sensors.get(detector, given.every_sensor)
        if sensor is not None:
            wanted.append(("transmission_sensor", (detector,), sensor))
    wanted += [("transmission_filter", (name,), curve) for name, curve in sorted(given.filters.items())]
    wanted += [
        ("transmission_filter_detector", (name, detector), curve)
        for name, curves in sorted(given.filter_detectors.items())
        for detector, curve in sorted(curves.items())
    ]
    if not wanted:
        raise InvalidInputError(f"no transmission curve of {instrument} is given.")
    return wanted


def _ranges(numbers: list[int]) -> str:
    return f"{len(numbers)}, {numbers[0]} to {numbers[-1]}" if numbers else "none"


def _certified(butler: Butler, name: str, collection: str) -> dict[DataCoordinate, DatasetRef]:
    """Return what is certified for ever."""
    return {
        association.ref.dataId: association.ref
        for association in butler.registry.queryDatasetAssociations(name, collections=[collection])
        if association.timespan == _EVER
    }


def _same(one: Table, other: Table) -> bool:
    """Say whether two tables hold one curve."""
    return set(one.colnames) == set(other.colnames) and all(
        np.array_equal(np.asarray(one[name]), np.asarray(other[name])) and one[name].unit == other[name].unit
        for name in one.colnames
    )


def _certify(
    butler: Butler,
    collection: str,
    changed: list[tuple[str, DataCoordinate, Table]],
    old: Mapping[str, list[DataCoordinate]],
) -> None:
    stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S%fZ")
    run = f"{collection}/throughputs/{stamp}"
    butler.collections.register(run, CollectionType.RUN)
    with butler.transaction():
        refs = [butler.put(table, name, data_id, run=run) for name, data_id, table in changed]
        for name, data_ids in old.items():
            butler.registry.decertify(collection, name, _EVER, dataIds=data_ids)
        butler.registry.certify(collection, refs, _EVER)


def _filters(ids: Mapping[str, list[DataCoordinate]]) -> set[str]:
    return {
        str(data_id["physical_filter"])
        for name in ("transmission_filter", "transmission_filter_detector")
        for data_id in ids[name]
    }


def _missing(
    butler: Butler, collection: str, filters: list[str], detectors: list[int]
) -> dict[str, tuple[str | int, ...]]:
    """Return the filters and detectors that no curve is for."""
    ids = {name: list(_certified(butler, name, collection)) for name in _DIMENSIONS}
    of_filters = _filters(ids)
    of_detectors = {int(data_id["detector"]) for data_id in ids["transmission_sensor"]}
    missing: dict[str, tuple[str | int, ...]] = {
        "filters": tuple(name for name in filters if name not in of_filters),
        "sensors": tuple(number for number in detectors if number not in of_detectors),
        "optics": () if ids["transmission_optics"] else ("optics",),
    }
    return {what: names for what, names in missing.items() if names}
