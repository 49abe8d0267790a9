"""Hooks of the middleware's executor: which inputs exist, and why a task has no work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lsst.daf.butler import DatasetRef, LimitedButler, QuantumBackedButler
from lsst.pipe.base import NoWorkFound, PipelineTask, TaskFactory
from lsst.pipe.base.pipeline_graph import TaskNode

from zeropoint.butler.execution.found_inputs import FoundInputs

__all__ = ["InputsButler", "TaskFactoryWithReasons"]


class InputsButler(QuantumBackedButler):
    """The butler of one quantum, which takes lost inputs as absent and remembers what is absent.

    Attributes
    ----------
    inputs
        Account of the quantum's inputs.
    input_types
        Dataset types of the inputs.
    """

    inputs: FoundInputs
    input_types: frozenset[str]

    def stored_many(self, refs: Iterable[DatasetRef]) -> dict[DatasetRef, bool]:
        """Say which datasets can be used."""
        stored = super().stored_many(refs)
        for name in self.input_types.intersection(ref.datasetType.name for ref in stored):
            these = {ref: there for ref, there in stored.items() if ref.datasetType.name == name}
            usable = self.inputs.look(name, {ref.id: there for ref, there in these.items()})
            stored.update({ref: usable[ref.id] for ref in these})
        return stored


class TaskFactoryWithReasons(TaskFactory):
    """Makes tasks that say why they have no work; the middleware keeps only that they have none.

    Parameters
    ----------
    note
        Called with the exception.
    """

    def __init__(self, note: Callable[[BaseException], None]) -> None:
        self._note = note

    def makeTask(
        self, task_node: TaskNode, /, butler: LimitedButler, initInputRefs: Iterable[DatasetRef] | None
    ) -> PipelineTask:
        """Make a task."""
        task = super().makeTask(task_node, butler, initInputRefs)
        run_quantum = task.runQuantum

        def noting(*args: Any, **kwargs: Any) -> None:
            try:
                run_quantum(*args, **kwargs)
            except NoWorkFound as error:
                self._note(error)
                raise

        task.runQuantum = noting  # type: ignore[method-assign]
        return task
