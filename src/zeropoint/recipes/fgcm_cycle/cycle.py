"""One cycle: begin, fit, look at what is left, measure corrections, and in the end make tables."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zeropoint.fgcm.accounting import Accounting
from zeropoint.fgcm.cycle_result import CycleResult, ObservationFacts, StarFacts
from zeropoint.fgcm.cycle_state import CycleState, InstrumentState
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.flags import ExposureFlag, ObservationFlag, StarFlag
from zeropoint.fgcm.progress import OnProgress
from zeropoint.fgcm.terms.selection import cuts_from_scatter
from zeropoint.recipes.fgcm_cycle.cautions import (
    atmosphere_at_ends,
    nights_without_fit,
    warn_of,
    warn_of_few_stars,
    with_scatter,
)
from zeropoint.recipes.fgcm_cycle.facts import facts_of
from zeropoint.recipes.fgcm_cycle.final_tables import FinalTables, final_tables
from zeropoint.recipes.fgcm_cycle.fitting import Work, begins_roughly, fit_cycle, posterior_at
from zeropoint.recipes.fgcm_cycle.instrument import (
    ErrorCoefficients,
    first_instrument,
    first_photometry,
    measure_errors,
    with_colors_and_errors,
)
from zeropoint.recipes.fgcm_cycle.joint_gray import continued_joint_gray, joint_gray_numbers
from zeropoint.recipes.fgcm_cycle.measurements import measure
from zeropoint.recipes.fgcm_cycle.metrics import cycle_metrics, measured_chi2
from zeropoint.recipes.fgcm_cycle.other_bands import with_other_bands
from zeropoint.recipes.fgcm_cycle.photometric import exposure_flags_of, new_cuts
from zeropoint.recipes.fgcm_cycle.products import (
    FinalStars,
    applied_gray,
    chosen_gray,
    shaped_gray,
)
from zeropoint.recipes.fgcm_cycle.reference_colors import with_color_terms, with_reference_colors
from zeropoint.recipes.fgcm_cycle.residuals import Photometry
from zeropoint.recipes.fgcm_cycle.scatter import (
    Scatter,
    compare_references,
)
from zeropoint.recipes.fgcm_cycle.selection import flag_words, good_observations
from zeropoint.recipes.fgcm_cycle.solution import Cuts, Solution, evaluate
from zeropoint.recipes.fgcm_cycle.start import continue_from, first_look
from zeropoint.recipes.fgcm_cycle.state import state_after
from zeropoint.recipes.fgcm_cycle.survey import SingleArray, Survey

__all__ = ["Wanted", "run_cycle"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a cycle beside its state.

    Parameters
    ----------
    observations
        Whether the result holds data and observations.
    facts
        Whether it holds what plots are made of.
    """

    observations: bool = False
    facts: bool = False


def run_cycle(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    cycle: int,
    previous: CycleState | None,
    wanted: Wanted,
    on_progress: OnProgress | None = None,
) -> CycleResult:
    """Run a cycle.

    Parameters
    ----------
    survey
        Data.
    config
        Settings of this cycle.
    cycle
        Its number.
    previous
        State after the cycle before; None: this is the first.
    wanted
        What the result is to hold.
    on_progress
        Told the steps of the fit.

    Raises
    ------
    CalibrationFailure
        If there is nothing to fit.
    """
    instrument = first_instrument(survey, config) if previous is None else previous.instrument
    work = _begin(survey, config, cycle, previous, instrument)
    given = config
    config = continued_joint_gray(survey, given, work.solution)
    survey, terms = with_reference_colors(survey, config, work.solution)
    if config.isFinalCycle:
        work = posterior_at(survey, config, work, cycle)
    else:
        work, config = fit_cycle(survey, config, work, cycle, _of_cycle(on_progress, cycle))
    work = with_other_bands(survey, config, work)
    result = _finish(
        survey, config, cycle, work, previous, wanted, joint_gray_numbers(given, config, work.gray_sigma)
    )
    return result if terms is None else replace(result, metrics=with_color_terms(result.metrics, terms))


def _of_cycle(on_progress: OnProgress | None, cycle: int) -> OnProgress | None:
    """Return how to tell progress so that the title has the number of the cycle."""
    if on_progress is None:
        return None
    return lambda title, done, total: on_progress(f"cycle {cycle}, {title}", done, total)


def _begin(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    cycle: int,
    previous: CycleState | None,
    instrument: InstrumentState,
) -> Work:
    """Return the photometry of a cycle and the model it begins with."""
    if previous is None:
        photometry = first_photometry(survey, config, instrument, None)
        start = first_look(survey, photometry, config, cycle)
        errors, gray = measure_errors(survey, config, start), None
    else:
        photometry = first_photometry(survey, config, instrument, previous.parameters)
        start = continue_from(survey, photometry, config, previous, cycle)
        errors, gray = ErrorCoefficients.of(previous), previous.exposures.gray
    if begins_roughly(survey, config, start) and not config.isFinalCycle:
        return Work(photometry, instrument, errors, start.without_residuals())
    complete = with_colors_and_errors(survey, config, photometry, instrument, errors, start, gray)
    if complete is not photometry:
        start = evaluate(
            survey, complete, config, start.parameters, start.selection, start.slopes, start.cuts, start.sed,
            keep_slopes=True, tables=None if start.parameters.exposure_gray.any() else start.tables,
        )  # fmt: skip
    return Work(complete, instrument, errors, start)


def _finish(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    cycle: int,
    work: Work,
    previous: CycleState | None,
    wanted: Wanted,
    joint_gray: Mapping[str, Any],
) -> CycleResult:
    """Return the result of a cycle from its solution, with some metrics."""
    photometry = work.photometry
    references, solution = compare_references(survey, config, work.solution)
    if config.jointGray:
        # what was fitted under clouds is not photometric for it
        flags = exposure_flags_of(survey, config, solution, solution.cuts)
        solution = replace(solution, selection=replace(solution.selection, exposure=flags))
    chi2 = measured_chi2(survey, solution)
    solution = with_scatter(solution, float(chi2[0].sum() / max(chi2[1].sum(), 1.0)))
    gray = shaped_gray(survey, config, photometry, solution)
    chosen, zpt_flags = chosen_gray(survey, config, solution, gray)
    applied = applied_gray(survey, chosen, gray)
    measured = measure(survey, config, cycle, work, solution, applied)
    cuts = _next_cuts(survey, config, solution, measured.scatter)
    made = FinalTables(None, None, None, None, None)
    if config.writes_zeropoints or config.writes_standard_stars:
        made = final_tables(survey, config, work, solution, gray, chosen, zpt_flags, measured)
    state = state_after(survey, config, cycle, solution, measured, references, cuts, previous)
    metrics = {"cycle": cycle, "is_final": bool(config.isFinalCycle)} | cycle_metrics(
        survey, solution, measured.scatter, cuts, references, chi2, made.found
    )
    ends = atmosphere_at_ends(survey, solution)
    metrics |= {
        **joint_gray,
        "nights_without_fit": nights_without_fit(survey, solution),
        "atmosphere_at_ends": ends,
        "at_bounds": [*metrics["at_bounds"], *(f"{name} of {n} exposures" for name, n in ends.items())],
    }
    if cycle == 0:
        warn_of_few_stars(survey, solution, config.minStarPerExp)
    for band, numbers in (measured.wash or {}).items():
        metrics["bands"][band] |= numbers
    accounting = _accounting(survey, solution)
    for table in (made.zeropoints, made.atmosphere, made.standard_stars):
        if table is not None:
            table.meta |= {"CYCLE": cycle, "ACCOUNTING": accounting.to_meta()}
    observations = _observation_facts(survey, photometry, solution, applied)
    facts = facts_of(survey, config, solution, observations, made.stars) if wanted.facts else None
    _log_cycle(cycle, metrics)
    warn_of(cycle, metrics, config)
    return CycleResult(
        cycle=cycle,
        is_final=bool(config.isFinalCycle),
        state=state,
        fit=solution.fit,
        detector_gray=gray,
        exposure_gray=solution.residuals.exposure,
        color_gray=measured.split,
        stars=_star_facts(survey, solution, made.stars),
        observations=observations if wanted.observations else None,
        data=survey.data if wanted.observations else None,
        zeropoints=made.zeropoints,
        atmosphere=made.atmosphere,
        standard_stars=made.standard_stars,
        facts=facts,
        config_changes=_config_changes(survey, config, cuts),
        metrics=metrics,
        history=_history(solution),
        accounting=accounting,
    )


def _next_cuts(survey: Survey, config: FgcmFitCycleConfigBase, solution: Solution, scatter: Scatter) -> Cuts:
    """Return the cuts of exposures for the next cycle."""
    found = new_cuts(survey, config, solution, solution.cuts)
    low, high = cuts_from_scatter(
        scatter.reserve.sigma_total[:, 0], solution.cuts.low, solution.cuts.high,
        n_sigma=(config.autoPhotometricCutNSig, config.autoHighCutNSig), step=config.autoPhotometricCutStep,
    )  # fmt: skip
    bands = survey.data.exposures.bands
    from_stars = np.array([config.useRepeatabilityForExpGrayCutsDict[band] for band in bands])
    return Cuts(np.where(from_stars, low, found.low), np.where(from_stars, high, found.high))


def _observation_facts(
    survey: Survey, photometry: Photometry, solution: Solution, applied: SingleArray
) -> ObservationFacts:
    return ObservationFacts(
        standard_magnitude=solution.residuals.standard,
        residual=solution.residuals.gray.gray,
        error=photometry.error,
        gray=applied,
        good=good_observations(survey, solution.selection),
        reserve=good_observations(survey, solution.selection, stars=solution.selection.reserve_star),
    )


def _star_facts(survey: Survey, solution: Solution, final: FinalStars | None) -> StarFacts:
    means = solution.means
    return StarFacts(
        magnitude=means.magnitude.astype(np.float32),
        magnitude_err=means.err.astype(np.float32),
        final_magnitude=None if final is None else final.magnitude.astype(np.float32),
        final_magnitude_err=None if final is None else final.err.astype(np.float32),
        slope=solution.slopes.value,
        n_good=survey.per_segment(means.member),
        n_total=survey.data.observations.count,
    )


def _config_changes(survey: Survey, config: FgcmFitCycleConfigBase, cuts: Cuts) -> Mapping[str, Any]:
    """Return the fields that the next cycle has otherwise."""
    bands = survey.data.exposures.bands
    following = config.of_next_cycle(
        dict(zip(bands, cuts.low.tolist(), strict=True)), dict(zip(bands, cuts.high.tolist(), strict=True))
    )
    plain = {
        name: getattr(following, name)
        for name in ("cycleNumber", "freezeStdAtmosphere", "precomputeSuperStarInitialCycle")
    }
    dicts = {
        name: dict(getattr(following, name)) for name in ("expGrayPhotometricCutDict", "expGrayHighCutDict")
    }
    return plain | dicts


def _history(solution: Solution) -> tuple[Mapping[str, float], ...]:
    """Return the steps of the last fit."""
    if solution.fit is None:
        return ()
    return tuple(
        {"chi2": 2.0 * step.value, "largest": step.largest, "accepted": float(step.accepted)}
        for step in solution.fit.steps
    )


def _accounting(survey: Survey, solution: Solution) -> Accounting:
    """Return what became of exposures, stars and observations: each is counted under the first of its flags."""
    accounting = Accounting()
    accounting.merge(survey.data.accounting)
    selection = solution.selection
    for stage, flags, names in (
        ("exposures_of_fit", selection.exposure, ExposureFlag),
        ("stars_of_fit", selection.star, StarFlag),
        ("flags_of_observations", selection.observation, ObservationFlag),
    ):
        words, numbers = flag_words(flags)
        rejected, left = {}, words != 0
        for bit in names:
            has = left & ((words & bit.value) != 0)
            if has.any():
                rejected[str(bit.name).lower()] = int(numbers[has].sum())
                left &= ~has
        n, kept = int(numbers.sum()), int(numbers[words == 0].sum())
        # a star that is only a bad reference is in the fit
        accounting.add(stage, read=n, kept=kept, rejected=rejected)
    return accounting


def _log_cycle(cycle: int, metrics: Mapping[str, Any]) -> None:
    """Say what a cycle came to."""
    bands = ", ".join(
        f"{name} {1e3 * numbers['repeatability_before']:.1f}/{1e3 * numbers['repeatability_after']:.1f}"
        for name, numbers in metrics["bands"].items()
        if numbers["repeatability_before"] is not None and numbers["repeatability_after"] is not None
    )
    _log.info(
        "Cycle %d: %d of %d exposures photometric, chi2/dof %.4f with the errors stated; repeatability (mmag, before/after gray) %s.",
        cycle, metrics["n_photometric"], metrics["n_exposures"], metrics["chi2_dof_measured"] or np.nan, bands or "unknown",
    )  # fmt: skip
