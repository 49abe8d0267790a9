"""What a cycle measures of the residuals of its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zeropoint.fgcm.cycle_state import InstrumentState
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.model.parameters import FitParameters
from zeropoint.fgcm.terms.gray import ColorSplitGray
from zeropoint.fgcm.terms.reference_scatter import ExposureOffsets
from zeropoint.fgcm.terms.retrieval import PwvRetrieval, RetrievedIntegrals
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
    instrument, parameters, errors = work.instrument, solution.parameters, work.errors
    if not config.isFinalCycle:
        found = measure_instrument(survey, config, photometry, instrument, solution, cycle)
        instrument, parameters = found.instrument, found.parameters
        errors = measure_errors(survey, config, solution)
    retrieved, pwv = None, None
    if config.writes_zeropoints or config.useRetrievedPwv:
        retrieved, pwv = retrieve(survey, config, photometry, solution)
    apertures = Apertures.none(survey)
    if config.writes_zeropoints or config.writes_standard_stars or _looks(config):
        apertures = look_at_apertures(survey, config, photometry, solution)
    return Measurements(
        scatter=measure_scatter(survey, config, photometry, solution, applied),
        split=gray_by_color(survey, config, solution.residuals, solution.means),
        apertures=apertures,
        retrieved=retrieved,
        pwv=pwv,
        ref_offset=reference_offsets(survey, config, solution, applied),
        background=background_offsets(survey, config, solution),
        wash=wash_slopes(survey, config, photometry, solution) if config.writes_zeropoints else None,
        errors=errors,
        instrument=instrument,
        parameters=parameters,
    )


def _looks(config: FgcmFitCycleConfigBase) -> bool:
    """Tell whether a background diagnosis of every cycle is asked for."""
    return bool(
        config.doComputeDeltaAperPerVisit or config.doComputeDeltaAperMap or config.doComputeDeltaAperPerCcd
    )
