"""One command's work: graph, output collections, workers, registration of outputs, report."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lsst.ctrl.mpexec.cli.butler_factory import ButlerFactory
from lsst.daf.butler import Butler, CollectionType, MissingCollectionError, MissingDatasetTypeError
from lsst.daf.butler.registry import RegistryDefaults
from lsst.pipe.base import PipelineGraph
from lsst.pipe.base.quantum_graph import PredictedQuantumGraphComponents
from sqlalchemy.exc import SQLAlchemyError

from zeropoint.butler.execution.builder import GraphBuilder
from zeropoint.butler.execution.graph import RunRequest, build_graph, load_pipeline, read_graph
from zeropoint.butler.execution.ingest import Ingester, recover
from zeropoint.butler.execution.journal import Journal
from zeropoint.butler.execution.lost_inputs import LostInputs
from zeropoint.butler.execution.pool import Pool, PoolOptions, WorkersCannotStart
from zeropoint.butler.execution.report import QuantumOutcome, RunReport, Status
from zeropoint.butler.execution.schedule import Schedule
from zeropoint.butler.execution.warmth import kernels_are_cold
from zeropoint.butler.execution.worker import WorkerSetup
from zeropoint.butler.repository import open_repository
from zeropoint.errors import InvalidInputError

__all__ = ["Listener", "run_pipeline"]

_LOG = logging.getLogger(__name__)


class Listener(Protocol):
    """Shows a user what is going on."""

    def say(self, text: str) -> None:
        """Show one line."""

    def progress(self, report: RunReport, n_running: int) -> None:
        """Show how far the run is; called often."""


class _Quiet:
    """Shows nothing."""

    def say(self, text: str) -> None:
        _LOG.info(text)

    def progress(self, report: RunReport, n_running: int) -> None:
        pass


@dataclass(frozen=True)
class _Outputs:
    """The chain and run that outputs go to."""

    chain: str
    run: str
    children: tuple[str, ...]
    search: tuple[str, ...]
    own_runs: tuple[str, ...]


def run_pipeline(request: RunRequest, listener: Listener | None = None) -> RunReport:
    """Run a pipeline on persistent workers.

    Parameters
    ----------
    request
        What to run.
    listener
        Is shown what goes on; default: the log.

    Returns
    -------
    report : RunReport
        What became of every quantum; failures of quanta are in it, and are not raised.

    Raises
    ------
    InvalidInputError
        If the request cannot be carried out: nothing was run then.
    """
    started = time.monotonic()
    listener = listener or _Quiet()
    repository = _absolute(request.repository)
    with closing(open_repository(repository, writeable=True)) as butler, _readable_errors(repository):
        report = RunReport(request.repository, request.output)
        if request.graph:
            graph = read_graph(request.graph)
            outputs = _outputs_of_graph(butler, graph)
            report.output, report.is_of_graph_file = outputs.chain, True
            _execute(butler, repository, request, graph, outputs, report, listener)
        else:
            _run_twice(butler, repository, request, report, listener)
        report.seconds = time.monotonic() - started
        return report


def _run_twice(
    butler: Butler, repository: str, request: RunRequest, report: RunReport, listener: Listener
) -> None:
    """Run what is to be done; then, if what failed before has now succeeded, what had been done without it."""
    pipeline_graph = load_pipeline(request)
    builder = _run_once(butler, repository, request, pipeline_graph, report, listener, "")
    if not builder.n_deferred or not report.run or report.error or report.interrupted:
        return
    first_run, first_graph = report.run, report.graph
    if report.count(Status.GOOD, Status.PARTIAL, Status.NO_WORK):
        _run_once(butler, repository, request, pipeline_graph, report, listener, first_run)
    if report.run == first_run:
        report.n_kept = builder.n_deferred
    else:
        report.notes.append(f"what had failed before was tried first, in {first_run} (graph {first_graph})")


def _run_once(
    butler: Butler,
    repository: str,
    request: RunRequest,
    pipeline_graph: PipelineGraph,
    report: RunReport,
    listener: Listener,
    given_up: str,
) -> GraphBuilder:
    """Build a graph and run it, if there is anything to do; ``given_up``: a run whose failures are not tried again."""
    outputs = _plan_outputs(butler, request)
    skip_existing_in = _skip_existing_in(butler, request, outputs)
    if given_up:
        # the first part of this very command is no longer to be done again
        skip_existing_in = (given_up, *(name for name in skip_existing_in if name != given_up))
    else:
        report.notes += recover(butler, repository, _runs(butler, (*outputs.own_runs, *skip_existing_in)))
        for note in report.notes:
            listener.say(note)
    listener.say("building the quantum graph")
    graph, builder = build_graph(
        butler,
        pipeline_graph,
        request,
        search=outputs.search,
        run=outputs.run,
        skip_existing_in=skip_existing_in,
        given_up=given_up,
    )
    if given_up:
        report.n_skipped -= len(graph.quantum_datasets)
    else:
        report.n_skipped = builder.n_skipped
        report.notes += builder.notes()
        if builder.n_skipped:
            is_idle = not graph.quantum_datasets
            changed = _changed_configs(butler, graph.pipeline_graph, skip_existing_in, is_idle)
            report.notes = changed + report.notes
    if graph.quantum_datasets:
        _execute(butler, repository, request, graph, outputs, report, listener)
    return builder


def _execute(
    butler: Butler,
    repository: str,
    request: RunRequest,
    graph: PredictedQuantumGraphComponents,
    outputs: _Outputs,
    report: RunReport,
    listener: Listener,
) -> None:
    """Run a graph that has quanta, and fill the report."""
    report.run = outputs.run
    report.plan({label: len(graph.thin_graph.quanta.get(label, ())) for label in graph.pipeline_graph.tasks})
    _require_multiprocessing(graph, request.processes, list(report.tasks))
    with Journal(butler, outputs.run) as journal:
        report.graph = str(journal.graph)
        _write_graph(graph, journal.graph)
        if request.save_graph:
            _write_graph(graph, Path(request.save_graph))
        listener.say(f"{report.n_quanta} quanta; outputs go to {outputs.run}")
        quantum_graph = graph.assemble()
        quantum_graph.pipeline_graph.register_dataset_types(butler, include_packages=True)
        with _opened_outputs(butler, outputs, journal):
            quantum_graph.init_output_run(butler, existing=False)
        lost = LostInputs(graph)
        schedule = Schedule(quantum_graph, None if request.block_on_failure else lost)
        del quantum_graph
        setup = WorkerSetup(
            repository,
            str(journal.graph),
            str(journal.workers_lock),
            request.raise_on_partial_outputs,
            request.log_level,
        )
        is_cold = kernels_are_cold()
        if is_cold:
            listener.say("first run: compiling kernels, a minute or two; later runs load them from a cache")
        options = PoolOptions(
            request.processes, request.timeout_s, request.max_quanta_per_worker, request.retries, is_cold
        )
        ingester = Ingester(butler, repository, graph)
        observer = _Observer(graph, report, ingester, listener, lost)
        observer.pool = Pool(setup, options, schedule, observer)
        try:
            observer.pool.run()
        except WorkersCannotStart as error:
            report.error = f"no worker could be started: {error}"
        finally:
            failure = ingester.close()
        report.interrupted = observer.pool.is_stopped and not report.error
    if failure is not None:
        journal.leave_to_recovery()
        reason = (
            f"some outputs are written but could not be registered ({_first_line(failure)}); "
            "run the same command again: it takes them up"
        )
        report.error = f"{report.error}; {reason}" if report.error else reason


class _Observer:
    """Hands what the pool tells to report, ingester and listener."""

    pool: Pool

    def __init__(
        self,
        graph: PredictedQuantumGraphComponents,
        report: RunReport,
        ingester: Ingester,
        listener: Listener,
        lost: LostInputs,
    ) -> None:
        self._graph = graph
        self.lost_inputs = lost.of
        self._report = report
        self._ingester = ingester
        self._listener = listener

    def describe(self, quantum_id: uuid.UUID) -> bytes:
        return self._graph.quantum_datasets[quantum_id].model_dump_json().encode()

    def ended(self, outcome: QuantumOutcome) -> None:
        self._report.add(outcome)
        self._ingester.add(outcome.quantum_id)
        if outcome.disk_full and not self._report.error:
            self._report.error = (
                f"the disk is full: {outcome.message}; free some space and run the same command"
            )
            self.pool.stop()

    def lost(self, quantum_id: uuid.UUID, message: str, seconds: float) -> None:
        label, data_id = self._name(quantum_id)
        error_type = "WorkerLost"
        self._report.add(
            QuantumOutcome(quantum_id, label, data_id, Status.FAILED, error_type, message, seconds=seconds)
        )
        self._ingester.add_lost(quantum_id, error_type, f"{label} {data_id}: {message}")

    def blocked(self, quantum_ids: list[uuid.UUID], by: uuid.UUID) -> None:
        for quantum_id in quantum_ids:
            self._report.add(QuantumOutcome(quantum_id, *self._name(quantum_id), Status.BLOCKED))

    def stopped(self, quantum_id: uuid.UUID) -> None:
        self._ingester.discard(quantum_id)

    def tick(self, n_running: int) -> None:
        self._ingester.poll()
        self._listener.progress(self._report, n_running)

    def stopping(self, n_running: int) -> None:
        if self._report.error:
            self._listener.say(self._report.error)
        elif n_running:
            self._listener.say(f"stopping: {n_running} quanta come to their end; Ctrl-C again abandons them")

    def _name(self, quantum_id: uuid.UUID) -> tuple[str, str]:
        quantum = self._graph.quantum_datasets[quantum_id]
        dimensions = self._graph.pipeline_graph.tasks[quantum.task_label].dimensions
        pairs = zip(dimensions.required, quantum.data_coordinate)
        return quantum.task_label, " ".join(f"{name}={value}" for name, value in pairs)


def _plan_outputs(butler: Butler, request: RunRequest) -> _Outputs:
    """Choose output run and search path as ``pipetask run`` does."""
    try:
        factory = ButlerFactory(
            butler,
            output=request.output,
            output_run=None,
            inputs=request.inputs,
            rebase=request.rebase,
            writeable=True,
        )
        factory.check(extend_run=False, replace_run=False)
    except MissingCollectionError as error:
        raise InvalidInputError(f"{' '.join(str(error).split())} See `butler query-collections`.") from None
    except (ValueError, TypeError) as error:
        raise InvalidInputError(" ".join(str(error).split())) from None
    assert factory.output is not None
    assert factory.output_run is not None
    if _exists(butler, factory.output_run.name):  # names of runs have seconds
        time.sleep(1.0)
        return _plan_outputs(butler, request)
    if not factory.output.exists and not factory.inputs:
        raise InvalidInputError(
            f"{request.output}: is a new collection, so inputs are needed: add -i COLLECTION."
        )
    children = factory.output.chain if factory.output.exists else factory.inputs
    flat = tuple(butler.collections.query(children, flatten_chains=True, include_chains=False))
    own = tuple(name for name in flat if name.startswith(f"{request.output}/"))
    return _Outputs(request.output, factory.output_run.name, flat, children, own)


def _outputs_of_graph(butler: Butler, graph: PredictedQuantumGraphComponents) -> _Outputs:
    """Return where the outputs of a graph made earlier go."""
    header = graph.header
    if _exists(butler, header.output_run):
        raise InvalidInputError(
            f"the graph's output run {header.output_run} exists: it was run before; use -p, -i and -o to do what "
            "is missing."
        )
    chain = header.output or header.output_run
    children = tuple(header.inputs)
    if header.output and _exists(butler, chain):
        children = tuple(butler.collections.get_info(chain).children)
    flat = tuple(butler.collections.query(children, flatten_chains=True, include_chains=False))
    return _Outputs(chain, header.output_run, flat, children, ())


def _exists(butler: Butler, name: str) -> bool:
    try:
        butler.collections.get_info(name)
    except MissingCollectionError:
        return False
    return True


def _skip_existing_in(butler: Butler, request: RunRequest, outputs: _Outputs) -> tuple[str, ...]:
    named = tuple(request.skip_existing_in)
    for name in named:
        if not _exists(butler, name):
            raise InvalidInputError(f"--skip-existing-in {name}: no such collection.")
    own = () if request.redo else outputs.own_runs
    return (*named, *(name for name in own if name not in named))


def _runs(butler: Butler, names: tuple[str, ...]) -> list[str]:
    """Return all runs among collections and the members of chains."""
    if not names:
        return []
    return list(
        dict.fromkeys(
            butler.collections.query(
                names, flatten_chains=True, include_chains=False, collection_types={CollectionType.RUN}
            )
        )
    )


@contextmanager
def _opened_outputs(butler: Butler, outputs: _Outputs, journal: Journal) -> Iterator[None]:
    """Open the outputs; where a task then refuses its configuration, leave no empty run behind."""
    is_new = not _exists(butler, outputs.chain)
    _open_outputs(butler, outputs)
    try:
        yield
    except Exception:
        if outputs.chain != outputs.run:
            butler.collections.redefine_chain(outputs.chain, outputs.children)
            if is_new:
                butler.collections.x_remove(outputs.chain)
        butler.removeRuns([outputs.run])
        journal.withdraw()
        raise


def _open_outputs(butler: Butler, outputs: _Outputs) -> None:
    """Register the output run and put it first in the output chain."""
    butler.collections.register(outputs.run, CollectionType.RUN)
    search = [outputs.run]
    if outputs.chain != outputs.run:
        butler.collections.register(outputs.chain, CollectionType.CHAINED)
        butler.collections.redefine_chain(outputs.chain, [outputs.run, *outputs.children])
        search = [outputs.chain]
    butler.registry.defaults = RegistryDefaults(run=outputs.run, collections=search)


def _write_graph(graph: PredictedQuantumGraphComponents, path: Path) -> None:
    """Write a graph so that no half of it can be found."""
    part = path.with_name(f"part-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    graph.write(str(part))
    os.replace(part, path)


def _require_multiprocessing(
    graph: PredictedQuantumGraphComponents, processes: int, labels: list[str]
) -> None:
    for label in labels:
        # one quantum is in one process anyway
        if processes == 1 or len(graph.thin_graph.quanta.get(label, ())) <= 1:
            continue
        if not graph.pipeline_graph.tasks[label].task_class.canMultiprocess:
            raise InvalidInputError(f"{label}: its task cannot run in several processes; use -j 1.")


def _changed_configs(
    butler: Butler, pipeline_graph: PipelineGraph, collections: tuple[str, ...], is_idle: bool
) -> list[str]:
    """Say for which tasks the quanta that are skipped, all if idle, were done with another configuration."""
    notes = []
    for label, node in pipeline_graph.tasks.items():
        name = node.init.config_output.dataset_type_name
        try:
            ref = butler.find_dataset(name, collections=collections)
        except MissingDatasetTypeError:
            continue  # a task that is run for the first time
        if ref is None:
            continue
        differences: list[str] = []
        if not node.config.compare(butler.get(ref), shortcut=False, output=differences.append):
            what = "; ".join(differences[:3])
            notes.append(
                f"{label}: the configuration differs from that of {ref.run} ({what}); nothing was run: use --redo or "
                "another -o"
                if is_idle
                else f"{label}: what was done before, in {ref.run}, had another configuration ({what}) and is kept; "
                "--redo, or another -o, does it again"
            )
    return notes


def _absolute(repository: str) -> str:
    """Return a repository's path such that it does not depend on the working directory."""
    return str(Path(repository).resolve()) if Path(repository).exists() else repository


@contextmanager
def _readable_errors(repository: str) -> Iterator[None]:
    """Say in one line what the database complains about."""
    try:
        yield
    except SQLAlchemyError as error:
        raise InvalidInputError(
            f"{repository}: the registry cannot be used: {_first_line(error)}."
        ) from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(getattr(error, "orig", None) or error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
