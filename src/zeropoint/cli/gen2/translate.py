"""What an old command line means on a repository of the third generation: a request to our executor."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from zeropoint.cli.gen2.arguments import OldCommandLine
from zeropoint.cli.gen2.data_ids import data_query, detectors_of_ids, visits_named
from zeropoint.errors import InvalidInputError, OptionError

if TYPE_CHECKING:
    from lsst.daf.butler import Butler

    from zeropoint.butler.execution.graph import RunRequest

__all__ = [
    "OldTask",
    "Translation",
    "as_command",
    "find_repository",
    "selected_visits",
    "translate",
    "visits_not_found",
]

_PIPELINE = "fgcm_legacy.yaml"
#: Old fields that name the keys of data ids -> the key that is meant.
_KEY_FIELDS = {"visitDataRefName": "visit", "ccdDataRefName": "ccd"}
#: Most visits or detectors that a note names.
_MAX_SHOWN = 8


#: Names and values, or no name and a file, in the order given.
type Overrides = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class OldTask:
    """A task that had a script.

    Parameters
    ----------
    program
        Name of the script.
    label
        Label in the pipeline.
    description
        For ``--help``.
    reads
        Dataset type that it runs on; empty: calibrations only, so that ``--id`` chooses camera and detectors.
    detectors_field
        Field that chooses detectors; empty: they cannot be chosen.
    overrides
        Returns the overrides of today for those of old.
    """

    program: str
    label: str
    description: str
    reads: str = ""
    detectors_field: str = ""
    overrides: Callable[[Overrides], Overrides] = tuple


@dataclass(frozen=True)
class Translation:
    """An old command line in today's words.

    Parameters
    ----------
    request
        What our executor does.
    detectors
        Detectors that the data ids name; none: all.
    inputs
        Collections that inputs are looked for in.
    notes
        Sentences on what has no effect.
    """

    request: RunRequest
    detectors: tuple[int, ...]
    inputs: tuple[str, ...]
    notes: tuple[str, ...]


def find_repository(repopath: str) -> tuple[str, str]:
    """Return repository and, where the path goes on to an output of old (``REPO/rerun/NAME``), the collection NAME.

    Parameters
    ----------
    repopath
        First argument of the command line.

    Returns
    -------
    repository, collection
        The latter empty where the path is that of the repository.
    """
    path, slash, name = repopath.rstrip("/").partition("/rerun/")
    if slash and not (Path(repopath) / "butler.yaml").exists():
        return path, name
    return repopath, ""


def translate(butler: Butler, repository: str, command: OldCommandLine, task: OldTask) -> Translation:
    """Return what an old command line means.

    Parameters
    ----------
    butler
        Repository.
    repository
        Where it is.
    command
        Parsed command line.
    task
        Which task.

    Raises
    ------
    OptionError
        If options are missing, or a data id cannot be used.
    InvalidInputError
        If the camera is not clear, or the inputs do not hold what the task reads.
    """
    from zeropoint.butler.execution.graph import ConfigOverride, RunRequest

    aliases = _aliases(command)
    instrument = _instrument(butler, command)
    filters = butler.query_dimension_records("physical_filter", instrument=instrument, explain=False)
    query = data_query(
        command.ids,
        physical_filters={record.name for record in filters},
        bands={record.band for record in filters},
        aliases=aliases,
    )
    of_camera = f"instrument = '{instrument}'"
    if query and not task.reads:
        raise OptionError(
            f"--id: {task.program} is about the whole camera; instrument and ccd can be chosen, {query!r} cannot."
        )
    detectors = detectors_of_ids(command.ids, aliases=aliases)
    output, named = _output(command, repository)
    inputs = _inputs(butler, command, instrument, output, named)
    given = task.overrides(command.overrides)
    overrides = [ConfigOverride(task.label, name, value) for name, value in given]
    if detectors and not task.detectors_field:
        raise OptionError(f"--id: {task.program} is about the whole camera; detectors cannot be chosen.")
    if detectors:
        overrides.append(ConfigOverride(task.label, task.detectors_field, repr(list(detectors))))
    notes = list(command.notes)
    notes += _unknown_detectors(butler, instrument, detectors)
    if command.processes > 1:
        notes.append(f"-j {command.processes} has no effect: the task is one process's work.")
    request = RunRequest(
        repository=repository,
        pipeline=f"{_pipeline(repository, instrument)}#{task.label}",
        inputs=inputs,
        output=output,
        data_query=f"{of_camera} AND ({query})" if query else of_camera,
        overrides=tuple(overrides),
        redo=command.redo,
        # an output of old saw its input as it was at the time
        rebase=bool(inputs) and output in butler.collections.query("*"),
        timeout_s=command.timeout_s,
        log_level=command.log_level,
    )
    if task.reads:
        _require_inputs(butler, task, command, request)
    return Translation(request, detectors, inputs, tuple(notes))


def _instrument(butler: Butler, command: OldCommandLine) -> str:
    """Return the camera: that of the data ids, else the only one."""
    known = sorted(record.name for record in butler.query_dimension_records("instrument", explain=False))
    named = {value for choice in command.ids for value in choice.values.get("instrument", ())}
    if len(named) > 1:
        raise OptionError(f"--id: one camera at a time, not {' and '.join(sorted(named))}.")
    for name in named:
        if name not in known:
            raise OptionError(f"--id instrument={name}: there is {', '.join(known) or 'none'}.")
        return name
    if len(known) != 1:
        raise InvalidInputError(
            f"{command.repopath}: has the cameras {', '.join(known)}; say which: --id instrument={known[0]}"
            if known
            else f"{command.repopath}: has no camera; `zeropoint register-camera` registers one."
        )
    return known[0]


def _output(command: OldCommandLine, repository: str) -> tuple[str, tuple[str, ...]]:
    """Return the output collection, and the input collections that the options name."""
    before, colon, after = command.rerun.rpartition(":")
    output = after or command.output
    if not output:
        raise OptionError("--output or --rerun is needed: the collection for the outputs.")
    if command.rerun and colon and not before:
        raise OptionError(f"--rerun {command.rerun}: write [INPUT:]OUTPUT.")
    _, of_path = find_repository(command.repopath)
    names = [name.strip() for name in f"{before},{of_path},{command.calib}".split(",") if name.strip()]
    return _collection(output, repository), tuple(_collection(name, repository) for name in names)


def _collection(name: str, repository: str) -> str:
    """Return the collection that stands for a directory of old: without the repository's path and ``rerun/``."""
    for prefix in (str(Path(repository).absolute()), repository.rstrip("/")):
        if name.startswith(f"{prefix}/"):
            name = name[len(prefix) + 1 :]
    return name.strip("/").removeprefix("rerun/")


def _inputs(
    butler: Butler, command: OldCommandLine, instrument: str, output: str, named: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the input collections: those named, and those of the camera; none for an output that has its own."""
    from zeropoint.butler.collection_chains import defaults_chain

    there = set(butler.collections.query("*"))
    for name in named:
        if name not in there:
            raise OptionError(f"{name}: no such collection, of which inputs could be read.")
    if output in there and not named:
        return ()
    defaults = defaults_chain(instrument)
    return (*named, *((defaults,) if defaults in there and defaults not in named else ()))


def _require_inputs(butler: Butler, task: OldTask, command: OldCommandLine, request: RunRequest) -> None:
    """Raise if what the task runs on is not in the inputs, and say where it is."""
    from lsst.daf.butler import CollectionType

    from zeropoint.butler.execution.graph import load_pipeline

    name, inputs, output = _dataset_type(task, command), request.inputs, request.output
    if _holds(butler, name, inputs or (output,)):
        return
    # a misspelt field, perhaps the one that names the dataset type, is to be known first
    load_pipeline(request)
    runs = butler.collections.query("*", collection_types={CollectionType.RUN})
    places = sorted(run for run in runs if _holds(butler, name, (run,)))
    if not places:
        raise InvalidInputError(
            f"{command.repopath}: has no {name}; run the task that makes it first, or name another dataset type: "
            f"-c connections.{task.reads}=NAME."
        )
    raise InvalidInputError(
        f"there is no {name} in {', '.join(inputs) or output}; say where it is: --rerun {places[0]}:{output}"
        + (f" (or {', '.join(places[1:4])})." if places[1:] else ".")
    )


def _holds(butler: Butler, name: str, places: tuple[str, ...]) -> bool:
    """Say whether any of these collections holds a dataset of this type."""
    from lsst.daf.butler import MissingDatasetTypeError

    try:
        return bool(butler.query_datasets(name, places, find_first=False, limit=1, explain=False))
    except MissingDatasetTypeError:
        return False


def _pipeline(repository: str, instrument: str) -> str:
    """Return the camera's pipeline, else the shipped one."""
    own = Path(repository) / "pipelines" / instrument / _PIPELINE
    return str(own if own.is_file() else resources.files("zeropoint.tasks") / "pipelines" / _PIPELINE)


def as_command(request: RunRequest) -> str:
    """Return the ``zeropoint run`` that does the same."""
    import shlex

    words = ["zeropoint", "run", "-b", request.repository, "-p", request.pipeline]
    words += ["-i", ",".join(request.inputs)] if request.inputs else []
    words += ["-o", request.output]
    words += ["-d", request.data_query] if request.data_query else []
    for override in request.overrides:
        option, _, text = override.text.partition(" ")
        words += [option, text]
    words += ["--redo"] if request.redo else []
    words += ["--rebase"] if request.rebase else []
    return shlex.join(words)


def selected_visits(
    butler: Butler, translation: Translation, task: OldTask, command: OldCommandLine
) -> list[int]:
    """Return the visits that the inputs hold and the data query selects, ascending.

    Parameters
    ----------
    butler
        Repository.
    translation
        What the command line means.
    task
        Which task.
    command
        Parsed command line.
    """
    request = translation.request
    refs = butler.query_datasets(
        _dataset_type(task, command),
        request.inputs or (request.output,),
        where=request.data_query,
        find_first=True,
        limit=None,
        explain=False,
    )
    return sorted({int(ref.dataId["visit"]) for ref in refs})


def visits_not_found(command: OldCommandLine, visits: Collection[int]) -> list[str]:
    """Return what there is to say of visits that data ids name, and that are not selected.

    Parameters
    ----------
    command
        Parsed command line.
    visits
        Visits selected.
    """
    lost = sorted(set(visits_named(command.ids, aliases=_aliases(command))) - set(visits))
    if lost:
        return [f"--id visit={_shown(lost)}: not in the inputs, or other keys of the same --id do not fit."]
    return [] if visits else ["no visit of the inputs fits."]


def _unknown_detectors(butler: Butler, instrument: str, detectors: Sequence[int]) -> list[str]:
    """Return what there is to say of detectors that the camera does not have."""
    records = butler.query_dimension_records("detector", instrument=instrument, explain=False)
    known = sorted(int(record.id) for record in records)
    lost = sorted(set(detectors) - set(known))
    if not lost or not known:
        return []
    return [
        f"--id: {instrument} has no detector {_shown(lost)}; it has {len(known)}, from {known[0]} to {known[-1]}."
    ]


def _shown(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:_MAX_SHOWN])) + (", ..." if len(numbers) > _MAX_SHOWN else "")


def _aliases(command: OldCommandLine) -> dict[str, str]:
    """Return the names that the configuration gives to keys of data ids."""
    return {value: _KEY_FIELDS[name] for name, value in command.overrides if name in _KEY_FIELDS}


def _dataset_type(task: OldTask, command: OldCommandLine) -> str:
    """Return the name of the datasets that the task runs on."""
    return dict(command.overrides).get(f"connections.{task.reads}", task.reads)
