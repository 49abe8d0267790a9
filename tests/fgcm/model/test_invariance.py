"""What a fit may not depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from zeropoint.fgcm.fit.result import FitResult
from zeropoint.fgcm.fit.settings import FitSettings
from zeropoint.fgcm.fit.solve import fit
from zeropoint.fgcm.model.layout import LayoutSettings, ParameterLayout
from zeropoint.fgcm.model.model import PhotometricModel
from zeropoint.fgcm.model.observations import FitData
from zeropoint.fgcm.model.parameters import FitParameters
from zeropoint.fgcm.model.passband_source import QuadraturePassbands
from zeropoint.fgcm.model.sweep import References
from zeropoint.simulation.fgcm_survey import FgcmSurvey

NIGHTLY = ("o3", "alpha", "ln_tau_intercept", "ln_tau_slope", "ln_pwv_intercept", "ln_pwv_slope")


@pytest.fixture(scope="module")
def clear(fgcm_survey: FgcmSurvey) -> np.ndarray:
    """Exposures without clouds."""
    return np.asarray(fgcm_survey.visits["photometric"], bool)


def solve(data: FitData, passbands: QuadraturePassbands, used: np.ndarray) -> FitResult:
    """Fit nights, flats and absolute throughputs to the exposures in use; chromatic terms are no matter here."""
    e, o = data.exposures, data.observations
    start = FitParameters.standard(e, passbands.standard)
    layout = ParameterLayout.build(
        e,
        used,
        start,
        passbands.ranges,
        passbands.standard,
        passbands.std_physical_filters,
        LayoutSettings(abs_offset=True),
    )
    weight = np.where(used[o.exposure], o.err**-2.0, 0.0).astype(np.float32)
    references = References.of(data.stars.ref_mag, data.stars.ref_err)
    slopes = np.zeros(o.n_segment)
    settings = FitSettings(calibrate_sed=False, max_iterations=100)
    result = fit(PhotometricModel(e, passbands), o, weight, slopes, references, start, layout, settings)
    assert result.converged
    return result


def changes(after: FitResult, before: FitResult) -> dict[str, np.ndarray]:
    """Differences of the parameters over their errors after a change."""
    assert after.posterior is not None
    sigmas = after.posterior.parameter_sigmas(after.parameters)
    # blends and the structure of flats are not in this model: errors are larger by what observations scatter more
    scatter = np.sqrt(max(after.chi2 / after.dof, 1.0))
    out = {}
    for name in (*NIGHTLY, "superstar", "aper_slope", "abs_offset"):
        sigma = getattr(sigmas, name)
        free = np.isfinite(sigma) & (sigma > 0)
        difference = getattr(after.parameters, name) - getattr(before.parameters, name)
        out[name] = difference[free] / (scatter * sigma[free])
    return out


@pytest.fixture(scope="module")
def before(data: FitData, passbands: QuadraturePassbands, clear: np.ndarray) -> FitResult:
    """The fit of all nights."""
    return solve(data, passbands, clear)


def test_a_constant_of_a_band_changes_its_throughput_only(
    data: FitData, passbands: QuadraturePassbands, clear: np.ndarray, before: FitResult
) -> None:
    o = data.observations
    shifted = replace(
        data, observations=replace(o, mag=np.where(o.band == 2, o.mag + 0.3, o.mag).astype(np.float32))
    )
    after = solve(shifted, passbands, clear)
    np.testing.assert_allclose(
        after.parameters.abs_offset - before.parameters.abs_offset, [0.0, 0.0, -0.3, 0.0], atol=1e-4
    )
    del (found := changes(after, before))["abs_offset"]
    # fits end where a step is a hundredth of an error
    assert max(np.abs(each).max() for each in found.values()) < 0.1


def test_without_a_night_the_others_stay_within_their_errors(
    data: FitData, passbands: QuadraturePassbands, clear: np.ndarray, before: FitResult
) -> None:
    after = solve(data, passbands, clear & (data.exposures.night != 1))
    found = changes(after, before)
    # the variance of the change is that which the night's data took away: less than the whole
    assert np.sqrt(np.mean(np.concatenate(list(found.values())) ** 2)) < 1.0
    assert len(found["ln_tau_intercept"]) == data.exposures.n_nights - 1
