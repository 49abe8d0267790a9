"""Files beside the repository by which an interrupted run is recognised and taken up again.

Each run keeps its graph as ``graphs/<RUN>.qg`` in the repository and, while it lasts, a lock file
``graphs/<RUN>.running`` that the main process and its workers hold locked. A lock file that nobody holds was
left by a run that was killed: what its workers finished is on disk, and the graph says where.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from lsst.daf.butler import Butler

__all__ = ["Journal", "hold_lock", "interrupted_runs"]


def hold_lock(path: str) -> int:
    """Lock a run's lock file for as long as this process lives; return the descriptor."""
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
    As a context manager: locked while entered, lock file removed at the end, also after an exception (then the
    caller has registered what was finished). Only a killed process leaves it behind.
    """

    def __init__(self, butler: Butler, run: str) -> None:
        folder = _folder(butler)
        self.run = run
        self.graph = folder / f"{run}.qg"
        self.lock = folder / f"{run}.running"
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        self.lock.parent.mkdir(parents=True, exist_ok=True)
        self.lock.touch()
        self._descriptor = hold_lock(str(self.lock))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(finished=True)

    def close(self, *, finished: bool) -> None:
        """Let go of the lock, and remove it if nothing is left to be taken up."""
        if finished:
            self.lock.unlink(missing_ok=True)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def take_over(self) -> bool:
        """Lock an interrupted run for its recovery; False if the run ended well or is still alive."""
        try:
            descriptor = os.open(self.lock, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True


def interrupted_runs(butler: Butler) -> list[str]:
    """Return the runs that were killed and not yet taken up."""
    folder, found = _folder(butler), []
    for path in sorted(folder.rglob("*.running")):
        journal = Journal(butler, str(path.relative_to(folder).with_suffix("")))
        if journal.take_over():
            journal.close(finished=False)
            found.append(journal.run)
    return found


def _folder(butler: Butler) -> Path:
    """Return the folder of all journals: in the repository, else (remote files) in the working directory."""
    for root in butler.get_datastore_roots().values():
        if root is not None and root.isLocal:
            return Path(root.ospath) / "graphs"
    return Path.cwd() / "graphs"
