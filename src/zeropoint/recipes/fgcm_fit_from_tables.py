"""The global fit of a star list in files: settings from the data, cycles that survive a crash, tables and products."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.table import Table

from zeropoint import __version__
from zeropoint.datamodel.arrow import arrow_to_table, table_to_arrow
from zeropoint.datamodel.atomic_files import atomic_path
from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.cycle_checkpoints import CycleCheckpoints, SavedCycle
from zeropoint.fgcm.cycle_result import CycleResult
from zeropoint.fgcm.cycle_state import CycleState
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.fit_defaults import SurveyFacts, derive_settings
from zeropoint.fgcm.model.star_tables import StarColumns
from zeropoint.fgcm.outputs.fit_parameters import state_from_tables, state_to_tables
from zeropoint.fgcm.passband_choice import ChosenPassbands
from zeropoint.fgcm.progress import OnProgress
from zeropoint.fgcm.star_list_camera import star_list_camera
from zeropoint.fgcm.visit_geometry import stored_focal_plane
from zeropoint.recipes.fgcm_cycle import CycleInputs, FgcmCycle

__all__ = ["FgcmFitFromTables", "FitProgress", "StarListFiles"]

_log = logging.getLogger(__name__)

#: Files of a star list of each form: visits, observations, star ids, indices, references.
_FORMS = (
    ("fgcmStarObservations", "fgcmStarIds", "fgcmStarIndices", "fgcmReferenceStars"),
    ("fgcm_star_observations", "fgcm_star_ids", None, "fgcm_reference_stars"),
)
#: What is said of rotations that count in another way than the star list has them.
_TURNED = {
    -1.0: "telrot = -telrot: the stars' places show that it is measured from North through West",
    0.0: "telrot = 0: the stars' places show that the camera does not turn with it",
}
#: What the recipe calls its cycles where it tells how far it is.
_CYCLES = "calibration cycles"
_SUFFIXES = (".parquet", ".parq")


@dataclass(frozen=True)
class StarListFiles:
    """Files of a star list.

    Parameters
    ----------
    visits, observations, star_ids
        Tables that every list has.
    star_indices
        Of a list made from source tables; None: of isolated stars.
    reference_stars
        None: there are none.
    """

    visits: Path
    observations: Path
    star_ids: Path
    star_indices: Path | None
    reference_stars: Path | None

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Return the star list of a folder.

        Parameters
        ----------
        folder
            Folder with the tables under the names of their datasets, as ``fgcm stars`` writes them.

        Raises
        ------
        InvalidInputError
            If there is no folder, or not all of a star list in it.
        """
        if not folder.is_dir():
            raise InvalidInputError(
                f"{folder}: there is no such folder; `zeropoint fgcm stars` makes a star list."
            )
        visits = _file(folder, "fgcmVisitCatalog")
        for observations, ids, indices, references in _FORMS:
            first = _file(folder, observations)
            if first is None:
                continue
            needed = {"fgcmVisitCatalog": visits, observations: first, ids: _file(folder, ids)}
            if indices is not None:
                needed[indices] = _file(folder, indices)
            missing = [name for name, path in needed.items() if path is None]
            if missing:
                raise InvalidInputError(
                    f"{folder}: holds {first.name}, but not {', '.join(f'{name}.parquet' for name in missing)}; make the star "
                    "list again."
                )
            of_index = None if indices is None else needed[indices]
            return cls(visits, first, needed[ids], of_index, _file(folder, references))  # type: ignore[arg-type]
        raise InvalidInputError(
            f"{folder}: holds no star list (fgcmStarObservations.parquet, or fgcm_star_observations.parquet); "
            "`zeropoint fgcm stars` makes one."
        )

    def read_visits(self) -> Table:
        """Return ``fgcmVisitCatalog`` with its metadata."""
        try:
            return arrow_to_table(pq.read_table(self.visits))
        except (OSError, pa.ArrowException) as error:
            raise InvalidInputError(
                f"{self.visits}: cannot be read ({error}); make the star list again."
            ) from None

    def identity(self) -> dict[str, Any]:
        """Return what tells whether the files are still the same."""
        paths = [path for path in vars(self).values() if path is not None]
        return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in paths}


def _file(folder: Path, name: str) -> Path | None:
    """Return the file of a table, or None."""
    return next((path for suffix in _SUFFIXES if (path := folder / f"{name}{suffix}").is_file()), None)


@dataclass
class FitProgress:
    """What a fit has come to so far; it grows cycle by cycle, and what was done before a failure stays.

    Parameters
    ----------
    visits
        ``fgcmVisitCatalog``.
    notes
        A sentence on each setting that was taken from the data.
    focal_plane
        The camera; None: unknown.
    history
        Metrics of the cycles.
    written
        Files of the cycles.
    resumed_after
        Last cycle that an earlier run had done; None: none.
    steps
        Cycle -> steps of its last fit.
    last
        Result of the last cycle that this run did.
    seconds
        (name, CPU seconds, wall seconds) of what was done.
    """

    visits: Table
    notes: list[str]
    focal_plane: FocalPlane | None
    history: list[Mapping[str, Any]] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)
    resumed_after: int | None = None
    steps: dict[int, tuple[Mapping[str, float], ...]] = field(default_factory=dict)
    last: CycleResult | None = None
    seconds: list[tuple[str, float, float]] = field(default_factory=list)


class FgcmFitFromTables:
    """Fit a star list in files.

    Parameters
    ----------
    config
        Settings; what nobody has set is taken from the data.
    passbands
        Of the camera.
    """

    def __init__(self, config: FgcmFitCycleConfigBase, passbands: ChosenPassbands) -> None:
        self.config = config
        self.passbands = passbands

    def prepare(self, stars: StarListFiles) -> FitProgress:
        """Complete the configuration from the star list, in place, and find the camera.

        Parameters
        ----------
        stars
            Star list.

        Raises
        ------
        InvalidInputError
            If a file cannot be used.
        lsst.pex.config.FieldValidationError
            If the configuration contradicts itself.
        """
        source = self.passbands.source
        visits = stars.read_visits()
        observations = StarColumns(stars.observations, stars.observations.name)
        self.config.useParquetCatalogFormat = stars.star_indices is None
        facts = SurveyFacts(
            visits,
            observations.column("visit"),
            observations.column("detector"),
            stars.reference_stars is not None,
        )
        notes = derive_settings(self.config, facts, source)
        self.config.validate()
        plane = stored_focal_plane(visits)
        if plane is None and (camera := star_list_camera(visits, observations, source.detectors)) is not None:
            plane = camera.focal_plane
            if camera.turn != 1.0:
                visits["telrot"] = camera.turn * np.asarray(visits["telrot"], float)
                notes.append(_TURNED[camera.turn])
        return FitProgress(visits, notes, plane)

    def run(
        self,
        stars: StarListFiles,
        progress: FitProgress,
        out: Path,
        *,
        resume: bool = True,
        threads: int | None = None,
        on_progress: OnProgress | None = None,
        on_cycle: Callable[[int, Mapping[str, Any]], None] | None = None,
        on_resume: Callable[[int], None] | None = None,
    ) -> None:
        """Run the cycles; the tables of each are written as soon as it is done.

        Parameters
        ----------
        stars
            Star list.
        progress
            As `prepare` returned it; it is filled in place.
        out
            Folder of the tables.
        resume
            Go on after the last cycle that a run with the same inputs and settings had done there.
        threads
            Of the sweeps over the observations; no bit depends on it.
        on_progress, on_cycle
            Told how far a stage is; the number and the metrics of a cycle that is done.
        on_resume
            Told the cycle of an earlier run after which this one goes on.

        Raises
        ------
        InvalidInputError
            If a table cannot be used.
        CalibrationFailure
            If the data cannot be calibrated.
        """
        checkpoints = self._checkpoints(stars, out)
        if not resume:
            checkpoints.remove()
        previous = self._previous(checkpoints, progress, out)
        if on_resume is not None and progress.resumed_after is not None:
            on_resume(progress.resumed_after)
        started = [time.process_time(), time.monotonic()]

        shown = _Filled(on_progress)

        def done(result: CycleResult) -> None:
            shown.fill()
            now = [time.process_time(), time.monotonic()]
            progress.seconds.append((f"cycle {result.cycle}", now[0] - started[0], now[1] - started[1]))
            started[:] = now
            tables = _tables(result)
            progress.last = result
            progress.steps[result.cycle] = result.history
            progress.history.append(result.metrics)
            progress.written += _write(out, result.cycle, tables)
            if result.cycle < self.config.multipleCyclesFinalCycleNumber:
                checkpoints.save(SavedCycle(result.cycle, tables, {"metrics": dict(result.metrics)}))
            if on_cycle is not None:
                on_cycle(result.cycle, result.metrics)

        inputs = CycleInputs(
            progress.visits,
            stars.observations,
            stars.star_ids,
            stars.star_indices,
            stars.reference_stars if self.config.doReferenceCalibration else None,
            focal_plane=progress.focal_plane,
        )
        FgcmCycle(self.config).run(
            inputs,
            self.passbands.source,
            previous=previous,
            threads=threads,
            facts=True,
            on_progress=shown,
            on_cycle=done,
        )

    def forget(self, stars: StarListFiles, out: Path) -> None:
        """Remove what a killed run would go on from, when all is written; that of other settings too.

        Parameters
        ----------
        stars, out
            As of `run`.
        """
        shutil.rmtree(self._checkpoints(stars, out).directory.parent, ignore_errors=True)

    def _checkpoints(self, stars: StarListFiles, out: Path) -> CycleCheckpoints:
        """Return where the cycles of this run are kept, in a folder of the output whose name tells the inputs."""
        described = {
            "version": __version__,
            "stars": stars.identity(),
            "passbands": _described(self.passbands),
            "config": self.config.toDict(),
        }
        return CycleCheckpoints.of(described, out / "checkpoints")

    def _previous(self, checkpoints: CycleCheckpoints, progress: FitProgress, out: Path) -> CycleState | None:
        """Return the state from which the fit goes on, and note what was done before."""
        saved = checkpoints.load()
        for each in saved:
            progress.history.append(each.facts["metrics"])
            progress.written += _write(out, each.cycle, each.tables)
        if not saved:
            return None
        progress.resumed_after = saved[-1].cycle
        _log.info("Goes on after cycle %d, which an earlier run had done.", saved[-1].cycle)
        return state_from_tables(saved[-1].tables["FitParameters"], saved[-1].tables["FlaggedStars"])


class _Filled:
    """Pass on how far stages are; those of a cycle that is done are told as whole, as fits end before their last step."""

    def __init__(self, report: OnProgress | None) -> None:
        self._report = report
        self._totals: dict[str, int] = {}

    def __call__(self, title: str, done: int, total: int) -> None:
        if self._report is not None:
            if title != _CYCLES:
                self._totals[title] = total
            self._report(title, done, total)

    def fill(self) -> None:
        """Tell the stages so far as whole."""
        for title, total in self._totals.items():
            assert self._report is not None
            self._report(title, total, total)
        self._totals.clear()


def _described(passbands: ChosenPassbands) -> dict[str, Any]:
    """Return what tells whether the passbands are still the same."""
    source = passbands.source
    return {
        "description": passbands.description,
        "filters": source.physical_filters,
        "detectors": source.detectors,
        "standard": vars(source.standard),
        "ranges": dict(source.ranges),
        "integrals": [
            getattr(source, name).tolist() for name in ("lambda_std", "i0_std", "i1_std", "i2_std")
        ],
    }


def _tables(result: CycleResult) -> dict[str, Table]:
    """Return the tables of a cycle by the ends of their datasets' names."""
    parameters, flagged = state_to_tables(result.state)
    tables = {
        "FitParameters": parameters,
        "FlaggedStars": flagged,
        "Zeropoints": result.zeropoints,
        "AtmosphereParameters": result.atmosphere,
        "StandardStars": result.standard_stars,
    }
    return {name: table for name, table in tables.items() if table is not None}


def _write(out: Path, cycle: int, tables: Mapping[str, Table]) -> list[Path]:
    """Write the tables of a cycle; return their files."""
    written = []
    for name, table in tables.items():
        path = out / f"fgcm_Cycle{cycle}_{name}.parquet"
        with atomic_path(path) as temporary:
            pq.write_table(table_to_arrow(table), temporary)
        written.append(path)
    return written
