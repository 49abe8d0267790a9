"""Passband integrals against closed forms, a naive twin and differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive.passband_integrals import integrals as naive_integrals
from zeropoint.fgcm.atmosphere import DERIVATIVES, Atmosphere, AtmosphereParameters
from zeropoint.fgcm.quadrature import PassbandIntegrals, passband_integrals, simpson_weights

#: Central differences of this relative step are wrong by its square (1e-8) and by rounding over it (1e-12), times the
#: ratio of the third derivative or the value to the first, which is below 100.
STEP, DIFFERENCE = 1e-4, 1e-6


@pytest.fixture(scope="module")
def air() -> Atmosphere:
    return Atmosphere.for_site(2663.0)


def parameters(n: int, rng: np.random.Generator) -> AtmosphereParameters:
    return AtmosphereParameters(
        pmb=rng.uniform(725, 740, n),
        pwv=rng.uniform(0.5, 10, n),
        o3=rng.uniform(220, 310, n),
        tau=rng.uniform(0.005, 0.3, n),
        alpha=rng.uniform(0.0, 2.0, n),
        airmass=rng.uniform(1.02, 2.5, n),
    )


def bands(wavelength: np.ndarray) -> np.ndarray:
    """Two detectors of a filter across oxygen and water."""
    hat = 0.5 * ((wavelength >= 6800) & (wavelength <= 8300))
    return np.stack([hat, hat * (1.0 + 1e-4 * (wavelength - 7500))])


class Vacuum:
    """What lets everything pass, on any wavelengths."""

    def __init__(self, wavelength: np.ndarray) -> None:
        self.wavelength = wavelength

    def at(self, wavelength: np.ndarray) -> Vacuum:
        return Vacuum(wavelength)

    def evaluate(
        self, parameters: AtmosphereParameters, names: tuple[str, ...]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        shape = (len(parameters), len(self.wavelength))
        return np.ones(shape), {name: np.zeros(shape) for name in names}


def test_a_top_hat_in_vacuum_has_the_integrals_of_the_closed_forms(rng: np.random.Generator) -> None:
    """Simpson's error with a step of 1/2 Angstrom, h^4 (b - a)/180 x 24 / a^5, is below 1e-15."""
    a, b, center = 4000.0, 5500.0, 4700.0
    wavelength = np.arange(a, b + 0.25, 0.5)
    got = passband_integrals(
        Vacuum(wavelength),  # type: ignore[arg-type]
        parameters(1, rng),
        np.ones_like(wavelength),
        center,
        derivatives=False,
        second_order=True,
    )
    log = np.log(b / a)
    moments = [log, (b - a) - center * log, (b**2 - a**2) / 2 - 2 * center * (b - a) + center**2 * log]
    assert got.i2 is not None
    np.testing.assert_allclose([got.i0[0, 0], got.i1[0, 0], got.i2[0, 0]], moments, rtol=1e-10)


def test_integrals_are_those_of_the_naive_twin(air: Atmosphere, rng: np.random.Generator) -> None:
    some, curves = parameters(3, rng), bands(air.wavelength)
    got = passband_integrals(air, some, curves, 7500.0, second_order=True)
    assert got.i2 is not None
    for k, row in enumerate(air.transmission(some)):
        for d, curve in enumerate(curves):
            want = naive_integrals(air.wavelength.tolist(), curve.tolist(), row.tolist(), 7500.0)
            np.testing.assert_allclose([got.i0[k, d], got.i1[k, d], got.i2[k, d]], want, rtol=1e-10)


@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives_are_those_of_the_integrals(air: Atmosphere, rng: np.random.Generator, name: str) -> None:
    some, curves = parameters(20, rng), bands(air.wavelength)
    exact = passband_integrals(air, some, curves, 7500.0, second_order=True)
    field = name.removeprefix("ln_")
    value = getattr(some, field)
    step = STEP * np.maximum(value, 0.1)
    unit = value if name.startswith("ln_") else np.ones_like(value)

    def shifted(sign: int) -> PassbandIntegrals:
        moved = {one: getattr(some, one) + (sign * step if one == field else 0.0) for one in vars(some)}
        return passband_integrals(
            air, AtmosphereParameters(**moved), curves, 7500.0, derivatives=False, second_order=True
        )

    more, less = shifted(1), shifted(-1)
    scale = (unit / (2 * step))[:, None]
    quantities = {
        "i0": exact.d_i0[name],
        "i1": exact.d_i1[name],
        "i2": exact.d_i2[name],
        "i10": exact.d_i10(name),
    }
    pairs = [(value, (getattr(more, key) - getattr(less, key)) * scale) for key, value in quantities.items()]
    pairs.append((exact.d_magnitude(name), (more.magnitude() - less.magnitude()) * scale))
    for analytic, difference in pairs:
        assert np.abs(analytic - difference).max() <= DIFFERENCE * np.abs(analytic).max()


#: A part of the model's wavelengths, made once.
NARROW = Atmosphere.for_site(2663.0, wavelength=np.arange(6700.0, 7300.0, 5.0))


@settings(max_examples=15)
@given(seed=st.integers(0, 2**16), n=st.integers(1, 400))
def test_an_exposure_has_the_same_bytes_whatever_the_others_are(seed: int, n: int) -> None:
    air = NARROW
    rng = np.random.default_rng(seed)
    curves = rng.uniform(0.2, 0.6, (3, len(air.wavelength)))
    some = parameters(n, rng)
    whole = passband_integrals(air, some, curves, 7000.0)
    chosen = rng.permutation(n)[: rng.integers(1, n + 1)]
    part = passband_integrals(air, some.rows(chosen), curves, 7000.0)
    np.testing.assert_array_equal(part.i0, whole.i0[chosen])
    np.testing.assert_array_equal(part.i1, whole.i1[chosen])
    np.testing.assert_array_equal(part.d_i1["ln_pwv"], whole.d_i1["ln_pwv"][chosen])


@settings(max_examples=30)
@given(n=st.integers(3, 40), coefficients=st.lists(st.floats(-2, 2), min_size=3, max_size=3))
def test_simpson_is_exact_for_parabolas_with_any_number_of_nodes(n: int, coefficients: list[float]) -> None:
    x = np.linspace(1.0, 4.0, n)
    a, b, c = coefficients
    exact = a * 3.0 + b * 15.0 / 2.0 + c * 63.0 / 3.0
    assert simpson_weights(x) @ (a + b * x + c * x**2) == pytest.approx(exact, abs=1e-11)


def test_weights_of_another_rule_are_taken(air: Atmosphere, rng: np.random.Generator) -> None:
    some, curve = parameters(2, rng), bands(air.wavelength)[0]
    nodes = air.wavelength[::2]
    coarse = Atmosphere.for_site(2663.0, wavelength=nodes)
    weights = np.full(len(nodes), 10.0)
    got = passband_integrals(coarse, some, curve[::2], 7500.0, derivatives=False, weights=weights)
    want = (coarse.transmission(some) * curve[::2] * 10.0 / nodes).sum(axis=1)
    np.testing.assert_allclose(got.i0[:, 0], want, rtol=1e-12)


def test_wrong_calls_are_refused(air: Atmosphere, rng: np.random.Generator) -> None:
    unknown = bands(air.wavelength)
    unknown[1, 900:903] = np.nan
    with pytest.raises(ValueError, match=r"^3 throughputs are no numbers"):
        passband_integrals(air, parameters(1, rng), unknown, 7500.0)
    with pytest.raises(ValueError, match="zero at every wavelength"):
        passband_integrals(air, parameters(1, rng), np.zeros_like(air.wavelength), 7500.0)
    with pytest.raises(ValueError, match="wavelengths, the atmosphere"):
        passband_integrals(air, parameters(1, rng), np.ones(7), 7500.0)
    with pytest.raises(ValueError, match="equal steps"):
        simpson_weights(np.array([1.0, 2.0, 4.0]))
    with pytest.raises(ValueError, match="three wavelengths"):
        simpson_weights(np.array([1.0, 2.0]))
