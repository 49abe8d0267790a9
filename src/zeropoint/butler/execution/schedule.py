"""The order of quanta: what is ready, what waits, what a failure blocks."""

from __future__ import annotations

import heapq
import uuid
from typing import Any

from lsst.daf.butler import DataCoordinate
from lsst.pipe.base.graph_walker import GraphWalker
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

from zeropoint.butler.execution.lost_inputs import LostInputs

__all__ = ["Schedule"]


class Schedule:
    """Hands out quanta as soon as all that they wait for are done.

    Parameters
    ----------
    graph
        Complete graph.
    lost
        Decides which quanta can run without what a failed one should have given them; without it, none can.

    Notes
    -----
    Of those ready, quanta of later tasks go first, then by data id with the detectors of one visit together: what
    was begun is finished soon. The order has no influence on any output.
    """

    def __init__(self, graph: PredictedQuantumGraph, lost: LostInputs | None = None) -> None:
        xgraph = graph.quantum_only_xgraph.copy()
        self._xgraph = xgraph
        self._lost = lost
        self._blocked: set[uuid.UUID] = set()
        depth = {label: i for i, label in enumerate(graph.pipeline_graph.tasks)}
        self._keys: dict[uuid.UUID, tuple[int, tuple[Any, ...]]] = {
            quantum_id: (-depth[node["task_label"]], _visit_first(node["data_id"]))
            for quantum_id, node in xgraph.nodes.items()
        }
        self._walker: GraphWalker[uuid.UUID] = GraphWalker(xgraph)
        self._ready: list[tuple[tuple[int, tuple[Any, ...]], uuid.UUID]] = []
        self._collect()

    def take(self) -> uuid.UUID | None:
        """Return the next quantum that is ready, None if there is none now."""
        return heapq.heappop(self._ready)[1] if self._ready else None

    def put_back(self, quantum_id: uuid.UUID) -> None:
        """Make a quantum ready that was taken."""
        heapq.heappush(self._ready, (self._keys[quantum_id], quantum_id))

    def finish(self, quantum_id: uuid.UUID) -> None:
        """Mark a quantum as done."""
        self._walker.finish(quantum_id)
        self._collect()

    def fail(self, quantum_id: uuid.UUID) -> list[uuid.UUID]:
        """Mark a quantum as failed; return those that can never run for it, in order."""
        if self._lost is None:
            blocked = self._walker.fail(quantum_id)
        else:
            blocked = self._stopped_by(quantum_id, self._lost)
            self._blocked.update(blocked)
            # to the walker, what will never come is done
            for key in (quantum_id, *blocked):
                self._walker.finish(key)
            self._collect()
        return sorted(blocked, key=lambda key: self._keys[key])

    def _stopped_by(self, quantum_id: uuid.UUID, lost: LostInputs) -> list[uuid.UUID]:
        """Return the quanta that cannot do without a failed one, or without one that cannot run for it."""
        lost.lose(quantum_id)
        stopped: list[uuid.UUID] = []
        waiting = [quantum_id]
        while waiting:
            for successor in self._xgraph.successors(waiting.pop()):
                if successor not in self._blocked and successor not in stopped and lost.stop(successor):
                    lost.lose(successor)
                    stopped.append(successor)
                    waiting.append(successor)
        return stopped

    @property
    def n_ready(self) -> int:
        """Number of quanta that could be taken now."""
        return len(self._ready)

    def _collect(self) -> None:
        for quantum_id in next(self._walker, ()):
            if quantum_id not in self._blocked:
                self.put_back(quantum_id)


def _visit_first(data_id: DataCoordinate) -> tuple[Any, ...]:
    """Return a data id's values with the detector, if any, as the last."""
    values = dict(data_id.required)
    detector = values.pop("detector", None)
    return (*values.values(), -1 if detector is None else detector)
