"""Run a pipeline on one machine with persistent workers: graph, pool, registration of outputs, report.

`run_pipeline` does what ``pipetask run`` does, with the same outputs; workers live for many quanta, so a
quantum costs no start-up of Python.  Workers write files only; the registry is written by one thread of the
main process, in batches, so SQLite repositories are safe and an interruption loses nothing that was finished.
"""

from zeropoint.butler.execution.graph import ConfigOverride, RunRequest
from zeropoint.butler.execution.report import RunReport
from zeropoint.butler.execution.runner import run_pipeline

__all__ = ["ConfigOverride", "RunReport", "RunRequest", "run_pipeline"]
