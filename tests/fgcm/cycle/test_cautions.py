"""What a cycle warns of, and what it makes of terms that cannot be formed."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.recipes.fgcm_cycle.cautions import (
    atmosphere_at_ends,
    nights_without_fit,
    warn_of,
    warn_of_few_stars,
    with_scatter,
)
from zeropoint.recipes.fgcm_cycle.slope_terms import with_possible_slopes


def metrics(chi2=1.0, nights=None, ends=None, gray=None):
    return {
        "chi2_dof_measured": chi2, "nights_without_fit": nights or {}, "atmosphere_at_ends": ends or {},
        "has_photometric": gray is None, "joint_gray": gray is not None, "joint_gray_sigma": gray,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("found", "final", "told"),
    [
        (metrics(), True, ""),
        (metrics(chi2=50.0), True, "scatter by 7.1 times their errors"),
        (metrics(chi2=50.0), False, ""),
        (metrics(nights={"60003": 16}), True, "60003 (16)"),
        (metrics(gray=0.04), True, "exposures scatter by 40 mmag"),
        (metrics(nights={"60003": 16}, ends={"pwv": 24}), False, ""),
        (metrics(ends={"pwv": 24}), True, "pwv of 24 exposures is at an end of its range"),
    ],
)
def test_a_cycle_warns_of_what_does_not_hold(caplog, found, final, told):
    config = FgcmFitCycleConfigBase()
    config.isFinalCycle = final
    warn_of(2, found, config)
    assert told in caplog.text
    assert bool(caplog.text) == bool(told)


def survey(n_exp=6):
    """Two exposures on each of three nights, in g and i of a camera with u, g, r, i."""
    exposures = SimpleNamespace(
        band=np.array([1, 3] * 3), bands=("u", "g", "r", "i"), n_band=4, night=np.repeat(np.arange(3), 2), n_nights=3,
        night_numbers=np.array([60001, 60002, 60005], np.int32),
    )  # fmt: skip
    return SimpleNamespace(data=SimpleNamespace(exposures=exposures), in_fit_band=np.ones(n_exp, bool))


def test_nights_without_fit_are_named():
    solution = SimpleNamespace(selection=SimpleNamespace(photometric=np.array([1, 0, 0, 0, 1, 1], bool)))
    assert nights_without_fit(survey(), solution) == {"60002": 2}


def test_values_at_an_end_are_counted_where_they_were_fitted():
    data = survey()
    ranges = {"pwv": (0.1, 12.0), "o3": (220.0, 310.0), "tau": (0.002, 0.35), "alpha": (0.0, 2.0)}
    data.passbands = SimpleNamespace(ranges=ranges, fitted=("ln_pwv",))
    air = SimpleNamespace(
        pwv=np.array([12.0, 3.0, 12.0, 12.0, 3.0, 3.0]),
        o3=np.full(6, 263.0),
        tau=np.full(6, 0.03),
        alpha=np.ones(6),
    )
    solution = SimpleNamespace(
        selection=SimpleNamespace(photometric=np.array([1, 1, 0, 0, 1, 1], bool)),
        parameters=SimpleNamespace(at=lambda e, r: air),
    )
    assert atmosphere_at_ends(data, solution) == {"pwv": 1}
    data.passbands.fitted = ()
    assert atmosphere_at_ends(data, solution) == {}


def test_slopes_follow_from_bands_with_exposures(caplog):
    config = FgcmFitCycleConfigBase()
    config.complete(["u", "g", "r", "i"])
    found = with_possible_slopes(config, survey())
    assert "sedterms of g needs r, u" in caplog.text or "sedterms of g needs r," in caplog.text
    assert found.sedterms.data["g"].primaryTerm == found.sedterms.data["i"].primaryTerm == "gi"
    pair = found.sedboundaryterms.data["gi"]
    assert (pair.primary, pair.secondary) == ("g", "i")
    # the configuration that was given stays
    assert "gi" not in config.sedboundaryterms.data
    whole = survey()
    whole.data.exposures.band = np.array([0, 1, 2, 3, 0, 1])
    assert with_possible_slopes(config, whole) is config


@dataclass(frozen=True)
class Part:
    """Something with a posterior, a fit or a root."""

    fit: object = None
    fit_of_others: object = None
    find_posterior: object = None
    root: object = None

    @property
    def posterior(self):
        return self.find_posterior()


def test_errors_grow_with_the_scatter():
    solution = Part(fit=Part(find_posterior=lambda: Part(root=np.eye(2))))
    assert with_scatter(solution, 9.0).fit.posterior.root[1, 1] == 3.0
    assert with_scatter(solution, 0.8) is with_scatter(solution, float("nan")) is solution
    assert with_scatter(Part(), 9.0).fit is None


def test_exposures_with_hardly_enough_stars_are_told(caplog):
    data = survey()
    data.fit_band = np.array([False, True, False, True])
    n_stars = np.array([900, 500, 950, 590, 0, 700])
    solution = SimpleNamespace(residuals=SimpleNamespace(exposure=SimpleNamespace(n_stars=n_stars)))
    warn_of_few_stars(data, solution, 600)
    assert caplog.text.count("WARNING") == 1
    assert (
        "Exposures of i have 500 to 700 good stars, half of them less than 590, and minStarPerExp = 600"
        in caplog.text
    )
