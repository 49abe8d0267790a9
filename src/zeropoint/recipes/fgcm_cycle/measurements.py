"""What a cycle measures of the residuals of its model: what does not depend on each other is measured at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zeropoint.fgcm.cycle_state import InstrumentState
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.model.parameters import FitParameters
from zeropoint.fgcm.terms.gray import ColorSplitGray
from zeropoint.fgcm.terms.reference_scatter import ExposureOffsets
from zeropoint.fgcm.terms.retrieval import PwvRetrieval, RetrievedIntegrals
from zeropoint.fgcm.threads import at_once
from zeropoint.recipes.fgcm_cycle.fitting import Work
from zeropoint.recipes.fgcm_cycle.instrument import ErrorCoefficients, measure_errors, measure_instrument
from zeropoint.recipes.fgcm_cycle.residuals import gray_by_color
from zeropoint.recipes.fgcm_cycle.scatter import (
    Apertures,
    Scatter,
    background_offsets,
    look_at_apertures,
    measure_scatter,
    reference_offsets,
    retrieve,
)
from zeropoint.recipes.fgcm_cycle.solution import Solution
from zeropoint.recipes.fgcm_cycle.survey import FloatArray, SingleArray, Survey
from zeropoint.recipes.fgcm_cycle.wash_check import wash_slopes

__all__ = ["Measurements", "measure"]


@dataclass(frozen=True)
class Measurements:
    """What a cycle measures besides gray.

    Parameters
    ----------
    scatter
        How magnitudes repeat.
    split
        Gray by color.
    apertures
        What the difference of two apertures tells.
    retrieved, pwv
        Integrals of passbands and water vapor that stars tell; None: not wanted.
    ref_offset
        Shifts of magnitudes to references.
    background
        Shifts of magnitudes by the background, mag, shape (n_exp,) or with detectors.
    wash
        From `wash_slopes`; None: not wanted.
    errors, instrument, parameters
        What the next cycle begins with; of a final cycle, what it used itself.
    """

    scatter: Scatter
    split: ColorSplitGray
    apertures: Apertures
    retrieved: RetrievedIntegrals | None
    pwv: PwvRetrieval | None
    ref_offset: ExposureOffsets
    background: FloatArray
    wash: Mapping[str, Mapping[str, float | None]] | None
    errors: ErrorCoefficients
    instrument: InstrumentState
    parameters: FitParameters


def measure(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    cycle: int,
    work: Work,
    solution: Solution,
    applied: SingleArray,
) -> Measurements:
    """Return what the residuals of a cycle tell.

    Parameters
    ----------
    survey, config
        Data and settings.
    cycle
        Number of the cycle.
    work, solution
        Photometry and corrections, and the model of it.
    applied
        Gray of each observation as its zeropoint has it.
    """
    photometry = work.photometry
    # all of them look at these
    _ = solution.residuals.exposure, solution.residuals.noisy, survey.band, survey.exposure

    def next_instrument() -> tuple[InstrumentState, FitParameters]:
        if config.isFinalCycle:
            return work.instrument, solution.parameters
        found = measure_instrument(survey, config, photometry, work.instrument, solution, cycle)
        return found.instrument, found.parameters

    def next_errors() -> ErrorCoefficients:
        return work.errors if config.isFinalCycle else measure_errors(survey, config, solution)

    def apertures() -> Apertures:
        wanted = config.writes_zeropoints or config.writes_standard_stars or _looks(config)
        return look_at_apertures(survey, config, photometry, solution) if wanted else Apertures.none(survey)

    def retrieved() -> tuple[RetrievedIntegrals | None, PwvRetrieval | None]:
        if config.writes_zeropoints or config.useRetrievedPwv:
            return retrieve(survey, config, photometry, solution)
        return None, None

    def wash() -> Mapping[str, Mapping[str, float | None]] | None:
        return wash_slopes(survey, config, photometry, solution) if config.writes_zeropoints else None

    instrument, integrals, scatter, errors, looked, split, slopes, ref_offset, background = at_once(
        survey.threads,
        next_instrument,
        retrieved,
        lambda: measure_scatter(survey, config, photometry, solution, applied),
        next_errors,
        apertures,
        lambda: gray_by_color(survey, config, solution.residuals, solution.means),
        wash,
        lambda: reference_offsets(survey, config, solution, applied),
        lambda: background_offsets(survey, config, solution),
    )
    return Measurements(
        scatter=scatter,
        split=split,
        apertures=looked,
        retrieved=integrals[0],
        pwv=integrals[1],
        ref_offset=ref_offset,
        background=background,
        wash=slopes,
        errors=errors,
        instrument=instrument[0],
        parameters=instrument[1],
    )


def _looks(config: FgcmFitCycleConfigBase) -> bool:
    """Tell whether a background diagnosis of every cycle is asked for."""
    return bool(
        config.doComputeDeltaAperPerVisit or config.doComputeDeltaAperMap or config.doComputeDeltaAperPerCcd
    )
