"""One worker process: reads the graph's frame once, then runs quantum after quantum."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import threading
import time
import uuid
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from zeropoint.butler.execution.found_inputs import FoundInputs
from zeropoint.butler.execution.report import QuantumOutcome, Status

__all__ = ["WorkerSetup", "worker_main"]

#: Texts of errors of libraries that do not hand on the system's error number.
_DISK_FULL_TEXTS = ("No space left on device", "Not enough space on disk", "Disk quota exceeded")


@dataclass(frozen=True)
class WorkerSetup:
    """What every worker of a run is given."""

    repository: str
    graph: str
    lock: str
    raise_on_partial_outputs: bool
    log_level: str


def worker_main(setup: WorkerSetup, connection: Connection, environment: dict[str, str]) -> None:
    """Run quanta until told to stop or the main process is gone.

    Parameters
    ----------
    setup
        Where the graph is.
    connection
        Sends ``"ready"``, or the text of what went wrong; receives ``(description, is_retry, lost_inputs)`` of a
        quantum, or None as the end; sends a `QuantumOutcome` for each.
    environment
        Environment variables of the main process as they are now; the process has those of an earlier time.
    """
    # Ctrl-C reaches the whole process group; what to do about it is decided by the main process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    os.environ.clear()
    os.environ.update(environment)
    _configure_logging()
    try:
        worker = _Worker(setup)
    except Exception as error:
        logging.getLogger(__name__).debug("start", exc_info=True)
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send("ready")
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        if job is None:
            return
        connection.send(worker.run(*job))


def _die_with_parent() -> None:
    """End this process when the main process is killed: its quantum would be nobody's."""
    import multiprocessing
    from multiprocessing.connection import wait

    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _configure_logging() -> None:
    """Log as ``pipetask`` does, since the log datasets are made of it; nothing goes to the terminal."""
    from lsst.daf.butler.logging import ButlerMDC

    logging.basicConfig(level=logging.WARNING, handlers=[logging.NullHandler()], force=True)
    logging.captureWarnings(True)
    ButlerMDC.add_mdc_log_record_factory()


class _Worker:
    """The state that a process keeps from quantum to quantum: pipeline with its configurations, repository.

    Attributes
    ----------
    inputs
        What the quantum that runs has found of its inputs.
    """

    inputs: FoundInputs

    def __init__(self, setup: WorkerSetup) -> None:
        from lsst.daf.butler import ButlerConfig
        from lsst.pipe.base.quantum_graph import PredictedQuantumGraph
        from lsst.utils.threads import disable_implicit_threading

        from zeropoint.butler.execution.journal import hold_lock

        disable_implicit_threading()
        hold_lock(setup.lock)
        with PredictedQuantumGraph.open(setup.graph) as reader:
            reader.read_init_quanta()
            reader.read_dimension_data()
            self._frame = reader.components
        tasks = self._frame.pipeline_graph.tasks.values()
        for name in {"lsst", "zeropoint", *(node.task_class_name.partition(".")[0] for node in tasks)}:
            logging.getLogger(name).setLevel(setup.log_level)
        self._config = ButlerConfig(setup.repository)
        self._dataset_types = {
            node.name: node.dataset_type for node in self._frame.pipeline_graph.dataset_types.values()
        }
        self._raise_on_partial_outputs = setup.raise_on_partial_outputs
        self._executors = {is_retry: self._executor(is_retry) for is_retry in (False, True)}

    def _executor(self, is_retry: bool) -> Any:
        from lsst.pipe.base.single_quantum_executor import SingleQuantumExecutor

        from zeropoint.butler.execution.quantum_inputs import TaskFactoryWithReasons

        return SingleQuantumExecutor(
            butler=None,
            limited_butler_factory=self._butler,
            task_factory=TaskFactoryWithReasons(lambda error: self.inputs.note(error)),
            # the first attempt in a new run finds nothing; another one removes what the first left
            assume_no_existing_outputs=not is_retry,
            clobber_outputs=is_retry,
            raise_on_partial_outputs=self._raise_on_partial_outputs,
        )

    def _butler(self, quantum: Any) -> Any:
        from zeropoint.butler.execution.quantum_inputs import InputsButler

        butler = InputsButler.initialize(
            self._config,
            quantum,
            self._frame.pipeline_graph.universe,
            dataset_types=self._dataset_types,
        )
        assert isinstance(butler, InputsButler)
        butler.inputs = self.inputs
        butler.input_types = frozenset(dataset_type.name for dataset_type in quantum.inputs)
        return butler

    def run(self, description: bytes, is_retry: bool, lost_inputs: frozenset[uuid.UUID]) -> QuantumOutcome:
        """Run one quantum, as if its lost inputs did not exist, and say what became of it."""
        started, cpu_started = time.monotonic(), time.process_time()
        from lsst.pipe.base.quantum_graph import PredictedQuantumDatasetsModel

        datasets = PredictedQuantumDatasetsModel.model_validate_json(description)
        quantum_id, label = datasets.quantum_id, datasets.task_label
        graph = dataclasses.replace(self._frame, quantum_datasets={quantum_id: datasets}).assemble()
        quantum = graph.build_execution_quanta([quantum_id])[quantum_id]
        self.inputs = FoundInputs(lost_inputs)
        outcome = QuantumOutcome(
            quantum_id,
            label,
            data_id_text(quantum.dataId),
            Status.GOOD,
            is_incomplete=bool(lost_inputs),
        )
        task_node = self._frame.pipeline_graph.tasks[label]
        try:
            result = self._executors[is_retry].execute(task_node, quantum, quantum_id)
        except (Exception, SystemExit) as error:
            fields = _failure(error)
        else:
            fields = _success(result, label, self.inputs)
        return dataclasses.replace(
            outcome,
            seconds=time.monotonic() - started,
            cpu_seconds=time.process_time() - cpu_started,
            **fields,
        )


def data_id_text(data_id: Any) -> str:
    """Return a data id as ``name=value`` words."""
    return " ".join(f"{name}={data_id[name]}" for name in data_id.dimensions.required)


def _success(result: Any, label: str, inputs: FoundInputs) -> dict[str, Any]:
    """Return the status of a quantum that ended well, perhaps with caveats."""
    from lsst.pipe.base import QuantumSuccessCaveats

    metadata = result.task_metadata
    caveats = QuantumSuccessCaveats(metadata["quantum"]["caveats"])
    if caveats & QuantumSuccessCaveats.PARTIAL_OUTPUTS_ERROR:
        failure = metadata[label].get("failure")
        return {
            "status": Status.PARTIAL,
            "error_type": failure["type"] if failure else "AnnotatedPartialOutputsError",
            "message": _one_line(failure["message"]) if failure else "",
            "algorithmic": True,
        }
    if caveats & QuantumSuccessCaveats.NO_WORK:
        return {
            "status": Status.NO_WORK,
            "error_type": inputs.no_work_type,
            "message": _one_line(inputs.why()),
        }
    own = metadata.get(label, {})
    return {"note": _one_line(str(own["note"]))} if "note" in own else {}


def _failure(error: BaseException) -> dict[str, Any]:
    """Return the status of a quantum that raised, and why."""
    from lsst.pipe.base import AlgorithmError
    from lsst.utils.introspection import get_full_type_name

    is_algorithmic = isinstance(error, AlgorithmError)
    disk_full = _disk_full(error)
    shown = disk_full or error
    return {
        "status": Status.FAILED,
        "error_type": get_full_type_name(shown),
        "message": _one_line(str(shown)),
        "algorithmic": is_algorithmic,
        "disk_full": disk_full is not None,
    }


def _disk_full(error: BaseException | None) -> BaseException | None:
    """Return the exception for want of space, if one led to this exception."""
    import errno

    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return error
        if isinstance(error, OSError) and any(text in str(error) for text in _DISK_FULL_TEXTS):
            return error
        error = error.__cause__ or error.__context__
    return None


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]
