"""What a long run has read so far, on disk: a run that was killed goes on from there.

A checkpoint is a directory of Arrow files, one for each part of the visits, under a name that tells its inputs: the
visits' tables, and every setting that has a say in what is read from them.  With other inputs the name is another one,
so that nothing old is ever used.  Each file appears whole or not at all; all of them go when the run is done.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

__all__ = ["Checkpoints", "default_directory", "fingerprint", "remove_old"]

_log = logging.getLogger(__name__)

_PREFIX = "fgcm-stars-"
_META = b"zeropoint"
#: Checkpoints that no run came back to are removed after this many days.
_MAX_AGE_DAYS = 30

#: Columns of a part, and plain values that come with it.
type Part = tuple[dict[str, np.ndarray], dict[str, Any]]


def default_directory() -> Path:
    """Return where checkpoints are where no directory is given: ``zeropoint/checkpoints`` in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "zeropoint" / "checkpoints"


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """Return a name for some inputs: equal for equal inputs only.

    Parameters
    ----------
    inputs
        Plain values.
    """
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()[:32]


class Checkpoints:
    """Parts of the observations of one run.

    Parameters
    ----------
    directory
        Directory of this run's parts; it is made when the first part is saved.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def of(cls, inputs: Mapping[str, Any], parent: Path) -> Self:
        """Return the checkpoints of a run with some inputs, and remove old ones of others.

        Parameters
        ----------
        inputs
            Plain values that tell what is read.
        parent
            Directory of the checkpoints of all runs.
        """
        remove_old(parent, _PREFIX)
        return cls(parent / (_PREFIX + fingerprint(inputs)))

    def parts(self) -> Iterator[Part]:
        """Return the parts saved, in their order, up to the first that is missing or damaged.

        The columns are views of the files.
        """
        for number in range(len(os.listdir(self.directory)) if self.directory.is_dir() else 0):
            path = self._path(number)
            try:
                yield _read(path)
            except FileNotFoundError:
                return
            except (pa.ArrowException, KeyError, ValueError, OSError) as error:
                _log.warning("The checkpoint %s cannot be read (%s); its visits are read again.", path, error)
                return

    def save(self, number: int, columns: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Part:
        """Write a part, and return it with its columns as views of the file, so that the memory of the others is free.

        Parameters
        ----------
        number
            Number of the part, from 0.
        columns
            Numbers, one-dimensional.
        meta
            Plain values that come with it.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self._path(number)
        table = pa.table({name: pa.array(values) for name, values in columns.items()})
        table = table.replace_schema_metadata({_META: json.dumps(dict(meta))})
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)  # of a full disk, give back what it took
            raise
        return _read(path)

    def remove(self) -> None:
        """Remove all parts; what was returned stays readable."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.directory / f"part-{number:05d}.arrow"


def _read(path: Path) -> Part:
    """Return a part: its columns as views of the file."""
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    meta = json.loads((table.schema.metadata or {})[_META])
    columns = {
        name: table[name].combine_chunks().to_numpy(zero_copy_only=True)
        if table[name].num_chunks == 1
        else np.zeros(0, table.schema.field(name).type.to_pandas_dtype())
        for name in table.column_names
    }
    return columns, meta


def remove_old(parent: Path, prefix: str) -> None:
    """Remove checkpoints that no run came back to.

    Parameters
    ----------
    parent
        Directory of the checkpoints of all runs.
    prefix
        How names of directories of one kind of run begin.
    """
    limit = time.time() - _MAX_AGE_DAYS * 86400.0
    for directory in parent.glob(prefix + "*") if parent.is_dir() else ():
        try:
            if directory.stat().st_mtime < limit:
                shutil.rmtree(directory)
        except OSError as error:
            _log.debug("%s stays: %s.", directory, error)
