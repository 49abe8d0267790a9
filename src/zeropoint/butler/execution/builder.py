"""The builder of quantum graphs: what was done before, what is done again, what is put off."""

from __future__ import annotations

from collections import Counter
from typing import Any

from lsst.daf.butler import MissingDatasetTypeError
from lsst.pipe.base.all_dimensions_quantum_graph_builder import AllDimensionsQuantumGraphBuilder
from lsst.pipe.base.pipeline_graph import TaskNode
from lsst.pipe.base.quantum_graph_skeleton import (
    DatasetKey,
    PrerequisiteDatasetKey,
    QuantumGraphSkeleton,
    QuantumKey,
)

from zeropoint.butler.execution.lost_inputs import lacks_inputs, minima_of
from zeropoint.butler.execution.worker import data_id_text

__all__ = ["GraphBuilder"]


class GraphBuilder(AllDimensionsQuantumGraphBuilder):
    """The usual builder, which counts what it skips and leaves out, and does not skip what gets new inputs.

    Parameters
    ----------
    own_runs
        Runs of the output chain, the newest first.
    given_up
        Run whose failed quanta are not tried once more; empty: all that failed is tried.
    *args, **kwargs
        As for the usual one.

    Attributes
    ----------
    n_skipped
        Number of quanta that were done before.
    n_deferred
        Number of those that were done without what failed before and is tried again.
    left_out
        Label -> data ids of the quanta that lack inputs.

    Notes
    -----
    What was done is done again if any of its inputs is to be made, or lies in a newer run of the output chain than
    itself: a tract that has got another visit. The middleware's own builder skips it. What only a quantum that failed
    before could give it does not count: most such quanta fail again, and the rest is known after the run, when
    their outputs lie in a newer run.
    """

    def __init__(self, *args: Any, own_runs: tuple[str, ...], given_up: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._age = {run: i for i, run in enumerate(own_runs)}
        self._given_up = given_up
        self._runs: dict[QuantumKey, bool] = {}
        self._logged: dict[str, dict[tuple[Any, ...], str]] = {}
        self.n_skipped = 0
        self.n_deferred = 0
        self.left_out: dict[str, list[str]] = {}

    def _compute_skip_decision(
        self, task_node: Any, quantum_key: QuantumKey, skeleton: QuantumGraphSkeleton
    ) -> bool:
        # called in the order of the tasks: what is skipped of those before is no longer in the skeleton
        if not super()._compute_skip_decision(task_node, quantum_key, skeleton):
            return False
        has_news = self._failed_in(quantum_key, skeleton) or self._has_new_inputs(quantum_key, skeleton)
        if has_news and self._has_enough(quantum_key, skeleton):
            return False
        self.n_deferred += any(
            not isinstance(key, PrerequisiteDatasetKey)
            and isinstance(skeleton.get_producer_of(key), QuantumKey)
            for key in skeleton.iter_inputs_of(quantum_key)
        )
        return True

    def _has_new_inputs(self, quantum_key: QuantumKey, skeleton: QuantumGraphSkeleton) -> bool:
        """Say whether the graph makes any input of a quantum, or has made it since the quantum was done."""
        age = self._age.get(self._done_in(quantum_key, skeleton), -1)
        for key in skeleton.iter_inputs_of(quantum_key):
            if isinstance(key, PrerequisiteDatasetKey):
                continue
            if self._makes(key, skeleton):
                return True
            ref = skeleton.get_dataset_ref(key)
            if ref is not None and self._age.get(ref.run, age) < age:
                return True
        return False

    def _done_in(self, quantum_key: QuantumKey, skeleton: QuantumGraphSkeleton) -> str:
        """Return the run in which a quantum was done last, empty if it never was."""
        name = self._pipeline_graph.tasks[quantum_key.task_label].metadata_output.parent_dataset_type_name
        ref = skeleton.get_output_for_skip(DatasetKey(name, quantum_key.data_id_values))
        return "" if ref is None else ref.run

    def _failed_in(self, quantum_key: QuantumKey, skeleton: QuantumGraphSkeleton) -> str:
        """Return the run in which a quantum failed when it was last tried, empty if it did not fail."""
        label = quantum_key.task_label
        if label not in self._logged:
            self._logged[label] = self._find_logs(self._pipeline_graph.tasks[label])
        logged = self._logged[label].get(quantum_key.data_id_values, "")
        # every quantum that ran has a log, those that did not fail have metadata in the same run
        return "" if logged == self._done_in(quantum_key, skeleton) else logged

    def _find_logs(self, task_node: TaskNode) -> dict[tuple[Any, ...], str]:
        """Return the run of the last log of each quantum of a task."""
        runs = [name for name in self.skip_existing_in if name in self._age]
        if task_node.log_output is None or not runs:
            return {}
        name = task_node.log_output.parent_dataset_type_name
        try:
            refs = self.butler.query_datasets(name, runs, find_first=True, explain=False, limit=None)
        except MissingDatasetTypeError:
            return {}
        return {tuple(ref.dataId.required_values): ref.run for ref in refs}

    def _makes(
        self, dataset_key: DatasetKey | PrerequisiteDatasetKey, skeleton: QuantumGraphSkeleton
    ) -> bool:
        """Say whether the graph makes a dataset, by a quantum that did not fail and has the inputs that it needs."""
        if isinstance(dataset_key, PrerequisiteDatasetKey):
            return False
        maker = skeleton.get_producer_of(dataset_key)
        if not isinstance(maker, QuantumKey):
            return False
        if maker not in self._runs:
            self._runs[maker] = self._will_run(maker, skeleton)
        return self._runs[maker]

    def _will_run(self, maker: QuantumKey, skeleton: QuantumGraphSkeleton) -> bool:
        if self._failed_in(maker, skeleton) and not self._has_new_inputs(maker, skeleton):
            return False
        return self._has_enough(maker, skeleton)

    def _has_enough(self, quantum_key: QuantumKey, skeleton: QuantumGraphSkeleton) -> bool:
        """Say whether a quantum has the inputs that it needs, or gets them from this graph."""
        # what the graph makes has a reference too, to what is not there yet
        n_found = Counter(
            key.parent_dataset_type_name
            for key in skeleton.iter_inputs_of(quantum_key)
            if (
                self._makes(key, skeleton)
                if isinstance(skeleton.get_producer_of(key), QuantumKey)
                else skeleton.get_dataset_ref(key) is not None
            )
        )
        task_node = self._pipeline_graph.tasks[quantum_key.task_label]
        minima = minima_of(task_node)
        types = {name: edge.parent_dataset_type_name for name, edge in task_node.inputs.items()}
        return not lacks_inputs(minima, {name: n_found[types[name]] for name in minima})

    def _resolve_task_quanta(
        self, task_node: Any, skeleton: QuantumGraphSkeleton, *args: Any, **kwargs: Any
    ) -> Any:
        if self._given_up:
            for key in list(skeleton.get_quanta(task_node.label)):
                failed_in = self._failed_in(key, skeleton)
                if failed_in == self._given_up and not self._has_new_inputs(key, skeleton):
                    skeleton.remove_quantum_node(key, remove_outputs=True)
        return super()._resolve_task_quanta(task_node, skeleton, *args, **kwargs)

    def _apply_skip_decision(self, *args: Any, **kwargs: Any) -> None:
        self.n_skipped += 1
        super()._apply_skip_decision(*args, **kwargs)

    def _adjust_task_quanta(self, task_node: Any, skeleton: QuantumGraphSkeleton, *args: Any) -> None:
        planned = {key: skeleton.get_data_id(key) for key in skeleton.get_quanta(task_node.label)}
        super()._adjust_task_quanta(task_node, skeleton, *args)
        kept = skeleton.get_quanta(task_node.label) if skeleton.has_task(task_node.label) else ()
        if lost := [data_id_text(data_id) for key, data_id in planned.items() if key not in kept]:
            self.left_out[task_node.label] = sorted(lost)

    def notes(self) -> list[str]:
        """Return a sentence for each task whose quanta are left out."""
        return [
            f"{label}: {len(lost)} left out: inputs are not there, nor made by this run: {'; '.join(lost[:3])}"
            + (f"; and {len(lost) - 3} more" if len(lost) > 3 else "")
            for label, lost in self.left_out.items()
        ]
