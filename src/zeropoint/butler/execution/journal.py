"""Files beside the repository by which an interrupted run is recognised and taken up again.

Each run keeps its graph as ``graphs/<RUN>.qg`` in the repository and, while it lasts, two lock files:
``graphs/<RUN>.running``, which the main process holds, and ``graphs/<RUN>.workers``, which its workers share. A
``.running`` that nobody holds was left by a run that was killed: what its workers finished is on disk, and the graph
says where. Workers end with their main process; one that is still about to do so is waited for.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from lsst.daf.butler import Butler

from zeropoint.errors import InvalidInputError

__all__ = ["Journal", "hold_lock", "interrupted_runs"]


#: Seconds within which the workers of a killed run are expected to end.
_PATIENCE_S = 60.0


def hold_lock(path: str) -> int:
    """Share a lock file for as long as this process lives; return the descriptor."""
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


class Journal:
    """Graph and lock file of one run.

    Parameters
    ----------
    butler
        Repository.
    run
        Output run.

    Notes
    -----
    As a context manager: locked while entered, lock files removed at the end. A process that is killed leaves them
    behind, and so does an exception: the next run looks whether something was finished.
    """

    def __init__(self, butler: Butler, run: str) -> None:
        folder = _folder(butler)
        self.run = run
        self.graph = folder / f"{run}.qg"
        self.lock = folder / f"{run}.running"
        self.workers_lock = folder / f"{run}.workers"
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        self.lock.parent.mkdir(parents=True, exist_ok=True)
        self.workers_lock.touch()
        self.lock.touch()
        self._descriptor = _try_lock(self.lock)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(finished=kind is None)

    def close(self, *, finished: bool) -> None:
        """Let go of the lock, and remove it if nothing is left to be taken up."""
        if finished:
            self.lock.unlink(missing_ok=True)
            self.workers_lock.unlink(missing_ok=True)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def withdraw(self) -> None:
        """Remove all traces of a run that came to nothing: there is nothing to be taken up."""
        for path in (self.lock, self.workers_lock, self.graph):
            path.unlink(missing_ok=True)

    def leave_to_recovery(self) -> None:
        """Have the next run look for what this one has written."""
        self.workers_lock.touch()
        self.lock.touch()

    def take_over(self) -> bool:
        """Lock an interrupted run for its recovery; False if the run ended well or is still alive.

        Raises
        ------
        InvalidInputError
            If its workers do not come to their end.
        """
        if not self.lock.exists():
            return False
        self._descriptor = _try_lock(self.lock)
        if self._descriptor is None:
            return False
        deadline = time.monotonic() + _PATIENCE_S
        while self.workers_lock.exists():
            descriptor = _try_lock(self.workers_lock)
            if descriptor is not None:
                os.close(descriptor)
                break
            if time.monotonic() > deadline:
                self.close(finished=False)
                raise InvalidInputError(
                    f"{self.run} was interrupted, but some of its worker processes still run; end them first."
                )
            time.sleep(0.1)
        return True

    @property
    def is_interrupted(self) -> bool:
        """The run was killed and not yet taken up."""
        descriptor = _try_lock(self.lock) if self.lock.exists() else None
        if descriptor is None:
            return False
        os.close(descriptor)
        return True


def _try_lock(path: Path) -> int | None:
    """Lock a file for this process alone; None if another one holds it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def interrupted_runs(butler: Butler) -> list[str]:
    """Return the runs that were killed and not yet taken up."""
    folder = _folder(butler)
    runs = [str(path.relative_to(folder).with_suffix("")) for path in sorted(folder.rglob("*.running"))]
    return [run for run in runs if Journal(butler, run).is_interrupted]


def _folder(butler: Butler) -> Path:
    """Return the folder of all journals: in the repository, else (remote files) in the working directory."""
    for root in butler.get_datastore_roots().values():
        if root is not None and root.isLocal:
            return Path(root.ospath) / "graphs"
    return Path.cwd() / "graphs"
