"""Whether the gray of exposures tells of photometric ones."""

from dataclasses import replace

import numpy as np
import pytest

from zeropoint.recipes.fgcm_cycle.consensus import _agree
from zeropoint.recipes.fgcm_cycle.sky_evidence import NightGray, scatter_of_clear, sky_evidence

#: Widths of the priors of the parameters of a night.
PRIOR = np.array([15.0, 0.25, 0.6, 1.0, 0.6, 1.0])


def nights(rng, n_exp, *, n_nights=6, gray=0.0005, cloudy=0.0):
    """Nights as the cycle looks at them: gray of exposures under clouds that dim and a sky that scatters."""
    made = []
    for _ in range(n_nights):
        rows = rng.normal(size=(n_exp, 6)) * [1e-4, 0.02, 0.03, 0.01, 0.03, 0.01]
        values = rows @ (PRIOR * rng.normal(size=6) * 0.5) + rng.normal(size=n_exp) * gray
        values -= (rng.random(n_exp) < cloudy) * np.exp(rng.uniform(np.log(0.01), np.log(0.25), n_exp))
        _, residual = _agree(rows, values, np.zeros(6), PRIOR**-2.0, np.random.default_rng(1))
        clear, faint = np.abs(residual) < 0.006, residual < -0.006
        made.append(NightGray(values, rows, np.zeros(6), PRIOR**2, np.full(n_exp, 3e-4), clear, faint))
    return made


@pytest.mark.parametrize("n_exp", [8, 12, 20])
@pytest.mark.parametrize(("gray", "cloudy"), [(0.0005, 0.0), (0.0005, 0.15), (0.0005, 0.4), (0.002, 0.15)])
def test_clear_exposures_are_seen_between_clouds(n_exp, gray, cloudy):
    found = sky_evidence(nights(np.random.default_rng(n_exp), n_exp, gray=gray, cloudy=cloudy))
    assert found.has_photometric
    assert found.n == 6 * n_exp


@pytest.mark.parametrize("n_exp", [8, 12, 20])
@pytest.mark.parametrize("gray", [0.02, 0.04, 0.08])
def test_exposures_that_all_scatter_are_none(n_exp, gray):
    """Among 8, atmospheres can be bent to six: these do not count."""
    found = sky_evidence(nights(np.random.default_rng(n_exp), n_exp, gray=gray))
    assert not found.has_photometric
    # the prior lets nights explain part of it
    assert found.sigma == pytest.approx(gray, rel=4.0 / np.sqrt(2.0 * (6 * n_exp - 36) + 12))


@pytest.mark.parametrize("gray", [0.002, 0.004])
def test_clear_exposures_tell_how_gray_they_are(gray):
    made = [
        replace(each, clear=np.ones(12, bool))
        for each in nights(np.random.default_rng(7), 12, n_nights=20, gray=gray)
    ]
    # of 12 exposures of a night, six are about what its parameters take
    assert scatter_of_clear(made) == pytest.approx(gray, rel=3.0 / np.sqrt(2.0 * 20 * 6))


def test_errors_of_the_gray_are_no_scatter():
    made = nights(np.random.default_rng(8), 12, n_nights=20, gray=0.0003)
    assert scatter_of_clear([replace(each, clear=np.ones(12, bool)) for each in made]) < 0.0003


def test_nothing_to_look_at_tells_of_nothing():
    assert sky_evidence([]).has_photometric
