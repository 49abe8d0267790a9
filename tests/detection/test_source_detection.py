import numpy as np
import pytest
from scipy.spatial import cKDTree

from naive import scenes
from zeropoint.datamodel.background import BackgroundList
from zeropoint.datamodel.catalog import Schema
from zeropoint.detection.source_detection import SourceDetection, SourceDetectionConfig
from zeropoint.kernels.convolve import smooth_with_variance


def _detection(**fields):
    config = SourceDetectionConfig()
    config.reEstimateBackground = False
    config.doTempLocalBackground = False
    config.update(**fields)
    return SourceDetection(config)


def _matched(footprints, x, y, radius=2.0):
    """For each star whether some peak lies near it; for each peak whether it lies near some star."""
    stars = cKDTree(np.c_[x, y])
    peaks = cKDTree(np.c_[footprints.peak_x, footprints.peak_y])
    return peaks.query(np.c_[x, y])[0] < radius, stars.query(peaks.data)[0] < radius


def test_every_bright_star_is_found_once_and_nothing_else():
    exposure, x, y, _ = scenes.star_exposure(1)
    result = _detection().run(exposure)
    found, true = _matched(result.positive, x, y)
    assert found.all()
    # noise peaks above 5 sigma: 1e5 pixels / 36 per independent value x 3e-7
    assert (~true).sum() <= 1
    assert len(result.positive) == len(x) + (~true).sum()
    assert result.n_positive_peaks == len(result.positive.peak_x)
    assert (result.kernel_width, result.n_grow) == (13, 4)
    assert len(result.negative) == 0
    assert result.background is None


def test_peak_significance_is_that_of_the_matched_filter():
    exposure, x, y, flux = scenes.star_exposure(2, snr=(40, 60))
    result = _detection().run(exposure)
    order = cKDTree(np.c_[result.positive.peak_x, result.positive.peak_y]).query(np.c_[x, y])[1]
    snr = flux / (5.0 * np.sqrt(4 * np.pi) * 1.7)
    pull = result.positive.peak_significance[order] - snr
    # the peak pixel loses up to 4 % of a star half a pixel off, and gains by choice among its neighbors
    assert abs(pull.mean() + 0.02 * snr.mean()) < 1.0
    assert pull.std() < 1.6


def test_mask_planes_hold_the_footprints_and_the_margin():
    exposure, *_ = scenes.star_exposure(3)
    exposure.set_mask(np.ones(exposure.shape, bool), "DETECTED")
    result = _detection().run(exposure)
    np.testing.assert_array_equal(exposure.masked("DETECTED"), result.positive.paint(exposure.shape))
    edge = exposure.masked("EDGE")
    assert edge[:6].all()
    assert edge[:, -6:].all()
    assert not edge[6:-6, 6:-6].any()
    assert not exposure.masked("DETECTED_NEGATIVE").any()


def test_the_mask_is_kept_if_it_is_not_to_be_cleared():
    exposure, *_ = scenes.star_exposure(3)
    exposure.mask[50, 50] = 32
    exposure.set_mask(exposure.image < -1e9, "DETECTED")
    _detection().run(exposure, clear_mask=False)
    assert exposure.masked("DETECTED")[50, 50]


def test_negatives_mirror_positives():
    exposure, *_ = scenes.star_exposure(4)
    mirror = exposure.copy()
    mirror.image *= -1
    positive = _detection().run(exposure).positive
    negative = _detection(thresholdPolarity="negative").run(mirror).negative
    np.testing.assert_array_equal(positive.span_x0, negative.span_x0)
    np.testing.assert_array_equal(positive.peak_x, negative.peak_x)
    np.testing.assert_array_equal(positive.peak_value, -negative.peak_value)
    np.testing.assert_array_equal(positive.peak_significance, negative.peak_significance)
    assert mirror.masked("DETECTED_NEGATIVE").sum() == exposure.masked("DETECTED").sum()


def test_both_polarities_come_negatives_first_and_are_flagged():
    exposure, *_ = scenes.star_exposure(5)
    exposure.image[:, 160:] *= -1
    schema = Schema()
    config = SourceDetectionConfig()
    config.reEstimateBackground = False
    config.thresholdPolarity = "both"
    result = SourceDetection(config, schema=schema).run(exposure)
    assert "is_negative" in schema
    assert len(result.footprints) == len(result.negative) + len(result.positive)
    value = result.footprints.peak_value[result.footprints.peak_offsets[:-1]]
    np.testing.assert_array_equal(value < 0, result.is_negative)
    assert 0 < len(result.negative) < len(result.footprints)


def test_a_new_threshold_on_the_same_significance_equals_a_new_detection():
    exposure, *_ = scenes.star_exposure(6)
    detection = _detection(doTempLocalBackground=True)
    significance = detection.prepare(exposure)
    detection.detect_on(significance, exposure, 3.0, 1.0, "both")
    again = detection.detect_on(significance, exposure, 20.0, 2.0, "positive")
    fresh = exposure.copy()
    config = SourceDetectionConfig()
    config.update(thresholdValue=20.0, includeThresholdMultiplier=2.0, reEstimateBackground=False)
    expected = SourceDetection(config).run(fresh)
    for name in vars(expected.positive):
        np.testing.assert_array_equal(getattr(again.positive, name), getattr(expected.positive, name))
    np.testing.assert_array_equal(exposure.mask, fresh.mask)


def test_local_background_splits_no_footprint_but_cleans_its_peaks():
    exposure, x, y, _ = scenes.star_exposure(7, n=15, snr=(50, 100))
    yy, xx = np.mgrid[:300, :320]
    exposure.image += (30 * np.exp(-0.5 * ((xx - 160) ** 2 + (yy - 150) ** 2) / 90**2)).astype(np.float32)
    plain = _detection().run(exposure.copy())
    local = _detection(doTempLocalBackground=True).run(exposure)
    np.testing.assert_array_equal(plain.positive.span_y, local.positive.span_y)
    found, true = _matched(local.positive, x, y)
    assert found.all()
    assert (~true).sum() < 0.2 * (~_matched(plain.positive, x, y)[1]).sum()
    value = local.positive.peak_value
    for k in range(len(local.positive)):
        assert (
            np.diff(value[local.positive.peak_offsets[k] : local.positive.peak_offsets[k + 1]]) <= 0
        ).all()


def test_wide_background_helps_detection_and_leaves_the_image_alone():
    exposure, x, y, _ = scenes.star_exposure(8, snr=(20, 100))
    exposure.image += 30.0
    exposure.set_mask(np.indices(exposure.shape)[1] < 3, "NO_DATA")
    before = exposure.image.copy()
    result = _detection(doTempWideBackground=True).run(exposure)
    np.testing.assert_array_equal(exposure.image, before)
    found, true = _matched(result.positive, x, y)
    assert found.all()
    assert (~true).sum() <= 2


def test_the_background_is_estimated_again_without_the_sources():
    exposure, *_ = scenes.star_exposure(9, shape=(512, 512), n=120)
    exposure.image += 1.0
    config = SourceDetectionConfig()
    config.background.approxOrderX = 1
    known = BackgroundList()
    result = SourceDetection(config).run(exposure, background=known)
    assert result.background is known
    assert len(known) == 1
    level = known.image()
    # noise 5 in 2.6e5 pixels, three terms
    assert level.mean() == pytest.approx(1.0, abs=0.1)
    assert not exposure.masked("DETECTED_NEGATIVE").any()
    assert len(result.negative) == 0


def test_the_ratio_is_applied_for_the_background_only_and_adjustment_is_recorded():
    exposure, *_ = scenes.star_exposure(10, shape=(256, 256), n=20)
    ratio = np.full(exposure.shape, 2.0, np.float32)
    exposure.image += 2.0
    exposure.image /= ratio
    config = SourceDetectionConfig()
    config.update(doApplyFlatBackgroundRatio=True, adjustBackground=1.0)
    with pytest.raises(ValueError, match="ratio"):
        SourceDetection(config).run(exposure.copy())
    result = SourceDetection(config).run(exposure, background_to_photometric_ratio=ratio)
    assert result.background is not None
    assert len(result.background) == 2
    assert result.background.image().mean() == pytest.approx(3.0, abs=0.15)
    sky = ~exposure.masked("DETECTED")
    assert exposure.image[sky].mean() == pytest.approx(-0.5, abs=0.1)


def test_original_footprints_are_returned_but_the_mask_is_grown():
    exposure, *_ = scenes.star_exposure(11)
    result = _detection(returnOriginalFootprints=True).run(exposure)
    assert 2 * result.positive.areas().sum() < exposure.masked("DETECTED").sum()


def test_no_growth_and_no_sources():
    exposure = scenes.exposure_of(np.zeros((60, 60)), 1.0)
    result = _detection(nSigmaToGrow=0.0).run(exposure)
    assert (len(result.positive), result.n_grow) == (0, 0)
    assert not exposure.masked("DETECTED").any()


def test_an_image_smaller_than_the_kernel_has_no_sources():
    exposure = scenes.exposure_of(np.full((9, 40), 1e6), 1.0)
    result = _detection().run(exposure)
    assert len(result.positive) == 0
    assert exposure.masked("EDGE").all()


def test_value_threshold_compares_counts():
    exposure, *_ = scenes.star_exposure(12)
    smoothed, _ = smooth_with_variance(exposure.image, exposure.variance, exposure.psf.sigma(), 13)
    result = _detection(thresholdType="value", thresholdValue=50.0, returnOriginalFootprints=True).run(
        exposure
    )
    with np.errstate(invalid="ignore"):
        expected = (smoothed >= 50.0).sum()
    assert result.positive.areas().sum() == expected
    assert (result.positive.peak_significance == 0).all()


def test_temporary_backgrounds_have_their_own_scales():
    config = SourceDetectionConfig()
    for sub, size in ((config.tempLocalBackground, 64), (config.tempWideBackground, 512)):
        assert (sub.binSize, sub.algorithm, sub.useApprox) == (size, "AKIMA_SPLINE", False)
    assert "DETECTED" in config.tempLocalBackground.ignoredPixelMask
    assert not {"DETECTED", "DETECTED_NEGATIVE"} & set(config.tempWideBackground.ignoredPixelMask)
