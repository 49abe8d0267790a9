"""Register sky maps: records of skymap, tracts and patches with their regions, and the definition as a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from lsst.daf.butler import Butler, CollectionType, DatasetType, DimensionRecord

from zeropoint.butler.collection_chains import SKYMAPS_RUN, update_defaults
from zeropoint.butler.dataset_types import ensure_dataset_type
from zeropoint.datamodel.skymap import SkyMap
from zeropoint.datamodel.skymap_tract import polygon
from zeropoint.errors import InvalidInputError

__all__ = ["SKYMAP_DATASET", "RegisteredSkyMap", "register_skymap"]

#: Dataset type of the definition.
SKYMAP_DATASET = "skyMap"
#: Patches up to this number are registered without asking: they take a minute and 200 MB at most.
AUTOMATIC_PATCHES = 300_000
#: Records inserted at a time.
_BATCH = 20_000

#: Called with ``tracts`` or ``patches``, how many are done and how many there are.
OnProgress = Callable[[str, int, int], object]
Patches = Literal["auto", "all", "none"] | Sequence[int]


@dataclass(frozen=True)
class RegisteredSkyMap:
    """What a repository holds of a sky map.

    Parameters
    ----------
    name
        Its name.
    n_tracts
        Number of tracts.
    n_patches_total
        Number of patches of all its tracts.
    n_new_patches
        Number of patches that were registered now.
    was_there
        Whether the map had been registered before.
    """

    name: str
    n_tracts: int
    n_patches_total: int
    n_new_patches: int
    was_there: bool


def register_skymap(
    butler: Butler,
    name: str,
    sky_map: SkyMap,
    *,
    patches: Patches = "auto",
    on_progress: OnProgress | None = None,
) -> RegisteredSkyMap:
    """Register a sky map.

    Parameters
    ----------
    butler
        Writeable.
    name
        Name of the map.
    sky_map
        Its definition.
    patches
        Which patches to register: ``all``, ``none``, those of the tracts listed, or ``auto``: all, unless there are
        more than `AUTOMATIC_PATCHES`.  Tasks that work by tract need none; more can be added by another call.
    on_progress
        Called with ``tracts`` or ``patches``, how many are done and how many there are.

    Raises
    ------
    InvalidInputError
        If the name stands for another map, or the map has another name.

    Notes
    -----
    The map's record and its tracts are written in one transaction, patches in one of their own for every so many
    tracts, so that an interrupted registration can be repeated.
    """
    report = on_progress or (lambda *_: None)
    chosen = _chosen_tracts(sky_map, patches)
    was_there = _is_registered(butler, name, sky_map)
    dataset_type = DatasetType(SKYMAP_DATASET, ("skymap",), "ZpSkyMap", universe=butler.dimensions)
    ensure_dataset_type(butler, dataset_type)
    butler.collections.register(SKYMAPS_RUN, CollectionType.RUN)
    if not was_there:
        _register_tracts(butler, name, sky_map, report)
    if butler.find_dataset(dataset_type, skymap=name, collections=SKYMAPS_RUN) is None:
        butler.put(sky_map, dataset_type, skymap=name, run=SKYMAPS_RUN)
    n_new = _register_patches(butler, name, sky_map, chosen, report)
    update_defaults(butler)
    total = sum(len(tract) for tract in sky_map)
    return RegisteredSkyMap(name, len(sky_map), total, n_new, was_there)


def _is_registered(butler: Butler, name: str, sky_map: SkyMap) -> bool:
    """Return whether the map is registered under this name; raise if there is a conflict."""
    if not name or len(name) > 64 or not all(c.isalnum() or c in "_-." for c in name):
        raise InvalidInputError(
            f"{name!r} cannot be a sky map's name: use letters, digits, '_', '-' and '.', at most 64 of them."
        )
    known = {
        record.name: bytes(record.hash)  # type: ignore[attr-defined]
        for record in butler.registry.queryDimensionRecords("skymap")
    }
    if name in known:
        if known[name] != sky_map.sha1:
            raise InvalidInputError(
                f"Sky map {name} is registered with another definition (hash {known[name].hex()[:12]}, now "
                f"{sky_map.sha1.hex()[:12]}); a sky map cannot be changed: choose another name."
            )
        return True
    for other, sha1 in known.items():
        if sha1 == sky_map.sha1:
            raise InvalidInputError(
                f"The very same sky map is registered as {other}; use that name in place of {name}."
            )
    return False


def _register_tracts(butler: Butler, name: str, sky_map: SkyMap, report: OnProgress) -> None:
    """Write the map's record and those of its tracts."""
    nx, ny = sky_map.num_patches_max
    tract_class = butler.dimensions["tract"].RecordClass
    with butler.transaction():
        record = {
            "name": name, "hash": sky_map.sha1, "tract_max": len(sky_map), "patch_nx_max": nx, "patch_ny_max": ny,
        }  # fmt: skip
        butler.registry.syncDimensionData("skymap", record)
        records = (tract_class(skymap=name, id=tract.id, region=tract.outer_sky_polygon) for tract in sky_map)
        done = 0
        for batch in _batches(records):
            butler.registry.insertDimensionData("tract", *batch)
            done += len(batch)
            report("tracts", done, len(sky_map))


def _chosen_tracts(sky_map: SkyMap, patches: Patches) -> list[int]:
    """Return the tracts whose patches are to be registered."""
    if patches == "none":
        return []
    if patches == "all":
        return list(range(len(sky_map)))
    if patches == "auto":
        nx, ny = sky_map.num_patches_max
        return list(range(len(sky_map))) if nx * ny * len(sky_map) <= AUTOMATIC_PATCHES else []
    wrong = [tract for tract in patches if not 0 <= int(tract) < len(sky_map)]
    if wrong:
        raise InvalidInputError(
            f"The sky map has tracts 0 to {len(sky_map) - 1}; there is no tract {wrong[0]} whose patches could be "
            "registered."
        )
    return sorted({int(tract) for tract in patches})


def _register_patches(
    butler: Butler, name: str, sky_map: SkyMap, tracts: list[int], report: OnProgress
) -> int:
    """Write the records of the patches of tracts that have none yet; return their number."""
    if not tracts:
        return 0
    with butler.query() as query:
        first = query.where(skymap=name).where("patch = 0")
        known = {int(data_id["tract"]) for data_id in first.data_ids(["patch"])}
    missing = [tract for tract in tracts if tract not in known]
    patch_class = butler.dimensions["patch"].RecordClass
    done, waiting = 0, []
    for k, number in enumerate(missing, start=1):
        tract = sky_map[number]
        nx = tract.num_patches[0]
        waiting += [
            patch_class(
                skymap=name,
                tract=number,
                id=index,
                cell_x=index % nx,
                cell_y=index // nx,
                region=polygon(corners),
            )
            for index, corners in enumerate(tract.patch_corners(outer=True))
        ]
        if len(waiting) >= _BATCH or k == len(missing):
            butler.registry.insertDimensionData("patch", *waiting)  # a transaction of its own
            done += len(waiting)
            waiting = []
            report("patches", k, len(missing))
    return done


def _batches(records: Iterable[DimensionRecord]) -> Iterable[list[DimensionRecord]]:
    """Return records in lists of limited length."""
    batch: list[DimensionRecord] = []
    for record in records:
        batch.append(record)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
