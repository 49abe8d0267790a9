"""Slopes of spectra from magnitudes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.model.sed import MAX_SLOPE, SedSettings, SedTerm, fill_slopes, sed_slopes

BANDS = ("g", "r", "i", "z")
LAMBDA = np.array([4800.0, 6200.0, 7500.0, 9000.0])
SETTINGS = SedSettings(
    {"gr": ("g", "r"), "ri": ("r", "i"), "iz": ("i", "z")},
    {
        "g": SedTerm("gr", "ri", 1.0, True, ("g", "r", "i")),
        "r": SedTerm("gr", "ri"),
        "i": SedTerm("ri", None, 0.9),
        "z": SedTerm("iz", "ri", 1.0, True, ("z", "i", "r")),
    },
)


def magnitudes(log_flux: np.ndarray) -> np.ndarray:
    return np.atleast_2d(-2.5 * log_flux / np.log(10.0))


def test_an_exponential_spectrum_has_one_slope_everywhere() -> None:
    for slope in (2e-4, -3e-4):
        found = sed_slopes(magnitudes(slope * (LAMBDA - 6000.0)), BANDS, LAMBDA, SETTINGS)
        np.testing.assert_allclose(found[0], slope * np.array([1.0, 1.0, 0.9, 1.0]), rtol=1e-12)


def test_a_linear_spectrum_has_its_slope_to_first_order() -> None:
    slope = 1e-5
    found = sed_slopes(magnitudes(np.log(1.0 + slope * (LAMBDA - 6200.0))), BANDS, LAMBDA, SETTINGS)
    # the mean of the slopes on both sides, off by the square of slope times distance
    assert found[0, 1] == pytest.approx(slope, rel=0.01)


def test_bands_at_the_ends_are_extrapolated() -> None:
    curvature = 4e-8
    found = sed_slopes(magnitudes(0.5 * curvature * (LAMBDA - 6000.0) ** 2), BANDS, LAMBDA, SETTINGS)
    # slopes at the middles of neighbours lie on a line, which is prolonged by half of the two distances' ratio
    gr, ri, iz = (curvature * (0.5 * (a + b) - 6000.0) for a, b in pairwise(LAMBDA))
    g, r, i, z = LAMBDA
    assert found[0, 0] == pytest.approx(gr + (g - r) / (g - i) * (gr - ri))
    assert found[0, 3] == pytest.approx(iz + (z - i) / (z - r) * (iz - ri))


def test_what_is_unknown_is_the_median_and_said_to_be() -> None:
    mean = magnitudes(np.outer(np.array([1e-4, 2e-4, 4e-4, 0.0]), LAMBDA - 6000.0))
    mean[3, 0] = np.nan
    slopes = sed_slopes(mean, BANDS, LAMBDA, SETTINGS)
    assert np.array_equal(np.isnan(slopes[3]), [True, True, False, False])
    filled, known = fill_slopes(slopes)
    assert filled[3, 1] == pytest.approx(2e-4)
    assert np.array_equal(known, np.isfinite(slopes))
    assert not fill_slopes(slopes[2:])[0][1, :2].any()


def test_slopes_of_wrong_magnitudes_are_cut() -> None:
    found = sed_slopes(np.array([[30.0, 12.0, 25.0, 11.0]]), BANDS, LAMBDA, SETTINGS)
    assert np.abs(found).max() == MAX_SLOPE


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SedSettings({"gr": ("g", "y")}, {"g": SedTerm("gr")}), r"sedboundaryterms\['gr'\] names the band y"),
        (SedSettings({}, {"g": SedTerm("gr")}), "boundary term gr"),
        (SedSettings({"gr": ("g", "r")}, {"u": SedTerm("gr")}), r"sedterms\['u'\] names the band u"),
        (SedSettings({"gr": ("g", "r")}, {"g": SedTerm("gr", None, 1.0, True)}), "needs two boundary terms"),
    ],
)
def test_terms_of_unknown_bands_are_named(settings: SedSettings, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        sed_slopes(np.zeros((1, 4)), BANDS, LAMBDA, settings)
