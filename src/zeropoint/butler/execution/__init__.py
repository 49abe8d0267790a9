"""Run a pipeline on one machine with persistent workers: graph, pool, registration of outputs, report.

`zeropoint.butler.execution.runner.run_pipeline` does what ``pipetask run`` does, with the same outputs; workers
live for many quanta, so a quantum costs no start-up of Python.  Workers write files only; the registry is written
by one thread of the main process, in batches, so SQLite repositories are safe and an interruption loses nothing
that was finished.

Nothing is imported here, since every worker process imports this package.
"""
