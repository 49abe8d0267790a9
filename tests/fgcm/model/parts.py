"""A fit's data, model and random parameters from the small simulated survey."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.model.layout import LayoutSettings, ParameterLayout
from zeropoint.fgcm.model.load import load_fit_data
from zeropoint.fgcm.model.model import PhotometricModel
from zeropoint.fgcm.model.observations import FitData
from zeropoint.fgcm.model.parameters import PARAMETER_CLASSES, FitParameters
from zeropoint.fgcm.model.passband_source import PassbandSource
from zeropoint.fgcm.model.settings import FitDataSettings
from zeropoint.fgcm.model.sweep import References
from zeropoint.simulation.fgcm_star_list import SimulatedStarList
from zeropoint.simulation.fgcm_survey import FgcmSurvey

#: How far from the start random parameters are.
SCATTER = {
    "o3": 10.0, "ln_tau_intercept": 0.3, "ln_tau_slope": 0.5, "alpha": 0.2, "ln_pwv_intercept": 0.3, "ln_pwv_slope": 0.5,
    "ln_pwv_quadratic": 0.3, "retrieved_scale": 0.1, "retrieved_offset": 0.05, "retrieved_night_offset": 0.1,
    "qe_intercept": 0.02, "qe_slope": 1e-3, "filter_offset": 0.01, "abs_offset": 0.1, "superstar": 0.01,
    "aper_slope": 0.1, "airmass_residual": 0.003, "water_residual": 0.1, "exposure_gray": 0.01,
}  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """All that a sweep and its gradient take."""

    data: FitData
    model: PhotometricModel
    weight: npt.NDArray[np.float32]
    slopes: npt.NDArray[np.float64]
    references: References
    parameters: FitParameters


def fit_settings(survey: FgcmSurvey) -> FitDataSettings:
    """Settings with a wash and a new flat within the survey."""
    middle = float(np.median(survey.visits["mjd"]))
    site = survey.settings.site
    return FitDataSettings(
        bands=survey.settings.bands, latitude=site.latitude, ut_boundary=site.ut_boundary,
        wash_mjds=(0.0, middle), epoch_mjds=(middle + 0.01,),
    )  # fmt: skip


def load(survey: FgcmSurvey, stars: SimulatedStarList, passbands: PassbandSource) -> FitData:
    """The data of the survey's star list."""
    return load_fit_data(
        stars.visits,
        stars.observations,
        stars.ids,
        stars.indices,
        stars.references,
        passbands,
        fit_settings(survey),
    )


def random_problem(data: FitData, passbands: PassbandSource, rng: np.random.Generator) -> Problem:
    """Random parameters of all classes, a tenth of the observations without weight."""
    start = FitParameters.standard(data.exposures, passbands.standard)
    values = {
        name: getattr(start, name) + rng.normal(0.0, SCATTER[name], getattr(start, name).shape)
        for name in PARAMETER_CLASSES
    }
    pivot = np.full(data.exposures.n_band, 0.9)
    parameters = start.replace(**values, aper_pivot=pivot)
    o = data.observations
    weight = np.where(rng.uniform(size=len(o)) < 0.1, 0.0, o.err.astype(float) ** -2).astype(np.float32)
    slopes = rng.normal(0.0, 2e-4, (len(data.stars), data.exposures.n_band))
    references = References.of(data.stars.ref_mag, data.stars.ref_err)
    return Problem(data, PhotometricModel(data.exposures, passbands), weight, slopes, references, parameters)


def full_layout(problem: Problem, *, retrieved: bool = False, per_band: bool = True) -> ParameterLayout:
    """Every class free, with bounds and priors as they are by default."""
    settings = LayoutSettings(
        quadratic_pwv=True, retrieved_pwv=retrieved, nightly_offset=retrieved, per_band=per_band, abs_offset=True,
        airmass_residual=True, water_residual=True, exposure_gray=True,
    )  # fmt: skip
    e, source = problem.data.exposures, problem.model.passbands
    return ParameterLayout.build(
        e,
        e.has_passband,
        problem.parameters,
        source.ranges,
        source.standard,
        source.std_physical_filters,
        settings,
    )


def thinned(problem: Problem, n_star: int, n_exp: int) -> tuple[FitData, npt.NDArray[np.float32]]:
    """The observations of the first stars in the first exposures alone, and their weights."""
    o = problem.data.observations
    kept = (o.star < n_star) & (o.exposure < n_exp)
    return replace(problem.data, observations=o.select(kept)), problem.weight[kept]
