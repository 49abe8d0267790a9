import lsst.pex.config as pexConfig
import numpy as np
import pytest

from naive import scenes
from zeropoint.detection.adaptive import (
    AdaptiveThresholdDetection,
    AdaptiveThresholdDetectionConfig,
    _Counts,
    _Search,
)


def _judged(n, counts, threshold=10.0, multiplier=5.0, max_peaks=1000, boost=1.0):
    search = _Search(threshold, multiplier, max_peaks, boost)
    settled = AdaptiveThresholdDetection()._judge(search, _Counts(*counts), n)
    return settled, search.threshold, search.multiplier, search.negative_boost


# counts: footprints, positive peaks, negative peaks, isolated, most peaks of one
@pytest.mark.parametrize(
    ("n", "counts", "expected"),
    [
        (1, (200, 250, 0, 180, 4), (True, 10.0, 5.0, 1.0)),  # rule 5 at once
        (2, (600, 2000, 400, 501, 900), (True, 10.0, 5.0, 1.0)),  # rule 1: many isolated
        (1, (600, 2000, 10, 501, 900), (False, 10 * 1.4 * 5, 2.5, 1.0)),  # rule 1 not at first
        (2, (300, 1100, 40, 200, 100), (True, 10.0, 5.0, 1.0)),  # rule 1: few negatives
        (3, (0, 0, 0, 0, 0), (False, 2.5, 5.0, 10.0)),  # rule 2
        (3, (10, 0, 10, 10, 1), (False, 2.5, 5.0, 10.0)),
        (1, (1, 900, 0, 0, 900), (False, 10 * 1.25 * 5, 1.0, 1.0)),  # rule 3: one giant footprint
        (1, (90, 100, 20, 80, 3), (False, 10 * 1.25 * 5, 1.0, 1.0)),  # rule 3: negatives
        (1, (90, 100, 31, 80, 3), (False, 10 * 1.5 * 5, 1.0, 1.0)),
        (1, (90, 1100, 0, 80, 90), (False, 10 * 1.2 * 5, 2.5, 1.0)),  # rule 4a
        (1, (90, 3100, 0, 80, 90), (False, 10 * 1.7 * 5, 2.5, 1.0)),
        (12, (90, 3100, 0, 80, 90), (False, 10 * 1.2 * 5, 2.5, 1.0)),
        (1, (15, 15, 0, 15, 1), (False, 10 * 0.85, 5.0, 10.0)),  # rule 4b
        (1, (1, 1, 0, 1, 1), (False, 10 * 0.4 * np.log10(20), 5.0, 10.0)),
        (1, (90, 600, 0, 80, 220), (False, 11.0, 5.0, 1.0)),  # rule 4c alone
    ],
)
def test_rules(n, counts, expected):
    settled, *moved = _judged(n, counts)
    assert settled == expected[0]
    np.testing.assert_allclose(moved, expected[1:])


def test_a_clean_field_settles_at_the_first_threshold():
    exposure, x, *_ = scenes.star_exposure(1, snr=(80, 300))
    result = AdaptiveThresholdDetection().run(
        exposure, initial_threshold=10.0, initial_multiplier=5.0, band="r"
    )
    assert (result.threshold, result.multiplier, result.n_iterations) == (10.0, 5.0, 1)
    assert len(result.detection.positive) == len(x)
    assert len(result.detection.negative) == 0
    np.testing.assert_array_equal(
        exposure.masked("DETECTED"), result.detection.positive.paint(exposure.shape)
    )
    assert not exposure.masked("DETECTED_NEGATIVE").any()


def test_a_sparse_field_is_searched_deeper():
    exposure, *_ = scenes.star_exposure(2, snr=(20, 40))
    result = AdaptiveThresholdDetection().run(exposure, initial_threshold=50.0, initial_multiplier=2.0)
    assert result.threshold < 20
    assert result.n_iterations > 1
    assert len(result.detection.positive) > 15


def test_a_crowded_field_ends_within_its_limit_of_trials():
    config = AdaptiveThresholdDetectionConfig()
    config.maxNumPeakPerBand = {"fallback": 10}
    config.maxAdaptiveDetIter = 3
    exposure, *_ = scenes.star_exposure(3)
    result = AdaptiveThresholdDetection(config).run(exposure, initial_threshold=5.0, band="u")
    assert result.n_iterations == 3
    fresh = exposure.copy()
    fresh.clear_mask("DETECTED")
    assert result.detection.n_negative_peaks == 0


def test_without_a_start_the_image_gives_one():
    exposure, *_ = scenes.star_exposure(4)
    result = AdaptiveThresholdDetection().run(exposure, initial_multiplier=1.0)
    assert result.threshold == 5.0


@pytest.mark.parametrize(
    "fields",
    [{"maxNumPeakPerBand": {"r": 5}}, {"minFootprint": 5}, {"sufficientIsolated": 5}],
)
def test_contradictions_are_refused(fields):
    config = AdaptiveThresholdDetectionConfig()
    config.update(**fields)
    with pytest.raises(pexConfig.FieldValidationError):
        config.validate()
