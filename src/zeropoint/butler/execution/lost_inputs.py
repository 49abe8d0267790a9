"""What failed quanta leave unmade, and which quanta cannot do without it."""

from __future__ import annotations

import uuid

from lsst.pipe.base.pipeline_graph import TaskNode
from lsst.pipe.base.quantum_graph import PredictedQuantumGraphComponents

__all__ = ["LostInputs", "lacks_inputs", "minima_of"]


def minima_of(task_node: TaskNode) -> dict[str, int]:
    """Return connection -> least number of datasets, for the inputs of a task without the prerequisites."""
    connections = task_node.get_connections().allConnections
    return {name: int(connections[name].minimum) for name in task_node.inputs}  # type: ignore[attr-defined]


def lacks_inputs(minima: dict[str, int], n_inputs: dict[str, int]) -> bool:
    """Say whether a quantum has fewer datasets of any connection than its task can work with.

    Parameters
    ----------
    minima
        Connection -> least number of datasets.
    n_inputs
        Connection -> number of datasets that there are; connections that are absent have none.
    """
    return any(n_inputs.get(name, 0) < minimum for name, minimum in minima.items())


class LostInputs:
    """Keeps account of the datasets of a graph that will not be made.

    Parameters
    ----------
    graph
        Graph with its quanta.

    Notes
    -----
    A task that gathers (a visit from its detectors, a tract from its visits) can work with fewer datasets than were
    predicted: only if fewer than the connection's minimum are left, there is nothing that it could do. The
    outputs of a failed quantum count as lost also where some of them had been written.
    """

    def __init__(self, graph: PredictedQuantumGraphComponents) -> None:
        self._quanta = graph.quantum_datasets
        self._tasks = graph.pipeline_graph.tasks
        self._lost: set[uuid.UUID] = set()
        self._minima: dict[str, dict[str, int]] = {}

    def lose(self, quantum_id: uuid.UUID) -> None:
        """Take note that the outputs of a quantum will not be made."""
        for datasets in self._quanta[quantum_id].outputs.values():
            self._lost.update(dataset.dataset_id for dataset in datasets)

    def of(self, quantum_id: uuid.UUID) -> frozenset[uuid.UUID]:
        """Return the inputs of a quantum that will not be made."""
        if not self._lost:
            return frozenset()
        return frozenset(self._lost.intersection(self._quanta[quantum_id].iter_input_dataset_ids()))

    def stop(self, quantum_id: uuid.UUID) -> bool:
        """Say whether a quantum cannot run for want of inputs."""
        quantum = self._quanta[quantum_id]
        if not self.of(quantum_id):
            return False
        left = {
            name: sum(dataset.dataset_id not in self._lost for dataset in datasets)
            for name, datasets in quantum.inputs.items()
            if any(dataset.dataset_id in self._lost for dataset in datasets)
        }
        if quantum.task_label not in self._minima:
            self._minima[quantum.task_label] = minima_of(self._tasks[quantum.task_label])
        minima = self._minima[quantum.task_label]
        return lacks_inputs({name: minima.get(name, 1) for name in left}, left)
