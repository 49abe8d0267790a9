"""One quantum of a task around a recipe: how its images are read, and what becomes of a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lsst.daf.butler import DeferredDatasetHandle
from lsst.images import VisitImage
from lsst.pipe.base import (
    AlgorithmError,
    AnnotatedPartialOutputsError,
    OutputQuantizedConnection,
    PipelineTask,
    QuantumContext,
    Struct,
)

from zeropoint.errors import CalibrationFailure, InvalidInputError
from zeropoint.tasks._errors import algorithm_error
from zeropoint.tasks._tables import stored

__all__ = ["calibration_failures", "partial_outputs", "read_image"]


@contextmanager
def calibration_failures(keep: Callable[[Any], None]) -> Iterator[None]:
    """Turn a recipe's failure into the task's, and hand the record of what was established to ``keep``."""
    try:
        yield
    except CalibrationFailure as failure:
        if failure.record is not None:
            keep(failure.record)
        raise algorithm_error(failure) from failure


@contextmanager
def partial_outputs(
    task: PipelineTask, butlerQC: QuantumContext, outputRefs: OutputQuantizedConnection, result: Struct
) -> Iterator[None]:
    """Write a result, also after a failure, which then is one with partial outputs."""
    try:
        yield
    except AlgorithmError as failure:
        # only the task's metadata can hold nested values; images say the same in flat keys
        error = AnnotatedPartialOutputsError.annotate(failure, task, log=task.log)
        butlerQC.put(stored(result), outputRefs)
        raise error from failure
    butlerQC.put(stored(result), outputRefs)


def read_image(handle: DeferredDatasetHandle) -> VisitImage:
    """Read an image; one that cannot be used is an error that says so, without the Butler's words around it."""
    try:
        return handle.get()
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, InvalidInputError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause from None
