"""Register in the repository what workers have written; take up what an interrupted run left.

Workers write files through a quantum-backed butler, which knows no registry. Here, in one thread of the main
process, those files become datasets: in batches, each in one transaction, and harmlessly so if done twice.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import Any

from lsst.daf.butler import Butler, DatasetRef, QuantumBackedButler
from lsst.daf.butler._rubin.temporary_for_ingest import TemporaryForIngest
from lsst.daf.butler.logging import ButlerLogRecordHandler
from lsst.pipe.base import automatic_connection_constants as acc
from lsst.pipe.base.quantum_graph import PredictedQuantumGraphComponents

from zeropoint.butler.execution.graph import read_graph
from zeropoint.butler.execution.journal import Journal

__all__ = ["Ingester", "recover"]

_LOG = logging.getLogger(__name__)

#: A batch is registered when it has so many quanta, or is so old (seconds).
_BATCH = 50
_AGE_S = 10.0


class _Files:
    """The predicted outputs of a graph as files of a repository; to be used from one thread only."""

    def __init__(self, butler: Butler, repository: str, graph: PredictedQuantumGraphComponents) -> None:
        self._butler = butler
        self._graph = graph
        quanta = graph.quantum_datasets.values()
        self._files = QuantumBackedButler.from_predicted(
            repository,
            predicted_inputs=(),
            predicted_outputs=[
                dataset.dataset_id for quantum in quanta for dataset in chain(*quantum.outputs.values())
            ],
            dimensions=graph.pipeline_graph.universe,
            datastore_records={},
            dataset_types={
                node.name: node.dataset_type for node in graph.pipeline_graph.dataset_types.values()
            },
        )

    def close(self) -> None:
        """Release the database of the files' records."""
        self._files.close()

    def outputs(self, quantum_id: uuid.UUID) -> list[DatasetRef]:
        """Return all predicted outputs of a quantum."""
        datasets = self._graph.quantum_datasets[quantum_id].outputs.values()
        return [self._graph.make_dataset_ref(dataset) for dataset in chain(*datasets)]

    def has(self, quantum_id: uuid.UUID, connection: str) -> bool:
        """Say whether the file of one output exists."""
        (dataset,) = self._graph.quantum_datasets[quantum_id].outputs[connection]
        return self._files.stored(self._graph.make_dataset_ref(dataset))

    def register(self, quantum_ids: Iterable[uuid.UUID]) -> None:
        """Make datasets of all files of these quanta, in one transaction; those that are datasets stay so."""
        refs = [ref for quantum_id in quantum_ids for ref in self.outputs(quantum_id)]
        existing = [ref for ref, exists in self._files.stored_many(refs).items() if exists]
        if existing:
            self._butler.transfer_from(self._files, existing, transfer="auto", skip_missing=True)

    def remove(self, quantum_id: uuid.UUID) -> int:
        """Remove the files of a quantum that did not come to its end; return their number."""
        refs = self.outputs(quantum_id)
        existing = [ref for ref, exists in self._files.stored_many(refs).items() if exists]
        if existing:
            self._files.pruneDatasets(existing, disassociate=True, unstore=True, purge=True)
        for ref in refs:
            for path in TemporaryForIngest.find_orphaned_temporaries_by_ref(ref, self._files):
                path.remove()
        return len(existing)

    def write_log(self, quantum_id: uuid.UUID, error_type: str, message: str) -> None:
        """Write the log of a quantum whose worker could not do so itself."""
        (dataset,) = self._graph.quantum_datasets[quantum_id].outputs[acc.LOG_OUTPUT_CONNECTION_NAME]
        ref = self._graph.make_dataset_ref(dataset)
        if self._files.stored(ref):
            return
        handler = ButlerLogRecordHandler()
        record = {"name": __name__, "levelno": logging.ERROR, "levelname": "ERROR", "msg": message}
        handler.handle(logging.makeLogRecord(record))
        handler.records.extra = {"exception": {"type_name": error_type, "message": message, "metadata": {}}}
        self._files.put(handler.records, ref)


class Ingester:
    """Registers outputs while the pool goes on.

    Parameters
    ----------
    butler
        Writeable; a clone of it is used.
    repository
        Path, URI or alias of the same repository.
    graph
        Graph that is being run.
    """

    def __init__(self, butler: Butler, repository: str, graph: PredictedQuantumGraphComponents) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ingest")
        self._pending: list[uuid.UUID] = []
        self._since = time.monotonic()
        self._running: Future[None] | None = None
        # of the thread only: SQLite connections belong to the thread that opened them
        self._files = self._thread.submit(lambda: _Files(butler.clone(), repository, graph)).result()
        self._unregistered: list[uuid.UUID] = []
        self._error: Exception | None = None

    def add(self, quantum_id: uuid.UUID) -> None:
        """Register a quantum's outputs, soon."""
        self._pending.append(quantum_id)
        self.poll()

    def poll(self) -> None:
        """Start the next batch if it is due."""
        is_due = len(self._pending) >= _BATCH or time.monotonic() - self._since > _AGE_S
        if self._pending and is_due and (self._running is None or self._running.done()):
            self._start_batch()

    def add_lost(self, quantum_id: uuid.UUID, error_type: str, message: str) -> None:
        """Register what exists of a quantum whose worker is gone, and a log that says so."""
        self._act(lambda files: files.write_log(quantum_id, error_type, message))
        self.add(quantum_id)

    def discard(self, quantum_id: uuid.UUID) -> None:
        """Remove the files of a quantum that was stopped; it counts as never begun."""
        self._act(lambda files: files.remove(quantum_id))

    def close(self) -> Exception | None:
        """Register what is pending and end; return why something could not be, if so."""
        self._start_batch()
        self._act(_Files.close)
        self._thread.shutdown(wait=True)
        return self._error

    def _start_batch(self) -> None:
        batch, self._pending = self._pending, []
        self._since = time.monotonic()
        self._running = self._thread.submit(self._register, batch)

    def _act(self, action: Callable[[_Files], Any]) -> None:
        """Do something with the files in the thread; what fails is left to the recovery by a later run."""

        def act() -> None:
            try:
                action(self._files)
            except Exception:
                _LOG.warning("cannot tidy up after a quantum", exc_info=True)

        self._thread.submit(act)

    def _register(self, batch: Sequence[uuid.UUID]) -> None:
        self._unregistered.extend(batch)
        try:
            self._files.register(self._unregistered)
        except Exception as error:
            # a database may be busy or its disk full: tried again with the next batch
            _LOG.debug("registration of outputs", exc_info=True)
            self._error = error
        else:
            self._unregistered.clear()
            self._error = None


def recover(butler: Butler, repository: str, runs: Iterable[str]) -> list[str]:
    """Take up what killed runs left: register what was finished, remove what was not.

    Parameters
    ----------
    butler
        Writeable.
    repository
        Path, URI or alias of the same repository.
    runs
        Output runs to look at.

    Returns
    -------
    notes : list of str
        One sentence for each run that was taken up.
    """
    notes = []
    for run in runs:
        journal = Journal(butler, run)
        if not journal.take_over():
            continue
        if not journal.graph.exists():
            journal.close(finished=True)
            continue
        try:
            n_taken, n_removed = _take_up(butler, repository, read_graph(str(journal.graph)))
        except BaseException:
            journal.close(finished=False)
            raise
        journal.close(finished=True)
        notes.append(
            f"{run} was interrupted: {n_taken} finished quanta registered, {n_removed} unfinished files removed"
        )
    return notes


def _take_up(butler: Butler, repository: str, graph: PredictedQuantumGraphComponents) -> tuple[int, int]:
    """Register the ended quanta of a graph and remove the files of others; return the numbers of both."""
    files = _Files(butler, repository, graph)
    try:
        ended, n_removed = [], 0
        for quantum_id in graph.quantum_datasets:
            # the log is written last, so with it a quantum has ended, well or not
            if not files.has(quantum_id, acc.LOG_OUTPUT_CONNECTION_NAME):
                n_removed += files.remove(quantum_id)
                continue
            (log,) = graph.quantum_datasets[quantum_id].outputs[acc.LOG_OUTPUT_CONNECTION_NAME]
            if not butler.stored(graph.make_dataset_ref(log)):
                ended.append(quantum_id)
        for i in range(0, len(ended), _BATCH):
            files.register(ended[i : i + _BATCH])
    finally:
        files.close()
    return len(ended), n_removed
