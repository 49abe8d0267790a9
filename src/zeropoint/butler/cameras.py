"""Register cameras: instrument, filters and visit systems in the registry, the card as a dataset."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsst.daf.butler import Butler, CollectionType, DatasetRef, MissingCollectionError, Registry

from zeropoint.butler.collection_chains import card_run, update_defaults
from zeropoint.butler.dataset_types import CARD_DATASET, card_type, ensure_dataset_type
from zeropoint.butler.instruments import check_instrument_name, class_name
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard

__all__ = [
    "VISIT_SYSTEMS",
    "RegisteredCamera",
    "card_of",
    "card_path",
    "register_camera",
    "register_records",
    "registered_cameras",
]

#: Card's ``visit_system`` -> number and name in the registry, which are Rubin's.
VISIT_SYSTEMS = {"one-to-one": (0, "one-to-one"), "by-group": (1, "by-group-metadata")}


@dataclass(frozen=True)
class RegisteredCamera:
    """What `register_camera` did.

    Parameters
    ----------
    instrument
        Name in the repository.
    outcome
        ``registered``, ``updated`` or ``unchanged``.
    """

    instrument: str
    outcome: str


def register_camera(butler: Butler, card: CameraCard) -> RegisteredCamera:
    """Register a camera, or replace its card by another version.

    Parameters
    ----------
    butler
        Writeable.
    card
        The camera card. Relative paths of tables and planes in it count from the working directory, and are made
        absolute.

    Raises
    ------
    InvalidInputError
        If its instrument has no fixed name, or exposures are registered and the card would change what their ids
        rest upon.
    """
    name = check_instrument_name(card.get("instrument"), card.source)
    content = card_content(card)
    known = _stored_content(butler, name)
    if known == content:
        update_defaults(butler, name)
        return RegisteredCamera(name, "unchanged")
    ensure_dataset_type(butler, card_type(butler.dimensions))
    run = card_run(name)
    with butler.transaction():
        _check_ids_kept(butler, name, card)
        register_records(butler.registry, card, update=True)
    butler.collections.register(run, CollectionType.RUN)
    if known is not None:
        old = butler.registry.queryDatasets(CARD_DATASET, collections=run, instrument=name)
        butler.pruneDatasets(old, disassociate=True, unstore=True, purge=True)
    butler.put(content, CARD_DATASET, instrument=name, run=run)
    update_defaults(butler, name)
    return RegisteredCamera(name, "registered" if known is None else "updated")


def register_records(registry: Registry, card: CameraCard, *, update: bool = False) -> None:
    """Write an instrument's record, its filters and its visit systems.

    Parameters
    ----------
    registry
        Writeable, in a transaction.
    card
        The camera card.
    update
        Replace records that differ; else they raise ConflictingDefinitionError.
    """
    name = check_instrument_name(card.get("instrument"), card.source)
    n_visits, n_detectors = card.id_limits
    system = VISIT_SYSTEMS[card.get("visit_system") or "one-to-one"][0]
    record = {
        "name": name,
        "detector_max": n_detectors,
        "visit_max": n_visits,
        "exposure_max": n_visits,
        "class_name": class_name(name),
        "visit_system": system,
    }
    registry.syncDimensionData("instrument", record, update=update)
    for number, label in VISIT_SYSTEMS.values():
        registry.syncDimensionData("visit_system", {"instrument": name, "id": number, "name": label})
    for physical_filter, band in (card.get("bands") or {}).items():
        registry.syncDimensionData(
            "physical_filter",
            {"instrument": name, "name": str(physical_filter), "band": str(band)},
            update=update,
        )


def card_content(card: CameraCard) -> dict[str, Any]:
    """Return a card as a repository keeps it: plain values, absolute paths."""
    data = json.loads(json.dumps(_absolute(card.data), default=str))
    return {"name": card.name, "source": card.source, "data": data}


def card_of(butler: Butler, instrument: str) -> CameraCard:
    """Return the card of a registered camera.

    Raises
    ------
    InvalidInputError
        If no such camera is registered.
    """
    content = _stored_content(butler, instrument)
    if content is None:
        import difflib

        known = registered_cameras(butler)
        close = difflib.get_close_matches(instrument.lower(), [each.lower() for each in known], 1)
        hint = next((f"; did you mean {each!r}?" for each in known if [each.lower()] == close), "")
        raise InvalidInputError(
            f"Camera {instrument!r} is not registered here (registered: {', '.join(known) or 'none'}){hint or ';'} "
            "`zeropoint register-camera REPO CARD` registers one."
        )
    return CameraCard(content["name"], content["source"], content["data"])


def card_path(butler: Butler, instrument: str) -> str:
    """Return the file in which a repository keeps the card of a registered camera; empty if it is not on this machine."""
    ref = _card_ref(butler, instrument)
    uri = None if ref is None else butler.getURI(ref)
    return str(uri.ospath) if uri is not None and uri.isLocal else ""


def registered_cameras(butler: Butler) -> list[str]:
    """Return the names of the instruments that were registered from a card."""
    records = butler.query_dimension_records("instrument", explain=False)
    return sorted(record.name for record in records if record.class_name == class_name(record.name))


def _stored_content(butler: Butler, instrument: str) -> dict[str, Any] | None:
    ref = _card_ref(butler, instrument)
    return None if ref is None else dict(butler.get(ref))


def _card_ref(butler: Butler, instrument: str) -> DatasetRef | None:
    if instrument not in registered_cameras(butler):
        return None
    try:
        return butler.find_dataset(CARD_DATASET, instrument=instrument, collections=card_run(instrument))
    except (MissingCollectionError, LookupError):
        return None


def _check_ids_kept(butler: Butler, name: str, card: CameraCard) -> None:
    """Raise if a card changes the ranges of ids although exposures exist: equal ids would mean other images."""
    if name not in registered_cameras(butler):
        return
    record = next(iter(butler.query_dimension_records("instrument", instrument=name)))
    limits = card.id_limits
    if limits == (record.visit_max, record.detector_max):
        return
    if butler.query_dimension_records("exposure", instrument=name, limit=1, explain=False):
        raise InvalidInputError(
            f"Camera card {card.source}: ids.n_visits and ids.n_detectors are {limits[0]} and {limits[1]}, but exposures "
            f"of {name} are registered with {record.visit_max} and {record.detector_max}; use these, or another "
            "instrument name."
        )


def _absolute(content: Any, key: str = "") -> Any:
    """Return a card's content with relative names of files made absolute; a leading {group} is one already."""
    if isinstance(content, dict):
        return {inner: _absolute(value, str(inner)) for inner, value in content.items()}
    if isinstance(content, list):
        return [_absolute(value) for value in content]
    if key in ("table", "file") and isinstance(content, str) and not content.startswith("{"):
        return str(Path(content).absolute())
    return content
