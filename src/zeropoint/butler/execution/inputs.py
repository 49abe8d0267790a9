"""What a pipeline reads and the input collections hold: in a sentence, where the two do not fit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from lsst.daf.butler import Butler, ButlerUserError, CollectionType, MissingDatasetTypeError
from lsst.pipe.base import PipelineGraph

from zeropoint.butler.collection_chains import refcat_run
from zeropoint.butler.dataset_types import POST_ISR_DATASET
from zeropoint.butler.skymap import SKYMAP_DATASET
from zeropoint.errors import InvalidInputError

__all__ = [
    "instruments_of",
    "needs_sky_map",
    "other_instrument",
    "require_references",
    "require_sky_map",
    "sky_maps_of",
    "what_to_do",
    "why_empty",
]

#: Prerequisites that a command or a run of their own makes.
_OF_OTHER_COMMANDS = ("transmission_", "fgcmLookUpTable", "fgcm_Cycle")
#: Most tracts that a message lists.
_MAX_TRACTS = 8
#: Most dataset types, collections and sky maps that a message lists.
_MAX_TYPES = 3


def require_references(butler: Butler, pipeline_graph: PipelineGraph, search: tuple[str, ...]) -> None:
    """Raise if a reference catalogue of the pipeline is not there, or not where inputs are looked for.

    Parameters
    ----------
    butler
        Repository.
    pipeline_graph
        Need not be resolved, which would fail without the catalogues.
    search
        Collections that inputs are looked for in.

    Raises
    ------
    InvalidInputError
        The message names the catalogues that there are, and what to add to the command.
    """
    missing: dict[str, list[str]] = {}
    for label, task in pipeline_graph.tasks.items():
        for edge in task.prerequisite_inputs.values():
            name = edge.parent_dataset_type_name
            if "skypix" in edge.raw_dimensions and not _holds(butler, search, name):
                missing.setdefault(name, []).append(f"{label}:connections.{edge.connection_name}")
    if not missing:
        return
    prefix = refcat_run("")
    runs = sorted(butler.collections.query(f"{prefix}*", collection_types={CollectionType.RUN}))
    there = [name for run in runs if _holds(butler, (run,), name := run.removeprefix(prefix))]
    absent = [name for name in missing if name not in there]
    if not absent:
        places = ",".join(refcat_run(name) for name in missing)
        raise InvalidInputError(
            f"reference catalogue {_quoted(list(missing))} is in this repository, but not in the input collections: "
            f"add {places} to -i."
        )
    in_inputs = [name for name in there if _holds(butler, search, name)]
    choices = in_inputs or there
    fields = " ".join(
        f"-c {field}={_best(name, there, choices)}" for name in absent for field in missing[name]
    )
    what = f"no reference catalogue {_quoted(absent)} in this repository"
    if there:
        raise InvalidInputError(
            f"{what} (there {'are' if len(there) > 1 else 'is'} {', '.join(there)}); name one with {fields}, or "
            "ingest it with `zeropoint ingest-references`."
        )
    raise InvalidInputError(
        f"{what}, nor any other; ingest one with `zeropoint ingest-references` and name it with {fields}."
    )


def instruments_of(butler: Butler, pipeline_graph: PipelineGraph, inputs: tuple[str, ...]) -> set[str]:
    """Return the instruments of all images that a pipeline could read.

    Raises
    ------
    InvalidInputError
        If the repository does not know what the pipeline reads.
    """
    found: set[str] = set()
    for name in _inputs_with(pipeline_graph, "instrument"):
        try:
            found.update(_values(butler, name, inputs, "instrument"))
        except MissingDatasetTypeError:
            raise InvalidInputError(
                f"the repository has no dataset type {name}, which the pipeline reads; {_how_to_get(name)}."
            ) from None
    return found


def needs_sky_map(pipeline_graph: PipelineGraph) -> bool:
    """Say whether anything in a resolved pipeline belongs to a sky map."""
    return "skymap" in pipeline_graph.get_all_dimensions()


def sky_maps_of(butler: Butler, pipeline_graph: PipelineGraph, inputs: tuple[str, ...]) -> set[str]:
    """Return the sky maps to which what a pipeline could read belongs.

    Raises
    ------
    InvalidInputError
        If there is none.
    """
    names = _inputs_with(pipeline_graph, "skymap")
    found = []
    for name in names:
        try:
            found.append(_values(butler, name, inputs, "skymap"))
        except MissingDatasetTypeError:
            found.append(set())
    # where isolated stars are read beside the map, only maps that have some can be meant
    maps = set.intersection(*found) if found else set()
    if names and not maps:
        missing = next((name for name, values in zip(names, found) if not values), names[0])
        raise InvalidInputError(
            f"nothing to run: there is no {missing} in the input collections; {_how_to_get(missing)}."
        )
    return maps


def _inputs_with(pipeline_graph: PipelineGraph, dimension: str) -> list[str]:
    """Return the dataset types that a pipeline reads and does not make, prerequisites apart, with a dimension."""
    return [
        node.name
        for node in pipeline_graph.dataset_types.values()
        if pipeline_graph.producer_of(node.name) is None
        and not node.is_prerequisite
        and dimension in node.dimensions
    ]


def _values(butler: Butler, name: str, inputs: tuple[str, ...], dimension: str) -> set[str]:
    """Return the values of a dimension of all datasets of a type."""
    with butler.query() as query:
        rows = query.join_dataset_search(name, inputs).data_ids([dimension])
        return {str(row[dimension]) for row in rows}


def what_to_do(complaint: str) -> str:
    """Return what to do about a prerequisite that the middleware misses; empty where nothing particular is known."""
    found = re.search(r"connection \S+ \((\w+)\)", complaint)
    name = found[1] if found else ""
    return f" To have {name}: {_how_to_get(name)}." if name.startswith(_OF_OTHER_COMMANDS) else ""


def _how_to_get(name: str) -> str:
    """Say what makes datasets of a type."""
    if name.startswith("transmission_"):
        return "bring curves into the repository with `zeropoint ingest-throughputs`, or add the collection to -i"
    if name == "fgcmLookUpTable":
        return "run fgcmMakeLut by itself first, and add its output collection to -i"
    if name.startswith("fgcm_Cycle"):
        return "run that cycle of fgcmFitCycle first, and add its output collection to -i"
    if name == SKYMAP_DATASET:
        return "make one with `zeropoint make-skymap`, or add skymaps to -i"
    if name == POST_ISR_DATASET:
        return "ingest images, or name other inputs"
    return "run the task that makes it first, or name other inputs"


def other_instrument(butler: Butler, pipeline_graph: PipelineGraph, inputs: tuple[str, ...]) -> str:
    """Say that the inputs hold images of other instruments only than the pipeline's, else return nothing."""
    if not pipeline_graph.is_fully_resolved or "instrument" not in pipeline_graph.data_id.dimensions:
        return ""
    expected = str(pipeline_graph.data_id["instrument"])
    found = instruments_of(butler, pipeline_graph, inputs)
    if not found or expected in found:
        return ""
    return f"the pipeline is for {expected}, the inputs hold images of {', '.join(sorted(found))}."


def require_sky_map(butler: Butler, query: str) -> None:
    """Raise if a data query names a sky map that the repository does not know.

    Raises
    ------
    InvalidInputError
        The message names those that there are.
    """
    known = sorted(str(r.name) for r in butler.query_dimension_records("skymap", explain=False))
    for name in re.findall(r"\bskymap\s*=\s*['\"]([^'\"]*)['\"]", query):
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            there = (
                f"; there {'are' if len(known) > 1 else 'is'} {_some(known)}" if known else ", nor any other"
            )
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise InvalidInputError(f"there is no sky map {name!r} in this repository{there}{hint}")


def why_empty(
    butler: Butler,
    pipeline_graph: PipelineGraph,
    inputs: tuple[str, ...],
    query: str,
    repository: str,
    named: tuple[str, ...] = (),
) -> str:
    """Say what is missing where nothing is to be run.

    Parameters
    ----------
    butler
        Repository.
    pipeline_graph
        Resolved.
    inputs
        Input collections, without the runs of the output chain.
    query
        Data query.
    repository
        As the user calls it.
    named
        Input collections, perhaps chains, as the user calls them; default: those of ``inputs``.
    """
    named = named or inputs
    holders = {
        name: [place for place in inputs if _holds(butler, (place,), name)]
        # the graph's own order differs from process to process
        for name, node in sorted(pipeline_graph.iter_overall_inputs(), key=lambda item: item[0])
        if node is not None and not node.is_prerequisite
    }
    for name, places in holders.items():
        if not places:
            return f"nothing to run: there is no {name} in {_some(named)}; {_how_to_get(name)}."
    if wrong := other_instrument(butler, pipeline_graph, inputs):
        return f"nothing to run: {wrong}"
    if not holders:
        return f"nothing to run: the pipeline reads no datasets, and no data id fits -d {query!r}."
    if re.search(r"\btract\b", query) and (wrong := _other_tracts(butler, holders, query)):
        return f"nothing to run: {wrong}"
    lacking = [
        name for name, places in holders.items() if not _fits(butler, pipeline_graph, name, places, query)
    ]
    if not lacking and (wrong := _other_tracts(butler, holders, query)):
        return f"nothing to run: {wrong}"
    if lacking:
        name, n_more = _most_wanted(butler, lacking, query)
        others = f" (nor of {n_more} other types)" if n_more else ""
        what = f"no {name} fits -d {query!r}{others}"
    else:
        name = next(iter(holders))
        fitting = f"nothing that fits -d {query!r} together" if query else "nothing that fits together"
        what = f"there is {_some(list(holders), _MAX_TYPES)}, but {fitting}"
    places = [place for place in named if _holds(butler, (place,), name)] or holders[name]
    return (
        f"nothing to run: {what}; `butler query-datasets {repository} {name} --collections "
        f"{','.join(places[:_MAX_TYPES])}` lists what there is."
    )


def _fits(butler: Butler, pipeline_graph: PipelineGraph, name: str, places: list[str], query: str) -> bool:
    """Say whether any dataset of a type fits a query by itself; one that the query cannot be asked of does."""
    if not query:
        return True
    try:
        return bool(
            butler.query_datasets(
                name,
                places,
                data_id=pipeline_graph.data_id,
                where=query,
                find_first=False,
                limit=1,
                explain=False,
            )
        )
    except (ButlerUserError, LookupError, ValueError):
        return True


def _most_wanted(butler: Butler, lacking: list[str], query: str) -> tuple[str, int]:
    """Return the type, of those that lack, that is made first of what the query names; and the number of the others."""
    words = set(re.findall(r"\w+", query)) - {"instrument", "skymap"}
    # a map lacks where no image fits, but it is not what is missing
    named = [name for name in lacking if words & _dimensions(butler, name)] or lacking
    return max(named, key=lambda name: len(_dimensions(butler, name))), len(named) - 1


def _other_tracts(butler: Butler, holders: dict[str, list[str]], query: str) -> str:
    """Say which tracts the images touch where none is touched, or not the one that is asked for, else nothing."""
    made = next((name for name in holders if "tract" in _dimensions(butler, name)), None)
    if made is not None:
        refs = butler.query_datasets(made, holders[made], find_first=False, limit=None, explain=False)
        done = sorted({(str(ref.dataId["skymap"]), int(ref.dataId["tract"])) for ref in refs})
        return f"nothing fits -d {query!r}; there is {made} of the tracts {_tracts(done)}."
    image = next((name for name in holders if {"visit", "exposure"} & _dimensions(butler, name)), None)
    if image is None or SKYMAP_DATASET not in holders:
        return ""
    with butler.query() as joined:
        joined = joined.join_dataset_search(image, holders[image])
        joined = joined.join_dataset_search(SKYMAP_DATASET, holders[SKYMAP_DATASET])
        rows = joined.data_ids(["visit", "tract"])
        tracts = sorted({(str(row["skymap"]), int(row["tract"])) for row in rows})
    if not tracts:
        return f"no {image} touches any tract of the sky map."
    if not re.search(r"\btract\b", query) and any(repr(name) in query for name, _ in tracts):
        return ""
    return f"nothing fits -d {query!r}; the images touch the tracts {_tracts(tracts)}."


def _tracts(tracts: Sequence[tuple[str, int]]) -> str:
    return _some([f"{tract} of {name}" for name, tract in tracts], _MAX_TRACTS)


def _some(names: Sequence[str], most: int = _MAX_TYPES) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def _dimensions(butler: Butler, name: str) -> set[str]:
    """Return the names of a dataset type's dimensions."""
    return set(butler.get_dataset_type(name).dimensions.names)


def _holds(butler: Butler, places: tuple[str, ...], name: str) -> bool:
    """Say whether any of these collections holds a dataset of this type."""
    try:
        return bool(butler.query_datasets(name, places, limit=1, explain=False, find_first=False))
    except MissingDatasetTypeError:
        return False


def _best(name: str, there: list[str], choices: list[str]) -> str:
    """Return the catalogue that a misspelt name means, else the first that can be read."""
    return next(iter(difflib.get_close_matches(name, there, 1) or choices), "NAME")


def _quoted(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names)
