"""The order of quanta: what is ready, what waits, what a failure blocks."""

from __future__ import annotations

import heapq
import uuid
from typing import Any

from lsst.daf.butler import DataCoordinate
from lsst.pipe.base.graph_walker import GraphWalker
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

__all__ = ["Schedule"]


class Schedule:
    """Hands out quanta as soon as all that they wait for are done.

    Parameters
    ----------
    graph
        Complete graph.

    Notes
    -----
    Of those ready, quanta of later tasks go first, then by data id with the detectors of one visit together: what
    was begun is finished soon. The order has no influence on any output.
    """

    def __init__(self, graph: PredictedQuantumGraph) -> None:
        xgraph = graph.quantum_only_xgraph.copy()
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
        blocked = self._walker.fail(quantum_id)
        return sorted(blocked, key=lambda key: self._keys[key])

    @property
    def n_ready(self) -> int:
        """Number of quanta that could be taken now."""
        return len(self._ready)

    def _collect(self) -> None:
        for quantum_id in next(self._walker, ()):
            self.put_back(quantum_id)


def _visit_first(data_id: DataCoordinate) -> tuple[Any, ...]:
    """Return a data id's values with the detector, if any, as the last."""
    values = dict(data_id.required)
    detector = values.pop("detector", None)
    return (*values.values(), -1 if detector is None else detector)
