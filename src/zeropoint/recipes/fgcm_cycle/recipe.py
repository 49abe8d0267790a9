"""Cycles of fit, residuals and selection of exposures, in their order."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from astropy.table import Table

from zeropoint.fgcm.cycle_result import CycleResult
from zeropoint.fgcm.cycle_state import CycleState
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.model.observations import FitData
from zeropoint.fgcm.model.passband_source import PassbandSource
from zeropoint.fgcm.progress import OnProgress

__all__ = ["CycleInputs", "FgcmCycle"]

_log = logging.getLogger(__name__)

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
    """

    visits: Table
    observations: Table
    star_ids: Table
    star_indices: Table | None = None
    reference_stars: Table | None = None


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
            Whether the results hold what plots and the report are made of.
        on_progress
            Told how far a stage is.
        on_cycle
            Given each cycle's result when it is done: what has to survive a crash is written there.

        Returns
        -------
        results
            Of the cycles run, in order. Only the last has observations one by one.

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
        raise NotImplementedError
