"""A background that is wrong by a known amount is found in all the ways of looking for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.fgcm.terms.delta_aper import (
    ApertureRadii,
    band_background_errors,
    bright_medians,
    detector_background_errors,
    exposure_background_errors,
    sky_background_errors,
    star_delta_aper,
)

_RADII = ApertureRadii(inner=2.0, outer=3.0)
#: Magnitude of the light that the inner aperture lacks and the outer has.
_LOSS = 0.03


def _delta(magnitude: np.ndarray, epsilon: np.ndarray | float) -> np.ndarray:
    """Return inner minus outer magnitudes of stars (magnitudes of the inner aperture), background wrong by epsilon."""
    flux = 10.0 ** (-0.4 * (magnitude - 31.4))
    inner = flux + epsilon * np.pi * _RADII.inner**2
    outer = flux * 10.0 ** (0.4 * _LOSS) + epsilon * np.pi * _RADII.outer**2
    return np.asarray(-2.5 * np.log10(inner / outer))


def test_background_errors_of_exposures() -> None:
    rng = np.random.default_rng(6)
    n_exp, n = 5, 40_000
    exposure = rng.integers(0, n_exp, n)
    exposure[exposure == 4] = np.where(rng.uniform(size=(exposure == 4).sum()) < 0.01, 4, 0)
    epsilon = np.array([0.0, 5.0, -5.0, 10.0, 0.0])
    magnitude = 17.0 + 5.0 * rng.power(2.0, n)
    delta = _delta(magnitude, epsilon[exposure]) + 0.003 * rng.normal(size=n)
    delta[::97] = np.nan
    delta[1::97] += 0.3
    found = exposure_background_errors(
        delta, magnitude, exposure, np.ones(n, bool), n_exp=n_exp, min_star_per_exp=500, radii=_RADII
    )
    # 2 % of fainter fluxes' curvature, and the noise
    assert found.epsilon[:4] == pytest.approx(epsilon[:4], abs=0.5)
    assert np.isnan(found.epsilon[4])
    assert found.n_stars[4] == 0
    raw = exposure_background_errors(
        delta, magnitude, exposure, np.ones(n, bool), n_exp=n_exp, min_star_per_exp=500, radii=ApertureRadii(0.0, 0.0)
    )  # fmt: skip
    c = 10.0 ** (0.4 * _LOSS)
    assert raw.epsilon[3] * c / (np.pi * (9.0 - c * 4.0)) == pytest.approx(found.epsilon[3], rel=0.01)


def test_background_errors_of_bands_sky_and_detectors() -> None:
    rng = np.random.default_rng(7)
    n_star, n_band, n_exp, per_star = 6000, 2, 30, 6
    ra, dec = rng.uniform(10.0, 14.0, n_star), rng.uniform(-1.0, 1.0, n_star)
    magnitude = 17.0 + 5.0 * rng.power(2.0, (n_star, n_band))
    star = np.repeat(np.arange(n_star), n_band * per_star)
    band = np.tile(np.repeat(np.arange(n_band), per_star), n_star)
    exposure = 2 * rng.integers(0, n_exp // 2, len(star)) + band
    segment = star * n_band + band
    epsilon = np.array([6.0, -4.0])
    seeing = 0.02 * rng.normal(size=n_exp)
    mag = magnitude[star, band]
    delta_obs = _delta(mag, epsilon[band]) + seeing[exposure] + 0.004 * rng.normal(size=len(star))
    use = np.ones(len(star), bool)
    median = bright_medians(delta_obs, mag, exposure, use, n_exp=n_exp, part=0.25, least=100)
    assert median - seeing == pytest.approx(np.full(n_exp, _LOSS), abs=0.002)
    delta = star_delta_aper(
        delta_obs,
        np.full(len(star), 0.004),
        segment,
        exposure,
        use,
        median,
        shape=(n_star, n_band),
        min_good=2,
    )
    assert np.isfinite(delta).all()
    offset = np.array([np.median(median[0::2]), np.median(median[1::2])])
    good = rng.uniform(size=n_star) < 0.95
    found = band_background_errors(delta, magnitude, good, ra, dec, offset, _RADII)
    assert found.epsilon == pytest.approx(epsilon, abs=0.4)
    sky = sky_background_errors(delta, magnitude, good, ra, dec, offset, _RADII, nside=16, min_stars=500)
    filled = np.isfinite(sky.epsilon)
    assert filled.sum() >= 2
    assert (sky.n_stars[filled] >= 500).all()
    for b in range(n_band):
        assert sky.epsilon[b, filled[b]] == pytest.approx(np.full(filled[b].sum(), epsilon[b]), abs=1.0)
    x, y = rng.uniform(-0.5, 99.5, (2, len(star)))
    maps = detector_background_errors(
        delta_obs - median[exposure], mag, x, y, np.zeros(len(star), int), band - (star % 7 == 0) * 9, use, n_filter=2,
        detector_size=[[100, 100]], n_x=2, n_y=3, min_stars=200, radii=_RADII, offset=offset,
    )  # fmt: skip
    assert maps.epsilon.shape == (2, 1, 3, 2)
    assert maps.epsilon == pytest.approx(np.broadcast_to(epsilon[:, None, None, None], (2, 1, 3, 2)), abs=1.0)


def test_the_brightest_part_of_an_exposure() -> None:
    magnitude = np.array([15.0, 14.0, 16.0, 13.0, 15.0])
    values = np.array([5.0, 2.0, 9.0, 1.0, 7.0])
    exposure = np.array([0, 0, 0, 0, 1])
    use = np.ones(5, bool)
    half = bright_medians(values, magnitude, exposure, use, n_exp=3, part=0.5, least=2)
    assert half[0] == 1.5
    assert np.isnan(half[1:]).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), part=st.floats(0.05, 1.0), n=st.integers(1, 60))
def test_bright_medians_are_those_of_a_loop(seed: int, part: float, n: int) -> None:
    rng = np.random.default_rng(seed)
    exposure = rng.integers(0, 4, n)
    magnitude = rng.normal(size=n).astype(np.float32)
    values = rng.normal(size=n).astype(np.float32)
    magnitude[rng.uniform(size=n) < 0.1] = np.nan
    use = rng.uniform(size=n) < 0.9
    found = bright_medians(values, magnitude, exposure, use, n_exp=4, part=part, least=3)
    for e in range(4):
        rows = np.flatnonzero(use & (exposure == e) & np.isfinite(magnitude))
        rows = rows[np.argsort(magnitude[rows])][: int(np.ceil(part * len(rows)))]
        n_all = np.count_nonzero(use & (exposure == e) & np.isfinite(magnitude))
        expected = np.median(values[rows].astype(float)) if n_all >= 3 else np.nan
        assert found[e] == pytest.approx(expected, nan_ok=True)
