"""Persistent worker processes, and what happens when one dies, hangs or is no longer wanted."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

from zeropoint.butler.execution.report import QuantumOutcome, Status
from zeropoint.butler.execution.schedule import Schedule
from zeropoint.butler.execution.worker import WorkerSetup, worker_main

__all__ = ["Pool", "PoolObserver", "PoolOptions", "WorkersCannotStart"]

_LOG = logging.getLogger(__name__)

#: What every worker imports. Kernels are not among it: compiled code and threads are each worker's own.
_PRELOADED = (
    "lsst.daf.butler",
    "lsst.pipe.base.quantum_graph",
    "lsst.pipe.base.single_quantum_executor",
    "zeropoint.butler.execution.worker",
)
#: Seconds between two looks at clocks, when nothing else happens.
_TICK_S = 0.5
#: Workers in a row that may die before they have begun.
_MAX_FAILED_STARTS = 3
#: Seconds that a worker gets to end of its own accord.
_PATIENCE_S = 5.0
#: Quanta that a first worker may try alone while kernels are compiled.
_MAX_WARM_UP = 3


class WorkersCannotStart(RuntimeError):
    """Workers end before they take a quantum; the message says why, as far as is known."""


@dataclass(frozen=True)
class PoolOptions:
    """See `zeropoint.butler.execution.graph.RunRequest`; ``cold``: one worker compiles kernels before others run."""

    processes: int
    timeout_s: float
    max_quanta_per_worker: int
    retries: int
    cold: bool


class PoolObserver(Protocol):
    """What the pool tells, and asks."""

    def describe(self, quantum_id: uuid.UUID) -> bytes:
        """Return the description of a quantum that is sent to a worker."""

    def lost_inputs(self, quantum_id: uuid.UUID) -> frozenset[uuid.UUID]:
        """Return the inputs that a quantum has to do without, since what should have made them failed."""

    def ended(self, outcome: QuantumOutcome) -> None:
        """Take note of a quantum that a worker has ended."""

    def lost(self, quantum_id: uuid.UUID, message: str, seconds: float) -> None:
        """Take note of a quantum that was given up with its worker."""

    def blocked(self, quantum_ids: list[uuid.UUID], by: uuid.UUID) -> None:
        """Take note of quanta that cannot run since another one failed."""

    def stopped(self, quantum_id: uuid.UUID) -> None:
        """Take note of a quantum that was abandoned in its course at the user's wish."""

    def tick(self, n_running: int) -> None:
        """Show progress; called at least twice a second."""

    def stopping(self, n_running: int) -> None:
        """Say that no further quanta are begun."""


@dataclass
class _Worker:
    """A process and what it is doing."""

    process: BaseProcess
    connection: Connection
    is_ready: bool = False
    job: uuid.UUID | None = None
    since: float = 0.0
    n_done: int = 0
    is_late: bool = False


@dataclass
class Pool:
    """Runs all quanta of a schedule.

    Attributes
    ----------
    setup
        For the workers.
    options
        Numbers of processes and attempts.
    schedule
        What is ready when.
    observer
        Is told of everything.
    """

    setup: WorkerSetup
    options: PoolOptions
    schedule: Schedule
    observer: PoolObserver
    is_stopped: bool = False
    _workers: list[_Worker] = field(default_factory=list)
    _deaths: Counter[uuid.UUID] = field(default_factory=Counter)
    _n_failed_starts: int = 0
    _n_ended: int = 0
    _is_warm: bool = False
    _is_abandoned: bool = False

    def run(self) -> None:
        """Run until nothing is left that can run.

        Raises
        ------
        WorkersCannotStart
            If no worker gets as far as taking a quantum.
        """
        self._is_warm = not self.options.cold
        with _signals(self._interrupt):
            try:
                while True:
                    if self._is_abandoned:
                        self._abandon()
                    if not self.is_stopped:
                        self._hire()
                        self._dispatch()
                    n_running = len(self._busy())
                    self.observer.tick(n_running)
                    if not n_running and (self.is_stopped or not self.schedule.n_ready):
                        return
                    self._wait()
            finally:
                self._dismiss_all()

    def stop(self) -> None:
        """Begin no further quantum; those that run come to their end."""
        if not self.is_stopped:
            self.is_stopped = True
            self.observer.stopping(len(self._busy()))

    def _interrupt(self, is_urgent: bool) -> None:
        self._is_abandoned = self._is_abandoned or is_urgent or self.is_stopped
        self.stop()

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.job is not None]

    def _hire(self) -> None:
        """Start as many workers as have something to do."""
        wanted = min(self.options.processes, len(self._busy()) + self.schedule.n_ready)
        # a server forks the workers: it imports the middleware once, which takes two seconds, and they start at once
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(_PRELOADED))
        while len(self._workers) < wanted:
            ours, theirs = context.Pipe()
            process = context.Process(
                target=worker_main, args=(self.setup, theirs, dict(os.environ)), name="zeropoint-worker"
            )
            process.start()
            theirs.close()
            self._workers.append(_Worker(process, ours))

    def _dispatch(self) -> None:
        for worker in self._workers:
            if not worker.is_ready or worker.job is not None:
                continue
            if not self._is_warm and self._busy():
                return
            quantum_id = self.schedule.take()
            if quantum_id is None:
                return
            worker.job, worker.since = quantum_id, time.monotonic()
            description = self.observer.describe(quantum_id)
            # a worker that has just died is noticed in `_wait`
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                lost = self.observer.lost_inputs(quantum_id)
                worker.connection.send((description, self._deaths[quantum_id] > 0, lost))

    def _wait(self) -> None:
        """Take what workers send, notice those that died, give up those that are late."""
        ready = wait([worker.connection for worker in self._workers], timeout=_TICK_S)
        for worker in [worker for worker in self._workers if worker.connection in ready]:
            try:
                message = worker.connection.recv()
            except (EOFError, ConnectionResetError):
                self._bury(worker)
                continue
            if isinstance(message, QuantumOutcome):
                self._ended(worker, message)
            elif message == "ready":
                worker.is_ready = True
                self._n_failed_starts = 0
            else:
                raise WorkersCannotStart(message)
        if self.options.timeout_s:
            self._give_up_late()

    def _ended(self, worker: _Worker, outcome: QuantumOutcome) -> None:
        worker.job = None
        worker.n_done += 1
        self._n_ended += 1
        if outcome.status in (Status.GOOD, Status.PARTIAL) or self._n_ended >= _MAX_WARM_UP:
            self._is_warm = True
        self.observer.ended(outcome)
        if outcome.status is Status.FAILED:
            self._block(outcome.quantum_id)
        else:
            self.schedule.finish(outcome.quantum_id)
        if worker.n_done >= self.options.max_quanta_per_worker:
            self._dismiss(worker)

    def _bury(self, worker: _Worker) -> None:
        """Deal with a worker that died: its quantum is tried again, or given up."""
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.join()
        quantum_id = worker.job
        if quantum_id is None:
            if not worker.is_ready:
                self._n_failed_starts += 1
                if self._n_failed_starts >= _MAX_FAILED_STARTS:
                    raise WorkersCannotStart(
                        f"worker processes {_how(worker.process.exitcode)} as they start"
                    )
            return
        self._deaths[quantum_id] += 1
        seconds = time.monotonic() - worker.since
        if worker.is_late:
            message = f"took longer than the time-out of {self.options.timeout_s:g} s"
        elif self._deaths[quantum_id] <= self.options.retries and not self.is_stopped:
            self.schedule.put_back(quantum_id)
            return
        else:
            times = self._deaths[quantum_id]
            message = f"its process {_how(worker.process.exitcode)}" + (
                f", {times} times" if times > 1 else ""
            )
        self.observer.lost(quantum_id, message, seconds)
        self._block(quantum_id)

    def _block(self, quantum_id: uuid.UUID) -> None:
        blocked = self.schedule.fail(quantum_id)
        if blocked:
            self.observer.blocked(blocked, quantum_id)

    def _give_up_late(self) -> None:
        limit = time.monotonic() - self.options.timeout_s
        for worker in self._busy():
            if worker.since < limit:
                # the connection's end is noticed in the next `_wait`
                worker.is_late = True
                worker.process.kill()

    def _abandon(self) -> None:
        """End all that runs at once."""
        for worker in self._busy():
            worker.process.kill()
            worker.process.join()
            assert worker.job is not None
            self.observer.stopped(worker.job)
            worker.job = None
            self._workers.remove(worker)
            worker.connection.close()

    def _dismiss(self, worker: _Worker) -> None:
        """Let a worker end; what it sends is no longer read."""
        self._workers.remove(worker)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.connection.send(None)
        worker.connection.close()

    def _dismiss_all(self) -> None:
        processes = [worker.process for worker in self._workers]
        for worker in list(self._workers):
            self._dismiss(worker)
        deadline = time.monotonic() + _PATIENCE_S
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


def _how(exit_code: int | None) -> str:
    """Say how a process ended."""
    if exit_code is None or exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"


@contextmanager
def _signals(interrupt: Callable[[bool], None]) -> Iterator[None]:
    """Turn Ctrl-C and the polite kill into ``interrupt(is_urgent)``, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: interrupt(False)),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: interrupt(True)),
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
