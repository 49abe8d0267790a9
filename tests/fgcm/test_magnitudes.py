"""Magnitudes from fluxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.fgcm import magnitudes

FLUXES = st.floats(1e-3, 1e9)


def test_a_star_in_larger_pixels_becomes_brighter() -> None:
    # 2.5 log10 1.01 = 10.80 mmag
    assert magnitudes.area_correction(1.01) == pytest.approx(-0.010803, abs=1e-6)


def test_a_magnitude_is_of_one_second() -> None:
    assert magnitudes.instrumental_magnitude(3000.0, 30.0, 10.0) == pytest.approx(-7.5)
    assert np.isnan(magnitudes.instrumental_magnitude(-1.0, 30.0))


@settings(max_examples=25)
@given(FLUXES, st.floats(-0.9, 10.0))
def test_magnitudes_less_the_background_are_those_of_the_flux_less_it(flux, fraction) -> None:
    area = 12.5
    background = -fraction * flux / area
    with_it = magnitudes.instrumental_magnitude(flux, 1.0)
    without = magnitudes.instrumental_magnitude(flux - area * background, 1.0)
    assert with_it + magnitudes.background_difference(flux, background, area) == pytest.approx(
        without, abs=1e-9
    )


def test_nothing_left_of_a_flux_is_no_number() -> None:
    assert not np.isfinite(magnitudes.background_difference([1.0, 1.0], [1.0, 2.0], 1.0)).any()


def test_a_missing_aperture_is_99() -> None:
    delta = magnitudes.aperture_difference([100.0, -1.0, 100.0, np.nan], [101.0, 100.0, 0.0, 1.0])
    assert delta == pytest.approx([2.5 * np.log10(1.01), 99.0, 99.0, 99.0])
