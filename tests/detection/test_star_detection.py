import numpy as np
import pytest

from naive import scenes
from zeropoint.detection.source_detection import SourceDetection, SourceDetectionConfig
from zeropoint.detection.star_detection import detect_stars_adaptively


def _detection(**fields):
    config = SourceDetectionConfig()
    config.reEstimateBackground = False
    config.includeThresholdMultiplier = 2.0
    config.update(**fields)
    return SourceDetection(config)


def test_usual_values_give_the_configured_threshold():
    exposure, *_ = scenes.star_exposure(1)
    plain = exposure.copy()
    result = detect_stars_adaptively(_detection(), exposure, 10.0, 5.0, 10)
    expected = _detection().run(plain)
    np.testing.assert_array_equal(result.positive.span_x0, expected.positive.span_x0)
    np.testing.assert_array_equal(exposure.mask, plain.mask)


def test_a_high_threshold_of_the_psf_phase_raises_it():
    exposure, *_ = scenes.star_exposure(2)
    result = detect_stars_adaptively(_detection(), exposure, 40.0, 5.0, 0)
    low = _detection(thresholdValue=20.0).run(exposure)
    np.testing.assert_array_equal(result.positive.span_x0, low.positive.span_x0)


def test_too_few_isolated_stars_raise_it_in_steps():
    exposure, *_ = scenes.star_exposure(3)
    result = detect_stars_adaptively(_detection(), exposure, 10.0, 5.0, 1000)
    # eight trials, each 1.5 times the last
    last = _detection(thresholdValue=5 * 1.5**7).run(exposure)
    np.testing.assert_array_equal(result.positive.span_x0, last.positive.span_x0)


def test_an_empty_image_ends_without_sources():
    exposure = scenes.exposure_of(np.zeros((60, 60)), 1.0)
    assert len(detect_stars_adaptively(_detection(), exposure, 10.0, 5.0, 10).positive) == 0


def test_the_background_is_estimated_once_at_the_end():
    exposure, *_ = scenes.star_exposure(4, shape=(256, 256), n=20)
    exposure.image += 1.0
    result = detect_stars_adaptively(_detection(reEstimateBackground=True), exposure, 10.0, 5.0, 1000)
    assert result.background is not None
    assert len(result.background) == 1
    assert result.background.image().mean() == pytest.approx(1.0, abs=0.2)
    assert not exposure.masked("DETECTED_NEGATIVE").any()
