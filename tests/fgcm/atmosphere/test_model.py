"""The open atmosphere: exact derivatives, laws that hold at any site, subsets, bad input."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.atmosphere import (
    DERIVATIVES,
    Atmosphere,
    AtmosphereParameters,
    pressure_at,
    rayleigh_depth,
)
from zeropoint.fgcm.atmosphere.collision_bands import collision_band_depth

WAVELENGTH = np.arange(3000.0, 11000.1, 5.0)
#: Name of a derivative, parameter, step of the central difference.
STEPS = [
    ("ln_pwv", "pwv", 1e-4), ("o3", "o3", 1e-1), ("ln_tau", "tau", 1e-4),
    ("alpha", "alpha", 1e-4), ("airmass", "airmass", 1e-5), ("pmb", "pmb", 1e-2),
]  # fmt: skip


def parameters(**changes):
    values = {"pmb": 735.0, "pwv": 3.0, "o3": 263.0, "tau": 0.03, "alpha": 1.0, "airmass": 1.2}
    return AtmosphereParameters(**(values | changes))


@pytest.fixture(scope="module")
def site():
    return Atmosphere.for_site(2663.0)


def test_pressure_of_two_sites():
    assert pressure_at(2663.0) == pytest.approx(731.66, abs=0.01)
    assert pressure_at(4139.0) == pytest.approx(605.3, abs=0.05)


def test_scattering_agrees_with_another_published_formula():
    # Hansen & Travis (1974), good to a percent
    um = WAVELENGTH / 1e4
    published = 0.008569 * um**-4 * (1 + 0.0113 * um**-2 + 0.00013 * um**-4)
    assert rayleigh_depth(WAVELENGTH) * 1013.25 == pytest.approx(published, rel=0.01)


def test_collision_bands_are_the_square_of_density_along_the_path():
    height = np.arange(2663.0, 40000.0, 5.0)
    kelvin = np.maximum(288.15 - 0.0065 * height, 216.65)
    pressure = 1013.25 * (1 - 0.0065 * np.minimum(height, 11000) / 288.15) ** 5.2559
    pressure *= np.exp(-np.maximum(height - 11000, 0) * 0.0341632 / 216.65)
    oxygen = 0.20946 * pressure * 100 / (1.380649e-23 * kelvin) * 1e-6
    depth = 11.0e-46 * np.trapezoid(oxygen**2, height * 100)
    assert collision_band_depth(5772.0, elevation=2663.0) == pytest.approx(depth, rel=0.02)


@settings(max_examples=20, deadline=None)
@given(
    pwv=st.floats(0.05, 25.0), o3=st.floats(150.0, 400.0), tau=st.floats(1e-3, 0.5), alpha=st.floats(-0.5, 2.5),
    airmass=st.floats(1.0, 3.0), pmb=st.floats(560.0, 1020.0), elevation=st.sampled_from([0.0, 2663.0, 5000.0]),
)  # fmt: skip
def test_derivatives_are_those_of_the_transmission(elevation, **values):
    atmosphere = Atmosphere.for_site(elevation, wavelength=WAVELENGTH[::40])
    at = parameters(**values)
    analytic = atmosphere.log_derivatives(at)
    assert set(analytic) == set(DERIVATIVES)
    for name, parameter, step in STEPS:
        value = getattr(at, parameter)
        factor = np.exp(step) if name.startswith("ln_") else None
        high = value * factor if factor else value + step
        low = value / factor if factor else value - step
        high_t, low_t = (atmosphere.transmission(replace(at, **{parameter: v})) for v in (high, low))
        numeric = np.log(high_t / low_t) / (2 * step)
        # the largest third derivative times step**2 / 6, and the rounding of the logarithms
        scale = np.maximum(1.0, np.abs(analytic[name]))
        assert np.max(np.abs(numeric - analytic[name]) / scale) < 1e-6, name


@settings(max_examples=15, deadline=None)
@given(elevation=st.floats(0.0, 5000.0))
def test_water_grows_between_the_strong_and_the_weak_law_at_any_site(elevation):
    atmosphere = Atmosphere.for_site(elevation)
    amount = np.exp(np.linspace(np.log(0.1), np.log(60.0), 60))
    depth, slope = atmosphere.absorbers["water"].law(parameters(pwv=amount, airmass=1.0)).depth()
    absorbs = depth[30] > 1e-3
    growth = slope["ln_pwv"][:, absorbs] / depth[:, absorbs]
    assert growth.min() > 0.35
    assert growth.max() <= 1.0 + 1e-9
    # beyond the nodes that were fitted
    assert growth[amount > 43.0].min() >= 0.5


def test_absorption_grows_with_pressure():
    low, high = Atmosphere.for_site(4139.0), Atmosphere.for_site(2663.0)
    for name in ("water", "gases"):
        thin = low.absorbers[name].law(parameters(pmb=low.pmb_elevation)).depth()[0]
        thick = high.absorbers[name].law(parameters(pmb=high.pmb_elevation)).depth()[0]
        absorbs = thin > 1e-3
        # holding weak lines to the weak law may take a little from the thicker air
        assert (thick >= 0.99 * thin)[absorbs].all()
        assert thick[absorbs].sum() > 1.04 * thin[absorbs].sum()


def test_five_millibar_dim_blue_light_and_hardly_red(site):
    at = parameters(pmb=[735.0, 740.0])
    transmission = site.transmission(at)
    # top hats of g, r, i, z; the figures are for depths of scattering and oxygen in proportion to pressure
    for low, high, mmag in ((4000, 5500, 1.2), (5500, 7000, 0.4), (7000, 8200, 0.3), (8200, 9200, 0.1)):
        inside = (low <= WAVELENGTH) & (high >= WAVELENGTH)
        flux = transmission[:, inside].sum(axis=1)
        assert -2500 * np.log10(flux[1] / flux[0]) == pytest.approx(mmag, abs=0.12)


def test_subsets_and_other_orders_of_wavelengths_are_the_same_atmosphere(site):
    at = parameters(airmass=[1.0, 1.7, 3.0])
    whole, derivatives = site.evaluate(at)
    chosen = np.array([1500, 3, 700, 701])
    for part in (Atmosphere.for_site(2663.0, wavelength=WAVELENGTH[chosen]), site.at(WAVELENGTH[chosen])):
        np.testing.assert_allclose(part.transmission(at), whole[:, chosen], rtol=1e-13)
        np.testing.assert_allclose(
            part.log_derivatives(at)["airmass"], derivatives["airmass"][:, chosen], rtol=1e-12
        )
    again = site.at(WAVELENGTH[chosen]).at(WAVELENGTH[chosen][::-1])
    np.testing.assert_allclose(again.transmission(at), whole[:, chosen[::-1]], rtol=1e-13)
    between = site.at([5002.5]).transmission(at)[:, 0]
    np.testing.assert_allclose(between, (whole[:, 400] + whole[:, 401]) / 2, rtol=1e-5)


def test_an_exposure_is_the_same_alone_and_among_others(site):
    rng = np.random.default_rng(3)
    many = parameters(
        pwv=rng.uniform(0.1, 20, 50), airmass=rng.uniform(1, 3, 50), pmb=rng.uniform(720, 740, 50)
    )
    transmission, derivatives = site.evaluate(many)
    alone, derivatives_alone = site.evaluate(many.rows(slice(37, 38)))
    np.testing.assert_array_equal(alone[0], transmission[37])
    for name in DERIVATIVES:
        np.testing.assert_array_equal(derivatives_alone[name][0], derivatives[name][37])
    np.testing.assert_array_equal(site.transmission(many), transmission)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pwv": [3.0, -1.0]}, "pwv must be greater than 0; it is -1 in row 1"),
        ({"pmb": np.nan}, "pmb must be between 100 and 1200 mbar; it is nan"),
        ({"pmb": 73500.0}, "pmb must be .* 1200 mbar; it looks like Pa .*; it is 73500 in row 0"),
        ({"pmb": 73.5}, "it looks like kPa"),
        ({"airmass": 0.5}, "airmass must be between 1 and 5"),
        ({"airmass": [1.0, 7.0]}, "row 1"),
        ({"tau": -0.1}, "tau must be 0 or more"),
        ({"alpha": np.inf}, "alpha must be finite"),
    ],
)
def test_impossible_parameters_are_named(changes, said):
    with pytest.raises(InvalidInputError, match=said):
        parameters(**changes)


def test_parameters_of_several_lengths_are_named():
    with pytest.raises(ValueError, match="not of several: pwv 3, airmass 2"):
        parameters(pwv=[1.0, 2.0, 3.0], airmass=[1.0, 1.2])


def test_impossible_sites_and_wavelengths_are_named(site):
    with pytest.raises(InvalidInputError, match="not for 8848 m"):
        Atmosphere.for_site(8848.0)
    with pytest.raises(InvalidInputError, match="not for nan m"):
        Atmosphere.for_site(np.nan)
    with pytest.raises(InvalidInputError, match="3000 to 11000 Angstrom, but was asked for 2500 to 4000"):
        Atmosphere.for_site(0.0, wavelength=[2500.0, 4000.0])
    with pytest.raises(InvalidInputError, match="and NaN"):
        site.at([4000.0, np.nan])
    with pytest.raises(InvalidInputError, match="list of numbers"):
        site.at(4000.0)
    with pytest.raises(InvalidInputError, match="lambda_norm"):
        Atmosphere.for_site(0.0, lambda_norm=0.0)


def test_importing_the_atmosphere_loads_nothing_heavy():
    code = "import sys, zeropoint.fgcm.atmosphere; print([m for m in ('scipy', 'astropy', 'numba', 'lsst') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
