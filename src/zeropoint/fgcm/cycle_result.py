"""What a cycle gives: its state for the next one, tables, and the figures behind plots and reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zeropoint.fgcm.accounting import Accounting
from zeropoint.fgcm.cycle_state import CycleState
from zeropoint.fgcm.terms.gray import ColorSplitGray, DetectorGray, ExposureGray

if TYPE_CHECKING:
    from zeropoint.fgcm.facts.cycle_facts import CycleFacts
    from zeropoint.fgcm.fit import FitResult
    from zeropoint.fgcm.model.observations import FitData
    from zeropoint.fgcm.model.parameters import FitParameters

__all__ = ["CycleResult", "ObservationFacts", "StarFacts"]

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StarFacts:
    """Standard magnitudes of the stars, shape (n_star, n_band), NaN where there are none.

    Parameters
    ----------
    magnitude, magnitude_err
        Weighted mean of the good observations of photometric exposures, gray not applied, and its error.
    final_magnitude, final_magnitude_err
        The same from all exposures with their gray applied: what the table of standard stars has. None before the final
        cycle.
    slope
        F' of the spectrum, 1/Angstrom; where the star's colors do not say, the band's median.
    n_good, n_total
        Observations used in ``magnitude``, and all, int32.
    """

    magnitude: SingleArray
    magnitude_err: SingleArray
    final_magnitude: SingleArray | None
    final_magnitude_err: SingleArray | None
    slope: FloatArray
    n_good: npt.NDArray[np.int32]
    n_total: npt.NDArray[np.int32]


@dataclass(frozen=True)
class ObservationFacts:
    """Observation by observation, in the order of ``data.observations``; kept for the last cycle of a run.

    Parameters
    ----------
    standard_magnitude
        With all corrections but gray.
    residual
        EGray: mean of the star minus the observation, mag; NaN where the star has no mean.
    error
        Of the magnitude as the fit took it (error model and floor included), mag.
    gray
        Gray of its exposure and detector as applied to the zeropoint, mag; NaN where there is no zeropoint.
    good
        Good observations of photometric exposures of stars in the fit.
    reserve
        The same of reserve stars.
    """

    standard_magnitude: SingleArray
    residual: SingleArray
    error: SingleArray
    gray: SingleArray
    good: npt.NDArray[np.bool_]
    reserve: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class CycleResult:
    """Result of one cycle.

    Parameters
    ----------
    cycle
        Number.
    is_final
        Whether it made zeropoints of a finished calibration.
    state
        For the next cycle, and for the tables FitParameters and FlaggedStars.
    fit
        What the fit did, posterior included; None where a cycle makes no fit and needs no errors.
    detector_gray, exposure_gray, color_gray
        Gray of detectors, of exposures, and of exposures by the color of stars; as measured, before any cut.
    stars
        Their magnitudes.
    observations
        One by one; None but for the last cycle of a run.
    data
        What went in; None but for the last cycle of a run.
    zeropoints, atmosphere, standard_stars
        ``fgcm_Cycle{N}_Zeropoints``, ``_AtmosphereParameters``, ``_StandardStars``; None where they were not asked for.
    facts
        What plots and the report are made of; None where they were not asked for.
    config_changes
        Fields of the configuration that the next cycle has otherwise.
    metrics
        Plain numbers, by band where they have one; ``docs/fgcm_cycle.md`` names each.
    history
        Of the fit: one entry for each iteration, with chi2, step and damping.
    accounting
        What was read, kept and rejected.
    """

    cycle: int
    is_final: bool
    state: CycleState
    fit: FitResult | None
    detector_gray: DetectorGray
    exposure_gray: ExposureGray
    color_gray: ColorSplitGray | None
    stars: StarFacts
    observations: ObservationFacts | None
    data: FitData | None
    zeropoints: Table | None
    atmosphere: Table | None
    standard_stars: Table | None
    facts: CycleFacts | None
    config_changes: Mapping[str, Any]
    metrics: Mapping[str, Any]
    history: tuple[Mapping[str, float], ...]
    accounting: Accounting

    @property
    def parameters(self) -> FitParameters:
        """Parameters of the model after the cycle."""
        return self.state.parameters
