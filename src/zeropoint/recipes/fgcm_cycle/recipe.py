"""Cycles of fit, residuals and selection of exposures, in their order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from astropy.table import Table
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.errors import CalibrationFailure, InvalidInputError
from zeropoint.fgcm.cycle_result import CycleResult
from zeropoint.fgcm.cycle_state import CycleState
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.memory import kept_memory
from zeropoint.fgcm.model.load import StarListTable, load_fit_data
from zeropoint.fgcm.model.model import PhotometricModel, ab_zeropoint
from zeropoint.fgcm.model.observations import FitData
from zeropoint.fgcm.model.passband_source import PassbandSource
from zeropoint.fgcm.model.settings import FitDataSettings
from zeropoint.fgcm.progress import OnProgress
from zeropoint.fgcm.visit_geometry import stored_focal_plane
from zeropoint.recipes.fgcm_cycle.cycle import Wanted, run_cycle
from zeropoint.recipes.fgcm_cycle.slope_terms import with_possible_slopes
from zeropoint.recipes.fgcm_cycle.survey import Survey

__all__ = ["CycleInputs", "FgcmCycle"]

_log = logging.getLogger(__name__)

#: Loggers of what `quietMode` silences.
_LOGGERS = ("zeropoint.recipes.fgcm_cycle", "zeropoint.fgcm.fit", "zeropoint.fgcm.model")
#: cm^2 in a square meter.
_SQUARE_CM = 1e4

type OnCycle = Callable[[CycleResult], None]


@dataclass(frozen=True)
class CycleInputs:
    """A star list, in either form: with indices (``fgcmStar*``) or of isolated stars (``fgcm_star_*``).

    Parameters
    ----------
    visits
        ``fgcmVisitCatalog``.
    observations, star_ids, star_indices, reference_stars
        ``fgcmStarObservations``, ``fgcmStarIds``, ``fgcmStarIndices``, ``fgcmReferenceStars``; or, without indices,
        ``fgcm_star_observations``, ``fgcm_star_ids``, ``fgcm_reference_stars``.
    focal_plane
        The camera; None: as ``fgcmVisitCatalog`` has it, if it does. Without it, zeropoints are for the mean airmass of a
        detector's stars.
    """

    visits: Table
    observations: StarListTable
    star_ids: StarListTable
    star_indices: StarListTable | None = None
    reference_stars: StarListTable | None = None
    focal_plane: FocalPlane | None = None


class FgcmCycle:
    """Run cycles of the global calibration.

    Parameters
    ----------
    config
        Settings.

    Notes
    -----
    With ``doMultipleCycles`` the cycles from ``cycleNumber`` (or the one after ``previous``) to
    ``multipleCyclesFinalCycleNumber`` are run; without it, the one ``cycleNumber``.
    """

    ConfigClass: ClassVar[Any] = FgcmFitCycleConfigBase

    def __init__(self, config: FgcmFitCycleConfigBase) -> None:
        self.config = config

    def run(
        self,
        inputs: CycleInputs | FitData,
        source: PassbandSource,
        *,
        previous: CycleState | None = None,
        threads: int | None = None,
        facts: bool = False,
        on_progress: OnProgress | None = None,
        on_cycle: OnCycle | None = None,
    ) -> tuple[CycleResult, ...]:
        """Run the cycles.

        Parameters
        ----------
        inputs
            The star list, or what was read from one before.
        source
            Integrals of the passbands, of all filters and detectors.
        previous
            State after the cycle before the first; None: the first is cycle 0. A run that was killed goes on from the state
            of its last whole cycle.
        threads
            Of the sweeps over the observations; None: what numba is set to. No bit depends on it.
        facts
            Whether results hold what plots and the report are made of, in the cycles that make plots.
        on_progress
            Told how far a stage is.
        on_cycle
            Given each cycle's result when it is done: what has to survive a crash is written there.

        Returns
        -------
        results
            Of the cycles run, in order. Only the last has observations one by one, and its fit.

        Raises
        ------
        InvalidInputError
            If the star list is not of these passbands, or a state not of this star list.
        CalibrationFailure
            If the data cannot be calibrated: no photometric exposures in a band, no stars left; ``record`` has the results
            of the cycles before.
        lsst.pex.config.FieldValidationError
            If the configuration contradicts itself.
        """
        with threadpool_limits(limits=1, user_api="blas"), kept_memory():
            # matrices are small, so that more threads would only wait for each other; nor may bits depend on them
            return self._run(inputs, source, previous, threads or 1, facts, on_progress, on_cycle)

    def _run(
        self,
        inputs: CycleInputs | FitData,
        source: PassbandSource,
        previous: CycleState | None,
        threads: int,
        facts: bool,
        on_progress: OnProgress | None,
        on_cycle: OnCycle | None,
    ) -> tuple[CycleResult, ...]:
        """Run the cycles."""
        config = self._checked()
        with _quiet(config.quietMode):
            return self._cycles(config, inputs, source, previous, threads, facts, on_progress, on_cycle)

    def _cycles(
        self,
        config: FgcmFitCycleConfigBase,
        inputs: CycleInputs | FitData,
        source: PassbandSource,
        previous: CycleState | None,
        threads: int,
        facts: bool,
        on_progress: OnProgress | None,
        on_cycle: OnCycle | None,
    ) -> tuple[CycleResult, ...]:
        """Run the cycles of a configuration that is whole."""
        survey = self._survey(inputs, source, threads)
        first = config.cycleNumber if previous is None else previous.cycle + 1
        last = config.multipleCyclesFinalCycleNumber if config.doMultipleCycles else first
        if previous is not None:
            _check_state(survey, previous)
        results: list[CycleResult] = []
        state = previous
        for cycle in range(first, last + 1):
            config = with_possible_slopes(self._of_cycle(cycle, state), survey, warn=cycle == first)
            if on_progress is not None:
                on_progress("calibration cycles", cycle - first, last - first + 1)
            wanted = Wanted(observations=cycle == last, facts=facts and self.config.makes_plots(cycle))
            try:
                result = run_cycle(survey, config, cycle, state, wanted, on_progress)
            except CalibrationFailure as failure:
                failure.record = tuple(results)
                raise
            if on_cycle is not None:
                on_cycle(result)
            state = result.state
            # errors hold on to the observations of their cycle
            results.append(result if cycle == last else replace(result, fit=None))
        return tuple(results)

    def _checked(self) -> FgcmFitCycleConfigBase:
        """Return the configuration, once it is known to be whole."""
        self.config.validate()
        for sentence in self.config.retired_fields():
            _log.warning("%s", sentence)
        return self.config

    def _survey(self, inputs: CycleInputs | FitData, source: PassbandSource, threads: int) -> Survey:
        """Return the data of all cycles."""
        config = self.config
        focal_plane = None
        if isinstance(inputs, FitData):
            data = inputs
        else:
            data = load_fit_data(
                inputs.visits,
                inputs.observations,
                inputs.star_ids,
                inputs.star_indices,
                inputs.reference_stars if config.doReferenceCalibration else None,
                source,
                FitDataSettings.from_config(config),
                threads=threads,
            )
            focal_plane = inputs.focal_plane or stored_focal_plane(inputs.visits)
        area, gain = config.mirrorArea or 1.0, config.cameraGain or 1.0
        model = PhotometricModel(
            data.exposures, source, zp_ab=ab_zeropoint(area * _SQUARE_CM, gain), threads=threads
        )
        fit_band = np.array([band in config.fitBands for band in data.exposures.bands])
        return Survey(data, source, model, fit_band, float(config.latitude), focal_plane, threads)

    def _of_cycle(self, cycle: int, previous: CycleState | None) -> FgcmFitCycleConfigBase:
        """Return the configuration of a cycle: with several, what the cycle before suggests."""
        if not self.config.doMultipleCycles:
            return self.config
        if previous is None:
            config: FgcmFitCycleConfigBase = self.config.copy()
        else:
            cuts = (previous.band.gray_cut, previous.band.gray_high_cut)
            config = self.config.of_next_cycle(
                *(dict(zip(previous.bands, values.tolist(), strict=True)) for values in cuts)
            )
        config.cycleNumber = cycle
        config.isFinalCycle = cycle == self.config.multipleCyclesFinalCycleNumber
        return config


@contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    """Log warnings and errors only, if that is wanted."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    try:
        for name in _LOGGERS if quiet else ():
            logging.getLogger(name).setLevel(logging.WARNING)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _check_state(survey: Survey, previous: CycleState) -> None:
    """Raise where a state is not of the star list."""
    e = survey.data.exposures
    for name, before, now in (
        ("bands", previous.bands, e.bands),
        ("physical filters", previous.physical_filters, e.physical_filters),
        ("detectors", previous.detectors, e.detectors),
        ("nights", tuple(previous.night_numbers.tolist()), tuple(e.night_numbers.tolist())),
        ("visits", tuple(previous.exposures.visit.tolist()), tuple(e.visit.tolist())),
        ("wash intervals", tuple(previous.wash_mjds.tolist()), tuple(e.wash_mjds.tolist())),
        ("epochs", tuple(previous.epoch_mjds.tolist()), tuple(e.epoch_mjds.tolist())),
        ("coatings", tuple(previous.coating_mjds.tolist()), tuple(e.coating_mjds.tolist())),
    ):
        if before != now:
            raise InvalidInputError(
                f"FitParameters of cycle {previous.cycle} has {len(before)} {name}, the star list {len(now)}, or others; give the "
                "parameters of a cycle of this star list with these settings, or begin with cycle 0."
            )
