"""From a request to a quantum graph: pipeline with overrides, instrument, collections, what is done already."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lsst.daf.butler import Butler, ButlerUserError
from lsst.pipe.base import Pipeline, PipelineGraph, ScalarError
from lsst.pipe.base.pipeline_graph import ConnectionTypeConsistencyError
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph, PredictedQuantumGraphComponents

from zeropoint.butler.execution.builder import GraphBuilder
from zeropoint.butler.execution.inputs import (
    instruments_of,
    needs_sky_map,
    other_instrument,
    require_references,
    require_sky_map,
    sky_maps_of,
    what_to_do,
    why_empty,
)
from zeropoint.errors import InvalidInputError, OptionError
from zeropoint.recipes.config_files import ConfigFileError, reason
from zeropoint.recipes.rubin_names import names_step

__all__ = ["ConfigOverride", "RunRequest", "build_graph", "load_pipeline", "read_graph", "with_instrument"]


@dataclass(frozen=True)
class ConfigOverride:
    """One ``-c label:field=value`` or ``-C label:file``.

    Attributes
    ----------
    label
        Task.
    field
        Dotted name, empty for a file.
    value
        Value as text, or the file's path.
    """

    label: str
    field: str
    value: str

    @property
    def text(self) -> str:
        """The override as it was written."""
        return f"-c {self.label}:{self.field}={self.value}" if self.field else f"-C {self.label}:{self.value}"

    @property
    def is_ours(self) -> bool:
        """Whether the middleware cannot apply it: an entry of a registry in brackets, or the class of a step."""
        return "[" in self.field or (bool(self.field) and names_step(self.value))


#: What a field without a value complains of: its task, and its name.
_UNSET = re.compile(r"(\w+): ([^\s:]+): Required value cannot be None\.?")
#: Python that a task's configuration runs.
_OVERRIDE = """from zeropoint.recipes.overrides import apply_override, parse_assignment
apply_override(config, *parse_assignment({override.field!r} + "=" + {override.value!r}), origin={override.label!r})
"""


@dataclass(frozen=True)
class RunRequest:
    """What to run, and how.

    Attributes
    ----------
    repository
        Path, URI or alias.
    pipeline
        Path or URI of a pipeline, with ``#LABEL,...`` for a part of it; not needed with ``graph``.
    inputs, output
        Input collections, and the chain that gets a new run of outputs.
    data_query
        Expression that selects the data.
    overrides
        In the order of their application.
    skip_existing_in
        Collections in which done quanta are looked for, beside the output chain's own runs.
    redo
        Do again what the output chain's own runs hold.
    rebase
        Put new inputs into an existing output chain.
    graph
        Graph file to run, in place of pipeline, inputs and query.
    save_graph
        Where to keep a copy of the graph.
    processes, timeout_s, max_quanta_per_worker, retries
        Number of workers; seconds after which a quantum is given up (0: never); quanta after which a worker is
        replaced; how often a quantum is tried again whose worker died.
    raise_on_partial_outputs
        Treat partial outputs as failures.
    block_on_failure
        Do not run what needs any output of a failed quantum; else it runs with what else there is, if that is enough.
    log_level
        Level of the workers' logs, which become the log datasets.
    """

    repository: str
    pipeline: str = ""
    inputs: tuple[str, ...] = ()
    output: str = ""
    data_query: str = ""
    overrides: tuple[ConfigOverride, ...] = ()
    skip_existing_in: tuple[str, ...] = ()
    redo: bool = False
    rebase: bool = False
    graph: str = ""
    save_graph: str = ""
    processes: int = 1
    timeout_s: float = 0.0
    max_quanta_per_worker: int = 200
    retries: int = 1
    raise_on_partial_outputs: bool = False
    block_on_failure: bool = False
    log_level: str = "INFO"


def load_pipeline(request: RunRequest) -> PipelineGraph:
    """Read a pipeline and apply the overrides.

    Raises
    ------
    OptionError
        If a label after the pipeline's ``#``, or the label, field or value of an override cannot be used.
    InvalidInputError
        If the file, a task or a config file cannot be used.
    """
    labels = list(_with_overrides(request, ()).task_labels)
    for override in request.overrides:
        if override.label not in labels:
            close = difflib.get_close_matches(override.label, labels, 1)
            hint = f"did you mean {close[0]}?" if close else f"labels: {', '.join(labels)}."
            raise OptionError(f"{override.text}: the pipeline has no task {override.label!r}; {hint}")
        if not override.field and not Path(override.value).is_file() and "://" not in override.value:
            raise InvalidInputError(f"{override.value}: no such config file.")
    try:
        return _with_overrides(request, request.overrides).to_graph()
    except ConfigFileError:
        raise
    except Exception as error:
        text = reason(error)
        if unset := _UNSET.fullmatch(text):
            label, field = unset.groups()
            raise OptionError(f"{label}: {field} must be set, as with -c {label}:{field}=VALUE.") from error
        if culprit := _culprit(request, text):
            raise OptionError(f"{culprit.text}: cannot be applied: {text}") from error
        raise InvalidInputError(f"{request.pipeline}: cannot be configured: {text}") from error


def _with_overrides(request: RunRequest, overrides: tuple[ConfigOverride, ...]) -> Pipeline:
    """Read the pipeline and add some overrides, which are not tried yet."""
    try:
        _require_labels(request.pipeline)
        pipeline = Pipeline.from_uri(request.pipeline)
    except FileNotFoundError:
        raise InvalidInputError(f"{request.pipeline}: no such pipeline.") from None
    except OptionError:
        raise
    except Exception as error:
        raise InvalidInputError(f"{request.pipeline}: is not a pipeline: {_text(error)}") from error
    for override in overrides:
        if override.is_ours:
            pipeline.addConfigPython(override.label, _OVERRIDE.format(override=override))
        elif override.field:
            pipeline.addConfigOverride(override.label, override.field, override.value)
        else:
            pipeline.addConfigFile(override.label, override.value)
    return pipeline


def _require_labels(uri: str) -> None:
    """Raise if what follows the ``#`` of a pipeline is no label or subset of it."""
    path, _, part = uri.partition("#")
    if not part:
        return
    pipeline = Pipeline.from_uri(path)
    names = [*pipeline.subsets, *pipeline.task_labels]
    for name in re.split(r",|\.\.", part):
        if name.strip() and name.strip() not in names:
            close = difflib.get_close_matches(name.strip(), names, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}."
            raise OptionError(
                f"-p {Path(path).name}#{part}: no task or subset is called {name.strip()!r}; {hint}"
            )


def _culprit(request: RunRequest, text: str) -> ConfigOverride | None:
    """Return the field override with which a pipeline begins to fail with this text, None if it is none."""
    for n in range(len(request.overrides) + 1):
        try:
            _with_overrides(request, request.overrides[:n]).to_graph()
        except Exception as error:
            if reason(error) == text:
                return request.overrides[n - 1] if n and request.overrides[n - 1].field else None
    return None


def with_instrument(
    butler: Butler, pipeline_graph: PipelineGraph, inputs: tuple[str, ...], data_query: str
) -> str:
    """Return a data query that names instrument and sky map where that is needed and there is one choice only.

    Parameters
    ----------
    butler
        Repository.
    pipeline_graph
        Resolved pipeline; one that names its instrument needs none.
    inputs
        Collections searched for the pipeline's inputs.
    data_query
        The user's expression.

    Raises
    ------
    InvalidInputError
        If the query needs an instrument or a sky map, and the inputs hold several, or no map; or if there is no such map.
    """
    chosen = []
    if not ("instrument" in pipeline_graph.data_id.dimensions or re.search(r"\binstrument\b", data_query)):
        found = instruments_of(butler, pipeline_graph, inputs)
        if len(found) == 1:
            chosen.append(f"instrument = '{found.pop()}'")
        elif len(found) > 1 and data_query:
            raise InvalidInputError(
                f"the inputs hold images of {', '.join(sorted(found))}: say which in the data query, as in "
                f"-d \"instrument='{min(found)}' AND {data_query}\"."
            )
    if needs_sky_map(pipeline_graph):
        require_sky_map(butler, data_query)
    if needs_sky_map(pipeline_graph) and not re.search(r"\bskymap\b", data_query):
        maps = sky_maps_of(butler, pipeline_graph, inputs)
        if len(maps) > 1:
            rest = f" AND {data_query}" if data_query else ""
            raise InvalidInputError(
                f"the inputs hold the sky maps {', '.join(sorted(maps))}: say which in the data query, as in "
                f"-d \"skymap='{min(maps)}'{rest}\"."
            )
        chosen += [f"skymap = '{name}'" for name in maps]
    return " AND ".join([*chosen, f"({data_query})"] if chosen and data_query else chosen or [data_query])


def build_graph(
    butler: Butler,
    pipeline_graph: PipelineGraph,
    request: RunRequest,
    *,
    search: tuple[str, ...],
    run: str,
    skip_existing_in: tuple[str, ...],
    given_up: str = "",
) -> tuple[PredictedQuantumGraphComponents, GraphBuilder]:
    """Build the graph of what is to be done.

    Parameters
    ----------
    butler
        Repository.
    pipeline_graph
        What to run.
    request
        Data query and output chain are taken from it.
    search
        Collections that inputs are looked for in.
    run
        Output run, which does not exist yet.
    skip_existing_in
        Collections in which done quanta are looked for.
    given_up
        Run whose failed quanta are not to be tried once more.

    Returns
    -------
    graph : lsst.pipe.base.quantum_graph.PredictedQuantumGraphComponents
        May be empty if everything was done before.
    builder : GraphBuilder
        Says what was done before, and what is left out.

    Raises
    ------
    InvalidInputError
        If the query or the collections cannot be used, or there is nothing to run on.
    """
    require_references(butler, pipeline_graph, search)
    inputs = tuple(name for name in search if not name.startswith(f"{request.output}/"))
    try:
        pipeline_graph.resolve(butler.registry)
        query = with_instrument(butler, pipeline_graph, search, request.data_query)
        builder = GraphBuilder(
            pipeline_graph,
            butler,
            where=query,
            skip_existing_in=skip_existing_in,
            input_collections=search,
            output_run=run,
            own_runs=tuple(name for name in search if name not in inputs),
            given_up=given_up,
        )
        with _without_snippets(builder):
            graph = builder.finish(
                request.output,
                metadata={
                    "butler_argument": request.repository,
                    "skip_existing_in": list(skip_existing_in),
                    "skip_existing": bool(skip_existing_in),
                    "data_query": query,
                },
                attach_datastore_records=True,
            )
    except InvalidInputError:
        raise
    except FileNotFoundError as error:
        text = _text(error)
        raise InvalidInputError(f"no graph: {text}{what_to_do(text)}") from error
    except ConnectionTypeConsistencyError as error:
        raise InvalidInputError(
            f"the tasks of this pipeline cannot be run together: {_text(error)} Run them one after the other: "
            "-p PIPELINE#LABEL."
        ) from error
    except ScalarError as error:
        raise InvalidInputError(f"no graph for -d {request.data_query!r}: {_text(error)}") from None
    except (ButlerUserError, LookupError, ValueError, RuntimeError) as error:
        wrong = other_instrument(butler, pipeline_graph, inputs)
        raise InvalidInputError(
            f"nothing to run: {wrong}" if wrong else f"no graph for -d {request.data_query!r}: {_text(error)}"
        ) from error
    if not graph.quantum_datasets and not builder.n_skipped:
        raise InvalidInputError(
            why_empty(butler, pipeline_graph, inputs, query, request.repository, request.inputs)
        )
    return graph, builder


@contextmanager
def _without_snippets(builder: GraphBuilder) -> Iterator[None]:
    """Keep the builder from logging Python for its developers where no data fit: `why_empty` says it in words."""

    def is_wanted(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Initial data ID query returned no rows")

    logger = logging.getLogger(builder.log.name)
    logger.addFilter(is_wanted)
    try:
        yield
    finally:
        logger.removeFilter(is_wanted)


def read_graph(path: str) -> PredictedQuantumGraphComponents:
    """Read a whole graph file.

    Raises
    ------
    InvalidInputError
        If it is no graph, or one without datastore records, which workers need to find their inputs.
    """
    try:
        graph = PredictedQuantumGraph.open(path)
        with graph as reader:
            reader.read_all()
            components = reader.components
    except FileNotFoundError:
        raise InvalidInputError(f"{path}: no such graph file.") from None
    except Exception as error:
        raise InvalidInputError(f"{path}: is not a quantum graph: {_text(error)}") from error
    quanta = components.quantum_datasets.values()
    if quanta and not any(quantum.datastore_records for quantum in quanta):
        raise InvalidInputError(
            f"{path}: has no datastore records; build it with `pipetask qgraph --qgraph-datastore-records`."
        )
    return components


def _text(error: BaseException) -> str:
    """Return an exception's text with those of its causes that add to it, on one line."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(parts) < 3:
        text = " ".join(str(current).split()) or type(current).__name__
        if not any(text in part for part in parts):
            parts.append(text)
        current = current.__cause__
    return ": ".join(parts)
