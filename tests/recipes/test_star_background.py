import math

import numpy as np
import pytest

from naive import scenes
from zeropoint.datamodel.background import BackgroundList
from zeropoint.detection.adaptive import AdaptiveThresholdDetection
from zeropoint.pixels.background import SubtractBackground
from zeropoint.recipes import star_background_search as search_module
from zeropoint.recipes.star_background import remeasure_star_background
from zeropoint.recipes.star_background_search import Coverage, _check_amplifiers, _next_threshold

SKY, READ_NOISE = 400.0, 6.0


def _field(seed, n_stars, shape=(1024, 1024), beta=3.5, amplifiers=1, slope=0.22):
    """Moffat stars with number counts on a Poisson sky: (exposure, sky image)."""
    rng = np.random.default_rng(seed)
    h, w = shape
    sky = SKY * (1 + 0.01 * (np.arange(w) / w - 0.5))[None, :] + np.zeros(shape)
    magnitude = np.log10(rng.uniform(10 ** (slope * 15), 10 ** (slope * 24.5), n_stars)) / slope
    flux = 10 ** (-0.4 * (magnitude - 31.5))
    scene = sky.copy()
    scenes.add_stars(scene, rng.uniform(0, w, n_stars), rng.uniform(0, h, n_stars), flux, beta=beta)
    image = rng.poisson(scene) + rng.normal(0, READ_NOISE, shape)
    return scenes.exposure_of(image, scene + READ_NOISE**2, amplifiers=amplifiers), sky


def _psf_phase(exposure):
    background = SubtractBackground().run(exposure).background
    AdaptiveThresholdDetection().run(exposure, initial_threshold=10.0, initial_multiplier=5.0)
    return background


@pytest.mark.parametrize(("n_stars", "limit"), [(150, 0.15), (500, 0.2)])
def test_the_sky_is_found_between_the_stars(n_stars, limit):
    """At 500 stars in 1k x 1k (8000 on a 4k detector) the first background is off by an electron."""
    exposure, sky = _field(1, n_stars)
    scene = exposure.image.copy()
    background = _psf_phase(exposure)
    first = float((background.image() - sky).mean())
    result = remeasure_star_background(exposure, background, SubtractBackground())
    model = result.background.image()
    np.testing.assert_allclose(exposure.image + model, scene, atol=2e-3)
    error = float((model - sky).mean())
    # noise of the mean: 21 e- over the unmasked pixels, amplified by the surface's freedom where all is masked
    assert abs(error) < limit
    assert abs(error) < 0.5 * first
    assert 0.02 < result.masked_fraction < 0.97
    assert result.adaptive_threshold_value > SKY / 4
    assert result.faint_threshold == 3.5
    assert not exposure.masked("DETECTED", "DETECTED_NEGATIVE").any()


def test_a_field_without_stars_keeps_its_sky():
    exposure, sky = _field(2, 0, (512, 512))
    background = _psf_phase(exposure)
    result = remeasure_star_background(exposure, background, SubtractBackground())
    assert (result.background.image() - sky).mean() == pytest.approx(0.0, abs=0.2)


def test_nothing_subtracted_before_is_allowed():
    exposure, sky = _field(3, 60, (512, 512))
    result = remeasure_star_background(exposure, BackgroundList(), SubtractBackground())
    assert (result.background.image() - sky).mean() == pytest.approx(0.0, abs=0.5)


def test_a_field_full_of_stars_falls_back_on_the_masks_of_the_psf_phase(monkeypatch, caplog):
    exposure, sky = _field(4, 400, (512, 512))
    background = _psf_phase(exposure)
    monkeypatch.setattr(search_module, "_MAX_TRIALS", 1)
    result = remeasure_star_background(exposure, background, SubtractBackground())
    assert math.isnan(result.adaptive_threshold_value)
    assert "No detection threshold" in caplog.text
    assert abs((result.background.image() - sky).mean()) < 1.0


def test_same_input_same_bytes():
    exposure, _ = _field(5, 100, (512, 512))
    background = _psf_phase(exposure)
    copies = [exposure.copy(), exposure.copy()]
    for copy in copies:
        remeasure_star_background(copy, background, SubtractBackground())
    np.testing.assert_array_equal(copies[0].image, copies[1].image)


@pytest.mark.parametrize(("amplifiers", "expected"), [(1, 16), (8, 8)])
def test_amplifiers_or_tiles_cover_the_image(amplifiers, expected):
    exposure = scenes.exposure_of(np.zeros((128, 160)), 1.0, amplifiers=amplifiers)
    exposure.set_mask(np.indices((128, 160))[0] < 64, "BAD")
    coverage = Coverage.of(exposure)
    assert len(coverage.boxes) == expected
    flags = np.zeros((32, 40), bool)
    flags[:, :20] = True
    total, each = coverage.fractions(flags)
    assert total == 0.5
    if amplifiers == 8:
        assert each.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    else:  # tiles row by row from the bottom, where all is bad
        assert each.tolist() == [0] * 8 + [1, 1, 0, 0] * 2


@pytest.mark.parametrize(
    ("fractions", "expected"),
    [
        ([0.5, 0.5, 0.5, 0.5], (0, True)),
        ([0.0, 0.0, 0.5, 0.5], (0, True)),
        ([0.0, 0.0, 0.001, 0.5], (0, False)),
        ([0.999, 0.1, 0.1, 0.1], (3, True)),  # every one after the first overfull counts
        ([0.1, 0.1, 0.1, 0.999], (1, True)),
    ],
)
def test_amplifier_check(fractions, expected):
    assert _check_amplifiers(0.3, np.array(fractions)) == expected


@pytest.mark.parametrize(
    ("state", "factor"),
    [
        ((1.0, 10**12, 10**12, -99), 1.07),
        ((1.0, 1, -2, 0), 1.4),
        ((0.9, 2, -1, 0), 1.2),
        ((0.5, 2, -1, 0), 1.07),
        ((0.5, 3, 0, 0), 1.07),
        ((0.5, 9, 6, 0), 1.0),
        ((1.0, 1, -2, 3), 1.1),
        ((0.01, 2, -1, 0), 0.8),
    ],
)
def test_threshold_rules(state, factor):
    fraction, n_footprints, surplus, n_hot = state
    assert _next_threshold(10.0, fraction, n_footprints, surplus, n_hot) == pytest.approx(10 * factor)


def test_an_image_without_detections_lowers_the_threshold_in_growing_steps():
    exposure, *_ = scenes.star_exposure(6, n=12, snr=(30, 40))
    significance_of = AdaptiveThresholdDetection().detection.prepare(exposure)
    result = search_module.search_threshold(
        significance_of,
        Coverage.of(exposure),
        np.zeros((75, 80), bool),
        start=1000.0,
        growth=20,
        min_footprints=3,
        peak_fraction=0.01,
    )
    assert result.threshold < 40
    assert result.n_trials < 15
    assert 0.0 < result.fraction < 0.93
