"""What the cycles of a fit have left so far, on disk: a run that was killed between cycles goes on from there.

A checkpoint is a directory with one of each cycle, under a name that tells the inputs: star list, passbands and settings.
A cycle's directory appears whole or not at all; all of them go when the run is done.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from astropy.table import Table

from zeropoint.datamodel.arrow import arrow_to_table, table_to_arrow
from zeropoint.fgcm.checkpoints import fingerprint, remove_old

__all__ = ["CycleCheckpoints", "SavedCycle"]

_log = logging.getLogger(__name__)

_PREFIX = "fgcm-fit-"
_FACTS = "facts.json"


@dataclass(frozen=True)
class SavedCycle:
    """What a cycle left.

    Parameters
    ----------
    cycle
        Its number.
    tables
        By name.
    facts
        Plain values.
    """

    cycle: int
    tables: Mapping[str, Table]
    facts: Mapping[str, Any]


class CycleCheckpoints:
    """Cycles of one run.

    Parameters
    ----------
    directory
        Directory of this run's cycles; it is made when the first is saved.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def of(cls, inputs: Mapping[str, Any], parent: Path) -> Self:
        """Return the checkpoints of a run with some inputs, and remove old ones of others.

        Parameters
        ----------
        inputs
            Plain values that tell what is fitted, and how.
        parent
            Directory of the checkpoints of all runs.
        """
        remove_old(parent, _PREFIX)
        return cls(parent / (_PREFIX + fingerprint(inputs)))

    def save(self, saved: SavedCycle) -> None:
        """Write what a cycle left.

        Parameters
        ----------
        saved
            The cycle; that of the same number is replaced.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        place = self._path(saved.cycle)
        temporary = place.with_suffix(f".{os.getpid()}.tmp")
        temporary.mkdir(parents=True)
        try:
            for name, table in saved.tables.items():
                pq.write_table(table_to_arrow(table), temporary / f"{name}.parq")
            (temporary / _FACTS).write_text(json.dumps(dict(saved.facts)))
            shutil.rmtree(place, ignore_errors=True)
            temporary.rename(place)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def load(self) -> list[SavedCycle]:
        """Return the cycles saved, from 0 up to the first that is missing or damaged."""
        found: list[SavedCycle] = []
        while (place := self._path(len(found))).is_dir():
            try:
                facts = json.loads((place / _FACTS).read_text())
                tables = {
                    path.stem: arrow_to_table(pq.read_table(path)) for path in sorted(place.glob("*.parq"))
                }
            except (OSError, ValueError, pa.ArrowException) as error:
                _log.warning("The checkpoint %s cannot be read (%s); its cycle is run again.", place, error)
                break
            found.append(SavedCycle(len(found), tables, facts))
        return found

    def remove(self) -> None:
        """Remove all cycles."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _path(self, cycle: int) -> Path:
        return self.directory / f"cycle-{cycle:02d}"
