"""The fit of a cycle: repeated, with exposures, stars and flats measured anew, until the exposures stay."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from zeropoint.errors import CalibrationFailure, NoFitStarsError, NoPhotometricExposuresError
from zeropoint.fgcm.cycle_state import InstrumentState
from zeropoint.fgcm.fit import FitResult, FitSettings, fit
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.flags import ExposureFlag
from zeropoint.fgcm.progress import OnProgress
from zeropoint.recipes.fgcm_cycle.consensus import Consensus, night_consensus
from zeropoint.recipes.fgcm_cycle.fit_settings import layout_of, settings_of
from zeropoint.recipes.fgcm_cycle.instrument import (
    ErrorCoefficients,
    first_photometry,
    measure_superstar,
    sub_ccd_filters,
    with_colors_and_errors,
    with_shapes,
)
from zeropoint.recipes.fgcm_cycle.joint_gray import has_joint_gray, seeks_photometric, with_joint_gray
from zeropoint.recipes.fgcm_cycle.photometric import choose_exposures, choose_stars, new_cuts
from zeropoint.recipes.fgcm_cycle.residuals import Photometry, Slopes
from zeropoint.recipes.fgcm_cycle.selection import (
    drop_nights,
    drop_stars,
    good_observations,
    require,
    weights,
)
from zeropoint.recipes.fgcm_cycle.sky_evidence import SkyEvidence
from zeropoint.recipes.fgcm_cycle.solution import Cuts, Solution, evaluate, references_of
from zeropoint.recipes.fgcm_cycle.survey import FloatArray, Survey

__all__ = ["Work", "begins_roughly", "fit_cycle", "posterior_at"]

_log = logging.getLogger(__name__)

#: Most fits of a cycle, between which exposures are chosen anew: of a part of the stars, and of all.
_MAX_ROUGH, _MAX_FITS = 10, 3
#: A part of the stars with about as many observations tells which exposures are photometric.
_ROUGH_OBSERVATIONS = 120_000
#: Steps of such a fit, and its last step in errors: the next fit goes on from it.
_ROUGH_STEPS, _ROUGH_TOLERANCE = 6, 0.3
#: Most steps between two decisions on the priors of a joint gray.
_JOINT_STEPS = 20
#: Last step of the one before all stars are fitted.
_LAST_TOLERANCE = 0.05


#: Where such a fit leaves more scatter than clear sky does, exposures this many sigma too faint are left out of the next.
_ROUGH_N_SIGMA = 1.5


#: After as many of these fits, the exposures of each night are looked at by themselves.
_CONSENSUS_FITS = 2
#: A change of as small a part of the exposures is no reason for one more of these fits.
_FEW = 0.005
#: Fits with any gray, between which superstar flats are measured anew.
_GRAY_FITS = 3
#: By how much more than was thought the gray of clear exposures scatters for another fit.
_WIDER = 1.3
#: Width of the prior of the gray of exposures while it is looked at whether any is photometric, mag: as good as none.
_ANY_GRAY = 0.3


@dataclass(frozen=True)
class Work:
    """Photometry, and a model of it.

    Parameters
    ----------
    photometry
        Magnitudes and errors.
    instrument, errors
        Corrections and error model that they contain.
    solution
        Model.
    sky
        Whether any exposure is photometric, as far as that was looked at.
    gray_sigma
        Width of the prior of the gray of exposures that was part of the last fit, mag; None: none was.
    absorption
        Width of the prior of errors of absorption in the last fit, mag; None: there was none, or it was seeking clouds.
    """

    photometry: Photometry
    instrument: InstrumentState
    errors: ErrorCoefficients
    solution: Solution
    sky: SkyEvidence | None = None
    gray_sigma: float | None = None
    absorption: float | None = None


def fit_cycle(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    start: Work,
    cycle: int,
    on_progress: OnProgress | None = None,
) -> tuple[Work, FgcmFitCycleConfigBase]:
    """Fit, choose exposures by what the fit leaves, and fit again until they stay.

    Parameters
    ----------
    survey, config
        Data and settings.
    start
        Photometry, and the model to begin with.
    cycle
        Number of the cycle.
    on_progress
        Told the steps of the fits.

    Returns
    -------
    work
        Where it ended.
    config
        The settings; with a joint gray if no exposure was found to be photometric.

    Raises
    ------
    NoPhotometricExposuresError, NoFitStarsError
        If nothing is left to fit.

    Notes
    -----
    With a frozen atmosphere there is one fit: what it leaves is the atmosphere rather than clouds.  Else a part of the stars
    is fitted first, again and again, until it is known which exposures are photometric: that costs little, and the fit of
    all stars then begins near its end.  A fit that goes on from one with a joint gray needs none of that.
    """
    n_fits = 1 if config.freezeStdAtmosphere or not survey.passbands.fitted else _MAX_FITS
    if begins_roughly(survey, config, start.solution):
        start, config = _first_fits(survey, config, start, cycle, on_progress)
    settings, start = _with_own_gray(survey, config, start)
    if config.freezeStdAtmosphere and survey.passbands.fitted:
        # the next cycle goes on from it
        settings = replace(settings, step_tolerance=_ROUGH_TOLERANCE, preliminary=True)
    if settings.joint_gray:
        # the priors' widths are decided anew again and again
        settings = replace(settings, max_iterations=min(settings.max_iterations, _JOINT_STEPS))
    work = _fit_until_settled(survey, config, start, cycle, n_fits, settings, on_progress)
    if settings.joint_gray and not config.jointGray:
        # the means of the stars are free of gray now, and tell better by how much exposures scatter
        again, start = _with_own_gray(survey, config, work)
        if again.gray_sigma > _WIDER * settings.gray_sigma:
            settings = replace(settings, gray_sigma=again.gray_sigma)
            work = _fit_until_settled(survey, config, start, cycle, n_fits, settings, on_progress)
    return replace(work, gray_sigma=settings.gray_sigma if settings.joint_gray else None), config


def _with_own_gray(survey: Survey, config: FgcmFitCycleConfigBase, work: Work) -> tuple[FitSettings, Work]:
    """Return how the fit goes on, and from where: without the gray of exposures that have none in it."""
    settings, solution = settings_of(survey, config, work.solution), work.solution
    gray = solution.parameters.exposure_gray
    free = solution.selection.photometric & settings.joint_gray
    if not gray[~free].any():
        return settings, work
    parameters = solution.parameters.replace(exposure_gray=np.where(free, gray, 0.0))
    return settings, _prepared(survey, config, work, replace(solution, parameters=parameters))


def begins_roughly(survey: Survey, config: FgcmFitCycleConfigBase, start: Solution) -> bool:
    """Tell whether fits of a part of the stars come first, which then see to the photometry of all.

    Parameters
    ----------
    survey, config, start
        Data, settings, and the model to begin with. With a frozen atmosphere there are no clouds to be told from it.
    """
    fits_atmosphere = survey.passbands.fitted and not config.freezeStdAtmosphere
    return bool(fits_atmosphere and not start.parameters.exposure_gray.any())


def _first_fits(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    start: Work,
    cycle: int,
    on_progress: OnProgress | None,
) -> tuple[Work, FgcmFitCycleConfigBase]:
    """Return where the fit of all stars begins, and its settings: with a joint gray where no exposure is photometric."""
    classic: FgcmFitCycleConfigBase = config.copy()
    classic.jointGray = False
    classic.autoJointGray = seeks_photometric(survey, config)
    failure: CalibrationFailure | None = None
    work = start
    try:
        work = _roughly(survey, classic, start, cycle, on_progress)
    except (NoFitStarsError, NoPhotometricExposuresError) as error:
        if not classic.autoJointGray:
            raise
        failure = error
    if failure is not None or (classic.autoJointGray and _is_doubtful(work)):
        found = _grayly(survey, with_joint_gray(config, _ANY_GRAY), start, cycle, on_progress)
        if _is_doubtful(found):
            assert found.sky is not None
            _log.info(
                "Cycle %d: %d of %d exposures agree with others of their nights, but that they all scatter by %.0f mmag is likelier: "
                "none is taken for photometric, and the gray of each is fitted with the atmosphere.",
                cycle, found.sky.n_clear, found.sky.n, 1e3 * found.sky.sigma,
            )  # fmt: skip
            return found, with_joint_gray(config, found.sky.sigma)
        if failure is not None:
            raise failure
    return (_with_gray(survey, config, work) if has_joint_gray(survey, config) else work), config


def _is_doubtful(work: Work) -> bool:
    """Tell whether it was looked at, and found unlikely, that any exposure is photometric."""
    return work.sky is not None and not work.sky.has_photometric


def _part(
    survey: Survey, config: FgcmFitCycleConfigBase, start: Work
) -> tuple[Survey, FgcmFitCycleConfigBase, Work]:
    """Return a part of the stars, the settings for it, and where it begins."""
    every = max(len(survey.data.observations) // _ROUGH_OBSERVATIONS, 1)
    some = survey.of_star(np.arange(survey.n_star) % every == 0)
    observations = survey.data.observations.select(some)
    part = replace(survey, data=replace(survey.data, observations=observations))
    limits: FgcmFitCycleConfigBase = config.copy()
    for name in ("minStarPerExp", "minStarPerCcd"):
        setattr(limits, name, -(-getattr(config, name) // every))
    # clouds are sought: not every part of the model may bend to them
    limits.waterResidualSigma = 0.0
    selection = replace(start.solution.selection, observation=start.solution.selection.observation[some])
    work = _prepared(
        part, limits, start, replace(start.solution, selection=drop_stars(part, selection, limits))
    )
    return part, limits, work


def _whole(survey: Survey, config: FgcmFitCycleConfigBase, start: Work, work: Work) -> Work:
    """Return where the fits of a part of the stars have ended, for all of them."""
    found = work.solution
    whole = drop_stars(survey, replace(start.solution.selection, exposure=found.selection.exposure), config)
    begun = replace(
        start.solution, parameters=found.parameters, sed=found.sed, cuts=found.cuts, selection=whole
    )
    work = _prepared(survey, config, work, begun, found.residuals.exposure.gray)
    return _with_flats(survey, config, work)


def _grayly(
    survey: Survey, config: FgcmFitCycleConfigBase, start: Work, cycle: int, on_progress: OnProgress | None
) -> Work:
    """Return where a fit of a part of the stars with all exposures and any gray ends, and whether any is photometric there.

    The means of the stars owe nothing to a choice of exposures.
    """
    part, limits, work = _part(survey, config, start)
    settings = replace(
        settings_of(survey, config),
        max_iterations=_JOINT_STEPS,
        step_tolerance=_LAST_TOLERANCE,
        preliminary=True,
    )
    work = _with_gray(part, limits, work)
    for _ in range(_GRAY_FITS):
        work = _with_flats(part, limits, work, renew=True)
        work = _fit_until_settled(part, limits, work, cycle, 1, settings, on_progress)
    sky = night_consensus(part, limits, work.solution).evidence
    return replace(_whole(survey, config, start, work), sky=sky)


def _roughly(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    start: Work,
    cycle: int,
    on_progress: OnProgress | None,
) -> Work:
    """Return where fits of a part of the stars end, for all of them, and whether any exposure looked photometric."""
    part, limits, work = _part(survey, config, start)
    settings = replace(
        settings_of(survey, config),
        max_iterations=min(_ROUGH_STEPS, config.maxIterBeforeFinalCycle),
        step_tolerance=_ROUGH_TOLERANCE,
        preliminary=True,
        seeks_clouds=True,
    )
    work = _fit_until_settled(part, limits, work, cycle, _MAX_ROUGH, settings, on_progress, rough=True)
    if config.autoJointGray and (work.sky is None or _is_doubtful(work)):
        # clouds may still have been among what was fitted
        work = replace(work, sky=night_consensus(part, limits, work.solution).evidence)
    # thin clouds are looked for where the nights do not yet bend to them
    found, cuts = work.solution, work.solution.cuts
    chosen = choose_exposures(part, limits, found, cuts, also_preliminary=True)
    n_left = int(np.count_nonzero(found.selection.photometric & ~chosen.photometric))
    _log.info("Cycle %d: %d exposures more are left out, without which their nights agree.", cycle, n_left)
    work = replace(work, solution=replace(found, selection=chosen))
    # now that clouds are out, to where the fit of all stars begins near its end
    settings = replace(
        settings, seeks_clouds=False, max_iterations=3 * _ROUGH_STEPS, step_tolerance=_LAST_TOLERANCE
    )
    work = _fit_until_settled(part, limits, work, cycle, _MAX_FITS, settings, on_progress, rough=True)
    return _whole(survey, config, start, work)


def _with_gray(survey: Survey, config: FgcmFitCycleConfigBase, work: Work) -> Work:
    """Return the work with all exposures, and their gray among the parameters."""
    solution = work.solution
    gray = np.nan_to_num(solution.residuals.exposure.gray)
    return _prepared(
        survey,
        config,
        work,
        replace(
            solution,
            parameters=solution.parameters.replace(exposure_gray=gray),
            selection=choose_exposures(survey, config, solution, solution.cuts),
        ),
    )


def _with_flats(survey: Survey, config: FgcmFitCycleConfigBase, work: Work, *, renew: bool = False) -> Work:
    """Return the work with superstar flats measured anew, where they vary within detectors."""
    solution, photometry, instrument = work.solution, work.photometry, work.instrument
    parameters = solution.parameters
    if sub_ccd_filters(survey, config).any():
        measured = measure_superstar(survey, config, photometry, instrument, solution)
        parameters, instrument = measured.parameters, measured.instrument
        photometry = with_shapes(survey, photometry, instrument)
    elif not renew:
        return work
    found = evaluate(
        survey,
        photometry,
        config,
        parameters,
        solution.selection,
        solution.slopes,
        solution.cuts,
        solution.sed,
    )
    return replace(work, photometry=photometry, instrument=instrument, solution=found)


def _prepared(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    work: Work,
    solution: Solution,
    gray: FloatArray | None = None,
) -> Work:
    """Return the photometry with the corrections of some work, and a solution's model of it.

    The gray of exposures, where it is known about, saves measuring it for the model of errors.
    """
    parameters = solution.parameters
    photometry = first_photometry(survey, config, work.instrument, parameters)

    def at(given: Photometry, slopes: Slopes, *, keep: bool) -> Solution:
        return evaluate(
            survey, given, config, parameters, solution.selection, slopes, solution.cuts, solution.sed, keep_slopes=keep
        )  # fmt: skip

    found = at(photometry, solution.slopes, keep=False)
    complete = with_colors_and_errors(survey, config, photometry, work.instrument, work.errors, found, gray)
    if complete is not photometry:
        found = at(complete, found.slopes, keep=True)
    return replace(work, photometry=complete, solution=found)


def _fit_until_settled(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    work: Work,
    cycle: int,
    n_fits: int,
    settings: FitSettings,
    on_progress: OnProgress | None,
    *,
    rough: bool = False,
) -> Work:
    """Fit until the photometric exposures stay, or so many times; a rough fit is to find clouds."""
    n_agreed = _CONSENSUS_FITS if rough and settings.seeks_clouds else 0
    for n in range(1, n_fits + 1):
        solution = replace(work.solution, selection=choose_stars(survey, config, work.solution))
        require(survey, solution.selection, cycle)
        going_on = replace(settings, absorption_start=work.absorption)
        result = _fit(survey, work.photometry, config, solution, going_on, on_progress)
        solution = evaluate(
            survey, work.photometry, config, result.parameters, solution.selection, solution.slopes, solution.cuts,
            result.sed,
        )  # fmt: skip
        width = (
            result.absorption_prior if len(result.absorption_exposures) and not result.seeks_clouds else None
        )
        work = replace(work, solution=replace(solution, fit=result, n_fits=n), absorption=width)
        if n == n_fits or result.n_free == 0:
            break
        found = new_cuts(
            survey, config, solution, solution.cuts, n_sigma_low=_ROUGH_N_SIGMA if rough else None
        )
        # clouds only dim: what is brighter than the model shows that the model has taken clouds for clear sky
        cuts = Cuts(found.low, solution.cuts.high if rough else found.high)
        chosen = choose_exposures(survey, config, work.solution, cuts)
        n_changed = int(np.count_nonzero(chosen.photometric != solution.selection.photometric))
        _log.info(
            "Cycle %d, fit %d of %d observations: chi2/dof %.4f; %d of %d exposures photometric, %d of them changed.",
            cycle, n, len(survey.data.observations), result.chi2 / max(result.dof, 1), int(chosen.photometric.sum()),
            survey.n_exp, n_changed,
        )  # fmt: skip
        if n_changed == 0 and (rough or config.jointGray or result.converged):
            break
        solution = replace(work.solution, selection=chosen, cuts=cuts)
        if rough and n > n_agreed and n_changed <= _FEW * survey.n_exp:
            # the fits that follow see to these
            return replace(work, solution=solution)
        if n <= n_agreed:
            solution, consensus = _agreed(survey, config, solution)
            if config.autoJointGray and n == _CONSENSUS_FITS:
                work = replace(work, sky=consensus.evidence)
        work = _with_flats(survey, config, replace(work, solution=solution), renew=rough)
    return work


def _agreed(survey: Survey, config: FgcmFitCycleConfigBase, solution: Solution) -> tuple[Solution, Consensus]:
    """Return a solution in which each night has the atmosphere that most of its exposures agree on, and what these are."""
    found = night_consensus(survey, config, solution)
    e = survey.data.exposures
    sky = ExposureFlag.EXP_GRAY_TOO_NEGATIVE | ExposureFlag.EXP_GRAY_TOO_POSITIVE
    flags = solution.selection.exposure & ~np.int32(sky)
    hopeless = solution.residuals.exposure.gray < config.expGrayInitialCut
    flags = flags | np.where(
        found.cloudy | hopeless, np.int32(ExposureFlag.EXP_GRAY_TOO_NEGATIVE), np.int32(0)
    )
    selection = drop_nights(survey, replace(solution.selection, exposure=flags), config)
    if not all((selection.photometric & (e.band == b)).any() for b in np.flatnonzero(survey.fit_band)):
        return solution, found
    selection = drop_stars(survey, selection, config)
    return replace(solution, selection=selection, parameters=found.parameters), found


def posterior_at(survey: Survey, config: FgcmFitCycleConfigBase, start: Work, cycle: int) -> Work:
    """Return a model whose parameters stay, with outliers flagged anew and errors: what a final cycle does.

    Parameters
    ----------
    survey, config
        Data and settings.
    start
        Photometry and model.
    cycle
        Number of the cycle.

    Raises
    ------
    NoPhotometricExposuresError, NoFitStarsError
        If nothing is left.
    """
    current = replace(start.solution, selection=choose_stars(survey, config, start.solution))
    require(survey, current.selection, cycle)
    settings = replace(settings_of(survey, config, start.solution), max_iterations=0)
    result = _fit(survey, start.photometry, config, current, settings)
    done = evaluate(
        survey, start.photometry, config, current.parameters, current.selection, current.slopes, current.cuts,
        current.sed, tables=None if current.parameters.exposure_gray.any() else current.tables,
    )  # fmt: skip
    sigma = settings.gray_sigma if settings.joint_gray else None
    return replace(start, solution=replace(done, fit=result), gray_sigma=sigma)


def _fit(
    survey: Survey,
    photometry: Photometry,
    config: FgcmFitCycleConfigBase,
    current: Solution,
    settings: FitSettings,
    on_progress: OnProgress | None = None,
) -> FitResult:
    """Fit the observations that a selection leaves."""
    references = references_of(survey, config, current.selection)
    good = good_observations(survey, current.selection)
    return fit(
        survey.model,
        photometry.observations,
        weights(survey, photometry.inverse_variance, good),
        current.slopes.raw.ravel(),
        references,
        current.parameters,
        layout_of(survey, config, current.selection, current.parameters, references is not None, settings),
        settings,
        on_progress,
        sed=current.sed,
    )
