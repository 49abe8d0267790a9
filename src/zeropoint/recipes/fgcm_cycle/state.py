"""What a cycle hands on to the next."""

from __future__ import annotations

import numpy as np

from zeropoint.fgcm.cycle_state import BandState, CycleState, ExposureState, FlaggedStars
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.flags import StarFlag
from zeropoint.fgcm.terms.reference_scatter import ReferenceScatter
from zeropoint.recipes.fgcm_cycle.measurements import Measurements
from zeropoint.recipes.fgcm_cycle.other_bands import other_sigmas
from zeropoint.recipes.fgcm_cycle.photometric import choose_exposures
from zeropoint.recipes.fgcm_cycle.selection import Selection
from zeropoint.recipes.fgcm_cycle.solution import Cuts, Solution
from zeropoint.recipes.fgcm_cycle.survey import Survey

__all__ = ["state_after"]

#: Filled in where a number of an exposure is not known to a reader of the state.
_STANDARD_PWV = 4


def state_after(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    cycle: int,
    solution: Solution,
    measured: Measurements,
    references: ReferenceScatter | None,
    cuts: Cuts,
    previous: CycleState | None,
) -> CycleState:
    """Return what the next cycle needs: after a final cycle, what it used itself.

    Parameters
    ----------
    survey, config, cycle
        Data, settings, number of the cycle.
    solution, measured, references
        Model, and what was measured of its residuals and against references (None: none).
    cuts
        Of exposures, for the next cycle.
    previous
        State after the cycle before.
    """
    e, parameters = survey.data.exposures, measured.parameters
    selection = solution.selection
    if not config.isFinalCycle:
        # exposures of the next cycle; what they are now is in the flags of this one's tables
        selection = choose_exposures(survey, config, solution, cuts)
    sigmas = previous.parameter_sigmas if previous is not None else None
    if solution.fit is not None and solution.fit.posterior is not None:
        sigmas = other_sigmas(solution, solution.fit.posterior.parameter_sigmas(solution.parameters))
    persistent = selection.star & np.int32(
        StarFlag.VARIABLE | StarFlag.RESERVED | StarFlag.REFSTAR_OUTLIER | StarFlag.REFSTAR_RESERVED
    )
    flagged = np.flatnonzero(persistent)
    return CycleState(
        cycle=cycle,
        bands=e.bands,
        physical_filters=e.physical_filters,
        detectors=e.detectors,
        filter_bands=tuple(int(b) for b in e.filter_band),
        fit_bands=tuple(config.fitBands),
        night_numbers=e.night_numbers,
        wash_mjds=e.wash_mjds,
        epoch_mjds=e.epoch_mjds,
        coating_mjds=e.coating_mjds,
        parameters=parameters,
        parameter_sigmas=sigmas,
        exposures=_of_exposures(survey, solution, measured, selection),
        instrument=measured.instrument,
        band=_of_bands(survey, solution, measured, references, cuts),
        epsilon_maps=measured.apertures.maps,
        flagged_stars=FlaggedStars(survey.data.stars.fgcm_id[flagged], persistent[flagged].astype(np.int32)),
    )


def _of_exposures(
    survey: Survey, solution: Solution, measured: Measurements, selection: Selection
) -> ExposureState:
    e, pwv, apertures = survey.data.exposures, measured.pwv, measured.apertures
    unknown = np.full(len(e), np.nan)
    residuals, background = solution.residuals.exposure, measured.background
    return ExposureState(
        visit=e.visit,
        flag=selection.exposure,
        gray=residuals.gray,
        gray_var=np.square(residuals.rms),
        n_star=residuals.n_stars.astype(np.int32),
        delta_mag_bkg=background if background.ndim == 1 else background.mean(axis=1),
        ref_offset=measured.ref_offset.offset,
        retrieved_ln_pwv=unknown if pwv is None else pwv.ln_pwv,
        retrieved_ln_pwv_raw=unknown if pwv is None else pwv.ln_pwv_raw,
        retrieved_ln_pwv_flag=np.full(len(e), _STANDARD_PWV, np.int32) if pwv is None else pwv.flag,
        epsilon=apertures.epsilon,
        median_delta_aper=apertures.median,
    )


def _of_bands(
    survey: Survey,
    solution: Solution,
    measured: Measurements,
    references: ReferenceScatter | None,
    cuts: Cuts,
) -> BandState:
    nothing = np.full(survey.n_band, np.nan)
    return BandState(
        median_sed_slope=solution.slopes.median,
        sed_scale=solution.sed.scale,
        sed_offset=solution.sed.offset,
        sed_pivot=solution.sed.pivot,
        sig_fgcm=measured.scatter.stars_gray.sigma_fgcm[:, 0],
        sigma_cal=measured.scatter.sigma_cal.sigma,
        ref_offset=nothing if references is None else references.offset[:, 0],
        ref_sigma=nothing if references is None else references.sigma[:, 0],
        gray_cut=cuts.low,
        gray_high_cut=cuts.high,
        error_pivot=measured.errors.pivot,
        error_model=measured.errors.coefficients,
        global_epsilon=measured.apertures.global_epsilon,
    )
